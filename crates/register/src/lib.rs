//! The reference responder: partner `kela`, with synthetic persons.
//!
//! It answers over the public API like any other responder would, so that the exchange can be tried and tested without
//! anybody's data. Every person in it is made up: the individual number of every identity code is 900 to 999, which people
//! are never given. What a person's history holds follows from the seed, the person's number and the day alone, so it is made
//! when asked for and never kept.
//!
//! It must never hold a real person, read a clock, or be taken for Kela's rules: amounts and habits are plausible, no more.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod benefits;
mod calendar;

mod dice;
mod person;

mod life;
mod situation;

mod history;
mod register;

use std::{num::NonZeroU16, sync::Arc};

use airut_client::Client;
pub use register::{MOST_PERSONS, Register};
use tokio_util::sync::CancellationToken;

/// How many questions may wait at once. Each takes well under a millisecond; more would only queue here.
const MAX_IN_FLIGHT: NonZeroU16 = NonZeroU16::new(1024).expect("not zero");

/// Answers questions out of `register` until `shutdown` is cancelled; see [`Client::serve`].
pub async fn run(client: Client, register: Arc<Register>, shutdown: CancellationToken) {
    let answer = move |question| {
        let register = Arc::clone(&register);
        async move { Ok(register.answer(&question)) }
    };
    client.serve(MAX_IN_FLIGHT, answer, shutdown).await;
}

#[cfg(test)]
mod speed {
    #[test]
    #[ignore]
    fn speed() {
        use airut_domain::{matter::Category, time::Period, context::Text, question::Scope, time::Timestamp};
        let today = time::macros::date!(2026-11-22);
        let t = std::time::Instant::now();
        let r = crate::Register::generate(1, 10_000, today);
        println!("generate {:?}", t.elapsed());
        let text = |t| Text::new(t).unwrap();
        for (label, back) in [("year", 12), ("all", 120)] {
        let period = Period::new(airut_domain::time::add_months(today, -back), airut_domain::time::add_months(today, 2)).unwrap();
        let cats = [Category::Pending, Category::Decision, Category::Payment, Category::MedicineCostCap];
        let qs: Vec<_> = r.identity_codes().iter().map(|c| airut_client::Question {
            question_id: "q".into(), asker: "p".parse().unwrap(), subject: *c,
            context: airut_domain::context::Context { end_user: text("a"), end_user_role: text("a"), purpose: "x".parse().unwrap(), legal_basis: "y".parse().unwrap(), case_id: text("c") },
            scopes: cats.iter().map(|c| Scope { category: *c, benefits: Default::default(), period }).collect(),
            deadline: Timestamp::from_millis(0), traceparent: String::new() }).collect();
        let t = std::time::Instant::now();
        let n: usize = qs.iter().map(|q| r.answer(q).len()).sum();
        println!("{label}: {:?} per answer, {} matters", t.elapsed() / 10_000, n as f64 / 10_000.0);
        }
    }
}
