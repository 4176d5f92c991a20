//! What must hold, whatever goes wrong. Each oracle has a name, which a failure begins with.

use crate::{
    inject::Call,
    world::{Outside, Pointer, SECOND_LEADER, World},
};
use kube::Resource;
use mlop_api::{
    Reason,
    contract::condition_type,
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    registry::{Model, ModelVersion, TrackingServer},
    status::IntentStatus,
    training::{TrainingJob, TrainingRun},
};
use mlop_core::{Cached, Reports, condition, run::RunResource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// What the layer has seen of an operator's requests, judged on the way.
#[derive(Clone, Default)]
pub struct Ledger {
    pub violations: Vec<String>,
    /// Requests by operator.
    pub requests: BTreeMap<String, u64>,
    /// Objects that were created, by kind and name, and how often.
    pub created: BTreeMap<(String, String), u32>,
    /// Artifacts that somebody may consume: kind, name, digest.
    published: BTreeSet<(String, String, String)>,
    restored: Option<Instant>,
    rivals: Option<Instant>,
    /// Generation, revision and digest that were reported last, by uid.
    reported: BTreeMap<String, (i64, i64, String)>,
}

/// Until then operators may still write what a restored server does not know.
const RESTORE_NOTICED: Duration = Duration::from_secs(15);
/// Kinds of runs, by plural.
const RUNS: [&str; 4] = ["datasetversions", "featuresnapshots", "trainingruns", "modelversions"];

impl Ledger {
    pub fn asked(&mut self, by: &str) {
        *self.requests.entry(by.to_owned()).or_default() += 1;
    }

    /// The server is an older one: numbers may go back once.
    pub fn restored(&mut self) {
        self.reported.clear();
        self.restored = Some(Instant::now());
    }

    pub fn was_restored(&self) -> bool {
        self.restored.is_some()
    }

    /// Two instances believe that they lead.
    pub fn rivals(&mut self) {
        self.rivals = Some(Instant::now());
    }

    /// A write was accepted.
    pub fn accepted(&mut self, call: &Call) {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        match call.verb {
            // Nobody counts on Events: they tell the same again when it happens again. Leases come with some plans only.
            "create" if call.kind == "events" || call.kind == "leases" => {}
            "create" => {
                *self.created.entry((call.kind.clone(), call.name.clone())).or_default() += 1;
                if RUNS.contains(&call.kind.as_str()) {
                    self.consumed(call, &body);
                }
            }
            "delete" if body["preconditions"]["uid"].is_null() => {
                self.violation(
                    "identity",
                    format!("{} {} was deleted whatever its uid", call.kind, call.name),
                );
            }
            "apply" if body["metadata"]["uid"].is_null() => {
                let what = format!("{} {} {}", call.kind, call.name, call.subresource);
                self.violation("identity", format!("{what} was applied whatever its uid"));
            }
            "apply" if call.subresource == "status" => self.status(call, &body),
            _ => {}
        }
    }

    /// Somebody wrote who has long lost the lease.
    pub fn usurped(&mut self, call: &Call) {
        let what = format!("{} wrote {} {} long after it had lost its lease", call.by, call.kind, call.name);
        self.violation("one leader", what);
    }

    fn violation(&mut self, oracle: &str, what: String) {
        self.violations.push(format!("{oracle}: {what}"));
    }

    /// A run may consume only what was published.
    fn consumed(&mut self, call: &Call, body: &Value) {
        let inputs = body["spec"]["identity"]["lineage"]["inputs"].as_array().cloned().unwrap_or_default();
        for input in inputs {
            let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
            let artifact = (text("kind"), text("object"), text("digest"));
            if !self.published.contains(&artifact) {
                let (kind, name, digest) = artifact;
                let what = format!("{} {} consumes {digest} of {kind} {name}", call.kind, call.name);
                self.violation("gate safety", format!("{what}, which was never published"));
            }
        }
    }

    fn status(&mut self, call: &Call, body: &Value) {
        let (uid, status) = (body["metadata"]["uid"].as_str().unwrap_or_default(), &body["status"]);
        let generation = status["observedGeneration"].as_i64().unwrap_or_default();
        let revision = status["artifact"]["revision"].as_i64().unwrap_or_default();
        let digest = status["artifact"]["digest"].as_str().unwrap_or_default().to_owned();
        let before = self.reported.get(uid).cloned().unwrap_or_default();
        let stands = !before.2.is_empty() && digest != before.2 && revision <= before.1;
        let unnoticed = self.restored.is_some_and(|at| at.elapsed() < RESTORE_NOTICED);
        // Of two leaders each may write what it knew before the other wrote.
        let rivals = self.rivals.is_some_and(|at| at.elapsed() < SECOND_LEADER);
        if !unnoticed && !rivals && (generation < before.0 || revision < before.1 || stands) {
            let now = (generation, revision, &digest);
            let what = format!("{} {} went from {before:?} to {now:?}", call.kind, call.name);
            self.violation("monotonic status", format!("{what} (generation, revision, digest)"));
        }
        self.reported.insert(uid.to_owned(), (generation, revision, digest));
        if status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["reason"] == Reason::Panicked.as_str())
        {
            self.violation("no panic", format!("a pass over {} {} panicked", call.kind, call.name));
        }
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == condition_type::READY && condition["status"] == "True");
        if let Some(digest) = status["artifact"]["digest"].as_str().filter(|_| ready) {
            let kind = body["kind"].as_str().unwrap_or_default().to_owned();
            self.published.insert((kind, call.name.clone(), digest.to_owned()));
        }
    }
}

/// Where something else is active outside than is published, once everything has settled.
pub fn outside(objects: &impl Objects, outside: &Outside) -> Vec<String> {
    let (views, models) = (objects.list::<FeatureView>(), objects.list::<Model>());
    let views = views.iter().filter_map(|view| {
        let status = view.status.as_ref()?;
        let pointer = format!("view {}", view.metadata.name.as_ref()?);
        Some((pointer, status.artifact.as_ref()?.digest.to_string(), status.activation.as_ref()?.revision))
    });
    let models = models.iter().filter_map(|model| {
        let status = model.status.as_ref()?;
        let pointer = format!("alias {} {}", model.spec.alias, model.metadata.uid.as_ref()?);
        Some((pointer, status.registered.as_ref()?.version.clone(), status.activation.as_ref()?.revision))
    });
    let wrong = views.chain(models).filter_map(|(name, content, revision)| {
        let wanted = Pointer { revision, content };
        let found = outside.pointers.get(&name).cloned().unwrap_or_default();
        (found != wanted).then(|| format!("outside: {name} is {found:?} instead of {wanted:?}"))
    });
    wrong.collect()
}

/// Where objects can be looked at.
pub trait Objects {
    /// All objects of a kind, by name. Undecodable ones are left out.
    fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K>;
}

impl Objects for World {
    fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        self.sim.list()
    }
}

/// Where everything stands, as far as it must be the same with and without faults.
pub fn end_state(world: &impl Objects) -> Value {
    let mut objects = intents_and_connections(world, true);
    objects.extend(runs::<DatasetVersion>(world));
    objects.extend(runs::<FeatureSnapshot>(world));
    objects.extend(runs::<TrainingRun>(world));
    objects.extend(runs::<ModelVersion>(world));
    Value::Array(objects)
}

/// What is published and served, whatever numbers it got on the way.
pub fn digests(world: &impl Objects) -> Value {
    fn of<K>(world: &impl Objects) -> Vec<Value>
    where
        K: Cached + Resource<DynamicType = ()> + Reports<Status = IntentStatus>,
    {
        let state = |intent: &K| {
            let status = intent.reported().cloned().unwrap_or_default();
            let digest = status.artifact.map(|artifact| artifact.digest);
            object(intent, json!({"digest": digest, "conditions": brief(status.conditions)}))
        };
        world.list::<K>().iter().map(state).collect()
    }
    let mut objects = of::<Dataset>(world);
    objects.extend(of::<FeatureView>(world));
    objects.extend(of::<TrainingJob>(world));
    objects.extend(of::<Model>(world));
    for deployment in world.list::<ModelDeployment>() {
        let status = deployment.status.clone().unwrap_or_default();
        let digest = status.serving.map(|serving| serving.digest);
        objects.push(object(&deployment, json!({"digest": digest, "conditions": brief(status.conditions)})));
    }
    Value::Array(objects)
}

/// Whether everything that is published is made from the newest inputs.
pub fn is_current(world: &impl Objects) -> bool {
    let all = digests(world);
    let objects = all.as_array().map(Vec::as_slice).unwrap_or_default();
    objects.iter().all(|object| {
        let conditions = object["state"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|c| c[0] == condition_type::UP_TO_DATE && c[1] == "True")
    })
}

/// The same without runs and generations: which there are depends on what was deleted, undone or tried on the way.
pub fn published_state(world: &impl Objects) -> Value {
    Value::Array(intents_and_connections(world, false))
}

fn intents_and_connections(world: &impl Objects, generations: bool) -> Vec<Value> {
    let mut objects = Vec::new();
    objects.extend(intents::<Dataset>(world, generations));
    objects.extend(intents::<FeatureView>(world, generations));
    objects.extend(intents::<TrainingJob>(world, generations));
    objects.extend(intents::<Model>(world, generations));
    for store in world.list::<ObjectStore>() {
        objects.push(object(&store, brief(store.status.clone().map(|s| s.conditions).unwrap_or_default())));
    }
    for store in world.list::<FeatureStore>() {
        objects.push(object(&store, brief(store.status.clone().map(|s| s.conditions).unwrap_or_default())));
    }
    for server in world.list::<TrackingServer>() {
        objects.push(object(&server, brief(server.status.clone().map(|s| s.conditions).unwrap_or_default())));
    }
    for deployment in world.list::<ModelDeployment>() {
        let status = deployment.status.clone().unwrap_or_default();
        let serving = status.serving.map(|serving| (serving.version, serving.digest));
        let state =
            json!({"conditions": brief(status.conditions), "serving": serving, "cause": status.cause});
        objects.push(object(&deployment, state));
    }
    objects
}

fn object<K: Resource<DynamicType = ()>>(object: &K, state: Value) -> Value {
    json!({"kind": K::kind(&()), "name": object.meta().name, "state": state})
}

fn brief(list: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>) -> Value {
    list.into_iter().map(|c| json!([c.type_, c.status, c.reason])).collect()
}

fn intents<K>(world: &impl Objects, generations: bool) -> Vec<Value>
where
    K: Cached + Resource<DynamicType = ()> + Reports<Status = IntentStatus>,
{
    let state = |intent: &K| {
        let status = intent.reported().cloned().unwrap_or_default();
        let artifact = status.artifact.map(|artifact| {
            json!([artifact.digest, artifact.run, generations.then_some(artifact.generation)])
        });
        object(
            intent,
            json!({
                "artifact": artifact, "conditions": brief(status.conditions), "cause": status.cause,
                "deadLetters": status.dead_letters.len(), "registered": status.registered,
                "metrics": status.metrics, "summary": status.summary,
            }),
        )
    };
    world.list::<K>().iter().map(state).collect()
}

fn runs<R: RunResource + DeserializeOwned>(world: &impl Objects) -> Vec<Value> {
    let state = |run: &R| {
        let status = run.reported().cloned().unwrap_or_default();
        let done = condition::is_true(&status.conditions, condition_type::SUCCEEDED);
        object(run, json!({"succeeded": done, "output": status.output.map(|output| output.digest)}))
    };
    world.list::<R>().iter().map(state).collect()
}

/// The first difference of two end states, for people.
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
    found.keys().find(|label| !wanted.contains_key(*label)).map(|label| format!("{label} should not exist"))
}
