//! Operations of a cluster administrator: custom types, namespaces, quotas and compaction.

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};

use crate::{
    api::status::{self, Result},
    schema::resource::Model,
    sim::Sim,
    storage::store::Key,
};

impl Sim {
    /// Serves the type that `crd` declares, in its storage version.
    ///
    /// # Errors
    /// The CRD lacks a storage version or its schema, or a pattern does not compile.
    pub fn register_crd(&self, crd: &CustomResourceDefinition) -> std::result::Result<(), String> {
        self.lock().types.register(crd)
    }

    /// Removes a custom type with all its objects, regardless of finalizers, as if its CRD had been deleted and all
    /// finalizers removed.
    ///
    /// Watches show the deletions and end. The path then gets 404 until [`register_crd`](Sim::register_crd) registers
    /// the type again, without objects.
    ///
    /// # Errors
    /// No such custom type is served.
    pub fn remove_crd(&self, plural: &str, group: &str) -> Result<()> {
        let mut server = self.lock();
        let ty = server.types.get(plural, group).filter(|ty| matches!(ty.model, Model::Custom(_)));
        let ty = ty.cloned().ok_or_else(status::no_such_resource)?;
        let keys: Vec<Key> = server.store.list(&ty.resource, None).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            server.unstored_status.remove(key);
            server.store.remove(key);
        }
        server.types.remove(&ty);
        server.store.notify_all();
        Ok(())
    }

    /// Deletes a namespace, including `default`.
    ///
    /// Creations in it get 403 with the cause `NamespaceTerminating`, and its objects are deleted in the background. When
    /// the last finalizer is removed, the namespace is deleted, and creations in it get 404. The creation of a
    /// `Namespace` of that name makes a new, empty one.
    ///
    /// # Errors
    /// The namespace does not exist.
    pub fn terminate_namespace(&self, name: &str) -> Result<()> {
        self.delete::<Namespace>("", name)
    }

    /// Limits the number of objects of a resource in a namespace; `None` removes the limit.
    ///
    /// A creation that exceeds it gets 403 `exceeded quota`. Existing objects remain. Pods that have ended do not count.
    ///
    /// `resource` has the form that kubectl accepts: `pods`, `jobs`, or with its group `datasets.mlop.dev`.
    ///
    /// # Errors
    /// No such resource is served.
    pub fn set_quota(&self, namespace: &str, resource: &str, limit: Option<usize>) -> Result<()> {
        let mut server = self.lock();
        let ty = server.types.by_name(resource).cloned().ok_or_else(status::no_such_resource)?;
        server.quotas.set(namespace, &ty, limit);
        // Controllers retry creations that the former limit refused.
        server.store.notify_all();
        Ok(())
    }

    /// Discards the history of changes. Lists and watches from older resource versions get 410.
    pub fn compact(&self) {
        self.lock().store.compact();
    }
}
