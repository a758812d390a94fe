//! The desk as a process's part: its offices, its sessions, its addresses.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use airut_domain::time::Timestamp;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::Redirect,
    routing::{get, post},
};
use http::HeaderMap;
use tokio::{
    sync::{OnceCell, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    language::Language,
    office::{Office, OfficeSettings},
    official::Official,
    page,
    session::Sessions,
    settings::{Now, Settings, SignIn},
    store::{self, Feedback, KeyFault, SealingKey, Store},
    web::{
        assets,
        fault::Fault,
        guard, live,
        serve::{self, TlsError},
    },
};

/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// How long the first page of an organisation waits for what the exchange says of it.
const FIRST: Duration = Duration::from_secs(3);

/// So many documents may be on their way through the desk at once.
const MOST_DOCUMENTS: usize = 16;

/// The files of one form have together at most the bytes of so many of the largest.
const MOST_AT_ONCE: u64 = 4;

/// Why a desk can not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address.
    #[error("listen: {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Officials may only be chosen on this machine.
    #[error("officials can be chosen on this machine alone: listen on a loopback address")]
    ChoosingAbroad,
    /// Its directory.
    #[error("{0}: {1}")]
    Directory(std::path::PathBuf, std::io::Error),
    /// Its key.
    #[error("key: {0}")]
    Key(#[from] KeyFault),
    /// TLS.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The provider's settings.
    #[error("oidc: {0}")]
    Provider(#[from] crate::oidc::OidcError),
    /// Its own file.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An organisation.
    #[error("organisation {0}: {1}")]
    Office(String, crate::office::OpenError),
}

/// A desk. Clones share it.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    address: SocketAddr,
    now: Now,
    sessions: Sessions,
    provider: Option<crate::oidc::Provider>,
    offices: BTreeMap<String, (OfficeSettings, OnceCell<Arc<Office>>)>,
    /// What is nobody's in particular: feedback.
    general: Store,
    live: Arc<Semaphore>,
    documents: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A desk that serves.
#[derive(Debug)]
pub struct Running {
    desk: Desk,
    server: JoinHandle<()>,
}

impl Running {
    /// Starts a desk. Returns once it serves; the exchange may be down.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: Settings, now: Now) -> Result<Self, StartError> {
        if matches!(settings.sign_in, SignIn::Choose(_)) && !settings.listen.ip().is_loopback() {
            return Err(StartError::ChoosingAbroad);
        }
        std::fs::create_dir_all(&settings.dir).map_err(|cause| StartError::Directory(settings.dir.clone(), cause))?;
        let key = SealingKey::open_or_create(&settings.key)?;
        let general = Store::open(&settings.dir.join("desk.sqlite"), key)?;
        let tls = settings.tls.as_ref().map(|(certificate, key)| serve::acceptor(certificate, key)).transpose()?;
        let listener =
            serve::bind(settings.listen).await.map_err(|cause| StartError::Listen(settings.listen, cause))?;
        let address = listener.local_addr().map_err(|cause| StartError::Listen(settings.listen, cause))?;
        let provider = match &settings.sign_in {
            SignIn::Choose(_) => None,
            SignIn::Provider(oidc) => {
                let own = settings.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
                Some(crate::oidc::Provider::new(oidc.clone(), &format!("{own}/sign-in/callback"))?)
            }
        };
        let offices = settings.offices.iter().map(|office| (office.id.clone(), (office.clone(), OnceCell::new())));
        let desk = Desk(Arc::new(Shared {
            sessions: Sessions::new(settings.limits),
            provider,
            offices: offices.collect(),
            address,
            now,
            general,
            live: Arc::new(Semaphore::new(live::most())),
            documents: Arc::new(Semaphore::new(MOST_DOCUMENTS)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            settings,
        }));
        // Where officials are chosen, an organisation's messages are left alone until one of them comes: others try things out there too.
        if matches!(desk.0.settings.sign_in, SignIn::Provider(_)) {
            for (id, (settings, office)) in &desk.0.offices {
                let opened = office.get_or_try_init(|| desk.open(settings)).await;
                opened.map_err(|cause| StartError::Office(id.clone(), cause))?;
            }
        }
        desk.0.tasks.spawn(desk.clone().sweep());
        let server = tokio::spawn(serve::serve(listener, tls, router(desk.clone()), desk.0.stop.clone()));
        Ok(Self { desk, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.desk.0.address
    }

    /// Stops it in good order.
    pub async fn stop(self) {
        self.desk.0.stop.cancel();
        self.desk.0.tasks.close();
        drop(self.server.await);
        self.desk.0.tasks.wait().await;
    }
}

impl Desk {
    /// An organisation's office, opened if it was not yet.
    pub(crate) async fn office(&self, organisation: &str) -> Result<Arc<Office>, Fault> {
        let (settings, office) = self.0.offices.get(organisation).ok_or(Fault::Forbidden)?;
        let is_new = office.get().is_none();
        let office = office.get_or_try_init(|| self.open(settings)).await.map_err(|cause| {
            tracing::error!(organisation, %cause, "the office can not be opened");
            Fault::Unreachable
        })?;
        if is_new {
            office.ready(FIRST).await;
        }
        Ok(Arc::clone(office))
    }

    async fn open(&self, settings: &OfficeSettings) -> Result<Arc<Office>, crate::office::OpenError> {
        let key = SealingKey::load(&self.0.settings.key);
        // It was read at the start.
        let key = key.map_err(|_| crate::office::OpenError::Store(crate::store::Error::Sealed))?;
        let (shared, stop) = (&self.0, self.0.stop.child_token());
        Office::open(settings, &shared.settings.dir, key, shared.now.clone(), &shared.tasks, stop).await
    }

    /// Whether an organisation hears from the exchange; true of one that nobody has asked for yet.
    pub(crate) fn is_linked(&self, organisation: &str) -> bool {
        self.opened(organisation).is_none_or(|office| office.is_linked())
    }

    fn opened(&self, organisation: &str) -> Option<&Arc<Office>> {
        self.0.offices.get(organisation)?.1.get()
    }

    /// The offices that are open.
    pub(crate) fn offices(&self) -> impl Iterator<Item = &Arc<Office>> {
        self.0.offices.values().filter_map(|(_, office)| office.get())
    }

    pub(crate) fn knows(&self, organisation: &str) -> bool {
        self.0.offices.contains_key(organisation)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.now.get()
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn provider(&self) -> Option<&crate::oidc::Provider> {
        self.0.provider.as_ref()
    }

    /// The officials that one may choose to be; none where there is a provider.
    pub(crate) fn choice(&self) -> Option<&[(String, Vec<Official>)]> {
        match &self.0.settings.sign_in {
            SignIn::Choose(organisations) => Some(organisations),
            SignIn::Provider(_) => None,
        }
    }

    pub(crate) fn live(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.live)
    }

    pub(crate) fn documents(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.documents)
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// The address that browsers have it under, where it was told.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.0.settings.public_url.as_deref()
    }

    /// The address that browsers have it under.
    pub(crate) fn own_url(&self) -> String {
        self.public_url().map_or_else(|| format!("http://{}", self.0.address), str::to_owned)
    }

    /// Whether a host that a browser asked for is this machine.
    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        let port = self.0.address.port();
        let own = [self.0.address.to_string(), format!("localhost:{port}"), format!("127.0.0.1:{port}")];
        own.iter().any(|own| own == host)
    }

    /// Whether browsers have it over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.public_url().is_some_and(|url| url.starts_with("https://"))
    }

    /// Keeps feedback.
    pub(crate) async fn keep_feedback(&self, feedback: Feedback) -> Result<(), store::Error> {
        self.0.general.keep_feedback(feedback).await
    }

    /// All of it.
    pub(crate) async fn feedback(&self) -> Result<Vec<Feedback>, store::Error> {
        self.0.general.feedback().await
    }

    async fn sweep(self) {
        loop {
            let count = u32::try_from(self.sessions().count()).unwrap_or(u32::MAX);
            metrics::gauge!("airut_desk_sessions").set(f64::from(count));
            if tokio::time::timeout(SWEEP, self.0.stop.cancelled()).await.is_ok() {
                return;
            }
            let now = self.now();
            self.sessions().sweep(now);
            let before = |kept: Duration| {
                Timestamp::from_millis(now.as_millis() - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
            };
            let Settings { keep_handled, keep_access_log, .. } = *self.settings();
            for office in self.offices() {
                if let Err(cause) = office.store.sweep(before(keep_handled), before(keep_access_log)).await {
                    tracing::error!(organisation = office.id, %cause, "nothing is swept");
                }
            }
        }
    }
}

/// Every address, in the order in which a day goes.
fn router(desk: Desk) -> Router {
    let largest = desk.settings().largest_document.saturating_mul(MOST_AT_ONCE);
    let largest = usize::try_from(largest).unwrap_or(usize::MAX);
    let pages = Router::new()
        .route("/", get(page::today::show))
        .route("/sign-in", get(page::sign_in::show).post(page::sign_in::choose))
        .route("/sign-out", post(page::sign_in::out))
        .route("/draft", get(page::sign_in::draft))
        .route("/accessibility", get(page::accessibility::show).post(page::accessibility::feedback))
        .route("/queries", get(page::queries::show).post(page::queries::ask))
        .route("/requests", get(page::requests::list).post(page::requests::find))
        .route("/requests/new", get(page::requests::new).post(page::requests::create))
        .route("/requests/{requester}/{id}", get(page::request::show).post(page::request::claim))
        .route("/requests/{requester}/{id}/case.pdf", get(page::request::pdf))
        .route("/requests/{requester}/{id}/documents.zip", get(page::request::documents))
        .route("/requests/{requester}/{id}/attach", post(page::documents::attach))
        .route("/requests/{requester}/{id}/{step}", get(page::request::form).post(page::request::step))
        .route("/documents", get(page::documents::list))
        .route("/documents/new", get(page::documents::new).post(page::documents::send))
        .route("/documents/{sender}/{id}", get(page::documents::show).post(page::documents::act))
        .route("/documents/{sender}/{id}/file", get(page::documents::file))
        .route("/notices", get(page::notices::list))
        .route("/notices/{number}", get(page::notices::show).post(page::notices::act))
        .route("/log", get(page::log::own))
        .route("/users-log", get(page::log::users))
        .route("/feedback", get(page::accessibility::received))
        .route("/live", get(live::live))
        .route("/stay", post(page::sign_in::stay));
    Router::new()
        .route("/", get(home))
        .route("/sign-in/callback", get(page::sign_in::callback))
        .route("/assets/{digest}/{name}", get(assets::get))
        .route("/health", get(|| async { "" }))
        .nest("/fi", pages.clone())
        .nest("/sv", pages.clone())
        .nest("/en", pages)
        .route("/fi/", get(page::today::show))
        .route("/sv/", get(page::today::show))
        .route("/en/", get(page::today::show))
        // Instead of the framework's 2 MB. Each form has a bound of its own besides, and each document.
        .layer(DefaultBodyLimit::max(largest))
        .layer(middleware::from_fn_with_state(desk.clone(), guard::guard))
        .with_state(desk)
}

/// To the first page in the browser's language.
async fn home(headers: HeaderMap) -> Redirect {
    let header = headers.get(http::header::ACCEPT_LANGUAGE).and_then(|header| header.to_str().ok());
    Redirect::to(&format!("/{}/", Language::preferred(header.unwrap_or_default()).code()))
}
