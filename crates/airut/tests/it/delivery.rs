//! Sending and collecting from the command line.

use std::{
    fs,
    process::{Command, Output},
};

use airut_testkit::free_ports;
use serde_json::{Value, json};

use crate::{
    cli::run,
    support::{Data, Exchange, airut, dev, persons},
};

/// A running exchange, and commands to it.
struct Place {
    data: Data,
    exchange: Exchange,
    person: String,
}

impl Place {
    async fn start() -> Self {
        let data = Data::new();
        let exchange = Exchange::start(dev(data.path())).await;
        let person = persons(data.path()).remove(0);
        Self { data, exchange, person }
    }

    fn command(&self, verb: &str, partner: &str, arguments: &[&str]) -> Command {
        let mut command = airut();
        command.args([verb, "--as", partner, "--server", &self.exchange.address.to_string(), "--data"]);
        command.arg(self.data.path()).args(arguments);
        command
    }

    /// Sends the payload on standard input to `pirkanmaa`.
    async fn send(&self, payload: &str, arguments: &[&str]) -> Output {
        let needed = ["--subject-stdin", "--to", "pirkanmaa", "--type", "social-work-need", "-"];
        let command = self.command("send", "kela", &[&needed, arguments].concat());
        run(command, &format!("{}\n{payload}", self.person)).await
    }

    /// What `pirkanmaa` collects, or does about it.
    async fn pirkanmaa(&self, verb: &str, arguments: &[&str]) -> Output {
        run(self.command(verb, "pirkanmaa", arguments), "").await
    }

    async fn track(&self, id: &str) -> Value {
        let tracked = run(self.command("track", "kela", &[id, "--output", "json"]), "").await;
        json_of(&tracked)
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn json_of(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).expect("one JSON value")
}

/// Asserts how a command has ended, and that it says why.
#[track_caller]
fn ended(output: &Output, status: i32, why: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(why), "{why} is missing in: {stderr}");
}

fn kinds(tracked: &Value) -> Vec<&str> {
    tracked["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect()
}

/// A need for social work, as its type's schema has it.
fn need_json(reason: &str) -> Value {
    json!({"client": {"language": "fi"}, "urgency": "next-day", "reason": reason})
}

/// The same as somebody might write it: with blanks that must not be lost.
fn need(reason: &str) -> String {
    format!("{{\"client\": {{\"language\": \"fi\"}},  \"urgency\": \"next-day\", \"reason\": \"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_one_command_to_the_other_and_both_can_say_what_became_of_it() {
    let place = Place::start().await;
    let sent = json_of(&place.send(&need("1.50"), &["--message-id", "m-1", "--output", "json"]).await);
    assert_eq!((&sent["message_id"], &sent["outcome"]), (&json!("m-1"), &json!("accepted")));
    for field in ["id", "recipient", "payload_sha256", "accept_time", "position", "key_id", "signature"] {
        assert!(sent["receipt"][field].is_string(), "{field}");
    }
    // Once more: the same receipt, and no second message.
    let again = json_of(&place.send(&need("1.50"), &["--message-id", "m-1", "--output", "json"]).await);
    assert_eq!(again["receipt"]["position"], sent["receipt"]["position"]);

    let collected = json_of(&place.pirkanmaa("collect", &["--count", "1"]).await);
    assert_eq!((&collected["sender"], &collected["attempt"]), (&json!("kela"), &json!(1)));
    assert_eq!(collected["position"], sent["receipt"]["position"]);
    let message = &collected["message"];
    assert_eq!(message["subject_id"], json!(place.person));
    assert_eq!((&message["payload"], &message["context"]["purpose"]), (&need_json("1.50"), &json!("social-work")));
    assert_eq!(succeeded(&place.pirkanmaa("collect", &["--once", "--wait", "1"]).await), "");

    let tracked = place.track("m-1").await;
    assert_eq!((&tracked["state"], kinds(&tracked)), (&json!("delivered"), vec!["accepted", "offered", "delivered"]));
    let theirs = place.pirkanmaa("track", &["m-1", "--sender", "kela"]).await;
    assert!(succeeded(&theirs).contains("delivered"));
    ended(&place.pirkanmaa("track", &["m-1"]).await, 3, "NOT_FOUND");
    // What was waited for did not come.
    ended(&place.pirkanmaa("collect", &["--count", "1", "--wait", "1"]).await, 4, "0 of 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_types_that_are_named_are_collected() {
    let place = Place::start().await;
    succeeded(&place.send(&need("1"), &["--message-id", "m-1"]).await);
    let others = ["--once", "--wait", "1", "--type", "reduced-basic-amount", "--type", "unemployed-under-25"];
    assert_eq!(succeeded(&place.pirkanmaa("collect", &others).await), "");
    let both = ["--count", "1", "--type", "reduced-basic-amount", "--type", "social-work-need"];
    assert_eq!(json_of(&place.pirkanmaa("collect", &both).await)["message"]["message_id"], "m-1");
    ended(&place.pirkanmaa("collect", &["--type", "a b"]).await, 2, "may contain only");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_sent_in_order_and_the_line_at_fault_is_named() {
    let place = Place::start().await;
    let line = |number: u32| {
        json!({
            "message_id": format!("m-{number:03}"),
            "subject_id": place.person,
            "ordering_key": "key",
            "payload": need_json(&number.to_string()),
        })
        .to_string()
    };
    let lines: Vec<String> = (0..50).map(line).collect();
    let options = ["--jsonl", "-", "--to", "pirkanmaa", "--type", "social-work-need", "--output", "json"];
    let sent = json_of(&run(place.command("send", "kela", &options), &lines.join("\n\n")).await);
    assert_eq!((&sent["accepted"], &sent["refused"]), (&json!(50), &json!(0)));
    assert_eq!(sent["messages"].as_array().unwrap().len(), 50);

    let collected = succeeded(&place.pirkanmaa("collect", &["--count", "50"]).await);
    let numbers = collected.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["message"]["payload"]["reason"].as_str().unwrap().parse::<u32>().unwrap()
    });
    assert!(numbers.eq(0..50), "{collected}");

    let faulty = format!("{}\n{{\"payload\": 1, \"subject_id\": 131052}}\n{}\n", line(50), line(51));
    let faulty = run(place.command("send", "kela", &options[..6]), &faulty).await;
    ended(&faulty, 2, "-, line 2; the lines before it were sent: a field is not of its type");
    assert!(!String::from_utf8_lossy(&faulty.stderr).contains("131052"));
    assert_eq!(place.track("m-050").await["state"], "waiting");
    // One that is refused does not keep the others from being sent.
    let unknown = json!({"subject_id": place.person, "message_type": "horoscope", "payload": {}});
    let refused = format!("{unknown}\n{}\n", line(52));
    let refused = run(place.command("send", "kela", &options), &refused).await;
    assert_eq!(refused.status.code(), Some(3));
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((&told["accepted"], &told["refused"]), (&json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_sent_and_collected_into_another() {
    let place = Place::start().await;
    let (out, into) = (place.data.join("out"), place.data.join("in"));
    fs::create_dir(&out).unwrap();
    for name in ["a.json", "b.json", "c.json"] {
        fs::write(out.join(name), need(name)).unwrap();
    }
    let out = out.display().to_string();
    let options =
        ["--subject-stdin", "--to", "pirkanmaa", "--type", "social-work-need", "--id-prefix", "batch-1/", out.as_str()];
    let subjects = format!("{}\n", place.person).repeat(3);
    ended(&run(place.command("send", "kela", &options), &place.person).await, 2, "1 lines for 3 files");
    let sent = succeeded(&run(place.command("send", "kela", &options), &subjects).await);
    assert!(sent.contains("3 accepted, 0 not") && sent.contains("batch-1/a.json"), "{sent}");
    // It is safe to send it all once more.
    assert!(succeeded(&run(place.command("send", "kela", &options), &subjects).await).contains("3 accepted"));

    let into_text = into.display().to_string();
    let collected = place.pirkanmaa("collect", &["--count", "3", "--into", &into_text, "--output", "json"]).await;
    assert!(succeeded(&collected).lines().all(|line| line.contains("\"accepted\"")));
    let payload = fs::read_to_string(into.join("kela~batch-1%2Fb.json.payload")).unwrap();
    assert_eq!(payload, need("b.json"));
    let facts: Value =
        serde_json::from_slice(&fs::read(into.join("kela~batch-1%2Fb.json.facts.json")).unwrap()).unwrap();
    assert_eq!(facts["message"]["message_id"], "batch-1/b.json");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_settles_a_message_by_its_exit_status() {
    let place = Place::start().await;
    for id in ["good", "later", "never"] {
        succeeded(&place.send(&need(id), &["--message-id", id]).await);
    }
    // The second time it is good.
    let script = r#"case "$AIRUT_MESSAGE_ID/$AIRUT_ATTEMPT" in
        later/1) exit 75;;
        never/*) echo "$AIRUT_SENDER sent what is not ours"; exit 9;;
        *) grep -q next-day;;
    esac"#;
    let told = succeeded(&place.pirkanmaa("collect", &["--count", "4", "--jobs", "2", "--exec", script]).await);
    for line in [
        "good  from kela, attempt 1: accepted",
        "later  from kela, attempt 1: returned",
        "later  from kela, attempt 2: accepted",
        "never  from kela, attempt 1: rejected",
    ] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
    let tracked = place.track("never").await;
    let rejected = tracked["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&rejected["code"], &rejected["text"]), (&json!("EXIT_9"), &json!("kela sent what is not ours")));

    let dead = json_of(&place.pirkanmaa("dead-letters", &["list", "--output", "json"]).await);
    assert_eq!(dead["dead_letters"][0]["message_id"], "never");
    let redriven = place.pirkanmaa("redrive", &["never", "good", "--sender", "kela"]).await;
    ended(&redriven, 3, "1 of 2 not redriven");
    let envelope = r#"grep -q "\"subject_id\":\"$PERSON\"""#;
    let mut collect = place.command("collect", "pirkanmaa", &["--count", "1", "--envelope", "--exec", envelope]);
    collect.env("PERSON", &place.person);
    assert!(succeeded(&run(collect, "").await).contains("accepted"));
    assert_eq!(place.track("never").await["state"], "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_can_not_be_run_ends_the_collector_and_costs_no_message() {
    let place = Place::start().await;
    succeeded(&place.send(&need("m-1"), &["--message-id", "m-1"]).await);
    let collected = place.pirkanmaa("collect", &["--count", "1", "--exec", "/nowhere/command"]).await;
    ended(&collected, 1, "the command can not be run");
    let collected = json_of(&place.pirkanmaa("collect", &["--count", "1"]).await);
    assert_eq!(collected["message"]["message_id"], "m-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses_of_send_and_collect_tell_what_went_wrong() {
    let place = Place::start().await;
    ended(&run(place.command("send", "kela", &["-"]), "").await, 2, "--to");
    ended(&place.send("", &[]).await, 3, "payload is required");
    ended(&place.send("{}", &["--purpose", "client-fees"]).await, 3, "NO_CONTRACT");
    let nobody = format!("127.0.0.1:{}", free_ports(1)[0]);
    let unreachable = ["--server", &nobody, "--timeout", "1"];
    for (verb, arguments) in [("track", ["m-1"].as_slice()), ("collect", &["--once"]), ("dead-letters", &[])] {
        let mut command = airut();
        command.args([verb, "--as", "kela", "--data"]).arg(place.data.path()).args(unreachable).args(arguments);
        ended(&run(command, "").await, 4, "can not be reached");
    }
    let person = &place.person;
    let line = format!("{{\"subject_id\": \"{person}\", \"payload\": 1}}");
    let mut command = airut();
    command.args(["send", "--as", "kela", "--data"]).arg(place.data.path()).args(unreachable);
    command.args(["--jsonl", "-", "--to", "pirkanmaa", "--type", "social-work-need"]);
    let unknown = run(command, &line).await;
    ended(&unknown, 4, "can not be reached");
    assert!(!String::from_utf8_lossy(&unknown.stderr).contains(person.as_str()));
}
