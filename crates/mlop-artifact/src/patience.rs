//! Repeating requests to a store that does not answer.

use mlop_api::{Reason, result::Failure};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a request is repeated while the store does not answer. Delays double and are jittered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Time from the first failure to the last attempt; zero: one attempt.
    pub total: Duration,
    /// First delay.
    pub shortest: Duration,
    /// Longest delay.
    pub longest: Duration,
}

impl Patience {
    /// A single attempt.
    pub const NONE: Self = Self::of(Duration::ZERO);

    /// Attempts for `total`, with delays from 200 ms to 15 s.
    pub const fn of(total: Duration) -> Self {
        Self { total, shortest: Duration::from_millis(200), longest: Duration::from_secs(15) }
    }

    /// Repeats `work` while it fails because the store does not answer.
    ///
    /// # Errors
    /// Every other failure at once, and [`Reason::StoreUnreachable`] after the total time.
    pub async fn repeat<T, F>(self, mut work: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut pauses = self.pauses();
        loop {
            match work().await {
                Err(failure) if is_passing(&failure) => pauses.wait(failure).await?,
                other => return other,
            }
        }
    }

    /// The delays of one piece of work.
    pub fn pauses(self) -> Pauses {
        Pauses { patience: self, next: self.shortest, since: None }
    }
}

/// Whether repeating the request can help: the store did not answer, or answered that it cannot at the moment, or its
/// Secret is being replaced.
pub fn is_passing(failure: &Failure) -> bool {
    failure.retryable && matches!(failure.reason, Reason::StoreUnreachable | Reason::SecretMissing)
}

/// The delays between the attempts at one piece of work.
#[derive(Debug)]
pub struct Pauses {
    patience: Patience,
    next: Duration,
    since: Option<Instant>,
}

impl Pauses {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `failure` when the patience is used up.
    pub async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let delay = jittered(self.next);
        if since.elapsed() + delay > self.patience.total {
            return Err(failure);
        }
        tracing::warn!(
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "{}; trying again",
            failure.message
        );
        sleep(delay).await;
        self.next = (self.next * 2).min(self.patience.longest);
        Ok(())
    }
}

/// Between half of `delay` and all of it.
fn jittered(delay: Duration) -> Duration {
    let random = RandomState::new().hash_one(delay) >> 32;
    delay.mul_f64(0.5 + 0.5 * random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Patience = Patience {
        total: Duration::from_secs(5),
        shortest: Duration::from_millis(1),
        longest: Duration::from_millis(2),
    };

    async fn attempts(patience: Patience, failure: Failure, successes_after: usize) -> (usize, bool) {
        let mut made = 0;
        let result = patience
            .repeat(|| {
                made += 1;
                let result = if made > successes_after { Ok(()) } else { Err(failure.clone()) };
                async { result }
            })
            .await;
        (made, result.is_ok())
    }

    #[tokio::test]
    async fn patience_repeats_only_when_the_store_is_unreachable() {
        let unreachable = Failure::transient(Reason::StoreUnreachable, "x");
        assert_eq!(attempts(SHORT, unreachable.clone(), 20).await, (21, true));
        assert_eq!(attempts(Patience::NONE, unreachable.clone(), 20).await, (1, false));
        let brief = Patience { total: Duration::from_millis(1), ..SHORT };
        let (made, succeeded) = attempts(brief, unreachable, 1_000).await;
        assert!(made < 10 && !succeeded, "{made}");
        let denied = Failure::terminal(Reason::StoreDenied, "x");
        assert_eq!(attempts(SHORT, denied, 20).await, (1, false));
    }
}
