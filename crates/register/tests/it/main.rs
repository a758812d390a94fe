//! The register as its callers see it, and the partner definitions that name its benefits.

#![allow(clippy::unwrap_used)]

mod partners;
mod persons;
mod plausible;
mod serving;
