//! What happens to a cluster as a whole: restored backups, types that are removed, namespaces that end, quotas.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;

use crate::{
    Sim,
    quota::Quotas,
    resource::{Model, Types},
    status::{self, Result},
    store::{Backup, Key},
};

/// What etcd holds at one moment. [`Sim::restore`] brings it back.
#[derive(Debug, Clone)]
pub struct Snapshot {
    objects: Backup,
    unstored_status: BTreeSet<Key>,
    types: Types,
    quotas: Quotas,
}

impl Sim {
    /// A backup of everything that is stored: objects, custom types, quotas, and the counter of resource versions.
    pub fn snapshot(&self) -> Snapshot {
        let server = self.lock();
        Snapshot {
            objects: server.store.backup(),
            unstored_status: server.unstored_status.clone(),
            types: server.types.clone(),
            quotas: server.quotas.clone(),
        }
    }

    /// Puts a backup in the place of what is stored, as if etcd had been restored and the API server started again.
    ///
    /// - Every open watch ends, and the history before the backup is gone: older versions get 410.
    /// - The counter goes back. New writes get resource versions that clients have seen on other objects.
    /// - A watch that is taken up at a version of the lost future is accepted, and silent until the counter has passed
    ///   it: its client misses what is written until then, and is not told that what it knows never happened.
    ///   A list that asks for at least such a version gets 504.
    /// - Uids stay unique, and time does not go back.
    ///
    /// The simulator's own controllers start again with the server. A kubelet that still has a pod reports anew how
    /// far it is, stops pods that are not known any more, and runs those again that it had forgotten.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut server = self.lock();
        let Snapshot { objects, unstored_status, types, quotas } = snapshot.clone();
        server.unstored_status = unstored_status;
        server.types = types;
        server.quotas = quotas;
        server.store.restore(objects);
    }

    /// Removes a custom type with all its objects, finalizers or not, as when somebody deletes the CRD and clears
    /// what holds it up. Watches show the deletions and end; then nothing is served under its path
    /// until [`register_crd`](Sim::register_crd) brings the type back, without objects.
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
        server.store.tell_all();
        Ok(())
    }

    /// Deletes a namespace, `default` included. Nothing new is accepted in it (403 with the cause
    /// `NamespaceTerminating`), its objects are deleted in the background, and when the last finalizer has let go it
    /// is gone: then creations in it get 404. Creating a `Namespace` of that name makes a new, empty one.
    ///
    /// # Errors
    /// It is not there.
    pub fn terminate_namespace(&self, name: &str) -> Result<()> {
        self.delete::<Namespace>("", name)
    }

    /// Allows at most `limit` objects of a resource in a namespace, or with `None` any number. One more is refused
    /// with 403 `exceeded quota`; what is there already stays. Pods that have ended do not count.
    ///
    /// `resource` is named as for kubectl: `pods`, `jobs`, or with its group `datasets.mlop.dev`.
    ///
    /// # Errors
    /// No such resource is served.
    pub fn set_quota(&self, namespace: &str, resource: &str, limit: Option<usize>) -> Result<()> {
        let mut server = self.lock();
        let ty = server.types.by_name(resource).cloned().ok_or_else(status::no_such_resource)?;
        server.quotas.set(namespace, &ty, limit);
        // What was refused before may be tried again.
        server.store.tell_all();
        Ok(())
    }
}
