//! The reconciler of every kind of run.

use super::{Observed, Run, RunResource, plan};
use crate::{
    condition,
    plan::Plan,
    resource::{JobView, PodView},
    runtime::{
        cache::Cache, context::Context, controller::Reconciler, error::Error, setup::Setup,
        triggers::Controls, workqueue::Key,
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use mlop_api::{contract::condition_type, dataset::ObjectStore, labels, status::RunStatus};
use std::sync::Arc;

/// The controller of a kind of run.
pub struct Runs<R: Run> {
    run: R,
    pods: Arc<Cache<PodView>>,
    jobs: Option<Arc<Cache<JobView>>>,
    stores: Arc<Cache<ObjectStore>>,
}

impl<R: Run> Reconciler for Runs<R> {
    type Resource = R::Resource;
    type Status = RunStatus;
    type Observed = Observed<R>;

    async fn observe(&self, cx: &Context, object: Arc<R::Resource>) -> Result<Observed<R>, Error> {
        let Key { namespace, name } = Key::of(object.meta());
        let is_ours = |meta: &ObjectMeta| {
            meta.labels.as_ref().and_then(|labels| labels.get(labels::RUN)) == Some(&name)
        };
        let jobs = self.jobs.iter().flat_map(|jobs| jobs.select(&namespace, |job| is_ours(job.meta())));
        let stores = self.stores.select(&namespace, |_| true);
        Ok(Observed {
            pods: self.pods.select(&namespace, |pod| is_ours(pod.meta())),
            jobs: jobs.collect(),
            stores: stores.into_iter().map(|store| (store.name_any(), store)).collect(),
            worker_image: cx.settings.worker_image.clone(),
            operator: cx.settings.operator.clone(),
            related: self.run.observe(&object),
            object,
        })
    }

    fn plan(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
        plan(observed, now)
    }
}

impl Setup {
    /// Reconciles all runs of a kind. A change of an attempt or of an ObjectStore enqueues the runs that use it.
    pub fn runs<R: Run>(&mut self, run: R) -> Controls<R::Resource> {
        let objects = self.watch::<R::Resource>();
        let stores = self.watch::<ObjectStore>();
        let pods = self.watch_own::<PodView>();
        let jobs = R::JOB.then(|| self.watch_own::<JobView>());
        let runs = Runs { run, pods: Arc::clone(&pods), jobs: jobs.clone(), stores: Arc::clone(&stores) };
        let controls = self.control(runs, &objects).owns_attempts(&pods);
        let controls = match jobs {
            Some(jobs) => controls.owns_attempts(&jobs),
            None => controls,
        };
        controls.enqueue_on(&stores, |run, store: &ObjectStore| {
            let name = store.name_any();
            !has_succeeded(run)
                && (run.store() == name || run.lineage().inputs.iter().any(|input| input.store == name))
        })
    }
}

fn has_succeeded<R: RunResource>(run: &R) -> bool {
    run.status().is_some_and(|status| condition::is_true(&status.conditions, condition_type::SUCCEEDED))
}
