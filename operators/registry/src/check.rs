//! The check of a published version: whether MLflow still has it, and whether its alias names it.
//!
//! People delete versions and move aliases in MLflow, and servers lose their databases. So a pod repeats the activation
//! every ten minutes and on a request to retry, under the revision that is published. It changes nothing as long as
//! everything is as it was.

use crate::{
    alias::{self, AliasPod},
    model_intent::ModelIntent,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{
    Digest, Reason,
    contract::condition_type,
    labels,
    registry::Model,
    result::{Failure, Registered, ResultDocument},
    status::IntentStatus,
};
use mlop_core::{
    Plan, cause,
    children::{
        connection,
        pod_outcome::{self, Outcome},
    },
    condition::{self, ConditionStatus, Conditions},
    intent::{Observed, activation_digest},
    resource::PodView,
};

/// Time between two checks.
const INTERVAL: SignedDuration = SignedDuration::from_secs(600);
/// Time from the failure of a check to the next one, if it may pass.
const RETRY: SignedDuration = SignedDuration::from_secs(60);
const ROLE: &str = "check";
/// Beginning of the message on a problem that a check has found.
const PROBLEM: &str = "MLflow does not show";

/// Adds the check to the plan of a Model whose published version is active.
pub fn amend(
    observed: &Observed<ModelIntent>,
    mut plan: Plan<IntentStatus>,
    now: Timestamp,
) -> Plan<IntentStatus> {
    if observed.is_being_deleted() {
        return plan;
    }
    let before = observed.status().cloned().unwrap_or_default();
    let mut status = plan.status.take().unwrap_or_else(|| before.clone());
    let check = Check::of(observed, &status);
    let is_other = |pod: &&PodView| Some(pod.name_any()) != check.as_ref().and_then(|check| check.name(now));
    let old = checks(observed).filter(is_other);
    plan = old.fold(plan, |plan, pod| plan.delete(pod, "a later check is due"));
    if let Some(check) = check {
        if let Some(registered) = &mut status.registered {
            registered.alias = Some(observed.object.spec.alias.clone());
        }
        let first = check.pod.work.version.clone();
        plan = check.advance(plan, &mut status, now);
        if let Some(registered) = status.registered.as_ref().filter(|known| known.version != first) {
            // It was registered again since the run has reported it.
            status.summary = Some(format!("version {}", registered.version));
        }
    }
    plan.with_status(status, Some(&before))
}

/// The pods that check.
fn checks(observed: &Observed<ModelIntent>) -> impl Iterator<Item = &PodView> {
    let is_check = |pod: &&PodView| pod.labels().get(labels::ROLE).is_some_and(|role| role == ROLE);
    observed.pods.iter().map(AsRef::as_ref).filter(is_check)
}

/// The checks of one activation.
struct Check<'a> {
    observed: &'a Observed<ModelIntent>,
    /// The pod for the published version.
    pod: AliasPod,
    /// The published revision.
    revision: i64,
    /// When the published version was activated.
    since: Timestamp,
}

impl<'a> Check<'a> {
    /// The checks while the published version is active as the present spec wants it.
    fn of(observed: &'a Observed<ModelIntent>, status: &IntentStatus) -> Option<Self> {
        let (artifact, activation) = (status.artifact.as_ref()?, status.activation.as_ref()?);
        let run = observed.runs.iter().find(|run| run.name_any() == artifact.run)?;
        let pod = AliasPod::of(observed, run).ok()?;
        let parameters = &pod.work.alias.activation.parameters;
        let output = run.as_ref().status()?.output.as_ref()?;
        let target = activation_digest(&output.digest, output.registered.as_ref(), parameters);
        let since = artifact.produced_at.get();
        let is_active = target == activation.digest && observed.related.holder.is_none();
        is_active.then_some(Self { observed, pod, revision: activation.revision, since })
    }

    /// Name of the pod of the present check. None before the first one is due, and while the Model is suspended.
    fn name(&self, now: Timestamp) -> Option<String> {
        let slot = now.duration_since(self.since).as_secs() / INTERVAL.as_secs();
        let request = self.observed.annotation(labels::RETRY_REQUESTED_AT);
        let is_wanted = (slot > 0 || request.is_some()) && !self.observed.object.spec.suspend;
        let digest =
            Digest::of_json(&(self.revision, &self.observed.object.spec.alias, slot, request)).ok()?;
        is_wanted.then(|| format!("{}-check-{}", self.observed.key().name, digest.short(8)))
    }

    /// When the next check is due.
    fn next(&self, now: Timestamp) -> Timestamp {
        let slot = now.duration_since(self.since).as_secs() / INTERVAL.as_secs();
        let offset = SignedDuration::from_secs((slot + 1) * INTERVAL.as_secs());
        self.since.checked_add(offset).unwrap_or(now)
    }

    /// Starts the present check or follows it.
    fn advance(
        self,
        plan: Plan<IntentStatus>,
        status: &mut IntentStatus,
        now: Timestamp,
    ) -> Plan<IntentStatus> {
        let Some(name) = self.name(now) else { return plan.requeue_at(self.next(now)) };
        let plan = plan.requeue_at(self.next(now));
        let Some(pod) = checks(self.observed).find(|pod| pod.name_any() == name) else {
            self.keep_problem(status);
            // The status reports a profile that is missing, the server its own state.
            let waits =
                connection::ready(&*self.pod.server).is_err() || self.observed.profile.check().is_err();
            return if waits { plan } else { self.start(plan, name) };
        };
        match pod_outcome::of(pod) {
            Outcome::Running | Outcome::Starting(_) => {
                self.keep_problem(status);
                plan
            }
            Outcome::Succeeded(result) => self.succeed(plan, status, pod, *result),
            Outcome::Failed(ended) if ended.failure.retryable || ended.disrupted => {
                self.keep_problem(status);
                let due = pod_outcome::ended_at(pod).and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(now);
                if due <= now { plan.delete(pod, "the check is repeated") } else { plan.requeue_at(due) }
            }
            Outcome::Failed(ended) => self.fail(plan, status, &ended.failure, now),
        }
    }

    fn start(&self, plan: Plan<IntentStatus>, name: String) -> Plan<IntentStatus> {
        let meta = self.observed.child(name, ROLE);
        let subject = alias::subject(&self.observed.object);
        let mut pod = self.pod.clone();
        pod.work.check = true;
        let pod = self.observed.profile.complete(pod.build(meta, subject, self.revision));
        plan.create(&pod, "the alias is checked")
    }

    /// Everything is as published, or has been put back. A pod that has put something back is deleted after the Event,
    /// so that another one confirms it.
    fn succeed(
        &self,
        plan: Plan<IntentStatus>,
        status: &mut IntentStatus,
        pod: &PodView,
        result: ResultDocument,
    ) -> Plan<IntentStatus> {
        if let (Some(known), Some(found)) = (&mut status.registered, result.registered)
            && known.version != found.version
        {
            *known = Registered { alias: known.alias.take(), ..found };
        }
        match result.repaired {
            Some(text) => {
                let message = format!("{text}; {}", result.summary.unwrap_or_default());
                plan.event(true, Reason::Repaired, message).delete(pod, "another check confirms the repair")
            }
            None => plan,
        }
    }

    /// The version or its alias is not as published, and cannot be put back.
    fn fail(
        &self,
        plan: Plan<IntentStatus>,
        status: &mut IntentStatus,
        failure: &Failure,
        now: Timestamp,
    ) -> Plan<IntentStatus> {
        if !condition::is_true(&status.conditions, condition_type::UP_TO_DATE) {
            // The intent has a problem of its own to report.
            return plan;
        }
        let message = format!("{PROBLEM} revision {}: {}", self.revision, failure.message);
        let is_known = self.keep_problem(status);
        let mut conditions = Conditions::new(&mut status.conditions, self.observed.generation(), now);
        conditions.set(condition_type::UP_TO_DATE, ConditionStatus::False, failure.reason, &message);
        status.cause = Some(cause(&Model::kind(&()), &self.observed.key().name, failure.reason, &message));
        if is_known { plan } else { plan.event(true, failure.reason, message) }
    }

    /// Keeps the problem that an earlier check has reported until a later one has ended. Returns whether there is one.
    fn keep_problem(&self, status: &mut IntentStatus) -> bool {
        let before = self.observed.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let reported = condition::get(before, condition_type::UP_TO_DATE);
        let Some(problem) = reported.filter(|c| c.status == "False" && c.message.starts_with(PROBLEM)) else {
            return false;
        };
        let is_current = |c: &&mut Condition| c.type_ == condition_type::UP_TO_DATE && c.status == "True";
        for condition in status.conditions.iter_mut().filter(is_current) {
            *condition = problem.clone();
            status.cause = self.observed.status().and_then(|status| status.cause.clone());
        }
        true
    }
}
