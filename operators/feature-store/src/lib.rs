//! Feature store: FeatureViews are computed from other tables, kept as files, and served online.

mod feature_snapshot;
mod feature_store;
mod feature_view;
mod feature_view_cleanup;
mod online_store;
#[cfg(test)]
mod tests;

use feature_snapshot::FeatureSnapshotRun;
use feature_store::FeatureStoreReconciler;
use feature_view::{FeatureViewIntent, feature_stores_of};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::Service,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use mlop_api::{
    dataset::ObjectStore,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
};
use mlop_core::{
    Index, Key, Setup, by_intent,
    children::{owned::ChildCaches, profiles::Profiles},
    intent_key,
    resource::PodView,
};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::FEATURE_STORE.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let views = setup.watch::<FeatureView>();
    let feature_stores = setup.watch::<FeatureStore>();
    let stores = setup.watch::<ObjectStore>();
    let snapshots = setup.watch::<FeatureSnapshot>();
    let pods = setup.watch_own::<PodView>();
    let deployments = setup.watch_children::<Deployment>();
    let sets = setup.watch_children::<StatefulSet>();
    let services = setup.watch_children::<Service>();
    let policies = setup.watch_children::<NetworkPolicy>();
    let budgets = setup.watch_children::<PodDisruptionBudget>();
    let profiles = Profiles::watch(setup);

    let children = ChildCaches::default()
        .with::<Deployment>(&deployments)
        .with::<StatefulSet>(&sets)
        .with::<Service>(&services)
        .with::<NetworkPolicy>(&policies);
    let reconciler = FeatureStoreReconciler {
        pods: by_intent::<FeatureStore, _>(&pods),
        deployments: Arc::clone(&deployments),
        sets: Arc::clone(&sets),
        children,
        profiles: profiles.clone(),
    };
    let controls = setup
        .control(reconciler, &feature_stores)
        .owns(&pods)
        .owns(&deployments)
        .owns(&sets)
        .owns(&services)
        .owns(&policies)
        .owns(&budgets);
    profiles.enqueue_users(controls, |store| Some(store.spec.profile.as_deref()));
    let intent =
        FeatureViewIntent { feature_stores: Arc::clone(&feature_stores), stores: Arc::clone(&stores) };
    // A view reads the ObjectStores of its snapshots.
    let in_store = Index::new(&snapshots, |snapshot| vec![snapshot.spec.store.clone()]);
    let views_of = move |store: &ObjectStore| {
        let Key { namespace, name } = Key::of(&store.metadata);
        let snapshots = in_store.get(&namespace, &name);
        snapshots.iter().filter_map(|snapshot| intent_key::<FeatureView, _>(snapshot.as_ref())).collect()
    };
    setup
        .intent(intent)
        .owns(&pods)
        .enqueue_on(&feature_stores, feature_stores_of)
        .enqueue_keys(&stores, views_of);
    setup.runs(FeatureSnapshotRun { views, feature_stores });
}
