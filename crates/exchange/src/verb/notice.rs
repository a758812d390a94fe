//! Notices of dead letters: that a message was not delivered is told to its sender by a message of its own, within seconds, if the
//! contracts of both parties grant a [`DEAD_LETTER_NOTICE`] for the purpose of the first one.
//!
//! It is sent on behalf of the recipient, and its id is that of the record which made the dead letter: whichever gateway comes to
//! it, again or at the same time, sends the same message, and the fold takes it once. What has died is seen by every gateway. Who
//! is to tell of it they agree on by rendezvous; if it does not, another one does after a while. Nothing needs to remember what was
//! told: the id of a message is known for longer than a dead letter is looked at here.

use std::{collections::BTreeMap, time::Duration};

use airut_domain::{
    message::{Place, REMEMBERED},
    partition::Partition,
    refusal::{Reason, Refusal},
    time::Timestamp,
};
use airut_wire::v1;
use futures::future::join_all;
use serde_json::json;

use super::offer::{Shares, partitions};
use crate::{fold::Died, gateway::Gateway, planted::planted};

/// The type of the notices.
pub(crate) const DEAD_LETTER_NOTICE: &str = "dead-letter-notice";

/// How often to look.
const LOOK: Duration = Duration::from_millis(250);

/// Others wait this long, and up to twice that, for the gateway whose turn it is.
const OWNER_FIRST: Duration = Duration::from_secs(2);

/// As many dead letters of a partition are told of at once.
const AT_ONCE: usize = 256;

/// What died longer ago was told of, or never will be: a day less than the id of its notice is remembered.
const TOLD_WITHIN: Duration = Duration::from_secs(REMEMBERED.as_secs() - 24 * 60 * 60);

/// A message that can not be read is tried again for so long.
const UNREADABLE: Duration = Duration::from_secs(60 * 60);

/// Up to where the dead letters of each partition have been told of: the record that made one, and its place.
type Told = BTreeMap<Partition, (u64, Place)>;

impl Gateway {
    /// Tells senders what was not delivered, until the gateway stops.
    pub(crate) async fn tell_of_dead_letters(self) {
        let mut told: Told = partitions().map(|partition| (partition, (0, Place { offset: 0, item: 0 }))).collect();
        while !self.stop.is_cancelled() {
            for (partition, told) in &mut told {
                self.tell_in(*partition, told).await;
            }
            drop(tokio::time::timeout(LOOK, self.stop.cancelled()).await);
        }
    }

    async fn tell_in(&self, partition: Partition, told: &mut (u64, Place)) {
        let (now, patience) = (self.world.now(), self.world.jittered(OWNER_FIRST));
        let died = self.folds.died_after(partition, *told, AT_ONCE);
        if died.is_empty() || !self.folds.registry_is_current(now) {
            return;
        }
        let gateways = self.folds.gateways();
        let shares = Shares::new(self.incarnation.as_str(), gateways.iter().map(|gateway| gateway.as_str()));
        let due = |died: &Died| shares.is_own(partition, died.place) || now.since(died.at) >= patience;
        let telling = died.iter().map(|died| async { due(died) && self.tell(partition, died, now).await.is_ok() });
        // What could not be told, or is another's to tell, is looked at again, and all that comes after it: told twice is told once.
        let done = join_all(telling).await;
        if let Some((last, _)) = died.iter().zip(done).take_while(|(_, done)| *done).last() {
            *told = (last.offset, last.place);
        }
    }

    /// Tells of one dead letter, unless there is nothing to tell or nobody who may be told.
    async fn tell(&self, partition: Partition, died: &Died, now: Timestamp) -> Result<(), Refusal> {
        if died.message_type.as_str() == DEAD_LETTER_NOTICE || now.since(died.at) >= TOLD_WITHIN {
            return Ok(());
        }
        let Some(recipient) = self.folds.registry().current(&died.recipient) else { return Ok(()) };
        let Some(notice) = self.dead_letter_notice(partition, died).await else {
            let again = now.since(died.at) < UNREADABLE;
            return if again { Err(Refusal::new(Reason::LogUnavailable)) } else { Ok(()) };
        };
        if planted!(OnlyExpiredTold) && !String::from_utf8_lossy(&notice.payload).contains("EXPIRED") {
            return Ok(());
        }
        match self.send_on_behalf(recipient, notice).await {
            Some(Err(refusal)) if refusal.retry_after.is_some() => Err(refusal),
            Some(Ok(_) | Err(_)) | None => Ok(()),
        }
    }

    /// The notice: byte for byte the same at every gateway.
    async fn dead_letter_notice(&self, partition: Partition, died: &Died) -> Option<v1::SendRequest> {
        let messages = self.messages_at(partition, died.place.offset).await?;
        let body = messages.get(usize::try_from(died.place.item).ok()?)?;
        let message = <v1::SendRequest as prost::Message>::decode(body.clone()).ok()?;
        let letter = self.dead_letter(partition, died.place).await?;
        let context = message.context?;
        let Place { offset, item } = died.place;
        let name = if planted!(ToldByEach) { self.incarnation.as_str() } else { "dead-letter" };
        let payload = json!({
            "message_id": letter.message_id,
            "message_type": letter.message_type,
            "recipient": letter.recipient,
            "code": letter.code,
            "text": letter.text,
            "time": died.at.to_string(),
        });
        Some(v1::SendRequest {
            message_id: format!("{name}/{}/{}/{offset}/{item}", partition.number, died.offset),
            recipient: letter.sender,
            message_type: DEAD_LETTER_NOTICE.to_owned(),
            ordering_key: String::new(),
            subject_id: message.subject_id,
            context: Some(v1::Context {
                end_user: "airut".to_owned(),
                end_user_role: "exchange".to_owned(),
                ..context
            }),
            content_type: "application/json".to_owned(),
            payload: payload.to_string().into_bytes(),
            expire_time: None,
        })
    }
}
