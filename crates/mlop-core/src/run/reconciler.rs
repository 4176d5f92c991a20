//! The reconciler of every kind of run.

use super::{
    Observed, Run, RunResource, has_succeeded, listen::Listener, observed::store_names, outcome, plan, trace,
    trace_id,
};
use crate::{
    children::{owned::ChildCaches, profiles::Profiles},
    plan::Plan,
    resource::{JobView, PodView},
    runtime::{
        cache::Cache,
        context::Context,
        controller::Reconciler,
        error::Error,
        index::Index,
        logging::LogKeys,
        setup::Setup,
        triggers::{Controls, by_run},
        workqueue::Key,
    },
    span::Span,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};
use mlop_api::{dataset::ObjectStore, status::RunStatus};
use std::sync::Arc;

/// The controller of a kind of run.
pub struct Runs<R: Run> {
    run: R,
    /// By the name of the run.
    pods: Index<PodView>,
    /// By the name of the run.
    jobs: Option<Index<JobView>>,
    /// The Services of attempts of several pods.
    services: ChildCaches,
    stores: Arc<Cache<ObjectStore>>,
    profiles: Profiles,
    /// Listens to the workers, for kinds with [`Run::SPEAKS`].
    listener: Option<Arc<Listener>>,
}

impl<R: Run> Reconciler for Runs<R> {
    type Resource = R::Resource;
    type Status = RunStatus;
    type Observed = Observed<R>;

    async fn observe(&self, cx: &Context, object: Arc<R::Resource>) -> Result<Observed<R>, Error> {
        let key = Key::of(object.meta());
        let Key { namespace, name } = &key;
        let pods = self.pods.get(namespace, name);
        let mut speakers = pods.iter().filter(|pod| outcome::speaks(pod, object.as_ref()));
        let heard = self.listener.as_ref().zip(speakers.next_back()).map(|(listener, pod)| {
            listener.listen(cx, &key, &pod.name_any(), pod.metadata.uid.as_deref().unwrap_or_default())
        });
        Ok(Observed {
            pods,
            heard,
            jobs: self.jobs.iter().flat_map(|jobs| jobs.get(namespace, name)).collect(),
            children: self.services.of(object.meta()),
            stores: self.stores.named(namespace, store_names(object.as_ref())),
            profile: self.profiles.of(namespace, object.execution().profile.as_deref()),
            worker_image: cx.settings.worker_image.clone(),
            operator: cx.settings.operator.clone(),
            related: self.run.observe(&object),
            object,
        })
    }

    fn plan(observed: &Observed<R>, now: Timestamp) -> Plan<RunStatus> {
        plan(observed, now)
    }

    fn log_keys(run: &R::Resource) -> LogKeys {
        LogKeys {
            run: run.meta().name.clone(),
            attempt: Some(trace::current_attempt(run)),
            trace_id: Some(trace_id(run).to_string()),
        }
    }

    fn spans(observed: &Observed<R>, planned: Option<&RunStatus>, now: Timestamp) -> Vec<Span> {
        trace::spans(observed, planned, now)
    }
}

impl Setup {
    /// Reconciles all runs of a kind. A change of an attempt, an ObjectStore or a PodProfile enqueues the runs
    /// that use it.
    pub fn runs<R: Run>(&mut self, run: R) -> Controls<R::Resource> {
        let objects = self.watch_projected(super::project::<R::Resource>);
        let stores = self.watch::<ObjectStore>();
        let profiles = Profiles::watch(self);
        let pods = self.watch_own::<PodView>();
        let jobs = R::JOB.then(|| self.watch_own::<JobView>());
        let services = R::JOB.then(|| self.watch_children::<Service>());
        let listener = R::SPEAKS.then(|| Arc::new(Listener::new()));
        let of_run = |cache| ChildCaches::default().with::<Service>(cache);
        let runs = Runs {
            run,
            pods: by_run::<R::Resource, _>(&pods),
            jobs: jobs.as_ref().map(by_run::<R::Resource, _>),
            services: services.as_ref().map(of_run).unwrap_or_default(),
            stores: Arc::clone(&stores),
            profiles: profiles.clone(),
            listener: listener.clone(),
        };
        let controls = self.control(runs, &objects).owns_attempts(&pods);
        if let Some(listener) = listener {
            listener.on_news(controls.enqueuer());
        }
        let controls = match jobs {
            Some(jobs) => controls.owns_attempts(&jobs),
            None => controls,
        };
        let controls = match services {
            Some(services) => controls.owns_attempts(&services),
            None => controls,
        };
        let controls = profiles
            .enqueue_users(controls, |run| (!has_succeeded(run)).then(|| run.execution().profile.as_deref()));
        controls.enqueue_on(&stores, |run| match has_succeeded(run) {
            true => Vec::new(),
            false => store_names(run).map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::dataset::DatasetVersion;

    #[test]
    fn version_uses_the_stores_of_its_source_and_its_output() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let version: DatasetVersion = serde_json::from_value(serde_json::json!({
            "apiVersion": "mlop.dev/v1alpha1",
            "kind": "DatasetVersion",
            "metadata": {"name": "flights-1"},
            "spec": {
                "listing": digest, "store": "files", "objects": {"store": "raw", "prefix": "flights/"},
                "content": {"columns": [], "format": {"csv": {}}, "quarantine": {"maxRatio": "0"}}, "lineage": {"inputDigest": digest, "semanticsVersion": 1, "inputs": []},
            },
        }))
        .unwrap();
        assert_eq!(store_names(&version).collect::<Vec<_>>(), ["raw", "files"]);
    }
}
