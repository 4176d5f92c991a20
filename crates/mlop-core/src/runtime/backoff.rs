//! Delays as pure functions.
//!
//! The `backoff` crate computes the exponential series; its own randomization is off, because jitter comes from a
//! seed of ours so that the same history gives the same delays.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use mlop_api::common::Retry;
use std::time::Duration;

/// First and longest delay after a failed pass.
const PASS_DELAY_MIN: Duration = Duration::from_millis(200);
const PASS_DELAY_MAX: Duration = Duration::from_secs(300);
/// First and longest delay before a request is repeated.
const REQUEST_DELAY_MIN: Duration = Duration::from_millis(50);
const REQUEST_DELAY_MAX: Duration = Duration::from_secs(2);
/// First and longest delay before the API server is tried again that could not be reached. Short, because everything
/// waits for it, and harmless, because only a few passes of each controller look meanwhile.
const OUTAGE_DELAY_MIN: Duration = Duration::from_millis(200);
const OUTAGE_DELAY_MAX: Duration = Duration::from_secs(2);

/// Delay before the attempt that follows `failures` failed ones (at least one), as the user asked for, plus up to
/// a tenth by `seed`.
pub fn attempt_delay(retry: &Retry, failures: u32, seed: &str) -> Duration {
    let factor = retry.factor.parse().unwrap_or(2.0);
    let base = nth(retry.initial.as_duration(), factor, retry.max.as_duration(), failures);
    base + base.mul_f64(unit(seed, failures) / 10.0)
}

/// Delay after the `failures`-th failed pass over one object (at least one): full jitter over the upper half.
pub fn pass_delay(failures: u32, seed: &str) -> Duration {
    spread(nth(PASS_DELAY_MIN, 2.0, PASS_DELAY_MAX, failures), seed, failures)
}

/// Delay before the `n`-th repetition of a request (at least one).
pub fn request_delay(n: u32, seed: &str) -> Duration {
    spread(nth(REQUEST_DELAY_MIN, 2.0, REQUEST_DELAY_MAX, n), seed, n)
}

/// Delay after the API server could not be reached `failures` times in a row (at least one).
pub fn outage_delay(failures: u32, seed: &str) -> Duration {
    spread(nth(OUTAGE_DELAY_MIN, 2.0, OUTAGE_DELAY_MAX, failures), seed, failures)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_maximum_and_repeat_for_a_seed() {
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
    fn a_pass_is_tried_again_between_100_ms_and_5_minutes() {
        for failures in 1..200 {
            let delay = pass_delay(failures, "uid");
            assert!(delay >= Duration::from_millis(100) && delay <= PASS_DELAY_MAX, "{failures}: {delay:?}");
        }
    }
}
