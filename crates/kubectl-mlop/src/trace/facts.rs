//! What determined the output of a run, in words.

use crate::snapshot::{Object, ObjectId, Snapshot};
use mlop_api::{
    Digest,
    dataset::{DatasetVersionSpec, ObjectStoreSpec},
    features::FeatureSnapshotSpec,
    registry::ModelVersionSpec,
    status::Output,
    text::{printable, single_line},
    training::TrainingRunSpec,
};
use serde::ser::SerializeMap as _;
use serde::{Serializer, de::DeserializeOwned};
use serde_json::Value;

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub name: &'static str,
    pub value: String,
}

/// Serializes facts as an object in their order.
pub(super) fn as_map<S: Serializer>(facts: &[Fact], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(facts.len()))?;
    for fact in facts {
        map.serialize_entry(fact.name, &fact.value)?;
    }
    map.end()
}

/// Facts in the making. Empty values are dropped.
#[derive(Default)]
struct Facts(Vec<Fact>);

impl Facts {
    fn add(&mut self, name: &'static str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            self.0.push(Fact { name, value: printable(&single_line(value)).into_owned() });
        }
    }
}

/// The facts of an intent without runs: what serves.
pub(super) fn of_intent(object: &Object) -> Vec<Fact> {
    let mut facts = Facts::default();
    let status = &object.status;
    let serving = status.serving.iter().map(|serving| {
        let version = serving
            .version
            .as_ref()
            .map_or_else(|| serving.model_version.clone(), |n| format!("version {n}"));
        format!("{version} ({}) on {} pods", serving.digest.short(12), serving.ready_replicas)
    });
    facts.add("serving", serving.collect::<Vec<_>>().join(", "));
    facts.add("server", object.spec.pointer("/runtime/image").and_then(Value::as_str).unwrap_or_default());
    facts.add("url", status.url.as_deref().unwrap_or_default());
    facts.add("uri", status.artifact.as_ref().map_or("", |artifact| artifact.uri.as_str()));
    facts.0
}

/// The facts of a run: what determined its output, and what came out.
pub(super) fn of_run(snapshot: &Snapshot, run: &Object) -> Vec<Fact> {
    let mut facts = Facts::default();
    if let Some(spec) = typed::<DatasetVersionSpec>(run, "DatasetVersion") {
        source(&mut facts, snapshot, &spec);
    } else if let Some(spec) = typed::<FeatureSnapshotSpec>(run, "FeatureSnapshot") {
        facts.add("sql", &spec.content.sql);
        facts.add("entities", spec.content.entities.join(", "));
        facts.add("timestamp", &spec.content.timestamp);
    } else if let Some(spec) = typed::<TrainingRunSpec>(run, "TrainingRun") {
        training(&mut facts, &spec);
    } else if let Some(spec) = typed::<ModelVersionSpec>(run, "ModelVersion") {
        facts.add("registered model", &spec.content.registered_model);
    }
    if let Some(output) = &run.status.output {
        result(&mut facts, output);
    }
    if let Some(lineage) = run.lineage() {
        facts.add("input digest", lineage.input_digest.as_str());
    }
    facts.0
}

/// The spec of a run of this kind.
fn typed<T: DeserializeOwned>(run: &Object, kind: &str) -> Option<T> {
    if run.id.kind != kind {
        return None;
    }
    serde_json::from_value(run.spec.clone()).ok()
}

fn source(facts: &mut Facts, snapshot: &Snapshot, spec: &DatasetVersionSpec) {
    if let Some(objects) = &spec.objects {
        let store = snapshot.get(&ObjectId::new("ObjectStore", &objects.store));
        let bucket =
            store.and_then(|store| serde_json::from_value::<ObjectStoreSpec>(store.spec.clone()).ok());
        let place = match bucket {
            Some(store) => {
                format!("s3://{}/{}{} at {}", store.bucket, store.prefix, objects.prefix, store.endpoint)
            }
            None => format!("{} in ObjectStore/{}", objects.prefix, objects.store),
        };
        facts.add("source", place);
        facts.add("include", objects.include.join(", "));
    }
    facts.add("listing", spec.listing.as_str());
    let columns: Vec<_> = spec.content.columns.iter().map(|column| column.name.as_str()).collect();
    facts.add("columns", columns.join(", "));
}

fn training(facts: &mut Facts, spec: &TrainingRunSpec) {
    let content = &spec.content;
    facts.add("image", &content.image);
    facts.add("command", content.command.join(" "));
    let code =
        content.code.iter().map(|(name, text)| format!("{name} {}", Digest::of_bytes(text.as_bytes())));
    facts.add("code", code.collect::<Vec<_>>().join(", "));
    let parameters = content.hyperparameters.iter().map(|(name, value)| format!("{name}={value}"));
    facts.add("hyperparameters", parameters.collect::<Vec<_>>().join(", "));
    facts.add("seed", content.seed.to_string());
}

fn result(facts: &mut Facts, output: &Output) {
    if let Some(registered) = &output.registered {
        facts.add("registered", format!("{} in {}", registered.reference, registered.registry));
    }
    facts.add("result", output.summary.as_deref().unwrap_or_default());
    let metrics = output.metrics.iter().map(|metric| format!("{}={}", metric.name, metric.value));
    facts.add("metrics", metrics.collect::<Vec<_>>().join(", "));
    facts.add("uri", &output.uri);
}
