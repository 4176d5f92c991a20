//! Restless users: a minute of edits, deletions, pins and new data. At the end they want the pipeline as it is written.

use super::pipeline::PIPELINE;
use crate::{
    cluster::{self, Cluster, NAMESPACE, RegisteredModel, documents},
    plan::{Action, Operation, Stage},
};
use mlop_api::{
    Reason,
    dataset::Dataset,
    deployment::ModelDeployment,
    features::FeatureView,
    registry::{Model, ModelVersion},
    result::Failure,
    training::TrainingJob,
};
use mlop_sim::Sim;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long users change their minds.
pub const RESTLESS: Duration = Duration::from_secs(60);
/// The content of the bucket in the end.
const LAST_DATA: &str = "february";

/// Carries out operations at their times.
pub async fn operate(cluster: &Cluster, operations: &[Operation]) {
    let begin = Instant::now();
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.at);
    for operation in &operations {
        sleep_until(begin + Duration::from_millis(operation.at)).await;
        carry_out(cluster, &operation.does);
    }
    sleep_until(begin + RESTLESS).await;
    cluster.external().failures.clear();
}

/// Requests for the `nth` time the pipeline as it is written, the last data, and another attempt of all failed work. An
/// object that is still being deleted, or whose kind is away, is requested again the next time.
pub fn request_pipeline(cluster: &Cluster, nth: u32) {
    for manifest in documents(PIPELINE) {
        let _ = cluster::apply(&cluster.sim, manifest);
    }
    let request = format!("in the end {nth}");
    cluster::retry(&cluster.sim, &request);
    cluster.external().bucket = LAST_DATA.to_owned();
    cluster::refresh(&cluster.sim, &request);
}

fn carry_out(cluster: &Cluster, action: &Action) {
    let sim = &cluster.sim;
    match action {
        Action::Data(which) => cluster.put_data(["february", "march", "april"][usize::from(*which) % 3]),
        Action::Edit(stage) => change(sim, *stage, |spec| edit(*stage, spec)),
        Action::Apply(stage) => change(sim, *stage, |_| ()),
        Action::Suspend(stage) => change(sim, *stage, |spec| spec["suspend"] = json!(true)),
        Action::Pin => {
            let versions = sim.list::<ModelVersion>();
            let is_done =
                |version: &&ModelVersion| version.status.as_ref().is_some_and(|s| s.output.is_some());
            let first = versions.iter().find(is_done).and_then(|version| version.metadata.name.clone());
            change(sim, Stage::Model, |spec| spec["pin"] = json!(first));
        }
        Action::Delete(stage) => {
            // The object may be gone already.
            let _ = match stage {
                Stage::Dataset => sim.delete::<Dataset>(NAMESPACE, "flights"),
                Stage::FeatureView => sim.delete::<FeatureView>(NAMESPACE, "routes"),
                Stage::TrainingJob => sim.delete::<TrainingJob>(NAMESPACE, "delay"),
                Stage::Model => sim.delete::<Model>(NAMESPACE, "delay"),
                Stage::ModelDeployment => sim.delete::<ModelDeployment>(NAMESPACE, "delay"),
            };
        }
        Action::Break(work, is_terminal) => {
            let failure = if *is_terminal {
                Failure::terminal(Reason::InputCorrupt, "the input is corrupt")
            } else {
                Failure::transient(Reason::StoreUnreachable, "the store does not answer")
            };
            cluster.external().failures.entry(work.name()).or_default().push(failure);
        }
        Action::MoveAliases => {
            let move_aliases = |model: &mut RegisteredModel| {
                model.aliases.values_mut().for_each(|version| *version = "1".to_owned());
            };
            cluster.external().registered_models().for_each(move_aliases);
        }
        Action::DeleteVersions => {
            cluster.external().registered_models().for_each(RegisteredModel::delete_versions);
        }
    }
}

/// A change of the stage's output, or of how it serves.
fn edit(stage: Stage, spec: &mut Value) {
    match stage {
        Stage::Dataset => spec["columns"] = json!([{"name": "a", "type": "string", "nullable": true}]),
        Stage::FeatureView => spec["sql"] = json!("SELECT a FROM flights"),
        Stage::TrainingJob => spec["image"] = json!("trainer:2"),
        Stage::Model => spec["gates"] = json!([{"name": "quality", "metric": "auc", "min": "0.9"}]),
        Stage::ModelDeployment => spec["target"] = json!({"deployment": {"replicas": 1}}),
    }
}

/// Applies the manifest of a stage with a change. Users ignore a refusal.
fn change(sim: &Sim, stage: Stage, change: impl FnOnce(&mut Value)) {
    let kind = format!("{stage:?}");
    if let Some(mut manifest) =
        documents(PIPELINE).into_iter().find(|manifest| manifest["kind"] == kind.as_str())
    {
        change(&mut manifest["spec"]);
        let _ = cluster::apply(sim, manifest);
    }
}
