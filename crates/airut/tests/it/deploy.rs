//! `deploy/compose` and the Dockerfile, as far as they can be tried where no container engine is: every file is read by the
//! program that is going to read it, or by one of the same family, and what they name is there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use airut_testkit::{available, eventually, kafka::Installation, require};
use serde_json::Value;

use crate::support::{Data, Exchange, PATIENCE, airut, dev};

const ALERTS: &str = include_str!("../../../../deploy/compose/alerts.yml");
const CONFIG: &str = include_str!("../../../../deploy/compose/airut.toml");
const DASHBOARD: &str = include_str!("../../../../deploy/compose/grafana/airut.json");
const DATASOURCES: &str = include_str!("../../../../deploy/compose/grafana/datasources.yml");
const DOCKERFILE: &str = include_str!("../../../../Dockerfile");
const FETCH: &str = include_str!("../../../../deploy/fetch");
const OPERATING: &str = include_str!("../../../../docs/operating.md");
const PROMETHEUS: &str = include_str!("../../../../deploy/compose/prometheus.yml");

/// Where the exchange's configuration looks for its certificates and keys.
const SHARED: &str = "/exchange";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("it can be run");
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    assert!(output.status.success(), "{command:?}:\n{said}");
    output
}

/// A service of the compose file, as the reference implementation of its specification reads it.
struct Service {
    name: String,
    value: Value,
}

/// All of them; none where that is not installed.
fn services() -> Option<Vec<Service>> {
    if !available("compose-go") {
        return None;
    }
    let mut compose = Command::new("compose-go");
    compose.args(["-format", "json", "compose.yml"]).current_dir(root().join("deploy/compose"));
    let project: Value = serde_json::from_slice(&succeed(compose).stdout).expect("JSON");
    let services = project["services"].as_object().expect("it has services").clone();
    Some(services.into_iter().map(|(name, value)| Service { name, value }).collect())
}

impl Service {
    /// The strings of a list, or of one value.
    fn texts(&self, key: &str) -> Vec<&str> {
        self.value[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        let environment = self.value["environment"].as_object().into_iter().flatten();
        environment.map(|(name, value)| (name.as_str(), value.as_str().expect("compose makes texts of them"))).collect()
    }

    /// Of a process of the exchange.
    fn role(&self) -> Option<&str> {
        let environment = self.environment();
        let roles = environment.iter().find(|(name, _)| *name == "AIRUT__ROLES")?.1;
        Some(roles.trim_matches(['[', ']', '"']))
    }

    fn is_ours(&self) -> bool {
        self.value["image"].as_str().is_some_and(|image| image.starts_with("airut:"))
    }

    fn lasts(&self) -> bool {
        self.value["restart"] == "unless-stopped"
    }
}

#[test]
fn every_container_is_pinned_and_held_to_little() {
    let Some(services) = services() else { return };
    for service in &services {
        let (name, value) = (&service.name, &service.value);
        let (image, tag) = value["image"].as_str().and_then(|image| image.split_once(':')).expect("a tag");
        assert!(tag.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()), "{name}: {image}:{tag}");
        let user = value["user"].as_str().or_else(|| {
            let user = DOCKERFILE.lines().find_map(|line| line.strip_prefix("USER "));
            user.filter(|_| service.is_ours())
        });
        let user = user.and_then(|user| user.split(':').next()?.parse::<u32>().ok());
        assert!(user.is_some_and(|user| user > 0), "{name} is nobody's, or root's");
        assert_eq!(value["read_only"], true, "{name}");
        assert_eq!(service.texts("cap_drop"), ["ALL"], "{name}");
        assert_eq!(service.texts("security_opt"), ["no-new-privileges:true"], "{name}");
        assert!(value["cap_add"].is_null() && value["privileged"].is_null(), "{name}");
        for bound in ["mem_limit", "cpus", "pids_limit", "logging", "restart"] {
            assert!(!value[bound].is_null(), "{name} has no {bound}");
        }
        for port in value["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}: {port}");
        }
        for mount in value["volumes"].as_array().into_iter().flatten().filter(|mount| mount["type"] == "bind") {
            let source = Path::new(mount["source"].as_str().unwrap());
            assert!(source.exists(), "{name}: {} is missing", source.display());
            assert_eq!(mount["read_only"], true, "{name}: {}", source.display());
        }
        // Nobody calls a register.
        let is_called = service.lasts() && service.role() != Some("register");
        assert_eq!(value["healthcheck"]["test"].is_array(), is_called, "{name}");
    }
}

#[test]
fn images_are_of_the_versions_that_are_tested() {
    let Some(services) = services() else { return };
    let fetched = |part: &str| {
        let line = FETCH.lines().find_map(|line| line.strip_prefix(part)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("deploy/fetch has no version of {part}"))
    };
    let images: BTreeSet<&str> = services.iter().filter_map(|service| service.value["image"].as_str()).collect();
    for expected in [
        format!("apache/kafka:{}", fetched("kafka")),
        format!("jaegertracing/all-in-one:{}", fetched("jaeger")),
        format!("airut:{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(images.contains(expected.as_str()), "{expected} is not among {images:?}");
    }
    let builder = format!("FROM rust:{}.", env!("CARGO_PKG_RUST_VERSION"));
    assert!(DOCKERFILE.contains(&builder), "{builder}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prepare_lays_out_serves_every_process_as_it_is_configured() {
    let Some(services) = services() else { return };
    let data = Data::new();
    let dir = data.path().display().to_string();
    let prepare = services.iter().find(|service| service.name == "prepare").expect("there is one");
    let mut command = airut();
    command.args(prepare.texts("command").iter().map(|argument| argument.replace(SHARED, &dir)));
    succeed(command);
    let named: Vec<&str> =
        prepare.texts("command").iter().filter_map(|argument| argument.strip_prefix("--server-name=")).collect();

    let definitions = root().join("deploy/exchange");
    for service in &services {
        let Some(role) = service.role() else { continue };
        let text =
            CONFIG.replace(SHARED, &dir).replace("/var/lib/airut", &data.join(&service.name).display().to_string());
        let config = data.join(&format!("{}.toml", service.name));
        let text = ["partners", "message-types"].iter().fold(text, |text, name| {
            text.replace(&format!("/etc/airut/{name}"), &definitions.join(name).display().to_string())
        });
        fs::write(&config, text).unwrap();
        if role == "gateway" {
            for name in ["partners", "message-types"] {
                let is_there = service.value["volumes"].as_array().into_iter().flatten().any(|volume| {
                    let source = volume["source"].as_str().unwrap_or_default();
                    volume["target"] == format!("/etc/airut/{name}")
                        && volume["read_only"] == true
                        && source.ends_with(&format!("exchange/{name}"))
                });
                assert!(is_there, "{} has not mounted {name}", service.name);
            }
        }
        let mut check = airut();
        check.args(["config", "check", "--config"]).arg(config).envs(service.environment());
        let told = String::from_utf8(succeed(check).stdout).unwrap();
        assert!(told.contains(&format!("is good: {role} on ")), "{told}");
        assert_eq!(service.texts("command"), ["serve", "--config", "/etc/airut/airut.toml"], "{}", service.name);
        assert!(PROMETHEUS.contains(&format!("\"{}:9464\"", service.name)), "nobody looks at {}", service.name);
        if role != "register" {
            assert!(named.contains(&service.name.as_str()), "the certificate does not name {}", service.name);
        }
    }

    // What asks a container how it is, asked of a process with the same certificates.
    let exchange = Exchange::start(dev(data.path())).await;
    let gateway = services.iter().find(|service| service.name == "gateway-1").expect("there is one");
    let probe: Vec<String> = serde_json::from_value(gateway.value["healthcheck"]["test"].clone()).unwrap();
    assert_eq!(probe[..2], ["CMD", "airut"]);
    eventually(PATIENCE, async || {
        let mut health = airut();
        health.args(probe[2..].iter().map(|argument| argument.replace(SHARED, &dir)));
        health.args(["--server", &exchange.address.to_string()]);
        crate::cli::run(health, "").await.status.success()
    })
    .await;
}

#[test]
fn kafka_takes_the_environment_of_its_containers() {
    let (Some(kafka), Some(services)) = (require("kafka", Installation::find()), services()) else { return };
    let brokers = services.iter().filter(|service| service.name.starts_with("kafka-"));
    let mut voters = BTreeSet::new();
    for broker in brokers {
        let home = Data::new();
        for sub in ["default", "mounted", "final"] {
            fs::create_dir(home.join(sub)).unwrap();
        }
        // What the image does when it starts: properties are made of the environment, and the directory of the log is formatted.
        let mut setup = kafka.program("kafka.docker.KafkaDockerWrapper");
        setup.arg("setup");
        for sub in ["default", "mounted", "final"] {
            setup.arg(format!("--{sub}-configs-dir")).arg(home.join(sub));
        }
        setup.envs(broker.environment()).env("KAFKA_LOG_DIRS", home.join("data"));
        let said = String::from_utf8_lossy(&succeed(setup).stdout).into_owned();
        let meta = fs::read_to_string(home.join("data/meta.properties")).unwrap_or_else(|_| panic!("{said}"));
        let (id, advertised) = (broker.value["environment"]["KAFKA_NODE_ID"].as_str().unwrap(), &broker.name);
        assert!(meta.contains(&format!("node.id={id}\n")), "{meta}");
        let properties = fs::read_to_string(home.join("final/server.properties")).unwrap();
        assert!(properties.contains(&format!("advertised.listeners=CLIENT://{advertised}:9092")), "{properties}");
        assert!(CONFIG.contains(&format!("\"{advertised}:9092\"")), "{advertised} is not in airut.toml");
        voters.insert(format!("{id}@{advertised}:9093"));
        let quorum = broker.value["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"].as_str().unwrap();
        assert!(voters.iter().all(|voter| quorum.contains(voter)), "{voters:?} in {quorum}");
    }
    assert_eq!(voters.len(), 3);
}

#[test]
fn alerts_come_when_they_should_and_only_then() {
    if !available("promtool") {
        return;
    }
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts-test.yml"]] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(root().join("deploy/compose"));
        succeed(promtool);
    }
}

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_lowercase() && character != '_');
    let names = words.filter(|word| word.starts_with("airut_"));
    names
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name))
        .collect()
}

#[test]
fn alerts_and_the_dashboard_are_of_the_metrics_in_the_operators_page() {
    // That each of these is exported is another test's.
    let exported: BTreeSet<&str> = airut_telemetry::metrics::names().collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    for (what, named) in [("alerts.yml", metrics_in(ALERTS)), ("the dashboard", metrics_in(DASHBOARD))] {
        assert!(named.is_subset(&exported), "{what}: {:?}", named.difference(&exported));
    }
    let shown = metrics_in(DASHBOARD);
    assert!(shown.is_superset(&exported), "not on the dashboard: {:?}", exported.difference(&shown));

    let rows = OPERATING.lines().filter(|line| line.starts_with("| `airut_"));
    for row in rows {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let alerted = metrics_in(columns[0]).iter().any(|name| metrics_in(ALERTS).contains(name));
        assert_eq!(alerted, columns[2].trim() != "–", "alerts.yml and docs/operating.md disagree about {}", columns[0]);
    }

    let panels = dashboard["panels"].as_array().expect("there are panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each has an id of its own");
    for panel in panels {
        let source = panel["datasource"]["uid"].as_str().expect("a source");
        assert!(DATASOURCES.contains(&format!("uid: {source}\n")), "{source} is not provisioned");
    }
}

#[test]
fn the_dockerfile_is_one_that_its_linter_finds_nothing_in() {
    if !available("hadolint") {
        return;
    }
    let mut hadolint = Command::new("hadolint");
    hadolint.args(["--failure-threshold", "style"]).arg(root().join("Dockerfile"));
    succeed(hadolint);
}
