//! Situations of a run.

use super::{
    NOW, at, connected, count_edit, created, object, profile,
    situation::{Situation, as_written, created_of, requeue},
    time,
};
use crate::{
    children::owned::Child,
    condition,
    plan::Plan,
    resource::{ApiKind, ChildObject, JobView, PodView},
    run::{Heard, Observed, Run, RunResource, plan},
};
use k8s_openapi::api::core::v1::{PodStatus, Service};
use kube::{
    Resource, ResourceExt,
    core::object::{HasSpec, HasStatus},
};
use mlop_api::{
    contract::condition_type, dataset::ObjectStore, profile::PodProfile, progress::Report, status::RunStatus,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A situation of a run: the objects that its decision depends on, and the time.
pub struct RunCase<R: Run> {
    pub object: R::Resource,
    pub pods: Vec<PodView>,
    pub jobs: Vec<JobView>,
    /// The Service of its pods.
    pub services: Vec<ChildObject>,
    pub stores: Vec<ObjectStore>,
    /// The PodProfiles of the namespace.
    pub profiles: Vec<PodProfile>,
    pub related: R::Related,
    /// What the worker of the running attempt has said.
    pub heard: Option<Heard>,
    /// Time of the decision in seconds since the epoch.
    pub now: i64,
}

impl<R: Run<Related: Clone>> Clone for RunCase<R> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            pods: self.pods.clone(),
            jobs: self.jobs.clone(),
            services: self.services.clone(),
            stores: self.stores.clone(),
            profiles: self.profiles.clone(),
            related: self.related.clone(),
            heard: self.heard.clone(),
            now: self.now,
        }
    }
}

impl<R: Run<Related: Clone>> RunCase<R> {
    /// A run with this name and spec that was just created, in a namespace with the ObjectStore `files`.
    pub fn new(name: &str, spec: &Value) -> Self {
        Self::of(object(name, spec))
    }

    /// A run that was just created, in a namespace with the ObjectStore `files`.
    pub fn of(object: R::Resource) -> Self {
        Self {
            object,
            pods: Vec::new(),
            jobs: Vec::new(),
            services: Vec::new(),
            stores: vec![store("files")],
            profiles: Vec::new(),
            related: R::Related::default(),
            heard: None,
            now: NOW,
        }
    }

    /// Edits the spec: its generation grows.
    #[must_use]
    pub fn edited(mut self, edit: impl Fn(&mut <R::Resource as HasSpec>::Spec)) -> Self {
        edit(self.object.spec_mut());
        count_edit(self.object.meta_mut());
        self
    }

    /// A platform team writes a PodProfile. It replaces an earlier one of its name.
    #[must_use]
    pub fn profiled(mut self, profile: PodProfile) -> Self {
        self.profiles.retain(|known| known.name_any() != profile.name_any());
        self.profiles.push(profile);
        self
    }

    #[must_use]
    pub fn without_profiles(mut self) -> Self {
        self.profiles.clear();
        self
    }

    #[must_use]
    pub fn without_stores(mut self) -> Self {
        self.stores.clear();
        self
    }

    /// The time of the decision, in seconds after [`NOW`].
    #[must_use]
    pub fn at(mut self, seconds: i64) -> Self {
        self.now = NOW + seconds;
        self
    }

    /// The log of its worker ends with `report`, and is read next `next` seconds after [`NOW`].
    #[must_use]
    pub fn hearing(mut self, report: Report, next: i64) -> Self {
        self.heard = Some(Heard { report: Some(Arc::new(report)), next: at(NOW + next) });
        self
    }

    /// Somebody deletes the run at [`NOW`].
    #[must_use]
    pub fn being_deleted(mut self) -> Self {
        self.object.meta_mut().deletion_timestamp = Some(time(NOW));
        self
    }

    /// Gives the newest pod a status.
    ///
    /// # Panics
    /// Without a pod.
    #[must_use]
    pub fn pod(mut self, status: PodStatus) -> Self {
        self.pods.last_mut().expect("a pod").status = status;
        self
    }

    #[must_use]
    pub fn without_pods(mut self) -> Self {
        self.pods.clear();
        self
    }

    pub fn status(&self) -> RunStatus {
        self.object.status().cloned().unwrap_or_default()
    }

    /// The state as the operator observes it.
    pub fn observed(&self) -> Observed<R> {
        let stores = self.stores.iter().map(|store| (store.name_any(), Arc::new(store.clone())));
        Observed {
            object: Arc::new(self.object.clone()),
            pods: self.pods.iter().cloned().map(Arc::new).collect(),
            jobs: self.jobs.iter().cloned().map(Arc::new).collect(),
            children: self.services.iter().cloned().map(service).collect(),
            stores: stores.collect(),
            profile: profile(&self.profiles, self.object.execution().profile.as_deref()),
            worker_image: "worker".into(),
            operator: "mlop-test".into(),
            heard: self.heard.clone(),
            related: self.related.clone(),
        }
    }
}

impl<R: Run<Related: Clone>> Situation for RunCase<R> {
    type Status = RunStatus;

    fn plan(&self) -> Plan<RunStatus> {
        let mut plan = as_written(&self.object, plan(&self.observed(), at(self.now)), at(self.now));
        // What would change nothing is not written.
        plan.applies.retain(|apply| {
            let name = apply.object["metadata"]["name"].as_str();
            self.services.iter().all(|service| service.metadata.name.as_deref() != name)
        });
        plan
    }

    fn carried_out(&self, plan: &Plan<RunStatus>) -> Self {
        let mut next = self.clone();
        if let Some(status) = &plan.status {
            *next.object.status_mut() = Some(status.clone());
        }
        next.pods.extend(created_of(plan, Some("Pod"), at(self.now)));
        next.jobs.extend(created_of(plan, Some("Job"), at(self.now)));
        let applied = plan.applies.iter().map(|apply| created(apply.object.clone(), at(self.now)));
        next.services.extend(applied);
        for delete in &plan.deletes {
            next.pods.retain(|pod| pod.uid().as_ref() != Some(&delete.uid));
            next.jobs.retain(|job| job.uid().as_ref() != Some(&delete.uid));
            next.services.retain(|service| service.metadata.uid.as_ref() != Some(&delete.uid));
        }
        next
    }

    fn summary(&self, plan: &Plan<RunStatus>) -> String {
        let mut words = Vec::new();
        match &plan.status {
            None => words.push("quiet".to_owned()),
            Some(status) => {
                if let Some(c) = condition::get(&status.conditions, condition_type::SUCCEEDED) {
                    words.push(format!("{}/{}", c.status, c.reason));
                }
                let is_stalled = condition::get(&status.conditions, condition_type::STALLED).is_some();
                words.extend(is_stalled.then(|| "Stalled".to_owned()));
                words.push(format!("{} attempts", status.attempts));
            }
        }
        for create in &plan.creates {
            let verb = if create.dry_run { "try" } else { "create" };
            let name = create.object["metadata"]["name"].as_str().unwrap_or_default();
            words.push(format!("{verb} {} {name}", create.kind.kind));
        }
        for apply in &plan.applies {
            let name = apply.object["metadata"]["name"].as_str().unwrap_or_default();
            words.push(format!("apply {} {name}", apply.kind.kind));
        }
        words.extend(plan.deletes.iter().map(|delete| format!("delete {}", delete.name)));
        words.extend(plan.events.iter().map(|event| format!("event {}", event.reason)));
        words.extend(requeue(plan, self.now));
        words.join(" ")
    }
}

fn service(object: ChildObject) -> Child {
    Child { kind: ApiKind::of::<Service>(), object: Arc::new(object) }
}

/// A ready ObjectStore of this name.
pub fn store(name: &str) -> ObjectStore {
    connected(object(name, &json!({"endpoint": "http://s3", "bucket": "b"})), "http://s3")
}
