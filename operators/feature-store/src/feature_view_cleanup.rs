//! Cleanup of a deleted FeatureView: a pod removes its rows from the online store, under a finalizer.

use crate::online_store::{redis, redis_secret, view_key, with_password};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use mlop_api::{
    Reason,
    common::Resources,
    features::{FeatureStore, FeatureView},
    labels,
    status::IntentStatus,
    task::{Subject, Task, Work},
};
use mlop_core::{
    Key, Plan,
    children::{
        container, meta, pod,
        pod_outcome::{self, Outcome},
    },
    plan::{Apply, Create},
    resource::{ApiKind, PodView},
};
use serde_json::json;
use std::sync::Arc;

/// Keeps a deleted view until its online rows are deleted.
pub const FINALIZER: &str = "mlop.dev/online-cleanup";
/// Attempts to clean up before the operator gives up.
const ATTEMPTS: usize = 5;
/// Pause between two attempts.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Time from the deletion until the operator gives up.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Time from the deletion in which pods that may serve the view can end: longer than their grace period.
const WORK_ENDS: SignedDuration = SignedDuration::from_secs(60);
/// The role of a pod that cleans up.
const ROLE: &str = "cleanup";

/// The observed state that the cleanup of one view depends on.
pub struct Cleanup<'a> {
    pub view: &'a FeatureView,
    pub feature_store: Option<&'a FeatureStore>,
    pub has_runs: bool,
    /// All pods of the view and of its runs.
    pub pods: &'a [Arc<PodView>],
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
            let plan = Plan::idle().requeue_at(patience);
            let pods = serving().filter(|pod| !ended(pod) && pod.metadata.deletion_timestamp.is_none());
            return pods.fold(plan, |plan, pod| plan.delete(pod.as_ref(), "the view is being deleted"));
        }
        let attempts: Vec<_> = self.pods.iter().filter(|pod| role(pod) == ROLE).collect();
        if attempts.iter().any(|pod| matches!(pod_outcome::of(pod), Outcome::Succeeded(_))) {
            return release("it is cleaned up");
        }
        let works = attempts.iter().any(|pod| !matches!(pod_outcome::of(pod), Outcome::Failed(_)));
        let over = since.checked_add(PATIENCE).unwrap_or(now);
        if now >= over || attempts.len() >= ATTEMPTS && !works {
            let message = format!(
                "the online store could not be cleaned up; what is left of view {} there is never read again",
                self.view.name_any()
            );
            return release("cleaning up was given up").event(true, Reason::CleanupAbandoned, message);
        }
        if works {
            return Plan::idle().requeue_at(over);
        }
        let last = attempts.iter().filter_map(|pod| pod_outcome::ended_at(pod)).max();
        let due = last.and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(now);
        if due > now {
            return Plan::idle().requeue_at(due);
        }
        // A lost node takes its pods with it: fewer may be left than were created.
        let number = |pod: &&Arc<PodView>| pod.name_any().rsplit('-').next()?.parse::<usize>().ok();
        let highest = attempts.iter().filter_map(number).max().unwrap_or_default();
        let pod = self.pod(feature_store, highest + 1);
        Plan { creates: vec![Create::of(&pod, "the view is being deleted")], ..Plan::idle() }
    }

    fn pod(&self, feature_store: &FeatureStore, attempt: usize) -> Pod {
        let key = Key::of(&self.view.metadata);
        let name = format!("{}-cleanup-{attempt}", key.name);
        let meta = meta::child_meta(self.view, name, meta::child_labels(self.view, self.operator, ROLE));
        let subject = Subject {
            kind: FeatureView::kind(&()).into_owned(),
            namespace: key.namespace.clone(),
            name: key.name,
            uid: self.view.uid().unwrap_or_default(),
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        };
        let secret = redis_secret(feature_store);
        let work = Work::Deactivate { view: view_key(self.view), redis: redis(feature_store) };
        let resources = Resources { cpu: "50m".to_owned(), memory: "128Mi".to_owned(), gpu: 0 };
        let mut container = container::worker(self.worker_image, &[], &[], &resources);
        with_password(&mut container, secret);
        pod::Builder::once(meta)
            .task(&Task { subject, work })
            .password(secret)
            .scratch("tmp", Some("64Mi"), false)
            .container(container)
            .build()
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
