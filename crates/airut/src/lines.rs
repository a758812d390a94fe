//! Messages as JSON lines: what `airut send --jsonl` reads and `airut collect` writes. The fields are those of the protocol's
//! `SendRequest`; the payload is a JSON value, passed on as it is written, or in base64.

use airut_domain::time::parse_timestamp;
use airut_wire::v1;
use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

/// A message as a line has it. What is absent is as the command line says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    message_id: Option<String>,
    recipient: Option<String>,
    message_type: Option<String>,
    ordering_key: Option<String>,
    subject_id: Option<String>,
    context: Option<LineContext>,
    content_type: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    expire_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineContext {
    end_user: Option<String>,
    end_user_role: Option<String>,
    purpose: Option<String>,
    legal_basis: Option<String>,
    case_id: Option<String>,
}

/// Reads a line. An error says what is wrong and never what stands there.
pub(crate) fn read(line: &[u8], otherwise: &v1::SendRequest) -> anyhow::Result<v1::SendRequest> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|cause| fault(&cause))?;
    let payload = match (line.payload, line.payload_base64) {
        (Some(value), None) => value.get().as_bytes().to_vec(),
        (None, Some(text)) => BASE64_STANDARD.decode(text).ok().context("payload_base64: is not base64")?,
        (None, None) => bail!("payload or payload_base64 is required"),
        (Some(_), Some(_)) => bail!("payload and payload_base64 exclude each other"),
    };
    let expire_time =
        line.expire_time.as_deref().map(|text| parse_timestamp(text).context("expire_time: is no moment"));
    let expire_time = expire_time.transpose()?.map(airut_wire::timestamp);
    let usual = otherwise.context.clone().unwrap_or_default();
    let context = match line.context {
        None => usual,
        Some(context) => v1::Context {
            end_user: context.end_user.unwrap_or(usual.end_user),
            end_user_role: context.end_user_role.unwrap_or(usual.end_user_role),
            purpose: context.purpose.unwrap_or(usual.purpose),
            legal_basis: context.legal_basis.unwrap_or(usual.legal_basis),
            case_id: context.case_id.unwrap_or(usual.case_id),
        },
    };
    let or = |given: Option<String>, usual: &String| given.unwrap_or_else(|| usual.clone());
    Ok(v1::SendRequest {
        message_id: line.message_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
        recipient: or(line.recipient, &otherwise.recipient),
        message_type: or(line.message_type, &otherwise.message_type),
        ordering_key: or(line.ordering_key, &otherwise.ordering_key),
        subject_id: or(line.subject_id, &otherwise.subject_id),
        context: Some(context),
        content_type: or(line.content_type, &otherwise.content_type),
        payload,
        expire_time: expire_time.or(otherwise.expire_time),
    })
}

/// serde_json's message may repeat what it stumbled over, which may be about a person. An unknown field's name is told.
fn fault(cause: &serde_json::Error) -> anyhow::Error {
    use serde_json::error::Category;
    let text = cause.to_string();
    if text.starts_with("unknown field") {
        return anyhow::anyhow!("{text}");
    }
    let what = match cause.classify() {
        Category::Data => "a field is not of its type",
        Category::Syntax | Category::Eof | Category::Io => "is not JSON",
    };
    anyhow::anyhow!("{what} at column {}", cause.column())
}

/// A delivery as one JSON object.
pub(crate) fn delivery(delivery: &v1::Delivery) -> Value {
    let mut object = facts(delivery);
    let message = delivery.message.as_ref();
    let is_json = message.is_some_and(|message| message.content_type == "application/json");
    let payload = message.map(|message| message.payload.as_slice()).unwrap_or_default();
    // Through a value the spacing and the order of fields are lost, which JSON gives no meaning. Numbers must not change either.
    match serde_json::from_slice::<Value>(payload) {
        Ok(value) if is_json => object["message"]["payload"] = value,
        Ok(_) | Err(_) => object["message"]["payload_base64"] = BASE64_STANDARD.encode(payload).into(),
    }
    object
}

/// All of a delivery but its payload.
pub(crate) fn facts(delivery: &v1::Delivery) -> Value {
    let message = delivery.message.clone().unwrap_or_default();
    let context = message.context.unwrap_or_default();
    let mut fields = Map::new();
    for (name, value) in [
        ("message_id", message.message_id),
        ("recipient", message.recipient),
        ("message_type", message.message_type),
        ("ordering_key", message.ordering_key),
        ("subject_id", message.subject_id),
        ("content_type", message.content_type),
        ("expire_time", moment(message.expire_time)),
    ] {
        if !value.is_empty() {
            fields.insert(name.to_owned(), value.into());
        }
    }
    fields.insert(
        "context".to_owned(),
        json!({
            "end_user": context.end_user,
            "end_user_role": context.end_user_role,
            "purpose": context.purpose,
            "legal_basis": context.legal_basis,
            "case_id": context.case_id,
        }),
    );
    json!({
        "delivery_id": delivery.delivery_id,
        "attempt": delivery.attempt,
        "redriven": delivery.redriven,
        "sender": delivery.sender,
        "accept_time": moment(delivery.accept_time),
        "position": delivery.position,
        "message": fields,
    })
}

/// A moment as text; empty when there is none.
pub(crate) fn moment(moment: Option<prost_types::Timestamp>) -> String {
    moment.map(|moment| airut_wire::timestamp_from(moment).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> v1::SendRequest {
        let context = v1::Context { purpose: "social-work".into(), case_id: "case-1".into(), ..Default::default() };
        v1::SendRequest { recipient: "pirkanmaa".into(), context: Some(context), ..Default::default() }
    }

    #[test]
    fn a_line_stands_above_the_command_line_and_its_payload_is_passed_on_as_written() {
        let line = br#"{"message_id": "m-1", "context": {"case_id": "case-2"}, "payload": {"b":  1.0, "a": 12345678901234567890123}}"#;
        let message = read(line, &usual()).expect("a message");
        assert_eq!(message.payload, br#"{"b":  1.0, "a": 12345678901234567890123}"#);
        assert_eq!((message.message_id.as_str(), message.recipient.as_str()), ("m-1", "pirkanmaa"));
        let context = message.context.expect("it has one");
        assert_eq!((context.purpose.as_str(), context.case_id.as_str()), ("social-work", "case-2"));
        let message = read(br#"{"payload_base64": "AAEC"}"#, &usual()).expect("a message");
        assert_eq!((message.payload.as_slice(), message.message_id.len()), ([0, 1, 2].as_slice(), 36));
    }

    #[test]
    fn a_fault_is_told_without_what_stands_there() {
        let fault = |line: &str| read(line.as_bytes(), &usual()).expect_err("a fault").to_string();
        assert_eq!(fault(r#"{"subject_id": 131052, "payload": 1}"#), "a field is not of its type at column 21");
        assert!(fault(r#"{"subjekt": "131052-308T"}"#).starts_with("unknown field `subjekt`"));
        assert!(fault(r#"{"payload": }"#).starts_with("is not JSON"));
        assert_eq!(fault("{}"), "payload or payload_base64 is required");
        assert_eq!(fault(r#"{"payload": 1, "expire_time": "soon"}"#), "expire_time: is no moment");
    }
}
