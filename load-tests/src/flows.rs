//! The flows of 2024 but for queries, as domain knowledge has them, and the messages that are made of them.
//!
//! Persons are those of the exchange's own `persons.txt`, all synthetic; payloads are the samples of `deploy/exchange`.

use std::path::Path;

use airut_wire::v1;
use anyhow::Context;

use crate::plan::Planned;

/// A flow: its type, who sends it to whom, why, and how many messages of it there were in 2024.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) name: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    purpose: &'static str,
    legal_basis: &'static str,
    pub(crate) a_year: u64,
}

const fn flow(
    name: &'static str,
    [from, to]: [&'static str; 2],
    [purpose, legal_basis]: [&'static str; 2],
    a_year: u64,
) -> Flow {
    Flow { name, from, to, purpose, legal_basis, a_year }
}

const TAX: [&str; 2] = ["taxation", "1558/1995"];
const ABROAD: [&str; 2] = ["international-social-security", "352/2010"];
const POPULATION: [&str; 2] = ["population-data", "661/2009"];
const FUNDS: [&str; 2] = ["unemployment-security", "1290/2002"];
const PENSIONS: [&str; 2] = ["pension-processing", "395/2006"];

/// Kela's flows of 2024, but for queries.
pub(crate) const FLOWS: [Flow; 21] = [
    flow("salary-notification", ["incomes-register", "kela"], ["benefit-processing", "53/2018"], 63_898_685),
    flow("benefit-notification", ["incomes-register", "kela"], ["benefit-processing", "53/2018"], 60_938_573),
    flow("benefit-report", ["kela", "incomes-register"], ["income-reporting", "53/2018"], 31_732_268),
    flow("tax-information-request", ["kela", "tax-administration"], TAX, 8_440_312),
    flow("tax-information-response", ["tax-administration", "kela"], TAX, 8_418_260),
    flow("foreign-change", ["foreign-institution", "kela"], ABROAD, 2_309_176),
    flow("foreign-insurance", ["foreign-institution", "kela"], ABROAD, 101_450),
    flow("foreign-pension", ["foreign-institution", "kela"], ABROAD, 5_623),
    flow("address-notice", ["dvv", "kela"], POPULATION, 1_533_116),
    flow("resident-notice", ["dvv", "kela"], POPULATION, 87_816),
    flow("death-notice", ["dvv", "kela"], POPULATION, 81_410),
    flow("birth-notice", ["dvv", "kela"], POPULATION, 43_725),
    flow("eessi-received", ["foreign-institution", "kela"], ABROAD, 1_114_360),
    flow("eessi-sent", ["kela", "foreign-institution"], ABROAD, 320_541),
    flow("fund-notification", ["unemployment-fund", "kela"], FUNDS, 1_434_466),
    flow("fund-request", ["unemployment-fund", "kela"], FUNDS, 625_461),
    flow("fund-delivery", ["kela", "unemployment-fund"], FUNDS, 1_354_005),
    flow("medical-certificate", ["kanta", "kela"], ["benefit-processing", "703/2023"], 1_076_630),
    flow("pension-decision", ["pension-provider", "kela"], PENSIONS, 636_500),
    flow("wageless-period", ["kela", "pension-provider"], PENSIONS, 840_678),
    flow("bank-payment", ["kela", "bank"], ["benefit-payment", "731/2001"], 54_713),
];

/// What the messages are made from.
pub(crate) struct Material {
    /// Says in each message's id which run it is of.
    run: String,
    /// Media type and payload, by flow.
    samples: Vec<(&'static str, Vec<u8>)>,
    persons: Vec<String>,
}

impl Material {
    /// The samples, each filled up with blanks to so many bytes.
    pub(crate) fn load(run: &str, persons: Vec<String>, payload_bytes: usize) -> anyhow::Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/exchange/samples");
        let mut samples = Vec::new();
        for flow in &FLOWS {
            let (kind, file) = match flow.name {
                "eessi-received" | "eessi-sent" | "bank-payment" => ("application/xml", format!("{}.xml", flow.name)),
                _ => ("application/json", format!("{}.json", flow.name)),
            };
            let mut payload = std::fs::read(dir.join(&file)).context(file)?;
            payload.resize(payload.len().max(payload_bytes), b' ');
            samples.push((kind, payload));
        }
        Ok(Self { run: run.to_owned(), samples, persons })
    }

    pub(crate) fn message(&self, planned: &Planned) -> v1::SendRequest {
        let flow = &FLOWS[planned.flow];
        let (content_type, payload) = &self.samples[planned.flow];
        let person = &self.persons[planned.person % self.persons.len()];
        let about_nobody = flow.name == "bank-payment";
        // What a person's messages are about is kept in order; payments in that of their bank.
        let ordering_key = if about_nobody { "batches".to_owned() } else { format!("{}-{person}", flow.name) };
        v1::SendRequest {
            message_id: id(flow, &self.run, planned.number),
            recipient: flow.to.to_owned(),
            message_type: flow.name.to_owned(),
            ordering_key,
            subject_id: if about_nobody { String::new() } else { person.clone() },
            context: Some(v1::Context {
                end_user: "batch".to_owned(),
                end_user_role: "system".to_owned(),
                purpose: flow.purpose.to_owned(),
                legal_basis: flow.legal_basis.to_owned(),
                case_id: format!("case-{}", planned.number % 100_000),
            }),
            content_type: (*content_type).to_owned(),
            payload: payload.clone(),
            expire_time: None,
        }
    }

    /// Whether a message that was delivered says what was sent under its type.
    pub(crate) fn is_whole(&self, message: &v1::SendRequest) -> bool {
        let flow = FLOWS.iter().position(|flow| flow.name == message.message_type && flow.to == message.recipient);
        flow.is_some_and(|flow| self.samples[flow].1 == message.payload)
    }
}

fn id(flow: &Flow, run: &str, number: u64) -> String {
    format!("{}-{run}-{number}", flow.name)
}

/// The number of a message of this run; none of any other message.
pub(crate) fn number_of(message_id: &str, run: &str) -> Option<u64> {
    let (rest, number) = message_id.rsplit_once('-')?;
    let is_ours = rest.strip_suffix(run).is_some_and(|rest| rest.ends_with('-'));
    number.parse().ok().filter(|_| is_ours)
}

/// A name for a run, unlike those before. Letters only: digits before a hyphen might come to look like an identity code, and
/// the exchange refuses ids that do.
pub(crate) fn run_name() -> String {
    let random = uuid::Uuid::new_v4();
    random.as_bytes().iter().take(8).map(|byte| char::from(b'a' + byte % 26)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_run() {
        let id = id(&FLOWS[0], "abcdefgh", 42);
        assert_eq!(number_of(&id, "abcdefgh"), Some(42));
        for other in ["salary-notification-abcdefgi-42", "salary-notification-42", "xabcdefgh-42", "abcdefgh", ""] {
            assert_eq!(number_of(other, "abcdefgh"), None, "{other}");
        }
    }
}
