//! Cleanup of a deleted FeatureView: a pod removes its rows from the online store, under a finalizer.

use crate::online_store::{redis, redis_secret, view_key, with_password};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::Resources,
    features::{FeatureStore, FeatureView},
    labels,
    status::IntentStatus,
    task::Work,
};
use mlop_core::{
    Plan,
    children::{
        connection, container, pod,
        pod_outcome::{self, Outcome},
        profile::Profile,
    },
    condition::{self, Conditions},
    errand::{Decision, Errand, Limits, State},
    plan::Apply,
    resource::{ApiKind, PodView},
};
use serde_json::json;
use std::sync::Arc;

/// Keeps a deleted view until its online rows are deleted.
pub const FINALIZER: &str = "mlop.dev/online-cleanup";
/// Attempts to clean up before the operator gives up.
const ATTEMPTS: u32 = 5;
/// Time from the deletion until the operator gives up.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Time from the deletion in which pods that may serve the view can end: longer than their grace period.
const WORK_ENDS: SignedDuration = SignedDuration::from_secs(60);
/// The limits of a pod that cleans up.
const LIMITS: Limits =
    Limits { deadline: SignedDuration::from_mins(5), deadline_field: None, memory_field: None };
/// The role of a pod that cleans up.
const ROLE: &str = "cleanup";

/// The observed state that the cleanup of one view depends on.
pub struct Cleanup<'a> {
    pub view: &'a FeatureView,
    pub feature_store: Option<&'a FeatureStore>,
    pub has_runs: bool,
    /// All pods of the view and of its runs.
    pub pods: &'a [Arc<PodView>],
    /// The profile of its pods.
    pub profile: &'a Profile,
    /// Name of the operator.
    pub operator: &'a str,
    pub worker_image: &'a str,
}

impl Cleanup<'_> {
    /// Ends the pods that may still serve the view, removes it from the online store, then releases it.
    ///
    /// The operator gives up after some attempts or minutes, and when there is no online store, so that a deletion never
    /// hangs.
    pub fn clean_up(&self, now: Timestamp) -> Plan<IntentStatus> {
        let release = |why: &str| Plan { applies: vec![finalizers(self.view, &[], why)], ..Plan::idle() };
        let role = |pod: &PodView| pod.labels().get(labels::ROLE).cloned().unwrap_or_default();
        let serving = || self.pods.iter().filter(|pod| matches!(role(pod).as_str(), "run" | "activation"));
        let was_online = self.view.status.as_ref().is_some_and(|status| status.activation.is_some())
            || self.has_runs
            || serving().next().is_some();
        let Some(feature_store) =
            self.feature_store.filter(|store| store.metadata.deletion_timestamp.is_none())
        else {
            return release("the FeatureStore is gone");
        };
        if !was_online {
            return release("nothing of it was online");
        }
        let since = self.view.metadata.deletion_timestamp.as_ref().map_or(now, |at| at.0);
        let patience = since.checked_add(WORK_ENDS).unwrap_or(now);
        let ended =
            |pod: &PodView| matches!(pod_outcome::of(pod), Outcome::Succeeded(_) | Outcome::Failed(_));
        if now < patience && serving().any(|pod| !ended(pod)) {
            // The runs create no other pods while the view is being deleted. They stay as the record that it was online.
            let message = "the view is deleted once the pods that may load it have ended";
            let plan = self.report(Reason::WaitingForDeletion, message, now).requeue_at(patience);
            let pods = serving().filter(|pod| !ended(pod) && pod.metadata.deletion_timestamp.is_none());
            return pods.fold(plan, |plan, pod| plan.delete(pod.as_ref(), "the view is being deleted"));
        }
        let decision = self.decide(feature_store, now);
        if decision.answer.is_some() {
            return release("it is cleaned up");
        }
        let over = since.checked_add(PATIENCE).unwrap_or(now);
        let is_used_up =
            matches!(decision.state, State::Failed { attempt, disrupted: false, .. } if attempt >= ATTEMPTS);
        if now >= over || is_used_up {
            let message = format!(
                "the online store could not be cleaned up; what is left of view {} there is never read again",
                self.view.name_any()
            );
            return release("cleaning up was given up").event(true, Reason::CleanupAbandoned, message);
        }
        let plan = decision.trouble().map_or_else(Plan::idle, |trouble| {
            let message = format!(
                "the view is deleted once its online rows are, or at {over}: {}",
                trouble.message,
                over = condition::whole_second(over)
            );
            self.report(trouble.blocked.reason, &message, now)
        });
        decision.carry_out(plan.requeue_at(over))
    }

    /// Reports the obstacle of the deletion.
    fn report(&self, reason: Reason, message: &str, now: Timestamp) -> Plan<IntentStatus> {
        let mut status = self.view.status.clone().unwrap_or_default();
        let generation = self.view.metadata.generation.unwrap_or_default();
        Conditions::new(&mut status.conditions, generation, now).reconciling(reason, message);
        Plan::idle().with_status(status, self.view.status.as_ref())
    }

    fn decide(&self, feature_store: &FeatureStore, now: Timestamp) -> Decision {
        let key = view_key(self.view);
        let errand = Errand {
            owner: self.view,
            role: ROLE,
            operator: self.operator,
            pods: self.pods,
            question: Digest::of(&json!(key)),
            request: self.view.annotations().get(labels::RETRY_REQUESTED_AT).cloned(),
            interval: None,
            limits: LIMITS,
            profile: self.profile,
            waits_for: connection::ready(feature_store).err(),
        };
        let secret = redis_secret(feature_store);
        let work = Work::Deactivate { view: key, redis: redis(feature_store) };
        let resources = Resources::small(128);
        let build = |builder: pod::Builder| {
            let mut container = container::worker(self.worker_image, &[], &[], &resources);
            with_password(&mut container, secret);
            builder.password(secret).scratch("tmp", Some("64Mi"), false).container(container)
        };
        errand.decide(work, build, now)
    }
}

/// Applies the finalizers of `view`.
pub fn finalizers(view: &FeatureView, list: &[&str], why: &str) -> Apply {
    let kind = ApiKind::of::<FeatureView>();
    let meta = &view.metadata;
    let mut metadata = json!({"name": meta.name, "namespace": meta.namespace, "uid": meta.uid});
    if let (false, Some(fields)) = (list.is_empty(), metadata.as_object_mut()) {
        fields.insert("finalizers".to_owned(), json!(list));
    }
    let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata});
    Apply { kind, object, why: why.to_owned() }
}
