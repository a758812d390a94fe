//! End to end: the real binary as a child process, and clients over its public interface.

#![allow(clippy::large_futures, reason = "a test is awaited once")]
#![allow(clippy::unwrap_used)]

mod processes;
mod support;

mod acks;
mod cli;
mod cluster;
mod crash;
mod delivery;
mod deploy;
mod desk;
mod disk;
mod documents;
mod frozen;
mod gateways;
mod guide;
mod hostile;
mod keys;
mod local;
mod magic;
mod message_types;
mod partners;
mod privacy;
mod requests;
mod rules;
mod sync;
mod traces;
