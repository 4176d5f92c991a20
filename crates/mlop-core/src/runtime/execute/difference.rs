//! How a child differs from its wanted state, as the JSON patch that removes the difference.
//!
//! A child belongs to its operator as a whole: a field that the wanted state does not have is taken out. Exceptions are
//! fields that the API server fills in, and those that other tools may add without harm: labels and annotations of the
//! object, and annotations of its pod template (`kubectl rollout restart` is one).

use mlop_api::Quantity;
use serde_json::{Map, Value, json};

/// Labels and annotations of this domain are mlop's own.
const OWN: &str = "mlop.dev/";
/// Maps with names that users or operators choose. The API server adds nothing to them.
const MAPS: [&str; 6] = ["labels", "matchLabels", "selector", "nodeSelector", "requests", "limits"];

/// The JSON patch operations that bring `live` to `wanted`; none if it is there already.
pub(super) fn changes(kind: &str, live: &Value, wanted: &Value) -> Vec<Value> {
    let none = Map::new();
    let fields = |value: &'static str, of: &Value| of.get(value).and_then(Value::as_object).cloned();
    let (live_spec, wanted_spec) = (fields("spec", live), fields("spec", wanted));
    let mut changes = metadata(live, wanted);
    changes.extend(spec(kind, live_spec.as_ref().unwrap_or(&none), wanted_spec.as_ref().unwrap_or(&none)));
    let others = wanted.as_object().into_iter().flatten();
    let others = others
        .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status"));
    let others = others.filter(|(name, value)| !is_field_same(name, live.get(name.as_str()), value));
    changes.extend(others.map(|(name, value)| set(&[name], value.clone())));
    changes
}

/// The operations that replace every field of the spec that `wanted` has, as a whole.
pub(super) fn replacement(wanted: &Value) -> Vec<Value> {
    let fields = wanted.get("spec").and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, value)| set(&["spec", name], value.clone())).collect()
}

/// The operations that take the finalizers of this domain out of `live` that are not wanted.
pub(super) fn finalizers(live: &[String], wanted: &Value) -> Vec<Value> {
    let wanted = wanted.pointer("/metadata/finalizers").and_then(Value::as_array);
    let is_wanted = |name: &str| wanted.is_some_and(|all| all.iter().any(|one| one == name));
    let surplus = live.iter().enumerate().filter(|(_, name)| name.starts_with(OWN) && !is_wanted(name));
    // From the end: a removal moves those behind it.
    let operations = surplus.rev().flat_map(|(at, name)| {
        let at = at.to_string();
        let path = ["metadata", "finalizers", at.as_str()];
        [json!({"op": "test", "path": pointer(&path), "value": name}), remove(&path)]
    });
    operations.collect()
}

fn metadata(live: &Value, wanted: &Value) -> Vec<Value> {
    let maps = ["labels", "annotations"].into_iter().flat_map(|map| {
        let at = |object: &Value| object.get("metadata").and_then(|meta| meta.get(map)?.as_object().cloned());
        let (live, wanted) = (at(live), at(wanted).unwrap_or_default());
        let Some(live) = live else {
            return Vec::from_iter((!wanted.is_empty()).then(|| set(&["metadata", map], wanted.into())));
        };
        let outdated = wanted.iter().filter(|(key, value)| live.get(*key) != Some(value));
        let surplus = live.keys().filter(|key| key.starts_with(OWN) && !wanted.contains_key(*key));
        let outdated = outdated.map(|(key, value)| set(&["metadata", map, key], value.clone()));
        outdated.chain(surplus.map(|key| remove(&["metadata", map, key]))).collect()
    });
    maps.chain(owners(live, wanted)).collect()
}

/// Owners of other tools stay. The controller is the wanted one, or none.
fn owners(live: &Value, wanted: &Value) -> Option<Value> {
    let list = |object: &Value| {
        object.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let is_controller = |owner: &Value| owner.get("controller") == Some(&Value::Bool(true));
    let (live, wanted) = (list(live), list(wanted));
    let uids = |owners: &[Value]| -> Vec<Value> {
        owners
            .iter()
            .filter(|owner| is_controller(owner))
            .filter_map(|owner| owner.get("uid").cloned())
            .collect()
    };
    if uids(&live) == uids(&wanted) {
        return None;
    }
    let others = live.into_iter().filter(|owner| !is_controller(owner));
    Some(set(&["metadata", "ownerReferences"], others.chain(wanted).collect()))
}

fn spec(kind: &str, live: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Value> {
    let outdated = wanted.iter().filter(|(name, value)| {
        !is_fixed(kind, name) && !is_field_same(name, live.get(name.as_str()), value)
    });
    let outdated = outdated.map(|(name, value)| {
        let value = if name == "template" {
            with_foreign_annotations(live.get("template"), value)
        } else {
            value.clone()
        };
        set(&["spec", name], value)
    });
    let surplus = live.iter().filter(|(name, value)| {
        !wanted.contains_key(*name) && !is_fixed(kind, name) && !is_filled_in(name, value)
    });
    outdated.chain(surplus.map(|(name, _)| remove(&["spec", name]))).collect()
}

/// Fields that the API server lets nobody change.
fn is_fixed(kind: &str, field: &str) -> bool {
    match kind {
        "PersistentVolumeClaim" => true,
        "StatefulSet" => {
            matches!(field, "volumeClaimTemplates" | "serviceName" | "podManagementPolicy" | "selector")
        }
        _ => false,
    }
}

/// A pod template with the annotations of others that are in use.
fn with_foreign_annotations(live: Option<&Value>, wanted: &Value) -> Value {
    let annotations = live.and_then(|live| live.pointer("/metadata/annotations")?.as_object());
    let foreign = annotations.into_iter().flatten().filter(|(key, _)| !key.starts_with(OWN));
    let mut template = wanted.clone();
    for (key, value) in foreign {
        let Some(fields) = template.as_object_mut() else { break };
        let meta = fields.entry("metadata").or_insert_with(|| json!({}));
        let Some(meta) = meta.as_object_mut() else { break };
        let kept = meta.entry("annotations").or_insert_with(|| json!({}));
        if let Some(kept) = kept.as_object_mut() {
            kept.entry(key).or_insert_with(|| value.clone());
        }
    }
    template
}

/// Fields that are true if they are absent.
const TRUE_BY_DEFAULT: [&str; 3] =
    ["automountServiceAccountToken", "enableServiceLinks", "allowPrivilegeEscalation"];

/// Whether the field `name` has the wanted value. The API server stores no empty values.
fn is_field_same(name: &str, live: Option<&Value>, wanted: &Value) -> bool {
    match live {
        None if is_set_to_false(name, wanted) => false,
        Some(live) if !is_empty(live) => is_same(name, live, wanted),
        _ => is_empty(wanted),
    }
}

/// Whether the field `name` of a live object is as wanted.
pub(crate) fn is_same(name: &str, live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let is_amount = matches!(name, "requests" | "limits");
            let is_value_same = |key: &str, value: &Value| match (live.get(key), value) {
                (Some(Value::String(live)), Value::String(wanted)) if is_amount => {
                    is_same_amount(live, wanted)
                }
                (live, wanted) => is_field_same(key, live, wanted),
            };
            let may_stay = |key: &str, value: &Value| match name {
                "annotations" => !key.starts_with(OWN),
                _ if MAPS.contains(&name) => false,
                _ => is_filled_in(key, value),
            };
            wanted.iter().all(|(key, value)| is_value_same(key, value))
                && live.iter().all(|(key, value)| wanted.contains_key(key) || may_stay(key, value))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| is_same("", l, w))
        }
        (Value::String(live), Value::String(wanted)) if name == "sizeLimit" => is_same_amount(live, wanted),
        (live, wanted) => live == wanted,
    }
}

/// Whether the field differs from its absence although it is false.
fn is_set_to_false(name: &str, value: &Value) -> bool {
    *value == Value::Bool(false) && TRUE_BY_DEFAULT.contains(&name)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| is_empty(value) && !is_set_to_false(name, value))
        }
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Whether the API server sets the field `name` to `value` if it is absent.
fn is_filled_in(name: &str, value: &Value) -> bool {
    if is_empty(value) {
        return true;
    }
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| is_filled_in(name, value)),
        Value::String(text) => is_default_text(name, text),
        Value::Number(number) => number.as_i64().is_some_and(|number| is_default_number(name, number)),
        Value::Array(_) => matches!(name, "clusterIPs" | "ipFamilies" | "policyTypes"),
        Value::Bool(_) => name == "enableServiceLinks",
        Value::Null => true,
    }
}

fn is_default_text(name: &str, text: &str) -> bool {
    match name {
        // Chosen for each object.
        "clusterIP" | "ipFamilyPolicy" | "imagePullPolicy" | "serviceAccount" | "targetPort" => true,
        "protocol" => text == "TCP",
        "scheme" => text == "HTTP",
        "type" => matches!(text, "ClusterIP" | "RollingUpdate"),
        "sessionAffinity" => text == "None",
        "internalTrafficPolicy" => text == "Cluster",
        "dnsPolicy" => text == "ClusterFirst",
        "restartPolicy" => text == "Always",
        "schedulerName" => text == "default-scheduler",
        "terminationMessagePath" => text == "/dev/termination-log",
        "terminationMessagePolicy" => text == "File",
        "apiVersion" => text == "v1",
        "procMount" => text == "Default",
        "volumeMode" => text == "Filesystem",
        "podManagementPolicy" => text == "OrderedReady",
        "whenDeleted" | "whenScaled" => text == "Retain",
        "divisor" => text == "0",
        "maxSurge" | "maxUnavailable" => text == "25%",
        _ => false,
    }
}

fn is_default_number(name: &str, number: i64) -> bool {
    match name {
        // Without a wanted size, an autoscaler chooses it.
        "replicas" | "targetPort" => true,
        "terminationGracePeriodSeconds" => number == 30,
        "revisionHistoryLimit" | "periodSeconds" => number == 10,
        "progressDeadlineSeconds" => number == 600,
        "defaultMode" => number == 0o644,
        "timeoutSeconds" | "successThreshold" => number == 1,
        "failureThreshold" => number == 3,
        "partition" => number == 0,
        "expirationSeconds" => number == 3_600,
        _ => false,
    }
}

/// Whether two Kubernetes quantities are the same amount: `1000m` is `1`, and `1024Mi` is `1Gi`.
fn is_same_amount(one: &str, other: &str) -> bool {
    let amount = |text: &str| text.parse::<Quantity>().ok();
    one == other || amount(one).is_some_and(|one| Some(one) == amount(other))
}

fn set(path: &[&str], value: Value) -> Value {
    json!({"op": "add", "path": pointer(path), "value": value})
}

fn remove(path: &[&str]) -> Value {
    json!({"op": "remove", "path": pointer(path)})
}

fn pointer(path: &[&str]) -> String {
    path.iter().flat_map(|part| ["/".to_owned(), part.replace('~', "~0").replace('/', "~1")]).collect()
}

#[cfg(test)]
mod tests;
