//! Backups of the whole server, and their restore.

use std::collections::BTreeSet;

use crate::{
    api::quota::Quotas,
    schema::types::Types,
    sim::Sim,
    storage::store::{Backup, Key},
};

/// The content of etcd at one moment. [`Sim::restore`] restores it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    objects: Backup,
    unstored_status: BTreeSet<Key>,
    types: Types,
    quotas: Quotas,
}

impl Sim {
    /// A backup of the stored state: objects, custom types, quotas, and the counter of resource versions.
    pub fn snapshot(&self) -> Snapshot {
        let server = self.lock();
        Snapshot {
            objects: server.store.backup(),
            unstored_status: server.unstored_status.clone(),
            types: server.types.clone(),
            quotas: server.quotas.clone(),
        }
    }

    /// Replaces the stored state by a backup, as if etcd had been restored and the API server restarted.
    ///
    /// - Every open watch ends. The history before the backup is discarded, so older resource versions get 410.
    /// - The counter of resource versions is reset. New writes get versions that clients have seen on other objects.
    /// - A watch from a version later than the backup is accepted, and shows nothing until the counter exceeds that version.
    ///   Its client misses all writes until then, and never learns that the writes after the backup were undone.
    ///   A list that requires such a version gets 504.
    /// - Uids remain unique, and time is not reset.
    ///
    /// The simulator's own controllers restart with the server. A kubelet reports the state of its pods again, stops
    /// pods that no longer exist, and restarts pods that it had already removed.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut server = self.lock();
        let Snapshot { objects, unstored_status, types, quotas } = snapshot.clone();
        server.unstored_status = unstored_status;
        server.types = types;
        server.quotas = quotas;
        server.store.restore(objects);
    }
}
