//! The document scenario: how fast a document is sent and fetched, beside a plain copy of the same file over TLS.
//!
//! The baseline sends the same bytes over TLS 1.3 to a process that writes them to a file and syncs it, and reads such a file back. Both take turns, so
//! that what else the machine does falls on both. What is fetched is checked by its SHA-256.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use airut_client::ReceiptKeys;
use airut_domain::keys::Digest;
use airut_wire::v1;
use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    exchange::{self, Engine, Exchange, Shape},
    measure::median,
    process::{Process, processor_seconds},
};

/// A copy that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Files are copied in parts of so many bytes, on both sides.
const PART: usize = 256 * 1024;

/// Options of the document scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The document's size, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1024))]
    size_mib: u64,
    /// How often documents and copies take turns; what is told are medians.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The data directory; a temporary one when not given.
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Options of the copy server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerOptions {
    /// The directory of certificates that `airut dev` made.
    #[arg(long)]
    pki: PathBuf,
    /// The file that it writes and reads.
    #[arg(long)]
    file: PathBuf,
}

/// What one round took, in seconds.
struct Round {
    sent: f64,
    fetched: f64,
    copied_there: f64,
    copied_back: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let data = options.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    exchange::lay_out(&data)?;
    let exchange = Exchange::start(Shape::plain(Engine::Embedded), &data)?;
    let server = start_copies(&data, &temporary.path().join("copied"))?;
    let source = temporary.path().join("source.pdf");
    let (size, sha256) = make(&source, options.size_mib * 1024 * 1024)?;
    let copies = Copies::new(&server.address, &data)?;
    let documents = Documents::new(&exchange.addresses[0], &data, size, sha256).await?;
    let mib = options.size_mib;
    println!(
        "a document of {mib} MiB, sent and fetched, beside a copy of the file over TLS, in {} rounds\n",
        options.rounds
    );
    println!(
        "{:>6} {:>12} {:>12} {:>8}   {:>12} {:>12} {:>8}",
        "", "send MiB/s", "copy MiB/s", "ratio", "fetch MiB/s", "copy MiB/s", "ratio"
    );
    let into = temporary.path().join("fetched");
    let mut rounds = Vec::new();
    // The first round warms up.
    for number in 0..=options.rounds {
        let copied_there = timed(copies.there(&source, size)).await?;
        let sent = timed(documents.send(&source, number)).await?;
        let copied_back = timed(copies.back(&into, size)).await?;
        let fetched = timed(documents.fetch(&into, number)).await?;
        let round = Round { sent, fetched, copied_there, copied_back };
        if number > 0 {
            tell(&number.to_string(), mib, &round);
            rounds.push(round);
        }
    }
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    let middle = Round {
        sent: of(|round| round.sent),
        fetched: of(|round| round.fetched),
        copied_there: of(|round| round.copied_there),
        copied_back: of(|round| round.copied_back),
    };
    tell("median", mib, &middle);
    let (send_ratio, fetch_ratio) =
        (of(|round| round.copied_there / round.sent), of(|round| round.copied_back / round.fetched));
    println!("\nmedian of the rounds' ratios: sent {send_ratio:.2}, fetched {fetch_ratio:.2}");
    let processor = exchange.processor_seconds()?;
    let copying = processor_seconds(server.id())?;
    println!("processor seconds: {processor:.1?}, the copies {copying:.1}");
    drop(server);
    exchange.stop_and_verify(std::process::Stdio::null())?;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = |seconds: f64| mib as f64 / seconds;
    println!(
        "{}",
        json!({
            "scenario": "document",
            "size_mib": mib,
            "rounds": options.rounds,
            "send_mib_per_second": rate(middle.sent),
            "fetch_mib_per_second": rate(middle.fetched),
            "copy_there_mib_per_second": rate(middle.copied_there),
            "copy_back_mib_per_second": rate(middle.copied_back),
            "send_ratio": send_ratio,
            "fetch_ratio": fetch_ratio,
        })
    );
    Ok(())
}

fn tell(name: &str, mib: u64, round: &Round) {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = |seconds: f64| mib as f64 / seconds;
    println!(
        "{name:>6} {:>12.0} {:>12.0} {:>8.2}   {:>12.0} {:>12.0} {:>8.2}",
        rate(round.sent),
        rate(round.copied_there),
        round.copied_there / round.sent,
        rate(round.fetched),
        rate(round.copied_back),
        round.copied_back / round.fetched,
    );
}

async fn timed(copy: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, copy).await.context("a copy takes too long")??;
    Ok(began.elapsed().as_secs_f64())
}

/// A PDF by its first line; the rest is random.
fn make(path: &Path, size: u64) -> anyhow::Result<(u64, Digest)> {
    let mut file = std::fs::File::create(path)?;
    let mut random = StdRng::seed_from_u64(1);
    let mut hash = Vec::with_capacity(usize::try_from(size)?);
    hash.extend_from_slice(b"%PDF-1.7\n");
    let mut part = vec![0; PART];
    while (hash.len() as u64) < size {
        random.fill(&mut part[..]);
        let left = usize::try_from(size)? - hash.len();
        hash.extend_from_slice(&part[..left.min(PART)]);
    }
    file.write_all(&hash)?;
    file.sync_all()?;
    Ok((size, Digest::of(&hash)))
}

/// Documents over the exchange.
struct Documents {
    county: airut_client::Client,
    kela: airut_client::Client,
    keys: ReceiptKeys,
    metadata: v1::DocumentMetadata,
}

impl Documents {
    async fn new(address: &str, data: &Path, size: u64, sha256: Digest) -> anyhow::Result<Self> {
        let client = async |partner: &str| {
            let pki = data.join("pki");
            let file = |kind: &str| pki.join(format!("{partner}.{kind}"));
            let settings = airut_client::Settings::new(address, pki.join("ca.crt"), file("crt"), file("key"));
            airut_client::Client::connect(&settings).await.with_context(|| partner.to_owned())
        };
        let persons = std::fs::read_to_string(data.join("persons.txt"))?;
        let metadata = v1::DocumentMetadata {
            document_id: String::new(),
            recipient: "kela".to_owned(),
            document_type: "social-assistance-document".to_owned(),
            subject_id: persons.lines().next().context("persons.txt names nobody")?.to_owned(),
            context: Some(v1::Context {
                end_user: "official-17".to_owned(),
                end_user_role: "social-worker".to_owned(),
                purpose: "social-assistance".to_owned(),
                legal_basis: "1412/1997".to_owned(),
                case_id: "case-118".to_owned(),
            }),
            file_name: "source.pdf".to_owned(),
            content_type: "application/pdf".to_owned(),
            size_bytes: i64::try_from(size)?,
            sha256: sha256.0.to_vec(),
        };
        let keys = ReceiptKeys::load(data.join("pki/receipt-keys.txt"))?;
        Ok(Self { county: client("pirkanmaa").await?, kela: client("kela").await?, keys, metadata })
    }

    async fn send(&self, source: &Path, number: u32) -> anyhow::Result<()> {
        let metadata = v1::DocumentMetadata { document_id: format!("document-{number}"), ..self.metadata.clone() };
        let mut file = File::open(source).await?;
        file.set_max_buf_size(PART);
        self.county.send_document(&metadata, &mut file, &self.keys, PATIENCE, |_| {}).await?;
        Ok(())
    }

    async fn fetch(&self, into: &Path, number: u32) -> anyhow::Result<()> {
        let request = v1::FetchDocumentRequest {
            sender: "pirkanmaa".to_owned(),
            document_id: format!("document-{number}"),
            context: self.metadata.context.clone(),
            offset: 0,
            length: 0,
        };
        let mut fetching = self.kela.fetch_document(&request, PATIENCE).await?;
        let mut file = File::create(into).await?;
        file.set_max_buf_size(PART);
        while let Some(part) = fetching.next().await? {
            file.write_all(&part).await?;
        }
        file.flush().await?;
        Ok(())
    }
}

/// Copies over TLS.
struct Copies {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Copies {
    fn new(address: &str, data: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data.join("pki/ca.crt"))?)?;
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address: address.parse()?, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn there(&self, source: &Path, size: u64) -> anyhow::Result<()> {
        let mut stream = self.connect().await?;
        stream.write_u64(size).await?;
        let mut file = File::open(source).await?;
        file.set_max_buf_size(PART);
        copy(&mut file, &mut stream, size).await?;
        stream.flush().await?;
        ensure!(stream.read_u8().await? == 1, "the copy is not durable");
        Ok(())
    }

    async fn back(&self, into: &Path, size: u64) -> anyhow::Result<()> {
        let mut stream = self.connect().await?;
        stream.write_u64(0).await?;
        stream.flush().await?;
        let mut file = File::create(into).await?;
        file.set_max_buf_size(PART);
        copy(&mut stream, &mut file, size).await?;
        file.flush().await?;
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, tcp).await?)
    }
}

fn start_copies(data: &Path, file: &Path) -> anyhow::Result<Process> {
    let mut server = std::process::Command::new(std::env::current_exe()?);
    server.args(["copy-server", "--pki"]).arg(data.join("pki")).arg("--file").arg(file);
    Process::start(server, |line| Some(line.to_owned()))
}

/// Serves until killed; prints its address first. A size, and so many bytes, are written to the file and synced; a size of nothing has the file sent.
pub(crate) async fn serve(options: &ServerOptions) -> anyhow::Result<()> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(options.pki.join("server.crt"))?.collect();
    let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(chain?, PrivateKeyDer::from_pem_file(options.pki.join("server.key"))?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let mut stream = acceptor.accept(tcp).await?;
        match stream.read_u64().await? {
            0 => {
                let mut file = File::open(&options.file).await?;
                file.set_max_buf_size(PART);
                let size = file.metadata().await?.len();
                copy(&mut file, &mut stream, size).await?;
                stream.shutdown().await?;
            }
            size => {
                let mut file = File::create(&options.file).await?;
                file.set_max_buf_size(PART);
                copy(&mut stream, &mut file, size).await?;
                file.flush().await?;
                file.sync_all().await?;
                stream.write_u8(1).await?;
                stream.flush().await?;
            }
        }
    }
}

async fn copy(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    size: u64,
) -> anyhow::Result<()> {
    let mut part = vec![0; PART];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left)?.min(PART);
        let read = from.read(&mut part[..most]).await?;
        ensure!(read > 0, "the copy ended too soon");
        to.write_all(&part[..read]).await?;
        left -= read as u64;
    }
    Ok(())
}
