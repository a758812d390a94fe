//! Desks of organisations of their own, each a process, at which officials sign in with a real provider.

use std::{net::SocketAddr, path::Path, sync::OnceLock};

use airut_testkit::{
    Browser, By, WindowOptions, free_ports,
    keycloak::{Client, Keycloak, PASSWORD, Realm, User},
};

use super::{
    Official, PDF, file,
    story::{AINO_HAS_DONE, Scripts, VAINO_HAS_DONE, goes_its_way, is_in_the_logs, no_address_names},
};
use crate::support::{Data, Exchange, airut, dev, persons};

const fn user<'a>(
    username: &'a str,
    name: &'a str,
    organisation: &'a str,
    title: &'a str,
    roles: &'a [&'a str],
) -> User<'a> {
    let (unit, telephone) = ("Perustoimeentulotuki", "020 000 0000");
    User { username, first_name: name, last_name: "Esimerkki", organisation, title, unit, telephone, roles }
}

const USERS: [User<'static>; 4] = [
    user("aino", "Aino", "kela", "case-worker", &["documents", "requests", "notices"]),
    user("eeva", "Eeva", "kela", "supervisor", &["supervisor"]),
    user("vaino", "Väinö", "pirkanmaa", "social-worker", &["queries", "documents", "requests", "notices"]),
    user("helmi", "Helmi", "pirkanmaa", "supervisor", &["supervisor"]),
];

/// The provider that the tests share, which takes half a minute to start.
pub(super) fn keycloak() -> Option<&'static Keycloak> {
    static KEYCLOAK: OnceLock<Option<Keycloak>> = OnceLock::new();
    let start = || {
        let places = &["https://localhost:*"];
        let desk = Client { id: "desk", redirects: places, after_logout: places };
        Keycloak::start(&[Realm::new("officials", &[desk], &USERS)])
    };
    KEYCLOAK.get_or_init(start).as_ref()
}

/// A desk of one organisation's own, as `airut serve` runs it.
pub(super) struct OwnDesk {
    _process: Exchange,
    url: String,
}

impl OwnDesk {
    /// Of the exchange at this address, whose data directory has the certificates.
    pub(super) async fn start(organisation: &str, exchange: SocketAddr, data: &Path, keycloak: &Keycloak) -> Self {
        let port = free_ports(1)[0];
        let own = data.join(format!("desk-of-{organisation}"));
        std::fs::create_dir_all(&own).unwrap();
        let (pki, own, url) = (data.join("pki"), own.display(), format!("https://localhost:{port}"));
        let (issuer, secret, pki) = (keycloak.issuer("officials"), keycloak.secret(), pki.display());
        // What else Kela receives goes elsewhere.
        let collect = if organisation == "kela" { "collect = [\"social-assistance-document\"]" } else { "" };
        let text = format!(
            "roles = [\"desk\"]
            data = \"{own}\"
            [desk]
            listen = \"127.0.0.1:{port}\"
            public_url = \"{url}\"
            certificate = \"{pki}/server.crt\"
            key = \"{pki}/server.key\"
            server = \"{exchange}\"
            ca = \"{pki}/ca.crt\"
            receipt_keys = \"{pki}/receipt-keys.txt\"
            sealing_key = \"{own}/desk.key\"
            largest_document_mib = 1
            [desk.organisations.{organisation}]
            certificate = \"{pki}/{organisation}.crt\"
            key = \"{pki}/{organisation}.key\"
            {collect}
            [desk.sign_in]
            issuer = \"{issuer}\"
            client_id = \"desk\"
            client_secret = \"{secret}\"
            [telemetry]
            filter = \"warn\"",
            secret = secret.display(),
        );
        let config = data.join(format!("desk-of-{organisation}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut serve = airut();
        serve.args(["serve", "--config"]).arg(config);
        Self { _process: Exchange::start(serve).await, url }
    }

    /// A browser window of its own, in which this user has signed in with the provider.
    pub(super) async fn official(&self, browser: &Browser, username: &str, language: &str) -> Official {
        let options =
            WindowOptions { languages: language, trusting: true, remembers: true, ..WindowOptions::default() };
        let official =
            Official { window: browser.window(options).await, desk: self.url.clone(), language: language.to_owned() };
        official.open("/").await;
        official.window.click(By::Css("main form button")).await;
        signs_in(&official, username).await;
        official.window.find(By::Css("nav.menu")).await;
        official
    }
}

/// Gives name and password at the provider.
async fn signs_in(official: &Official, username: &str) {
    official.window.fill(By::Css("#username"), username).await;
    official.window.fill(By::Css("#password"), PASSWORD).await;
    official.window.click(By::Css("#kc-login")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_its_way_between_two_desks_whose_officials_sign_in_with_their_provider() {
    let Some(browser) = Browser::start() else { return };
    let Some(keycloak) = tokio::task::spawn_blocking(keycloak).await.unwrap() else { return };
    let data = Data::new();
    let exchange = Exchange::start(dev(data.path())).await;
    let kela = OwnDesk::start("kela", exchange.address, data.path(), keycloak).await;
    let pirkanmaa = OwnDesk::start("pirkanmaa", exchange.address, data.path(), keycloak).await;
    let person = persons(data.path()).swap_remove(0);
    let aino = kela.official(&browser, "aino", "en").await;
    let vaino = pirkanmaa.official(&browser, "vaino", "en").await;

    let id = goes_its_way(&aino, &vaino, &person, Scripts::Run).await;

    no_address_names(&aino, &person).await;
    no_address_names(&vaino, &person).await;
    let eeva = kela.official(&browser, "eeva", "en").await;
    is_in_the_logs(&aino, "Aino Esimerkki", &eeva, &id, &AINO_HAS_DONE).await;
    let helmi = pirkanmaa.official(&browser, "helmi", "en").await;
    is_in_the_logs(&vaino, "Väinö Esimerkki", &helmi, &id, &VAINO_HAS_DONE).await;

    // A file that is too large is refused in words, with and without scripts, and what was typed stays.
    let large = file(data.path(), "large.pdf", &[PDF, &vec![b' '; 3 << 20]].concat());
    for scripts in [Scripts::Run, Scripts::Forbidden] {
        if scripts == Scripts::Forbidden {
            vaino.window.forbid_scripts().await;
        }
        vaino.open("/documents/new").await;
        vaino.window.fill(By::Css("#field-case"), "PH-7").await;
        vaino.window.upload(By::Css("#field-files"), &[&large]).await;
        vaino.window.click(By::Css("form.upload button")).await;
        vaino.window.shows("The file large.pdf is too large: at most").await;
        assert_eq!(vaino.window.value(By::Css("#field-case")).await, "PH-7");
    }

    // The provider knows who has signed in, until they sign out.
    aino.open("/").await;
    aino.window.client().delete_cookie("__Host-airut").await.unwrap();
    aino.open("/log").await;
    aino.window.click(By::Css("main form button")).await;
    aino.window.find(By::Css("nav.menu")).await;
    assert!(aino.window.url().await.ends_with("/en/log"), "one is where one wanted to be");
    aino.window.click(By::Button("Sign out")).await;
    aino.window.click(By::Button("Sign in with your organisation’s account")).await;
    aino.window.find(By::Css("#password")).await;
    // Who is of another organisation has no place at this desk.
    signs_in(&aino, "vaino").await;
    aino.window.shows("Your organisation has no desk here").await;
    assert!(!aino.window.has(By::Css("nav.menu")).await);
}
