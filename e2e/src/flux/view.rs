//! What Flux reports: conditions, inventories, and the log of its applies.

use anyhow::{Context as _, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    ResourceExt as _,
    core::{GroupVersionKind, object::Object},
};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _};

/// An object of Flux, or one that it has applied.
pub type Delivered = Object<Option<Value>, Status>;

/// What the kinds of Flux and of mlop have in common, and the fields of a Bucket and of a Kustomization.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub conditions: Vec<Condition>,
    /// Of a source; kinds of mlop have another of the same name.
    artifact: Value,
    pub last_applied_revision: String,
    pub last_attempted_revision: String,
    /// The newest request that has been handled.
    pub last_handled_reconcile_at: String,
    pub inventory: Inventory,
}

/// What a Kustomization has applied.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Inventory {
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    id: String,
    #[serde(rename = "v")]
    version: String,
}

impl Entry {
    /// The kind, the namespace (empty for an object of the cluster) and the name.
    ///
    /// # Errors
    /// The id is not `<namespace>_<name>_<group>_<kind>`.
    pub fn parts(&self) -> Result<(GroupVersionKind, &str, &str)> {
        let mut parts = self.id.split('_');
        let mut next = || parts.next().with_context(|| format!("not an id of an inventory: {}", self.id));
        let (namespace, name, group, kind) = (next()?, next()?, next()?, next()?);
        Ok((GroupVersionKind::gvk(group, &self.version, kind), namespace, name))
    }
}

/// The newest revision of a source.
pub fn revision(source: &Delivered) -> Option<&str> {
    source.status.as_ref()?.artifact.get("revision")?.as_str()
}

/// The condition of this type, if it is of the current generation.
pub fn condition<'a>(object: &'a Delivered, condition_type: &str) -> Option<&'a Condition> {
    let found =
        object.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == condition_type)?;
    (found.observed_generation == object.metadata.generation).then_some(found)
}

/// The conditions, as text.
pub fn describe(object: &Delivered) -> String {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.fold(String::new(), |mut text, c| {
        writeln!(text, "  {}={} {}: {}", c.type_, c.status, c.reason, c.message).ok();
        text
    })
}

/// The action of an apply, such as `created`, by object, such as `Dataset/park/points`.
pub type Actions = BTreeMap<String, String>;

/// The actions of the last apply in a log of the kustomize-controller.
pub fn last_actions(log: &str) -> Option<Actions> {
    #[derive(Deserialize)]
    struct Line {
        msg: String,
        output: Actions,
    }
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.find(|line| line.msg == "server-side apply completed").map(|line| line.output)
}

/// The generation of an object, and who has written which fields when. The status is left out.
pub fn written(object: &Delivered) -> String {
    let writes = object.managed_fields().iter().filter(|fields| fields.subresource.is_none());
    writes.fold(format!("generation {:?}", object.metadata.generation), |mut text, fields| {
        let time = fields.time.as_ref().map(|time| time.0);
        let (manager, operation) = (&fields.manager, &fields.operation);
        write!(text, "\n{manager:?} {operation:?} {time:?} {:?}", fields.fields_v1).ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(mut value: Value) -> Delivered {
        value["apiVersion"] = "mlop.dev/v1alpha1".into();
        value["kind"] = "Dataset".into();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn inventory_names_objects_of_the_cluster_and_of_namespaces() {
        let kustomization = object(json!({"metadata": {}, "status": {"inventory": {"entries": [
            {"id": "_park__Namespace", "v": "v1"},
            {"id": "park_points_mlop.dev_Dataset", "v": "v1alpha1"},
            {"id": "park_points", "v": "v1"},
        ]}}}));
        let entries = kustomization.status.unwrap().inventory.entries;
        let namespace = GroupVersionKind::gvk("", "v1", "Namespace");
        assert_eq!(entries[0].parts().unwrap(), (namespace, "", "park"));
        let dataset = GroupVersionKind::gvk("mlop.dev", "v1alpha1", "Dataset");
        assert_eq!(entries[1].parts().unwrap(), (dataset, "park", "points"));
        assert!(entries[2].parts().is_err());
    }

    #[test]
    fn artifacts_of_flux_and_of_mlop_are_read() {
        let of = |artifact: Value| object(json!({"metadata": {}, "status": {"artifact": artifact}}));
        assert_eq!(revision(&of(json!({"revision": "sha256:0d58"}))), Some("sha256:0d58"));
        assert_eq!(revision(&of(json!({"revision": 1, "digest": "sha256:0d58"}))), None);
    }

    #[test]
    fn condition_of_an_earlier_generation_does_not_count() {
        let of = |observed: i64| {
            let ready = json!({"type": "Ready", "status": "True", "observedGeneration": observed, "reason": "Ok",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            object(json!({"metadata": {"generation": 2}, "status": {"conditions": [ready]}}))
        };
        assert!(condition(&of(2), "Ready").is_some());
        assert!(condition(&of(1), "Ready").is_none());
        assert!(condition(&of(2), "Healthy").is_none());
    }

    #[test]
    fn last_apply_of_a_log_counts() {
        let apply = |action: &str| {
            format!(
                r#"{{"msg":"server-side apply completed","output":{{"Dataset/park/points":"{action}"}}}}"#
            )
        };
        let log = format!("text\n{}\n{}\n{{\"msg\":\"something\"}}\n", apply("created"), apply("unchanged"));
        let wanted = Actions::from([("Dataset/park/points".to_owned(), "unchanged".to_owned())]);
        assert_eq!(last_actions(&log), Some(wanted));
        assert_eq!(last_actions("no apply"), None);
    }

    #[test]
    fn writes_of_the_status_are_left_out() {
        let of = |generation: i64, status_at: &str| {
            let entry = |manager: &str, time: &str, subresource: Option<&str>| json!({"manager": manager, "operation": "Apply", "time": time, "subresource": subresource});
            written(&object(json!({"metadata": {"generation": generation, "managedFields": [
                entry("kustomize-controller", "2026-01-01T00:00:00Z", None),
                entry("mlop-ingestion", status_at, Some("status")),
            ]}})))
        };
        assert_eq!(of(1, "2026-01-01T00:00:00Z"), of(1, "2026-01-02T00:00:00Z"));
        assert_ne!(of(1, "2026-01-01T00:00:00Z"), of(2, "2026-01-01T00:00:00Z"));
    }
}
