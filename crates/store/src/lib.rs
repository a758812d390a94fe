//! What lies outside the log: objects, and the keys that open what is sealed.
//!
//! The log only grows, and is never rewritten. What must be forgotten on its day, or is too large for a record, lies here:
//!
//! - [`Objects`]: named bytes, each written whole. In a local directory, in an S3-compatible store, or in memory.
//! - [`KeyStore`]: the keys that bodies are sealed with, one for each family, day and partner. Each is an object, wrapped
//!   by a key that only the configuration has. Whoever has the log and the objects, but not that key, reads nothing.
//!   Erasing a key makes everything sealed with it unreadable, wherever copies of it may be.
//!
//! What this crate must never do: give two callers two keys of one name, make a key anew that was erased, say that
//! something is there before it is durable, wait without bound, or put what an object holds into an error or a log line.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod source;

mod name;
mod objects;

mod data_key;
mod keys;
mod wrapping;

pub use self::{
    data_key::{DataKey, Family, key_id},
    keys::{EraseOutcome, Erased, FamilyStatus, KEPT_FOR, KeyError, KeyStatus, KeyStore, Rewrapped},
    name::{InvalidName, ObjectName},
    objects::{
        BOUND, Created, LocalSettings, MOST_BYTES, Memory, ObjectError, ObjectMeta, Objects, OpenError, PAGE,
        S3Settings, Settings, Swapped, Version,
    },
    source::{Clock, Random},
    wrapping::{NoSuchKey, Wrapping},
};
