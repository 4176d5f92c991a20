//! The caches of all kinds that may be inputs.

use super::gate::{InputState, signal};
use crate::{
    resource::{ApiKind, Cached, InputObject},
    runtime::{cache::Cache, setup::Setup, triggers::Controls, workqueue::Key},
};
use mlop_api::common::{NamedInput, ObjectRef};
use std::{collections::BTreeMap, sync::Arc};

/// The caches of all kinds that may be inputs.
#[derive(Clone, Default)]
pub struct Inputs {
    caches: BTreeMap<GroupKind, InputCache>,
}

type GroupKind = (String, String);
type InputCache = (ApiKind, Arc<Cache<InputObject>>);

impl Inputs {
    /// Watches all kinds that may be inputs, as `--input-kinds` lists them.
    pub fn watch(setup: &mut Setup) -> Self {
        let kinds = setup.settings().input_kinds.clone();
        let caches = kinds.into_iter().map(|kind| {
            let cache = setup.watch_dynamic(kind.clone());
            ((kind.group.clone(), kind.kind.clone()), (kind, cache))
        });
        Self { caches: caches.collect() }
    }

    /// The input as its cache knows it.
    pub fn state(&self, namespace: &str, input: &NamedInput) -> InputState {
        match self.cache(&input.from) {
            None => InputState::unknown(input),
            Some((kind, cache)) => InputState {
                kind: Some(kind.clone()),
                object: cache.get(&Key::new(namespace, &input.from.name)),
                ..InputState::unknown(input)
            },
        }
    }

    /// The object that a reference names.
    pub fn lookup(&self, namespace: &str, from: &ObjectRef) -> Option<Arc<InputObject>> {
        self.cache(from).and_then(|(_, cache)| cache.get(&Key::new(namespace, &from.name)))
    }

    fn cache(&self, from: &ObjectRef) -> Option<&InputCache> {
        self.caches.get(&(from.api_group.clone(), from.kind.clone()))
    }

    /// Enqueues the dependents of an input when its [`Signal`](super::Signal) changes.
    pub fn enqueue_dependents<K: Cached>(
        &self,
        dependents: &Controls<K>,
        references: impl Fn(&K) -> Vec<ObjectRef> + Clone + Send + Sync + 'static,
    ) {
        for ((group, kind), (_, cache)) in &self.caches {
            let (group, kind) = (group.clone(), kind.clone());
            let (dependents, references) = (dependents.clone(), references.clone());
            cache.on_change(move |change| {
                let is_unchanged = match (&change.before, &change.after) {
                    (Some(before), Some(after)) => signal(before) == signal(after),
                    _ => false,
                };
                if is_unchanged {
                    return;
                }
                let name = change.key.name.clone();
                let changed = ObjectRef { api_group: group.clone(), kind: kind.clone(), name };
                dependents.enqueue(&change.key.namespace, |object| references(object).contains(&changed));
            });
        }
    }
}
