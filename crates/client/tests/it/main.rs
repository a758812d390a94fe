//! The client against an exchange played by a tonic server: in memory with paused time, and over TLS on the loopback.

#![allow(clippy::unwrap_used)]

mod collect;
mod exchange;
mod query;
mod send;
mod serve;
mod tls;
