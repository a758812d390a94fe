//! The reference responder: partner `kela`, with synthetic persons.
//!
//! It answers over the public API like any other responder would, so that the exchange can be tried and tested without
//! anybody's data. Every person in it is made up: the individual number of every identity code is 900 to 999, which
//! people are never given. What a person's history holds follows from the seed, the person's number and the day alone,
//! so it is made when asked for and never kept.
//!
//! It must never hold a real person, read a clock, or be taken for Kela's rules: amounts and habits are plausible, no
//! more.

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

use airut_client::{Client, Question};
pub use register::{MOST_PERSONS, Register};
use tokio_util::sync::CancellationToken;

/// How many questions may wait at once. Each takes well under a millisecond; more would only queue here.
const MAX_IN_FLIGHT: NonZeroU16 = NonZeroU16::new(1024).expect("not zero");

/// Answers questions out of `register` until `shutdown` is cancelled; see [`Client::serve`]. Each is a span `answer` in
/// the trace of its question.
pub async fn run(client: Client, register: Arc<Register>, shutdown: CancellationToken) {
    let answer = move |question: Question| {
        let register = Arc::clone(&register);
        async move {
            let _span = airut_telemetry::span::answer(&question.question_id, &question.traceparent);
            Ok(register.answer(&question))
        }
    };
    client.serve(MAX_IN_FLIGHT, answer, shutdown).await;
}
