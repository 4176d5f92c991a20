//! What a rollout in steps does next. Its state is in the status, so that a restart goes on with it.
//!
//! Children follow the status that is written, never the one that is planned: a step is recorded before its pods and
//! weights exist.

use crate::judge::judge;
use jiff::{SignedDuration, Timestamp};
use mlop_api::{
    Digest,
    duration::Span,
    labels,
    result::ResultDocument,
    rollout::{
        HISTORY_MAX, PastRollout, RolloutPhase, RolloutSpec, RolloutStatus, RolloutVersion, Step, Verdict,
    },
    run::bounded_request,
};
use mlop_core::condition;
use serde_json::json;

/// Longest message in the history, in bytes.
const PAST_MESSAGE_MAX: usize = 256;

/// The observed state.
pub struct Seen<'a> {
    pub spec: &'a RolloutSpec,
    /// The version to serve; none while its artifact may not be used.
    pub wanted: Option<RolloutVersion>,
    /// The version that the stable pods serve, or are replaced to serve.
    pub stable: RolloutVersion,
    /// Whether all stable pods serve it.
    pub stable_runs: bool,
    /// The pods of the recorded new version at the size of the recorded step.
    pub canary: Pods,
    /// Whether the requests of users pass through routers.
    pub is_routed: bool,
    /// The answer of the recorded measurement.
    pub answer: Option<&'a ResultDocument>,
    pub requests: Requests<'a>,
    pub now: Timestamp,
}

/// What users ask for by annotations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests<'a> {
    /// To try the version again that was rolled back.
    pub retry: Option<&'a str>,
    /// To roll back the version that is rolled out.
    pub cancel: Option<&'a str>,
    /// To promote it.
    pub promote: Option<&'a str>,
}

/// The state of the pods of a new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    Starting,
    Ready,
    /// They did not become ready in time.
    Failed(String),
}

/// The next state. `before` is the recorded one; none if there was no rollout in steps yet.
pub fn next(before: Option<&RolloutStatus>, seen: &Seen<'_>) -> Option<RolloutStatus> {
    let Some(wanted) = &seen.wanted else { return before.map(|before| go_on(before, seen)) };
    if wanted.template == seen.stable.template {
        return before.map(|before| settle(before, seen));
    }
    let attempt = seen.attempt(wanted);
    match before {
        // A newer version waits until the stable pods are of one version.
        Some(before) if before.is_becoming_stable(seen) => Some(settle(before, seen)),
        Some(before) if before.attempt == attempt && before.counts(seen) => Some(go_on(before, seen)),
        _ => Some(seen.begin(before, wanted, attempt)),
    }
}

/// Whether requests are to be measured now.
pub fn is_measuring(status: &RolloutStatus, spec: &RolloutSpec, now: Timestamp) -> bool {
    let (Some(step), Some(since)) = (spec.step(status.step), status.since) else { return false };
    let is_held = now < later(since.get(), &[step.hold]);
    status.phase == RolloutPhase::Progressing && step.weight > 0 && (is_held || !has_passed(status, step))
}

/// When time alone changes the state.
pub fn due(status: &RolloutStatus, spec: &RolloutSpec, now: Timestamp) -> Option<Timestamp> {
    let (step, since) = (spec.step(status.step)?, status.since?);
    let times = [later(since.get(), &[step.hold]), later(since.get(), &[step.hold, spec.analysis.timeout])];
    let is_open = status.phase == RolloutPhase::Progressing;
    times.into_iter().find(|at| is_open && *at > now)
}

fn recorded(request: Option<&str>) -> Option<String> {
    request.map(bounded_request)
}

/// Whether `request` is another one than that of before. One that was taken away asks for nothing.
fn is_new(request: Option<&str>, before: Option<&String>) -> bool {
    request.is_some_and(|request| Some(&bounded_request(request)) != before)
}

/// What a status says about itself.
trait Recorded {
    fn is_becoming_stable(&self, seen: &Seen<'_>) -> bool;
    fn counts(&self, seen: &Seen<'_>) -> bool;
}

impl Recorded for RolloutStatus {
    /// Whether the stable pods are being replaced by those of its new version.
    fn is_becoming_stable(&self, seen: &Seen<'_>) -> bool {
        self.phase == RolloutPhase::Promoting && self.canary.template == seen.stable.template
    }

    /// Whether the attempt is still what decides about its version.
    fn counts(&self, seen: &Seen<'_>) -> bool {
        match self.phase {
            RolloutPhase::Progressing | RolloutPhase::Promoting => true,
            RolloutPhase::RolledBack => !is_new(seen.requests.retry, self.retry_requested_at.as_ref()),
            RolloutPhase::Promoted | RolloutPhase::Withdrawn => false,
        }
    }
}

impl Seen<'_> {
    /// Identity of an attempt with `version`.
    fn attempt(&self, version: &RolloutVersion) -> String {
        Digest::of(&json!([version.template, self.spec])).short(16).to_owned()
    }

    fn begin(
        &self,
        before: Option<&RolloutStatus>,
        wanted: &RolloutVersion,
        attempt: String,
    ) -> RolloutStatus {
        let replaced = before.filter(|before| before.phase.is_open()).map(|before| {
            let message = format!("{} came before it was stable", wanted.words());
            ended(before.clone(), RolloutPhase::Withdrawn, &message, self.now)
        });
        let history = replaced.as_ref().or(before).map(|before| before.history.clone()).unwrap_or_default();
        let mut status = RolloutStatus {
            phase: RolloutPhase::Progressing,
            step: 1,
            weight: 0,
            stable: self.stable.clone(),
            canary: wanted.clone(),
            attempt,
            retry_requested_at: None,
            cancel_requested_at: recorded(self.requests.cancel),
            promote_requested_at: recorded(self.requests.promote),
            since: None,
            measurements: 0,
            last_measurement: None,
            message: String::new(),
            history,
        };
        status.message = self.words(&status);
        status
    }

    /// A rollout under way in words.
    fn words(&self, status: &RolloutStatus) -> String {
        let (name, step, steps) = (status.canary.words(), status.step, self.spec.steps.len());
        let wanted = self.spec.step(step).map_or(0, |step| step.weight);
        match (status.phase, status.since) {
            (RolloutPhase::Promoting, _) => {
                format!("{name} has passed all steps; the stable pods are replaced by its own")
            }
            (_, None) => format!("step {step} of {steps}: the pods of {name} start for weight {wanted}"),
            (_, Some(_)) => {
                format!("step {step} of {steps}: {name} answers {} % of the requests", status.weight)
            }
        }
    }
}

/// Carries the recorded rollout on.
fn go_on(before: &RolloutStatus, seen: &Seen<'_>) -> RolloutStatus {
    match before.phase {
        RolloutPhase::Progressing => advance(before, seen),
        RolloutPhase::Promoting if before.is_becoming_stable(seen) => settle(before, seen),
        _ => before.clone(),
    }
}

/// The end of a rollout whose version the stable pods have by now, or that is no longer wanted.
fn settle(before: &RolloutStatus, seen: &Seen<'_>) -> RolloutStatus {
    let name = before.canary.words();
    if before.is_becoming_stable(seen) {
        let message = format!("{name} is stable");
        return match seen.stable_runs {
            true => ended(before.clone(), RolloutPhase::Promoted, &message, seen.now),
            false => before.clone(),
        };
    }
    if before.phase.is_open() {
        let wanted = seen.stable.words();
        let message = format!("{wanted} is wanted again, and serves");
        return ended(before.clone(), RolloutPhase::Withdrawn, &message, seen.now);
    }
    before.clone()
}

/// The next state of a rollout in one of its steps.
fn advance(before: &RolloutStatus, seen: &Seen<'_>) -> RolloutStatus {
    let mut status = before.clone();
    if is_new(seen.requests.cancel, before.cancel_requested_at.as_ref()) {
        let message =
            format!("{}: cancelled by the annotation {}", before.canary.words(), labels::CANCEL_REQUESTED_AT);
        return roll_back(status, &message, seen);
    }
    if let Pods::Failed(why) = &seen.canary {
        let message = format!("{} did not become ready: {why}", before.canary.words());
        return roll_back(status, &message, seen);
    }
    if is_new(seen.requests.promote, before.promote_requested_at.as_ref()) {
        promote(&mut status, seen);
        status.message = format!(
            "{} is promoted by the annotation {}; the stable pods are replaced by its own",
            before.canary.words(),
            labels::PROMOTE_REQUESTED_AT
        );
        return status;
    }
    let Some(step) = seen.spec.step(before.step) else { return status };
    let Some(since) = before.since else {
        if seen.canary == Pods::Ready && seen.is_routed {
            status.weight = step.weight;
            status.since = Some(seen.now.into());
            status.message = seen.words(&status);
        }
        return status;
    };
    if let Some(result) = seen.answer.filter(|_| is_measuring(before, seen.spec, seen.now)) {
        let measured = judge(&seen.spec.analysis, before.step, result, seen.now);
        status.measurements = status.measurements.saturating_add(1);
        let (verdict, why) = (measured.verdict, measured.message.clone());
        status.last_measurement = Some(measured);
        if verdict == Verdict::Failed {
            let message = format!("{} at weight {}: {why}", before.canary.words(), before.weight);
            return roll_back(status, &message, seen);
        }
    }
    let held = later(since.get(), &[step.hold]);
    if seen.now >= held && has_passed(&status, step) {
        take_next_step(&mut status, seen);
    } else if seen.now >= later(held, &[seen.spec.analysis.timeout]) {
        let last = status.last_measurement.as_ref().map(|last| format!(": {}", last.message));
        let name = before.canary.words();
        let message = format!(
            "no measurement of {name} at weight {} proves it good{}",
            before.weight,
            last.unwrap_or_default()
        );
        return roll_back(status, &message, seen);
    }
    status
}

fn take_next_step(status: &mut RolloutStatus, seen: &Seen<'_>) {
    let number = status.step.saturating_add(1);
    if seen.spec.step(number).is_some() {
        (status.step, status.since) = (number, None);
    } else {
        promote(status, seen);
    }
    status.message = seen.words(status);
}

fn promote(status: &mut RolloutStatus, seen: &Seen<'_>) {
    (status.phase, status.since) = (RolloutPhase::Promoting, Some(seen.now.into()));
}

/// Whether the newest measurement of the step proves the version good. Without users there is nothing to prove.
fn has_passed(status: &RolloutStatus, step: &Step) -> bool {
    let passed =
        |last: &mlop_api::rollout::Measurement| last.step == status.step && last.verdict == Verdict::Passed;
    step.weight == 0 || status.last_measurement.as_ref().is_some_and(passed)
}

fn roll_back(status: RolloutStatus, message: &str, seen: &Seen<'_>) -> RolloutStatus {
    let retry_requested_at = recorded(seen.requests.retry);
    RolloutStatus { retry_requested_at, ..ended(status, RolloutPhase::RolledBack, message, seen.now) }
}

/// The status at the end of a rollout.
fn ended(mut status: RolloutStatus, phase: RolloutPhase, message: &str, now: Timestamp) -> RolloutStatus {
    let RolloutVersion { digest, run, version, .. } = status.canary.clone();
    let short = condition::truncated(message, PAST_MESSAGE_MAX);
    status.history.insert(0, PastRollout { run, version, digest, phase, message: short, at: now.into() });
    status.history.truncate(HISTORY_MAX);
    let message = condition::truncated(message, condition::MESSAGE_BYTES_MAX);
    RolloutStatus { phase, weight: 0, since: Some(now.into()), message, ..status }
}

fn later(at: Timestamp, spans: &[Span]) -> Timestamp {
    let seconds: u64 = spans.iter().map(|span| span.as_secs()).sum();
    let duration = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
