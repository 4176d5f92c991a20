//! The caches of all kinds that may be inputs.

use super::{InputState, signal};
use crate::{
    resource::{ApiKind, InputObject},
    runtime::{
        cache::{Cache, Cached},
        setup::Setup,
        workqueue::{Key, Workqueue},
    },
};
use mlop_api::common::{NamedInput, ObjectRef};
use std::{collections::BTreeMap, sync::Arc};

/// The caches of all kinds that may be inputs.
#[derive(Clone, Default)]
pub struct Inputs {
    stores: BTreeMap<GroupKind, InputStore>,
}

type GroupKind = (String, String);
type InputStore = (ApiKind, Arc<Cache<InputObject>>);

impl Inputs {
    /// Watches all kinds that may be inputs, as `--input-kinds` lists them.
    pub fn watch(setup: &mut Setup) -> Self {
        let kinds = setup.settings().input_kinds.clone();
        let stores = kinds.into_iter().map(|kind| {
            let store = setup.dynamic(kind.clone(), None);
            ((kind.group.clone(), kind.kind.clone()), (kind, store))
        });
        Self { stores: stores.collect() }
    }

    /// The input as the cache knows it.
    pub fn state(&self, namespace: &str, input: &NamedInput) -> InputState {
        let found = self.of(&input.from);
        InputState {
            name: input.name.clone(),
            from: input.from.clone(),
            kind: found.map(|(kind, _)| kind.clone()),
            object: found.and_then(|(_, store)| store.get(&Key::new(namespace, &input.from.name))),
        }
    }

    pub fn lookup(&self, namespace: &str, from: &ObjectRef) -> Option<Arc<InputObject>> {
        self.of(from).and_then(|(_, store)| store.get(&Key::new(namespace, &from.name)))
    }

    fn of(&self, from: &ObjectRef) -> Option<&InputStore> {
        self.stores.get(&(from.api_group.clone(), from.kind.clone()))
    }

    /// Wakes the dependents of an input when something that they decide on has changed.
    pub fn wake<K: Cached>(
        &self,
        dependents: &Arc<Cache<K>>,
        queue: &Arc<Workqueue>,
        references: impl Fn(&K) -> Vec<ObjectRef> + Clone + Send + Sync + 'static,
    ) {
        for ((group, kind), (_, store)) in &self.stores {
            let (group, kind) = (group.clone(), kind.clone());
            let (dependents, queue) = (Arc::clone(dependents), Arc::clone(queue));
            let references = references.clone();
            store.listen(move |change| {
                let unchanged = match (&change.before, &change.after) {
                    (Some(before), Some(after)) => signal(before) == signal(after),
                    _ => false,
                };
                if unchanged {
                    return;
                }
                let wanted =
                    ObjectRef { api_group: group.clone(), kind: kind.clone(), name: change.key.name.clone() };
                let depends = |object: &K| references(object).contains(&wanted);
                for object in dependents.select(&change.key.namespace, depends) {
                    queue.wake(Key::of(object.meta()));
                }
            });
        }
    }
}
