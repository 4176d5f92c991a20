//! Access to the common metadata of objects in JSON form.

use serde_json::{Map, Value, json};

/// The metadata that all Kubernetes objects have. Absent fields and fields of another type read as empty.
pub(crate) trait Object {
    fn meta(&self) -> &Value;
    fn meta_mut(&mut self) -> &mut Map<String, Value>;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn uid(&self) -> &str;
    fn resource_version(&self) -> &str;
    fn generation(&self) -> i64;
    fn is_deleting(&self) -> bool;
    fn finalizers(&self) -> Vec<&str>;
    fn set_finalizers(&mut self, finalizers: &[&str]);
    fn owner_references(&self) -> &[Value];
    /// Copies a metadata field from `other`, or removes it if `other` lacks it.
    fn copy_meta(&mut self, other: &Value, field: &str);
    /// Copies a top-level field from `other`, or removes it if `other` lacks it.
    fn copy_field(&mut self, other: &Value, field: &str);
}

impl Object for Value {
    fn meta(&self) -> &Value {
        &self["metadata"]
    }

    fn meta_mut(&mut self) -> &mut Map<String, Value> {
        object_at(as_object(self), "metadata")
    }

    fn name(&self) -> &str {
        text(&self["metadata"]["name"])
    }

    fn namespace(&self) -> &str {
        text(&self["metadata"]["namespace"])
    }

    fn uid(&self) -> &str {
        text(&self["metadata"]["uid"])
    }

    fn resource_version(&self) -> &str {
        text(&self["metadata"]["resourceVersion"])
    }

    fn generation(&self) -> i64 {
        self["metadata"]["generation"].as_i64().unwrap_or_default()
    }

    fn is_deleting(&self) -> bool {
        self["metadata"]["deletionTimestamp"].is_string()
    }

    fn finalizers(&self) -> Vec<&str> {
        array(&self["metadata"]["finalizers"]).iter().map(text).collect()
    }

    fn set_finalizers(&mut self, finalizers: &[&str]) {
        if finalizers.is_empty() {
            self.meta_mut().remove("finalizers");
        } else {
            self.meta_mut().insert("finalizers".into(), json!(finalizers));
        }
    }

    fn owner_references(&self) -> &[Value] {
        array(&self["metadata"]["ownerReferences"])
    }

    fn copy_meta(&mut self, other: &Value, field: &str) {
        copy(self.meta_mut(), &other["metadata"], field);
    }

    fn copy_field(&mut self, other: &Value, field: &str) {
        copy(as_object(self), other, field);
    }
}

/// The string in `value`; empty for any other value.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of `value`; empty unless it is an array.
pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `value` as an object. Any other value is replaced by an empty object.
pub(crate) fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The object under `key`, which is created if it does not exist.
pub(crate) fn object_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    as_object(map.entry(key).or_insert(Value::Null))
}

fn copy(to: &mut Map<String, Value>, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field.into(), value.clone()),
        None => to.remove(field),
    };
}
