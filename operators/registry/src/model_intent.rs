//! The intent of a Model, and the facts that it decides on.

use mlop_api::{
    dataset::ObjectStore,
    registry::{Model, ModelContent, TrackingServer},
};
use mlop_core::{Cache, Index};
use std::{collections::BTreeMap, sync::Arc};

/// The intent of Models, with the caches that it reads.
pub struct ModelIntent {
    /// Models by the alias that they ask for.
    pub by_place: Arc<Index<Model>>,
    pub servers: Arc<Cache<TrackingServer>>,
    pub stores: Arc<Cache<ObjectStore>>,
}

#[derive(Clone, Default)]
pub struct Related {
    pub server: Option<Arc<TrackingServer>>,
    /// The ObjectStores of the artifacts of its versions, by name.
    pub stores: BTreeMap<String, Arc<ObjectStore>>,
    /// The Model that has the alias that this one asks for.
    pub holder: Option<String>,
}

/// Whether `model` still describes a version of `content`.
pub fn is_for(content: &ModelContent, model: &Model) -> bool {
    *content == ModelContent::from(model)
}
