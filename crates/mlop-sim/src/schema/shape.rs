//! The units of ownership in server-side apply: values with owners of their own, and values owned as a whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    node::{List, Node},
    resource::{Model, ResourceType},
};

/// One step from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field of an object.
    Field(String),
    /// The item of a list that has these values in its key fields, as canonical JSON.
    Key(String),
    /// The member of a set, as JSON.
    Member(String),
}

/// The ownership rules of one value in an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape<'a> {
    /// The root of a custom resource: metadata is built in, the schema describes the rest.
    CustomRoot(&'a Node),
    /// A value with an OpenAPI schema.
    Custom(&'a Node),
    /// A field of a built-in type or of metadata, known by its name.
    BuiltIn(&'a str),
}

/// A part of a value that has owners of its own.
pub(crate) struct Part<'v, 's> {
    pub(crate) step: Step,
    pub(crate) value: &'v Value,
    pub(crate) shape: Shape<'s>,
    /// Whether it is a declared field. Such a field exists as long as a value below it does.
    pub(crate) declared: bool,
}

enum ListType<'a> {
    Atomic,
    Set,
    Map(Vec<(&'a str, Option<Value>)>),
}

impl<'s> Shape<'s> {
    pub(crate) fn of(ty: &'s ResourceType) -> Self {
        match &ty.model {
            Model::BuiltIn { .. } => Shape::BuiltIn(""),
            Model::Custom(schema) => Shape::CustomRoot(schema.root()),
        }
    }

    /// The parts of `value` in its order; `None` if it is owned as a whole.
    pub(crate) fn parts<'v>(self, value: &'v Value) -> Option<Vec<Part<'v, 's>>>
    where
        'v: 's,
    {
        match value {
            Value::Object(_) if self.is_atomic_map() => None,
            Value::Object(map) => Some(
                map.iter()
                    .map(|(name, value)| {
                        let (shape, declared) = self.field(name);
                        Part { step: Step::Field(name.clone()), value, shape, declared }
                    })
                    .collect(),
            ),
            Value::Array(items) => {
                let list = self.list_type(items);
                let step = |item: &Value| match &list {
                    ListType::Atomic => None,
                    ListType::Set => Some(Step::Member(item.to_string())),
                    ListType::Map(keys) => Some(Step::Key(item_key(keys, item))),
                };
                let shape = self.items();
                items
                    .iter()
                    .map(|item| Some(Part { step: step(item)?, value: item, shape, declared: false }))
                    .collect::<Option<Vec<_>>>()
                    .filter(|_| !matches!(list, ListType::Atomic))
            }
            _ => None,
        }
    }

    fn field<'n: 's>(self, name: &'n str) -> (Shape<'s>, bool) {
        match self {
            Shape::CustomRoot(_) if matches!(name, "apiVersion" | "kind" | "metadata") => {
                (Shape::BuiltIn(name), true)
            }
            Shape::CustomRoot(node) | Shape::Custom(node) => {
                let (field, declared) = node.field(name);
                (Shape::Custom(field), declared)
            }
            Shape::BuiltIn(parent) => (Shape::BuiltIn(name), !FREE_MAPS.contains(&parent)),
        }
    }

    fn items(self) -> Shape<'s> {
        match self {
            Shape::CustomRoot(node) | Shape::Custom(node) => Shape::Custom(node.items()),
            Shape::BuiltIn(_) => Shape::BuiltIn(""),
        }
    }

    fn is_atomic_map(self) -> bool {
        match self {
            Shape::CustomRoot(_) => false,
            Shape::Custom(node) => node.is_atomic,
            Shape::BuiltIn(name) => ATOMIC_MAPS.contains(&name),
        }
    }

    fn list_type(self, items: &[Value]) -> ListType<'s> {
        match self {
            Shape::CustomRoot(_) => ListType::Atomic,
            Shape::Custom(node) => match &node.list {
                List::Atomic => ListType::Atomic,
                List::Set => ListType::Set,
                List::Map(keys) => {
                    ListType::Map(keys.iter().map(|(key, default)| (key.as_str(), default.clone())).collect())
                }
            },
            Shape::BuiltIn("finalizers") => ListType::Set,
            Shape::BuiltIn("ports") => {
                let of_container = items.iter().any(|port| port.get("containerPort").is_some());
                let number = if of_container { "containerPort" } else { "port" };
                ListType::Map(vec![(number, None), ("protocol", Some(json!("TCP")))])
            }
            Shape::BuiltIn(name) => match LIST_MAPS.iter().find(|(list, _)| *list == name) {
                Some((_, keys)) => ListType::Map(keys.iter().map(|key| (*key, None)).collect()),
                None => ListType::Atomic,
            },
        }
    }
}

fn item_key(keys: &[(&str, Option<Value>)], item: &Value) -> String {
    let key: BTreeMap<&str, &Value> =
        keys.iter().filter_map(|(key, default)| Some((*key, item.get(key).or(default.as_ref())?))).collect();
    json!(key).to_string()
}

/// Lists of built-in types that behave as maps, with their key fields.
const LIST_MAPS: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("secrets", &["name"]),
    ("resourceClaims", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("conditions", &["type"]),
    ("ownerReferences", &["uid"]),
];

/// Objects of built-in types that are owned as a whole.
const ATOMIC_MAPS: &[&str] = &[
    "selector",
    "nodeSelector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "secretRef",
    "involvedObject",
    "regarding",
];

/// Objects of built-in types that have free keys instead of declared fields.
const FREE_MAPS: &[&str] = &[
    "labels",
    "annotations",
    "data",
    "binaryData",
    "stringData",
    "limits",
    "requests",
    "hard",
    "used",
    "capacity",
];
