//! Ingestion: ObjectStores and PodProfiles are checked, Datasets are kept up to date from them.

mod dataset;
mod dataset_scan;
mod dataset_version;
mod freshness;
#[cfg(test)]
mod golden_pods;
mod object_store;
mod pod_profile;

use dataset::{DatasetIntent, store_names};
use dataset_version::DatasetVersionRun;
use mlop_api::{dataset::ObjectStore, profile::PodProfile};
use mlop_core::{Setup, by_intent, children::profiles::Profiles, resource::PodView};
use object_store::ObjectStoreReconciler;
use pod_profile::PodProfileReconciler;
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::INGESTION.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let probes = by_intent::<ObjectStore, _>(&pods);
    let written = setup.watch::<PodProfile>();
    setup.control(PodProfileReconciler, &written);
    let profiles = Profiles::watch(setup);
    let reconciler = ObjectStoreReconciler { pods: probes, profiles: profiles.clone() };
    let controls = setup.control(reconciler, &stores).owns(&pods);
    profiles.enqueue_users(controls, |store| Some(store.spec.profile.as_deref()));
    setup
        .intent(DatasetIntent { stores: Arc::clone(&stores) })
        .owns(&pods)
        .enqueue_on(&stores, |dataset| store_names(dataset).map(str::to_owned).collect());
    setup.runs(DatasetVersionRun);
}

#[cfg(test)]
mod tests;
