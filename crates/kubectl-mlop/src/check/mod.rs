//! The objects of files before they are applied: schemas, rules and references, without a cluster. The model behind
//! `kubectl mlop check`.

mod booleans;
mod finding;
mod references;
mod schema;
mod sql;

pub use finding::{Document, Finding};

use anyhow::{Context as _, Result};
use booleans::{Booleans, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::Validator;
use mlop_api::{GROUP, VERSION};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

/// The definitions by kind; to derive them takes a while.
static DEFINITIONS: LazyLock<BTreeMap<String, CustomResourceDefinition>> = LazyLock::new(|| {
    mlop_api::kinds::all().into_iter().map(|crd| (crd.spec.names.kind.clone(), crd)).collect()
});

/// The objects of a YAML or JSON text.
///
/// # Errors
/// It cannot be parsed.
pub fn documents(file: &str, text: &str) -> Result<Vec<Document>> {
    let not_yaml = || format!("{file} is not YAML");
    let values: Vec<Value> = serde_saphyr::from_multiple(text).with_context(not_yaml)?;
    let kubectl: Vec<Node> = serde_saphyr::from_multiple(text).with_context(not_yaml)?;
    let strict = serde_saphyr::options! { strict_booleans: true };
    let strict: Vec<Node> = serde_saphyr::from_multiple_with_options(text, strict).with_context(not_yaml)?;
    let mut documents = Vec::new();
    for (value, (kubectl, strict)) in values.into_iter().zip(kubectl.iter().zip(&strict)) {
        let items = value
            .get("items")
            .and_then(Value::as_array)
            .filter(|_| value.get("kind") == Some(&"List".into()));
        let values = items.cloned().unwrap_or_else(|| vec![value]);
        let booleans = kubectl.objects().into_iter().zip(strict.objects());
        let booleans = booleans.map(|(kubectl, strict)| Booleans::of(kubectl, strict));
        let objects = values.into_iter().zip(booleans).filter(|(value, _)| !value.is_null());
        documents.extend(objects.map(|(value, booleans)| Document {
            file: file.to_owned(),
            value,
            booleans,
        }));
    }
    Ok(documents)
}

/// Everything that is wrong with the objects, and what they need besides each other.
pub fn findings(documents: &[Document]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in documents {
        if document.value.get("kind").is_none() || document.value.get("apiVersion").is_none() {
            findings.push(Finding::new(
                document,
                true,
                "",
                "not a Kubernetes object: apiVersion or kind is missing",
            ));
        } else if document.is_ours() {
            findings.extend(own(document));
        }
        findings.extend(document.booleans.keys.iter().map(|key| boolean_key(document, key)));
    }
    findings.extend(references::findings(documents));
    findings.extend(sql::findings(documents));
    findings
}

/// The findings of one object of mlop.
fn own(document: &Document) -> Vec<Finding> {
    let version = document.text("/apiVersion");
    if version != format!("{GROUP}/{VERSION}") {
        let message = format!("{version} is not served; want {GROUP}/{VERSION}");
        return vec![Finding::new(document, true, "apiVersion", message)];
    }
    let Some(definition) = DEFINITIONS.get(document.kind()) else {
        let kinds: Vec<_> = DEFINITIONS.keys().cloned().collect();
        let message = format!("not a kind of mlop; there are {}", kinds.join(", "));
        return vec![Finding::new(document, true, "kind", message)];
    };
    if document.name().is_empty() {
        return vec![Finding::new(document, true, "metadata.name", "missing")];
    }
    let version = definition.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let Some(schema) = schema else { return Vec::new() };
    let wrong = schema::wrong(schema, &document.value, &document.booleans.values);
    if !wrong.is_empty() {
        // Rules are for objects of the right shape.
        return wrong
            .into_iter()
            .map(|(field, message)| Finding::new(document, true, field, message))
            .collect();
    }
    let Ok(schema) = serde_json::to_value(schema) else { return Vec::new() };
    match Validator::new().validate_with_defaults(&schema, &document.value, None) {
        Ok(()) => Vec::new(),
        Err(errors) => {
            let finding = |error: &kube::core::cel::ValidationError| {
                Finding::new(document, true, error.field_path.clone(), error.message.clone())
            };
            errors.as_slice().iter().map(finding).collect()
        }
    }
}

fn boolean_key(document: &Document, key: &booleans::Key) -> Finding {
    let booleans::Key { path, written, value } = key;
    let message =
        format!("kubectl reads the key {written} as the boolean {value}; put it in quotes: {written:?}");
    Finding::new(document, true, path, message)
}
