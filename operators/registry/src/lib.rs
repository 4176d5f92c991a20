//! Registry: Models record each new training result in MLflow, judge it, and give it an alias.

mod model;
mod tracking;
mod version;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Service},
};
use mlop_api::{
    dataset::ObjectStore,
    registry::{Model, ModelVersion, TrackingServer},
};
use mlop_core::{
    Key, Setup,
    inputs::{Inputs, references},
    intent::{Intent, Sources},
    resource::PodView,
    run::Runs,
    triggers::{intent_key, run_key, wake},
};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = "mlop-registry";

/// Sets the operator up: what it watches, and what wakes whom.
pub fn install(setup: &mut Setup) {
    let models = setup.watch::<Model>();
    let versions = setup.watch::<ModelVersion>();
    let servers = setup.watch::<TrackingServer>();
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let services = setup.watch_children::<Service>();
    let claims = setup.watch_children::<PersistentVolumeClaim>();
    let inputs = Inputs::watch(setup);

    let tracking = setup.control(tracking::Tracking { deployments: Arc::clone(&deployments) }, &servers);
    for children in [&deployments, &services, &claims] {
        wake(children, &tracking, |child| intent_key(child, "TrackingServer"));
    }

    let sources = Sources { inputs: inputs.clone(), runs: Arc::clone(&versions), pods: Arc::clone(&pods) };
    let model = setup.control(model::Models { sources, servers: Arc::clone(&servers) }, &models);
    wake(&versions, &model, |version| intent_key(version, "Model"));
    wake(&pods, &model, |pod| intent_key(pod, "Model"));
    inputs.wake(&models, &model, |object| references(&model::ModelIntent::inputs(object)));
    let dependents = Arc::clone(&models);
    wake(&servers, &model, move |server| {
        let key = Key::of(&server.metadata);
        let uses = |model: &Model| model.spec.tracking_server == key.name;
        dependents.select(&key.namespace, uses).iter().map(|model| Key::of(&model.metadata)).collect()
    });

    let registering = version::Registering { servers: Arc::clone(&servers), models: Arc::clone(&models) };
    let runs = Runs { run: registering, pods: Arc::clone(&pods), jobs: None, stores: Arc::clone(&stores) };
    let version = setup.control(runs, &versions);
    wake(&pods, &version, |pod| run_key(pod, "ModelVersion"));
    mlop_core::run::wake_on_stores(&stores, &versions, &version);
    let waiting = Arc::clone(&versions);
    wake(&servers, &version, move |server| {
        let key = Key::of(&server.metadata);
        let uses = |version: &ModelVersion| version.spec.identity.tracking_server == key.name;
        waiting.select(&key.namespace, uses).iter().map(|version| Key::of(&version.metadata)).collect()
    });
}
