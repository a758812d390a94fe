//! The rules of the domain against what is written about them.

mod disclosure;
mod documents;
mod error_pages;
mod lives;
mod mailbox;
mod model;
mod registry;
mod requests;

/// How many cases a property is tried with.
fn cases() -> u32 {
    cases_or(50_000)
}

/// The same for a property whose cases are long.
fn cases_or(usual: u32) -> u32 {
    std::env::var("AIRUT_PROPTEST_CASES").map_or(usual, |cases| cases.parse().expect("a number of cases"))
}
