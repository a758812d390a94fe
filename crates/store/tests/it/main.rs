//! Tests of the store through its surface.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod conformance;
mod keys;
mod s3;
mod support;
