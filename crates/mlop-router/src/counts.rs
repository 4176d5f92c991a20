//! The counters of one version, read from the text of a router's metrics, and their change in an interval.

use crate::metrics::Ending;

/// The share of requests that are faster than the percentile.
const PERCENTILE: f64 = 0.99;

/// Counters of one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: f64,
    pub errors: f64,
    /// Requests that it has answered with a status from 400 to 499.
    pub refused: f64,
    /// Number of answers up to each number of seconds, in the order of the buckets.
    buckets: Vec<(f64, f64)>,
}

impl Counts {
    /// Those of `version`. Lines that are of something else, or cannot be read, are skipped.
    pub fn parse(text: &str, version: &str) -> Self {
        let mut counts = Self::default();
        for (name, labels, value) in text.lines().filter_map(sample) {
            if label(labels, "version") != Some(version) {
                continue;
            }
            match name {
                "mlop_router_requests_total" => {
                    let text = label(labels, "ending");
                    let ending = Ending::ALL.into_iter().find(|known| text == Some(known.as_str()));
                    counts.requests += value;
                    counts.errors += if ending.is_some_and(Ending::is_error) { value } else { 0.0 };
                    counts.refused += if ending == Some(Ending::Refused) { value } else { 0.0 };
                }
                "mlop_router_request_duration_seconds_bucket" => {
                    let end = match label(labels, "le") {
                        Some("+Inf") => f64::INFINITY,
                        text => text.and_then(|text| text.parse().ok()).unwrap_or(f64::NAN),
                    };
                    counts.buckets.push((end, value));
                }
                _ => {}
            }
        }
        counts
    }

    /// The change since `before`. A router that has started again since then has counted from zero.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.requests < before.requests {
            return self.clone();
        }
        let earlier = |end: f64| {
            let found = before.buckets.iter().find(|(bucket, _)| bucket.total_cmp(&end).is_eq());
            found.map_or(0.0, |(_, count)| *count)
        };
        Self {
            requests: self.requests - before.requests,
            errors: (self.errors - before.errors).max(0.0),
            refused: (self.refused - before.refused).max(0.0),
            buckets: self.buckets.iter().map(|(end, n)| (*end, (n - earlier(*end)).max(0.0))).collect(),
        }
    }

    /// The sum of two routers.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.requests += other.requests;
        self.errors += other.errors;
        self.refused += other.refused;
        for (end, count) in &other.buckets {
            match self.buckets.iter_mut().find(|(bucket, _)| bucket.total_cmp(end).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => self.buckets.push((*end, *count)),
            }
        }
        self
    }

    /// The 99th percentile of the time to an answer in seconds: NaN without answers, infinite beyond the last bucket.
    pub fn p99(&self) -> f64 {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let total = buckets.last().map_or(0.0, |(_, count)| *count);
        if total <= 0.0 {
            return f64::NAN;
        }
        let rank = PERCENTILE * total;
        let (mut low, mut below) = (0.0, 0.0);
        for (end, count) in buckets {
            if count >= rank {
                let part = if count > below { (rank - below) / (count - below) } else { 1.0 };
                return if end.is_finite() { low + (end - low) * part } else { f64::INFINITY };
            }
            (low, below) = (end, count);
        }
        f64::NAN
    }
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = head.split_once('{')?;
    Some((name, labels.strip_suffix('}')?, value.parse().ok()?))
}

/// The value of a label. Those of a router have no quotes and commas in them.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use std::time::Duration;

    #[test]
    fn counts_read_back_from_the_text_of_a_router() {
        let metrics = Metrics::new();
        let (canary, stable) = (metrics.version("c"), metrics.version("s"));
        for (ending, times) in [
            (Ending::Ok, 90),
            (Ending::Refused, 5),
            (Ending::Failed, 3),
            (Ending::Unreachable, 1),
            (Ending::Broken, 1),
        ] {
            (0..times).for_each(|_| canary.ended(ending));
        }
        (0..99).for_each(|_| canary.answered(Duration::from_millis(7)));
        canary.answered(Duration::from_millis(700));
        stable.ended(Ending::Ok);
        let text = metrics.text().unwrap();
        let counts = Counts::parse(&text, "c");
        assert_eq!((counts.requests, counts.errors, counts.refused), (100.0, 5.0, 5.0));
        assert!((0.005..=0.01).contains(&counts.p99()), "{}", counts.p99());
        assert_eq!(Counts::parse(&text, "s").requests, 1.0);
        assert!(Counts::parse(&text, "s").p99().is_nan(), "nothing was answered");
        assert_eq!(Counts::parse(&text, "other"), Counts::default());
        metrics.forget("c");
        assert_eq!(Counts::parse(&metrics.text().unwrap(), "c"), Counts::default());
    }

    fn counts(requests: f64, buckets: &[(f64, f64)]) -> Counts {
        Counts { requests, errors: 0.0, refused: 0.0, buckets: buckets.to_vec() }
    }

    #[test]
    fn interval_counts_what_came_since_its_beginning() {
        let before = counts(10.0, &[(0.1, 10.0), (f64::INFINITY, 10.0)]);
        let after = counts(30.0, &[(0.1, 10.0), (f64::INFINITY, 30.0)]);
        let change = after.since(&before);
        assert_eq!(change.requests, 20.0);
        assert!(change.p99().is_infinite(), "all 20 are beyond the last bucket");
        let restarted = counts(3.0, &[(0.1, 3.0), (f64::INFINITY, 3.0)]);
        assert_eq!(restarted.since(&before).requests, 3.0);
        assert_eq!(after.since(&Counts::default()).requests, 30.0, "a router that has come since");
    }

    #[test]
    fn percentile_is_interpolated_in_its_bucket() {
        let rows = [
            ("one bucket", counts(0.0, &[(1.0, 100.0), (f64::INFINITY, 100.0)]), 0.99),
            ("two buckets", counts(0.0, &[(1.0, 98.0), (2.0, 100.0), (f64::INFINITY, 100.0)]), 1.5),
            ("at an end", counts(0.0, &[(1.0, 99.0), (2.0, 100.0), (f64::INFINITY, 100.0)]), 1.0),
        ];
        for (situation, counts, want) in rows {
            assert!((counts.p99() - want).abs() < 1e-9, "{situation}: {}", counts.p99());
        }
    }

    #[test]
    fn sum_of_routers_adds_bucket_by_bucket() {
        let (fast, slow) = (
            counts(1.0, &[(0.1, 1.0), (f64::INFINITY, 1.0)]),
            counts(2.0, &[(0.1, 0.0), (f64::INFINITY, 2.0)]),
        );
        let sum = fast.plus(&slow);
        assert_eq!(sum, counts(3.0, &[(0.1, 1.0), (f64::INFINITY, 3.0)]));
    }

    #[test]
    fn unreadable_text_counts_nothing() {
        for text in [
            "",
            "x",
            "a b",
            "mlop_router_requests_total{version=\"c\" 1",
            "{} 1",
            "# HELP mlop_router_requests x",
        ] {
            assert_eq!(Counts::parse(text, "c"), Counts::default(), "{text:?}");
        }
    }
}
