//! The next step of a run.

use super::{Observed, Run, RunResource, refusal, state::failed_attempt};
use crate::{
    Blocked, Origin,
    children::pod_outcome::{self, Ended, Outcome},
    condition::{self, ConditionStatus, Conditions},
    plan::{Action, Plan},
    resource::{JobView, PodView},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, core::object::HasStatus};
use mlop_api::{
    Reason, contract::condition_type, duration::Span, result::Failure, status::RunStatus, text::clause,
};

/// Time a pod may take to start, unless the run says otherwise.
const START_TIMEOUT: Span = Span::minutes(10);
/// Time after the success of a Job until a pod that no cache has seen counts as gone.
const POD_GONE: SignedDuration = SignedDuration::from_secs(300);
/// Time after which a Job without a pod is suspicious.
const POD_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// What an attempt does whose containers do not run yet.
const STARTS: &str = "starts";
/// Time after which an attempt that goes on is worth a write of the status.
const PROGRESS_DELAY: SignedDuration = SignedDuration::from_secs(10);

/// Decides the next step of a run.
pub fn plan<R: Run>(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
    if observed.object.meta().deletion_timestamp.is_some() {
        return Plan::idle();
    }
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

    /// Follows the active attempt, or starts the next one.
    fn follow_attempt(self) -> Plan<RunStatus> {
        let observed = self.observed;
        let attempt = self.next_attempt();
        let mut plan = match (observed.pod(attempt), observed.job(attempt)) {
            (Some(pod), _) => self.follow_pod(pod),
            (None, Some(job)) => self.follow_job(job),
            (None, None) => return self.start_attempt(),
        };
        // The operator may have ended between the creation of the attempt and the deletion of those before it.
        let left = observed.earlier_attempts(attempt);
        plan.deletes.extend(left);
        plan
    }

    /// Starts the next attempt, or waits for its connections and for the end of its backoff.
    fn start_attempt(mut self) -> Plan<RunStatus> {
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
        match super::attempt::create(self.observed, self.next_attempt()) {
            Ok(create) => {
                let deletes = self.observed.earlier_attempts(self.next_attempt());
                let now = self.now;
                // The event of its creation reconciles the run again.
                let action = Action::AwaitChange;
                Plan { creates: vec![create], deletes, action, ..self.report_progress(STARTS, now) }
            }
            Err(blocked) => self.report_blocked(&blocked),
        }
    }

    /// Follows the pod of the active attempt.
    fn follow_pod(self, pod: &PodView) -> Plan<RunStatus> {
        let lost_at = pod_outcome::lost_at(pod);
        if let Some(at) = lost_at.filter(|at| *at <= self.now) {
            return self.fail(pod_outcome::lost(), at);
        }
        let action = lost_at.map_or(Action::AwaitChange, Action::RequeueAt);
        match pod_outcome::of(pod) {
            Outcome::Running => {
                let (doing, since) = pod_outcome::activity(pod);
                let since = since.unwrap_or_else(|| created(pod, self.now));
                self.report_progress(doing, since).with_action(action)
            }
            Outcome::Starting(Some(_)) if self.is_no_longer_wanted(pod) => {
                self.replace_attempt().with_action(action)
            }
            Outcome::Starting(held_up) => self.follow_start(pod, held_up).with_action(action),
            Outcome::Succeeded(result) => self.succeed(*result),
            Outcome::Failed(ended) => {
                let at = pod_outcome::ended_at(pod).unwrap_or(self.now);
                self.fail(ended, at)
            }
        }
    }

    fn is_no_longer_wanted<K: Resource>(&self, child: &K) -> bool {
        super::attempt::is_outdated(self.observed, self.next_attempt(), child)
    }

    /// Deletes an attempt that cannot start, since another pod is wanted by now. It starts again under its number.
    fn replace_attempt(self) -> Plan<RunStatus> {
        let why = "it cannot start, and another pod is wanted";
        let attempt = self.next_attempt();
        match (self.observed.job(attempt), self.observed.pod(attempt)) {
            // A Job takes its pod along.
            (Some(job), _) => Plan::idle().delete(job, why),
            (None, Some(pod)) => Plan::idle().delete(pod, why),
            (None, None) => Plan::idle(),
        }
    }

    /// Follows a Job without a pod: the Job controller has not created the pod yet, cannot create it, or the pod of a
    /// Job that has ended is gone.
    fn follow_job(self, job: &JobView) -> Plan<RunStatus> {
        let ended = job.status.conditions.iter().flatten().find(|condition| {
            condition.status == "True" && matches!(condition.type_.as_str(), "Failed" | "Complete")
        });
        let Some(ended) = ended else { return self.try_pod(job) };
        let ended_at = ended.last_transition_time.as_ref().map_or(self.now, |at| at.0);
        let gone_at = ended_at.checked_add(POD_GONE).unwrap_or(ended_at);
        if ended.type_ == "Complete" && self.now < gone_at {
            // The cache may not have seen the pod yet.
            return Plan::idle().requeue_at(gone_at);
        }
        let words = clause(ended.message.as_deref().unwrap_or_default());
        // If the work was done, its result is in the store: the next attempt only reports it.
        let message = format!("the Job has ended and its pod is gone: {words}");
        let failure = Failure::transient(Reason::PodLost, message);
        let now = self.now;
        self.fail(Ended { failure, disrupted: true, checkpoint: None }, now)
    }

    /// Asks the API server whether it would admit the pod of a Job that has none. The Job controller reports a refusal
    /// in Events only.
    fn try_pod(self, job: &JobView) -> Plan<RunStatus> {
        let created = created(job, self.now);
        let due = created.checked_add(POD_DELAY).unwrap_or(created);
        if self.now < due {
            return self.report_progress(STARTS, created).requeue_at(due);
        }
        if self.is_no_longer_wanted(job) {
            // A Job keeps its template. The deletion reconciles the run again.
            return self.replace_attempt();
        }
        match super::attempt::dry_run(self.observed, self.next_attempt()) {
            Ok(create) => {
                let again = self.now.checked_add(POD_DELAY).unwrap_or(self.now);
                Plan { creates: vec![create], ..self.report_progress(STARTS, created) }.requeue_at(again)
            }
            Err(blocked) => self.report_blocked(&blocked),
        }
    }

    /// Follows a pod that has not started. A pod that no node has room for may wait without limit: that is a queue, not
    /// a failure.
    fn follow_start(mut self, pod: &PodView, held_up: Option<(Reason, String)>) -> Plan<RunStatus> {
        let timeout = self.observed.object.execution().start_timeout.unwrap_or(START_TIMEOUT);
        let limit = pod_outcome::start_clock(pod).and_then(|begin| {
            let seconds = i64::try_from(timeout.as_secs()).ok()?;
            begin.checked_add(SignedDuration::from_secs(seconds)).ok()
        });
        if let Some(limit) = limit.filter(|limit| *limit <= self.now) {
            let (reason, why) = pod_outcome::delay(pod, held_up);
            let message = format!("the pod did not start within {timeout}: {why}");
            let failure = Failure::transient(reason, message);
            let ended = Ended { failure, disrupted: false, checkpoint: None };
            // A Secret that a container waits for is a part of the work, not of a connection.
            return self.end_attempt(ended, limit).delete(pod, "it did not start in time");
        }
        let action = limit.map_or(Action::AwaitChange, Action::RequeueAt);
        match held_up {
            Some((reason, message)) => {
                let blocked = Blocked::waiting(reason, message.as_str());
                let before = self.status.failure.as_ref().map(failed_attempt);
                let words = before.map_or(message, |before| format!("{}; {before}", blocked.message));
                self.set_open(reason, &words, &blocked);
                Plan::report(self.status).with_action(action)
            }
            None => {
                let begin = created(pod, self.now);
                let doing = match pod_outcome::awaited(pod) {
                    Some(name) => format!("{STARTS}: its containers wait for the init container {name}"),
                    None => STARTS.to_owned(),
                };
                self.report_progress(&doing, begin).with_action(action)
            }
        }
    }

    /// Reports what the attempt does: at once if the status shows an earlier problem, otherwise when it has done so since
    /// `begin` for a while. The end of a short attempt is reported anyway.
    ///
    /// A failure that was repeated for too often stays the cause until the attempt has lasted: it may fail as well.
    fn report_progress(mut self, doing: &str, begin: Timestamp) -> Plan<RunStatus> {
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

/// When the API server created a child; now if it does not say.
fn created<K: Resource>(child: &K, now: Timestamp) -> Timestamp {
    child.meta().creation_timestamp.as_ref().map_or(now, |at| at.0)
}
