//! Cleanup of a FeatureView: a pod removes its rows from the online stores that must not serve it any more.
//!
//! Those are all of them when the view is deleted, under a finalizer, and the former ones when its spec names another
//! FeatureStore. `status.onlineIn` has the name of a store before anything is loaded there, until its rows are gone.

use crate::{
    feature_store::is_ready,
    online_store::{online_in, redis, redis_secret, view_key, with_password},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::Resources,
    features::{FeatureStore, FeatureView},
    labels,
    status::IntentStatus,
    task::{Departure, Work},
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
    intent::Revision,
    plan::Apply,
    resource::{ApiKind, PodView},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Keeps a deleted view until its online rows are deleted.
pub const FINALIZER: &str = "mlop.dev/online-cleanup";
/// Attempts to clean up after a deletion before the operator gives up.
const ATTEMPTS: u32 = 5;
/// Time from the deletion until the operator gives up.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Time from the deletion in which pods that may serve the view can end: longer than their grace period.
const WORK_ENDS: SignedDuration = SignedDuration::from_secs(60);
/// The limits of a pod that cleans up.
const LIMITS: Limits =
    Limits { deadline: SignedDuration::from_mins(5), deadline_field: None, memory_field: None };
/// Recorded stores from which on those are forgotten that are gone.
const RECORDED_MAX: usize = 16;
/// The role of a pod that cleans up.
const ROLE: &str = "cleanup";

/// The observed state that the cleanup of one view depends on.
pub struct Cleanup<'a> {
    pub view: &'a FeatureView,
    /// The FeatureStores that the view names or may be online in, by name.
    pub feature_stores: &'a BTreeMap<String, Arc<FeatureStore>>,
    /// A revision above all that were given out.
    pub next_revision: Revision,
    /// All pods of the view and of its runs.
    pub pods: &'a [Arc<PodView>],
    /// The profile of its pods.
    pub profile: &'a Profile,
    /// Name of the operator.
    pub operator: &'a str,
    pub worker_image: &'a str,
}

impl Cleanup<'_> {
    /// Ends the pods that may still serve the deleted view, removes it from the online stores, then releases it.
    ///
    /// The operator gives up after some attempts or minutes, and when there is no online store, so that a deletion never
    /// hangs.
    pub fn clean_up(&self, now: Timestamp) -> Plan<IntentStatus> {
        let release = |why: &str| Plan { applies: vec![finalizers(self.view, &[], why)], ..Plan::idle() };
        let places = self.places();
        let Some(place) = self.first(places.iter().copied()) else { return release("it is online nowhere") };
        let since = self.view.metadata.deletion_timestamp.as_ref().map_or(now, |at| at.0);
        let patience = since.checked_add(WORK_ENDS).unwrap_or(now);
        if let Some(plan) = self.end_pods(patience, now) {
            return plan;
        }
        let next = || if places.len() > 1 { self.forget(place) } else { release("it is cleaned up") };
        let decision = self.remove(place, &json!([view_key(self.view), place.name_any()]), None, now);
        if decision.answer.is_some() {
            return next();
        }
        let over = since.checked_add(PATIENCE).unwrap_or(now);
        let is_used_up =
            matches!(decision.state, State::Failed { attempt, disrupted: false, .. } if attempt >= ATTEMPTS);
        if now >= over || is_used_up {
            let message = format!(
                "FeatureStore {} could not be cleaned up; what is left of view {} in its Redis stays there",
                place.name_any(),
                self.view.name_any()
            );
            let plan = if now >= over { release("cleaning up was given up") } else { next() };
            return plan.event(true, Reason::CleanupAbandoned, message);
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

    /// Deletes the pods that may load the deleted view, and waits for them until `patience` is over.
    fn end_pods(&self, patience: Timestamp, now: Timestamp) -> Option<Plan<IntentStatus>> {
        let ended =
            |pod: &PodView| matches!(pod_outcome::of(pod), Outcome::Succeeded(_) | Outcome::Failed(_));
        let is_open = |pod: &&Arc<PodView>| {
            matches!(pod.labels().get(labels::ROLE).map(String::as_str), Some("run" | "activation"))
                && !ended(pod)
        };
        let open: Vec<_> = self.pods.iter().filter(is_open).collect();
        if now >= patience || open.is_empty() {
            return None;
        }
        // The runs create no other pods while the view is being deleted.
        let message = "the view is deleted once the pods that may load it have ended";
        let plan = self.report(Reason::WaitingForDeletion, message, now).requeue_at(patience);
        Some(open.into_iter().fold(plan, |plan, pod| plan.delete(pod.as_ref(), "the view is being deleted")))
    }

    /// Records the FeatureStore of the spec before anything is loaded there. Once the view is ready there, removes it from
    /// the former ones, one after the other.
    ///
    /// There is no limit of time: nothing waits for it.
    pub fn follow_spec(&self, mut plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        let before = self.view.status.clone().unwrap_or_default();
        let mut status = plan.status.take().unwrap_or_else(|| before.clone());
        let wanted = self.view.spec.feature_store.as_ref();
        match wanted.filter(|name| !status.online_in.contains(name)) {
            Some(name) => {
                if status.online_in.len() >= RECORDED_MAX {
                    status.online_in.retain(|name| self.store(name).is_some());
                }
                status.online_in.push(name.clone());
                // What is due is decided again when the record is written.
                plan.creates.clear();
                plan.deletes.clear();
            }
            None => plan = self.leave_former(plan, &mut status, now),
        }
        plan.with_status(status, Some(&before))
    }

    fn leave_former(
        &self,
        plan: Plan<IntentStatus>,
        status: &mut IntentStatus,
        now: Timestamp,
    ) -> Plan<IntentStatus> {
        let wanted = self.view.spec.feature_store.as_ref();
        let generation = self.view.metadata.generation;
        let is_current = status.artifact.as_ref().is_some_and(|artifact| artifact.generation == generation);
        // One that is gone serves nothing. It stays recorded: it may come back, with the rows that its Redis has kept.
        let former = status.online_in.iter().filter(|name| is_current && Some(*name) != wanted);
        let Some(store) = self.first(former) else {
            let ours = |pod: &&Arc<PodView>| pod.labels().get(labels::ROLE).is_some_and(|role| role == ROLE);
            let pods = self.pods.iter().filter(ours);
            return pods.fold(plan, |plan, pod| plan.delete(pod.as_ref(), "the rows are removed"));
        };
        if wanted.is_none() && status.activation.take().is_some() {
            // Its record must not outlive the rows: the view may come back. It is written before they are removed.
            return plan;
        }
        let name = store.name_any();
        let left = Departure { revision: self.next_revision.get(), to: wanted.cloned() };
        // The view can leave this store again, after another edit.
        let question = json!([view_key(self.view), name, generation]);
        let decision = self.remove(store, &question, Some(left), now);
        if decision.answer.is_some() {
            status.online_in.retain(|known| *known != name);
            return plan;
        }
        if let Some(trouble) = decision.trouble() {
            let message =
                format!("FeatureStore {name} served this view before and still does: {}", trouble.message);
            Conditions::new(&mut status.conditions, generation.unwrap_or_default(), now)
                .reconciling(trouble.blocked.reason, &message);
        }
        decision.carry_out(plan)
    }

    /// The FeatureStores that a deleted view may be online in.
    fn places(&self) -> Vec<&String> {
        let recorded = online_in(self.view).iter();
        // An earlier release has recorded that the view was active, but not where.
        let was_active = self.view.status.as_ref().is_some_and(|status| status.activation.is_some());
        let present = self.view.spec.feature_store.iter();
        let unrecorded = present.filter(|_| was_active && online_in(self.view).is_empty());
        recorded.chain(unrecorded).filter(|name| self.store(name).is_some()).collect()
    }

    /// The FeatureStore that is cleaned up first. One that is not ready must not hold up the others.
    fn first<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Option<&FeatureStore> {
        names.into_iter().filter_map(|name| self.store(name)).min_by_key(|store| !is_ready(store))
    }

    /// The FeatureStore of this name, unless it is gone.
    fn store(&self, name: &str) -> Option<&FeatureStore> {
        let store = self.feature_stores.get(name)?;
        store.metadata.deletion_timestamp.is_none().then_some(store.as_ref())
    }

    /// Takes `place` out of the record.
    fn forget(&self, place: &FeatureStore) -> Plan<IntentStatus> {
        let mut status = self.view.status.clone().unwrap_or_default();
        status.online_in.retain(|name| *name != place.name_any());
        Plan::idle().with_status(status, self.view.status.as_ref())
    }

    /// Reports the obstacle of the deletion.
    fn report(&self, reason: Reason, message: &str, now: Timestamp) -> Plan<IntentStatus> {
        let mut status = self.view.status.clone().unwrap_or_default();
        let generation = self.view.metadata.generation.unwrap_or_default();
        Conditions::new(&mut status.conditions, generation, now).reconciling(reason, message);
        Plan::idle().with_status(status, self.view.status.as_ref())
    }

    /// The errand that removes the view from `store`.
    fn remove(
        &self,
        store: &FeatureStore,
        question: &Value,
        left: Option<Departure>,
        now: Timestamp,
    ) -> Decision {
        let errand = Errand {
            owner: self.view,
            role: ROLE,
            operator: self.operator,
            pods: self.pods,
            question: Digest::of(question),
            request: self.view.annotations().get(labels::RETRY_REQUESTED_AT).cloned(),
            interval: None,
            limits: LIMITS,
            profile: self.profile,
            waits_for: connection::ready(store).err(),
        };
        let secret = redis_secret(store);
        let work = Work::Deactivate { view: view_key(self.view), redis: redis(store), left };
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
