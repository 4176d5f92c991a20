//! The budget of attempts, and the times between and after them.

use super::{Run, RunResource, plan::Draft};
use crate::{Blocked, children::connection, condition, runtime::backoff};
use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use mlop_api::{Digest, Reason, duration::Span, status::AttemptFailure};
use serde_json::{Value, json};

/// Time the last attempt's pod stays for its logs, unless the run says otherwise.
const POD_TTL: Span = Span::hours(1);

impl<R: Run> Draft<'_, R> {
    /// An edit of the execution or of another editable field, or a request to retry, gives a new budget. Attempts keep
    /// counting.
    pub(super) fn renew_budget(&mut self) {
        if self.status.execution_digest.as_ref().is_some_and(|known| *known != self.budget_digest()) {
            self.status.budget_start = self.status.attempts;
            self.status.disruptions = 0;
            self.forget_preflights();
            self.status.failure = None;
            self.status.finished_at = None;
        }
        self.status.execution_digest = Some(self.budget_digest());
    }

    /// Digest of the settings that a budget belongs to. A cancelled run goes on at a request to retry only.
    pub(super) fn budget_digest(&self) -> Digest {
        let object = self.observed.object.as_ref();
        let is_cancelled =
            self.status.failure.as_ref().is_some_and(|f| f.reason == Reason::Cancelled.as_str());
        if is_cancelled {
            return Digest::of(&json!({"cancelled": object.execution().retry_requested_at}));
        }
        // Fields at their default count as absent: one that a new release adds renews no budget.
        let mut execution = serde_json::to_value(object.execution()).unwrap_or_default();
        if let Some(fields) = execution.as_object_mut() {
            fields.remove("cancelRequestedAt");
            fields.insert("editable".to_owned(), R::editable(object));
        }
        Digest::of(&significant(execution))
    }

    /// Whether no attempt follows `failure`.
    pub(super) fn is_exhausted(&self, failure: &AttemptFailure) -> bool {
        !failure.retryable || self.attempts_of_budget() >= self.limit()
    }

    /// When the attempt after `failure` is due: at once if a connection was to blame and has become ready since. All are
    /// ready since `connected`, if it is known.
    pub(super) fn retry_due(&self, failure: &AttemptFailure, connected: Option<Timestamp>) -> Timestamp {
        let object = self.observed.object.as_ref();
        let ended = failure.at.get();
        let is_mended = connected.is_some_and(|since| since > ended);
        let is_of_a_connection =
            |reason: Reason| connection::has_failed(reason) || reason == Reason::PreflightFailed;
        if is_mended && failure.reason.parse().is_ok_and(is_of_a_connection) {
            return ended;
        }
        let seed = object.meta().uid.as_deref().unwrap_or_default();
        let delay = match self.status.disruptions {
            0 => backoff::attempt_delay(&object.execution().retry, self.attempts_of_budget().max(1), seed),
            disruptions => backoff::disruption_delay(disruptions, seed),
        };
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::ZERO);
        ended.checked_add(delay).unwrap_or(ended)
    }

    /// Reports that the attempt after `failure` starts at `due`.
    pub(super) fn report_retry(&mut self, failure: &AttemptFailure, due: Timestamp) -> String {
        let last = self.status.budget_start.saturating_add(self.limit()).max(failure.attempt);
        let message = format!(
            "attempt {} of {last} failed: {}: {}; the next one starts at {}",
            failure.attempt,
            failure.reason,
            failure.message,
            condition::whole_second(due)
        );
        let problem = self.repeated(failure);
        self.set_open(Reason::Retrying, &message, &problem);
        message
    }

    /// The state of the run since `failure`, without attempts and times.
    pub(super) fn repeated(&self, failure: &AttemptFailure) -> Blocked {
        let in_a_row = match self.status.disruptions {
            0 => self.attempts_of_budget(),
            disruptions => disruptions,
        };
        let reason = failure.reason.parse().unwrap_or(Reason::WorkerFailed);
        Blocked::repeated(in_a_row, reason, &failure.message)
    }

    /// When the pods of a run that ended at `ended` are pruned.
    pub(super) fn prune_due(&self, ended: Timestamp) -> Timestamp {
        let ttl = self.observed.object.execution().ttl_after_finished.unwrap_or(POD_TTL);
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        ended.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(ended)
    }

    fn attempts_of_budget(&self) -> u32 {
        self.status.attempts.saturating_sub(self.status.budget_start)
    }

    fn limit(&self) -> u32 {
        self.observed.object.execution().retry.limit
    }
}

/// `value` without fields that are null, false, or an empty string, list or object.
fn significant(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(key, value)| (key, significant(value)));
            Value::Object(kept.filter(|(_, value)| !is_default(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(significant).collect()),
        other => other,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
