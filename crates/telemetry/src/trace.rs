//! Trace context in and out: W3C `traceparent`, as callers send it, records keep it and questions carry it.
//!
//! A caller's header is taken for a trace context or for nothing: what is passed on is always written anew, so that it can't
//! smuggle anything else into a record.

use std::collections::HashMap;

use opentelemetry::{Context, propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The name of the header, and of the only key that is read or written here.
const TRACEPARENT: &str = "traceparent";

/// Runs a future inside a span.
pub trait Traced: Sized + Future {
    /// The future, inside the span.
    fn traced(self, span: tracing::Span) -> Instrumented<Self> {
        self.instrument(span)
    }
}

impl<F: Future> Traced for F {}

/// Makes the span a child of the trace context; one that is empty or not valid is passed over. To be called before the span
/// is entered. Costs nothing where spans go nowhere.
pub fn continue_from(span: &tracing::Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = parse(traceparent) {
        // Fails only where no tracer is set up: then there is nothing to continue.
        drop(span.set_parent(context));
    }
}

/// The span's W3C trace context, `None` where it is not traced.
pub fn traceparent(span: &tracing::Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    format(&span.context())
}

/// The trace context of the span that this task is in, `None` where it is in none or that is not traced.
pub fn current() -> Option<String> {
    traceparent(&tracing::Span::current())
}

/// A caller's trace context, written anew; empty when it is none. The `tracestate` of vendors is not carried.
pub fn callers(traceparent: &str) -> String {
    parse(traceparent).as_ref().and_then(format).unwrap_or_default()
}

fn parse(traceparent: &str) -> Option<Context> {
    // The propagator would take shorter numbers too. A later version may have more parts behind these.
    if !traceparent.split('-').map(str::len).take(4).eq([2, 32, 16, 2]) {
        return None;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // Beside nothing: what happens to be current on this thread has no say.
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.span().span_context().is_valid().then_some(context)
}

fn format(context: &Context) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_reads_back_as_it_was() {
        assert_eq!(callers(VALID), VALID);
        assert_eq!(callers(&VALID.replace("-01", "-00")), VALID.replace("-01", "-00"));
    }

    #[test]
    fn anything_else_in_a_callers_header_is_dropped() {
        let zero = VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        for other in ["", "131052-308T", "00-131052-308T-01", &zero, "00-4bf9-00f0-01", &VALID.repeat(300)] {
            assert_eq!(callers(other), "", "{other}");
        }
        for longer in [format!("{VALID}-131052-308T"), format!("01{}-131052-308T", &VALID[2..])] {
            assert!(!callers(&longer).contains("131052"), "{longer}");
        }
    }

    #[test]
    fn where_spans_go_nowhere_there_is_no_context() {
        let span = crate::span::judge(VALID);
        assert!(span.is_disabled());
        continue_from(&span, VALID);
        assert_eq!(traceparent(&span), None);
    }
}
