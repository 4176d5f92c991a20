//! The active attempt: its pods from their creation to their end.

use super::{
    Run, RunResource,
    outcome::{Outcome, Pods},
    plan::{Draft, STARTS},
    state::failed_attempt,
};
use crate::{
    Blocked,
    children::pod_outcome::{self, Ended},
    plan::{Action, Plan},
    resource::{JobView, PodView},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobCondition;
use kube::Resource;
use mlop_api::{Reason, duration::Span, result::Failure, status::RunStatus, text::clause};

/// Time a pod may take to start, unless the run says otherwise.
const START_TIMEOUT: Span = Span::minutes(10);
/// Time after the success of a Job until a pod that no cache has seen counts as gone.
const POD_GONE: SignedDuration = SignedDuration::from_secs(300);
/// Time after which a Job without a pod is suspicious.
const POD_DELAY: SignedDuration = SignedDuration::from_secs(10);

impl<R: Run> Draft<'_, R> {
    /// Follows the active attempt, or starts the next one.
    pub(super) fn follow_attempt(mut self) -> Plan<RunStatus> {
        self.drop_earlier_progress();
        let observed = self.observed;
        let attempt = self.next_attempt();
        let (pods, job) = (observed.attempt(attempt), observed.job(attempt));
        let has_ended = job.is_some_and(|job| ended(job).is_some());
        let mut plan = match job {
            Some(job) if pods.is_empty() || has_ended && pods.leader().is_none() => self.follow_job(job),
            None if pods.is_empty() => return self.start_attempt(),
            _ => self.follow_pods(&pods),
        };
        // The operator may have ended between the creation of the attempt and the deletion of those before it.
        let left = observed.earlier_attempts(attempt);
        plan.deletes.extend(left);
        plan
    }

    /// Follows the pods of the active attempt.
    fn follow_pods(mut self, pods: &Pods<'_>) -> Plan<RunStatus> {
        let now = self.now;
        let action = pods.next_loss(now).map_or(Action::AwaitChange, Action::RequeueAt);
        match pods.outcome(self.start_timeout(), now) {
            Outcome::Running(leader) => {
                let (doing, since) = pod_outcome::activity(leader);
                let since = since.unwrap_or_else(|| created(leader, now));
                let doing = match pods.size() {
                    2.. if !pod_outcome::publishes(leader) => format!("{doing} on {} pods", pods.size()),
                    _ => doing.to_owned(),
                };
                let news = self.hear(since);
                let status = news.is_due.then(|| self.status.clone());
                let plan = self.report_progress(&doing, since).with_action(action).with_action(news.action);
                Plan { status: plan.status.or(status), ..plan }
            }
            Outcome::Starting { waits: Some(pod), held_up: Some(_), .. } if self.is_no_longer_wanted(pod) => {
                self.replace_attempt().with_action(action)
            }
            Outcome::Starting { started, waits, held_up, until } => {
                let plan = match (waits, self.observed.job(self.next_attempt())) {
                    (Some(pod), _) => self.follow_start(pods, pod, held_up, started),
                    (None, Some(job)) => self.try_pod(job),
                    (None, None) => Plan::idle(),
                };
                plan.with_action(action.or(until.map_or(Action::AwaitChange, Action::RequeueAt)))
            }
            Outcome::Late { ended, at } => self.give_up_start(pods, ended, at),
            Outcome::Succeeded(result) => self.succeed(*result),
            Outcome::Failed { ended, at } => {
                self.avoid_nodes(pods);
                Self::end_running(self.fail(ended, at), pods, now)
            }
        }
    }

    /// Ends what still runs of an attempt that has failed: the pods keep their time to save.
    pub(super) fn end_running(plan: Plan<RunStatus>, pods: &Pods<'_>, now: Timestamp) -> Plan<RunStatus> {
        pods.running(now).fold(plan, |plan, pod| plan.delete(pod, "another pod of its attempt has failed"))
    }

    fn is_no_longer_wanted<K: Resource>(&self, child: &K) -> bool {
        super::attempt::is_outdated(self.observed, self.next_attempt(), self.avoiding(), child)
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
        let Some(ended) = ended(job) else { return self.try_pod(job) };
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
        self.fail(Ended { disrupted: true, ..Ended::new(failure) }, now)
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
        match super::attempt::dry_run(self.observed, self.next_attempt(), self.avoiding()) {
            Ok(create) => {
                let again = self.now.checked_add(POD_DELAY).unwrap_or(self.now);
                Plan { creates: vec![create], ..self.report_progress(STARTS, created) }.requeue_at(again)
            }
            Err(blocked) => self.report_blocked(&blocked),
        }
    }

    /// Follows `pod`, which has not started. A pod that no node has room for may wait without limit: that is a queue, not
    /// a failure.
    fn follow_start(
        mut self,
        pods: &Pods<'_>,
        pod: &PodView,
        held_up: Option<(Reason, String)>,
        started: u32,
    ) -> Plan<RunStatus> {
        let timeout = self.start_timeout();
        let limit = pod_outcome::start_clock(pod).and_then(|begin| {
            let seconds = i64::try_from(timeout.as_secs()).ok()?;
            begin.checked_add(SignedDuration::from_secs(seconds)).ok()
        });
        if let Some(limit) = limit.filter(|limit| *limit <= self.now) {
            let (reason, why) = pod_outcome::delay(pod, held_up);
            let message = format!("the pod did not start within {timeout}: {why}");
            let failure = Failure::transient(reason, message);
            let ended = Ended::new(failure);
            return self.give_up_start(pods, ended, limit);
        }
        let action = limit.map_or(Action::AwaitChange, Action::RequeueAt);
        let of_all = match pods.size() {
            1 => String::new(),
            size => format!("; {started} of {size} pods run"),
        };
        match held_up {
            Some((reason, message)) => {
                let blocked = Blocked::waiting(reason, message.as_str());
                let before = self.status.failure.as_ref().map(failed_attempt);
                let words = before.map_or(message, |before| format!("{}; {before}", blocked.message));
                // The pod is made again once a node counts again.
                let counts_again = self.avoiding().next_end().filter(|_| reason == Reason::Unschedulable);
                let avoided = counts_again.map(|end| self.avoided_until(end)).unwrap_or_default();
                self.set_open(reason, &format!("{words}{avoided}{of_all}"), &blocked);
                let again = counts_again.map_or(Action::AwaitChange, Action::RequeueAt);
                Plan::report(self.status).with_action(action).with_action(again)
            }
            None => {
                let begin = created(pod, self.now);
                let doing = match pod_outcome::awaited(pod) {
                    Some(name) => format!("{STARTS}: its containers wait for the init container {name}"),
                    None => STARTS.to_owned(),
                };
                self.report_progress(&format!("{doing}{of_all}"), begin).with_action(action)
            }
        }
    }

    /// Ends an attempt that has not started in time. What a Secret lacks that a container waits for is a part of the work,
    /// not of a connection.
    fn give_up_start(self, pods: &Pods<'_>, ended: Ended, at: Timestamp) -> Plan<RunStatus> {
        let why = "it did not start in time";
        let job = self.observed.job(self.next_attempt());
        let plan = self.end_attempt(ended, at);
        match job.filter(|_| pods.size() > 1) {
            // A Job takes its pods along, and creates no more.
            Some(job) => plan.delete(job, why),
            None => pods.iter().fold(plan, |plan, pod| plan.delete(pod, why)),
        }
    }

    fn start_timeout(&self) -> Span {
        self.observed.object.execution().start_timeout.unwrap_or(START_TIMEOUT)
    }
}

/// How a Job has ended; none if it has not.
pub(super) fn ended(job: &JobView) -> Option<&JobCondition> {
    job.status.conditions.iter().flatten().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Failed" | "Complete")
    })
}

/// When the API server created a child; now if it does not say.
fn created<K: Resource>(child: &K, now: Timestamp) -> Timestamp {
    child.meta().creation_timestamp.as_ref().map_or(now, |at| at.0)
}
