//! The message types that the exchange is delivered with: their schemas and samples, and the contracts that allow them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use airut_domain::{
    context::{Context, Text},
    delivery::{self, Direction, Right, Submission},
    identity_code::IdentityCode,
    message_type::{Definition, Party, Presence, Service},
    partner::Partner,
    registry::{Entry, Registry},
    time::Timestamp,
};
use airut_exchange::Catalogue;
use serde_json::Value;

const JSON: &str = "application/json";

/// Where docs/partner-guide.md lists the types.
const LIST: (&str, &str) = ("<!-- message types -->\n", "<!-- end -->\n");

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange")
}

fn catalogue() -> Catalogue {
    Catalogue::load(&deploy().join("message-types")).unwrap_or_else(|faults| panic!("{}", faults.join("\n")))
}

/// By the name of their file.
fn partners() -> BTreeMap<String, Partner> {
    let files = fs::read_dir(deploy().join("partners")).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let partner = toml::from_str(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), partner)
    };
    files.map(read).collect()
}

fn registry(partners: &BTreeMap<String, Partner>) -> Registry {
    let mut registry = Registry::default();
    for partner in partners.values() {
        registry.insert(Entry { version: 1, partner: partner.clone(), source: None });
    }
    registry
}

fn sample(definition: &Definition) -> (String, Vec<u8>) {
    let content_type = definition.content_types.iter().next().expect("at least one").clone();
    let extension = content_type.strip_prefix("application/").expect("JSON or XML");
    let path = deploy().join(format!("samples/{}.{extension}", definition.name));
    (content_type, fs::read(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display())))
}

/// The sample as a message that uses this right.
fn message(definition: &Definition, right: &Right, recipient: &Partner, now: Timestamp) -> Submission {
    let (content_type, payload) = match definition.service {
        Service::Messages => sample(definition),
        Service::Documents | Service::Requests => (JSON.to_owned(), b"{}".to_vec()),
    };
    let text = |text: &str| Text::new(text).unwrap();
    Submission {
        message_id: "m-1".parse().unwrap(),
        recipient: recipient.id.clone(),
        message_type: definition.name.clone(),
        ordering_key: (definition.ordering != Presence::None).then(|| text("key")),
        subject: (definition.subject == Presence::Required).then(|| IdentityCode::temporary(now.date(), 900).unwrap()),
        context: Context {
            end_user: text("somebody"),
            end_user_role: text("official"),
            purpose: right.purpose.clone(),
            legal_basis: right.legal_basis.clone(),
            case_id: text("case"),
        },
        content_type,
        size_bytes: payload.len(),
        expires: None,
    }
}

#[test]
fn every_flow_of_kela_is_there() {
    let expected = [
        "address-notice",
        "bank-payment",
        "benefit-notification",
        "benefit-report",
        "birth-notice",
        // None of Kela's: the exchange itself sends it.
        "dead-letter-notice",
        "death-notice",
        "eessi-received",
        "eessi-sent",
        "foreign-change",
        "foreign-insurance",
        "foreign-pension",
        "fund-delivery",
        "fund-notification",
        "fund-request",
        "immigrant-two-months",
        "information-request",
        "information-request-reminder",
        "medical-certificate",
        "municipal-invoicing",
        "pension-decision",
        "reduced-basic-amount",
        "resident-notice",
        "salary-notification",
        "social-assistance-document",
        "social-work-need",
        "student-loan-notice",
        "supplementary-assistance-need",
        "tax-information-request",
        "tax-information-response",
        "unemployed-over-25",
        "unemployed-under-25",
        "wageless-period",
    ];
    let catalogue = catalogue();
    let names: Vec<&str> = catalogue.types().iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(names, expected);
}

#[test]
fn whatever_one_may_send_the_other_may_receive_and_each_type_is_sent() {
    let (partners, catalogue) = (partners(), catalogue());
    let registry = registry(&partners);
    let now = Timestamp::from_millis(1_795_334_400_000);
    let mut sent = BTreeSet::new();
    for sender in partners.values() {
        for right in sender.deliveries.iter().filter(|right| right.direction == Direction::Send) {
            let means = |partner: &&Partner| right.with.iter().any(|party| party.means(partner));
            for recipient in partners.values().filter(means) {
                for name in &right.message_types {
                    let definition = catalogue.types().find(name).expect("see below");
                    let proven = registry.current(&sender.id).expect("it is active");
                    let message = message(definition, right, recipient, now);
                    delivery::judge_on_behalf(&proven, &registry, catalogue.types(), &message, now)
                        .unwrap_or_else(|refusal| panic!("{name} from {} to {}: {refusal}", sender.id, recipient.id));
                    sent.insert(name.clone());
                }
            }
        }
    }
    let unsent: Vec<_> = catalogue.types().iter().filter(|definition| !sent.contains(&definition.name)).collect();
    assert!(unsent.is_empty(), "nobody may send {unsent:?}");
}

#[test]
fn whatever_one_may_receive_somebody_may_send() {
    let partners = partners();
    for recipient in partners.values() {
        for right in recipient.deliveries.iter().filter(|right| right.direction == Direction::Receive) {
            for (name, party) in right.message_types.iter().flat_map(|name| right.with.iter().map(move |w| (name, w))) {
                let sends = |sender: &&Partner| {
                    party.means(sender)
                        && sender.deliveries.iter().any(|sends| {
                            sends.direction == Direction::Send
                                && sends.message_types.contains(name)
                                && sends.with.iter().any(|party| party.means(recipient))
                                && (&sends.purpose, &sends.legal_basis) == (&right.purpose, &right.legal_basis)
                        })
                };
                let sender = partners.values().find(sends);
                assert!(sender.is_some(), "{} awaits {name} from {party}, who may not send it", recipient.id);
            }
        }
    }
}

#[test]
fn parties_and_types_that_are_named_exist() {
    let (partners, catalogue) = (partners(), catalogue());
    let exists = |party: &Party, of: &str| {
        assert!(partners.values().any(|partner| party.means(partner)), "{of}: there is no {party}");
    };
    for definition in catalogue.types().iter() {
        definition.from.iter().chain(&definition.to).for_each(|party| exists(party, definition.name.as_str()));
    }
    for (id, right) in partners.values().flat_map(|partner| partner.deliveries.iter().map(move |r| (&partner.id, r))) {
        right.with.iter().for_each(|party| exists(party, id.as_str()));
        for name in &right.message_types {
            assert!(catalogue.types().find(name).is_some(), "{id}: {name} is no message type");
        }
    }
}

#[test]
fn samples_follow_their_schemas_and_say_nothing_of_real_persons() {
    let catalogue = catalogue();
    let messages = || catalogue.types().iter().filter(|definition| definition.service == Service::Messages);
    for definition in messages() {
        let name = &definition.name;
        let (content_type, payload) = sample(definition);
        assert_eq!(definition.schema.is_some(), content_type == JSON, "{name}");
        assert!(payload.len() <= definition.max_bytes as usize / 4, "{name} has no room for more than its sample");
        let checked = catalogue.check(definition, &content_type, &payload);
        checked.unwrap_or_else(|refusal| panic!("{name}: {:?}", refusal.violations));
        let text = String::from_utf8(payload).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+-".contains(c));
        for code in words.filter_map(|word| word.parse::<IdentityCode>().ok()) {
            assert!(code.is_temporary(), "{name}: somebody may have that identity code");
        }
    }
    let samples = fs::read_dir(deploy().join("samples")).unwrap().count();
    assert_eq!(samples, messages().count(), "a sample of no type");
}

/// Every place in the sample is broken in turn, and every property that must be there left out.
#[test]
fn a_sample_that_is_broken_anywhere_is_refused_with_the_place() {
    let catalogue = catalogue();
    let wrong = serde_json::json!({"SECRET": 1});
    for definition in catalogue.types().iter().filter(|definition| definition.schema.is_some()) {
        let sample: Value = serde_json::from_slice(&sample(definition).1).unwrap();
        let refused = |payload: &Value, place: &str| {
            let payload = serde_json::to_vec(payload).unwrap();
            let refusal = catalogue.check(definition, JSON, &payload).expect_err(place);
            let told: Vec<&str> = refusal.violations.iter().map(|violation| violation.fault.as_str()).collect();
            assert!(refusal.violations.iter().all(|violation| violation.field == "payload"), "{}", definition.name);
            let at = if place.is_empty() { "as a whole: ".to_owned() } else { format!("at {place}: ") };
            assert!(told.iter().any(|fault| fault.starts_with(&at)), "{} {place}: {told:?}", definition.name);
            assert!(told.iter().all(|fault| !fault.contains("SECRET")), "{} {place}: {told:?}", definition.name);
        };
        for place in places(&sample) {
            let mut broken = sample.clone();
            *broken.pointer_mut(&place).unwrap() = wrong.clone();
            // An object that lacks what it must have is told of as well, but where it stands.
            refused(&broken, &place);
        }
        let mut unknown = sample.clone();
        unknown.as_object_mut().unwrap().insert("SECRET".into(), Value::Null);
        refused(&unknown, "");
        for name in required(definition) {
            let mut lacking = sample.clone();
            lacking
                .as_object_mut()
                .unwrap()
                .remove(&name)
                .unwrap_or_else(|| panic!("{} has no {name}", definition.name));
            refused(&lacking, "");
        }
    }
}

/// The JSON pointer of every value in it but itself.
fn places(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(array) => array.iter().enumerate().map(|(number, value)| (number.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let mut all = Vec::new();
    for (name, value) in inner {
        all.push(format!("/{name}"));
        all.extend(places(value).iter().map(|place| format!("/{name}{place}")));
    }
    all
}

fn required(definition: &Definition) -> Vec<String> {
    let file = deploy().join("message-types").join(definition.schema.as_deref().unwrap());
    let schema: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The list in the guide is the one of the files. To renew it, run this with `AIRUT_BLESS=1`.
#[test]
fn the_partner_guide_lists_every_type_as_it_is() {
    let mut list =
        String::from("| type | what it is | from | to | ordered | at most | waits |\n|---|---|---|---|---|---|---|\n");
    for definition in catalogue().types().iter() {
        let parties = |parties: &BTreeSet<Party>| {
            let parties: Vec<String> = parties.iter().map(|party| format!("`{party}`")).collect();
            parties.join(", ")
        };
        let ordered = match definition.ordering {
            Presence::Required => "always",
            Presence::Optional => "if you give a key",
            Presence::None => "no",
        };
        let Definition { name, title, from, to, max_bytes, expires_hours, .. } = definition.as_ref();
        let (from, to, days) = (parties(from), parties(to), expires_hours / 24);
        let size = match max_bytes / 1024 {
            kib if kib < 1024 * 1024 => format!("{kib} KiB"),
            kib => format!("{} GiB", kib / 1024 / 1024),
        };
        list.push_str(&format!("| `{name}` | {title} | {from} | {to} | {ordered} | {size} | {days} days |\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/partner-guide.md");
    let guide = fs::read_to_string(&path).unwrap();
    let (before, rest) = guide.split_once(LIST.0).expect("the list begins");
    let (found, after) = rest.split_once(LIST.1).expect("the list ends");
    if std::env::var_os("AIRUT_BLESS").is_some() {
        fs::write(path, format!("{before}{}{list}{}{after}", LIST.0, LIST.1)).unwrap();
    } else {
        assert_eq!(found, list, "AIRUT_BLESS=1 renews it");
    }
}

#[test]
fn the_operators_page_shows_a_type_as_its_file_has_it() {
    let page = include_str!("../../../../docs/operating.md");
    let mut blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let shown = blocks.find(|block| block.contains("name = \"death-notice\"")).expect("it is shown");
    let shown: Definition = toml::from_str(shown).unwrap();
    assert_eq!(Some(&shown), catalogue().types().find(&shown.name).map(AsRef::as_ref));
}
