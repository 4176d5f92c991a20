//! Durations as a distribution.

use serde_json::{Value, json};
use std::{fmt, time::Duration};

/// Sorted durations.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// The longest of the shortest `percent` of all, by the nearest rank; zero when there are none.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        self.per_mille(percent * 10)
    }

    /// The same for thousandths.
    pub(super) fn per_mille(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(1_000).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds for a machine to read.
    pub(super) fn to_json(&self) -> Value {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        let p999 = self.per_mille(999).as_secs_f64() * 1e3;
        json!({"count": self.len(), "p50": millis(50), "p99": millis(99), "p999": p999, "max": millis(100)})
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

/// Median, 99th percentile and longest in milliseconds.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(f, "{:8.1} {:8.1} {:8.1}", millis(50), millis(99), millis(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |millis: &[u64]| millis.iter().map(|it| Duration::from_millis(*it)).collect::<Times>();
        let hundred: Vec<u64> = (1..=100).rev().collect();
        for (times, percent, wanted) in [
            (of(&[]), 50, 0),
            (of(&[7]), 99, 7),
            (of(&[3, 1, 2]), 50, 2),
            (of(&hundred), 99, 99),
            (of(&hundred), 100, 100),
        ] {
            assert_eq!(times.percentile(percent), Duration::from_millis(wanted), "{times:?} {percent}");
        }
        assert_eq!(of(&hundred).per_mille(989), Duration::from_millis(99));
    }
}
