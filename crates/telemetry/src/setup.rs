//! Sets up logs, traces and metrics: once, at the start of a process.

use std::{net::SocketAddr, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Directive, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{metrics, span};

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
    if let Some(listen) = settings.metrics_listen {
        let builder = PrometheusBuilder::new()
            .with_http_listener(listen)
            .set_buckets(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
            .and_then(PrometheusBuilder::install);
        builder.map_err(|cause| SetupError::Metrics(listen, cause.to_string()))?;
        metrics::describe();
    }
    Ok(Telemetry { tracer })
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
