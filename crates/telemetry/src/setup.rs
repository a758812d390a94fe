//! Sets up logs, traces and metrics: once, at the start of a process.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Directive, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{metrics, span};

/// How often the recorder puts what it was told into its buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// What to set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The service's name in traces, such as `airut-gateway`.
    pub service: String,
    /// How logs are written, to standard error.
    pub logs: LogFormat,
    /// What is logged, as `RUST_LOG` writes it.
    pub filter: String,
    /// Where spans go (OTLP over gRPC), such as `http://127.0.0.1:4317`; nowhere when absent.
    pub otlp_endpoint: Option<String>,
    /// Where Prometheus may fetch metrics; nowhere when absent.
    pub metrics_listen: Option<SocketAddr>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The log filter.
    #[error("the log filter is not valid: {0}")]
    Filter(String),
    /// The exporter of spans.
    #[error("spans can not be exported: {0}")]
    Otlp(String),
    /// The address for metrics.
    #[error("metrics can not be served on {0}: {1}")]
    Metrics(SocketAddr, String),
    /// It was set up before.
    #[error("telemetry was set up before")]
    Twice,
}

/// What was set up. Drop it last, or call [`Telemetry::flush`].
#[derive(Debug)]
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
    /// Where Prometheus may fetch metrics, with the port that the system chose where none was given.
    pub metrics_address: Option<SocketAddr>,
}

impl Telemetry {
    /// Sends the spans that are still here. Blocks for up to a few seconds.
    pub fn flush(&self) {
        if let Some(Err(cause)) = self.tracer.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::warn!(%cause, "the last spans were not exported");
        }
    }
}

/// Sets up logs, traces and metrics. Must be called inside a tokio runtime.
///
/// # Errors
/// [`SetupError`], naming what is wrong.
pub fn start(settings: &Settings) -> Result<Telemetry, SetupError> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|cause| SetupError::Filter(cause.to_string()))?;
    // Spans are for the exporter alone. In the logs they would cost every call, and say nothing that its lines do not.
    let filter = filter.add_directive(no_spans());
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = match settings.logs {
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => logs.with_target(false).boxed(),
    };
    let tracer = settings.otlp_endpoint.as_deref().map(|endpoint| tracer(endpoint, &settings.service)).transpose()?;
    let spans = tracer.as_ref().map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer.tracer("airut"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    });
    // Only what is ours: other crates' spans and every event stay out, so that nothing unforeseen is exported. A layer that is
    // not there needs a filter too, or it would count as one that wants everything.
    let exported = if spans.is_some() { LevelFilter::INFO } else { LevelFilter::OFF };
    let spans = spans.with_filter(Targets::new().with_target(span::TARGET, exported));
    tracing_subscriber::registry()
        .with(logs.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|_| SetupError::Twice)?;
    let metrics_address = settings.metrics_listen.map(serve_metrics).transpose()?;
    Ok(Telemetry { tracer, metrics_address })
}

/// Installs the recorder and serves its page; gives the address, whose port the system may have chosen.
fn serve_metrics(listen: SocketAddr) -> Result<SocketAddr, SetupError> {
    let fault = |cause: String| SetupError::Metrics(listen, cause);
    let bound = || {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
    };
    let (address, listener) = bound().map_err(|cause: io::Error| fault(cause.to_string()))?;
    let installed = PrometheusBuilder::new()
        .set_buckets(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        .and_then(PrometheusBuilder::install_recorder);
    let recorder = installed.map_err(|cause| fault(cause.to_string()))?;
    metrics::describe();
    let rendered = recorder.clone();
    let page = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], rendered.render());
    // Both last as long as the process: accept goes on after every error.
    tokio::spawn(axum::serve(listener, Router::new().route("/metrics", get(page))).into_future());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            // What nobody fetches would otherwise pile up.
            recorder.run_upkeep();
        }
    });
    Ok(address)
}

fn no_spans() -> Directive {
    format!("{}=off", span::TARGET).parse().expect("a target and a level")
}

fn tracer(endpoint: &str, service: &str) -> Result<SdkTracerProvider, SetupError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(3))
        .build()
        .map_err(|cause| SetupError::Otlp(cause.to_string()))?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_alone_make_no_span() {
        let settings = Settings {
            service: "airut-test".to_owned(),
            logs: LogFormat::Json,
            filter: "info,airut_trace=trace".to_owned(),
            otlp_endpoint: None,
            metrics_listen: None,
        };
        let telemetry = start(&settings).unwrap();
        let (span, context) = span::rpc("airut.v1.QueryService", "QueryBenefits", "request", "");
        assert!(span.is_disabled());
        assert_eq!(context, "");
        telemetry.flush();
    }
}
