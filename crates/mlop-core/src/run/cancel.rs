//! The cancellation of a run by a user.

use super::{Run, RunResource, plan::Draft};
use crate::{
    children::pod_outcome::{self, Outcome},
    plan::Plan,
};
use kube::ResourceExt;
use mlop_api::{
    Reason, labels,
    progress::Checkpoint,
    status::{AttemptFailure, RunStatus},
};

impl<R: Run> Draft<'_, R> {
    /// Whether a request to end this run is open. The one that the run was created with was meant for an earlier run. A
    /// result that is there counts.
    pub(super) fn is_cancelled(&self) -> bool {
        let object = self.observed.object.as_ref();
        let request = object.execution().cancel_requested_at.as_ref();
        let before = object.annotations().get(labels::CANCEL_REQUESTED_AT);
        let is_open =
            request.is_some() && request != before && request != self.status.cancel_requested_at.as_ref();
        let pod = self.observed.pod(self.next_attempt());
        is_open && !pod.is_some_and(|pod| matches!(pod_outcome::of(pod), Outcome::Succeeded(_)))
    }

    /// Ends the run for good, unless its inputs or its content change, or a retry is requested. Its pods end as in an
    /// eviction: the command has its grace period to save a checkpoint.
    pub(super) fn cancel(mut self) -> Plan<RunStatus> {
        let attempt = self.next_attempt();
        if self.observed.pod(attempt).is_some() || self.observed.job(attempt).is_some() {
            self.status.attempts = attempt;
        }
        self.answer_cancellation();
        self.conclude(None, None);
        let failure = AttemptFailure {
            attempt: self.status.attempts,
            reason: Reason::Cancelled.to_string(),
            message: self.cancelled(),
            retryable: false,
            at: self.now.into(),
            since: None,
        };
        self.status.failure = Some(failure.clone());
        self.status.execution_digest = Some(self.budget_digest());
        let deletes = self.observed.earlier_attempts(attempt.saturating_add(1));
        Plan { deletes, ..self.give_up(&failure) }
    }

    /// Ends the run, or confirms its end. The pod of a cancelled run may have saved a checkpoint meanwhile.
    pub(super) fn end_cancelled(mut self, mut failure: AttemptFailure) -> Plan<RunStatus> {
        if failure.reason == Reason::Cancelled.as_str() {
            let pod = self.observed.pod(failure.attempt);
            let (progress, saved) =
                (pod.and_then(pod_outcome::progress), pod.and_then(pod_outcome::checkpoint));
            self.conclude(progress.as_ref(), saved.as_ref());
            failure.message = self.cancelled();
            self.status.failure = Some(failure.clone());
        }
        self.give_up(&failure)
    }

    /// The message of a cancelled run: what a retry goes on from.
    fn cancelled(&self) -> String {
        let (cancel, retry) = (labels::CANCEL_REQUESTED_AT, labels::RETRY_REQUESTED_AT);
        let rest = match self.status.last_checkpoint.as_ref().and_then(Checkpoint::number) {
            _ if self.status.attempts == 0 => format!(" before its first attempt; set {retry} to start it"),
            Some(number) => format!("; checkpoint {number} is kept: set {retry} to go on from it"),
            None => format!("; set {retry} to go on, from the newest checkpoint if it saved one"),
        };
        format!("cancelled by the annotation {cancel}{rest}")
    }

    /// Remembers the request, so that a later attempt is not ended by it.
    pub(super) fn answer_cancellation(&mut self) {
        let request = self.observed.object.execution().cancel_requested_at.clone();
        self.status.cancel_requested_at = request.or(self.status.cancel_requested_at.take());
    }
}
