//! The spans, one for each step of a message's life. Others look for their names: they follow OpenTelemetry's conventions for
//! RPC and messaging where these have one.
//!
//! All of them have one target of their own, which only the exporter's filter lets through: where no spans are exported, making
//! one costs as much as looking at a flag. Attributes are ids, names of organisations and numbers, never persons.
//!
//! A step belongs to the trace context it is given. Without one it is not traced: heartbeats, sweeps and what is caught up
//! with after a restart leave no spans of nobody's.

use airut_domain::partition::{Partition, Position, Topic};
use tracing::{Span, field::Empty};

use crate::trace::{continue_from, traceparent};

/// The target of every span.
pub(crate) const TARGET: &str = "airut_trace";

macro_rules! step {
    ($traceparent:expr, $($span:tt)+) => {
        match $traceparent {
            "" => Span::none(),
            traceparent => {
                let span = tracing::info_span!(target: TARGET, parent: None, $($span)+);
                continue_from(&span, traceparent);
                span
            }
        }
    };
}

/// A call, as the gateway serves it, and the trace context that its steps belong to: a new trace unless the caller sent one.
/// `request_id` is the one that errors name; `caller` is the header as it came.
pub fn rpc(service: &'static str, method: &'static str, request_id: &str, caller: &str) -> (Span, String) {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "rpc",
        otel.name = format_args!("{service}/{method}"),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        airut.request_id = request_id,
        error.type = Empty,
    );
    continue_from(&span, caller);
    let context = traceparent(&span).unwrap_or_else(|| crate::callers(caller));
    (span, context)
}

/// A call, as a client makes it, and the trace context to send along: the caller's own continued, or a new trace.
pub fn call(service: &'static str, method: &'static str, caller: &str) -> (Span, String) {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "call",
        otel.name = format_args!("{service}/{method}"),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
    );
    continue_from(&span, caller);
    let context = traceparent(&span).unwrap_or_else(|| crate::callers(caller));
    (span, context)
}

/// A page of the desk, while it is made, in a trace of its own: a browser's header has no say. `route` is the page's address
/// with names in place of what it is about.
pub fn page(method: &http::Method, route: &str, organisation: &str) -> Span {
    // Any word is a method, and no word of a caller's may get here.
    let method = if matches!(*method, http::Method::GET | http::Method::POST) { method.as_str() } else { "_OTHER" };
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "page",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        airut.organisation = organisation,
        error.type = Empty,
    )
}

/// What became of a page: its status, and what was at fault if anything was.
pub fn shown(page: &Span, status: http::StatusCode, fault: Option<&'static str>) {
    // Signed: other numbers would be exported as text.
    page.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(fault) = fault {
        page.record("error.type", fault);
    }
}

/// Marks a call as refused: `reason` is a code of docs/errors/.
pub fn refused(rpc: &Span, reason: &'static str) {
    rpc.record("error.type", reason);
}

/// The decision by contract.
pub fn judge(traceparent: &str) -> Span {
    step!(traceparent, "judge")
}

/// A record is proposed, and the fold's word on it awaited.
pub fn record(topic: Topic, traceparent: &str) -> Span {
    step!(traceparent, "record", messaging.destination.name = topic.name())
}

/// The append of a record, within its [`record`].
pub fn send(record: &Span, partition: Partition) -> Span {
    if record.is_disabled() {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        parent: record,
        "send",
        otel.name = format_args!("send {}", partition.topic),
        otel.kind = "producer",
        messaging.system = "airut",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = partition.topic.name(),
        messaging.destination.partition.id = partition.number,
        messaging.message.id = Empty,
    )
}

/// The record's place is known.
pub fn sent(send: &Span, position: Position) {
    if !send.is_disabled() {
        send.record("messaging.message.id", tracing::field::display(position));
    }
}

/// The fold takes a record in.
pub fn process(position: Position, traceparent: &str) -> Span {
    step!(
        traceparent,
        "process",
        otel.name = format_args!("process {}", position.partition.topic),
        otel.kind = "consumer",
        messaging.system = "airut",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = position.partition.topic.name(),
        messaging.destination.partition.id = position.partition.number,
        messaging.message.id = %position,
    )
}

/// The wait for the responder.
pub fn await_answer(traceparent: &str) -> Span {
    step!(traceparent, "await answer")
}

/// A responder answers a question. `question_id` is the exchange's.
pub fn answer(question_id: &str, traceparent: &str) -> Span {
    step!(traceparent, "answer", otel.kind = "server", airut.question_id = question_id)
}

/// The answer is cut to what may be seen.
pub fn minimise(traceparent: &str) -> Span {
    step!(traceparent, "minimise")
}

/// The answer leaves, or is kept back at the last moment.
pub fn disclose(traceparent: &str) -> Span {
    step!(traceparent, "disclose")
}
