//! The desk from outside.

#![allow(clippy::unwrap_used, missing_docs)]

mod oidc;
