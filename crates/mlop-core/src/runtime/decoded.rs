//! An object of a list or a watch, or why it cannot be read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One object that cannot be read must not hide the others of its list.
///
/// kube's `DeserializeGuard` does the same. It reads into a tree of values, copies the tree, and reads that: several times
/// the time, and the memory while a list is read. This type keeps the text instead, and reads it once. It can be read from
/// JSON text only.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<K>(pub Result<K, Unreadable>);

/// What can be told of an object that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub metadata: ObjectMeta,
    pub error: String,
}

impl<'de, K> Deserialize<'de> for Decoded<K>
where
    K: DeserializeOwned + Resource,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let error = match serde_json::from_str(text.get()) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error.to_string(),
        };
        let PartialObjectMeta::<K> { metadata, .. } =
            serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self(Err(Unreadable { metadata, error })))
    }
}

impl<K: Resource> Resource for Decoded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::PodView;
    use kube::core::{ObjectList, WatchEvent};

    const BAD: &str = r#"{"metadata": {"namespace": "ns", "name": "bad"}, "status": "words"}"#;
    const GOOD: &str = r#"{"metadata": {"namespace": "ns", "name": "good"}, "status": {"phase": "Running"}}"#;

    fn told(object: &Decoded<PodView>) -> String {
        let name = object.meta().name.clone().unwrap_or_default();
        match &object.0 {
            Ok(pod) => format!("{name} is {}", pod.status.phase.as_deref().unwrap_or_default()),
            Err(unreadable) => format!("{name}: {}", unreadable.error),
        }
    }

    #[test]
    fn unreadable_object_does_not_hide_the_others() {
        let list = format!(
            r#"{{"kind": "PodList", "apiVersion": "v1", "metadata": {{}}, "items": [{BAD}, {GOOD}]}}"#
        );
        let list: ObjectList<Decoded<PodView>> = serde_json::from_str(&list).unwrap();
        let told: Vec<String> = list.items.iter().map(told).collect();
        assert_eq!(told[1], "good is Running");
        assert!(told[0].starts_with("bad: invalid type: string \"words\""), "{told:?}");
    }

    #[test]
    fn watch_events_are_read() {
        let event = format!(r#"{{"type": "MODIFIED", "object": {GOOD}}}"#);
        let event: WatchEvent<Decoded<PodView>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(&event, WatchEvent::Modified(pod) if told(pod) == "good is Running"));
        let bookmark = r#"{"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}}"#;
        let bookmark: WatchEvent<Decoded<PodView>> = serde_json::from_str(bookmark).unwrap();
        assert!(matches!(bookmark, WatchEvent::Bookmark(_)));
    }

    #[test]
    fn what_is_no_object_is_an_error_of_the_list() {
        assert!(serde_json::from_str::<Decoded<PodView>>("7").is_err());
    }
}
