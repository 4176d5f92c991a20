//! What users do in random plans: a minute of edits, deletions, pins and new data, of which nothing may remain but what
//! they want in the end.

use crate::{
    scenario::PIPELINE,
    world::{NS, World, create, refresh},
};
use kube::Resource;
use mlop_api::{
    Reason,
    dataset::{self, Dataset},
    deployment::ModelDeployment,
    features::{self, FeatureView},
    labels,
    registry::{self, Model, ModelVersion},
    result::Failure,
    training::TrainingJob,
};
use mlop_sim::Sim;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long users keep changing their minds.
pub const RESTLESS: Duration = Duration::from_secs(60);
/// What is in the bucket in the end.
const LAST_DATA: &str = "february";

/// Something that a user does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deed {
    /// Virtual milliseconds after the pipeline was applied.
    pub at: u64,
    pub does: Act,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Puts other data into the bucket and asks for a look at it.
    Data(u8),
    /// Changes the spec of this kind's object.
    Edit(Stage),
    /// Undoes all edits of this kind's object, suspension and pin too.
    Apply(Stage),
    Suspend(Stage),
    /// Pins the model to its first version.
    Pin,
    Delete(Stage),
    /// The next pod of this work fails; `true`: trying it again would not help.
    Break(Work, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Dataset,
    FeatureView,
    TrainingJob,
    Model,
    ModelDeployment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    Scan,
    Version,
    Snapshot,
    Activate,
    Train,
    Register,
    Alias,
}

const STAGES: [Stage; 5] =
    [Stage::Dataset, Stage::FeatureView, Stage::TrainingJob, Stage::Model, Stage::ModelDeployment];
pub const WORKS: [Work; 7] =
    [Work::Scan, Work::Version, Work::Snapshot, Work::Activate, Work::Train, Work::Register, Work::Alias];

impl Act {
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let stage = STAGES[random.usize(..STAGES.len())];
        match random.u8(..8) {
            0 | 1 => Self::Data(random.u8(..3)),
            2 => Self::Edit(stage),
            3 => Self::Apply(stage),
            4 => Self::Suspend(stage),
            5 => Self::Pin,
            6 => Self::Delete(stage),
            _ => Self::Break(WORKS[random.usize(..WORKS.len())], random.bool()),
        }
    }
}

/// Does `deeds` at their times.
pub async fn play(world: &World, deeds: &[Deed]) {
    let begin = Instant::now();
    let mut deeds = deeds.to_vec();
    deeds.sort_by_key(|deed| deed.at);
    for deed in &deeds {
        sleep_until(begin + Duration::from_millis(deed.at)).await;
        act(world, &deed.does);
    }
    sleep_until(begin + RESTLESS).await;
    world.outside().failures.clear();
}

/// Asks for what users want in the end, for the `time`-th time: the pipeline as it is written, the last data, and another
/// try of what was given up. What cannot be had now, because an object of the name is still being deleted or its kind is
/// away, is asked for again.
pub fn ask(world: &World, time: u32) {
    for manifest in manifests() {
        let _ = upsert(&world.sim, manifest);
    }
    let request = format!("in the end {time}");
    retry(&world.sim, &request);
    world.outside().bucket = LAST_DATA.to_owned();
    refresh(&world.sim, &request);
}

fn act(world: &World, act: &Act) {
    let sim = &world.sim;
    match act {
        Act::Data(which) => world.arrive(["february", "march", "april"][usize::from(*which) % 3]),
        Act::Edit(stage) => change(sim, *stage, |spec| edit(*stage, spec)),
        Act::Apply(stage) => change(sim, *stage, |_| ()),
        Act::Suspend(stage) => change(sim, *stage, |spec| spec["suspend"] = json!(true)),
        Act::Pin => {
            let versions = sim.list::<ModelVersion>();
            let done = |version: &&ModelVersion| version.status.as_ref().is_some_and(|s| s.output.is_some());
            let first = versions.iter().find(done).and_then(|version| version.metadata.name.clone());
            change(sim, Stage::Model, |spec| spec["pin"] = json!(first));
        }
        Act::Delete(stage) => {
            // It may be gone already.
            let _ = match stage {
                Stage::Dataset => sim.delete::<Dataset>(NS, "flights"),
                Stage::FeatureView => sim.delete::<FeatureView>(NS, "routes"),
                Stage::TrainingJob => sim.delete::<TrainingJob>(NS, "delay"),
                Stage::Model => sim.delete::<Model>(NS, "delay"),
                Stage::ModelDeployment => sim.delete::<ModelDeployment>(NS, "delay"),
            };
        }
        Act::Break(work, for_good) => {
            let failure = match for_good {
                true => Failure::terminal(Reason::InputCorrupt, "it is broken"),
                false => Failure::transient(Reason::StoreUnreachable, "it does not answer"),
            };
            world.outside().failures.entry(work.name()).or_default().push(failure);
        }
    }
}

/// A change that matters to what the stage makes, or to how it serves.
fn edit(stage: Stage, spec: &mut Value) {
    match stage {
        Stage::Dataset => spec["columns"] = json!([{"name": "a", "type": "string", "nullable": true}]),
        Stage::FeatureView => spec["sql"] = json!("SELECT a FROM flights"),
        Stage::TrainingJob => spec["image"] = json!("trainer:2"),
        Stage::Model => spec["gates"] = json!([{"name": "quality", "metric": "auc", "min": "0.9"}]),
        Stage::ModelDeployment => spec["target"] = json!({"deployment": {"replicas": 1}}),
    }
}

/// Applies the manifest of a stage with a change. The server may refuse it, or the object may be going: then the user
/// goes on to something else.
fn change(sim: &Sim, stage: Stage, change: impl FnOnce(&mut Value)) {
    let kind = format!("{stage:?}");
    if let Some(mut manifest) = manifests().into_iter().find(|manifest| manifest["kind"] == kind.as_str()) {
        change(&mut manifest["spec"]);
        let _ = upsert(sim, manifest);
    }
}

fn manifests() -> Vec<Value> {
    PIPELINE
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).expect("the pipeline is YAML"))
        .collect()
}

/// Asks for another try of whatever was given up.
fn retry(sim: &Sim, request: &str) {
    fn ask<K>(sim: &Sim, name: &str, request: &str)
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let _ = sim.edit::<K>(NS, name, |object| {
            let annotations = object.meta_mut().annotations.get_or_insert_default();
            annotations.insert(labels::RETRY_REQUESTED_AT.to_owned(), request.to_owned());
        });
    }
    ask::<Dataset>(sim, "flights", request);
    ask::<FeatureView>(sim, "routes", request);
    ask::<TrainingJob>(sim, "delay", request);
    ask::<Model>(sim, "delay", request);
}

/// Creates the object, or gives it this spec.
fn upsert(sim: &Sim, manifest: Value) -> Result<(), String> {
    fn as_kind<K>(sim: &Sim, manifest: Value) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let Some(object) = sim.get::<K>(NS, &name) else { return create(sim, manifest) };
        if object.meta().deletion_timestamp.is_some() {
            return Err(format!("{name} is still being deleted"));
        }
        let mut value = serde_json::to_value(&object).map_err(|error| error.to_string())?;
        value["spec"] = manifest["spec"].clone();
        let wanted: K = serde_json::from_value(value).map_err(|error| error.to_string())?;
        sim.edit::<K>(NS, &name, |object| *object = wanted).map(drop).map_err(|status| status.message.clone())
    }
    match manifest["kind"].as_str().unwrap_or_default() {
        "ObjectStore" => as_kind::<dataset::ObjectStore>(sim, manifest),
        "FeatureStore" => as_kind::<features::FeatureStore>(sim, manifest),
        "TrackingServer" => as_kind::<registry::TrackingServer>(sim, manifest),
        "Dataset" => as_kind::<Dataset>(sim, manifest),
        "FeatureView" => as_kind::<FeatureView>(sim, manifest),
        "TrainingJob" => as_kind::<TrainingJob>(sim, manifest),
        "Model" => as_kind::<Model>(sim, manifest),
        _ => as_kind::<ModelDeployment>(sim, manifest),
    }
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Version => "version",
            Self::Snapshot => "snapshot",
            Self::Activate => "activate",
            Self::Train => "train",
            Self::Register => "register",
            Self::Alias => "alias",
        }
    }
}
