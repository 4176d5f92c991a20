//! What a measurement proves about a new version. Without numbers it proves nothing.
//!
//! A status from 400 to 499 may be the fault of the client, and then both versions answer so. A new version that refuses
//! more than the stable one in the same interval is to blame itself.

use jiff::Timestamp;
use mlop_api::{
    result::ResultDocument,
    rollout::{Analysis, Measurement, Verdict},
    task::MEASURED,
};

/// Number of standard errors beyond which a difference of two shares is no chance: one measurement in 700 without any.
const SIGNIFICANT: f64 = 3.0;

/// Judges the requests that `result` counts by the bounds of `analysis`.
pub fn judge(analysis: &Analysis, step: u32, result: &ResultDocument, now: Timestamp) -> Measurement {
    let [requests, errors, p99, stable, refused, stable_refused] = MEASURED.map(|name| {
        let metric = result.metrics.iter().find(|metric| metric.name == name);
        metric.map_or(f64::NAN, mlop_api::common::Metric::number)
    });
    let refusals = Refusals { new: (refused, requests), stable: (stable_refused, stable) };
    let (verdict, message) = verdict(analysis, requests, errors, p99, &refusals);
    Measurement {
        step,
        verdict,
        requests: count(requests),
        errors: count(errors),
        p99: p99.is_finite().then(|| format!("{p99:.4}")),
        stable_requests: count(stable),
        message,
        at: now.into(),
    }
}

/// Refused requests and all requests of both versions.
struct Refusals {
    new: (f64, f64),
    stable: (f64, f64),
}

impl Refusals {
    /// Whether the new version refuses a larger share than the stable one, by more than `bound` and more than chance.
    /// Fewer than `enough` requests to the stable version are nothing to compare with.
    fn exceed(&self, bound: f64, enough: u32) -> bool {
        let ((new, of_new), (stable, of_stable)) = (self.new, self.stable);
        // A number that is not one compares with nothing.
        if !(of_stable >= f64::from(enough) && of_stable > 0.0 && of_new > 0.0) {
            return false;
        }
        let difference = new / of_new - stable / of_stable;
        let pooled = (new + stable) / (of_new + of_stable);
        let error = (pooled * (1.0 - pooled) * (of_new.recip() + of_stable.recip())).sqrt();
        difference > bound && difference > SIGNIFICANT * error
    }
}

fn verdict(
    analysis: &Analysis,
    requests: f64,
    errors: f64,
    p99: f64,
    refusals: &Refusals,
) -> (Verdict, String) {
    let is_count = |number: f64| number.is_finite() && number >= 0.0;
    if !is_count(requests) || !is_count(errors) {
        return (Verdict::Inconclusive, "no router could be asked".to_owned());
    }
    let wanted = analysis.min_requests;
    if requests < f64::from(wanted) {
        let seconds = analysis.interval.as_secs();
        let message = format!("{requests} requests in {seconds} s; minRequests is {wanted}");
        return (Verdict::Inconclusive, message);
    }
    // A bound that is no number is kept by nothing.
    let (share, bound) = (errors / requests, analysis.max_error_rate.parse().unwrap_or(0.0));
    if share.is_nan() || share > bound {
        let message = format!("{errors} of {requests} requests failed; maxErrorRate is {bound}");
        return (Verdict::Failed, message);
    }
    if refusals.exceed(bound, wanted) {
        let ((new, _), (stable, of_stable)) = (refusals.new, refusals.stable);
        let message = format!(
            "{new} of {requests} requests were refused with a status from 400 to 499, and {stable} of {of_stable} by the stable \
             version; maxErrorRate is {bound}"
        );
        return (Verdict::Failed, message);
    }
    if let Some(bound) = &analysis.max_p99 {
        if p99.is_nan() {
            return (Verdict::Inconclusive, "the time to an answer is unknown".to_owned());
        }
        if p99 > bound.parse().unwrap_or(0.0) {
            let message = format!("the 99th percentile is {p99:.4} s; maxP99 is {bound}");
            return (Verdict::Failed, message);
        }
    }
    (Verdict::Passed, format!("{errors} of {requests} requests failed"))
}

/// A number that is not one counts nothing.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast of a float saturates, and takes NaN to zero"
)]
fn count(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::common::Metric;

    /// The verdict on these values of `requests`, `errors` and `p99`, with bounds of 5 % and 0.25 s from 50 requests on.
    fn verdict_on(values: &[(&str, f64)]) -> Verdict {
        let analysis = Analysis { max_p99: Some("0.25".to_owned()), ..Analysis::default() };
        let metrics = values.iter().map(|(name, value)| Metric::new(*name, *value)).collect();
        let result = ResultDocument { metrics, ..Default::default() };
        judge(&analysis, 1, &result, Timestamp::UNIX_EPOCH).verdict
    }

    #[test]
    fn measurement_proves_something_only_with_enough_numbers() {
        use Verdict::{Failed, Inconclusive, Passed};
        let of = |requests, errors, p99| [("requests", requests), ("errors", errors), ("p99", p99)];
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let rows = [
            ("all good", of(100.0, 0.0, 0.1), Passed),
            ("errors at the bound", of(100.0, 5.0, 0.1), Passed),
            ("errors above the bound", of(100.0, 6.0, 0.1), Failed),
            ("all fail", of(50.0, 50.0, nan), Failed),
            ("p99 at the bound", of(100.0, 0.0, 0.25), Passed),
            ("p99 above the bound", of(100.0, 0.0, 0.26), Failed),
            ("p99 beyond all buckets", of(100.0, 0.0, inf), Failed),
            ("p99 unknown", of(100.0, 0.0, nan), Inconclusive),
            ("one request too few", of(49.0, 0.0, 0.1), Inconclusive),
            ("too few, and all fail", of(49.0, 49.0, 0.1), Inconclusive),
            ("no requests", of(0.0, 0.0, nan), Inconclusive),
            ("requests unknown", of(nan, 0.0, 0.1), Inconclusive),
            ("errors unknown", of(100.0, nan, 0.1), Inconclusive),
            ("requests without end", of(inf, 0.0, 0.1), Inconclusive),
            ("negative", of(100.0, -1.0, 0.1), Inconclusive),
        ];
        for (situation, values, want) in rows {
            assert_eq!(verdict_on(&values), want, "{situation}");
        }
        assert_eq!(verdict_on(&[]), Inconclusive, "no data");
        assert_eq!(verdict_on(&[("requests", 100.0)]), Inconclusive, "half of the data");
    }

    #[test]
    fn new_version_may_refuse_what_the_stable_one_refuses() {
        use Verdict::{Failed, Passed};
        let nan = f64::NAN;
        let rows = [
            ("nobody is refused", (0.0, 100.0), (0.0, 900.0), Passed),
            ("all are refused, and by the stable version none", (100.0, 100.0), (0.0, 900.0), Failed),
            ("all are refused by both", (100.0, 100.0), (900.0, 900.0), Passed),
            ("the same share", (20.0, 100.0), (180.0, 900.0), Passed),
            ("a larger share that may be chance", (28.0, 100.0), (180.0, 900.0), Passed),
            ("a larger share that is none", (40.0, 100.0), (180.0, 900.0), Failed),
            ("within maxErrorRate, though no chance", (5.0, 100.0), (0.0, 9e6), Passed),
            ("beyond maxErrorRate", (6.0, 100.0), (0.0, 9e6), Failed),
            ("a smaller share", (0.0, 100.0), (450.0, 900.0), Passed),
            ("enough requests to the stable version", (100.0, 100.0), (0.0, 50.0), Failed),
            ("one too few", (100.0, 100.0), (0.0, 49.0), Passed),
            ("none", (100.0, 100.0), (0.0, 0.0), Passed),
            ("unknown for the stable version", (100.0, 100.0), (nan, 900.0), Passed),
            ("unknown for the new one", (nan, 100.0), (0.0, 900.0), Passed),
        ];
        for (situation, (refused, requests), (stable_refused, stable), want) in rows {
            let measured = [requests, 0.0, 0.1, stable, refused, stable_refused];
            let values: Vec<_> = MEASURED.into_iter().zip(measured).collect();
            assert_eq!(verdict_on(&values), want, "{situation}");
        }
    }
}
