//! The edge as its peers meet it: real sockets, real TLS, tonic's server behind it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod support;

mod bounds;
mod cutting;
mod dev_ca;
mod reload;
mod strangers;
