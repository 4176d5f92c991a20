//! Lookups in the indexes of a cache.

use super::Cache;
use crate::{
    resource::Cached,
    runtime::{index_entries::Entries, workqueue::Key},
};
use std::sync::Arc;

impl<K: Cached> Cache<K> {
    /// Adds an index and returns its position.
    pub(in crate::runtime) fn add_index(&self, mut index: Entries<K>) -> usize {
        let mut objects = self.objects();
        index.fill(&objects.by_key);
        objects.indexes.push(index);
        objects.indexes.len() - 1
    }

    /// The objects of `namespace` with `value` in the index at `position`, sorted by name.
    pub(in crate::runtime) fn indexed(&self, position: usize, namespace: &str, value: &str) -> Vec<Arc<K>> {
        let objects = self.objects();
        let names = objects.indexes.get(position).into_iter().flat_map(|index| index.names(namespace, value));
        names.filter_map(|name| objects.by_key.get(&Key::new(namespace, name)).cloned()).collect()
    }

    /// The keys of those objects.
    pub(in crate::runtime) fn indexed_keys(&self, position: usize, namespace: &str, value: &str) -> Vec<Key> {
        let objects = self.objects();
        let names = objects.indexes.get(position).into_iter().flat_map(|index| index.names(namespace, value));
        names.map(|name| Key::new(namespace, name)).collect()
    }

    /// The objects of all namespaces with `value` in the index at `position`, sorted by namespace and name.
    pub(in crate::runtime) fn indexed_everywhere(&self, position: usize, value: &str) -> Vec<Arc<K>> {
        let objects = self.objects();
        let keys = objects.indexes.get(position).into_iter().flat_map(|index| index.keys(value));
        keys.filter_map(|key| objects.by_key.get(&key).cloned()).collect()
    }

    /// The keys of those objects.
    pub(in crate::runtime) fn indexed_keys_everywhere(&self, position: usize, value: &str) -> Vec<Key> {
        let objects = self.objects();
        objects.indexes.get(position).into_iter().flat_map(|index| index.keys(value)).collect()
    }
}
