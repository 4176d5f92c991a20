//! Names, owners and labels of children.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use mlop_api::labels;

/// The owner reference of a child: it is deleted with `owner` and does not delay the owner's deletion.
pub fn owner<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Metadata of a child of `parent`.
pub fn child_meta<K: Resource<DynamicType = ()>>(
    parent: &K,
    name: String,
    labels: impl IntoIterator<Item = (&'static str, String)>,
) -> ObjectMeta {
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value));
    let common = [(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())];
    ObjectMeta {
        name: Some(name),
        namespace: parent.meta().namespace.clone(),
        labels: Some(labels.chain(common).collect()),
        owner_references: Some(vec![owner(parent)]),
        ..Default::default()
    }
}

/// Labels of a child that `operator` makes for `parent`. They enqueue the parent when the child changes.
pub fn child_labels<K: Resource<DynamicType = ()>>(
    parent: &K,
    operator: &str,
    role: &str,
) -> [(&'static str, String); 4] {
    [
        (labels::OPERATOR, operator.to_owned()),
        (labels::ROLE, role.to_owned()),
        (labels::INTENT, parent.meta().name.clone().unwrap_or_default()),
        (labels::INTENT_KIND, K::kind(&()).into_owned()),
    ]
}

/// Whether `child` carries the [`child_labels`] of the `parent` kind under this name.
pub fn is_child_of<P: Resource<DynamicType = ()>>(child: &ObjectMeta, parent: &str) -> bool {
    let label = |name: &str| child.labels.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    label(labels::INTENT) == Some(parent) && label(labels::INTENT_KIND) == Some(&P::kind(&()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Forecast, ForecastRun, ForecastSpec, NS};

    #[test]
    fn child_is_found_by_its_labels() {
        let mut parent = Forecast::new("delay", ForecastSpec::default());
        parent.metadata.namespace = Some(NS.into());
        parent.metadata.uid = Some("u".into());
        let meta = child_meta(&parent, "delay-scan".into(), child_labels(&parent, "mlop-test", "scan"));
        assert!(is_child_of::<Forecast>(&meta, "delay"));
        assert!(!is_child_of::<Forecast>(&meta, "another"));
        assert!(!is_child_of::<ForecastRun>(&meta, "delay"));
    }

    #[test]
    fn owner_reference_never_delays_the_deletion_of_the_owner() {
        let mut parent = Forecast::new("delay", ForecastSpec::default());
        parent.metadata.uid = Some("u".into());
        let owner = owner(&parent);
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
            ("Forecast", "delay", "u")
        );
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), None));
    }
}
