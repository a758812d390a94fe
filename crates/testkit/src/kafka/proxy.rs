//! A proxy before a broker: what is said to the broker always comes there, what the broker answers only while told so.
//!
//! Kafka tells its clients where to come, so a node behind a proxy needs a listener that names the proxy's address:
//! [`Access::Behind`](super::Access::Behind). Clients that were given the node's own address come to it directly.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
};

use crate::free_ports;

/// A proxy. Its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// Until it is told where to lead.
    listener: Option<TcpListener>,
    rule: watch::Sender<Rule>,
    lost: Arc<AtomicU64>,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    /// Whether answers are lost.
    swallows: bool,
    /// How many times all connections were cut.
    cuts: u64,
}

impl Proxy {
    /// A proxy that listens. It takes connections once it [knows](Self::lead_to) where they are to lead.
    ///
    /// # Panics
    /// No port is free, or another process takes it meanwhile.
    pub async fn bind() -> Self {
        let address = (Ipv4Addr::LOCALHOST, free_ports(1)[0]).into();
        let listener = TcpListener::bind(address).await.expect("the port is free");
        Self { address, listener: Some(listener), rule: watch::Sender::default(), lost: Arc::default() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections from now on, and leads them there.
    ///
    /// # Panics
    /// It was told before.
    pub fn lead_to(&mut self, broker: SocketAddr) {
        let listener = self.listener.take().expect("it is told once");
        let (mut rule, lost) = (self.rule.subscribe(), Arc::clone(&self.lost));
        tokio::spawn(async move {
            loop {
                select! {
                    accepted = listener.accept() => if let Ok((client, _)) = accepted {
                        tokio::spawn(lead(client, broker, rule.clone(), Arc::clone(&lost)));
                    },
                    changed = rule.changed() => if changed.is_err() {
                        // The proxy is gone.
                        return;
                    },
                }
            }
        });
    }

    /// From now on the broker's answers are lost.
    pub fn swallow(&self) {
        self.rule.send_modify(|rule| rule.swallows = true);
    }

    /// Cuts every connection, and lets those that come after it through in both directions: an answer missing from the middle
    /// of a connection would make nonsense of what follows.
    pub fn heal(&self) {
        self.rule.send_modify(|rule| *rule = Rule { swallows: false, cuts: rule.cuts + 1 });
    }

    /// How much of the broker's answers was lost so far, in bytes.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One connection, until one of its sides or the proxy ends it.
async fn lead(client: TcpStream, broker: SocketAddr, mut rule: watch::Receiver<Rule>, lost: Arc<AtomicU64>) {
    let cuts = rule.borrow().cuts;
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let now = rule.clone();
    let answers = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = from_broker.read(&mut bytes).await?;
            if count == 0 {
                return io::Result::Ok(());
            }
            if now.borrow().swallows {
                lost.fetch_add(count as u64, Ordering::Relaxed);
            } else {
                to_client.write_all(&bytes[..count]).await?;
            }
        }
    };
    select! {
        _ = tokio::io::copy(&mut from_client, &mut to_broker) => {}
        _ = answers => {}
        // Or the proxy is gone, which is an error.
        _ = rule.wait_for(|rule| rule.cuts > cuts) => {}
    }
}
