//! The state of the server.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    identity::Identities,
    quota::Quotas,
    status::{self, Result},
};
use crate::{
    schema::{resource::ResourceType, types::Types},
    storage::{
        clock::Clock,
        object_version::ObjectVersion,
        store::{Key, Store},
        trace::Write,
    },
};

/// The whole server: its types, its objects, and the trace of its writes.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) types: Types,
    pub(crate) quotas: Quotas,
    pub(crate) clock: Clock,
    pub(crate) identities: Identities,
    pub(crate) writes: Vec<Write>,
    /// Whether responses include `metadata.managedFields`.
    pub(crate) shows_managers: bool,
    /// Objects whose status is a default that no write has stored. The next write changes them in any case.
    pub(crate) unstored_status: BTreeSet<Key>,
}

impl Server {
    /// A server without objects.
    pub(crate) fn new() -> Self {
        Self {
            store: Store::new(),
            types: Types::built_in(),
            quotas: Quotas::default(),
            clock: Clock::start(),
            identities: Identities::default(),
            writes: Vec::new(),
            shows_managers: true,
            unstored_status: BTreeSet::new(),
        }
    }

    pub(crate) fn find(&self, ty: &ResourceType, namespace: &str, name: &str) -> Result<Arc<ObjectVersion>> {
        self.store.get(&key(ty, namespace, name)).cloned().ok_or_else(|| status::not_found(ty, name))
    }
}

/// The key of an object. `namespace` is ignored for cluster-scoped types.
pub(crate) fn key(ty: &ResourceType, namespace: &str, name: &str) -> Key {
    let namespace = if ty.namespaced { namespace } else { "" };
    Key { resource: ty.resource.clone(), namespace: namespace.into(), name: name.into() }
}
