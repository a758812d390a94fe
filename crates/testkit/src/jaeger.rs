//! A real Jaeger: collector and query service in one process, keeping its traces in memory.
//!
//! `AIRUT_JAEGER` names the program, which `deploy/fetch` builds from its Go module. Where it is missing, [`Jaeger::start`] says so
//! and gives nothing.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{free_ports, parts, process};

/// Where the program is.
const PROGRAM: &str = "AIRUT_JAEGER";
/// How long it may take to serve. About a second on an idle machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long an answer of its may take.
const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// A running Jaeger. Killed when it is dropped.
#[derive(Debug)]
pub struct Jaeger {
    process: Child,
    home: TempDir,
    otlp: SocketAddr,
    query: SocketAddr,
}

impl Jaeger {
    /// Starts one on ports that were free; nothing where it is not installed. Blocks until it serves.
    ///
    /// # Panics
    /// It is missing, and `AIRUT_TEST_REQUIRE` names `jaeger`; or it does not start.
    pub fn start() -> Option<Self> {
        let program = env::var_os(PROGRAM).map(PathBuf::from).filter(|program| program.is_file());
        let program = parts::require("jaeger", program.zip(parts::program("setpriv")))?;
        let jaeger = Self::spawn(program);
        let began = Instant::now();
        while jaeger.get("/api/services").is_err() {
            assert!(began.elapsed() < START_BOUND, "Jaeger does not serve:\n{}", jaeger.said());
            thread::sleep(LOOK);
        }
        Some(jaeger)
    }

    fn spawn((program, setpriv): (PathBuf, PathBuf)) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let said = File::create(home.path().join("said")).expect("the directory is ours");
        let ports: Vec<SocketAddr> = free_ports(7).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("--collector.otlp.enabled=true");
        let listeners = [
            "collector.otlp.grpc",
            "query.http-server",
            "collector.otlp.http",
            "query.grpc-server",
            "collector.grpc-server",
            "collector.http-server",
            "admin.http",
        ];
        for (listener, address) in listeners.iter().zip(&ports) {
            command.arg(format!("--{listener}.host-port={address}"));
        }
        command.env("SPAN_STORAGE_TYPE", "memory");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        let process = process::spawn(command).expect("it can be started");
        Self { process, home, otlp: ports[0], query: ports[1] }
    }

    /// Where spans are sent, OTLP over gRPC.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// The JSON of its query API at this path, such as `/api/traces/4bf9…`.
    ///
    /// # Errors
    /// It can not be reached, or its answer is not a success.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.query)?;
        stream.set_read_timeout(Some(ANSWER_BOUND))?;
        // 1.0: the answer comes in one piece and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.query)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(io::Error::other(head.to_owned())) }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
