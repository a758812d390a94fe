//! The stored form of the records of `airut.requests`.

use airut_domain::{
    document::DocumentKey,
    request::{Action, Command, Created, Event, Lapsed, MOST_DOCUMENTS, Notice, Read, Reminded, RequestKey},
    time::{Date, format_date, parse_date},
};

use super::{PbKind, Unreadable, access, access_from, digest, parse};
use crate::{
    log_v1::{self as pb, request_command::Action as PbAction},
    request::{kind, kind_from},
};

/// An event for its record.
pub(super) fn event(event: &Event) -> PbKind {
    let RequestKey { requester, request_id } = event.key();
    let (requester, request_id) = (requester.to_string(), request_id.to_string());
    match event {
        Event::Created(created) => PbKind::RequestCreated(pb::RequestCreated {
            requester,
            request_id,
            responder: created.responder.to_string(),
            kind: kind(created.kind).into(),
            due_date: format_date(created.due),
            fingerprint: created.fingerprint.0.to_vec(),
            access: Some(access(&created.access)),
        }),
        Event::Command(command) => PbKind::RequestCommand(self::command(command, requester, request_id)),
        Event::Read(read) => PbKind::RequestRead(pb::RequestRead {
            requester,
            request_id,
            created: read.created,
            by: read.by.to_string(),
            version: read.version,
            access: Some(access(&read.access)),
        }),
        Event::Reminded(reminded) => PbKind::RequestReminded(pb::RequestReminded {
            requester,
            request_id,
            created: reminded.created,
            due_date: format_date(reminded.due),
            sent: reminded.notice == Notice::Sent,
        }),
        Event::Lapsed(lapsed) => {
            PbKind::RequestLapsed(pb::RequestLapsed { requester, request_id, created: lapsed.created })
        }
    }
}

fn command(command: &Command, requester: String, request_id: String) -> pb::RequestCommand {
    let date = |date: &Date| format_date(*date);
    let document = |key: &DocumentKey| pb::request_command::Document {
        sender: key.sender.to_string(),
        document_id: key.document_id.to_string(),
    };
    let (action, documents, due_date, to) = match &command.action {
        Action::Respond { documents } => {
            (PbAction::Respond, documents.iter().map(document).collect(), String::new(), String::new())
        }
        Action::Return { due } => (PbAction::Return, Vec::new(), date(due), String::new()),
        Action::Close => (PbAction::Close, Vec::new(), String::new(), String::new()),
        Action::Transfer { to, due } => {
            (PbAction::Transfer, Vec::new(), due.as_ref().map(date).unwrap_or_default(), to.to_string())
        }
        Action::Cancel => (PbAction::Cancel, Vec::new(), String::new(), String::new()),
    };
    pb::RequestCommand {
        requester,
        request_id,
        by: command.by.to_string(),
        command_id: command.command_id.to_string(),
        fingerprint: command.fingerprint.0.to_vec(),
        expected_version: command.expected.unwrap_or(0),
        access: Some(access(&command.access)),
        action: action.into(),
        documents,
        due_date,
        to,
    }
}

/// Reads what a record says of an information request.
pub(super) fn created_from(created: pb::RequestCreated) -> Result<Event, Unreadable> {
    Ok(Event::Created(Created {
        key: key(&created.requester, &created.request_id)?,
        responder: parse(&created.responder, "responder")?,
        kind: kind_from(created.kind).ok_or(Unreadable::Field("kind"))?,
        due: date(&created.due_date)?,
        fingerprint: digest(&created.fingerprint, "fingerprint")?,
        access: access_from(created.access)?,
    }))
}

pub(super) fn command_from(command: pb::RequestCommand) -> Result<Event, Unreadable> {
    if command.documents.len() > MOST_DOCUMENTS {
        return Err(Unreadable::Field("documents"));
    }
    let document = |document: &pb::request_command::Document| {
        let (sender, document_id) = (&document.sender, &document.document_id);
        Ok(DocumentKey { sender: parse(sender, "sender")?, document_id: parse(document_id, "document_id")? })
    };
    let action = match PbAction::try_from(command.action).unwrap_or(PbAction::Unspecified) {
        PbAction::Unspecified => return Err(Unreadable::Field("action")),
        PbAction::Respond => {
            Action::Respond { documents: command.documents.iter().map(document).collect::<Result<_, _>>()? }
        }
        PbAction::Return => Action::Return { due: date(&command.due_date)? },
        PbAction::Close => Action::Close,
        PbAction::Transfer => {
            let due = (!command.due_date.is_empty()).then(|| date(&command.due_date)).transpose()?;
            Action::Transfer { to: parse(&command.to, "to")?, due }
        }
        PbAction::Cancel => Action::Cancel,
    };
    Ok(Event::Command(Command {
        key: key(&command.requester, &command.request_id)?,
        by: parse(&command.by, "by")?,
        command_id: parse(&command.command_id, "command_id")?,
        fingerprint: digest(&command.fingerprint, "fingerprint")?,
        expected: Some(command.expected_version).filter(|version| *version > 0),
        access: access_from(command.access)?,
        action,
    }))
}

pub(super) fn read_from(read: pb::RequestRead) -> Result<Event, Unreadable> {
    Ok(Event::Read(Read {
        key: key(&read.requester, &read.request_id)?,
        created: read.created,
        by: parse(&read.by, "by")?,
        version: read.version,
        access: access_from(read.access)?,
    }))
}

pub(super) fn reminded_from(reminded: &pb::RequestReminded) -> Result<Event, Unreadable> {
    Ok(Event::Reminded(Reminded {
        key: key(&reminded.requester, &reminded.request_id)?,
        created: reminded.created,
        due: date(&reminded.due_date)?,
        notice: if reminded.sent { Notice::Sent } else { Notice::NotGranted },
    }))
}

pub(super) fn lapsed_from(lapsed: &pb::RequestLapsed) -> Result<Event, Unreadable> {
    Ok(Event::Lapsed(Lapsed { key: key(&lapsed.requester, &lapsed.request_id)?, created: lapsed.created }))
}

fn key(requester: &str, request_id: &str) -> Result<RequestKey, Unreadable> {
    Ok(RequestKey { requester: parse(requester, "requester")?, request_id: parse(request_id, "request_id")? })
}

fn date(text: &str) -> Result<Date, Unreadable> {
    parse_date(text).ok_or(Unreadable::Field("due_date"))
}
