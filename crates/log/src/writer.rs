//! The typed layer on the log: commands in, proof that they are recorded out.

use airut_domain::{
    id::Incarnation,
    keys::Digest,
    partition::{Partition, Position, Topic},
    record::{BodyRef, Header, Kind, RULES, Stored},
    time::Timestamp,
};

use airut_store::{KeyStore, key_id};

use crate::{AppendError, Cause, Log, Random, UnsealError, Unstamped, seal};

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
        let kind = command.clone().into();
        self.append_with(partition, command, kind, traceparent, |_| (Vec::new(), None)).await
    }

    /// Appends a command with the body that `seal` makes of its nonce.
    async fn append_with<T>(
        &self,
        partition: Partition,
        command: T,
        kind: Kind,
        traceparent: &str,
        seal: impl FnOnce(&[u8; 16]) -> (Vec<u8>, Option<BodyRef>),
    ) -> Result<Recorded<T>, AppendError> {
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
    keys: KeyStore,
}

impl Writer {
    /// A writer that seals bodies with the store's keys, each with that of its family, its reader and the store's day.
    pub fn new(headers: HeaderWriter, keys: KeyStore) -> Self {
        Self { headers, keys }
    }

    /// Appends a command with its body, if it has one, as [`HeaderWriter::append`] does. Waits for the key store, about
    /// once a minute for each key.
    ///
    /// # Errors
    /// [`AppendError`] says whether the record may be there. Without its key a record is not written.
    ///
    /// # Panics
    /// When a command is put into another topic's partition, or has a body and is of a kind that has none.
    pub async fn append<T: Clone + Into<Kind>>(
        &self,
        partition: Partition,
        command: T,
        body: Option<&[u8]>,
        traceparent: &str,
    ) -> Result<Recorded<T>, AppendError> {
        let kind = command.clone().into();
        let Some(body) = body.filter(|body| !body.is_empty()) else {
            return self.headers.append(partition, command, traceparent).await;
        };
        let (family, partner) = seal::sealed_for(&kind).expect("only records of these kinds have bodies");
        let id = key_id(family, self.keys.today(), partner);
        let key = self.keys.key_or_new(&id).await.map_err(|cause| AppendError::NotWritten(Cause::new(cause)))?;
        let seal = |nonce: &[u8; 16]| {
            let sealed = seal::seal(&key, &id, nonce, self.headers.random.bytes(), body);
            let reference = BodyRef { sha256: Digest::of(&sealed), key: id };
            (sealed, Some(reference))
        };
        self.headers.append_with(partition, command, kind, traceparent, seal).await
    }

    /// Opens the body of a record as read from the log; empty when it has none. Waits for the key store unless the key is
    /// in memory. Cancel safe.
    ///
    /// # Errors
    /// [`UnsealError`], when it is not the body that was sealed for this record, or its key can't be had.
    pub async fn open_body(&self, stored: &Stored, header: &Header) -> Result<Vec<u8>, UnsealError> {
        seal::open(&self.keys, stored, header).await
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
