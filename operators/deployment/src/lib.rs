//! Deployment: a ModelDeployment serves the newest version of its model that may be used.

mod model_deployment;
mod server;
mod status;
#[cfg(test)]
mod tests;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use mlop_api::{dataset::ObjectStore, deployment::ModelDeployment};
use mlop_core::{Setup, inputs::Inputs, resource::PodView};
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
    let inputs = Inputs::watch(setup);

    let reconciler = ModelDeploymentReconciler {
        inputs: inputs.clone(),
        stores: Arc::clone(&stores),
        pods: Arc::clone(&pods),
        deployments: Arc::clone(&deployments),
    };
    let controls = setup
        .control(reconciler, &objects)
        .owns(&pods)
        .owns(&deployments)
        .owns(&services)
        .enqueue_on(&stores, |_, _| true);
    inputs.enqueue_dependents(&controls, |object| vec![object.spec.from.clone()]);
}
