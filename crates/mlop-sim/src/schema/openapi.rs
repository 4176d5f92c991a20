//! The OpenAPI schema of a custom resource: pruning, defaults and validation.
//!
//! All three follow the real server. Unknown fields are dropped, except under `x-kubernetes-preserve-unknown-fields`.
//! Missing fields get their defaults. Violations become the causes of a 422. An update does not validate values that it
//! leaves unchanged (ratcheting).

use kube::core::response::StatusCause;
use serde_json::Value;

use super::{
    cause::{cause, child},
    check::Check,
    node::{Additional, Node, set_defaults},
    rules::Rules,
};

/// A structural schema with its rules.
#[derive(Debug)]
pub(crate) struct Schema {
    root: Node,
    rules: Option<Rules>,
}

impl Schema {
    pub(crate) fn new(root: &Value) -> Result<Self, String> {
        Ok(Self { root: Node::compile(root)?, rules: Rules::of(root) })
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Drops unknown fields and returns their paths.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut pruned = Vec::new();
        if let Value::Object(map) = object {
            map.retain(|name, value| {
                is_of_every_object(name) || prune_field(&self.root, name, value, "", &mut pruned)
            });
        }
        pruned
    }

    /// Sets missing fields that have a default.
    pub(crate) fn default(&self, object: &mut Value) {
        set_defaults(&self.root, object);
    }

    /// The violations of `object`, which replaces `old`. None for a valid object.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
        let mut causes = Check::default().run(&self.root, object, old);
        if let Some(rules) = &self.rules {
            match causes.iter().any(blocks_rules) {
                true => causes.push(cause("FieldValueInvalid", "<nil>", RULES_SKIPPED)),
                false => causes.extend(rules.violations(object, old)),
            }
        }
        causes
    }
}

/// The cause that the real server adds if errors of the schema prevent the evaluation of rules.
const RULES_SKIPPED: &str = "Invalid value: null: some validation rules were not checked because the object was \
    invalid; correct the existing errors to complete validation";

/// Whether this violation prevents the evaluation of rules.
fn blocks_rules(error: &StatusCause) -> bool {
    matches!(
        error.reason.as_str(),
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

/// Whether every object has this field, whatever its schema says.
fn is_of_every_object(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// Prunes the field `name` of the object at `path`, and returns whether the field itself is kept.
fn prune_field(parent: &Node, name: &str, value: &mut Value, path: &str, pruned: &mut Vec<String>) -> bool {
    let node = match (parent.properties.get(name), &parent.additional) {
        (Some(node), _) => node,
        (None, Additional::Of(node)) => node,
        (None, Additional::Any) => return true,
        (None, Additional::None) => {
            if !parent.preserves {
                pruned.push(child(path, name));
            }
            return parent.preserves;
        }
    };
    if value.is_object() || value.is_array() {
        prune(node, value, &child(path, name), pruned);
    }
    true
}

fn prune(node: &Node, value: &mut Value, path: &str, pruned: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            (node.embedded && is_of_every_object(name)) || prune_field(node, name, value, path, pruned)
        }),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune(node.items(), item, &format!("{path}[{index}]"), pruned);
            }
        }
        _ => {}
    }
}
