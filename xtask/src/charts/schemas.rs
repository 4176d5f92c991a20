//! Objects against the OpenAPI schemas of Kubernetes, of mlop and of the Prometheus operator, by kubeconform.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::checks::list;
use crate::tools::{self, KUBECONFORM};
use crate::{paths, process};

/// The module of the API server, and its dependency with the schemas.
const KUBERNETES: (&str, &str) = ("k8s", "k8s.io/kubernetes");
const PROMETHEUS_OPERATOR: (&str, &str) =
    ("prometheus-operator", "github.com/prometheus-operator/prometheus-operator");
/// Definitions of the Prometheus operator, in its Go module.
const MONITORS: [&str; 2] = ["podmonitors-crd.json", "prometheusrules-crd.json"];
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// The schemas of Kubernetes, to which those of single kinds refer.
const SHARED: &str = "definitions.json";

/// JSON schemas in a directory, one file a kind.
pub(super) struct Schemas(PathBuf);

impl Schemas {
    /// Writes the schemas of the API server that the cluster for tests has, and those of all definitions.
    pub(super) fn write() -> Result<Self> {
        tools::provide(&[&KUBECONFORM])?;
        let schemas = Self(paths::repository().join("target/schemas"));
        fs::create_dir_all(&schemas.0).with_context(|| format!("cannot make {}", schemas.0.display()))?;
        schemas.write_kubernetes()?;
        for kind in mlop_api::kinds::all() {
            schemas.write_definition(&serde_json::to_value(kind)?)?;
        }
        let (module, dependency) = PROMETHEUS_OPERATOR;
        let directory = tools::sources(module, dependency)?.join("jsonnet/prometheus-operator");
        for file in MONITORS {
            schemas.write_definition(&read(&directory.join(file))?)?;
        }
        Ok(schemas)
    }

    /// Every object has a schema, known fields of the right types, and all that are required.
    pub(super) fn check(&self, objects: &[Value]) -> Result<()> {
        ensure!(!objects.is_empty(), "there is no object to check");
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", self.0.display());
        let mut command = Command::new(paths::bin()?.join(KUBECONFORM.name));
        command.args(["-strict", "-schema-location", &location]);
        process::feed(&mut command, &documents.join("\n---\n"))
    }

    fn write_kubernetes(&self) -> Result<()> {
        let (module, dependency) = KUBERNETES;
        let source = tools::sources(module, dependency)?.join("api/openapi-spec/swagger.json");
        let mut definitions = match read(&source)? {
            Value::Object(mut document) => document.remove("definitions").unwrap_or_default(),
            _ => Value::Null,
        };
        for (name, definition) in definitions.as_object_mut().into_iter().flatten() {
            if name == QUANTITY
                && let Some(quantity) = definition.as_object_mut()
            {
                quantity.insert("type".to_owned(), json!(["string", "number"]));
            }
            make_strict(definition);
            let kinds = definition.get("x-kubernetes-group-version-kind").map(list).unwrap_or_default();
            for kind in kinds {
                let (group, version) = (text(kind, "/group"), text(kind, "/version"));
                let reference = json!({"$ref": format!("{SHARED}#/definitions/{name}")});
                self.put(&file(text(kind, "/kind"), group, version), &reference)?;
            }
        }
        self.put(SHARED, &json!({"definitions": definitions}))
    }

    fn write_definition(&self, definition: &Value) -> Result<()> {
        let (group, kind) = (text(definition, "/spec/group"), text(definition, "/spec/names/kind"));
        for version in definition.pointer("/spec/versions").map(list).unwrap_or_default() {
            let mut schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
            let properties = schema.pointer_mut("/properties").and_then(Value::as_object_mut);
            let properties = properties.with_context(|| format!("the definition of {kind} has no schema"))?;
            properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
            properties.insert("kind".to_owned(), json!({"type": "string"}));
            let metadata = json!({"$ref": format!("{SHARED}#/definitions/{METADATA}")});
            properties.insert("metadata".to_owned(), metadata);
            make_strict(&mut schema);
            self.put(&file(kind, group, text(version, "/name")), &schema)?;
        }
        Ok(())
    }

    fn put(&self, name: &str, schema: &Value) -> Result<()> {
        let path = self.0.join(name);
        fs::write(&path, schema.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// JSON Schema admits fields that a schema does not name, and does not know Kubernetes' extensions.
fn make_strict(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    let is_true = |schema: &Map<String, Value>, key| schema.get(key) == Some(&json!(true));
    if schema.get("format") == Some(&json!("int-or-string")) || is_true(schema, "x-kubernetes-int-or-string")
    {
        schema.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if is_true(schema, "nullable") {
        let either = json!([schema.get("type"), "null"]);
        schema.insert("type".to_owned(), either);
    }
    if schema.contains_key("properties") && !is_true(schema, "x-kubernetes-preserve-unknown-fields") {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        make_strict(property.1);
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).map(make_strict);
    }
}

/// The name that kubeconform looks for: the kind, the first part of the group, and the version.
fn file(kind: &str, group: &str, version: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    let parts = [&kind.to_lowercase(), group, version];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("-") + ".json"
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_schemas_admit_only_known_fields() {
        let mut schema = json!({
            "properties": {
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "pin": {"type": "string", "nullable": true},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "rules": {"type": "array", "items": {"properties": {"name": {"type": "string"}}}},
                "free": {"properties": {}, "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        make_strict(&mut schema);
        for (pointer, wanted) in [
            ("/additionalProperties", Some(json!(false))),
            ("/properties/port/type", Some(json!(["integer", "string"]))),
            ("/properties/pin/type", Some(json!(["string", "null"]))),
            ("/properties/labels/additionalProperties", Some(json!({"type": "string"}))),
            ("/properties/rules/items/additionalProperties", Some(json!(false))),
            ("/properties/free/additionalProperties", None),
        ] {
            assert_eq!(schema.pointer(pointer), wanted.as_ref(), "{pointer}");
        }
    }

    #[test]
    fn files_are_named_as_kubeconform_looks_for_them() {
        assert_eq!(file("Secret", "", "v1"), "secret-v1.json");
        assert_eq!(file("Role", "rbac.authorization.k8s.io", "v1"), "role-rbac-v1.json");
        assert_eq!(file("Dataset", "mlop.dev", "v1alpha1"), "dataset-mlop-v1alpha1.json");
    }
}
