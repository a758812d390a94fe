//! The story of an information request: Kela asks, the county passes it on, the other answers, Kela returns it, and closes it in the end.

use airut_client::Client;
use airut_wire::v1::{self, InformationRequestKind, information_request_step::Action};
use anyhow::{Context, ensure};

use super::{PATIENCE, indent};
use crate::{caller::table, terminal::say};

/// Who takes part.
pub(super) struct Parties<'a> {
    pub(super) kela: &'a Client,
    pub(super) pirkanmaa: &'a Client,
    pub(super) helsinki: &'a Client,
}

const QUESTION: &str = "Has the client been granted preventive social assistance since June?";
const REASON: &str = "The client lives in Helsinki.";
const FIRST: &str = "Preventive assistance was granted once.";
const MISSING: &str = "When, and how much?";
const SECOND: &str = "300 euros on 3 September, for arrears of rent.";

pub(super) async fn tell(parties: &Parties<'_>, subject: &str) -> anyhow::Result<()> {
    let Parties { kela, pirkanmaa, helsinki } = parties;
    let request_id = uuid::Uuid::now_v7().to_string();
    let asked = kela.create_information_request(&question(&request_id, subject), PATIENCE).await?;
    say(format!("   A case worker of Kela asks Pirkanmaa for a report. The answer is due on {}.", asked.due_date));

    let passed_on = v1::TransferInformationRequestRequest {
        requester: "kela".to_owned(),
        request_id: request_id.clone(),
        command_id: "passed-on".to_owned(),
        context: context("official-17", "social-worker"),
        responder: "helsinki".to_owned(),
        text: REASON.to_owned(),
        ..v1::TransferInformationRequestRequest::default()
    };
    pirkanmaa.transfer_information_request(&passed_on, PATIENCE).await?;
    let gone = pirkanmaa.get_information_request(&reading(&request_id, "official-17"), PATIENCE).await;
    ensure!(gone.is_err(), "who has passed a request on sees it still");
    say("   The client has moved: Pirkanmaa passes the request on to Helsinki, and can not see it any more.");

    answer(helsinki, &request_id, "first", FIRST).await?;
    let returned = v1::ReturnInformationRequestRequest {
        request_id: request_id.clone(),
        command_id: "returned".to_owned(),
        context: context("official-3", "benefit-handler"),
        text: MISSING.to_owned(),
        ..v1::ReturnInformationRequestRequest::default()
    };
    kela.return_information_request(&returned, PATIENCE).await?;
    answer(helsinki, &request_id, "second", SECOND).await?;
    let closed = v1::CloseInformationRequestRequest {
        request_id: request_id.clone(),
        command_id: "closed".to_owned(),
        context: context("official-3", "benefit-handler"),
        ..v1::CloseInformationRequestRequest::default()
    };
    kela.close_information_request(&closed, PATIENCE).await?;
    say("   Helsinki answers, Kela returns the answer for completion, gets it again and closes the request.\n");
    let shown = kela.get_information_request(&reading(&request_id, "official-3"), PATIENCE).await?;
    say(indent(&steps(&shown)?));
    say("   That Kela has read this is on record, with the official who did.");
    Ok(())
}

fn context(end_user: &str, end_user_role: &str) -> Option<v1::Context> {
    Some(v1::Context {
        end_user: end_user.to_owned(),
        end_user_role: end_user_role.to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "2026-231".to_owned(),
    })
}

fn question(request_id: &str, subject: &str) -> v1::CreateInformationRequestRequest {
    v1::CreateInformationRequestRequest {
        request_id: request_id.to_owned(),
        responder: "pirkanmaa".to_owned(),
        kind: InformationRequestKind::AssistanceReport.into(),
        subject_id: subject.to_owned(),
        context: context("official-3", "benefit-handler"),
        question: Some(v1::Question { text: QUESTION.to_owned(), ..v1::Question::default() }),
        due_date: String::new(),
        contact: Some(v1::Contact { unit: "Perustoimeentulotuki".to_owned(), telephone: "020 634 0000".to_owned() }),
    }
}

fn reading(request_id: &str, end_user: &str) -> v1::GetInformationRequestRequest {
    v1::GetInformationRequestRequest {
        requester: "kela".to_owned(),
        request_id: request_id.to_owned(),
        context: context(end_user, "official"),
        min_position: String::new(),
    }
}

async fn answer(county: &Client, request_id: &str, command_id: &str, text: &str) -> anyhow::Result<()> {
    let answer = v1::RespondInformationRequestRequest {
        requester: "kela".to_owned(),
        request_id: request_id.to_owned(),
        command_id: command_id.to_owned(),
        context: context("official-40", "social-worker"),
        text: text.to_owned(),
        ..v1::RespondInformationRequestRequest::default()
    };
    county.respond_information_request(&answer, PATIENCE).await?;
    Ok(())
}

/// A table of the request's steps.
fn steps(shown: &v1::GetInformationRequestResponse) -> anyhow::Result<String> {
    let mut rows = table(&["WHO", "WHAT", "IN WORDS"]);
    for step in &shown.steps {
        let (what, text) = match step.action.as_ref().context("a step of which nothing is said")? {
            Action::Created(created) => ("asked", created.question.as_ref().map_or("", |question| &question.text)),
            Action::Responded(responded) => ("answered", responded.text.as_str()),
            Action::Returned(returned) => ("returned", returned.text.as_str()),
            Action::Closed(_) => ("closed", ""),
            Action::Transferred(transferred) => ("passed on", transferred.text.as_str()),
            Action::Cancelled(_) => ("cancelled", ""),
        };
        rows.add_row([format!("{}, {}", step.partner, step.end_user), what.to_owned(), text.to_owned()]);
    }
    Ok(rows.trim_fmt())
}
