//! Activation: bringing a result to an external system (an online store, an alias) before it is published.

use super::{
    BuildActivation, Intent, Observed,
    gates::is_accepted,
    revision::Revision,
    step::{Activating, Publication, Step},
};
use crate::{
    Blocked,
    children::pod_outcome::{self, Outcome},
    errand::{self, Limits, PodState},
    plan::{Action, Create, Delete},
    resource::PodView,
    run::RunResource,
    runtime::{cache::Cache, triggers::intent_key},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason, labels,
    result::{Failure, Registered},
    run::bounded_request,
    status::{ActivationRecord, Output, Verdict},
    task::Subject,
};
use serde_json::json;
use std::sync::Arc;

/// Time from a refusal by a higher revision until that revision counts: no other pod brought it there.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);
/// Longest time of an activation, unless the intent says otherwise.
const DEADLINE: SignedDuration = SignedDuration::from_hours(1);

/// Identity of an activation: the result and everything else that the external system shows of it.
pub fn activation_digest(output: &Digest, registered: Option<&Registered>, parameters: &Digest) -> Digest {
    Digest::of(&json!({"output": output, "registered": registered, "parameters": parameters}))
}

/// The output of a run that has succeeded.
pub(super) fn output<R: RunResource>(run: &R) -> Option<&Output> {
    run.status()?.output.as_ref()
}

/// The revision and the parameters under which the run's own pod has activated its result.
pub(super) fn activated_revision<R: RunResource>(run: &R) -> Option<(Revision, &Digest)> {
    let activated = output(run)?.activated.as_ref()?;
    let revision = Revision::new(activated.revision)?;
    (Revision::of(run) == Some(revision)).then_some((revision, &activated.parameters))
}

/// Whether an activation pod above the published revision exists that may have moved the external system. A pod that
/// its worker has refused for good has moved nothing.
pub(super) fn another_may_be_active<I: Intent>(observed: &Observed<I>) -> bool {
    let published = observed.published_revision();
    let refused =
        |pod: &PodView| matches!(pod_outcome::of(pod), Outcome::Failed(it) if !it.failure.retryable);
    observed.pods.iter().any(|pod| Revision::of(pod.as_ref()) > published && !refused(pod))
}

/// Brings one run's output to the external system.
pub(super) struct Activator<'a, I: Intent> {
    observed: &'a Observed<I>,
    run: &'a Arc<I::Run>,
    parameters: &'a Digest,
    /// Digest of the wanted activation.
    target: Digest,
    /// A connection that is not ready.
    waits_for: Option<Blocked>,
    now: Timestamp,
}

/// The attempt that starts next.
struct Attempt<'a> {
    stem: &'a str,
    revision: Revision,
    /// The pod that it replaces, and the failure that it follows.
    after: Option<(&'a PodView, Option<Failure>)>,
}

impl<'a, I: Intent> Activator<'a, I> {
    pub(super) fn new(
        observed: &'a Observed<I>,
        run: &'a Arc<I::Run>,
        output: &Output,
        parameters: &'a Digest,
        now: Timestamp,
    ) -> Self {
        let target = activation_digest(&output.digest, output.registered.as_ref(), parameters);
        Self { observed, run, parameters, target, waits_for: None, now }
    }

    /// Starts no pod while a connection is not ready.
    pub(super) fn waiting_for(self, waits_for: Option<Blocked>) -> Self {
        Self { waits_for, ..self }
    }

    /// Publishes if the target is active, else follows its activation pod or creates one.
    ///
    /// Other runs and pods with a higher revision may have been activated after the target, or still may be.
    pub(super) fn step(&self, verdict: Option<Verdict>, build: &BuildActivation) -> Step<I> {
        let others = self.observed.highest_other_revision(self.run);
        if let Some((revision, active)) = self.active_above(others) {
            return self.publish(verdict, revision, active, self.known_registration());
        }
        let published = self.observed.published_revision();
        let stem = format!("{}-{}-a", self.observed.key().name, self.target.short(8));
        let ours = self.observed.pods.iter().filter(|pod| {
            let revision = Revision::of(pod.as_ref());
            revision > published && revision == others && pod.name_any().starts_with(&stem)
        });
        let newest = ours.map(Arc::as_ref).max_by_key(|pod| errand::attempt(pod));
        let start = |revision, after| self.begin(build, &Attempt { stem: &stem, revision, after });
        match newest.zip(others) {
            None => start(self.observed.next_revision(), None),
            Some((pod, revision)) => match self.overtaken_by(pod) {
                Some(ahead) => start(Revision::after(Some(ahead)), None),
                None if self.is_outdated(pod, build) => {
                    start(revision, Some((pod, errand::failure_before(pod))))
                }
                None => self.follow(pod, revision, verdict, &|failure| start(revision, Some((pod, failure)))),
            },
        }
    }

    /// The revision under which the target is active already, and the new revision of the artifact if the activation
    /// is not recorded yet.
    fn active_above(&self, others: Option<Revision>) -> Option<(Option<Revision>, Revision)> {
        let recorded = self.observed.status().and_then(|status| status.activation.as_ref());
        let recorded = recorded.filter(|active| active.digest == self.target);
        let active = recorded.and_then(|active| Revision::new(active.revision));
        if let Some(active) = active.filter(|active| Some(*active) >= others) {
            return Some((None, active));
        }
        let above = others.max(self.observed.published_revision());
        let (revision, _) = activated_revision(self.run.as_ref())
            .filter(|(revision, parameters)| *parameters == self.parameters && Some(*revision) > above)?;
        Some((recorded.is_none().then_some(revision), revision))
    }

    /// How the registry knows the run in use, as its activation has reported it.
    fn known_registration(&self) -> Option<Registered> {
        let status = self.observed.status()?;
        let is_recorded = status.activation.as_ref()?.digest == self.target;
        let is_in_use = status.artifact.as_ref()?.run == self.run.name_any();
        status.registered.clone().filter(|_| is_recorded && is_in_use)
    }

    fn publish(
        &self,
        verdict: Option<Verdict>,
        revision: Option<Revision>,
        active: Revision,
        registered: Option<Registered>,
    ) -> Step<I> {
        let activation = ActivationRecord { digest: self.target.clone(), revision: active.get() };
        let run = Arc::clone(self.run);
        Step::Publish(Publication { run, verdict, revision, activation: Some(activation), registered })
    }

    /// Creates an activation pod. It replaces the pod of an earlier attempt.
    fn begin(&self, build: &BuildActivation, attempt: &Attempt<'_>) -> Step<I> {
        if let Some(blocked) = &self.waits_for {
            return self.wait(blocked.clone());
        }
        let Attempt { stem, revision, after } = attempt;
        let number = after.as_ref().map_or(1, |(pod, _)| errand::attempt(pod).saturating_add(1));
        let name = match number {
            1 => format!("{stem}{revision}"),
            _ => format!("{stem}{revision}-{number}"),
        };
        if let Err(blocked) = self.observed.profile.check() {
            return Step::blocked(blocked);
        }
        let mut meta = self.observed.child(name, "activation");
        revision.label(&mut meta);
        meta.labels.get_or_insert_default().insert(labels::ATTEMPT.to_owned(), number.to_string());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::MADE_FOR.to_owned(), made_for(self.observed));
        annotations.insert(labels::TEMPLATE.to_owned(), self.template(build).to_string());
        if let Some(failure) = after.as_ref().and_then(|(_, failure)| failure.as_ref()) {
            errand::remember_failure(&mut meta, failure);
        }
        let pod = self.limits().bound(self.pod(build, meta, number, *revision));
        let (blocked, message) =
            progress(*revision, number, after.as_ref().and_then(|(_, failure)| failure.as_ref()));
        Step::from(Activating {
            create: Some(Create::of(&pod, format!("revision {revision} must be active"))),
            delete: after.as_ref().and_then(|(pod, _)| Delete::of(*pod, "another attempt replaces it")),
            blocked,
            message,
            since: self.now,
            is_lost: self.is_lost(),
            action: Action::AwaitChange,
        })
    }

    /// Follows the activation pod of `revision`. `retry` begins the next attempt.
    fn follow(
        &self,
        pod: &PodView,
        revision: Revision,
        verdict: Option<Verdict>,
        retry: &dyn Fn(Option<Failure>) -> Step<I>,
    ) -> Step<I> {
        let (state, action) = self.limits().state(pod, self.now);
        let (failure, disrupted, at) = match state {
            PodState::Succeeded(result) => {
                return self.publish(verdict, Some(revision), revision, result.registered);
            }
            PodState::Running | PodState::Starting(None) => {
                let before = errand::failure_before(pod);
                let (blocked, message) = progress(revision, errand::attempt(pod), before.as_ref());
                return Step::from(Activating { action, ..self.waiting(pod, blocked, message) });
            }
            PodState::Starting(Some((reason, message))) => {
                let blocked = Blocked::waiting(reason, &message);
                return Step::from(Activating { action, ..self.waiting(pod, blocked, message) });
            }
            PodState::Failed { failure, disrupted, at } => (failure, disrupted, at),
        };
        let pause = errand::pause(errand::attempt(pod), disrupted, &self.observed.key().to_string());
        let due = at.checked_add(pause).unwrap_or(at);
        let asked = pod.annotations().get(labels::MADE_FOR) == Some(&made_for(self.observed));
        if due <= self.now || !asked {
            return retry(if disrupted { errand::failure_before(pod) } else { Some(failure) });
        }
        let next = crate::condition::whole_second(due);
        let blocked = failed(revision, errand::attempt(pod), &failure);
        let words = &blocked.message;
        let message = if blocked.stalled {
            format!(
                "{words}; it is retried at {next}, or at once after a change of the spec or of the annotation {}",
                labels::RETRY_REQUESTED_AT
            )
        } else {
            format!("{words}; the next attempt starts at {next}")
        };
        let action = Action::RequeueAt(due);
        Step::from(Activating { action, ..self.waiting(pod, blocked, message) })
    }

    /// Waits for a connection. A result that is not active any more is not Ready meanwhile.
    fn wait(&self, blocked: Blocked) -> Step<I> {
        if !self.is_lost() {
            return Step::blocked(blocked);
        }
        let message = blocked.message.clone();
        Step::from(Activating {
            create: None,
            delete: None,
            blocked,
            message,
            since: self.now,
            is_lost: true,
            action: Action::AwaitChange,
        })
    }

    fn waiting(&self, pod: &PodView, blocked: Blocked, message: String) -> Activating {
        let since = pod.metadata.creation_timestamp.as_ref().map_or(self.now, |at| at.0);
        let (is_lost, action) = (self.is_lost(), Action::AwaitChange);
        Activating { create: None, delete: None, blocked, message, since, is_lost, action }
    }

    /// Whether the published result itself must be activated again: its record names another target, or is gone.
    fn is_lost(&self) -> bool {
        let lost = || {
            let status = self.observed.status()?;
            let is_published = status.artifact.as_ref()?.run == self.run.name_any();
            let is_active = status.activation.as_ref().is_some_and(|active| active.digest == self.target);
            Some(is_published && !is_active)
        };
        lost().unwrap_or(false)
    }

    /// Whether the pod has not started and is not the one that is wanted now, such as after an upgrade.
    fn is_outdated(&self, pod: &PodView, build: &BuildActivation) -> bool {
        matches!(pod_outcome::of(pod), Outcome::Starting(_))
            && pod.metadata.deletion_timestamp.is_none()
            && pod.annotations().get(labels::TEMPLATE).map(String::as_str)
                != Some(self.template(build).as_str())
    }

    /// The digest of all parts of the pod that do not differ between attempts and revisions.
    fn template(&self, build: &BuildActivation) -> Digest {
        errand::template(&self.pod(build, ObjectMeta::default(), 0, Revision::FIRST))
    }

    /// The pod of an attempt, with the profile of the intent.
    fn pod(&self, build: &BuildActivation, meta: ObjectMeta, attempt: u32, revision: Revision) -> Pod {
        self.observed.profile.complete(build(meta, self.subject(attempt), revision))
    }

    fn subject(&self, attempt: u32) -> Subject {
        let observed = self.observed;
        Subject {
            kind: Observed::<I>::kind(),
            namespace: observed.key().namespace,
            name: observed.key().name,
            uid: observed.object.meta().uid.clone().unwrap_or_default(),
            attempt,
        }
    }

    fn limits(&self) -> Limits {
        let deadline = I::execution(&self.observed.object).deadline;
        let seconds = deadline.and_then(|deadline| i64::try_from(deadline.as_secs()).ok());
        Limits {
            deadline: seconds.map_or(DEADLINE, SignedDuration::from_secs),
            deadline_field: deadline.map(|_| "spec.deadline"),
            memory_field: Some("spec.resources.memory"),
        }
    }

    /// The revision in the external system that is ahead of this pod's, once time has shown that no other pod brought it
    /// there: the API server was restored from a backup, or the object was created again before the
    /// external system was cleaned up.
    fn overtaken_by(&self, pod: &PodView) -> Option<Revision> {
        let Outcome::Failed(ended) = pod_outcome::of(pod) else { return None };
        let settled = pod_outcome::ended_at(pod)?.checked_add(SETTLED).ok()? <= self.now;
        let ahead = Revision::new(ended.failure.superseded_by?)?;
        (settled && Some(ahead) >= Revision::of(pod)).then_some(ahead)
    }
}

/// The value that must change for a terminally failed activation to be retried.
fn made_for<I: Intent>(observed: &Observed<I>) -> String {
    let request = observed.annotation(labels::RETRY_REQUESTED_AT).map(bounded_request).unwrap_or_default();
    format!("{} {request}", observed.generation())
}

/// The state of an activation whose last of `attempts` attempts ended with `failure`.
fn failed(revision: Revision, attempts: u32, failure: &Failure) -> Blocked {
    let words = format!("activating revision {revision} failed: {}", failure.message);
    match failure.retryable || failure.superseded_by.is_some() {
        true => Blocked::repeated(attempts, failure.reason, words),
        false => Blocked::stalled(failure.reason, words),
    }
}

/// The state and the message while `attempt` is on its way.
fn progress(revision: Revision, attempt: u32, before: Option<&Failure>) -> (Blocked, String) {
    let Some(failure) = before else {
        let message = format!("activating revision {revision}");
        return (Blocked::waiting(Reason::Activating, &message), message);
    };
    let blocked = Blocked { stalled: false, ..failed(revision, attempt.saturating_sub(1), failure) };
    let message = format!("{}; attempt {attempt} is running", blocked.message);
    (blocked, message)
}

/// The intent of `run`, if it wants the result of an attempt that starts now to be activated by the attempt's pod.
pub fn wants_active<I: Intent>(intents: &Cache<I::Resource>, run: &I::Run) -> Option<Arc<I::Resource>> {
    let intent = intents.get(&intent_key::<I::Resource, _>(run)?)?;
    let is_owner = run.owner_references().iter().any(|owner| Some(&owner.uid) == intent.meta().uid.as_ref());
    let wanted = Revision::of(run).is_some()
        && intent.meta().deletion_timestamp.is_none()
        && I::flow(&intent).pin().is_none()
        && is_accepted(I::judge(&intent, run).as_ref());
    (is_owner && wanted).then_some(intent)
}
