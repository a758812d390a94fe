//! The magic recipients of `airut dev`: partners that misbehave on purpose, so that whoever writes a sender sees what comes of it.
//!
//! What one makes of a delivery follows from its name and the attempt alone, and nothing is remembered, so a restart changes nothing.
//! They pull: what was pulled and is not settled comes again when its lease has ended, while a stream would have to be kept open.
//! `magic-expire` collects nothing at all, and so is not played.

use std::{path::Path, time::Duration};

use airut_client::{CallError, Client};
use airut_domain::id::PartnerId;
use airut_wire::v1::{
    Delivery, PullRequest, Settlement,
    settlement::{Accepted, Outcome, Rejected},
};
use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{caller, dev::Definition};

/// Their definitions, which a data directory for production never has.
const PARTNERS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/magic-partners.rs"));

/// What everybody may send them.
const MESSAGE_TYPES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/magic-message-types.rs"));

/// The right to do so, for the end of a partner's definition.
const EVERYONE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/exchange/magic/everyone.toml"));

/// As many deliveries are pulled at once.
const MOST: i32 = 100;

/// How long a pull waits for the first delivery: less than the exchange's 30 s at most.
const WAIT: Duration = Duration::from_secs(20);

/// How long a call may take beside the waiting.
const DEADLINE: Duration = Duration::from_secs(10);

/// The shortest lease there is: whoever waits for it to end does not wait long.
const LEASE: Duration = Duration::from_secs(1);

/// How long after a fault it is pulled again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a recipient makes of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    /// Rejects them.
    Reject,
    /// Says nothing, ever.
    Stall,
    /// Says nothing of the first attempt, and accepts the second.
    Duplicate,
}

/// Who is played.
const PLAYED: [(&str, Behaviour); 3] =
    [("magic-reject", Behaviour::Reject), ("magic-stall", Behaviour::Stall), ("magic-duplicate", Behaviour::Duplicate)];

/// The definitions with those of the magic recipients, and everybody's right to practise with them.
pub(crate) fn added_to(mut definitions: Vec<Definition>) -> Vec<Definition> {
    // Operators and auditors exchange nothing.
    let exchanges =
        |definition: &&mut Definition| definition.directory == "partners" && definition.text.contains("[[delivery]]");
    definitions.iter_mut().filter(exchanges).for_each(|definition| definition.text.push_str(EVERYONE));
    definitions.extend(Definition::all("partners", PARTNERS));
    definitions.extend(Definition::all("message-types", MESSAGE_TYPES));
    definitions
}

/// The recipients at play.
pub(crate) struct Magic {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Magic {
    /// Has them collect at this exchange, with their certificates of the data directory.
    ///
    /// # Errors
    /// With the file that can not be read.
    pub(crate) async fn start(server: &str, dir: &Path) -> anyhow::Result<Self> {
        let mut magic = Self { tasks: JoinSet::new(), stop: CancellationToken::new() };
        for (name, behaviour) in PLAYED {
            let partner: PartnerId = name.parse().context("partner")?;
            let client = caller::client(server, dir, &partner).await.context(name)?;
            magic.tasks.spawn(play(client, behaviour, magic.stop.clone()));
        }
        Ok(magic)
    }

    /// Ends them.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Pulls and settles until told to stop. A call under way is dropped then: what it pulled comes again.
async fn play(client: Client, behaviour: Behaviour, stop: CancellationToken) {
    while let Some(pulled) = stop.run_until_cancelled(pull_and_settle(&client, behaviour)).await {
        if let Err(fault) = pulled {
            tracing::warn!(%fault, ?behaviour, "a magic recipient can not collect");
            drop(tokio::time::timeout(AGAIN, stop.cancelled()).await);
        }
    }
}

async fn pull_and_settle(client: &Client, behaviour: Behaviour) -> Result<(), CallError> {
    let (wait, lease) = (Some(airut_wire::duration(WAIT)), Some(airut_wire::duration(LEASE)));
    let request = PullRequest { max_messages: MOST, wait, lease, message_types: Vec::new() };
    let deliveries = client.pull(&request, WAIT + DEADLINE).await?;
    let settled = |delivery: Delivery| {
        let outcome = outcome(behaviour, delivery.attempt)?;
        Some(Settlement { delivery_id: delivery.delivery_id, outcome: Some(outcome) })
    };
    let settlements: Vec<Settlement> = deliveries.into_iter().filter_map(settled).collect();
    if !settlements.is_empty() {
        // One that came too late comes again.
        client.settle(&settlements, DEADLINE).await?;
    }
    Ok(())
}

/// What is said of a delivery; nothing lets its lease end.
fn outcome(behaviour: Behaviour, attempt: i32) -> Option<Outcome> {
    match behaviour {
        Behaviour::Reject => Some(Outcome::Rejected(Rejected {
            code: "MAGIC_REJECT".to_owned(),
            text: "magic-reject rejects whatever it is sent.".to_owned(),
        })),
        Behaviour::Duplicate if attempt > 1 => Some(Outcome::Accepted(Accepted {})),
        Behaviour::Duplicate | Behaviour::Stall => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_exchanges_messages_may_practise_and_nobody_else() {
        let plain = vec![
            Definition { directory: "partners", name: "dvv.toml", text: "[[delivery]]\n".to_owned() },
            Definition { directory: "partners", name: "auditor.toml", text: String::new() },
        ];
        let added = added_to(plain);
        let text = |name: &str| added.iter().find(|d| d.name == name).map(|d| d.text.as_str());
        assert!(text("dvv.toml").is_some_and(|text| text.contains("practice-message")));
        assert_eq!(text("auditor.toml"), Some(""));
        assert!(text("magic-expire.toml").is_some() && text("practice-message.toml").is_some());
        for (name, _) in PLAYED {
            assert!(text(&format!("{name}.toml")).is_some(), "{name} is played and has no definition");
        }
    }
}
