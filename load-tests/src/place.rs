//! Where the load goes: an exchange that is started for it, or one that runs already.

use std::path::{Path, PathBuf};

use airut_client::{Client, ReceiptKeys, Settings};
use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::{
    exchange::{self, Exchange, Shape},
    options::Common,
};

/// An exchange, and what it takes to call it.
pub(crate) struct Place {
    /// Gateways.
    pub(crate) addresses: Vec<String>,
    ledger: String,
    server_name: Option<String>,
    pki: PathBuf,
    persons: PathBuf,
    /// None where it ran already.
    pub(crate) exchange: Option<Exchange>,
    // Last: the exchange is gone before its files.
    _temporary: Option<TempDir>,
}

impl Place {
    /// The exchange that the options name; else one of this shape is started, after `prepare` was done to its directory.
    pub(crate) fn of(
        common: &Common,
        shape: Shape,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        if let Some(first) = common.target.first() {
            let pki =
                common.pki.clone().context("--target needs --pki, the directory of the partners' certificates")?;
            let persons = common.persons.clone().unwrap_or_else(|| pki.join("../persons.txt"));
            return Ok(Self {
                addresses: common.target.clone(),
                ledger: common.ledger.clone().unwrap_or_else(|| first.clone()),
                server_name: common.server_name.clone(),
                pki,
                persons,
                exchange: None,
                _temporary: None,
            });
        }
        let (data, temporary) = match &common.data {
            Some(data) => (data.clone(), None),
            None => {
                let dir = tempfile::tempdir()?;
                (dir.path().join("data"), Some(dir))
            }
        };
        exchange::lay_out(&data)?;
        prepare(&data)?;
        let exchange = Exchange::start(shape, &data)?;
        Ok(Self {
            addresses: exchange.addresses.clone(),
            ledger: exchange.ledger.clone(),
            server_name: None,
            pki: data.join("pki"),
            persons: data.join("persons.txt"),
            exchange: Some(exchange),
            _temporary: temporary,
        })
    }

    /// A client of the gateway of this number, or of one that has it when there are fewer.
    pub(crate) async fn client(&self, partner: &str, gateway: usize) -> anyhow::Result<Client> {
        self.connect(partner, &self.addresses[gateway % self.addresses.len()]).await
    }

    /// A client of the ledger that is shown every entry; none where there are no credentials for it.
    pub(crate) async fn auditor(&self) -> anyhow::Result<Option<Client>> {
        if !self.pki.join("auditor.crt").exists() {
            return Ok(None);
        }
        self.connect("auditor", &self.ledger).await.map(Some)
    }

    async fn connect(&self, partner: &str, address: &str) -> anyhow::Result<Client> {
        let file = |kind: &str| self.pki.join(format!("{partner}.{kind}"));
        let mut settings = Settings::new(address, self.pki.join("ca.crt"), file("crt"), file("key"));
        settings.server_name.clone_from(&self.server_name);
        Client::connect(&settings).await.with_context(|| partner.to_owned())
    }

    pub(crate) fn receipt_keys(&self) -> anyhow::Result<ReceiptKeys> {
        Ok(ReceiptKeys::load(self.pki.join("receipt-keys.txt"))?)
    }

    /// Synthetic identity codes.
    pub(crate) fn persons(&self) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.persons).with_context(|| self.persons.display().to_string())?;
        let persons: Vec<String> = text.lines().map(str::to_owned).collect();
        ensure!(!persons.is_empty(), "{} names nobody", self.persons.display());
        Ok(persons)
    }
}
