//! A structural schema, compiled: its keywords are looked up once, and not for every value.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::list_keys::map_keys;

/// The schema of one value. The default knows nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(super) properties: BTreeMap<String, Node>,
    pub(super) additional: Additional,
    items: Option<Box<Node>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub(super) preserves: bool,
    /// `x-kubernetes-embedded-resource`.
    pub(super) embedded: bool,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
    /// `x-kubernetes-map-type: atomic`.
    pub(super) is_atomic: bool,
    pub(super) list: List,
    pub(super) bounds: Bounds,
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub(super) enum Additional {
    #[default]
    None,
    Any,
    Of(Box<Node>),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum List {
    #[default]
    Atomic,
    Set,
    /// The key fields, each with its default.
    Map(Vec<(String, Option<Value>)>),
}

/// What a value must be like.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) kind: Option<String>,
    /// `x-kubernetes-int-or-string`.
    pub(super) int_or_string: bool,
    pub(super) allowed: Vec<Value>,
    pub(super) pattern: Option<Regex>,
    pub(super) length: Range<u64>,
    pub(super) items: Range<u64>,
    pub(super) properties: Range<u64>,
    pub(super) number: Range<f64>,
    pub(super) excludes_min: bool,
    pub(super) excludes_max: bool,
    pub(super) required: Vec<String>,
}

/// The least and the greatest allowed figure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range<T> {
    pub(super) min: Option<T>,
    pub(super) max: Option<T>,
}

/// The schema of a value of which nothing is known.
static UNKNOWN: std::sync::LazyLock<Node> = std::sync::LazyLock::new(Node::default);

impl Node {
    /// Compiles an OpenAPI schema.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        Compiler::default().node(schema)
    }

    /// The schema of each item of a list.
    pub(crate) fn items(&self) -> &Node {
        self.items.as_deref().unwrap_or(&UNKNOWN)
    }

    /// The schema of a field, and whether it is declared.
    pub(crate) fn field(&self, name: &str) -> (&Node, bool) {
        match (self.properties.get(name), &self.additional) {
            (Some(property), _) => (property, true),
            (None, Additional::Of(node)) => (node, false),
            (None, Additional::None | Additional::Any) => (&UNKNOWN, false),
        }
    }
}

/// Compiles a schema. Equal patterns are compiled once.
#[derive(Default)]
struct Compiler {
    patterns: BTreeMap<String, Regex>,
}

impl Compiler {
    fn node(&mut self, schema: &Value) -> Result<Node, String> {
        let is = |keyword: &str| schema[keyword] == true;
        let properties = schema["properties"].as_object().into_iter().flatten();
        Ok(Node {
            properties: properties
                .map(|(name, schema)| Ok((name.clone(), self.node(schema)?)))
                .collect::<Result<_, String>>()?,
            additional: match &schema["additionalProperties"] {
                Value::Bool(true) => Additional::Any,
                schema @ Value::Object(_) => Additional::Of(Box::new(self.node(schema)?)),
                _ => Additional::None,
            },
            items: match &schema["items"] {
                Value::Null => None,
                items => Some(Box::new(self.node(items)?)),
            },
            preserves: is("x-kubernetes-preserve-unknown-fields"),
            embedded: is("x-kubernetes-embedded-resource"),
            nullable: is("nullable"),
            default: schema.get("default").cloned(),
            is_atomic: schema["x-kubernetes-map-type"] == "atomic",
            list: list(schema),
            bounds: self.bounds(schema)?,
        })
    }

    fn bounds(&mut self, schema: &Value) -> Result<Bounds, String> {
        let count = |min: &str, max: &str| Range { min: schema[min].as_u64(), max: schema[max].as_u64() };
        let list = |keyword: &str| schema[keyword].as_array().cloned().unwrap_or_default();
        let required = list("required").into_iter();
        Ok(Bounds {
            kind: schema["type"].as_str().map(str::to_owned),
            int_or_string: schema["x-kubernetes-int-or-string"] == true,
            allowed: list("enum"),
            pattern: schema["pattern"].as_str().map(|pattern| self.pattern(pattern)).transpose()?,
            length: count("minLength", "maxLength"),
            items: count("minItems", "maxItems"),
            properties: count("minProperties", "maxProperties"),
            number: Range { min: schema["minimum"].as_f64(), max: schema["maximum"].as_f64() },
            excludes_min: schema["exclusiveMinimum"] == true,
            excludes_max: schema["exclusiveMaximum"] == true,
            required: required.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        })
    }

    fn pattern(&mut self, pattern: &str) -> Result<Regex, String> {
        if let Some(known) = self.patterns.get(pattern) {
            return Ok(known.clone());
        }
        let compiled = Regex::new(pattern).map_err(|error| error.to_string())?;
        self.patterns.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    }
}

fn list(schema: &Value) -> List {
    let default = |key: &str| schema["items"]["properties"][key].get("default").cloned();
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => List::Set,
        Some("map") => {
            List::Map(map_keys(schema).into_iter().map(|key| (key.to_owned(), default(key))).collect())
        }
        _ => List::Atomic,
    }
}

impl List {
    /// The key fields of a list that behaves as a map; none of another.
    pub(super) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Map(keys) => keys.iter().map(|(key, _)| key.as_str()).collect(),
            Self::Atomic | Self::Set => Vec::new(),
        }
    }
}

/// Sets the defaults of fields that are missing, and drops nulls that the schema does not allow.
pub(super) fn set_defaults(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            default_properties(node, map);
            for (name, value) in map.iter_mut() {
                set_defaults(node.field(name).0, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_defaults(node.items(), item)),
        _ => {}
    }
}

fn default_properties(node: &Node, map: &mut Map<String, Value>) {
    for (name, property) in &node.properties {
        let present = map.get(name);
        let null_to_replace = present.is_some_and(Value::is_null) && !property.nullable;
        match &property.default {
            Some(default) if null_to_replace || present.is_none() => {
                map.insert(name.clone(), default.clone());
            }
            _ if null_to_replace => {
                map.remove(name);
            }
            _ => {}
        }
    }
}
