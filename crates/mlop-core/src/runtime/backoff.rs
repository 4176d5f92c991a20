//! Backoff delays as pure functions.
//!
//! The `backoff` crate computes the exponential series. Its own randomization is off: jitter comes from a seed, so the
//! same history gives the same delays.

use crate::resource::ApiKind;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use mlop_api::common::Retry;
use std::time::Duration;
use tokio::time::Instant;

/// First and longest delay after a failed reconcile.
const RECONCILE_DELAY_MIN: Duration = Duration::from_millis(200);
const RECONCILE_DELAY_MAX: Duration = Duration::from_secs(300);
/// First and longest delay after an attempt that its node, a preemption or an absent store has ended.
const DISRUPTION_DELAY_MIN: Duration = Duration::from_secs(2);
const DISRUPTION_DELAY_MAX: Duration = Duration::from_secs(300);
/// First and longest delay before a request is repeated.
const REQUEST_DELAY_MIN: Duration = Duration::from_millis(50);
const REQUEST_DELAY_MAX: Duration = Duration::from_secs(2);
/// First and longest delay between probes of an API server that does not answer. Short, because everything waits for it;
/// harmless, because only a few reconciles of each controller probe it.
const OUTAGE_DELAY_MIN: Duration = Duration::from_millis(200);
const OUTAGE_DELAY_MAX: Duration = Duration::from_secs(2);

/// Delay before the attempt that follows `failures` failed ones (at least one): the user's series plus up to a tenth by
/// `seed`.
pub(crate) fn attempt_delay(retry: &Retry, failures: u32, seed: &str) -> Duration {
    let factor = retry.factor.parse().unwrap_or(2.0);
    let base = nth(retry.initial.as_duration(), factor, retry.max.as_duration(), failures);
    base + base.mul_f64(unit(seed, failures) / 10.0)
}

/// Delay before the attempt that follows `disruptions` attempts in a row that ended by no fault of their own (at least
/// one).
pub(crate) fn disruption_delay(disruptions: u32, seed: &str) -> Duration {
    spread(nth(DISRUPTION_DELAY_MIN, 2.0, DISRUPTION_DELAY_MAX, disruptions), seed, disruptions)
}

/// Delay after the `failures`-th failed reconcile of one object (at least one), with jitter over the upper half.
pub(crate) fn reconcile_delay(failures: u32, seed: &str) -> Duration {
    spread(nth(RECONCILE_DELAY_MIN, 2.0, RECONCILE_DELAY_MAX, failures), seed, failures)
}

/// Delay before the `n`-th repetition of a request (at least one).
pub(crate) fn request_delay(n: u32, seed: &str) -> Duration {
    spread(nth(REQUEST_DELAY_MIN, 2.0, REQUEST_DELAY_MAX, n), seed, n)
}

/// Delay after the API server could not be reached `failures` times in a row (at least one).
pub(crate) fn outage_delay(failures: u32, seed: &str) -> Duration {
    spread(nth(OUTAGE_DELAY_MIN, 2.0, OUTAGE_DELAY_MAX, failures), seed, failures)
}

/// A part of `longest` by `seed`.
pub(crate) fn jitter(longest: Duration, seed: &str) -> Duration {
    longest.mul_f64(unit(seed, 0))
}

fn spread(base: Duration, seed: &str, n: u32) -> Duration {
    base.mul_f64(0.5 + unit(seed, n) / 2.0)
}

fn nth(initial: Duration, factor: f64, max: Duration, n: u32) -> Duration {
    let mut series: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(initial.min(max))
        .with_multiplier(factor)
        .with_max_interval(max)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let steps = n.clamp(1, 64);
    (0..steps).filter_map(|_| series.next_backoff()).last().unwrap_or(max).min(max)
}

/// A number in [0, 1) from the seed: FNV-1a, good enough to spread retries.
fn unit(seed: &str, n: u32) -> f64 {
    let hash = seed
        .bytes()
        .chain(n.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// The backoff of one watch after errors. Every restart begins with an event of the watcher itself, so an event is not a
/// sign of recovery. Only time without errors is.
pub(crate) struct WatchBackoff {
    seed: String,
    failures: u32,
    last: Option<Instant>,
}

impl WatchBackoff {
    const RESET_AFTER: Duration = Duration::from_secs(60);

    pub(crate) fn of(kind: &ApiKind) -> Self {
        Self { seed: kind.to_string(), failures: 0, last: None }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() > Self::RESET_AFTER) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        Some(outage_delay(self.failures, &self.seed))
    }
}

impl kube::runtime::utils::Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_delays_grow_to_their_maximum() {
        let retry = Retry::default();
        for (failures, seconds) in [(1, 10), (2, 20), (3, 40), (6, 300), (60, 300)] {
            let delay = attempt_delay(&retry, failures, "uid");
            let base = Duration::from_secs(seconds);
            assert!(delay >= base && delay <= base.mul_f64(1.1), "{failures}: {delay:?}");
            assert_eq!(delay, attempt_delay(&retry, failures, "uid"));
        }
        assert_ne!(attempt_delay(&retry, 1, "a"), attempt_delay(&retry, 1, "b"));
    }

    #[test]
    fn reconcile_delay_is_between_100_ms_and_5_minutes() {
        for failures in 1..200 {
            let delay = reconcile_delay(failures, "uid");
            assert!(
                delay >= Duration::from_millis(100) && delay <= RECONCILE_DELAY_MAX,
                "{failures}: {delay:?}"
            );
        }
    }
}
