//! Ingestion: ObjectStores are checked, Datasets are kept up to date from them.

mod dataset;
mod object_store;
mod scan;
mod version;

use mlop_api::dataset::ObjectStore;
use mlop_core::{Setup, resource::PodView};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = "mlop-ingestion";

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    setup.control(object_store::Probing { pods: Arc::clone(&pods) }, &stores).owns(&pods);
    setup
        .intent(dataset::DatasetIntent { stores: Arc::clone(&stores) })
        .owns(&pods)
        .enqueue_on(&stores, dataset::uses_store);
    setup.runs(version::Version);
}
