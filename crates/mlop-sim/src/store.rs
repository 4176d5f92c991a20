//! Objects, the one counter of revisions, and the history that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    object::Object,
    revisions::{Revision, Revisions},
    status,
};

/// The revision of an empty store. Earlier ones count as compacted, as on a server that has run for a while.
const FIRST_REVISION: u64 = 1000;

/// Where an object is. Cluster-scoped objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// `plural.group`, or the plural alone for the core group.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One write. `before` is `None` for a creation, `after` for a removal.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// The objects of all types at the current revision, and how they came to be.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// The oldest revision from which a watch can still start.
    compacted: u64,
    revision: Revision,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: FIRST_REVISION,
            revision: Revision::starting_at(FIRST_REVISION),
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Tells of every new revision.
    pub(crate) fn subscribe(&self) -> Revisions {
        self.revision.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects, ordered by resource, namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The objects of one resource, in one namespace or (with `None`) in all.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let first = Key {
            resource: resource.into(),
            namespace: namespace.unwrap_or_default().into(),
            name: String::new(),
        };
        self.objects.range(first..).take_while(move |(key, _)| {
            key.resource == resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
    }

    /// The objects of one resource as they were at `revision`.
    pub(crate) fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> status::Result<BTreeMap<Key, Arc<Value>>> {
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.list(resource, namespace).map(|(key, object)| (key.clone(), object.clone())).collect();
        let later: Vec<&Change> = self.changes_since(revision)?.collect();
        for change in later.into_iter().rev().filter(|change| change.concerns(resource, namespace)) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// The writes after `revision`, oldest first; 410 when the history does not reach back that far.
    pub(crate) fn changes_since(&self, revision: u64) -> status::Result<impl Iterator<Item = &Change>> {
        if revision < self.compacted {
            return Err(status::expired(revision, self.compacted));
        }
        let start = self.history.partition_point(|change| change.revision <= revision);
        Ok(self.history.range(start..))
    }

    /// Writes `object` under a new revision, which becomes its resource version.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let revision = self.next(&mut object);
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), after.clone());
        self.record(Change { revision, key: key.clone(), before, after: Some(after.clone()) });
        after
    }

    /// Removes an object; the answer is its last state under the revision of the removal.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Value> {
        let before = self.objects.remove(key)?;
        let mut last = Value::clone(&before);
        let revision = self.next(&mut last);
        self.record(Change { revision, key: key.clone(), before: Some(before), after: None });
        Some(last)
    }

    /// Forgets the history: watches and lists from older revisions get 410.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision();
    }

    fn next(&self, object: &mut Value) -> u64 {
        let revision = self.revision() + 1;
        object.meta_mut().insert("resourceVersion".into(), json!(revision.to_string()));
        revision
    }

    fn record(&mut self, change: Change) {
        let revision = change.revision;
        self.history.push_back(change);
        self.revision.set(revision);
    }
}

impl Change {
    pub(crate) fn concerns(&self, resource: &str, namespace: Option<&str>) -> bool {
        self.key.resource == resource && namespace.is_none_or(|namespace| self.key.namespace == namespace)
    }
}
