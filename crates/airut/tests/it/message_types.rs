//! Message types as files: a new one is sent without a restart, a faulty one changes nothing.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use airut_testkit::eventually;
use airut_wire::v1::{SendRequest, SendResponse, delivery_service_client::DeliveryServiceClient};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};

use crate::{
    cli::run,
    support::{Data, Exchange, PATIENCE, airut, channel, dev, notice, persons},
};

const DEFINITION: &str = r#"
    name = "appointment"
    title = "An appointment with a social worker"
    from = ["kela"]
    to = ["pirkanmaa"]
    max-bytes = 1024
    content-types = ["application/json"]
    schema = "appointment.schema.json"
    subject = "required"
    ordering = "none"
    attempts = 3
    back-off-seconds = 1
    expires-hours = 1
"#;

const SCHEMA: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["day"],
    "properties": {"day": {"type": "string", "format": "date"}}
}"#;

/// The contract of one of them for the new type.
fn grant(data: &Data, partner: &str, direction: &str, with: &str) {
    let path = data.join(&format!("partners/{partner}.toml"));
    let right = format!(
        "\n[[delivery]]\ndirection = \"{direction}\"\nmessage-types = [\"appointment\"]\nwith = [\"{with}\"]\n\
         purpose = \"social-work\"\nlegal-basis = \"1301/2014\"\n"
    );
    fs::write(&path, fs::read_to_string(&path).unwrap() + &right).unwrap();
}

fn appointment(id: &str, person: &str, payload: &str) -> SendRequest {
    SendRequest { message_type: "appointment".into(), payload: payload.into(), ..notice(id, person) }
}

async fn send(channel: &Channel, message: SendRequest) -> Result<SendResponse, Status> {
    DeliveryServiceClient::new(channel.clone()).send(message).await.map(tonic::Response::into_inner)
}

/// How often it has been logged.
fn logged(exchange: &Exchange, message: &str) -> usize {
    exchange.stderr().lines().filter(|line| line.contains(message)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_type_is_a_file_and_a_faulty_one_changes_nothing() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let kela = channel(data.path(), exchange.address, "kela").await;
    let person = &persons(data.path())[0];
    let types = data.join("message-types");

    grant(&data, "kela", "send", "pirkanmaa");
    grant(&data, "pirkanmaa", "receive", "kela");
    fs::write(types.join("appointment.schema.json"), SCHEMA).unwrap();
    fs::write(types.join("appointment.toml"), DEFINITION).unwrap();
    let good = r#"{"day": "2026-11-30"}"#;
    eventually(PATIENCE, async || send(&kela, appointment("a-1", person, good)).await.is_ok()).await;
    let refused = send(&kela, appointment("a-2", person, r#"{"day": "monday"}"#)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(details.contains(r#"at /day: must follow "format": "date""#) && !details.contains("monday"), "{details}");

    // Its size is at fault: what was in force stays, of this type and of every other.
    fs::write(types.join("appointment.toml"), DEFINITION.replace("1024", "0")).unwrap();
    let fault = "the message types are not in force";
    eventually(PATIENCE, async || logged(&exchange, fault) > 0).await;
    let said = exchange.stderr();
    assert!(said.contains("appointment.toml: max-bytes: must be 1 to 1048576"), "{said}");
    send(&kela, appointment("a-3", person, good)).await.unwrap();
    send(&kela, notice("n-1", person)).await.unwrap();

    fs::remove_file(types.join("appointment.toml")).unwrap();
    // Each time another one: what was accepted once gets its receipt again, whatever has become of its type.
    let number = AtomicU32::new(0);
    let next = || format!("a-gone-{}", number.fetch_add(1, Ordering::Relaxed));
    eventually(PATIENCE, async || send(&kela, appointment(&next(), person, good)).await.is_err()).await;
    send(&kela, appointment("a-1", person, good)).await.unwrap();
    send(&kela, notice("n-2", person)).await.unwrap();
    assert_eq!(logged(&exchange, fault), 1, "a fault is told once");
}

async fn checked(config: &Path) -> (Option<i32>, String) {
    let mut check = airut();
    check.args(["config", "check", "--config"]).arg(config);
    let checked = run(check, "").await;
    (checked.status.code(), String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_tells_the_faults_of_the_files_and_what_contracts_misspell() {
    let data = Data::new();
    let mut prepare = airut();
    prepare.args(["dev", "--prepare", "--data"]).arg(data.path());
    assert!(run(prepare, "").await.status.success());
    let dir = data.path().display();
    let config = data.join("airut.toml");
    let text = format!(
        "roles = ['gateway']\ndata = '{dir}'\npartners = '{dir}/partners'\n\
         [tls]\ncertificate = '{dir}/pki/server.crt'\nkey = '{dir}/pki/server.key'\n\
         client_cas = ['{dir}/pki/ca.crt']\ncrls = ['{dir}/pki/crl.pem']\n\
         [keys]\nring = '{dir}/keys/ring.toml'\nreceipt = '{dir}/keys/receipt.key'\n"
    );
    fs::write(&config, text).unwrap();
    let (status, said) = checked(&config).await;
    assert_eq!(status, Some(0), "{said}");

    grant(&data, "kela", "send", "pirkanma");
    let (status, said) = checked(&config).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("message-types: there is no message type appointment"), "{said}");
    assert!(said.contains("with: there is no partner pirkanma"), "{said}");

    let dvv = data.join("partners/dvv.toml");
    fs::write(&dvv, fs::read_to_string(&dvv).unwrap().replace("in-flight = 20000", "in-flight = 0")).unwrap();
    let schema = data.join("message-types/death-notice.schema.json");
    fs::write(&schema, "{").unwrap();
    let (status, said) = checked(&config).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("dvv.toml: quota.in-flight: must be at least 1"), "{said}");
    assert!(said.contains("message_types: ") && said.contains("death-notice.schema.json: EOF"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_shown_what_it_may_send_and_its_quota() {
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let own = async |output: &str| {
        let mut command = airut();
        command.args(["partner", "self", "--as", "dvv", "--output", output, "--server", &exchange.address.to_string()]);
        command.arg("--data").arg(data.path());
        String::from_utf8(run(command, "").await.stdout).unwrap()
    };
    let text = own("text").await;
    for part in ["May send and receive", "death-notice", "661/2009", "At most 10000 messages a second"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let json: Value = serde_json::from_str(&own("json").await).unwrap();
    let right = &json["deliveries"][0];
    assert_eq!((&right["direction"], &right["with"]), (&"send".into(), &serde_json::json!(["kela"])));
    assert_eq!(right["message_types"].as_array().unwrap().len(), 4);
    assert_eq!(json["quota"]["in_flight"], 20_000);
}
