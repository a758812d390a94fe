//! What tests share: a throwaway PKI ([`Pki`]), a real Kafka ([`kafka`]), a real
//! S3 server ([`S3`]), a real [`Browser`], a real identity provider ([`keycloak`]), waits that have a bound ([`eventually`]) and
//! parts of the machine that may be missing ([`available`]).
//!
//! Everything here panics where a test should fail. Nothing here stands in for a part of the exchange: tests use the
//! real ones.

mod pki;
pub use pki::{Pki, now, system_clock};

mod parts;
pub use parts::{available, require};

mod ports;
pub use ports::free_ports;

mod process;

mod jaeger;
pub use jaeger::Jaeger;

mod s3;
pub use s3::S3;

pub mod kafka;

mod browser;
pub use browser::{Browser, By, Violation, Window, WindowOptions};
pub use fantoccini::key::Key;

pub mod keycloak;

use std::time::Duration;

/// Waits until the condition holds, looking at it every 5 milliseconds.
///
/// # Panics
/// It did not hold within the bound.
#[track_caller]
pub fn eventually(bound: Duration, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let holds = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(bound, holds).await;
        assert!(in_time.is_ok(), "{caller}: did not come to hold within {bound:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_end_when_the_condition_holds() {
        let mut looks = 0;
        eventually(Duration::from_secs(10), async || {
            looks += 1;
            looks == 3
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "did not come to hold within 20ms")]
    async fn waits_have_a_bound() {
        eventually(Duration::from_millis(20), async || false).await;
    }
}
