//! `airut dev`: a whole exchange on this machine, out of nothing, for whoever wants to try it.
//!
//! Certificates and keys are throwaway, persons synthetic. The data directory holds everything: delete it to start afresh.

mod officials;

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use airut_domain::{id::PartnerId, partner::Partner, time::Timestamp};
use airut_exchange::{ReceiptKey, Retention, World};
use airut_identity::dev_ca::DevCa;
use airut_log::KeyRing;
use airut_register::Register;
use anyhow::Context;
use clap::Args;

use crate::{
    config::{
        self, Config, DocumentsConfig, Keys, LedgerConfig, LogConfig, RegisterConfig, Role, TelemetryConfig, Tls,
    },
    magic::{self, Magic},
    node::Node,
    partners, serve,
    terminal::{Signals, print, say},
};

/// Seed and number of the synthetic persons: the same for everybody, so that examples can be repeated.
const SEED: u64 = 1;
const PERSONS: u32 = 10_000;

/// How long the register may take to connect before `dev` says that it serves all the same: it may have been suspended.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether the register is connected.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The partners' definitions that a new data directory begins with.
const PARTNERS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/partners.rs"));

/// The message types and their schemas that it begins with.
const MESSAGE_TYPES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/message-types.rs"));

/// A made-up message of each type, to send.
const SAMPLES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// Options of `airut dev`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "airut-data")]
    pub data: PathBuf,
    /// Where gRPC is served: 127.0.0.1:7443, or with --once any free port.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where the desk is served, on this machine alone: 127.0.0.1:8080, or with --once nowhere.
    #[arg(long)]
    pub desk_listen: Option<SocketAddr>,
    /// Where Prometheus may fetch metrics: 127.0.0.1:9464, or with --once nowhere.
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
    /// Where spans go (OTLP over gRPC), such as http://127.0.0.1:4317.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Play a query, three notices, a document and an information request with synthetic partners, tell what happened, verify the ledger, and end.
    #[arg(long)]
    pub once: bool,
    /// Only lay out the data directory: certificates, keys, partners' definitions, persons.
    #[arg(long, conflicts_with = "once")]
    pub prepare: bool,
    /// With --prepare: a DNS name by which processes on other machines reach the exchange, for its certificate; may be repeated.
    #[arg(long, value_name = "NAME", requires = "prepare")]
    pub server_name: Vec<String>,
}

/// A file that a new data directory begins with.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// The directory within the data directory.
    pub(crate) directory: &'static str,
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

impl Definition {
    /// Those of a directory.
    pub(crate) fn all(directory: &'static str, files: &[(&'static str, &'static str)]) -> impl Iterator<Item = Self> {
        files.iter().map(move |(name, text)| Self { directory, name, text: (*text).to_owned() })
    }
}

/// Those of every exchange.
fn definitions() -> Vec<Definition> {
    let of = [("partners", PARTNERS), ("message-types", MESSAGE_TYPES), ("samples", SAMPLES)];
    of.into_iter().flat_map(|(directory, files)| Definition::all(directory, files)).collect()
}

/// A data directory, laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes the directory with all that a first start needs, and keeps what is there already.
    ///
    /// # Errors
    /// With the file that can not be written.
    pub fn prepare(dir: &Path) -> anyhow::Result<Self> {
        Self::with_definitions(dir, &definitions())
    }

    /// The same, with the magic recipients.
    pub(crate) fn prepare_with_magic(dir: &Path) -> anyhow::Result<Self> {
        Self::with_definitions(dir, &magic::added_to(definitions()))
    }

    fn with_definitions(dir: &Path, definitions: &[Definition]) -> anyhow::Result<Self> {
        let layout = Self { dir: dir.to_owned() };
        for sub in ["", "pki", "keys", "partners", "message-types", "samples"] {
            let sub = layout.dir.join(sub);
            fs::create_dir_all(&sub).with_context(|| sub.display().to_string())?;
        }
        let objects = layout.objects();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&objects);
        made.with_context(|| objects.display().to_string())?;
        let world = World::system();
        let now = world.now();
        for Definition { directory, name, text } in definitions {
            write_new(&layout.dir.join(directory).join(name), text)?;
        }
        layout.issue_certificates(now)?;
        layout.make_keys(&world)?;
        layout.write_persons(now)?;
        Ok(layout)
    }

    /// Sees to it that the server's certificate has these DNS names too.
    ///
    /// # Errors
    /// With the name that is none, or the file that can not be written.
    pub fn name_server(&self, names: &[String]) -> anyhow::Result<()> {
        let now = World::system().now();
        let ca = DevCa::open_or_create(&self.dir.join("pki"), now).context("the development CA")?;
        ca.name_server(names, now).context("--server-name")?;
        Ok(())
    }

    /// One that is laid out already.
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration that runs all roles on it.
    pub fn config(&self, options: &Options) -> Config {
        let pki = self.dir.join("pki");
        let desk = options.desk_listen.or((!options.once).then_some(([127, 0, 0, 1], 8080).into()));
        let desk = desk.map(|listen| self.desk(listen));
        let mut roles: BTreeSet<Role> = [Role::Gateway, Role::Ledger, Role::Register].into();
        roles.extend(desk.is_some().then_some(Role::Desk));
        Config {
            roles,
            desk,
            listen: options.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], if options.once { 0 } else { 7443 }))),
            metrics_listen: options.metrics_listen.or((!options.once).then_some(([127, 0, 0, 1], 9464).into())),
            data: self.dir.clone(),
            log: LogConfig::Embedded { path: self.dir.join("log.sqlite") },
            tls: Tls {
                certificate: pki.join("server.crt"),
                key: pki.join("server.key"),
                client_cas: vec![pki.join("ca.crt")],
                crls: vec![pki.join("crl.pem")],
            },
            keys: Keys { ring: self.ring(), receipt: self.receipt_key(), edge: self.edge_ring() },
            store: airut_store::Settings::local(self.objects()),
            retention: Retention::default(),
            partners: self.dir.join("partners"),
            message_types: self.dir.join("message-types"),
            documents: DocumentsConfig::default(),
            ledger: LedgerConfig { origin: "airut.example/dev".to_owned() },
            register: RegisterConfig {
                server: None,
                ca: pki.join("ca.crt"),
                certificate: pki.join("kela.crt"),
                key: pki.join("kela.key"),
                seed: SEED,
                persons: PERSONS,
            },
            telemetry: TelemetryConfig {
                logs: "json".to_owned(),
                filter: std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()),
                otlp_endpoint: options.otlp_endpoint.clone(),
            },
        }
    }

    /// The desk, at which one may be any of the synthetic officials.
    fn desk(&self, listen: SocketAddr) -> airut_desk::Settings {
        let offices = officials::ORGANISATIONS.map(|(id, _)| {
            let (ca, certificate, key) = self.partner_files(&id.parse().expect("a partner's id"));
            let collect =
                if id == "kela" { officials::COLLECTED_BY_KELA.map(str::to_owned).into() } else { BTreeSet::new() };
            airut_desk::OfficeSettings {
                id: id.to_owned(),
                exchange: airut_client::Settings::new("", ca, certificate, key),
                receipt_keys: self.dir.join("pki/receipt-keys.txt"),
                collect,
            }
        });
        config::desk::of_dev(listen, &self.dir, offices.to_vec(), officials::officials())
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    pub(crate) fn ring(&self) -> PathBuf {
        self.dir.join("keys/ring.toml")
    }

    pub(crate) fn edge_ring(&self) -> PathBuf {
        self.dir.join("keys/edge.toml")
    }

    fn receipt_key(&self) -> PathBuf {
        self.dir.join("keys/receipt.key")
    }

    fn partners(&self) -> anyhow::Result<Vec<Partner>> {
        partners::read(&self.dir.join("partners")).map_err(|faults| anyhow::anyhow!("{}", faults.join("\n  ")))
    }

    fn issue_certificates(&self, now: Timestamp) -> anyhow::Result<()> {
        let ca = DevCa::open_or_create(&self.dir.join("pki"), now).context("the development CA")?;
        for partner in self.partners()? {
            ca.issue(&partner.id, now).with_context(|| format!("a certificate for {}", partner.id))?;
        }
        Ok(())
    }

    fn make_keys(&self, world: &World) -> anyhow::Result<()> {
        if !self.ring().exists() {
            let ring = KeyRing::generate(world.randomness(), world.now().date().year());
            ring.save(self.ring()).context("the key ring")?;
            ring.edge().save(self.edge_ring()).context("the ledger's part of the key ring")?;
        }
        let key = ReceiptKey::open_or_create(&self.receipt_key(), world)?;
        let public = self.dir.join("pki/receipt-keys.txt");
        fs::write(&public, key.public_line()).with_context(|| public.display().to_string())
    }

    fn write_persons(&self, now: Timestamp) -> anyhow::Result<()> {
        let register = Register::generate(SEED, PERSONS, now.date());
        let codes: String = register.identity_codes().iter().map(|code| format!("{}\n", code.as_str())).collect();
        write_new(&self.dir.join("persons.txt"), &codes)
    }

    /// Where a partner's certificate lies.
    pub fn partner_files(&self, partner: &PartnerId) -> (PathBuf, PathBuf, PathBuf) {
        let pki = self.dir.join("pki");
        (pki.join("ca.crt"), pki.join(format!("{partner}.crt")), pki.join(format!("{partner}.key")))
    }
}

/// Runs until told to stop.
///
/// # Errors
/// When it can not start, or can not go on.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    if options.prepare {
        let layout = Layout::prepare(&options.data)?;
        layout.name_server(&options.server_name)?;
        return print(format_args!("{} is laid out", layout.dir.display()));
    }
    let layout = Layout::prepare_with_magic(&options.data)?;
    let config = layout.config(options);
    let telemetry = serve::start_telemetry(&config)?;
    let mut signals = Signals::listen()?;
    let mut node = tokio::select! {
        started = Node::start(&config) => started?,
        () = signals.received() => return Ok(()),
    };
    if !register_connected(&node, REGISTER_WITHIN).await {
        tracing::warn!("the register is not connected; it goes on trying");
    }
    let server = node.address.context("a gateway is among the roles")?.to_string();
    let magic = Magic::start(&server, layout.dir()).await?;
    say(welcome(&layout, &node, telemetry.metrics_address));
    say("ready");
    let result = serve::until_stopped(&mut node, signals).await;
    say("stopping");
    magic.stop().await;
    node.stop().await;
    telemetry.flush();
    result
}

/// Waits until the register has a stream open, so that the first question finds somebody to answer it.
pub(crate) async fn register_connected(node: &Node, patience: Duration) -> bool {
    let kela: PartnerId = "kela".parse().expect("a partner's id");
    let connected = async {
        while !node.gateway().is_some_and(|gateway| gateway.folds().has_responder(&kela)) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(patience, connected).await.is_ok()
}

fn welcome(layout: &Layout, node: &Node, metrics: Option<SocketAddr>) -> String {
    let data = layout.dir.display();
    let address = node.address.expect("a gateway is among the roles");
    let server = if address.port() == 7443 { String::new() } else { format!(" --server {address}") };
    let data_option = if layout.dir == Path::new("airut-data") { String::new() } else { format!(" --data {data}") };
    let program = std::env::args().next().unwrap_or_else(|| "airut".to_owned());
    format!(
        "Airut, a message exchange between public organisations. Everything here is synthetic.

  desk     {desk}  (choose who to be: officials of Kela, two counties and Helsinki)
  gRPC     https://{address}  (mTLS; certificates in {data}/pki)
  metrics  {metrics}
  persons  {data}/persons.txt  ({PERSONS} synthetic identity codes, one a line)

Try, in another terminal:

  head -n 1 {data}/persons.txt | {program} query --as pirkanmaa --subject-stdin{options}
  head -n 1 {data}/persons.txt | {program} query --as pension-provider --subject-stdin{options} \
    --purpose pension-processing --legal-basis 395/2006

what no contract grants:

  head -n 1 {data}/persons.txt | {program} query --as pension-provider --subject-stdin{options}

Kela tells the county that a client needs social work, the county takes it in, and Kela sees that it did:

  head -n 1 {data}/persons.txt | {program} send --as kela --to pirkanmaa --type social-work-need --subject-stdin \
    --message-id need-1{options} {data}/samples/social-work-need.json
  {program} collect --as pirkanmaa --count 1 --wait 20{options}
  {program} track --as kela need-1{options}

Kela asks the county for what it needs to decide, and the county answers:

  (head -n 1 {data}/persons.txt; echo 'What has been granted since June?') | {program} request create --as kela \
    --to pirkanmaa --kind assistance-report --subject-stdin --text-file - --request-id request-1{options}
  echo 'Nothing since June.' | {program} request respond --as pirkanmaa request-1 --requester kela --text-file -{options}
  {program} request show --as kela request-1{options}

To try a sender of your own on partners that misbehave on purpose, send a practice-message to magic-reject, magic-expire,
magic-stall or magic-duplicate: docs/partner-guide.md, \"Testing your own client\".

and, once this has been stopped with Ctrl-C:

  {program} ledger verify{data_option}
",
        desk = node.desk_address().map(|desk| format!("http://{desk}")).unwrap_or_default(),
        options = format_args!("{data_option}{server}"),
        metrics = metrics.map(|address| format!("http://{address}/metrics")).unwrap_or_default(),
    )
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    use io::Write;
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(|| path.display().to_string()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(cause).with_context(|| path.display().to_string()),
    }
}
