//! Activation: bringing a result to an external system (an online store, an alias) before it is published.

use super::{
    BuildActivation, Intent, Observed,
    revision::Revision,
    step::{Activating, Publication, Step},
};
use crate::{
    Blocked,
    children::pod_outcome::{self, Outcome},
    plan::{Action, Create, Delete},
    resource::PodView,
    run::RunResource,
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason, labels,
    result::{Failure, Registered},
    status::{ActivationRecord, Output, Verdict},
    task::Subject,
};
use serde_json::json;
use std::sync::Arc;

/// Time from the failure of an activation pod to its replacement.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

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
    waits_for: Option<String>,
    now: Timestamp,
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

    /// Starts no pod while `connection` is not ready.
    pub(super) fn waiting_for(self, connection: Option<String>) -> Self {
        Self { waits_for: connection, ..self }
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
        let ours = self.observed.pods.iter().find(|pod| {
            let revision = Revision::of(pod.as_ref());
            revision > published && revision == others && pod.name_any().starts_with(&stem)
        });
        match ours.zip(others) {
            None => self.begin(build, &stem, self.observed.next_revision()),
            Some((pod, revision)) => match self.overtaken_by(pod) {
                Some(ahead) => self.begin(build, &stem, Revision::after(Some(ahead))),
                None => self.follow(pod, revision, verdict),
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

    /// Creates the activation pod.
    fn begin(&self, build: &BuildActivation, stem: &str, revision: Revision) -> Step<I> {
        if let Some(message) = &self.waits_for {
            return Step::blocked(Blocked::waiting(Reason::ConnectionNotReady, message.clone()));
        }
        let observed = self.observed;
        let mut meta = observed.child(format!("{stem}{revision}"), "activation");
        revision.label(&mut meta);
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(labels::MADE_FOR.to_owned(), made_for(observed));
        let subject = Subject {
            kind: Observed::<I>::kind(),
            namespace: observed.key().namespace,
            name: observed.key().name,
            uid: observed.object.meta().uid.clone().unwrap_or_default(),
            attempt: 1,
        };
        let pod = build(meta, subject, revision);
        Step::from(Activating {
            create: Some(Create::of(&pod, format!("revision {revision} must be active"))),
            delete: None,
            reason: Reason::Activating,
            message: format!("activating revision {revision}"),
            since: self.now,
            action: Action::AwaitChange,
        })
    }

    /// Follows the activation pod of `revision`.
    fn follow(&self, pod: &PodView, revision: Revision, verdict: Option<Verdict>) -> Step<I> {
        let ended = match pod_outcome::of(pod) {
            Outcome::Succeeded(result) => {
                return self.publish(verdict, Some(revision), revision, result.registered);
            }
            Outcome::Running | Outcome::Starting(None) => {
                return self.wait(pod, Reason::Activating, format!("activating revision {revision}"));
            }
            Outcome::Starting(Some((reason, message))) => return self.wait(pod, reason, message),
            Outcome::Failed(ended) => ended,
        };
        if is_given_up(self.observed, pod, &ended.failure) {
            let message = format!(
                "activating revision {revision} failed: {}; change the spec or the annotation {} to retry",
                ended.failure.message,
                labels::RETRY_REQUESTED_AT
            );
            return Step::blocked(Blocked::stalled(ended.failure.reason, message));
        }
        let due = pod_outcome::ended_at(pod).and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(self.now);
        let message =
            format!("activating revision {revision} failed and is retried: {}", ended.failure.message);
        let delete = (due <= self.now).then(|| Delete::of(pod, "the activation is retried")).flatten();
        let action = if delete.is_some() { Action::AwaitChange } else { Action::RequeueAt(due) };
        Step::from(Activating { delete, action, ..self.waiting(pod, ended.failure.reason, message) })
    }

    fn wait(&self, pod: &PodView, reason: Reason, message: String) -> Step<I> {
        Step::from(self.waiting(pod, reason, message))
    }

    fn waiting(&self, pod: &PodView, reason: Reason, message: String) -> Activating {
        let since = pod.metadata.creation_timestamp.as_ref().map_or(self.now, |at| at.0);
        Activating { create: None, delete: None, reason, message, since, action: Action::AwaitChange }
    }

    /// The revision in the external system that is ahead of this pod's, once the retry time has shown that no other pod
    /// brought it there: the API server was restored from a backup, or the object was created again before the
    /// external system was cleaned up.
    fn overtaken_by(&self, pod: &PodView) -> Option<Revision> {
        let Outcome::Failed(ended) = pod_outcome::of(pod) else { return None };
        let settled = pod_outcome::ended_at(pod)?.checked_add(RETRY).ok()? <= self.now;
        let ahead = Revision::new(ended.failure.superseded_by?)?;
        (settled && Some(ahead) >= Revision::of(pod)).then_some(ahead)
    }
}

/// The value that must change for a terminally failed activation to be retried.
fn made_for<I: Intent>(observed: &Observed<I>) -> String {
    format!(
        "{} {}",
        observed.generation(),
        observed.annotation(labels::RETRY_REQUESTED_AT).unwrap_or_default()
    )
}

fn is_given_up<I: Intent>(observed: &Observed<I>, pod: &PodView, failure: &Failure) -> bool {
    let asked = pod.annotations().get(labels::MADE_FOR);
    !failure.retryable && failure.superseded_by.is_none() && asked == Some(&made_for(observed))
}
