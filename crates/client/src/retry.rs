//! Trying again: how often, and how long to wait in between.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

use crate::{connect::Client, error::CallError, trace::Traced};

/// No call waits longer than this, whatever its deadline.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// How calls are tried again. Eight tries wait up to some twelve seconds in all: enough for a gateway to be replaced.
pub(crate) const CALLS: Backoff = Backoff { tries: 8, first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// A bounded exponential back-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// How often to try in all.
    pub(crate) tries: u32,
    /// The wait after the first failure, before jitter.
    pub(crate) first: Duration,
    /// The greatest wait, before jitter.
    pub(crate) most: Duration,
}

impl Backoff {
    /// How long to wait after this many failures, of which the last said `hint`. Half of the wait is jitter, so that
    /// clients that failed together do not come back together; `random` lies in 0..1. A hint is a lower bound.
    pub(crate) fn delay(&self, failures: u32, hint: Option<Duration>, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let half = doubled.min(self.most) / 2;
        hint.unwrap_or(half) + half.mul_f64(random)
    }
}

impl Client {
    /// Calls until it succeeds, fails for good, has been tried often enough, or the deadline leaves no time for another
    /// try. `attempt` gets the time that is left.
    ///
    /// Cancel safe: dropping the future drops the call; the exchange may have recorded it.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Duration,
        mut attempt: impl FnMut(Traced, Duration) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + deadline.min(LONGEST_CALL);
        let (mut failures, mut before) = (0, None);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let found = match timeout_at(end, attempt(self.traced(), left)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => CallError::from(status),
                Err(_) => CallError::DeadlinePassed,
            };
            // That the exchange could not be reached says more than that the time is over. Whether it has the call nobody knows either way.
            let fault = before.take().filter(|_| found == CallError::DeadlinePassed).unwrap_or(found);
            failures += 1;
            if failures == CALLS.tries || !fault.may_pass() {
                return Err(fault);
            }
            let delay = CALLS.delay(failures, fault.retry_after(), rand::random());
            if Instant::now() + delay >= end {
                return Err(fault);
            }
            sleep(delay).await;
            before = Some(fault).filter(|fault| matches!(fault, CallError::Unreachable(_)));
        }
    }
}

/// A request that tells the exchange how much time is left.
pub(crate) fn timed<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_jittered() {
        let ms = Duration::from_millis;
        assert_eq!(CALLS.delay(1, None, 0.0), ms(50));
        assert_eq!(CALLS.delay(1, None, 1.0), ms(100));
        assert_eq!(CALLS.delay(3, None, 0.5), ms(300));
        assert_eq!(CALLS.delay(u32::MAX, None, 1.0), CALLS.most);
    }

    #[test]
    fn a_hint_is_never_undercut() {
        let hint = Duration::from_secs(2);
        assert_eq!(CALLS.delay(1, Some(hint), 0.0), hint);
        assert!(CALLS.delay(1, Some(hint), 0.9) > hint);
    }
}
