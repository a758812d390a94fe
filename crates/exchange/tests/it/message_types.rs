//! The message types that the exchange is delivered with, and the contracts that allow them.

use std::{collections::BTreeMap, fs, path::Path};

use airut_domain::{
    context::{Context, Text},
    delivery::{self, Direction, Submission},
    identity_code::IdentityCode,
    message_type::Presence,
    partner::Partner,
    registry::{Entry, Registry},
    time::Timestamp,
};
use airut_exchange::Catalogue;

/// By the name of their file.
fn partners() -> BTreeMap<String, Partner> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange/partners");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let partner = toml::from_str(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), partner)
    };
    files.map(read).collect()
}

#[test]
fn every_message_type_has_a_sender_and_a_recipient_whose_contracts_agree_and_a_sample_that_it_takes() {
    let partners = partners();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/exchange");
    let catalogue = Catalogue::load(&deploy.join("message-types")).unwrap_or_else(|faults| panic!("{faults:?}"));
    let registry = {
        let mut registry = Registry::default();
        for partner in partners.values() {
            registry.insert(Entry { version: 1, partner: partner.clone(), source: None });
        }
        registry
    };
    let now = Timestamp::from_millis(1_795_334_400_000);
    for definition in catalogue.types().iter() {
        let name = definition.name.as_str();
        assert!(deploy.join(format!("message-types/{name}.toml")).exists(), "{name} is not named like its file");
        let content_type = definition.content_types.iter().next().expect("at least one");
        let sample = if content_type == "application/json" { "json" } else { "xml" };
        let sample = fs::read(deploy.join(format!("samples/{name}.{sample}")))
            .unwrap_or_else(|_| panic!("{name} has no sample"));
        catalogue
            .check(definition, content_type, &sample)
            .unwrap_or_else(|refusal| panic!("{name}: {:?}", refusal.violations));
        if definition.schema.is_some() {
            let broken = catalogue.check(definition, content_type, b"{\"surprise\": \"secret\"}").unwrap_err();
            assert_eq!(broken.violations[0].field, "payload", "{name}");
            assert!(broken.violations.iter().all(|violation| !violation.fault.contains("secret")), "{name}");
        }
        let mut agreed = 0;
        for right in partners.values().flat_map(|sender| sender.deliveries.iter().map(move |right| (sender, right))) {
            let (sender, right) = right;
            if right.direction != Direction::Send || !right.message_types.contains(&definition.name) {
                continue;
            }
            for recipient in partners.values().filter(|recipient| right.with.iter().any(|party| party.means(recipient)))
            {
                let submission = Submission {
                    message_id: "m-1".parse().unwrap(),
                    recipient: recipient.id.clone(),
                    message_type: definition.name.clone(),
                    ordering_key: (definition.ordering != Presence::None).then(|| Text::new("key").unwrap()),
                    subject: (definition.subject == Presence::Required)
                        .then(|| IdentityCode::temporary(now.date(), 900).unwrap()),
                    context: Context {
                        end_user: Text::new("somebody").unwrap(),
                        end_user_role: Text::new("official").unwrap(),
                        purpose: right.purpose.clone(),
                        legal_basis: right.legal_basis.clone(),
                        case_id: Text::new("case").unwrap(),
                    },
                    content_type: content_type.clone(),
                    size_bytes: sample.len(),
                    expires: None,
                };
                let sender = registry.current(&sender.id).unwrap();
                delivery::judge(&sender, &registry, catalogue.types(), &submission, now)
                    .unwrap_or_else(|refusal| panic!("{name} from {} to {}: {refusal}", sender.id(), recipient.id));
                agreed += 1;
            }
        }
        assert!(agreed > 0, "nobody may send {name}");
    }
    let named = partners.values().flat_map(|partner| &partner.deliveries).flat_map(|right| &right.message_types);
    for name in named {
        assert!(catalogue.types().find(name).is_some(), "a contract names {name}, which is no message type");
    }
}
