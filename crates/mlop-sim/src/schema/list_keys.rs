//! The key fields of lists that behave as maps.

use serde_json::Value;

/// The key fields of the list that `schema` describes; empty unless its `x-kubernetes-list-type` is `map`.
pub(crate) fn map_keys(schema: &Value) -> Vec<&str> {
    if schema["x-kubernetes-list-type"] != "map" {
        return Vec::new();
    }
    schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether two list items have the same values in `keys`.
pub(crate) fn same_keys<K: AsRef<str>>(keys: &[K], a: &Value, b: &Value) -> bool {
    keys.iter().all(|key| a.get(key.as_ref()) == b.get(key.as_ref()))
}
