//! The state that a run's decision depends on.

use super::{Run, RunResource, listen::Heard, outcome::Pods};
use crate::{
    Blocked,
    children::{connection, owned::Child, pod, profile::Profile},
    plan::Delete,
    resource::{JobView, PodView},
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use mlop_api::{dataset::ObjectStore, labels, run::RunSpec, task};
use std::{collections::BTreeMap, sync::Arc};

/// The observed state of one run, read from caches.
pub struct Observed<R: Run> {
    pub object: Arc<R::Resource>,
    /// Pods of all attempts.
    pub pods: Vec<Arc<PodView>>,
    /// Jobs of all attempts, for kinds with [`Run::JOB`].
    pub jobs: Vec<Arc<JobView>>,
    /// The Service of its pods, if there is one.
    pub children: Vec<Child>,
    /// The ObjectStores of the namespace by name.
    pub stores: BTreeMap<String, Arc<ObjectStore>>,
    /// The profile of its pods.
    pub profile: Profile,
    /// Image of the operator's worker.
    pub worker_image: String,
    /// Name of the operator.
    pub operator: String,
    /// What the worker of the running attempt has said, for kinds with [`Run::SPEAKS`].
    pub heard: Option<Heard>,
    /// Related objects of this kind of run.
    pub related: R::Related,
}

impl<R: Run> Observed<R> {
    /// The value of a label of the run, for its children.
    pub(super) fn inherited(&self, label: &str) -> String {
        let labels = self.object.meta().labels.as_ref();
        labels.and_then(|all| all.get(label)).cloned().unwrap_or_default()
    }

    /// The ObjectStore of this name.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn store(&self, name: &str) -> Result<&ObjectStore, Blocked> {
        connection::named(&self.stores, name)
    }

    /// Since when all connections that an attempt needs are ready.
    ///
    /// # Errors
    /// When one of them is missing or not ready.
    pub(super) fn connected(&self) -> Result<Timestamp, Blocked> {
        let object = self.object.as_ref();
        let output = output_store(object).map(|name| connection::writable(self.store(name)?));
        let stores = store_names(object).map(|name| connection::ready(self.store(name)?));
        let others = R::connections(self).into_iter().map(connection::ready);
        output
            .into_iter()
            .chain(stores)
            .chain(others)
            .try_fold(Timestamp::MIN, |newest, since| Ok(newest.max(since?)))
    }

    /// The run's inputs as a pod reads them.
    ///
    /// # Errors
    /// When one of their ObjectStores does not exist.
    pub fn inputs(&self) -> Result<Vec<task::Input>, Blocked> {
        let inputs = self.object.lineage().inputs.iter();
        inputs
            .map(|input| {
                Ok(task::Input {
                    name: input.record.name.clone(),
                    digest: input.record.digest.clone(),
                    media_type: input.media_type.clone(),
                    store: pod::store(self.store(&input.store)?),
                })
            })
            .collect()
    }

    /// Every ObjectStore that the run reads or writes, sorted by name.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub fn all_stores(&self) -> Result<Vec<&ObjectStore>, Blocked> {
        let inputs = self.object.lineage().inputs.iter().map(|input| input.store.as_str());
        let mut names: Vec<&str> = inputs.chain([self.object.store()]).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| self.store(name)).collect()
    }

    /// The pod of an attempt that makes its result.
    pub(super) fn pod(&self, attempt: u32) -> Option<&PodView> {
        self.attempt(attempt).leader()
    }

    /// The pods of an attempt.
    pub(super) fn attempt(&self, attempt: u32) -> Pods<'_> {
        let pods = self.pods.iter().map(AsRef::as_ref).filter(|pod| attempt_of(*pod) == Some(attempt));
        let job = self.job(attempt);
        // An attempt keeps the size that it was made with.
        let size = job.and_then(|job| job.spec.completions).or_else(|| R::replicas(&self.object));
        Pods::new(pods.collect(), size.unwrap_or(1), job)
    }

    /// The deletion of what attempts before `attempt` have left. The status keeps their last lines.
    pub(super) fn earlier_attempts(&self, attempt: u32) -> Vec<Delete> {
        let why = "a later attempt starts";
        let is_earlier = |number: Option<u32>| number.is_some_and(|number| number < attempt);
        let jobs = self.jobs.iter().filter(|job| is_earlier(attempt_of(job.as_ref())));
        let jobs = jobs.filter_map(|job| Delete::of(job.as_ref(), why));
        let pods = self.loose_pods().filter(|pod| is_earlier(attempt_of(*pod)));
        jobs.chain(pods.filter_map(|pod| Delete::of(pod, why))).collect()
    }

    /// The pods that are deleted by themselves. The garbage collector takes the pod of a deleted Job, and has taken the owner
    /// off a pod whose Job was deleted without it.
    pub(super) fn loose_pods(&self) -> impl Iterator<Item = &PodView> {
        let is_of_job = |pod: &PodView| pod.owner_references().iter().any(|owner| owner.kind == "Job");
        self.pods.iter().map(AsRef::as_ref).filter(move |pod| !is_of_job(pod))
    }

    /// The Job of an attempt.
    pub(super) fn job(&self, attempt: u32) -> Option<&JobView> {
        self.jobs.iter().map(AsRef::as_ref).find(|job| attempt_of(*job) == Some(attempt))
    }
}

/// Names of the ObjectStores that `run` reads or writes.
pub(super) fn store_names<R: RunResource>(run: &R) -> impl Iterator<Item = &str> {
    let inputs = run.lineage().inputs.iter().map(|input| input.store.as_str());
    inputs.chain(run.spec().source_store()).chain([run.store()])
}

/// Name of the ObjectStore that `run` writes; none for a run that writes no objects.
fn output_store<R: RunResource>(run: &R) -> Option<&str> {
    run.spec().digested_store()
}

fn attempt_of<K: Resource>(child: &K) -> Option<u32> {
    child.meta().labels.as_ref()?.get(labels::ATTEMPT)?.parse().ok()
}
