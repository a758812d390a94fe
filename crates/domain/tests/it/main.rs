//! The rules of the domain against what is written about them.

mod disclosure;
mod error_pages;
mod lives;
mod registry;

/// How many cases a property is tried with.
fn cases() -> u32 {
    std::env::var("AIRUT_PROPTEST_CASES").map_or(50_000, |cases| cases.parse().expect("a number of cases"))
}
