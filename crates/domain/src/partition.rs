//! Topics, and which partition of one a thing lies in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys::MacKey;

/// A topic of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// Messages, stored and forwarded.
    Messages,
    /// Queries and their answers.
    Queries,
    /// Documents: what is known of them.
    Documents,
    /// Information requests.
    Requests,
    /// What was refused and why.
    Refusals,
    /// The partner registry.
    Partners,
    /// Gateways, their streams and heartbeats.
    Members,
    /// The ledger's order and its checkpoints.
    Order,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Messages,
        Self::Queries,
        Self::Documents,
        Self::Requests,
        Self::Refusals,
        Self::Partners,
        Self::Members,
        Self::Order,
    ];

    /// The name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "airut.messages",
            Self::Queries => "airut.queries",
            Self::Documents => "airut.documents",
            Self::Requests => "airut.requests",
            Self::Refusals => "airut.refusals",
            Self::Partners => "airut.partners",
            Self::Members => "airut.members",
            Self::Order => "airut.order",
        }
    }

    /// The topic of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// How many partitions it has when the log is made; never changed afterwards.
    pub const fn partitions(self) -> u32 {
        match self {
            Self::Messages | Self::Queries | Self::Documents | Self::Requests => 12,
            Self::Refusals => 4,
            Self::Partners | Self::Members | Self::Order => 1,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// Counted from 0.
    pub number: u32,
}

impl Partition {
    /// Every partition of every topic, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        Topic::ALL.into_iter().flat_map(|topic| (0..topic.partitions()).map(move |number| Self { topic, number }))
    }

    /// The only partition of a topic that has one.
    pub const fn only(topic: Topic) -> Self {
        Self { topic, number: 0 }
    }
}

/// `airut.queries/7`
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// A record's place in the log. Offsets count from 0 within a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The place in it.
    pub offset: u64,
}

/// `airut.queries/7/1042`
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// Reads `airut.queries/7/1042`.
pub fn parse_position(text: &str) -> Option<Position> {
    let mut parts = text.split('/');
    let (topic, number, offset) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let partition = Partition { topic: Topic::from_name(topic)?, number: number.parse().ok()? };
    (partition.number < partition.topic.partitions()).then_some(Position { partition, offset: offset.parse().ok()? })
}

/// Writes a place: `airut.queries/7/1042`, or `airut.messages/7/1042/3` for an item of a record.
pub fn format_place(position: Position, item: Option<u32>) -> String {
    item.map_or_else(|| position.to_string(), |item| format!("{position}/{item}"))
}

/// Reads what [`format_place`] writes.
pub fn parse_place(text: &str) -> Option<(Position, Option<u32>)> {
    if let Some(position) = parse_position(text) {
        return Some((position, None));
    }
    let (position, item) = text.rsplit_once('/')?;
    Some((parse_position(position)?, Some(item.parse().ok()?)))
}

/// The partition of a key. The key of the MAC never rotates: where a thing lies must stay the same for as long as it is
/// remembered. It is a MAC so that nobody outside can aim their ids at one partition.
pub fn partition_of(key: &MacKey, topic: Topic, parts: &[&[u8]]) -> Partition {
    let mac = key.mac(topic.name(), parts);
    let number = u64::from_be_bytes(*mac.0.first_chunk().expect("32 bytes")) % u64::from(topic.partitions());
    Partition { topic, number: u32::try_from(number).expect("less than a u32") }
}
