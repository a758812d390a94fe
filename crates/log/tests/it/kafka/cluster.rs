//! The Kafkas that the tests share.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use airut_log::KafkaSettings;
use airut_testkit::kafka::Kafka;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(super) static ONE: Shared = Shared::of(1);
pub(super) static THREE: Shared = Shared::of(3);

/// A Kafka that is started when it is first used, and killed with the process.
pub(super) struct Shared {
    nodes: u32,
    kafka: OnceLock<Option<Kafka>>,
    turns: RwLock<()>,
}

/// A Kafka, and the turn to use it.
pub(super) struct Turn<G> {
    pub(super) kafka: &'static Kafka,
    _turn: G,
}

impl Shared {
    const fn of(nodes: u32) -> Self {
        Self { nodes, kafka: OnceLock::new(), turns: RwLock::const_new(()) }
    }

    /// To use it beside others, which leave it as it is.
    pub(super) async fn together(&'static self) -> Option<Turn<RwLockReadGuard<'static, ()>>> {
        let turn = self.turns.read().await;
        Some(Turn { kafka: self.kafka()?, _turn: turn })
    }

    /// To use it alone, in order to kill and freeze its nodes.
    pub(super) async fn alone(&'static self) -> Option<Turn<RwLockWriteGuard<'static, ()>>> {
        let turn = self.turns.write().await;
        Some(Turn { kafka: self.kafka()?, _turn: turn })
    }

    fn kafka(&'static self) -> Option<&'static Kafka> {
        self.kafka.get_or_init(|| Kafka::start(self.nodes)).as_ref()
    }
}

impl<G> Turn<G> {
    /// A log that is not there yet, held by as many nodes as there are.
    pub(super) fn settings(&self) -> KafkaSettings {
        settings(self.kafka)
    }
}

/// As [`Turn::settings`], on this Kafka.
pub(super) fn settings(kafka: &Kafka) -> KafkaSettings {
    static LOGS: AtomicU32 = AtomicU32::new(0);
    let (replication, min_in_sync) = if kafka.size() < 3 { (1, 1) } else { (3, 2) };
    KafkaSettings {
        prefix: format!("log{}.", LOGS.fetch_add(1, Ordering::Relaxed)),
        replication,
        min_in_sync,
        ..KafkaSettings::at(kafka.bootstrap().split(','))
    }
}
