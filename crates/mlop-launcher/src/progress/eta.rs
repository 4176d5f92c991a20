//! Estimates of the time that is left.

use tokio::time::Instant;

/// Seconds until step `of`, at the average speed between the first step and the last one, which were seen at these times.
/// None before there is a second step, and when nothing is left.
pub(super) fn seconds(first: (u64, Instant), last: (u64, Instant), of: u64, now: Instant) -> Option<u64> {
    let done = last.0.checked_sub(first.0).filter(|done| *done > 0)?;
    let left = of.checked_sub(last.0).filter(|left| *left > 0)?;
    let took = u64::try_from(last.1.duration_since(first.1).as_millis()).ok().filter(|took| *took > 0)?;
    let milliseconds = u128::from(took) * u128::from(left) / u128::from(done);
    let since = now.duration_since(last.1).as_secs();
    let seconds = u64::try_from(milliseconds / 1_000).ok()?;
    Some(seconds.saturating_sub(since)).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_left_follows_the_speed() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (first, last, of, now, left) in [
            ((0, 0), (10, 20), 100, 20, Some(180)),
            // Time passes without a report.
            ((0, 0), (10, 20), 100, 50, Some(150)),
            ((0, 0), (10, 20), 100, 999, None),
            // An attempt that goes on from a checkpoint.
            ((500, 0), (600, 10), 1_000, 10, Some(40)),
            ((5, 0), (5, 10), 100, 10, None),
            ((0, 0), (10, 0), 100, 0, None),
            ((0, 0), (100, 20), 100, 20, None),
            ((0, 0), (101, 20), 100, 20, None),
            ((0, 0), (1, 1_000_000), u64::MAX, 0, None),
        ] {
            let found = seconds((first.0, at(first.1)), (last.0, at(last.1)), of, at(now));
            assert_eq!(found, left, "{first:?} {last:?} {of}");
        }
    }
}
