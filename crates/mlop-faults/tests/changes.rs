//! The changes that random users make to specs: every field that a user can edit is among them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use mlop_api::kinds;
use mlop_faults::{
    cluster::{Cluster, change, create, list_kind},
    scenario::{CHANGES, objects},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields that no change of a spec reaches, each with its reason.
const EXCEPTIONS: [(&str, &str); 9] = [
    ("Dataset pin", "needs the name of a run: Action::Pin"),
    ("Dataset suspend", "Action::Suspend"),
    ("FeatureView pin", "needs the name of a run: Action::Pin"),
    ("FeatureView suspend", "Action::Suspend"),
    ("TrainingJob pin", "needs the name of a run: Action::Pin"),
    ("TrainingJob suspend", "Action::Suspend"),
    ("Model pin", "needs the name of a run: Action::Pin"),
    ("Model suspend", "Action::Suspend"),
    ("ModelDeployment suspend", "Action::Suspend"),
];

/// Fields that the API server lets nobody change.
const IMMUTABLE: [&str; 2] = ["FeatureStore redis.managed.volume", "TrackingServer managed.volume"];

/// The leaves of a schema: names of fields, `[]` for items of a list, `{}` for values of a map.
fn leaves_of_schema(schema: &Value, path: &str, leaves: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
    if let Some(properties) = properties {
        let dot = if path.ends_with(' ') { "" } else { "." };
        properties
            .iter()
            .for_each(|(name, schema)| leaves_of_schema(schema, &format!("{path}{dot}{name}"), leaves));
    } else if schema["items"].is_object() {
        leaves_of_schema(&schema["items"], &format!("{path}[]"), leaves);
    } else if schema["additionalProperties"].is_object() {
        leaves.insert(format!("{path}{{}}"));
    } else {
        leaves.insert(path.to_owned());
    }
}

/// The leaves that a change sets. A list that the change replaces by nothing, and a field that it removes, are none.
fn leaves_of_change(value: &Value, path: &str, known: &BTreeSet<String>, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if known.contains(&format!("{path}{{}}")) => {
            leaves.extend(fields.keys().map(|_| format!("{path}{{}}")));
        }
        Value::Object(fields) => {
            let dot = if path.ends_with(' ') { "" } else { "." };
            for (name, value) in fields {
                leaves_of_change(value, &format!("{path}{dot}{name}"), known, leaves);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| leaves_of_change(item, &format!("{path}[]"), known, leaves));
        }
        Value::Null => {}
        _ => drop(leaves.insert(path.to_owned())),
    }
}

/// All fields of the specs that users write.
fn fields() -> BTreeSet<String> {
    let users: BTreeSet<String> =
        objects().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    let mut leaves = BTreeSet::new();
    for crd in kinds::all().iter().filter(|crd| users.contains(&crd.spec.names.kind)) {
        let value = serde_json::to_value(crd).unwrap();
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        leaves_of_schema(schema, &format!("{} ", crd.spec.names.kind), &mut leaves);
    }
    leaves
}

#[test]
fn changes_reach_every_field_of_every_spec() {
    let fields = fields();
    let mut reached = BTreeSet::new();
    for change in CHANGES.iter() {
        leaves_of_change(&change.spec, &format!("{} ", change.kind), &fields, &mut reached);
    }
    assert!(fields.len() > 150, "the schema has {} fields", fields.len());
    assert_eq!(reached.difference(&fields).collect::<Vec<_>>(), Vec::<&String>::new(), "no such field");
    let excepted: BTreeSet<String> =
        EXCEPTIONS.iter().map(|(field, _)| *field).chain(IMMUTABLE).map(str::to_owned).collect();
    let missing: Vec<_> = fields.difference(&reached).filter(|field| !excepted.contains(*field)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "no change of changes.yaml sets them");
    let needless: Vec<_> =
        excepted.iter().filter(|field| reached.contains(*field) || !fields.contains(*field)).collect();
    assert_eq!(needless, Vec::<&String>::new(), "exceptions that are none");
}

#[tokio::test(start_paused = true)]
async fn changes_are_admitted_and_change_the_spec() {
    let cluster = Cluster::start();
    objects().for_each(|object| create(&cluster.sim, object).unwrap());
    let snapshot = cluster.sim.snapshot();
    for row in CHANGES.iter() {
        cluster.sim.restore(&snapshot);
        let spec = || {
            let objects = list_kind(&cluster.sim, &row.kind);
            objects.into_iter().find(|object| object["metadata"]["name"] == row.name.as_str()).unwrap()
                ["spec"]
                .clone()
        };
        let before = spec();
        change(&cluster.sim, &row.kind, &row.name, &row.spec)
            .unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_ne!(spec(), before, "{row:?}");
    }
}
