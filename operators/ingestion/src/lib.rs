//! Ingestion: ObjectStores are checked, Datasets are kept up to date from them.

mod dataset;
mod object_store;
mod scan;
mod version;

use mlop_api::dataset::{Dataset, DatasetVersion, ObjectStore};
use mlop_core::{
    Key, Setup,
    inputs::Inputs,
    intent::Sources,
    resource::PodView,
    run::Runs,
    triggers::{intent_key, run_key, wake},
};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = "mlop-ingestion";

/// Sets the operator up: what it watches, and what wakes whom.
pub fn install(setup: &mut Setup) {
    let stores = setup.watch::<ObjectStore>();
    let datasets = setup.watch::<Dataset>();
    let versions = setup.watch::<DatasetVersion>();
    let pods = setup.watch_own::<PodView>();

    let probing = setup.control(object_store::Probing { pods: Arc::clone(&pods) }, &stores);
    wake(&pods, &probing, |pod| intent_key(pod, "ObjectStore"));

    let sources =
        Sources { inputs: Inputs::watch(setup), runs: Arc::clone(&versions), pods: Arc::clone(&pods) };
    let dataset = setup.control(dataset::Datasets { sources, stores: Arc::clone(&stores) }, &datasets);
    wake(&versions, &dataset, |version| intent_key(version, "Dataset"));
    wake(&pods, &dataset, |pod| intent_key(pod, "Dataset"));
    let dependents = Arc::clone(&datasets);
    wake(&stores, &dataset, move |store| {
        let name = store.metadata.name.clone().unwrap_or_default();
        let namespace = store.metadata.namespace.clone().unwrap_or_default();
        let uses = |set: &Dataset| {
            set.spec.store == name
                || set.spec.source.objects.as_ref().is_some_and(|objects| objects.store == name)
        };
        dependents.select(&namespace, uses).iter().map(|set| Key::of(&set.metadata)).collect()
    });

    let runs =
        Runs { run: version::Version, pods: Arc::clone(&pods), jobs: None, stores: Arc::clone(&stores) };
    let version = setup.control(runs, &versions);
    wake(&pods, &version, |pod| run_key(pod, "DatasetVersion"));
    mlop_core::run::wake_on_stores(&stores, &versions, &version);
}
