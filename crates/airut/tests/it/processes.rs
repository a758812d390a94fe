//! Each role as a process of its own: two gateways, a register at each, two ledgers, and a real Kafka.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use airut::dev::Layout;
use airut_client::Client;
use airut_domain::{
    partition::{Partition, Topic},
    query::{self, At, Event, Query, QueryKey, Verdict},
    record::{Header, Kind, Stored},
};
use airut_log::{KafkaSettings, Log};
use airut_testkit::{
    eventually, free_ports,
    kafka::{Access, Kafka, Proxy},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    crash::{Book, all_are_given_again, all_are_in_the_ledger, every_query_has_an_end},
    support::{Data, Exchange, PATIENCE, airut, client, gauge, tell},
};

/// A process of the exchange.
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) config: PathBuf,
    pub(crate) running: Option<Exchange>,
}

/// A whole exchange.
pub(crate) struct Cluster {
    pub(crate) data: Data,
    pub(crate) kafka: Arc<Kafka>,
    /// Two gateways, a register at each, the ledger, and another one that stands by.
    pub(crate) members: Vec<Member>,
    pub(crate) gateways: Vec<SocketAddr>,
}

impl Cluster {
    /// Starts it on so many brokers; none where there is no Kafka.
    pub(crate) async fn start(brokers: u32) -> Option<Self> {
        Self::start_traced(brokers, None).await
    }

    /// Starts it, with its spans sent there.
    pub(crate) async fn start_traced(brokers: u32, otlp_endpoint: Option<&str>) -> Option<Self> {
        let kafka = tokio::task::spawn_blocking(move || Kafka::start(brokers)).await.unwrap()?;
        let bootstrap = kafka.bootstrap().to_owned();
        Some(Self::start_on(kafka, &bootstrap, otlp_endpoint).await)
    }

    /// Starts it on one broker, whom the first gateway, and nobody else, comes to by way of the proxy.
    pub(crate) async fn start_behind_proxy() -> Option<(Self, Proxy)> {
        let mut proxy = Proxy::bind().await;
        let access = Access::Behind { proxy: proxy.address().port() };
        let kafka = tokio::task::spawn_blocking(move || Kafka::start_with(1, &access)).await.unwrap()?;
        proxy.lead_to(kafka.behind());
        let cluster = Self::start_on(kafka, &proxy.address().to_string(), None).await;
        Some((cluster, proxy))
    }

    /// Starts it on this Kafka, whose brokers the first gateway is told to be there.
    async fn start_on(kafka: Kafka, first_gateways: &str, otlp_endpoint: Option<&str>) -> Self {
        let data = Data::new();
        Layout::prepare(data.path()).unwrap();
        let ports = free_ports(2);
        let gateways: Vec<SocketAddr> = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        let mut cluster = Self { data, kafka: Arc::new(kafka), members: Vec::new(), gateways };
        let [one, two] = [cluster.gateways[0].to_string(), cluster.gateways[1].to_string()];
        let brokers = cluster.kafka.bootstrap().to_owned();
        cluster.add("gateway-1", "gateway", &one, "", first_gateways);
        cluster.add("gateway-2", "gateway", &two, "", &brokers);
        cluster.add("ledger", "ledger", "127.0.0.1:0", "", &brokers);
        cluster.add("ledger-2", "ledger", "127.0.0.1:0", "", &brokers);
        cluster.add("register-1", "register", "127.0.0.1:0", &one, &brokers);
        cluster.add("register-2", "register", "127.0.0.1:0", &two, &brokers);
        for member in &mut cluster.members {
            if member.name == "ledger-2" {
                share_key(&cluster.data.join("ledger/ledger"), &cluster.data.join("ledger-2/ledger"));
            }
            if let Some(endpoint) = otlp_endpoint {
                let mut config = fs::read_to_string(&member.config).unwrap();
                config.push_str(&format!("[telemetry]\notlp_endpoint = '{endpoint}'\n"));
                fs::write(&member.config, config).unwrap();
            }
            member.start().await;
        }
        cluster
    }

    fn add(&mut self, name: &'static str, role: &str, listen: &str, server: &str, brokers: &str) {
        let at = |file: &str| self.data.join(file).display().to_string();
        let (replication, min_in_sync) = self.replicas();
        let brokers: Vec<String> = brokers.split(',').map(|broker| format!("'{broker}'")).collect();
        let text = format!(
            "roles = ['{role}']\nlisten = '{listen}'\nmetrics_listen = '127.0.0.1:0'\ndata = '{}'\npartners = '{}'\n\
             ledger.origin = 'airut.example/test'\n\
             [log]\nengine = 'kafka'\nkafka.brokers = [{}]\nkafka.replication = {replication}\nkafka.min_in_sync = {min_in_sync}\n\
             [tls]\ncertificate = '{}'\nkey = '{}'\nclient_cas = ['{}']\ncrls = ['{}']\n\
             [keys]\nring = '{}'\nreceipt = '{}'\nedge = '{}'\n\
             [store]\ndirectory = '{}'\n\
             [register]\nca = '{}'\ncertificate = '{}'\nkey = '{}'\n{}",
            at(name),
            at("partners"),
            brokers.join(", "),
            at("pki/server.crt"),
            at("pki/server.key"),
            at("pki/ca.crt"),
            at("pki/crl.pem"),
            at("keys/ring.toml"),
            at("keys/receipt.key"),
            at("keys/edge.toml"),
            at("objects"),
            at("pki/ca.crt"),
            at("pki/kela.crt"),
            at("pki/kela.key"),
            if server.is_empty() { String::new() } else { format!("server = '{server}'\n") },
        );
        let config = self.data.join(&format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        self.members.push(Member { name, config, running: None });
    }

    /// How many brokers have each record, and how many of them must.
    fn replicas(&self) -> (u16, u16) {
        if self.kafka.size() < 3 { (1, 1) } else { (3, 2) }
    }

    /// The log itself, beside the processes.
    pub(crate) async fn log(&self) -> Log {
        let (replication, min_in_sync) = self.replicas();
        let at = KafkaSettings::at(self.kafka.bootstrap().split(','));
        Log::kafka(KafkaSettings { replication, min_in_sync, ..at }).await.expect("its topics are there")
    }

    pub(crate) fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).expect("there is one")
    }

    /// A client of the ledger.
    pub(crate) async fn ledger(&mut self, partner: &str) -> Client {
        let address = self.member("ledger").address();
        client(self.data.path(), address, partner).await
    }

    /// Looks whether all that was promised is kept: every receipt in the ledger, every repeat the same, every query ended.
    pub(crate) async fn keeps(&mut self, book: &Book) -> String {
        let promises = book.promises();
        let county = self.ledger("pirkanmaa").await;
        all_are_in_the_ledger(&county, &self.data.join("ledger"), &promises).await;
        let gateway = client(self.data.path(), self.gateways[0], "pirkanmaa").await;
        all_are_given_again(&gateway, book, &promises).await;
        let metrics = self.member("gateway-1").running.as_ref().unwrap().metrics_address();
        eventually(PATIENCE, async || gauge(metrics, "airut_queries_open") == Some(0.0)).await;
        every_query_has_an_end(&self.ledger("auditor").await).await;
        let receipts = book.receipts.load(Ordering::Relaxed);
        format!("{} queries answered, {receipts} receipts, all found, all the same", promises.len())
    }

    /// Stops every process in good order, then verifies the log and the ledger from outside.
    pub(crate) async fn stop_and_verify(mut self) {
        // The ledger last: it signs what the others leave behind.
        self.members.sort_by_key(|member| member.name.starts_with("ledger"));
        for member in &mut self.members {
            let stopped = member.running.take().expect("it runs").stop().await;
            assert!(stopped.success(), "{} ends with {stopped}", member.name);
        }
        for ledger in ["ledger.toml", "ledger-2.toml"] {
            let mut verify = airut();
            verify.args(["ledger", "verify", "--config"]).arg(self.data.join(ledger));
            let verified = tokio::task::spawn_blocking(move || verify.output().unwrap()).await.unwrap();
            let said = String::from_utf8_lossy(&verified.stdout).into_owned();
            assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
            tell(&said);
        }
    }
}

/// Gives a ledger that stands by the key of the other.
fn share_key(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in ["ledger.key", "ledger.vkey"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

impl Member {
    pub(crate) async fn start(&mut self) {
        let mut serve = airut();
        serve.args(["serve", "--config"]).arg(&self.config);
        self.running = Some(Exchange::start(serve).await);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("it runs").address
    }

    /// What it has in memory, in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        let pid = self.running.as_ref().expect("it runs").pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has one");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") / 1024
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.running.as_ref().expect("it runs").pid();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
        assert!(sent.success(), "{} has ended", self.name);
    }
}

/// What a server says of a service's health; none when it does not say.
pub(crate) async fn serves(health: &HealthClient<Channel>, service: &str) -> Option<bool> {
    let checked = health.clone().check(HealthCheckRequest { service: service.to_owned() }).await.ok()?;
    Some(checked.into_inner().status() == ServingStatus::Serving)
}

/// Every record of the topic, as it lies in the log.
pub(crate) async fn records(log: &Log, topic: Topic) -> Vec<(Arc<Stored>, Header)> {
    let mut records = Vec::new();
    for partition in Partition::all().filter(|partition| partition.topic == topic) {
        let mut next = log.start(partition).await.unwrap();
        let end = log.end(partition).await.unwrap();
        while next < end {
            let some = log.read(partition, next..end, usize::MAX).await.unwrap();
            next += some.len() as u64;
            records.extend(some);
        }
    }
    let decoded = |stored: Arc<Stored>| {
        let header = airut_wire::record::decode(&stored.header).expect("a header");
        (stored, header)
    };
    records.into_iter().map(decoded).collect()
}

/// What the log says of each query, by asker and id: its records in their order, each with the fold's word on it.
pub(crate) async fn stories(log: &Log) -> BTreeMap<String, Vec<String>> {
    let mut queries: BTreeMap<QueryKey, Query> = BTreeMap::new();
    let mut stories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (stored, header) in records(log, Topic::Queries).await {
        let Kind::Query(event) = &header.kind else { panic!("{} among the queries", header.kind.name()) };
        let at = At { position: stored.position, time: stored.stamp };
        let (verdict, next) = query::apply(queries.get(event.key()), at, event);
        if let Some(next) = next {
            queries.insert(event.key().clone(), next);
        }
        let name = match event {
            Event::Asked(_) => "asked",
            Event::Rerouted(_) => "rerouted",
            Event::Answered(_) => "answered",
            Event::NotDisclosed(_) => "not disclosed",
            Event::Repeated(_) => "repeated",
        };
        let word = match verdict {
            Verdict::Accepted => "accepted".to_owned(),
            Verdict::Void(why) => format!("void, {why:?}"),
        };
        let QueryKey { asker, query_id } = event.key();
        stories.entry(format!("{asker}/{query_id}")).or_default().push(format!("{name}, {word}"));
    }
    stories
}
