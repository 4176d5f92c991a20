//! Which objects a change in a cache enqueues.

use super::{
    cache::{Cache, Cached},
    workqueue::{Key, Workqueue},
};
use mlop_api::labels;
use std::sync::Arc;

/// Wakes `queue` for the keys that `keys` names, on every change in `store`.
pub fn wake<K: Cached>(
    store: &Arc<Cache<K>>,
    queue: &Arc<Workqueue>,
    keys: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    store.listen(move |change| {
        for key in change.object().into_iter().flat_map(|object| keys(object)) {
            queue.wake(key);
        }
    });
}

/// The key of the intent that a child belongs to, by its label, if the intent is of `kind`.
pub fn intent_key<K: Cached>(child: &K, kind: &str) -> Vec<Key> {
    let labels = child.meta().labels.as_ref();
    let label = |name: &str| labels.and_then(|all| all.get(name));
    match (label(labels::INTENT_KIND), label(labels::INTENT)) {
        (Some(of), Some(name)) if of == kind => {
            vec![Key::new(child.meta().namespace.clone().unwrap_or_default(), name)]
        }
        _ => Vec::new(),
    }
}

/// The key of the run that a pod or Job works for, by its label, if the run is of `kind`.
pub fn run_key<K: Cached>(child: &K, kind: &str) -> Vec<Key> {
    let labels = child.meta().labels.as_ref();
    let label = |name: &str| labels.and_then(|all| all.get(name));
    match (label(labels::RUN_KIND), label(labels::RUN)) {
        (Some(of), Some(name)) if of == kind => {
            vec![Key::new(child.meta().namespace.clone().unwrap_or_default(), name)]
        }
        _ => Vec::new(),
    }
}
