//! What a desk has to show: information requests of Kela's to the county in every state, and notices to both.

use std::{path::Path, sync::Arc, time::Duration};

use airut_client::{Client, ReceiptKeys, SenderSettings, Settings};
use airut_domain::{
    time::{Timestamp, format_date},
    working_day,
};
use airut_wire::v1::{self, InformationRequestKind as RequestKind};
use anyhow::{Context, ensure};

use crate::measure::{Until, closed_loop};

/// Requests being put at once.
const FILLING: usize = 16;

/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A flow of notices: its type, who sends it to whom, and why.
const NOTICES: [(&str, [&str; 2], [&str; 2]); 2] = [
    ("social-work-need", ["kela", "pirkanmaa"], ["social-work", "1301/2014"]),
    ("address-notice", ["dvv", "kela"], ["population-data", "661/2009"]),
];

/// Puts so many requests, and sends each office so many notices.
pub(super) async fn fill(address: &str, data: &Path, requests: u64, notices: u64) -> anyhow::Result<()> {
    let persons = std::fs::read_to_string(data.join("persons.txt"))?;
    let persons: Arc<[String]> = persons.lines().map(str::to_owned).collect();
    ensure!(!persons.is_empty(), "persons.txt names nobody");
    let (kela, county) = (client(address, data, "kela").await?, client(address, data, "pirkanmaa").await?);
    let parties = Arc::new(Parties { kela, county, persons: Arc::clone(&persons) });
    let put = move |number| {
        let parties = Arc::clone(&parties);
        async move { parties.put(number).await.is_ok() }
    };
    let filled = closed_loop(FILLING, Until::Calls(requests), put).await?;
    ensure!(filled.failed == 0, "{} requests could not be put", filled.failed);
    for (message_type, parties, reason) in NOTICES {
        send(address, data, &persons, message_type, parties, reason, notices).await?;
    }
    Ok(())
}

/// Who asks and who answers.
struct Parties {
    kela: Client,
    county: Client,
    persons: Arc<[String]>,
}

impl Parties {
    /// Puts a request, and carries it on to a state that its number decides: half of them are open.
    async fn put(&self, number: u64) -> anyhow::Result<()> {
        let request_id = format!("r-{number}");
        let context = || context(["social-assistance", "1412/1997"]);
        let contact = |unit: &str| Some(v1::Contact { unit: unit.to_owned(), telephone: "020 000 0000".to_owned() });
        let kinds = [RequestKind::Statement, RequestKind::AssistanceReport, RequestKind::ServiceNeedAssessment];
        let index = usize::try_from(number)?;
        let due = working_day::after(working_day::today(now()), 2 + u16::try_from(number * 7919 % 50)?);
        let question = v1::Question {
            text: "Has the client been granted preventive social assistance since June, and what for?".to_owned(),
            background: "The client has applied for basic social assistance and says so.".to_owned(),
            period: None,
        };
        let create = v1::CreateInformationRequestRequest {
            request_id: request_id.clone(),
            responder: "pirkanmaa".to_owned(),
            kind: kinds[index % kinds.len()].into(),
            subject_id: self.persons[index % self.persons.len()].clone(),
            context: context(),
            question: Some(question),
            due_date: format_date(due),
            contact: contact("Perustoimeentulotuki"),
        };
        self.kela.create_information_request(&create, PATIENCE).await?;
        let command = |id: &str| (request_id.clone(), id.to_owned());
        let state = number % 8;
        if state == 7 {
            let (request_id, command_id) = command("cancelled");
            let context = context();
            let cancel = v1::CancelInformationRequestRequest { request_id, command_id, context, ..Default::default() };
            self.kela.cancel_information_request(&cancel, PATIENCE).await?;
        }
        if !(4..7).contains(&state) {
            return Ok(());
        }
        let (_, command_id) = command("answered");
        let respond = v1::RespondInformationRequestRequest {
            requester: "kela".to_owned(),
            request_id: request_id.clone(),
            command_id,
            context: context(),
            text: "Preventive assistance was granted once, 300 euros on 3 September, for arrears of rent.".to_owned(),
            contact: contact("Aikuissosiaalityö"),
            ..Default::default()
        };
        self.county.respond_information_request(&respond, PATIENCE).await?;
        match state {
            5 => {
                let (request_id, command_id) = command("returned");
                let (context, text) = (context(), "What for?".to_owned());
                let back =
                    v1::ReturnInformationRequestRequest { request_id, command_id, context, text, ..Default::default() };
                self.kela.return_information_request(&back, PATIENCE).await?;
            }
            6 => {
                let (request_id, command_id) = command("closed");
                let context = context();
                let close =
                    v1::CloseInformationRequestRequest { request_id, command_id, context, ..Default::default() };
                self.kela.close_information_request(&close, PATIENCE).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sends so many messages of a type, each with the exchange's own sample.
async fn send(
    address: &str,
    data: &Path,
    persons: &[String],
    message_type: &str,
    [from, to]: [&str; 2],
    reason: [&str; 2],
    count: u64,
) -> anyhow::Result<()> {
    let sample = data.join(format!("samples/{message_type}.json"));
    let payload = std::fs::read(&sample).with_context(|| sample.display().to_string())?;
    let keys = ReceiptKeys::load(data.join("pki/receipt-keys.txt"))?;
    let (sender, mut outcomes) = client(address, data, from).await?.sender(keys, SenderSettings::default());
    let settling = tokio::spawn(async move {
        while let Some(outcome) = outcomes.next().await {
            outcome.result.context("a notice")?;
        }
        anyhow::Ok(())
    });
    for number in 0..count {
        let message = v1::SendRequest {
            message_id: format!("{message_type}-{number}"),
            recipient: to.to_owned(),
            message_type: message_type.to_owned(),
            ordering_key: format!("person-{number}"),
            subject_id: persons[usize::try_from(number)? % persons.len()].clone(),
            context: context(reason),
            content_type: "application/json".to_owned(),
            payload: payload.clone(),
            ..Default::default()
        };
        sender.send(message).await?;
    }
    sender.close().await?;
    settling.await?
}

fn context([purpose, legal_basis]: [&str; 2]) -> Option<v1::Context> {
    Some(v1::Context {
        end_user: "official-17".to_owned(),
        end_user_role: "social-worker".to_owned(),
        purpose: purpose.to_owned(),
        legal_basis: legal_basis.to_owned(),
        case_id: "2026-231".to_owned(),
    })
}

fn now() -> Timestamp {
    airut_log::Clock::system().now()
}

async fn client(address: &str, data: &Path, partner: &str) -> anyhow::Result<Client> {
    let pki = data.join("pki");
    let file = |kind: &str| pki.join(format!("{partner}.{kind}"));
    let settings = Settings::new(address, pki.join("ca.crt"), file("crt"), file("key"));
    Client::connect(&settings).await.with_context(|| partner.to_owned())
}
