//! What librdkafka says beside the answers to our calls: log lines and errors of no particular call.
//!
//! They come when somebody polls the client: producers have a thread for that, consumers are polled by whoever reads
//! them, and admin clients never are, which is why those must not be given anything to say. An error while a connection
//! is made comes this way only: a call that waits for a connection just times out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::settings::setting;
use crate::{Cause, OpenError};

/// How many complaints are kept: the newest say what is wrong now.
const KEPT: usize = 16;

/// The context of a client. Clones share what was heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Context(Arc<Mutex<VecDeque<Complaint>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Complaint(String);

impl Context {
    /// The setting that is at fault and why, where what was heard says so beyond doubt: waiting longer would not help.
    pub(super) fn fault(&self) -> Option<OpenError> {
        self.heard().iter().rev().find_map(|complaint| {
            let setting = complaint.setting()?;
            Some(OpenError::Kafka { setting, cause: Cause::new(&complaint.0) })
        })
    }

    /// Whether a broker hung up before it had answered anything: it may expect TLS, and it may be starting.
    pub(super) fn was_hung_up_on(&self) -> bool {
        self.heard().iter().any(Complaint::is_hang_up)
    }

    /// What was heard last, for somebody who waited in vain.
    pub(super) fn last(&self) -> Option<String> {
        self.heard().back().map(|complaint| complaint.0.clone())
    }

    fn hear(&self, complaint: Complaint) {
        let mut heard = self.heard();
        if heard.contains(&complaint) {
            return;
        }
        if heard.len() == KEPT {
            heard.pop_front();
        }
        heard.push_back(complaint);
    }

    fn heard(&self) -> MutexGuard<'_, VecDeque<Complaint>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

impl Complaint {
    /// Of OpenSSL's words those that tell our side from theirs: what we refuse is their certificate, and an alert is
    /// their refusal of ours. With TLS 1.3 that comes only after the handshake, as an error of the first read.
    fn setting(&self) -> Option<&'static str> {
        let says = |words: &[&str]| words.iter().any(|word| self.0.contains(word));
        if says(&["certificate verify failed", "broker certificate could not be verified"]) {
            Some(setting::CA)
        } else if says(&[" alert "]) {
            Some(setting::CERTIFICATE)
        } else if says(&["wrong version number", "record overflow"]) {
            Some(setting::CA)
        } else {
            None
        }
    }

    fn is_hang_up(&self) -> bool {
        self.0.contains("Disconnected") && self.0.contains("in state APIVERSION_QUERY")
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let complaint = Complaint(text.to_owned());
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "librdkafka: {text}");
                self.hear(complaint);
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, "librdkafka: {text}"),
            // No more than a remark to librdkafka, as when a broker closes an idle connection.
            RDKafkaLogLevel::Info if complaint.is_hang_up() => self.hear(complaint),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down follows from what was said before, and is said several times a second.
        if super::code(&error) != Some(RDKafkaErrorCode::AllBrokersDown) {
            tracing::debug!(%error, reason, "librdkafka reports an error");
            self.hear(Complaint(reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(text: &str) -> Option<&'static str> {
        Complaint(text.to_owned()).setting()
    }

    #[test]
    fn the_side_that_refused_is_told_by_the_setting() {
        let ours = "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate \
                    could not be verified";
        assert_eq!(blamed(ours), Some(setting::CA));
        assert_eq!(blamed("SSL routines::tlsv13 alert certificate required"), Some(setting::CERTIFICATE));
        assert_eq!(blamed("Connect to ipv4#127.0.0.1:1 failed: Connection refused"), None);
    }

    #[test]
    fn what_is_heard_is_bounded() {
        let context = Context::default();
        for i in 0..1000 {
            context.hear(Complaint(i.to_string()));
        }
        assert_eq!(context.heard().len(), KEPT);
        assert_eq!(context.last().as_deref(), Some("999"));
    }
}
