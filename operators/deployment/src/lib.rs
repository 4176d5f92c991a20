//! Deployment: a ModelDeployment serves the newest version of its model that may be used.

mod judge;
mod model_deployment;
mod rollout;
mod router;
mod server;
mod serving;
mod status;
mod steps;
#[cfg(test)]
mod tests;
mod trace;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
    policy::v1::PodDisruptionBudget,
};
use mlop_api::{dataset::ObjectStore, deployment::ModelDeployment};
use mlop_core::{
    Setup, by_intent,
    children::{owned::ChildCaches, profiles::Profiles},
    inputs::Inputs,
    resource::PodView,
};
use model_deployment::ModelDeploymentReconciler;
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::DEPLOYMENT.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let objects = setup.watch::<ModelDeployment>();
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let services = setup.watch_children::<Service>();
    let budgets = setup.watch_children::<PodDisruptionBudget>();
    let maps = setup.watch_children::<ConfigMap>();
    let inputs = Inputs::watch(setup);
    let profiles = Profiles::watch(setup);

    let reconciler = ModelDeploymentReconciler {
        inputs: inputs.clone(),
        stores: Arc::clone(&stores),
        pods: by_intent::<ModelDeployment, _>(&pods),
        deployments: Arc::clone(&deployments),
        children: ChildCaches::default()
            .with::<Deployment>(&deployments)
            .with::<Service>(&services)
            .with::<PodDisruptionBudget>(&budgets)
            .with::<ConfigMap>(&maps),
        profiles: profiles.clone(),
    };
    let controls = setup
        .control(reconciler, &objects)
        .owns(&pods)
        .owns(&deployments)
        .owns(&services)
        .owns(&budgets)
        .owns(&maps)
        .enqueue_on(&stores, served_from);
    let controls = profiles.enqueue_users(controls, |object| Some(object.spec.profile.as_deref()));
    let dependents = inputs.enqueue_dependents(&controls, |object| vec![object.spec.from.clone()]);
    inputs.enqueue_on_stores(&controls, &dependents, &stores);
}

/// The ObjectStore of the artifact that is served.
fn served_from(object: &ModelDeployment) -> Vec<String> {
    let artifact = object.status.as_ref().and_then(|status| status.artifact.as_ref());
    artifact.map(|artifact| artifact.store.clone()).into_iter().collect()
}
