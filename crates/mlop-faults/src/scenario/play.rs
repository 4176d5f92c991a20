//! The users of each scenario, until their last goal is met.

use super::{
    hands,
    pipeline::{ALTERNATIVES, PIPELINE},
    users::{operate, request_pipeline},
};
use crate::{
    check::{
        end_state::{digests, is_current},
        wrong_pointers,
    },
    cluster::{Cluster, FAULTY, NAMESPACE, create, documents},
    plan::{Operation, Request, Scenario, Stage},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod, Service},
};
use kube::ResourceExt;
use mlop_api::{
    contract::condition_type,
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    duration::Span,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    labels,
    registry::{Model, ModelVersion, TrackingServer},
    rollout::RolloutPhase,
    training::{TrainingJob, TrainingRun},
};
use mlop_core::condition;
use serde_json::{Value, json};
use std::time::Duration;

/// Another training in the queue of the pipeline's.
const RIVAL: &str = "rival";
/// How long a goal may take. Faults lead to outages and backoff of some minutes.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// A fault ends the namespace within this time, if it strikes: users may have waited for hours.
const NAMESPACE_LASTS: Duration = Duration::from_secs(14_400);
/// Users repeat their request after this time.
const REPEAT: Duration = Duration::from_secs(300);

/// Plays the users until their last goal is met. Restless users want the `wanted` digests of a run without faults, if
/// there was one.
///
/// # Errors
/// The goal that was not met in time.
pub async fn play(
    scenario: Scenario,
    cluster: &Cluster,
    users: &[Operation],
    wanted: Option<&Value>,
) -> Result<(), String> {
    if matches!(scenario, Scenario::Move | Scenario::Restless) {
        cluster.apply(ALTERNATIVES);
    }
    match scenario {
        Scenario::Distributed => apply_distributed(cluster),
        Scenario::Steps => apply_with(cluster, "ModelDeployment", &json!({"rollout": rollout()})),
        _ => cluster.apply(PIPELINE),
    }
    if scenario == Scenario::Restless {
        operate(cluster, users).await;
        let is_wanted = |cluster: &Cluster| {
            let is_newest =
                || wanted.map_or_else(|| is_current(&cluster.sim), |all| *all == digests(&cluster.sim));
            is_served(cluster, None) && is_newest()
        };
        return insist(cluster, "the last request is served", request_pipeline, is_wanted).await;
    }
    let is_first = |cluster: &Cluster| is_served(cluster, Some("1")) && is_rival_current(cluster);
    reach(cluster, "version 1 is served", is_first).await?;
    match scenario {
        Scenario::Deletion => return delete_all(cluster).await,
        Scenario::Move => return move_view(cluster).await,
        Scenario::NewData | Scenario::Pin | Scenario::Distributed | Scenario::Steps | Scenario::Restless => {}
    }
    let put_data = |cluster: &Cluster, _| cluster.put_data("february");
    let is_second = |cluster: &Cluster| is_served(cluster, Some("2")) && is_rival_current(cluster);
    insist(cluster, "version 2 is served", put_data, is_second).await?;
    match scenario {
        Scenario::Pin => {}
        Scenario::Steps => roll_back(cluster).await?,
        _ => return Ok(()),
    }
    let Some(first) = first_version(cluster) else {
        // A backup may be older than the version.
        let is_restored = cluster.injector.ledger().was_restored();
        return if is_restored { Ok(()) } else { Err("goal: the first ModelVersion is kept".to_owned()) };
    };
    if scenario == Scenario::Steps {
        return decide(cluster, &first).await;
    }
    let request = |cluster: &Cluster, _| pin(cluster, Some(first.clone()));
    insist(cluster, "version 1 is served again", request, is_first).await?;
    let request = |cluster: &Cluster, _| pin(cluster, None);
    insist(cluster, "version 2 is served again", request, is_second).await
}

/// Creates the pipeline with a training in two pods, and a rival in its queue, which has room for one of both.
fn apply_distributed(cluster: &Cluster) {
    let is_of = |kind: &'static str| move |manifest: &Value| manifest["kind"] == kind;
    let queue = documents(ALTERNATIVES).into_iter().find(is_of("TrainingQueue")).expect("a queue");
    create(&cluster.sim, queue).expect("the queue is valid");
    let shared = json!({"workers": {"replicas": 2}, "framework": {"pytorch": {}}, "queue": "shared"});
    apply_with(cluster, "TrainingJob", &shared);
    let mut rival = documents(PIPELINE).into_iter().find(is_of("TrainingJob")).expect("a training");
    rival["metadata"]["name"] = RIVAL.into();
    rival["spec"]["queue"] = "shared".into();
    create(&cluster.sim, rival).expect("the rival is valid");
}

/// Whether the rival of the training has a result of the newest data, if there is one.
fn is_rival_current(cluster: &Cluster) -> bool {
    let Some(rival) = cluster.sim.get::<TrainingJob>(NAMESPACE, RIVAL) else { return true };
    let conditions = rival.status.unwrap_or_default().conditions;
    condition::is_true(&conditions, condition_type::UP_TO_DATE)
}

/// Creates the pipeline with more fields in the spec of its object of a kind.
fn apply_with(cluster: &Cluster, kind: &str, fields: &Value) {
    for mut manifest in documents(PIPELINE) {
        if manifest["kind"] == kind {
            let more = fields.as_object().expect("fields").clone();
            manifest["spec"].as_object_mut().expect("a spec").extend(more);
        }
        create(&cluster.sim, manifest).expect("the pipeline is valid");
    }
}

/// A rollout in two steps. A fault may keep measurements away for longer than users would wait.
fn rollout() -> Value {
    json!({
        "steps": [{"weight": 10, "hold": "20s"}, {"weight": 50, "hold": "20s"}],
        "analysis": {"interval": "10s", "minRequests": 10, "timeout": "6h"},
    })
}

/// A bad version is rolled back, and the one before it serves.
async fn roll_back(cluster: &Cluster) -> Result<(), String> {
    let put_data = |cluster: &Cluster, _| cluster.put_data(FAULTY);
    let is_rolled_back = |cluster: &Cluster| {
        let Some(object) = cluster.sim.get::<ModelDeployment>(NAMESPACE, "delay") else { return false };
        let status = object.status.unwrap_or_default();
        let Some(rollout) = status.rollout else { return false };
        let served = status.artifact.map(|artifact| artifact.digest);
        rollout.phase == RolloutPhase::RolledBack
            && cluster.external().faulty.contains(&rollout.canary.digest)
            && served.is_some_and(|served| !cluster.external().faulty.contains(&served))
            && condition::is_true(&status.conditions, condition_type::READY)
    };
    insist(cluster, "version 3 is rolled back", put_data, is_rolled_back).await
}

/// Users offer the first version again, for as long as they like. They cancel its rollout, try it again, and promote it.
async fn decide(cluster: &Cluster, first: &str) -> Result<(), String> {
    // Each request repeats the edit and the pin, because a restored backup may lack them.
    let ask = |cluster: &Cluster, requests: &[Request]| {
        let _ = cluster.sim.edit::<ModelDeployment>(NAMESPACE, "delay", |object| {
            let steps = object.spec.rollout.iter_mut().flat_map(|rollout| &mut rollout.steps);
            steps.for_each(|step| step.hold = Span::hours(24));
        });
        pin(cluster, Some(first.to_owned()));
        requests.iter().for_each(|it| hands::request(&cluster.sim, Stage::ModelDeployment, *it));
    };
    let is_in = |cluster: &Cluster, phase| {
        let object = cluster.sim.get::<ModelDeployment>(NAMESPACE, "delay");
        let rollout = object.and_then(|object| object.status?.rollout);
        rollout.is_some_and(|it| it.phase == phase && it.canary.version.as_deref() == Some("1"))
    };
    let (is_offered, is_cancelled) = (
        |cluster: &Cluster| is_in(cluster, RolloutPhase::Progressing),
        |cluster: &Cluster| is_in(cluster, RolloutPhase::RolledBack),
    );
    let request = |cluster: &Cluster, _| ask(cluster, &[]);
    insist(cluster, "version 1 is offered", request, is_offered).await?;
    let request = |cluster: &Cluster, _| ask(cluster, &[Request::Cancel]);
    insist(cluster, "the rollout of version 1 is cancelled", request, is_cancelled).await?;
    let request = |cluster: &Cluster, _| ask(cluster, &[Request::Retry]);
    insist(cluster, "version 1 is tried again", request, is_offered).await?;
    let request = |cluster: &Cluster, _| ask(cluster, &[Request::Retry, Request::Promote]);
    insist(cluster, "version 1 is promoted", request, |cluster| is_served(cluster, Some("1"))).await
}

/// Moves the view to another FeatureStore. Its rows are online there, and no more in the former one.
async fn move_view(cluster: &Cluster) -> Result<(), String> {
    let request = |cluster: &Cluster, _| {
        // A view that a fault deletes comes back as it was. The goal shows whether it has moved.
        let _ = cluster.sim.edit::<FeatureView>(NAMESPACE, "routes", |view| {
            view.spec.feature_store = Some("spare".to_owned());
        });
    };
    let has_moved = |cluster: &Cluster| {
        let view = cluster.sim.get::<FeatureView>(NAMESPACE, "routes");
        let status = view.and_then(|view| view.status).unwrap_or_default();
        is_served(cluster, None)
            && status.online_in == ["spare"]
            && condition::is_true(&status.conditions, condition_type::READY)
            && wrong_pointers(&cluster.sim, &cluster.external()).is_empty()
    };
    insist(cluster, "the view is online in the other store only", request, has_moved).await
}

/// Plays the users until the namespace is deleted. It must become empty. External systems are not cleaned up: no pod
/// can start in the namespace.
///
/// # Errors
/// The goal that was not met in time.
pub async fn play_until_namespace_ends(
    scenario: Scenario,
    cluster: &Cluster,
    users: &[Operation],
    wanted: &Value,
) -> Result<(), String> {
    let ends = |cluster: &Cluster| {
        namespace(cluster).is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    };
    tokio::select! {
        // The fault may strike after the last goal, or never.
        played = play(scenario, cluster, users, Some(wanted)) => if !ends(cluster) { return played },
        _ = cluster.within(NAMESPACE_LASTS, ends) => {}
    }
    cluster.external().pointers.clear();
    reach(cluster, "the namespace is gone", |cluster| namespace(cluster).is_none()).await
}

fn namespace(cluster: &Cluster) -> Option<Namespace> {
    let namespaces = cluster.sim.list::<Namespace>();
    namespaces.into_iter().find(|namespace| namespace.metadata.name.as_deref() == Some(NAMESPACE))
}

/// The name of the run that became version 1.
fn first_version(cluster: &Cluster) -> Option<String> {
    cluster.sim.list::<ModelVersion>().into_iter().find_map(|version| {
        let registered = version.status.as_ref()?.output.as_ref()?.registered.as_ref()?;
        (registered.version == "1").then(|| version.metadata.name.clone()).flatten()
    })
}

fn pin(cluster: &Cluster, run: Option<String>) {
    // A deleted Model comes back as it was. The goal shows whether the pin is in effect.
    let _ = cluster.sim.edit::<Model>(NAMESPACE, "delay", |model| model.spec.pin = run);
}

/// Whether the newest result is served, and is this version.
fn is_served(cluster: &Cluster, version: Option<&str>) -> bool {
    let Some(deployment) = cluster.sim.get::<ModelDeployment>(NAMESPACE, "delay") else { return false };
    let status = deployment.status.unwrap_or_default();
    condition::is_true(&status.conditions, condition_type::READY)
        && condition::is_true(&status.conditions, condition_type::UP_TO_DATE)
        && status.serving.first().is_some_and(|serving| {
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
            let (wanted, found) = (number(version), number(serving.version.as_deref()));
            // A source that flapped may have become a version too.
            wanted.is_none() || found == wanted || (cluster.external().flapped && found > wanted)
        })
}

/// Makes a request, and repeats it while the goal is not met: another client may have undone it.
async fn insist(
    cluster: &Cluster,
    goal: &str,
    request: impl Fn(&Cluster, u32),
    holds: impl Fn(&Cluster) -> bool,
) -> Result<(), String> {
    for nth in 0..PATIENCE.as_secs() / REPEAT.as_secs() {
        request(cluster, u32::try_from(nth).unwrap_or_default());
        if cluster.within(REPEAT, &holds).await {
            return Ok(());
        }
    }
    Err(missed(goal))
}

async fn reach(cluster: &Cluster, goal: &str, holds: impl Fn(&Cluster) -> bool) -> Result<(), String> {
    if cluster.within(PATIENCE, holds).await { Ok(()) } else { Err(missed(goal)) }
}

fn missed(goal: &str) -> String {
    format!("stable reconciliation: not within {} s: {goal}", PATIENCE.as_secs())
}

async fn delete_all(cluster: &Cluster) -> Result<(), String> {
    let sim = &cluster.sim;
    cluster.injector.stop_recreating();
    let delete_pipeline = |cluster: &Cluster, _| {
        let sim = &cluster.sim;
        // Some may be gone already, and a restored server brings some back.
        let _ = sim.delete::<ModelDeployment>(NAMESPACE, "delay");
        let _ = sim.delete::<Model>(NAMESPACE, "delay");
        let _ = sim.delete::<TrainingJob>(NAMESPACE, "delay");
        let _ = sim.delete::<FeatureView>(NAMESPACE, "routes");
        let _ = sim.delete::<Dataset>(NAMESPACE, "flights");
    };
    let is_empty = |cluster: &Cluster| leftovers(cluster).is_empty();
    let deleted = insist(cluster, "no object of the pipeline is left", delete_pipeline, is_empty).await;
    deleted.map_err(|error| format!("{error}: {}", leftovers(cluster).join(", ")))?;
    let _ = sim.delete::<FeatureStore>(NAMESPACE, "features");
    let _ = sim.delete::<TrackingServer>(NAMESPACE, "mlflow");
    for store in ["files", "lake", "models"] {
        let _ = sim.delete::<ObjectStore>(NAMESPACE, store);
    }
    // A pod whose node died is being deleted until the node is removed.
    let is_ended = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    reach(cluster, "no connection is left", |cluster| {
        leftovers(cluster).is_empty()
            && cluster.sim.count::<FeatureStore>() + cluster.sim.count::<ObjectStore>() == 0
            && cluster.sim.list::<Pod>().iter().all(is_ended)
    })
    .await
}

/// Objects and pointers that must end with the pipeline.
pub fn leftovers(cluster: &Cluster) -> Vec<String> {
    let sim = &cluster.sim;
    let deployments = sim.list::<Deployment>();
    let is_of_model =
        |name: &&Deployment| name.metadata.name.as_deref().is_some_and(|name| name.contains("-mdep"));
    let services = sim.list::<Service>();
    let is_of_run = |service: &&Service| service.labels().contains_key(labels::RUN);
    let counts = [
        ("Dataset", sim.count::<Dataset>()),
        ("DatasetVersion", sim.count::<DatasetVersion>()),
        ("FeatureView", sim.count::<FeatureView>()),
        ("FeatureSnapshot", sim.count::<FeatureSnapshot>()),
        ("TrainingJob", sim.count::<TrainingJob>()),
        ("TrainingRun", sim.count::<TrainingRun>()),
        ("Model", sim.count::<Model>()),
        ("ModelVersion", sim.count::<ModelVersion>()),
        ("ModelDeployment", sim.count::<ModelDeployment>()),
        ("Job", sim.count::<Job>()),
        ("Service of a training", services.iter().filter(is_of_run).count()),
        ("Deployment of a model", deployments.iter().filter(is_of_model).count()),
    ];
    let mut left: Vec<_> =
        counts.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
    let external = cluster.external();
    let served = external.pointers.iter().filter(|(_, pointer)| !pointer.content.is_empty());
    left.extend(served.map(|(name, _)| name).filter(|name| name.starts_with("view ")).cloned());
    left
}
