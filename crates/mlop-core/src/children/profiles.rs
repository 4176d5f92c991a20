//! The PodProfiles of all namespaces, and the objects that a change of one enqueues.

use super::profile::Profile;
use crate::{
    resource::Cached,
    runtime::{cache::Cache, setup::Setup, triggers::Controls, workqueue::Key},
};
use mlop_api::profile::PodProfile;
use std::sync::Arc;

/// The PodProfiles that an operator watches.
#[derive(Clone)]
pub struct Profiles(Arc<Cache<PodProfile>>);

impl Profiles {
    pub fn watch(setup: &mut Setup) -> Self {
        Self(setup.watch())
    }

    /// The profile of an object in `namespace` whose `spec.profile` is `name`.
    pub fn of(&self, namespace: &str, name: Option<&str>) -> Profile {
        let found = self.0.get(&Key::new(namespace, Profile::name_of(name)));
        Profile::new(name, found.as_deref())
    }

    /// A change of a profile enqueues the objects whose pods it completes. `name` returns the `spec.profile` of an object
    /// that may make further pods, and nothing for others.
    pub fn enqueue_users<K: Cached>(
        &self,
        controls: Controls<K>,
        name: impl Fn(&K) -> Option<Option<&str>> + Send + Sync + 'static,
    ) -> Controls<K> {
        controls.enqueue_on(&self.0, move |object| {
            name(object).map(|name| Profile::name_of(name).to_owned()).into_iter().collect()
        })
    }
}
