//! What users do to single objects: annotations, pins, and children that are not theirs.

use crate::{
    cluster::{self, NAMESPACE},
    plan::{Child, Request, Stage},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Pod, Service},
};
use kube::Resource;
use mlop_api::{
    dataset::DatasetVersion, features::FeatureSnapshot, labels, registry::ModelVersion, status::RunStatus,
    training::TrainingRun,
};
use mlop_core::run::RunResource;
use mlop_sim::Sim;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// Pins an intent to its first result, if it has one.
pub fn pin_first(sim: &Sim, stage: Stage) {
    fn first<R: RunResource + DeserializeOwned>(sim: &Sim) -> Option<String> {
        let has_output = |run: &R| run.status().is_some_and(|status: &RunStatus| status.output.is_some());
        sim.list::<R>().into_iter().find(has_output)?.meta().name.clone()
    }
    let run = match stage {
        Stage::Dataset => first::<DatasetVersion>(sim),
        Stage::FeatureView => first::<FeatureSnapshot>(sim),
        Stage::TrainingJob => first::<TrainingRun>(sim),
        Stage::Model => first::<ModelVersion>(sim),
        Stage::ModelDeployment => None,
    };
    if let Some(run) = run {
        let (kind, name) = stage.object();
        // The object may be gone.
        let _ = cluster::change(sim, kind, name, &json!({"pin": run}));
    }
}

/// Sets an annotation to the present time.
pub fn request(sim: &Sim, stage: Stage, request: Request) {
    let annotation = match request {
        Request::Retry => labels::RETRY_REQUESTED_AT,
        Request::Cancel => labels::CANCEL_REQUESTED_AT,
        Request::Refresh => labels::REFRESH_REQUESTED_AT,
        Request::Run => labels::RUN_REQUESTED_AT,
        Request::Promote => labels::PROMOTE_REQUESTED_AT,
    };
    let (kind, name) = stage.object();
    cluster::annotate(sim, kind, name, annotation, &sim.now().to_string());
}

/// Deletes one of the children of a kind.
pub fn delete_child(sim: &Sim, child: Child, nth: usize) {
    match child {
        Child::Deployment => delete::<Deployment>(sim, nth),
        Child::Service => delete::<Service>(sim, nth),
        Child::Job => delete::<Job>(sim, nth),
        Child::Pod => delete::<Pod>(sim, nth),
        Child::DatasetVersion => delete::<DatasetVersion>(sim, nth),
        Child::FeatureSnapshot => delete::<FeatureSnapshot>(sim, nth),
        Child::TrainingRun => delete::<TrainingRun>(sim, nth),
        Child::ModelVersion => delete::<ModelVersion>(sim, nth),
    }
}

/// Changes one of the children of a kind: its spec if that can be undone, else its labels. Runs lose all of them.
pub fn edit_child(sim: &Sim, child: Child, nth: usize) {
    match child {
        Child::Deployment => edit::<Deployment>(sim, nth, |deployment| {
            let spec = deployment.spec.get_or_insert_default();
            spec.replicas = Some(5);
            let pod = spec.template.spec.get_or_insert_default();
            pod.node_selector.get_or_insert_default().insert("by".to_owned(), "hand".to_owned());
        }),
        Child::Service => edit::<Service>(sim, nth, |service| {
            let selector = &mut service.spec.get_or_insert_default().selector;
            selector.get_or_insert_default().insert("by".to_owned(), "hand".to_owned());
        }),
        Child::Job => edit::<Job>(sim, nth, label),
        Child::Pod => edit::<Pod>(sim, nth, label),
        Child::DatasetVersion => edit::<DatasetVersion>(sim, nth, unlabel),
        Child::FeatureSnapshot => edit::<FeatureSnapshot>(sim, nth, unlabel),
        Child::TrainingRun => edit::<TrainingRun>(sim, nth, unlabel),
        Child::ModelVersion => edit::<ModelVersion>(sim, nth, unlabel),
    }
}

fn label<K: Resource>(object: &mut K) {
    object.meta_mut().labels.get_or_insert_default().insert("by".to_owned(), "hand".to_owned());
}

fn unlabel<K: Resource>(object: &mut K) {
    object.meta_mut().labels = None;
}

/// The name of an object of a kind.
fn nth_name<K>(sim: &Sim, nth: usize) -> Option<String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let objects = sim.list::<K>();
    objects.get(nth.checked_rem(objects.len())?)?.meta().name.clone()
}

fn delete<K>(sim: &Sim, nth: usize)
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    if let Some(name) = nth_name::<K>(sim, nth) {
        // It is being deleted already, or the server refuses.
        let _ = sim.delete::<K>(NAMESPACE, &name);
    }
}

fn edit<K>(sim: &Sim, nth: usize, change: impl FnOnce(&mut K))
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    if let Some(name) = nth_name::<K>(sim, nth) {
        // The server may refuse.
        let _ = sim.edit::<K>(NAMESPACE, &name, change);
    }
}
