//! The CEL rules of a schema, compiled once and evaluated only on changed values.
//!
//! `kube-cel` can walk a whole object, but it converts every value again at every depth. For each value that has rules,
//! it gets only the fields that these rules mention.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{
    cel::{CompiledSchema, Validator, compile_schema},
    response::StatusCause,
};
use serde_json::{Map, Value, json};

use super::{
    cause::cause,
    list_keys::{map_keys, same_keys},
};

const RULES: &str = "x-kubernetes-validations";

thread_local! {
    /// The functions that rules may call. They are the same for every schema and slow to set up.
    static VALIDATOR: Validator = Validator::new();
}

/// A node of a schema that has rules, or whose descendants have.
#[derive(Debug)]
pub(crate) struct Rules {
    own: Option<Own>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// The key fields of a list's items.
    keys: Vec<String>,
}

/// The rules of one node, without those of its descendants.
#[derive(Debug)]
struct Own {
    compiled: CompiledSchema,
    /// The only fields that the rules read; `None` if they may read any.
    fields: Option<BTreeSet<String>>,
}

impl Rules {
    /// The rules of a schema; `None` if it has no rules.
    pub(crate) fn of(schema: &Value) -> Option<Self> {
        if !schema.is_object() {
            return None;
        }
        let below = |schema: &Value| Self::of(schema).map(Box::new);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let rules = Self {
            own: Own::of(schema),
            properties: properties.filter_map(|(name, s)| Some((name.clone(), Self::of(s)?))).collect(),
            additional: below(&schema["additionalProperties"]),
            items: below(&schema["items"]),
            keys: map_keys(schema).into_iter().map(str::to_string).collect(),
        };
        let any = rules.own.is_some()
            || !rules.properties.is_empty()
            || rules.additional.is_some()
            || rules.items.is_some();
        any.then_some(rules)
    }

    /// The violations of `object`, which replaces `old`, sorted by field. Unchanged values are not evaluated.
    pub(crate) fn violations(&self, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        let mut causes = Vec::new();
        self.check(object, old, "", &mut causes);
        causes.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
        causes
    }

    fn check(&self, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<StatusCause>) {
        if old == Some(value) {
            return;
        }
        if let Some(own) = &self.own {
            own.check(value, old, path, causes);
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(rules) = self.properties.get(name).or(self.additional.as_deref()) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                rules.check(value, old.and_then(|old| old.get(name)), &path, causes);
            }
        }
        let Some(rules) = &self.items else { return };
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            let old = old.and_then(Value::as_array).filter(|_| !self.keys.is_empty());
            rules.check(
                item,
                old.and_then(|old| old.iter().find(|old| same_keys(&self.keys, old, item))),
                &format!("{path}[{index}]"),
                causes,
            );
        }
    }
}

impl Own {
    fn of(schema: &Value) -> Option<Self> {
        let rules = schema[RULES].as_array()?;
        let mut bare = conversions(schema);
        bare[RULES] = json!(rules);
        let expressions = rules.iter().flat_map(|rule| [&rule["rule"], &rule["messageExpression"]]);
        let fields = expressions.filter_map(Value::as_str).map(fields_of).collect::<Option<Vec<_>>>();
        let fields = fields.map(|lists| lists.into_iter().flatten().collect());
        Some(Self { compiled: compile_schema(&bare), fields })
    }

    fn check(&self, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<StatusCause>) {
        let (value, old) = (self.relevant(value, path), old.map(|old| self.relevant(old, path)));
        if old.as_ref() == Some(&value) {
            return;
        }
        let checked = VALIDATOR.with(|cel| cel.validate_compiled(&self.compiled, &value, old.as_ref()));
        for error in checked.err().into_iter().flatten() {
            let reason = error.reason.as_deref().unwrap_or("FieldValueInvalid");
            let field = match (path, error.field_path.as_str()) {
                ("", field) | (field, "") => field.to_string(),
                (path, field) => format!("{path}.{field}"),
            };
            causes.push(cause(reason, &field, format!("Invalid value: {}", error.message)));
        }
    }

    /// The part of the value at `path` that the rules read.
    fn relevant(&self, value: &Value, path: &str) -> Value {
        let Value::Object(map) = value else { return value.clone() };
        let is_read = |name: &String| self.fields.as_ref().is_none_or(|fields| fields.contains(name));
        let part = map.iter().filter(|(name, _)| is_read(name)).map(|(name, value)| {
            let of_root = path.is_empty() && name == "metadata";
            (name.clone(), if of_root { names(value) } else { value.clone() })
        });
        part.collect()
    }
}

/// The fields of `self` and `oldSelf` that an expression reads; `None` if it may read any.
fn fields_of(expression: &str) -> Option<Vec<String>> {
    let uses = ["self", "oldSelf"].into_iter().flat_map(|variable| expression.match_indices(variable));
    uses.map(|(at, variable)| {
        let after = expression.get(at + variable.len()..)?.strip_prefix('.')?;
        let name: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let is_call = after.get(name.len()..)?.starts_with('(');
        // A name with two underscores is an escaped form of another.
        (!name.is_empty() && !is_call && !name.contains("__")).then_some(name)
    })
    .collect()
}

/// The part of a schema that controls the conversion of values for CEL.
fn conversions(schema: &Value) -> Value {
    let mut bare = Map::new();
    for field in ["format", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource"] {
        bare.extend(schema.get(field).map(|value| (field.to_string(), value.clone())));
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    let properties: Map<String, Value> = properties
        .map(|(name, schema)| (name.clone(), conversions(schema)))
        .filter(|(_, bare)| *bare != json!({}))
        .collect();
    if !properties.is_empty() {
        bare.insert("properties".into(), Value::Object(properties));
    }
    match &schema["additionalProperties"] {
        Value::Null => {}
        Value::Bool(allowed) => {
            bare.insert("additionalProperties".into(), json!(allowed));
        }
        schema => {
            bare.insert("additionalProperties".into(), conversions(schema));
        }
    }
    if let Some(items) = schema.get("items").map(conversions).filter(|bare| *bare != json!({})) {
        bare.insert("items".into(), items);
    }
    Value::Object(bare)
}

/// The metadata that rules can read.
fn names(meta: &Value) -> Value {
    let names = ["name", "generateName"].into_iter();
    names.filter_map(|name| Some((name, meta.get(name)?.clone()))).collect()
}
