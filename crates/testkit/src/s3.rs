//! A real S3-compatible server, MinIO, in a temporary directory, on a port that was free.
//!
//! `AIRUT_MINIO` names the program, which `deploy/fetch` builds from its Go module. Where it is missing, [`S3::start`]
//! says so and gives nothing.
//!
//! What it must never do: outlive the process that started it.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

use crate::{Pki, free_ports, parts, process};

/// Where the program is.
const PROGRAM: &str = "AIRUT_MINIO";
/// How long it may take to serve. Less than a second on an idle machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer of its may take.
const ANSWER_BOUND: Duration = Duration::from_secs(10);
/// What the directories are called, before the process's id.
const DIRECTORY: &str = "airut-s3-";
/// The bucket that it begins with.
const BUCKET: &str = "airut";
/// Made up, and of this server alone.
const ACCESS_KEY: &str = "airut-test";
const SECRET_KEY: &str = "airut-test-secret";

/// A running server with one empty bucket. Killed when it is dropped.
pub struct S3 {
    program: PathBuf,
    setpriv: PathBuf,
    pki: Option<Pki>,
    addresses: [SocketAddr; 2],
    process: Mutex<Option<Child>>,
    // Last: the server is gone before its files.
    home: TempDir,
}

impl S3 {
    /// Starts one that is reached unencrypted, and waits until it serves. Nothing, after saying so, where it is not
    /// installed.
    ///
    /// # Panics
    /// It is missing, and `AIRUT_TEST_REQUIRE` names `s3`; or it does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), over TLS with a certificate of a CA of its own.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls() -> Option<Self> {
        Self::start_with(Some(Pki::new()))
    }

    fn start_with(pki: Option<Pki>) -> Option<Self> {
        let program = env::var_os(PROGRAM).map(PathBuf::from).filter(|program| program.is_file());
        let (program, setpriv) = parts::require("s3", program.zip(parts::program("setpriv")))?;
        process::sweep(DIRECTORY);
        let s3 = Self::lay(program, setpriv, pki);
        let served = s3.spawn();
        assert!(served.is_ok(), "MinIO does not start: {served:?}");
        Some(s3)
    }

    fn lay(program: PathBuf, setpriv: PathBuf, pki: Option<Pki>) -> Self {
        let prefix = format!("{DIRECTORY}{}-", std::process::id());
        let home = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory can be made");
        // A directory there is a bucket.
        fs::create_dir_all(home.path().join("data").join(BUCKET)).expect("the directory is ours");
        for (name, text) in [("access-key", ACCESS_KEY), ("secret-key", SECRET_KEY)] {
            fs::write(home.path().join(name), format!("{text}\n")).expect("the directory is ours");
        }
        let certificates = home.path().join("certificates");
        fs::create_dir(&certificates).expect("the directory is ours");
        if let Some(pki) = &pki {
            let server = pki.ca().server();
            fs::copy(server.certificate, certificates.join("public.crt")).expect("the certificate is there");
            fs::copy(server.key, certificates.join("private.key")).expect("the key is there");
        }
        let ports = free_ports(2);
        let addresses = [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { program, setpriv, pki, addresses, process: Mutex::default(), home }
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", if self.pki.is_some() { "https" } else { "http" }, self.addresses[0])
    }

    /// Its bucket.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The files of the access key's id and of the secret.
    pub fn keys(&self) -> (PathBuf, PathBuf) {
        (self.home.path().join("access-key"), self.home.path().join("secret-key"))
    }

    /// The authority of its certificate; none when it is reached unencrypted.
    pub fn ca(&self) -> Option<PathBuf> {
        self.pki.as_ref().map(|pki| pki.ca().certificate())
    }

    /// The directory of its files, all that it stores among them.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Kills it, as the power's going would.
    pub fn kill(&self) {
        let Some(mut process) = self.process().take() else { return };
        // It may have ended by itself.
        drop(process.kill());
        drop(process.wait());
    }

    /// Starts it again on its files and its port, and waits until it serves.
    ///
    /// # Panics
    /// It does not.
    pub fn restart(&self) {
        self.kill();
        let served = self.spawn();
        assert!(served.is_ok(), "it does not start again: {served:?}");
    }

    fn spawn(&self) -> Result<(), String> {
        let said = File::create(self.home.path().join("said")).expect("the directory is ours");
        let mut command = Command::new(&self.setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(["server", "--certs-dir"]);
        command.arg(self.home.path().join("certificates"));
        command.args(["--address", &self.addresses[0].to_string()]);
        command.args(["--console-address", &self.addresses[1].to_string()]).arg(self.data());
        command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
        // It would look for updates and say what it does to others.
        command.env("MINIO_UPDATE", "off").env("MINIO_CALLHOME_ENABLE", "off").env("HOME", self.home.path());
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        *self.process() = Some(process::spawn(command).expect("it can be started"));
        let began = Instant::now();
        while !self.is_ready().unwrap_or(false) {
            let ended = self.process().as_mut().is_none_or(|process| process.try_wait().is_ok_and(|end| end.is_some()));
            if ended || began.elapsed() > START_BOUND {
                return Err(fs::read_to_string(self.home.path().join("said")).unwrap_or_default());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn is_ready(&self) -> io::Result<bool> {
        let stream = TcpStream::connect(self.addresses[0])?;
        stream.set_read_timeout(Some(ANSWER_BOUND))?;
        let Some(pki) = &self.pki else { return self.says_ready(stream) };
        let mut config = pki.anonymous_client();
        config.alpn_protocols.clear();
        let name = Ipv4Addr::LOCALHOST.into();
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        self.says_ready(StreamOwned::new(tls, stream))
    }

    fn says_ready(&self, mut stream: impl Read + Write) -> io::Result<bool> {
        write!(stream, "GET /minio/health/ready HTTP/1.0\r\nHost: {}\r\n\r\n", self.addresses[0])?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}
