//! Spans by the names of the steps of a message's life, and W3C trace context in and out of them.

use std::collections::HashMap;

use airut_domain::partition::Topic;
use opentelemetry::{
    propagation::TextMapPropagator,
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makers of the spans whose names others look for.
#[derive(Debug)]
pub struct Span;

impl Span {
    /// The append of a record and the reading back of what it means.
    pub fn record(topic: Topic) -> tracing::Span {
        tracing::info_span!(
            "record",
            otel.kind = "producer",
            messaging.system = "airut",
            messaging.operation.name = "send",
            messaging.destination.name = topic.name()
        )
    }
}

/// Runs a future inside a span.
pub trait Traced: Sized + Future {
    /// The future, inside the span.
    fn traced(self, span: tracing::Span) -> Instrumented<Self> {
        self.instrument(span)
    }
}

impl<F: Future> Traced for F {}

/// Makes the span a child of the trace context; one that is empty or not valid is passed over.
pub fn continue_from(span: &tracing::Span, traceparent: &str) {
    if traceparent.is_empty() {
        return;
    }
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // Fails only where no tracer is set up: then there is nothing to continue.
        drop(span.set_parent(context));
    }
}

/// The span's W3C trace context, `None` where it is not traced.
pub fn traceparent(span: &tracing::Span) -> Option<String> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}
