//! The typed layer on the log: commands in, proof that they are recorded out.

use std::sync::Arc;

use airut_domain::{
    id::Incarnation,
    keys::Digest,
    partition::{Partition, Position, Topic},
    record::{BodyRef, Header, Kind, RULES, Stored},
    time::Timestamp,
};

use crate::{AppendError, KeyRing, Log, Random, UnsealError, Unstamped, seal};

/// Appends commands that have no body: builds the header. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HeaderWriter {
    log: Log,
    author: Incarnation,
    random: Random,
}

impl HeaderWriter {
    /// A writer whose records name this process as their author. `random` gives the records' nonces, and must be
    /// unpredictable outside a simulation.
    pub fn new(log: Log, author: Incarnation, random: Random) -> Self {
        Self { log, author, random }
    }

    /// Whom its records name as their author.
    pub fn author(&self) -> &Incarnation {
        &self.author
    }

    /// Appends a command. Durable when it returns; see [`Log::append`] on cancelling it. That it is recorded does not
    /// mean that it is accepted: that the fold says.
    ///
    /// # Errors
    /// [`AppendError`] says whether the record may be there.
    ///
    /// # Panics
    /// When a command is put into another topic's partition.
    pub async fn append<T: Clone + Into<Kind>>(
        &self,
        partition: Partition,
        command: T,
        traceparent: &str,
    ) -> Result<Recorded<T>, AppendError> {
        self.append_with(partition, command, traceparent, |_| (Vec::new(), None)).await
    }

    /// Appends a command with the body that `seal` makes of its nonce.
    async fn append_with<T: Clone + Into<Kind>>(
        &self,
        partition: Partition,
        command: T,
        traceparent: &str,
        seal: impl FnOnce(&[u8; 16]) -> (Vec<u8>, Option<BodyRef>),
    ) -> Result<Recorded<T>, AppendError> {
        let kind = command.clone().into();
        assert_eq!(topic(&kind), partition.topic, "a record of another topic");
        let nonce = self.random.bytes();
        let (body, reference) = seal(&nonce);
        let header = Header { rules: RULES, nonce, author: self.author.clone(), body: reference, kind };
        let header = airut_wire::record::encode(&header);
        let record = Unstamped { header, body, traceparent: traceparent.to_owned() };
        let (position, stamp) = self.log.append(partition, record).await?;
        Ok(Recorded { command, position, stamp })
    }
}

/// Appends commands as records: builds the header, seals the body. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    headers: HeaderWriter,
    ring: Arc<KeyRing>,
}

impl Writer {
    /// A writer that seals bodies with the ring's keys.
    pub fn new(headers: HeaderWriter, ring: Arc<KeyRing>) -> Self {
        Self { headers, ring }
    }

    /// Appends a command with its body, if it has one, as [`HeaderWriter::append`] does.
    ///
    /// # Errors
    /// [`AppendError`] says whether the record may be there.
    ///
    /// # Panics
    /// When a command is put into another topic's partition.
    pub async fn append<T: Clone + Into<Kind>>(
        &self,
        partition: Partition,
        command: T,
        body: Option<&[u8]>,
        traceparent: &str,
    ) -> Result<Recorded<T>, AppendError> {
        let seal = |nonce: &[u8; 16]| self.seal(nonce, body.unwrap_or_default());
        self.headers.append_with(partition, command, traceparent, seal).await
    }

    /// Opens the body of a record as read from the log; empty when it has none.
    ///
    /// # Errors
    /// [`UnsealError`], when it is not the body that was sealed for this record, or its key is not in the ring.
    pub fn open_body(&self, stored: &Stored, header: &Header) -> Result<Vec<u8>, UnsealError> {
        seal::open(&self.ring, stored, header)
    }

    fn seal(&self, nonce: &[u8; 16], body: &[u8]) -> (Vec<u8>, Option<BodyRef>) {
        if body.is_empty() {
            return (Vec::new(), None);
        }
        let (key, id) = self.ring.active_body_key();
        let sealed = seal::seal(key, id, nonce, self.headers.random.bytes(), body);
        let reference = BodyRef { sha256: Digest::of(&sealed), key: id.clone() };
        (sealed, Some(reference))
    }
}

/// Proof that a command is in the log, durably. Only [`Writer::append`] makes one; only a fold can say more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<T> {
    command: T,
    position: Position,
    stamp: Timestamp,
}

impl<T> Recorded<T> {
    /// The command.
    pub fn command(&self) -> &T {
        &self.command
    }

    /// Its record's place.
    pub fn position(&self) -> Position {
        self.position
    }

    /// When the log took it.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// The command, for good.
    pub fn into_command(self) -> T {
        self.command
    }
}

const fn topic(kind: &Kind) -> Topic {
    match kind {
        Kind::Message(_) => Topic::Messages,
        Kind::Query(_) => Topic::Queries,
        Kind::Document(_) => Topic::Documents,
        Kind::Request(_) => Topic::Requests,
        Kind::Refusal(_) => Topic::Refusals,
        Kind::Partner(_) => Topic::Partners,
        Kind::Member(_) => Topic::Members,
        Kind::Order(_) => Topic::Order,
    }
}
