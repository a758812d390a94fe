//! The register as its callers see it, and the partner definitions that name its benefits.

mod partners;
mod persons;
mod plausible;
mod serving;
