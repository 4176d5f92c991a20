//! The state of all objects, compared between a run with faults and the run without.

use kube::{Resource, core::object::HasStatus};
use mlop_api::{
    contract::condition_type,
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    registry::{Model, ModelVersion, TrackingServer},
    status::IntentStatus,
    training::{TrainingJob, TrainingRun},
};
use mlop_core::{Cached, condition, run::RunResource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A source of objects: a simulated or a real API server.
pub trait Objects {
    /// All objects of a kind by name. Undecodable ones are left out.
    fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K>;
}

impl Objects for mlop_sim::Sim {
    fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        Self::list(self)
    }
}

/// The state of all objects that must be the same with and without faults.
pub fn end_state(cluster: &impl Objects) -> Value {
    let mut objects = intents_and_connections(cluster, true);
    objects.extend(runs::<DatasetVersion>(cluster));
    objects.extend(runs::<FeatureSnapshot>(cluster));
    objects.extend(runs::<TrainingRun>(cluster));
    objects.extend(runs::<ModelVersion>(cluster));
    Value::Array(objects)
}

/// The published and served digests, without revisions and runs.
pub fn digests(cluster: &impl Objects) -> Value {
    fn of<K>(cluster: &impl Objects) -> Vec<Value>
    where
        K: Cached + Resource<DynamicType = ()> + HasStatus<Status = IntentStatus>,
    {
        let state = |intent: &K| {
            let status = intent.status().cloned().unwrap_or_default();
            let digest = status.artifact.map(|artifact| artifact.digest);
            object(intent, json!({"digest": digest, "conditions": summaries(status.conditions)}))
        };
        cluster.list::<K>().iter().map(state).collect()
    }
    let mut objects = of::<Dataset>(cluster);
    objects.extend(of::<FeatureView>(cluster));
    objects.extend(of::<TrainingJob>(cluster));
    objects.extend(of::<Model>(cluster));
    for deployment in cluster.list::<ModelDeployment>() {
        let status = deployment.status.clone().unwrap_or_default();
        let digest = status.serving.first().map(|serving| serving.digest.clone());
        objects
            .push(object(&deployment, json!({"digest": digest, "conditions": summaries(status.conditions)})));
    }
    Value::Array(objects)
}

/// Whether everything published is made from the newest inputs.
pub fn is_current(cluster: &impl Objects) -> bool {
    let all = digests(cluster);
    let objects = all.as_array().map(Vec::as_slice).unwrap_or_default();
    objects.iter().all(|object| {
        let conditions = object["state"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|c| c[0] == condition_type::UP_TO_DATE && c[1] == "True")
    })
}

/// As [`end_state`] without runs and generations: they depend on deletions, edits and attempts on the way.
pub fn published_state(cluster: &impl Objects) -> Value {
    Value::Array(intents_and_connections(cluster, false))
}

fn intents_and_connections(cluster: &impl Objects, generations: bool) -> Vec<Value> {
    let mut objects = Vec::new();
    objects.extend(intents::<Dataset>(cluster, generations));
    objects.extend(intents::<FeatureView>(cluster, generations));
    objects.extend(intents::<TrainingJob>(cluster, generations));
    objects.extend(intents::<Model>(cluster, generations));
    for store in cluster.list::<ObjectStore>() {
        objects
            .push(object(&store, summaries(store.status.clone().map(|s| s.conditions).unwrap_or_default())));
    }
    for store in cluster.list::<FeatureStore>() {
        objects
            .push(object(&store, summaries(store.status.clone().map(|s| s.conditions).unwrap_or_default())));
    }
    for server in cluster.list::<TrackingServer>() {
        objects.push(object(
            &server,
            summaries(server.status.clone().map(|s| s.conditions).unwrap_or_default()),
        ));
    }
    for deployment in cluster.list::<ModelDeployment>() {
        let status = deployment.status.clone().unwrap_or_default();
        let serving = status.serving.first().map(|serving| (serving.version.clone(), serving.digest.clone()));
        let state =
            json!({"conditions": summaries(status.conditions), "serving": serving, "cause": status.cause});
        objects.push(object(&deployment, state));
    }
    objects
}

fn object<K: Resource<DynamicType = ()>>(object: &K, state: Value) -> Value {
    json!({"kind": K::kind(&()), "name": object.meta().name, "state": state})
}

fn summaries(list: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>) -> Value {
    list.into_iter().map(|c| json!([c.type_, c.status, c.reason])).collect()
}

fn intents<K>(cluster: &impl Objects, generations: bool) -> Vec<Value>
where
    K: Cached + Resource<DynamicType = ()> + HasStatus<Status = IntentStatus>,
{
    let state = |intent: &K| {
        let status = intent.status().cloned().unwrap_or_default();
        let artifact = status.artifact.map(|artifact| {
            json!([artifact.digest, artifact.run, generations.then_some(artifact.generation)])
        });
        object(
            intent,
            json!({
                "artifact": artifact, "conditions": summaries(status.conditions), "cause": status.cause,
                "deadLetters": status.dead_letters.len(), "registered": status.registered,
                "metrics": status.metrics, "summary": status.summary,
            }),
        )
    };
    cluster.list::<K>().iter().map(state).collect()
}

fn runs<R: RunResource + DeserializeOwned>(cluster: &impl Objects) -> Vec<Value> {
    let state = |run: &R| {
        let status = run.status().cloned().unwrap_or_default();
        let done = condition::is_true(&status.conditions, condition_type::SUCCEEDED);
        object(run, json!({"succeeded": done, "output": status.output.map(|output| output.digest)}))
    };
    cluster.list::<R>().iter().map(state).collect()
}

/// The first difference of two states, in words.
pub fn difference(wanted: &Value, found: &Value) -> Option<String> {
    let rows = |value: &Value| -> BTreeMap<String, String> {
        let objects = value.as_array().cloned().unwrap_or_default();
        let row = |object: Value| {
            let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
            (format!("{} {}", text("kind"), text("name")), object["state"].to_string())
        };
        objects.into_iter().map(row).collect()
    };
    let (wanted, found) = (rows(wanted), rows(found));
    for (label, state) in &wanted {
        match found.get(label) {
            None => return Some(format!("{label} is missing")),
            Some(other) if other != state => return Some(format!("{label} is {other} instead of {state}")),
            _ => {}
        }
    }
    found.keys().find(|label| !wanted.contains_key(*label)).map(|label| format!("{label} must not exist"))
}
