//! Registry: Models record each new training result in MLflow, judge it, and give it an alias.

mod alias;
mod check;
mod gates;
mod mlflow;
mod model;
mod model_intent;
mod model_version;
mod registration;
#[cfg(test)]
mod tests;
mod tracking_server;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Service},
    networking::v1::NetworkPolicy,
};
use mlop_api::{
    dataset::ObjectStore,
    registry::{Model, TrackingServer},
};
use mlop_core::{
    Index, Setup, by_intent,
    children::{owned::ChildCaches, profiles::Profiles},
    resource::PodView,
};
use model_intent::ModelIntent;
use model_version::ModelVersionRun;
use std::sync::Arc;
use tracking_server::TrackingServerReconciler;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::REGISTRY.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let models = setup.watch::<Model>();
    let servers = setup.watch::<TrackingServer>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let services = setup.watch_children::<Service>();
    let policies = setup.watch_children::<NetworkPolicy>();
    let claims = setup.watch_children::<PersistentVolumeClaim>();

    let profiles = Profiles::watch(setup);
    let children = ChildCaches::default()
        .with::<Deployment>(&deployments)
        .with::<Service>(&services)
        .with::<NetworkPolicy>(&policies)
        .with::<PersistentVolumeClaim>(&claims);
    let reconciler = TrackingServerReconciler {
        deployments: Arc::clone(&deployments),
        children,
        pods: by_intent::<TrackingServer, _>(&pods),
        profiles: profiles.clone(),
    };
    let controls = setup
        .control(reconciler, &servers)
        .owns(&deployments)
        .owns(&services)
        .owns(&policies)
        .owns(&pods)
        .owns(&claims);
    profiles.enqueue_users(controls, |server| Some(server.spec.profile.as_deref()));
    let stores = setup.watch::<ObjectStore>();
    let by_place = Arc::new(Index::new(&models, alias::places));
    let (rivals, places) = (Arc::clone(&by_place), Arc::clone(&by_place));
    setup
        .intent(ModelIntent { by_place, servers: Arc::clone(&servers), stores })
        .owns(&pods)
        .enqueue_on(&servers, model::servers_of)
        .enqueue_keys(&models, move |model| alias::rivals(&rivals, model));
    setup
        .runs(ModelVersionRun {
            servers: Arc::clone(&servers),
            models: Arc::clone(&models),
            by_place: places,
        })
        .enqueue_on(&servers, model_version::servers_of)
        .enqueue_on(&models, model_version::models_of);
}
