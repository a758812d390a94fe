//! The records of a message's life: accepted, offered, settled or ended, until it is delivered or a dead letter.
//!
//! A record speaks of many messages of one partition at once, and each of them gets a verdict of its own; what they come
//! to is in [`mailbox`](crate::mailbox).

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{KeyId, LegalBasis, MessageId, MessageType, PartnerId, Purpose, StreamId},
    keys::Digest,
    time::Timestamp,
};

/// As many messages a record may speak of.
pub const MOST_ITEMS: usize = 1024;

/// How long an id is remembered after its message was delivered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A message is delivered no more after this, from its acceptance.
pub const LONGEST: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A dead letter is kept this long, from its acceptance.
pub const DEAD_KEPT: Duration = Duration::from_secs(21 * 24 * 60 * 60);

/// The longest that a lease, a return's delay or a back-off may be.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// A message's place in its partition: the record that accepted it, and its place among that record's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The record's offset.
    pub offset: u64,
    /// Counted from 0.
    pub item: u32,
}

/// One offer of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offer {
    /// The message.
    pub place: Place,
    /// Which offer of it, counted from 1.
    pub number: u32,
}

/// An ordering key, keyed: messages that have the same are delivered one after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderKey(pub [u8; 16]);

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Messages of one sender to one recipient were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who sends.
    pub sender: PartnerId,
    /// Who is to receive.
    pub recipient: PartnerId,
    /// What they are, and the right to send them.
    pub terms: Terms,
    /// The messages.
    pub items: Vec<Item>,
}

/// What messages of one record have in common, as the gateway judged it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Terms {
    /// What they are.
    pub message_type: MessageType,
    /// Why they are sent.
    pub purpose: Purpose,
    /// On which legal basis.
    pub legal_basis: LegalBasis,
    /// The version of the sender's definition that granted it.
    pub contract_version: u32,
    /// The key of the subjects' pseudonyms; none when the messages are not about persons.
    pub subject_key: Option<KeyId>,
    /// After so many failed attempts a message is a dead letter.
    pub attempts: u32,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub back_off: Duration,
    /// What a dead letter means to the later messages of its ordering key.
    pub on_dead: OnDead,
}

/// What a dead letter means to the later messages of its ordering key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDead {
    /// They go on without it.
    #[default]
    Frees,
    /// They wait until it was redriven and delivered, or is forgotten.
    Blocks,
}

/// One accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The sender's id.
    pub id: MessageId,
    /// Keyed digest of content and context: a repeat must have the same.
    pub fingerprint: Digest,
    /// Salted commitment to the payload's digest.
    pub commitment: Digest,
    /// The data subject, as a pseudonym under the year's key.
    pub subject: Option<Digest>,
    /// The end user, keyed.
    pub end_user: Digest,
    /// The case, keyed.
    pub case: Digest,
    /// The ordering key, keyed.
    pub order: Option<OrderKey>,
    /// When it is delivered no more.
    pub expires: Timestamp,
    /// The payload's size.
    pub size_bytes: u32,
}

/// Messages were offered to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Who collects.
    pub recipient: PartnerId,
    /// The collector's stream.
    pub stream: StreamId,
    /// How long the leases run, from the record's stamp.
    pub lease: Duration,
    /// The messages.
    pub messages: Vec<Place>,
}

/// The leases of offers were extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// Who collects.
    pub recipient: PartnerId,
    /// How long the leases run, from the record's stamp.
    pub lease: Duration,
    /// The offers.
    pub offers: Vec<Offer>,
}

/// The recipient has settled deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Who has.
    pub recipient: PartnerId,
    /// Each of them.
    pub settlements: Vec<Settlement>,
}

/// The end of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which offer.
    pub offer: Offer,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The recipient took the message in.
    Accepted,
    /// It is to be delivered again, not before this has passed; none: as its type says.
    Returned(Option<Duration>),
    /// It can never be taken in.
    Rejected(Code),
}

/// Why a recipient rejected a message, in a word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(Arc<str>);

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 characters of A-Z 0-9 _")]
pub struct NoCode;

impl Code {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = NoCode;

    fn from_str(text: &str) -> Result<Self, NoCode> {
        let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        // Six digits in a row could be somebody's date of birth.
        let digits = text.as_bytes().windows(6).any(|some| some.iter().all(u8::is_ascii_digit));
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) || digits {
            Err(NoCode)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl TryFrom<String> for Code {
    type Error = NoCode;

    fn try_from(text: String) -> Result<Self, NoCode> {
        text.parse()
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0.as_ref().to_owned()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Leases ended without a word from the recipient. Only the gateway that offered may say so before their time has come: its
/// stream is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasesEnded {
    /// The offers.
    pub offers: Vec<Offer>,
    /// Whether it is a failed attempt.
    pub attempt: Attempt,
}

/// Whether a lease's end is a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The stream was there and said nothing.
    Counts,
    /// The stream was gone.
    DoesNotCount,
}

/// The time of messages was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The messages.
    pub messages: Vec<Place>,
}

/// The recipient passed messages on to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Who had them.
    pub from: PartnerId,
    /// Who has them now.
    pub to: PartnerId,
    /// The version of the definition of the one that passed them on, which granted it.
    pub contract_version: u32,
    /// The end user who did, keyed.
    pub end_user: Digest,
    /// The offers.
    pub offers: Vec<Offer>,
}

/// Dead letters are to be delivered once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// Who says so: their sender or their recipient.
    pub by: PartnerId,
    /// The messages.
    pub messages: Vec<Place>,
    /// When they are delivered no more.
    pub expires: Timestamp,
}

/// A record of `airut.messages`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Accepted(Accepted),
    Offered(Offered),
    Extended(Extended),
    Settled(Settled),
    LeasesEnded(LeasesEnded),
    Expired(Expired),
    Transferred(Transferred),
    Redriven(Redriven),
}

impl Event {
    /// Of how many messages it speaks.
    pub fn len(&self) -> usize {
        match self {
            Self::Accepted(accepted) => accepted.items.len(),
            Self::Offered(offered) => offered.messages.len(),
            Self::Extended(extended) => extended.offers.len(),
            Self::Settled(settled) => settled.settlements.len(),
            Self::LeasesEnded(ended) => ended.offers.len(),
            Self::Expired(expired) => expired.messages.len(),
            Self::Transferred(transferred) => transferred.offers.len(),
            Self::Redriven(redriven) => redriven.messages.len(),
        }
    }

    /// Whether it speaks of none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partners that it names: they may see it in the ledger.
    pub fn parties(&self) -> Vec<&PartnerId> {
        match self {
            Self::Accepted(accepted) => vec![&accepted.sender, &accepted.recipient],
            Self::Offered(Offered { recipient, .. })
            | Self::Extended(Extended { recipient, .. })
            | Self::Settled(Settled { recipient, .. }) => vec![recipient],
            Self::Transferred(transferred) => vec![&transferred.from, &transferred.to],
            Self::Redriven(redriven) => vec![&redriven.by],
            Self::LeasesEnded(_) | Self::Expired(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_word_and_no_date_of_birth() {
        assert!("WRONG_COUNTY_2".parse::<Code>().is_ok());
        for text in ["", "lower", "A B", "B131052", "Ä"] {
            assert_eq!(text.parse::<Code>(), Err(NoCode), "{text}");
        }
        assert_eq!("X".repeat(65).parse::<Code>(), Err(NoCode));
    }
}
