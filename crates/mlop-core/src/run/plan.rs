//! The next step of a run.

use super::{Observed, Run, network, queue, refusal};
use crate::{
    Blocked, Origin,
    children::owned,
    condition::{self, ConditionStatus, Conditions},
    plan::{Action, Plan},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, core::object::HasStatus};
use mlop_api::{Reason, contract::condition_type, status::RunStatus};

/// What an attempt does whose containers do not run yet.
pub(super) const STARTS: &str = "starts";
/// What an attempt does that is to go on where the one before it ends.
const WAITS: &str = "waits until the pods of the one before it have ended";
/// Time after which an attempt that goes on is worth a write of the status.
pub(super) const PROGRESS_DELAY: SignedDuration = SignedDuration::from_secs(10);

/// Decides the next step of a run.
pub fn plan<R: Run>(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
    if observed.object.meta().deletion_timestamp.is_some() {
        return Plan::idle();
    }
    let plan = queue::released(observed, next_step(observed, now), now);
    owned::prune(network::complete(observed, plan), &observed.children)
}

fn next_step<R: Run>(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
    let mut draft = Draft::new(observed, now);
    if condition::is_true(&draft.status.conditions, condition_type::SUCCEEDED) {
        draft.report_verdict();
        let status = Some(draft.status.clone()).filter(|status| Some(status) != observed.object.status());
        return Plan { status, ..draft.prune() };
    }
    draft.status.observed_generation = Some(draft.generation());
    draft.renew_budget();
    if let Some(failure) = draft.status.failure.clone().filter(|failure| draft.is_exhausted(failure)) {
        draft.answer_cancellation();
        return draft.end_cancelled(failure);
    }
    if draft.is_cancelled() {
        return draft.cancel();
    }
    draft.follow_attempt()
}

/// Time after which an attempt is ordinary work again, however often those before it have failed.
const PROVEN: SignedDuration = SignedDuration::from_mins(10);

/// A plan in the making.
pub(super) struct Draft<'a, R: Run> {
    pub observed: &'a Observed<R>,
    pub status: RunStatus,
    pub now: Timestamp,
}

impl<'a, R: Run> Draft<'a, R> {
    /// A draft that starts from the reported status.
    pub(super) fn new(observed: &'a Observed<R>, now: Timestamp) -> Self {
        let status = observed.object.status().cloned().unwrap_or_default();
        Self { observed, status, now }
    }

    pub(super) fn generation(&self) -> i64 {
        self.observed.object.meta().generation.unwrap_or_default()
    }

    pub(super) fn conditions(&mut self) -> Conditions<'_> {
        let generation = self.generation();
        Conditions::new(&mut self.status.conditions, generation, self.now)
    }

    /// Number of the attempt that is active or comes next.
    pub(super) fn next_attempt(&self) -> u32 {
        self.status.attempts.saturating_add(1)
    }

    /// Starts the next attempt, or waits for its connections and for the end of its backoff.
    pub(super) fn start_attempt(mut self) -> Plan<RunStatus> {
        let connected = match self.observed.connected() {
            Ok(since) => since,
            Err(blocked) => return self.report_blocked(&blocked),
        };
        if let Some(failure) = self.status.failure.clone() {
            if let Some(refused) = refusal::lasting(&failure, connected) {
                return self.report_blocked(&refused);
            }
            let due = self.retry_due(&failure, Some(connected));
            if self.now < due {
                self.report_retry(&failure, due);
                return Plan::report(self.status).requeue_at(due);
            }
        }
        let now = self.now;
        let before = self.observed.attempt(self.status.attempts);
        if before.running(now).next().is_some() {
            // They may still save the checkpoint that this attempt is to go on from.
            let plan = Self::end_running(Plan::idle(), &before, now);
            let action = before.next_loss(now).map_or(plan.action, Action::RequeueAt);
            return Plan { deletes: plan.deletes, action, ..self.report_progress(WAITS, now) };
        }
        if let Err(blocked) = self.queue_up() {
            return self.report_blocked(&blocked);
        }
        match super::attempt::create(self.observed, self.next_attempt(), self.avoiding()) {
            Ok(create) => {
                let deletes = self.observed.earlier_attempts(self.next_attempt());
                // The event of its creation reconciles the run again.
                let action = Action::AwaitChange;
                Plan { creates: vec![create], deletes, action, ..self.report_progress(STARTS, now) }
            }
            Err(blocked) => self.report_blocked(&blocked),
        }
    }

    /// Reports what the attempt does: at once if the status shows an earlier problem, otherwise when it has done so since
    /// `begin` for a while. The end of a short attempt is reported anyway.
    ///
    /// A failure that was repeated for too often stays the cause until the attempt has lasted: it may fail as well.
    pub(super) fn report_progress(mut self, doing: &str, begin: Timestamp) -> Plan<RunStatus> {
        let proven = begin.checked_add(PROVEN).unwrap_or(begin);
        let repeated =
            self.status.failure.as_ref().filter(|_| self.now < proven).map(|failure| self.repeated(failure));
        let repeated = repeated.filter(|blocked| blocked.origin != Origin::Ordinary);
        let mut message = format!("attempt {} {doing}", self.next_attempt());
        if let Some(Blocked { reason, message: words, .. }) = &repeated {
            message.push_str(&format!("; those before it failed: {reason}: {words}"));
        }
        let action = repeated.as_ref().map_or(Action::AwaitChange, |_| Action::RequeueAt(proven));
        let reported = condition::get(&self.status.conditions, condition_type::SUCCEEDED);
        let reason = reported.and_then(|succeeded| succeeded.reason.parse().ok());
        if reason == Some(Reason::Running) && reported.is_some_and(|succeeded| succeeded.message == message) {
            return Plan::idle().with_action(action);
        }
        let due = begin.checked_add(PROGRESS_DELAY).unwrap_or(begin);
        if matches!(reason, None | Some(Reason::Pending | Reason::Running)) && self.now < due {
            return Plan::idle().requeue_at(due);
        }
        let problem = repeated.unwrap_or_else(|| Blocked::waiting(Reason::Running, message.as_str()));
        self.set_open(Reason::Running, &message, &problem);
        Plan::report(self.status).with_action(action)
    }

    /// Reports that the gates refuse the result, or no longer do. A result that they have never refused needs no word.
    fn report_verdict(&mut self) {
        let refused = condition::is_false(&self.status.conditions, condition_type::ACCEPTED);
        let Some((passed, message)) = R::verdict(self.observed).filter(|(passed, _)| refused == *passed)
        else {
            return;
        };
        let (status, reason) = if passed {
            (ConditionStatus::True, Reason::Succeeded)
        } else {
            (ConditionStatus::False, Reason::GateFailed)
        };
        self.conditions().set(condition_type::ACCEPTED, status, reason, &message);
    }

    pub(super) fn report_blocked(mut self, blocked: &Blocked) -> Plan<RunStatus> {
        let Blocked { reason, message, stalled, .. } = blocked;
        self.set_open(*reason, message, blocked);
        if *stalled {
            self.conditions().stalled(*reason, message);
        }
        Plan::report(self.status)
    }

    /// Reports that the run goes on and why it is where it is. Everything downstream names the cause of `problem`.
    pub(super) fn set_open(&mut self, reason: Reason, message: &str, problem: &Blocked) {
        self.status.cause = problem.cause_at(self.observed.object.as_ref());
        let mut conditions = self.conditions();
        conditions.set(condition_type::SUCCEEDED, ConditionStatus::Unknown, reason, message);
        conditions.reconciling(reason, message);
    }
}
