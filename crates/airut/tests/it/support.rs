//! A whole exchange as a process of its own, as `airut dev` runs it, and what is needed to call it.

use std::{
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use airut_client::{Client, ReceiptKeys, Settings};
use airut_domain::record::Header;
use airut_wire::v1::{self, query_service_client::QueryServiceClient};
use h2::client::SendRequest;
use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// The path of the verb.
pub(crate) const QUERY: &str = "/airut.v1.QueryService/QueryBenefits";

/// Where callers come from when it does not matter.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What only a fault exceeds, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running exchange. Killed when dropped.
pub(crate) struct Exchange {
    process: Child,
    /// Where it serves gRPC.
    pub(crate) address: SocketAddr,
    said: Arc<Said>,
}

/// What a process has written so far.
#[derive(Default)]
pub(crate) struct Said {
    stdout: Mutex<String>,
    stderr: Mutex<String>,
}

/// `airut dev` on this data directory, on ports that the system chooses.
pub(crate) fn dev(data: &Path) -> Command {
    let mut command = airut();
    command
        .args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--desk-listen",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data);
    command
}

/// The binary, without whatever the environment would add to its configuration.
pub(crate) fn airut() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airut"));
    command.env_remove("RUST_LOG").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command
}

/// The command run by another program that becomes it, such as `prlimit`.
pub(crate) fn run_by(program: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program[0]);
    outer.args(&program[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

impl Exchange {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(command: Command) -> Self {
        Self::try_start(command, PATIENCE).await.unwrap_or_else(|said| panic!("it does not serve:\n{said}"))
    }

    /// Starts it; if it does not serve within the bound it is killed, and what it said is the error.
    pub(crate) async fn try_start(command: Command, within: Duration) -> Result<Self, String> {
        tokio::task::spawn_blocking(move || Self::start_now(command, within)).await.unwrap()
    }

    fn start_now(mut command: Command, within: Duration) -> Result<Self, String> {
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run");
        let said = Arc::<Said>::default();
        let (serves, served) = mpsc::channel();
        let (stdout, stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let listening = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                listening.stdout.lock().unwrap().push_str(&format!("{line}\n"));
                if line.starts_with("ready") {
                    // Whoever waited may have given up.
                    serves.send(()).ok();
                }
            }
        });
        let listening = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                listening.stderr.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut exchange = Self { process, address, said };
        match served.recv_timeout(within) {
            Ok(()) => {
                // One that only answers is not called, and has no address.
                exchange.address = address_in(&exchange.stdout()).unwrap_or(exchange.address);
                Ok(exchange)
            }
            Err(_) => Err(exchange.kill()),
        }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.said.stdout.lock().unwrap().clone()
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.said.stderr.lock().unwrap().clone()
    }

    /// The same, to be read when it has ended.
    pub(crate) fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said)
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Where it serves metrics, as it has said before it was ready.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        let said = self.stdout();
        let after = said.split_once("metrics").and_then(|(_, after)| after.split_once("http://")?.1.split_once('/'));
        after.and_then(|(address, _)| address.parse().ok()).expect("it serves metrics")
    }

    /// Where its desk is.
    pub(crate) fn desk_address(&self) -> SocketAddr {
        let said = self.stdout();
        let after = said.split_once("desk  ").and_then(|(_, after)| after.split_once("http://")?.1.split_once(' '));
        after.and_then(|(address, _)| address.parse().ok()).expect("it has a desk")
    }

    /// A client with this partner's certificate.
    pub(crate) async fn client(&self, data: &Path, partner: &str) -> Client {
        client(data, self.address, partner).await
    }

    /// Ends it as a power cut would: SIGKILL. Returns what it had said.
    pub(crate) fn kill(&mut self) -> String {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
        format!("{}\n{}", self.stdout(), self.stderr())
    }

    /// Asks it to stop in good order.
    pub(crate) fn terminate(&self) {
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status();
        assert!(asked.unwrap().success(), "it has ended before it was told to:\n{}", self.stderr());
    }

    /// Asks it to stop in good order, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not stop:\n{}", self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let said = self.kill();
        if thread::panicking() {
            tell(&format!("the exchange had said:\n{}", last(&said, 8_000)));
        }
    }
}

impl Said {
    /// Standard output and standard error.
    pub(crate) fn all(&self) -> (String, String) {
        (self.stdout.lock().unwrap().clone(), self.stderr.lock().unwrap().clone())
    }
}

/// The address in what `airut dev` says of itself, or `airut serve`.
fn address_in(stdout: &str) -> Option<SocketAddr> {
    let after = |mark: &str| stdout.split_once(mark)?.1.split_whitespace().next()?.parse().ok();
    after("https://").or_else(|| after("ready on "))
}

fn last(text: &str, bytes: usize) -> &str {
    let from = (text.len().saturating_sub(bytes)..text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(0)..]
}

/// Says something about a run where its reader looks.
#[expect(clippy::print_stderr, reason = "a test's output is where its reader looks")]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

/// A seed for this run, said aloud; `AIRUT_TEST_SEED` repeats one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("AIRUT_TEST_SEED").ok().map(|text| text.parse().expect("AIRUT_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(rand::random);
    tell(&format!("AIRUT_TEST_SEED={seed}"));
    seed
}

/// A client of the exchange at this address, with this partner's certificate of the data directory.
pub(crate) async fn client(data: &Path, address: SocketAddr, partner: &str) -> Client {
    // Another test may have been first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let pki = data.join("pki");
    let file = |kind: &str| pki.join(format!("{partner}.{kind}"));
    let settings = Settings::new(address.to_string(), pki.join("ca.crt"), file("crt"), file("key"));
    Client::connect(&settings).await.expect("the certificates are there")
}

/// A notice from Kela to Pirkanmaa about a person.
pub(crate) fn notice(message_id: &str, subject_id: &str) -> v1::SendRequest {
    v1::SendRequest {
        message_id: message_id.into(),
        recipient: "pirkanmaa".into(),
        message_type: "social-work-need".into(),
        ordering_key: String::new(),
        subject_id: subject_id.into(),
        context: Some(v1::Context {
            end_user: "kaino.laine".into(),
            end_user_role: "benefit-handler".into(),
            purpose: "social-work".into(),
            legal_basis: "1301/2014".into(),
            case_id: "case-1".into(),
        }),
        content_type: "application/json".into(),
        payload: include_bytes!("../../../../deploy/exchange/samples/social-work-need.json").to_vec(),
        expire_time: None,
    }
}

/// A connection to the exchange at this address over TLS, from this address of this machine, asking for a server of this name:
/// with the certificate and key in these files, or with none.
pub(crate) async fn connect(
    from: IpAddr,
    to: SocketAddr,
    name: &str,
    ca: &Path,
    identity: Option<(&Path, &Path)>,
) -> io::Result<TlsStream<TcpStream>> {
    // Another test may have been first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("the authority's certificate")).expect("well formed");
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]).with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).expect("a certificate")];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).expect("a key")).expect("they fit")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let tcp = socket.connect(to).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name or an address");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// [`connect`] with this partner's certificate of the data directory.
pub(crate) async fn connect_as(
    data: &Path,
    from: IpAddr,
    to: SocketAddr,
    partner: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let file = |kind: &str| data.join(format!("pki/{partner}.{kind}"));
    connect(from, to, "localhost", &data.join("pki/ca.crt"), Some((&file("crt"), &file("key")))).await
}

/// A connection on which calls are tried once: what they come to is what the exchange said.
pub(crate) async fn channel(data: &Path, address: SocketAddr, partner: &'static str) -> Channel {
    let data = data.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let data = data.clone();
        async move { connect_as(&data, LOCALHOST, address, partner).await.map(TokioIo::new) }
    });
    let endpoint: Endpoint = format!("https://{address}").parse().expect("an address");
    endpoint.connect_with_connector(connector).await.expect("it serves")
}

/// An HTTP/2 connection to say things on that no client of ours would say.
pub(crate) async fn http2(tls: TlsStream<TcpStream>) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(tls).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    send
}

/// A request for a question, without its message.
pub(crate) fn http_request(path: &str) -> http::request::Builder {
    http::Request::post(format!("https://localhost{path}"))
        .version(http::Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
}

/// A gRPC message with its prefix.
pub(crate) fn grpc_frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// Asks once.
pub(crate) async fn ask(
    channel: &Channel,
    request: &v1::QueryBenefitsRequest,
    deadline: Duration,
) -> Result<v1::QueryBenefitsResponse, Status> {
    let mut request = tonic::Request::new(request.clone());
    request.set_timeout(deadline);
    QueryServiceClient::new(channel.clone()).query_benefits(request).await.map(tonic::Response::into_inner)
}

/// The synthetic identity codes of a data directory.
pub(crate) fn persons(data: &Path) -> Vec<String> {
    let codes = std::fs::read_to_string(data.join("persons.txt")).expect("it is written at the first start");
    codes.lines().map(str::to_owned).collect()
}

/// The keys that receipts are checked with.
pub(crate) fn receipt_keys(data: &Path) -> ReceiptKeys {
    ReceiptKeys::load(data.join("pki/receipt-keys.txt")).expect("they are written at each start")
}

/// A question that `pirkanmaa` and `helsinki` may ask.
pub(crate) fn question(query_id: &str, subject: &str) -> v1::QueryBenefitsRequest {
    let context = v1::Context {
        end_user: "official-17".to_owned(),
        end_user_role: "social-worker".to_owned(),
        purpose: "social-assistance".to_owned(),
        legal_basis: "1412/1997".to_owned(),
        case_id: "case-118".to_owned(),
    };
    v1::QueryBenefitsRequest {
        query_id: query_id.to_owned(),
        subject_id: subject.to_owned(),
        context: Some(context),
        categories: Vec::new(),
        period: None,
    }
}

/// Runs `airut ledger verify` on a data directory that no process has open.
pub(crate) fn ledger_verify(data: &Path) -> Output {
    airut().args(["ledger", "verify", "--data"]).arg(data).output().expect("it can be run")
}

/// A data directory that is gone with it.
pub(crate) struct Data(tempfile::TempDir);

impl Data {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// A page over plain HTTP/1.1, such as the metrics.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// A gauge or counter without labels, as the metrics have it now.
pub(crate) fn gauge(metrics: SocketAddr, name: &str) -> Option<f64> {
    let page = http_get(metrics, "/metrics").ok()?;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Every entry of the ledger, in order, as an auditor is shown it.
pub(crate) async fn entries(auditor: &Client) -> Vec<(v1::Entry, Header)> {
    let mut request = v1::ListEntriesRequest { page_size: 1000, page_token: String::new() };
    let mut entries = Vec::new();
    loop {
        let page = auditor.list_entries(&request, PATIENCE).await.expect("an auditor may");
        let decoded = |entry: v1::Entry| (airut_wire::record::decode(&entry.header).expect("a header"), entry);
        entries.extend(page.entries.into_iter().map(decoded).map(|(header, entry)| (entry, header)));
        if page.next_page_token.is_empty() {
            return entries;
        }
        request.page_token = page.next_page_token;
    }
}
