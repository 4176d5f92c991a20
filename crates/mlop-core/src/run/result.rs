//! The end of an attempt, and of the run.

use super::{Run, RunResource, plan::Draft};
use crate::{
    Blocked,
    children::{connection, pod, pod_outcome::Ended},
    condition::{self, ConditionStatus},
    plan::Plan,
};
use jiff::Timestamp;
use mlop_api::{
    MEDIA_TABLE, Reason,
    contract::condition_type,
    result::{Failure, ResultDocument},
    status::{AttemptFailure, Output, RunStatus},
};

impl<R: Run> Draft<'_, R> {
    /// The attempt has succeeded: its result becomes the output.
    pub(super) fn succeed(mut self, result: ResultDocument) -> Plan<RunStatus> {
        let run = self.observed.object.as_ref();
        let Some(digest) = result.digest.clone() else {
            let message = "the worker reported success without a digest";
            let failure = Failure::transient(Reason::ResultMissing, message);
            let now = self.now;
            return self.fail(Ended::new(failure), now);
        };
        let store = match self.observed.store(run.store()) {
            Ok(store) => store,
            // Somebody replaces it. The work is done, and is recorded when the store is back.
            Err(missing) => return self.report_blocked(&missing),
        };
        let key = if R::MEDIA_TYPE == MEDIA_TABLE {
            format!("manifests/{}.json", digest.hex())
        } else {
            format!("trees/{}/", digest.hex())
        };
        let message = result.summary.clone().unwrap_or_else(|| "done".to_owned());
        self.status.output = Some(Output {
            uri: pod::store(store).uri(&key),
            store: run.store().to_owned(),
            media_type: R::MEDIA_TYPE.to_owned(),
            schema_digest: result.schema_digest,
            metrics: result.metrics,
            summary: result.summary,
            notes: result.notes,
            registered: result.registered,
            activated: result.activated,
            digest,
        });
        self.status.attempts += 1;
        self.status.failure = None;
        self.status.cause = None;
        self.status.disruptions = 0;
        self.forget_preflights();
        self.status.finished_at = Some(self.now.into());
        self.conclude(result.progress.as_ref(), result.checkpoint.as_ref());
        if let Some(checkpoint) = &mut self.status.last_checkpoint {
            // The worker removes the checkpoints of a run that has succeeded.
            checkpoint.uri = None;
        }
        let mut conditions = self.conditions();
        conditions.set(condition_type::SUCCEEDED, ConditionStatus::True, Reason::Succeeded, &message);
        conditions.settled();
        let due = self.prune_due(self.now);
        Plan::report(self.status).event(false, Reason::Succeeded, message).requeue_at(due)
    }

    /// The attempt ended at `at` without a result. What a connection is to blame for counts as a disruption: it may be
    /// mended without a change of the run.
    pub(super) fn fail(self, mut ended: Ended, at: Timestamp) -> Plan<RunStatus> {
        if connection::has_failed(ended.failure.reason) {
            ended.disrupted = true;
            ended.failure.retryable = true;
        }
        self.end_attempt(ended, at)
    }

    /// Only failures of the work itself count against the budget. After a disruption attempts are repeated without limit,
    /// with delays that grow.
    pub(super) fn end_attempt(mut self, mut ended: Ended, at: Timestamp) -> Plan<RunStatus> {
        self.status.attempts += 1;
        self.weigh_preflight(&mut ended);
        if ended.disrupted {
            self.status.budget_start += 1;
            self.status.disruptions += 1;
        } else {
            self.status.disruptions = 0;
        }
        self.conclude(ended.progress.as_deref(), ended.checkpoint.as_deref());
        let reason = ended.failure.reason.to_string();
        let before = self.status.failure.take().filter(|before| before.reason == reason);
        let failure = AttemptFailure {
            attempt: self.status.attempts,
            reason,
            message: condition::truncated(&ended.failure.message, condition::MESSAGE_BYTES_MAX),
            retryable: ended.failure.retryable,
            at: at.into(),
            since: before.map(|before| before.since.unwrap_or(before.at)),
        };
        self.status.failure = Some(failure.clone());
        if self.is_exhausted(&failure) {
            return self.give_up(&failure);
        }
        self.drop_earlier_progress();
        let due = self.retry_due(&failure, None);
        let message = self.report_retry(&failure, due);
        Plan::report(self.status).event(true, ended.failure.reason, message).requeue_at(due)
    }

    /// No attempt follows `failure`: the run is stalled until its execution is edited.
    pub(super) fn give_up(mut self, failure: &AttemptFailure) -> Plan<RunStatus> {
        let reason = failure.reason.parse().unwrap_or(Reason::WorkerFailed);
        let message = if failure.retryable {
            format!(
                "attempt {} of {} failed, the last one: {}",
                self.status.attempts, self.status.attempts, failure.message
            )
        } else {
            failure.message.clone()
        };
        let was_open = !condition::is_false(&self.status.conditions, condition_type::SUCCEEDED);
        if was_open {
            self.status.finished_at = Some(self.now.into());
        }
        self.status.cause = Blocked::stalled(reason, &message).cause_at(self.observed.object.as_ref());
        let mut conditions = self.conditions();
        conditions.set(condition_type::SUCCEEDED, ConditionStatus::False, reason, &message);
        conditions.stalled(reason, &message);
        let plan = Plan { status: Some(self.status.clone()), ..self.prune() };
        if was_open { plan.event(true, reason, message) } else { plan }
    }
}
