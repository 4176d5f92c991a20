//! Feature store: FeatureViews are computed from other tables, kept as files, and served online.

mod snapshot;
mod store;
mod view;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::Service,
    networking::v1::NetworkPolicy,
};
use mlop_api::{
    dataset::ObjectStore,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
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
pub const NAME: &str = "mlop-feature-store";

/// Sets the operator up: what it watches, and what wakes whom.
pub fn install(setup: &mut Setup) {
    let views = setup.watch::<FeatureView>();
    let snapshots = setup.watch::<FeatureSnapshot>();
    let feature_stores = setup.watch::<FeatureStore>();
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let sets = setup.watch_children::<StatefulSet>();
    let services = setup.watch_children::<Service>();
    let policies = setup.watch_children::<NetworkPolicy>();
    let inputs = Inputs::watch(setup);

    let serving = store::Serving { deployments: Arc::clone(&deployments), sets: Arc::clone(&sets) };
    let serving = setup.control(serving, &feature_stores);
    for children in [&deployments, &sets, &services, &policies] {
        wake(children, &serving, |child| intent_key(child, "FeatureStore"));
    }

    let sources = Sources { inputs: inputs.clone(), runs: Arc::clone(&snapshots), pods: Arc::clone(&pods) };
    let reconciler =
        view::Views { sources, feature_stores: Arc::clone(&feature_stores), stores: Arc::clone(&stores) };
    let view = setup.control(reconciler, &views);
    wake(&snapshots, &view, |snapshot| intent_key(snapshot, "FeatureView"));
    wake(&pods, &view, |pod| intent_key(pod, "FeatureView"));
    inputs.wake(&views, &view, |object| references(&view::ViewIntent::inputs(object)));
    let dependents = Arc::clone(&views);
    wake(&feature_stores, &view, move |store| {
        let key = Key::of(&store.metadata);
        let uses = |view: &FeatureView| view.spec.feature_store == key.name;
        dependents.select(&key.namespace, uses).iter().map(|view| Key::of(&view.metadata)).collect()
    });

    let dependents = Arc::clone(&views);
    wake(&stores, &view, move |store| {
        let views = dependents.select(&Key::of(&store.metadata).namespace, |_| true);
        views.iter().map(|view| Key::of(&view.metadata)).collect()
    });

    let run = snapshot::Snapshot { views: Arc::clone(&views), feature_stores: Arc::clone(&feature_stores) };
    let runs = Runs { run, pods: Arc::clone(&pods), jobs: None, stores: Arc::clone(&stores) };
    let snapshot = setup.control(runs, &snapshots);
    wake(&pods, &snapshot, |pod| run_key(pod, "FeatureSnapshot"));
    mlop_core::run::wake_on_stores(&stores, &snapshots, &snapshot);
}
