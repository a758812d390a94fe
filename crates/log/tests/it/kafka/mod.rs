//! The log on a real Kafka: the suite against one node and against three, and what this engine promises besides.
//!
//! The tests of a run share one Kafka of each size, each test a log of its own under another prefix. A test that kills
//! or freezes nodes has the Kafka to itself, and leaves it whole.

mod cluster;

mod faults;
mod opening;
mod tls;
mod tools;

use airut_log::{KafkaSettings, Log};

use self::cluster::{ONE, Shared, THREE};
use crate::conformance::{Place, conformance};

/// An empty place on that Kafka, if there is one.
async fn place(shared: &'static Shared) -> Option<(Place, impl Sized)> {
    let kafka = shared.together().await?;
    let settings = kafka.settings();
    Some((Place::new(move || open(settings.clone())), kafka))
}

async fn open(settings: KafkaSettings) -> Log {
    Log::kafka(settings).await.unwrap()
}

mod one {
    use super::*;

    conformance! { #[tokio::test] match place(&ONE).await { Some(place) => place, None => return } }
}

mod three {
    use super::*;

    conformance! { #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    match place(&THREE).await { Some(place) => place, None => return } }
}
