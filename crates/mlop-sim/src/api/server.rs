//! The state of the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    identity::Identities,
    quota::Quotas,
    status::{self, Result},
};
use crate::{
    object::Object,
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
    /// The logs of pods, by uid: lines, and when they are printed.
    logs: BTreeMap<String, Vec<(Timestamp, String)>>,
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
            logs: BTreeMap::new(),
        }
    }

    /// The containers of a pod begin to print.
    pub(crate) fn start_log(&mut self, uid: &str, lines: &[(Duration, String)]) {
        let begin = self.clock.now();
        let at = |after: &Duration| begin.checked_add(*after).unwrap_or(begin);
        self.logs.insert(uid.into(), lines.iter().map(|(after, line)| (at(after), line.clone())).collect());
    }

    /// The last `tail` lines that the containers of a pod have printed.
    pub(crate) fn read_log(&self, namespace: &str, name: &str, tail: usize) -> Result<String> {
        let pods = self.types.get("pods", "").ok_or_else(status::no_such_resource)?;
        let pod = self.find(pods, namespace, name)?;
        let now = self.clock.now();
        let lines = self.logs.get(pod.uid()).map(Vec::as_slice).unwrap_or_default();
        let printed: Vec<_> = lines.iter().filter(|(at, _)| *at <= now).collect();
        let last = printed.iter().skip(printed.len().saturating_sub(tail));
        Ok(last.map(|(_, line)| format!("{line}\n")).collect())
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
