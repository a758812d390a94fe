//! An edge with tonic's server behind it, and a client that speaks HTTP/2 to it.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use airut_domain::{
    partner::{CertificateMatch, CertificateName, Kind, Partner, State},
    refusal::Reason,
    registry::{Entry, Registry},
    time::Timestamp,
};
use airut_identity::{
    Bounds, Handle, Listener, Stranger, TlsSettings, caller,
    dev_ca::{ISSUER, Issued},
};
use airut_testkit::{Pki, now};
use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{body::Body, transport::Server};

/// Longer than anything here should take.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Edge {
    pub pki: Pki,
    pub address: SocketAddr,
    pub handle: Handle,
    pub registry: Arc<ArcSwap<Registry>>,
    pub strangers: mpsc::Receiver<Stranger>,
    /// Lets calls to `/hold` be answered.
    pub release: Arc<Notify>,
    ahead: Arc<AtomicI64>,
    stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<()>,
}

impl Edge {
    /// Serves the active partners `pirkanmaa` and `helsinki`.
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn bounded(bounds: Bounds) -> Self {
        Self::with(|settings, _| settings.bounds = bounds).await
    }

    pub async fn with(adjust: impl FnOnce(&mut TlsSettings, &Pki)) -> Self {
        let pki = Pki::new();
        let mut settings = pki.tls_settings();
        adjust(&mut settings, &pki);
        let registry = Arc::new(ArcSwap::from_pointee(Registry::default()));
        let ahead = Arc::new(AtomicI64::new(0));
        let clock_ahead = Arc::clone(&ahead);
        let clock = Arc::new(move || Timestamp::from_millis(now().as_millis() + clock_ahead.load(Ordering::SeqCst)));
        let (teller, strangers) = mpsc::channel(4096);
        let local = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(local, settings, Arc::clone(&registry), clock, teller).unwrap();
        let (address, handle) = (listener.address(), listener.handle());
        let release = Arc::new(Notify::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let service = service(Arc::clone(&registry), Arc::clone(&release));
        let serving = Server::builder().serve_with_incoming_shutdown(service, listener.accept(), async {
            let _ = stopped.await;
        });
        let served = tokio::spawn(async { serving.await.unwrap() });
        let edge = Self { pki, address, handle, registry, strangers, release, ahead, stop: Some(stop), served };
        edge.put(&partner("pirkanmaa"));
        edge.put(&partner("helsinki"));
        edge
    }

    /// Defines a partner anew.
    pub fn put(&self, partner: &Partner) {
        let mut registry = Registry::clone(&self.registry.load());
        let version = registry.get(&partner.id).map_or(0, |entry| entry.version) + 1;
        registry.insert(Entry { version, partner: partner.clone(), source: None });
        self.registry.store(Arc::new(registry));
    }

    pub fn advance(&self, span: Duration) {
        self.ahead.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
        self.handle.recheck();
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// The next refusal that is told.
    pub async fn stranger(&mut self) -> Stranger {
        timeout(LONG, self.strangers.recv()).await.expect("a stranger is told").unwrap()
    }

    pub async fn client(&self, partner: &str) -> Client {
        Client::connect(self.address, self.pki.client(&self.pki.partner(partner))).await.unwrap()
    }

    pub async fn client_of(&self, issued: &Issued) -> io::Result<Client> {
        Client::connect(self.address, self.pki.client(issued)).await
    }

    /// Connects in a way that must be refused, and gives what was told of it.
    pub async fn refused(&mut self, config: ClientConfig) -> Stranger {
        let refused = match Client::connect(self.address, config).await {
            // In TLS 1.3 the client is done before the server has looked at its certificate.
            Ok(mut client) => client.get("/who").await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "a call was answered");
        self.stranger().await
    }
}

pub fn partner(id: &str) -> Partner {
    let uri = CertificateName::Uri(format!("urn:airut:partner:{id}"));
    Partner {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        kind: Kind::WellbeingServicesCounty,
        state: State::Active,
        revoked: BTreeSet::new(),
        certificates: vec![CertificateMatch { issuer: ISSUER.to_owned(), name: uri }],
        contracts: Vec::new(),
        deliveries: Vec::new(),
        quota: None,
    }
}

pub fn suspended(id: &str) -> Partner {
    Partner { state: State::Suspended, ..partner(id) }
}

type Call = http::Request<Body>;

/// Says who is calling; at `/hold`, once released.
fn service(
    registry: Arc<ArcSwap<Registry>>,
    release: Arc<Notify>,
) -> impl tower::Service<
    Call,
    Response = http::Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<Body>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Call| {
        let (registry, release) = (Arc::clone(&registry), Arc::clone(&release));
        async move {
            if request.uri().path() == "/hold" {
                release.notified().await;
            }
            let answer = match caller(request.extensions(), &registry.load()) {
                Ok(verified) => http::Response::builder().header("caller", verified.id().as_str()),
                Err(unidentified) => http::Response::builder().header("reason", unidentified.refusal.reason.code()),
            };
            Ok(answer.body(Body::empty()).unwrap())
        }
    })
}

/// Who the server says is calling, or why nobody is.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Caller(String),
    Refused(Reason),
}

impl Answer {
    pub fn caller(id: &str) -> Self {
        Self::Caller(id.to_owned())
    }
}

pub struct Client {
    requests: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    /// Ends when the connection does.
    pub ended: JoinHandle<()>,
}

impl Client {
    pub async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        Self::over(tls(TcpStream::connect(address).await?, config).await?, address).await
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(source: [u8; 4], address: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        Self::over(tls(socket.connect(address).await?, config).await?, address).await
    }

    async fn over(tls: TlsStream<TcpStream>, address: SocketAddr) -> io::Result<Self> {
        let (requests, connection) = h2::client::handshake(tls).await.map_err(io::Error::other)?;
        let ended = tokio::spawn(async {
            let _ = connection.await;
        });
        Ok(Self { requests, address, ended })
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, h2::Error> {
        timeout(LONG, self.begin(path).await?).await.expect("the call ends")
    }

    /// Sends a request; what it gives waits for the answer.
    pub async fn begin(
        &mut self,
        path: &str,
    ) -> Result<impl Future<Output = Result<Answer, h2::Error>> + use<>, h2::Error> {
        let uri = format!("https://{}{path}", self.address);
        let request = http::Request::get(uri).body(()).unwrap();
        std::future::poll_fn(|cx| self.requests.poll_ready(cx)).await?;
        let (answer, _) = self.requests.send_request(request, true)?;
        Ok(async {
            let answer = answer.await?;
            let text = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            Ok(match text("caller") {
                Some(caller) => Answer::Caller(caller),
                None => Answer::Refused(Reason::from_code(&text("reason").unwrap()).unwrap()),
            })
        })
    }

    /// Waits until the connection has ended.
    pub async fn is_cut(&mut self) {
        timeout(LONG, &mut self.ended).await.expect("the connection ends").unwrap();
    }
}

pub async fn tls(stream: TcpStream, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
