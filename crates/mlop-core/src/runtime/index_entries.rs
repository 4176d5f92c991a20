//! The content of one index: the names of objects by a value of theirs.

use super::workqueue::Key;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The values by which an object is found, such as the names of the objects that it uses.
type Values<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// The content of an index.
pub(super) struct Entries<K> {
    values: Values<K>,
    /// Namespace, value, and name of an object.
    entries: BTreeSet<(String, String, String)>,
}

impl<K> Entries<K> {
    pub(super) fn new(values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { values: Box::new(values), entries: BTreeSet::new() }
    }

    /// Adds the objects that were cached before the index was added.
    pub(super) fn fill(&mut self, objects: &BTreeMap<Key, Arc<K>>) {
        for (key, object) in objects {
            self.replace(key, None, Some(object));
        }
    }

    /// Takes in a change of the object `key`.
    pub(super) fn replace(&mut self, key: &Key, before: Option<&K>, after: Option<&K>) {
        let [before, after] = [before, after].map(|object| object.map(&self.values).unwrap_or_default());
        if before == after {
            return;
        }
        let entry = |value: String| (key.namespace.clone(), value, key.name.clone());
        for value in before {
            self.entries.remove(&entry(value));
        }
        self.entries.extend(after.into_iter().map(entry));
    }

    /// Names of the objects of `namespace` with this value.
    pub(super) fn names(&self, namespace: &str, value: &str) -> impl Iterator<Item = &str> {
        let from = (namespace.to_owned(), value.to_owned(), String::new());
        let (namespace, value) = (from.0.clone(), from.1.clone());
        let with_value =
            self.entries.range(from..).take_while(move |(n, v, _)| *n == namespace && *v == value);
        with_value.map(|(_, _, name)| name.as_str())
    }
}
