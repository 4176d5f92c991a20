//! Every CEL rule lets the right pass and refuses the wrong, without an API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

mod common;

use common::{accepted, definition, example, published, refused, schema};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::core::cel::Validator;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The messages of the rules that refuse `new`, as a change of `old` if there is one.
fn broken(new: &Value, old: Option<&Value>) -> Vec<String> {
    let crd = definition(new).unwrap();
    let schema = serde_json::to_value(schema(crd)).unwrap();
    match Validator::new().validate_with_defaults(&schema, new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(|error| error.message.clone()).collect(),
    }
}

/// The messages of all rules of a schema.
fn rules(schema: &JSONSchemaProps) -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        let rules = value.get("x-kubernetes-validations").and_then(Value::as_array);
        found.extend(
            rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap_or_default().to_owned()),
        );
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(&serde_json::to_value(schema).unwrap(), &mut found);
    found
}

#[test]
fn examples_pass_every_rule() {
    let published = published();
    assert!(!published.is_empty());
    for object in accepted().iter().chain(published.iter().map(|(_, object)| object)) {
        assert_eq!(
            broken(object, None),
            Vec::<String>::new(),
            "{} {}",
            object["kind"],
            object["metadata"]["name"]
        );
    }
}

#[test]
fn rules_refuse_the_objects_they_are_for() {
    let all: BTreeSet<_> = common::KINDS.iter().flat_map(|crd| rules(schema(crd))).collect();
    let mut tried = BTreeSet::new();
    for case in refused().into_iter().filter(|case| case.rule) {
        let message = case.says.last().unwrap();
        let broken = broken(&case.object, None);
        let rule = broken.iter().find(|rule| rule.starts_with(message.as_str()));
        tried.insert(rule.unwrap_or_else(|| panic!("{}: {broken:?}", case.name)).clone());
    }
    // Rules on changes have tests of their own below.
    let is_transition = |rule: &str| rule.contains(IMMUTABLE) || rule.contains("cannot be changed");
    let untried: Vec<_> = all.difference(&tried).filter(|rule| !is_transition(rule)).collect();
    assert!(untried.is_empty(), "no case in tests/refused for {untried:#?}");
}

/// How the message of a rule on a field that must not change goes on after the field's name.
const IMMUTABLE: &str = " is immutable: edit the ";

#[test]
fn run_accepts_only_changes_of_its_execution() {
    for kind in ["DatasetVersion", "FeatureSnapshot", "TrainingRun", "ModelVersion"] {
        let old = example(kind);
        for (field, value) in old["spec"].as_object().unwrap() {
            let mut new = old.clone();
            new["spec"][field] = changed(value);
            let broken = broken(&new, Some(&old));
            if matches!(field.as_str(), "execution" | "container" | "size" | "queue") {
                assert_eq!(broken, Vec::<String>::new(), "{kind} {field}");
            } else {
                let wanted = format!("{field}{IMMUTABLE}");
                assert!(broken.iter().any(|rule| rule.starts_with(&wanted)), "{kind} {field}: {broken:?}");
            }
        }
    }
}

/// `value` with one text in it changed.
fn changed(value: &Value) -> Value {
    match value {
        Value::String(text) => format!("{text}0").into(),
        Value::Array(items) => items.iter().map(changed).collect(),
        Value::Object(fields) => {
            let mut fields = fields.clone();
            if let Some(value) = fields.values_mut().find(|value| !value.is_number()) {
                *value = changed(value);
            }
            fields.into()
        }
        other => other.clone(),
    }
}

#[test]
fn volume_of_a_managed_server_cannot_be_changed() {
    let redis = |size: &str| json!({"redis": {"managed": {"image": "r", "secretName": "s", "volume": size}}});
    let mlflow = |size: &str| json!({"managed": {"image": "m", "volume": size}, "existing": null});
    type Spec<'a> = &'a dyn Fn(&str) -> Value;
    for (kind, spec) in [("FeatureStore", &redis as Spec<'_>), ("TrackingServer", &mlflow)] {
        let with = |size| {
            let mut object = example(kind);
            common::merge(&mut object["spec"], &spec(size));
            object
        };
        assert_eq!(broken(&with("1Gi"), Some(&with("1Gi"))), Vec::<String>::new(), "{kind}");
        let broken = broken(&with("2Gi"), Some(&with("1Gi")));
        assert!(broken.iter().any(|rule| rule.contains("volume cannot be changed")), "{kind}: {broken:?}");
    }
}
