//! The metrics: every one that the exchange has, by name, with what it means.
//!
//! docs/operating.md says what to watch them for. Labels name reasons and organisations, never persons.

use airut_domain::refusal::Reason;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Calls refused, by reason.
const REFUSALS: &str = "airut_refusals_total";

/// Steps of information requests, and which there are.
const REQUEST_STEPS: &str = "airut_request_steps_total";
const STEPS: [&str; 6] = [
    "request created",
    "request answered",
    "request returned",
    "request closed",
    "request transferred",
    "request cancelled",
];

/// Deliveries settled, by how they ended.
const SETTLED: &str = "airut_settled_total";

/// How a delivery may end.
pub const OUTCOMES: [&str; 3] = ["accepted", "returned", "rejected"];

/// Messages refused for a quota, by partner and the part of its quota. There are none until one is.
const QUOTA_REFUSALS: &str = "airut_quota_refusals_total";

/// Pages that the desk could not show, by why.
const DESK_FAULTS: &str = "airut_desk_faults_total";
const FAULTS: [&str; 2] = ["store", "unreachable"];

/// Counters with labels, which begin at nothing where all of their labels are known.
const LABELLED: &[(&str, &str)] = &[
    (REFUSALS, "Calls and handshakes refused, by reason (a code of docs/errors)."),
    (SETTLED, "Deliveries settled at this gateway, by outcome."),
    (REQUEST_STEPS, "Steps of information requests recorded at this gateway, by step."),
    (DESK_FAULTS, "Pages that the desk could not show, by why (the last part of the text's key)."),
    (QUOTA_REFUSALS, "Messages refused because their sender's quota was used up, by partner and part of the quota."),
];

/// Counters: how often something has happened since the process started.
const COUNTERS: &[(&str, &str)] = &[
    ("airut_disclosures_total", "Answers given to those who asked."),
    (
        "airut_matters_minimised_total",
        "Matters that responders told and that were dropped, because the asker may not see them.",
    ),
    (
        "airut_questions_dropped_total",
        "Questions that could not be passed to a responder's stream and were left to another.",
    ),
    (
        "airut_redeliveries_total",
        "Leases that ended without a word from their collector: what they held is offered again, or is a dead letter.",
    ),
    ("airut_documents_stored_total", "Documents that were stored whole at this gateway."),
    (
        "airut_documents_rejected_total",
        "Documents that were not what their sender said, or may not pass, and were erased.",
    ),
    ("airut_documents_fetched_total", "Times that a document, or a part of one, was given to its recipient."),
    ("airut_document_bytes_stored_total", "Bytes of documents stored at this gateway."),
    ("airut_document_bytes_fetched_total", "Bytes of documents given to their recipients."),
    ("airut_strangers_untold_total", "Refused handshakes that came too fast to be counted singly."),
    ("airut_log_records_total", "Records made durable by this process."),
    ("airut_log_commits_total", "Times that records were made durable; one sync each."),
];

/// Gauges: how something stands.
const GAUGES: &[(&str, Unit, &str)] = &[
    (
        "airut_streams_open",
        Unit::Count,
        "Streams open at this gateway, by kind: of responders (answers) and of collectors (collects).",
    ),
    ("airut_inbox_depth", Unit::Count, "Messages to a partner that have not ended, by partner."),
    (
        "airut_inbox_oldest_unsettled_age_seconds",
        Unit::Seconds,
        "How long the oldest message to a partner that has not ended has waited, by partner.",
    ),
    ("airut_queries_open", Unit::Count, "Queries asked and neither answered nor given up."),
    ("airut_documents_held", Unit::Count, "Documents that are stored, and whose recipient does not know of them yet."),
    ("airut_desk_sessions", Unit::Count, "Officials who are signed in at this desk, or were lately."),
    ("airut_connections_open", Unit::Count, "TLS connections open."),
    ("airut_fold_lag_records", Unit::Count, "Records in the log that this gateway's folds have not taken in yet."),
    ("airut_log_queued_bytes", Unit::Bytes, "Bytes that wait to be written to the log."),
    ("airut_ledger_size", Unit::Count, "Leaves of the ledger's tree."),
    (
        "airut_checkpoint_age_seconds",
        Unit::Seconds,
        "How long the oldest leaf that no signed checkpoint covers has waited; 0 when none does.",
    ),
    (
        "airut_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the server's certificate expires, in Unix time.",
    ),
    (
        "airut_crl_next_update_timestamp_seconds",
        Unit::Seconds,
        "When the first of the revocation lists runs out, in Unix time; then every client is refused.",
    ),
];

/// Histograms: how long something took.
const HISTOGRAMS: &[(&str, &str)] = &[
    ("airut_query_seconds", "Time from a query's arrival to its answer or refusal."),
    ("airut_desk_page_seconds", "Time from a request to the desk until its answer begins, by page."),
    ("airut_message_delivery_seconds", "Time from a message's acceptance until it was pushed to a collector."),
];

/// What is counted only once it has happened.
pub const RARE: [&str; 1] = [QUOTA_REFUSALS];

/// Every metric's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    let counters = COUNTERS.iter().chain(LABELLED).map(|(name, _)| *name);
    let gauges = GAUGES.iter().map(|(name, _, _)| *name);
    counters.chain(gauges).chain(HISTOGRAMS.iter().map(|(name, _)| *name))
}

/// Tells the recorder what there is, and begins the counters at nothing: a counter that appears with its first refusal would
/// hide that one from every rate.
pub(crate) fn describe() {
    for (name, text) in COUNTERS {
        describe_counter!(*name, *text);
        metrics::counter!(*name).absolute(0);
    }
    for (name, text) in LABELLED {
        describe_counter!(*name, *text);
    }
    for outcome in OUTCOMES {
        metrics::counter!(SETTLED, "outcome" => outcome).absolute(0);
    }
    for step in STEPS {
        metrics::counter!(REQUEST_STEPS, "step" => step).absolute(0);
    }
    for fault in FAULTS {
        metrics::counter!(DESK_FAULTS, "fault" => fault).absolute(0);
    }
    for reason in Reason::ALL {
        metrics::counter!(REFUSALS, "reason" => reason.code()).absolute(0);
    }
    for (name, unit, text) in GAUGES {
        describe_gauge!(*name, *unit, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *text);
    }
}
