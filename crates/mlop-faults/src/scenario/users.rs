//! Restless users: a minute of edits, deletions, pins and new data. At the end they want the pipeline as it is written.

use super::{
    hands,
    pipeline::{PIPELINE, objects},
};
use crate::{
    cluster::{self, Cluster, ExternalSystems, NAMESPACE, RegisteredModel, documents},
    plan::{Action, Change, Operation, Stage, System},
};
use mlop_api::{
    Reason, dataset::Dataset, deployment::ModelDeployment, features::FeatureView, registry::Model,
    result::Failure, training::TrainingJob,
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
    let back = cluster.external().away.values().max().copied();
    sleep_until(back.unwrap_or(begin)).await;
    let mut external = cluster.external();
    external.failures.clear();
    external.courses.clear();
}

/// Requests for the `nth` time the pipeline as it is written with all its Secrets, the last data, and another attempt of
/// all failed work. An object that is still being deleted, or whose kind is away, is requested again the next time.
pub fn request_pipeline(cluster: &Cluster, nth: u32) {
    cluster.injector.note_foreign_change();
    cluster.external().credentials.issue_all();
    for manifest in objects() {
        let _ = cluster::apply(&cluster.sim, manifest);
    }
    let request = format!("in the end {nth}");
    cluster::retry(&cluster.sim, &request);
    cluster.external().bucket = LAST_DATA.to_owned();
    cluster::refresh(&cluster.sim, &request);
}

fn carry_out(cluster: &Cluster, action: &Action) {
    let sim = &cluster.sim;
    if action.is_foreign() {
        cluster.injector.note_foreign_change();
    }
    match action {
        Action::Data(which) => cluster.put_data(["february", "march", "april"][usize::from(*which) % 3]),
        Action::Edit(stage) => change(sim, *stage, |spec| edit(*stage, spec)),
        Action::Apply(stage) => change(sim, *stage, |_| ()),
        Action::Suspend(stage) => change(sim, *stage, |spec| spec["suspend"] = json!(true)),
        Action::Change(Change { kind, name, spec }) => {
            let is_moved = ["endpoint", "bucket", "prefix"].iter().any(|field| !spec[*field].is_null());
            if kind == "ObjectStore" && is_moved {
                cluster.external().object_stores.is_mirrored = true;
            }
            // Users ignore a refusal.
            let _ = cluster::change(sim, kind, name, spec);
        }
        Action::Pin(stage) => hands::pin_first(sim, *stage),
        Action::Request(stage, request) => hands::request(sim, *stage, *request),
        Action::DeleteChild(child, nth) => hands::delete_child(sim, *child, usize::from(*nth)),
        Action::EditChild(child, nth) => hands::edit_child(sim, *child, usize::from(*nth)),
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
        outside => change_outside(&mut cluster.external(), outside),
    }
}

/// Carries out an action that changes external systems or Secrets.
fn change_outside(external: &mut ExternalSystems, action: &Action) {
    match action {
        Action::Break(work, is_terminal) => {
            let failure = if *is_terminal {
                Failure::terminal(Reason::InputCorrupt, "the input is corrupt")
            } else {
                Failure::transient(Reason::StoreUnreachable, "the store does not answer")
            };
            external.failures.entry(work.name()).or_default().push(failure);
        }
        Action::Disturb(work, course) => {
            external.courses.entry(work.name()).or_default().push(cluster::course(*course));
        }
        Action::MoveAliases => {
            let move_aliases = |model: &mut RegisteredModel| {
                model.aliases.values_mut().for_each(|version| *version = "1".to_owned());
            };
            external.registered_models().for_each(move_aliases);
        }
        Action::DeleteVersions => {
            external.registered_models().for_each(RegisteredModel::delete_versions);
        }
        Action::DeleteSecret(secret) => external.credentials.delete(secret),
        Action::RotateKey(secret) => external.credentials.rotate(secret),
        Action::Away(system, seconds) => {
            external.take_away(*system, Duration::from_secs((*seconds).into()));
        }
        Action::Empty(System::Redis) => external.flush(),
        Action::Empty(System::Mlflow) => external.mlflow.clear(),
        // The bytes of an object store cannot be made again, and all other actions concern objects.
        _ => {}
    }
}

/// A change of the stage's output, or of how it serves.
fn edit(stage: Stage, spec: &mut Value) {
    match stage {
        Stage::Dataset => spec["columns"] = json!([{"name": "a", "type": "string", "nullable": true}]),
        Stage::FeatureView => spec["sql"] = json!("SELECT a FROM trips"),
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
