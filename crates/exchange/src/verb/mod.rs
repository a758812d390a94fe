//! The verbs: one file each, to be read beside its page in docs/.

pub(crate) mod announce;
pub(crate) mod collect;
pub(crate) mod fetch_document;
pub(crate) mod notice;
pub(crate) mod offer;
pub(crate) mod pull;
pub(crate) mod query_benefits;
pub(crate) mod request;
pub(crate) mod request_read;
pub(crate) mod request_sweep;
pub(crate) mod request_watch;
pub(crate) mod send;
pub(crate) mod send_document;
pub(crate) mod serve;
pub(crate) mod settle;
pub(crate) mod track;
pub(crate) mod turns;

use airut_domain::{
    partition::{Partition, Topic},
    query::QueryKey,
};
use airut_log::KeyRing;

/// The partition that everything about a query lies in.
pub(crate) fn partition_of(ring: &KeyRing, key: &QueryKey) -> Partition {
    ring.partition_of(Topic::Queries, &[key.asker.as_str().as_bytes(), key.query_id.as_str().as_bytes()])
}
