//! Oracles that look at every write of an operator, at the moment when the server has accepted it.

use super::{progress::ProgressOracle, quota::QuotaOracle};
use crate::{
    cluster::{Cluster, ExternalSystems, Pointer, view_pointer},
    inject::OperatorRequest,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use mlop_api::{
    Digest,
    contract::condition_type,
    deployment::{ModelDeployment, ModelDeploymentSpec},
    features::{FeatureStore, FeatureView},
    labels,
    task::ViewKey,
};
use mlop_core::resource::PodView;
use mlop_sim::Sim;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Looks at each write from now on. Violations are among those of the ledger.
pub fn watch(cluster: &Cluster) {
    let (sim, external, ready) = (cluster.sim.clone(), cluster.shared_external(), Mutex::default());
    let (progress, quota) = (ProgressOracle::default(), QuotaOracle::default());
    cluster.injector.set_witness(Box::new(move |request| {
        let moment = Moment {
            sim: &sim,
            external: &external,
            ready: &ready,
            progress: &progress,
            quota: &quota,
            request,
        };
        moment.violations().into_iter().flatten().collect()
    }));
}

/// One write, and the state of the world right after it.
struct Moment<'a> {
    sim: &'a Sim,
    external: &'a Arc<Mutex<ExternalSystems>>,
    /// The specs of the pods for which ModelDeployments were Ready last, by uid.
    ready: &'a Mutex<BTreeMap<String, Value>>,
    progress: &'a ProgressOracle,
    quota: &'a QuotaOracle,
    request: &'a OperatorRequest,
}

impl Moment<'_> {
    fn violations(&self) -> [Option<String>; 3] {
        match (self.request.verb, self.request.kind.as_str(), self.request.subresource.as_str()) {
            ("apply", "modeldeployments", "status") => [self.early_deployment(), self.bad_version(), None],
            ("apply", "featureviews", "status") => [self.early_generation(), self.early_view(), None],
            ("apply", "datasets" | "trainingjobs" | "models", "status") => {
                [self.early_generation(), None, None]
            }
            ("apply", "trainingruns", "status") => [self.progress(), self.quota.violation(self.sim), None],
            ("create", "pods" | "jobs", "") => [self.early_work(), None, self.repeated_work()],
            _ => [None, None, None],
        }
    }

    fn body(&self) -> Value {
        serde_json::from_slice(&self.request.body).unwrap_or_default()
    }

    fn object(&self) -> String {
        format!("{} {}", self.request.kind, self.request.name)
    }

    /// Progress that a report of a run should not have. The answer of a queue has none.
    fn progress(&self) -> Option<String> {
        let body = self.body();
        let report = Some(&body).filter(|body| !body["status"]["conditions"].is_null())?;
        self.progress.violation(&self.object(), report)
    }

    /// The generation for which the written status says Ready.
    fn ready_for(&self, body: &Value) -> Option<i64> {
        let is_ready =
            |condition: &&Value| condition["type"] == condition_type::READY && condition["status"] == "True";
        let ready = body["status"]["conditions"].as_array()?.iter().find(is_ready)?;
        ready["observedGeneration"].as_i64()
    }

    /// An intent that is Ready for a spec for which its artifact is not right.
    fn early_generation(&self) -> Option<String> {
        let body = self.body();
        let generation = self.ready_for(&body)?;
        let right_for = body["status"]["artifact"]["generation"].as_i64();
        (right_for != Some(generation)).then(|| {
            let object = self.object();
            format!("ready too early: {object} for generation {generation}, its artifact for {right_for:?}")
        })
    }

    /// A view that is Ready though the online store serves something older.
    fn early_view(&self) -> Option<String> {
        let body = self.body();
        let generation = self.ready_for(&body)?;
        let namespace = self.request.namespace()?;
        let view = self.sim.get::<FeatureView>(namespace, &self.request.name)?;
        if view.metadata.generation != Some(generation) {
            return None;
        }
        let store = self.sim.get::<FeatureStore>(namespace, view.spec.feature_store.as_ref()?)?;
        let redis = store.spec.redis.existing?;
        let status = &body["status"];
        let wanted = Pointer {
            revision: status["activation"]["revision"].as_i64()?,
            content: status["artifact"]["digest"].as_str()?.to_owned(),
        };
        let key = ViewKey { namespace: namespace.to_owned(), name: self.request.name.clone() };
        let pointer = view_pointer(&redis.address, &key);
        let external = self.external.lock().unwrap_or_else(PoisonError::into_inner);
        let found = external.pointers.get(&pointer).cloned().unwrap_or_default();
        // A pod activates its result before the operator learns of it.
        let is_behind = found.revision < wanted.revision
            || (found.revision == wanted.revision && found.content != wanted.content);
        (is_behind && external.flushes == 0)
            .then(|| format!("ready too early: {} serves {found:?} instead of {wanted:?}", self.object()))
    }

    /// A ModelDeployment that is Ready for a spec that its pods do not have.
    fn early_deployment(&self) -> Option<String> {
        let body = self.body();
        let generation = self.ready_for(&body)?;
        let namespace = self.request.namespace()?;
        let object = self.sim.get::<ModelDeployment>(namespace, &self.request.name)?;
        if object.metadata.generation != Some(generation) {
            return None;
        }
        // A version that comes later leaves Ready True while it is rolled out.
        let pods = pods_of(&object.spec);
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let before = ready.insert(object.uid().unwrap_or_default(), pods.clone());
        if before == Some(pods) {
            return None;
        }
        let flaw = match self.sim.get::<Deployment>(namespace, &format!("{}-mdep", self.request.name)) {
            Some(deployment) => flaw(&object, &deployment)?,
            None => "there is no Deployment".to_owned(),
        };
        Some(format!("ready too early: {} for generation {generation}: {flaw}", self.object()))
    }

    /// A bad version that has passed the steps of its rollout.
    fn bad_version(&self) -> Option<String> {
        let object = self.sim.get::<ModelDeployment>(self.request.namespace()?, &self.request.name)?;
        object.spec.rollout?;
        let digest = self.body()["status"]["artifact"]["digest"].as_str()?.to_owned();
        let digest = Digest::try_from(digest).ok()?;
        let external = self.external.lock().unwrap_or_else(PoisonError::into_inner);
        external.faulty.contains(&digest).then(|| format!("bad version: {} serves {digest}", self.object()))
    }

    /// A pod or Job of a run that its queue has not admitted.
    fn early_work(&self) -> Option<String> {
        QuotaOracle::early_work(self.sim, self.request.namespace()?, &self.body())
    }

    /// A pod or Job for a run whose work is finished.
    fn repeated_work(&self) -> Option<String> {
        let body = self.body();
        let label = |name: &str| body["metadata"]["labels"][name].as_str();
        let run = label(labels::RUN).filter(|_| label(labels::ROLE) == Some("run"))?;
        let owner = |meta: &Value| meta["ownerReferences"][0]["uid"].clone();
        let is_finished = |pod: &&PodView| {
            let phase = pod.status.phase.as_deref();
            let is_same = pod.labels().get(labels::RUN).map(String::as_str) == Some(run)
                && pod.labels().get(labels::RUN_KIND).map(String::as_str) == label(labels::RUN_KIND);
            // Of several pods the first makes the result.
            let leads = pod.labels().get(labels::RANK).is_none_or(|rank| rank == "0");
            // The pod of a training belongs to a Job of its run.
            is_same && leads && phase == Some("Succeeded") && pod.metadata.deletion_timestamp.is_none()
        };
        let pods = self.sim.list::<PodView>();
        let finished = pods.iter().find(is_finished)?;
        let finished_owner = finished.owner_references().first().map(|owner| owner.uid.clone());
        let is_of_another = finished_owner.is_some_and(|uid| owner(&body["metadata"]) != uid.as_str())
            && label(labels::RUN_KIND) != Some("TrainingRun");
        let name = finished.name_any();
        (!is_of_another).then(|| format!("finished work: {} though {name} has succeeded", self.object()))
    }
}

/// The part of a spec that the pods are made from.
fn pods_of(spec: &ModelDeploymentSpec) -> Value {
    json!([spec.runtime, spec.node_selector, spec.tolerations])
}

/// The first difference between a ModelDeployment and the pods that run for it.
fn flaw(object: &ModelDeployment, deployment: &Deployment) -> Option<String> {
    let (meta, spec, status) = (&deployment.metadata, deployment.spec.as_ref()?, deployment.status.as_ref());
    let replicas = spec.replicas.unwrap_or(1);
    let is_rolled_out = status.is_some_and(|status| {
        status.observed_generation == meta.generation
            && status.updated_replicas.unwrap_or_default() >= replicas
            && status.ready_replicas.unwrap_or_default() >= replicas
    });
    if !is_rolled_out {
        return Some("its pods are not rolled out".to_owned());
    }
    let pod = spec.template.spec.as_ref()?;
    let image = &object.spec.runtime.image;
    if !pod.containers.iter().any(|container| container.image.as_ref() == Some(image)) {
        return Some(format!("no container has the image {image}"));
    }
    let selector = pod.node_selector.clone().unwrap_or_default();
    if selector != object.spec.node_selector {
        return Some(format!("the node selector is {selector:?}"));
    }
    None
}
