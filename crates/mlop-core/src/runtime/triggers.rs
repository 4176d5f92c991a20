//! Triggers: the objects that a change in a cache enqueues.

use super::{
    cache::Cache,
    workqueue::{Key, Workqueue},
};
use crate::resource::Cached;
use kube::Resource;
use mlop_api::labels;
use std::sync::Arc;

/// The objects of one controller and their workqueue, for adding triggers.
pub struct Controls<K> {
    objects: Arc<Cache<K>>,
    queue: Arc<Workqueue>,
}

impl<K> Clone for Controls<K> {
    fn clone(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), queue: Arc::clone(&self.queue) }
    }
}

impl<K: Cached> Controls<K> {
    /// Every change of an object enqueues it.
    pub(super) fn new(objects: &Arc<Cache<K>>, queue: &Arc<Workqueue>) -> Self {
        let controls = Self { objects: Arc::clone(objects), queue: Arc::clone(queue) };
        enqueue_on(objects, queue, |object| Some(Key::of(object.meta())));
        controls
    }

    /// A change of an object of `others` enqueues the objects of its namespace that depend on it.
    pub fn enqueue_on<C: Cached>(
        self,
        others: &Arc<Cache<C>>,
        depends: impl Fn(&K, &C) -> bool + Send + Sync + 'static,
    ) -> Self {
        let controls = self.clone();
        others.on_change(move |change| {
            if let Some(other) = change.object() {
                controls.enqueue(&change.key.namespace, |object| depends(object, other));
            }
        });
        self
    }

    /// Enqueues the objects of `namespace` that satisfy `filter`.
    pub fn enqueue(&self, namespace: &str, filter: impl Fn(&K) -> bool) {
        for object in self.objects.select(namespace, filter) {
            self.queue.enqueue(Key::of(object.meta()));
        }
    }
}

impl<K: Cached + Resource<DynamicType = ()>> Controls<K> {
    /// A change of a child enqueues the object whose name and kind its labels carry.
    pub fn owns<C: Cached>(self, children: &Arc<Cache<C>>) -> Self {
        enqueue_on(children, &self.queue, intent_key::<K, C>);
        self
    }

    /// A change of an attempt's pod or Job enqueues its run.
    pub fn owns_attempts<C: Cached>(self, attempts: &Arc<Cache<C>>) -> Self {
        enqueue_on(attempts, &self.queue, |child| {
            labelled_key(child, labels::RUN, labels::RUN_KIND, &K::kind(&()))
        });
        self
    }
}

/// The key of the object of kind `P` that a child was made for, from its labels.
pub fn intent_key<P: Resource<DynamicType = ()>, C: Resource>(child: &C) -> Option<Key> {
    labelled_key(child, labels::INTENT, labels::INTENT_KIND, &P::kind(&()))
}

fn labelled_key<C: Resource>(child: &C, name: &str, kind: &str, wanted: &str) -> Option<Key> {
    let labels = child.meta().labels.as_ref()?;
    let name = labels.get(name)?;
    let namespace = child.meta().namespace.clone().unwrap_or_default();
    (labels.get(kind)? == wanted).then(|| Key::new(namespace, name))
}

/// Every change in `cache` enqueues the key that `key` returns.
fn enqueue_on<C: Cached>(
    cache: &Arc<Cache<C>>,
    queue: &Arc<Workqueue>,
    key: impl Fn(&C) -> Option<Key> + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    cache.on_change(move |change| {
        if let Some(key) = change.object().and_then(|object| key(object)) {
            queue.enqueue(key);
        }
    });
}
