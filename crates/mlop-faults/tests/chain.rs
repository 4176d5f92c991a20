//! The whole chain in virtual time: five operators, one YAML file, and workers that compute digests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use k8s_openapi::{
    api::core::v1::{EnvVar, Event, Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use mlop_api::{
    Quantity, Reason,
    contract::condition_type,
    dataset::Dataset,
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    labels,
    registry::{Model, ModelVersion, TrackingServer},
    result::Failure,
    status::DeploymentStatus,
    trace::{self, SpanId, TraceId},
    training::{TrainingJob, TrainingRun},
};
use mlop_core::{condition, span::Span};
use mlop_faults::{
    check::{watch, wrong_pointers},
    cluster::{Cluster, NAMESPACE, RegisteredModel, create_in, documents},
    scenario::PIPELINE,
};
use mlop_sim::Write;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Virtual time in which all operators notice a change and write their statuses.
const SETTLE: Duration = Duration::from_secs(60);
/// Virtual time in which a forbidden effect would happen.
const LONG: Duration = Duration::from_secs(1_800);

/// Virtual time between two checks of a published version.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// Another namespace.
const ELSEWHERE: &str = "elsewhere";

/// Virtual time between two states of the data. A training takes longer.
const DAY: Duration = Duration::from_secs(20);

fn deployment(cluster: &Cluster) -> DeploymentStatus {
    cluster.get::<ModelDeployment>("delay").status.unwrap_or_default()
}

fn served_version(cluster: &Cluster) -> Option<String> {
    deployment(cluster).serving.into_iter().find_map(|serving| serving.version)
}

fn is_ready(cluster: &Cluster) -> bool {
    condition::is_true(&deployment(cluster).conditions, condition_type::READY)
}

async fn wait_for_version(cluster: &Cluster, version: &str) {
    cluster
        .until(&format!("version {version} is served"), |cluster| {
            is_ready(cluster) && served_version(cluster).as_deref() == Some(version)
        })
        .await;
}

async fn serve_first_model(cluster: &Cluster) {
    cluster.apply(PIPELINE);
    wait_for_version(cluster, "1").await;
}

#[tokio::test(start_paused = true)]
async fn pipeline_becomes_a_served_model() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let status = deployment(&cluster);
    assert_eq!(status.summary.as_deref(), Some("version 1 on 2 of 2 pods"));
    assert_eq!(status.cause, None);
    let artifact = status.artifact.unwrap();
    let dataset = cluster.get::<Dataset>("flights").status.unwrap().artifact.unwrap();
    let roots: Vec<_> = artifact.roots().map(|root| &root.digest).collect();
    assert_eq!(roots, [&dataset.digest]);
    for work in ["version", "snapshot", "train", "register", "activate", "alias"] {
        assert_eq!(cluster.started(work), 1, "{work}");
    }
}

/// `name` with as many characters as a name may have.
fn longest(name: &str) -> String {
    format!("{name}-{}", "x".repeat(39 - name.len()))
}

#[tokio::test(start_paused = true)]
async fn chain_serves_under_the_longest_names() {
    let mut pipeline = PIPELINE
        .replace(
            "existing: {address: \"redis:6379\", secretName: redis-password}",
            "managed: {image: redis, secretName: redis-password}",
        )
        .replace("existing: {service: tracking, secretName: tracking-token}", "managed: {image: mlflow}");
    assert_eq!(pipeline.matches("managed:").count(), 2);
    for name in ["files", "lake", "models", "features", "mlflow", "flights", "routes", "delay"] {
        for field in ["name", "store", "featureStore", "trackingServer"] {
            pipeline = pipeline.replace(&format!("{field}: {name}"), &format!("{field}: {}", longest(name)));
        }
    }
    let cluster = Cluster::start();
    cluster.apply(&pipeline);
    cluster
        .until("the model is served", |cluster| {
            let deployment = cluster.get::<ModelDeployment>(&longest("delay"));
            condition::is_true(&deployment.status.unwrap_or_default().conditions, condition_type::READY)
        })
        .await;
    let longest_child = cluster.sim.writes().into_iter().filter(|write| write.resource != "events");
    let longest_child = longest_child.max_by_key(|write| write.name.len()).unwrap();
    assert!((50..=63).contains(&longest_child.name.len()), "{longest_child:?}");
}

#[tokio::test(start_paused = true)]
async fn run_without_labels_is_found_again() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    cluster.until("the training is at work", |cluster| cluster.started("train") == 1).await;
    let runs = || cluster.sim.list::<TrainingRun>();
    let name = runs()[0].name_any();
    cluster.sim.edit::<TrainingRun>(NAMESPACE, &name, |run| run.metadata.labels = None).unwrap();
    wait_for_version(&cluster, "1").await;
    assert_eq!((cluster.started("train"), runs().len()), (1, 1));
    assert!(runs()[0].labels().contains_key(labels::DIGEST));
}

#[tokio::test(start_paused = true)]
async fn trace_is_reproducible() {
    let trace = || async {
        let cluster = Cluster::start();
        serve_first_model(&cluster).await;
        cluster.sim.trace_hash()
    };
    assert_eq!(trace().await, trace().await);
}

#[tokio::test(start_paused = true)]
async fn chain_follows_new_data_and_ignores_old_data() {
    let cluster = Cluster::start();
    cluster.apply(&PIPELINE.replace("interval: 24h", "interval: 1m"));
    wait_for_version(&cluster, "1").await;
    let quiet = |cluster: &Cluster| {
        cluster
            .sim
            .writes()
            .into_iter()
            .filter(|write| write.resource != "pods" && write.resource != "events")
            .count()
    };
    sleep(SETTLE).await;
    let before = quiet(&cluster);
    sleep(LONG).await;
    assert_eq!(quiet(&cluster), before, "unchanged data causes no writes except the pods of scans");
    assert!(cluster.started("scan") >= 10);
    assert_eq!(cluster.started("version"), 1);

    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    assert_eq!((cluster.started("version"), cluster.started("train")), (2, 2));
    let model = cluster.get::<Model>("delay").status.unwrap();
    assert_eq!(model.artifact.unwrap().revision, 2);
}

#[tokio::test(start_paused = true)]
async fn chain_makes_no_idle_write() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    let idle: Vec<_> =
        cluster.sim.writes().into_iter().filter(|write| write.code < 300 && !write.changed).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

#[tokio::test(start_paused = true)]
async fn rollout_costs_at_most_four_writes() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    sleep(SETTLE).await;
    let before = cluster.sim.writes().len();
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    let writes = cluster.sim.writes().into_iter().skip(before);
    let is_own = |w: &Write| w.field_manager.starts_with("mlop-modeldeployment") && w.resource != "events";
    let writes: Vec<_> = writes.filter(is_own).collect();
    assert!((2..=4).contains(&writes.len()), "{writes:#?}");
}

#[tokio::test(start_paused = true)]
async fn deployment_names_the_cause_when_data_is_broken() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let failure = Failure::terminal(Reason::SchemaMismatch, "column \"dep_delay\" is missing in in/2.csv");
    cluster.external().failures.insert("version", vec![failure]);
    cluster.put_data("broken");
    cluster.until("the deployment names the cause", |cluster| deployment(cluster).cause.is_some()).await;
    let status = deployment(&cluster);
    let cause = status.cause.unwrap();
    assert_eq!(
        (cause.kind.as_str(), cause.name.as_str(), cause.reason.as_str()),
        ("Dataset", "flights", "SchemaMismatch")
    );
    let message = &condition::get(&status.conditions, condition_type::UP_TO_DATE).unwrap().message;
    assert!(
        message.starts_with("ModelDeployment delay <- Model delay <- TrainingJob delay <- ")
            && message.contains("Dataset flights: SchemaMismatch: column"),
        "{message}"
    );
    assert!(is_ready(&cluster), "the old model keeps serving");
    assert_eq!(served_version(&cluster).as_deref(), Some("1"));

    cluster.put_data("mended");
    wait_for_version(&cluster, "2").await;
    assert_eq!(deployment(&cluster).cause, None);
}

#[tokio::test(start_paused = true)]
async fn training_succeeds_when_a_retry_succeeds() {
    let cluster = Cluster::start();
    let failure = Failure::transient(Reason::UserError, "exit code 3: no luck");
    cluster.external().failures.insert("train", vec![failure.clone(), failure]);
    serve_first_model(&cluster).await;
    assert_eq!(cluster.started("train"), 3);
    let runs = cluster.sim.list::<TrainingRun>();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status.as_ref().unwrap().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn training_shows_its_progress_in_few_writes() {
    let cluster = Cluster::start();
    watch(&cluster);
    cluster.apply(PIPELINE);
    let status = |cluster: &Cluster| {
        let run = cluster.sim.list::<TrainingRun>().into_iter().next();
        run.and_then(|run| run.status).unwrap_or_default()
    };
    cluster.until("the status shows a step", |cluster| status(cluster).progress.is_some()).await;
    let first = status(&cluster).progress.unwrap();
    assert!(first.step < first.of, "only at the end: {first:?}");
    wait_for_version(&cluster, "1").await;
    let last = status(&cluster).progress.unwrap();
    assert_eq!((last.attempt, last.steps.as_deref()), (1, Some("7/7")));
    assert!(status(&cluster).series[0].parsed().len() >= 2, "{:?}", status(&cluster).series);
    let writes = cluster.sim.writes();
    let written =
        writes.iter().filter(|it| it.resource.starts_with("trainingruns") && it.subresource == "status");
    // The attempt lasts for ten seconds, further progress, the end.
    assert!(written.count() <= 4, "{writes:?}");
    assert_eq!(cluster.injector.ledger().failures(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn training_waits_for_more_memory_when_out_of_memory() {
    let cluster = Cluster::start();
    cluster.external().failures.insert("train", vec![Failure::terminal(Reason::OutOfMemory, "")]);
    cluster.apply(PIPELINE);
    cluster
        .until("the job names the cause", |cluster| {
            cluster
                .get::<TrainingJob>("delay")
                .status
                .is_some_and(|s| s.cause.is_some_and(|c| c.reason == "OutOfMemory"))
        })
        .await;
    assert_eq!(cluster.started("train"), 1, "the same memory is not tried twice");
    cluster
        .sim
        .edit::<TrainingJob>(NAMESPACE, "delay", |job| job.spec.resources.memory = Quantity::gibi(4))
        .unwrap();
    wait_for_version(&cluster, "1").await;
    assert_eq!(cluster.sim.list::<TrainingRun>().len(), 1, "memory is no part of the digest");
}

#[tokio::test(start_paused = true)]
async fn dead_letter_remains_until_it_is_replayed() {
    let cluster = Cluster::start();
    let failure = Failure::transient(Reason::UserError, "exit code 3");
    cluster.external().failures.insert("train", vec![failure; 3]);
    cluster.apply(PIPELINE);
    let letters =
        |cluster: &Cluster| cluster.get::<TrainingJob>("delay").status.unwrap_or_default().dead_letters;
    cluster.until("there is a dead letter", |cluster| !letters(cluster).is_empty()).await;
    let letter = letters(&cluster).remove(0);
    assert_eq!((letter.reason.as_str(), letter.attempts), ("UserError", 3));
    sleep(LONG).await;
    assert_eq!(cluster.started("train"), 3, "nothing is tried beyond the budget");
    let replay = |job: &mut TrainingJob| {
        job.metadata
            .annotations
            .get_or_insert_default()
            .insert("mlop.dev/retry-requested-at".into(), "now".into());
    };
    cluster.sim.edit::<TrainingJob>(NAMESPACE, "delay", replay).unwrap();
    wait_for_version(&cluster, "1").await;
    assert!(letters(&cluster).is_empty());
    let runs = cluster.sim.list::<TrainingRun>();
    assert_eq!((runs.len(), runs[0].status.as_ref().unwrap().attempts), (1, 4), "numbers never restart");
}

#[tokio::test(start_paused = true)]
async fn version_is_not_served_when_its_gate_fails() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.external().auc = 0.6;
    cluster.put_data("february");
    let gate_failed = |cluster: &Cluster| {
        cluster
            .get::<Model>("delay")
            .status
            .is_some_and(|s| s.cause.is_some_and(|c| c.reason == "GateFailed"))
    };
    cluster.until("the gate fails", gate_failed).await;
    cluster
        .until("the deployment names the cause", |cluster| {
            deployment(cluster).cause.is_some_and(|c| c.kind == "Model")
        })
        .await;
    assert_eq!(served_version(&cluster).as_deref(), Some("1"));
    assert!(is_ready(&cluster));
    assert_eq!(cluster.sim.list::<ModelVersion>().len(), 2, "the version is recorded");
    assert_eq!(cluster.started("alias"), 1);

    cluster
        .sim
        .edit::<Model>(NAMESPACE, "delay", |model| model.spec.gates[0].min = Some("0.5".into()))
        .unwrap();
    wait_for_version(&cluster, "2").await;
}

#[tokio::test(start_paused = true)]
async fn earlier_model_is_served_when_it_is_pinned() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let earlier = cluster.get::<Model>("delay").status.unwrap().artifact.unwrap().run;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    cluster.sim.edit::<Model>(NAMESPACE, "delay", |model| model.spec.pin = Some(earlier)).unwrap();
    let begin = Instant::now();
    wait_for_version(&cluster, "1").await;
    // Moving the alias takes a pod 1.5 s, the rollout 2 s.
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}: a reconcile waited for a timer",
        begin.elapsed()
    );
    let revision = || cluster.get::<Model>("delay").status.unwrap().artifact.unwrap().revision;
    assert_eq!((revision(), cluster.started("alias")), (3, 3), "a rollback is a revision like any other");
    cluster.sim.edit::<Model>(NAMESPACE, "delay", |model| model.spec.pin = None).unwrap();
    wait_for_version(&cluster, "2").await;
    assert_eq!((revision(), cluster.started("train"), cluster.started("register")), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn chain_stops_at_an_equal_result() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let artifact = |cluster: &Cluster| cluster.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    let before = artifact(&cluster);
    // The rows' values do not depend on how rejected rows are counted: another input digest, the same content.
    cluster
        .sim
        .edit::<Dataset>(NAMESPACE, "flights", |set| set.spec.quarantine.max_ratio = "0.5".into())
        .unwrap();
    cluster.until("a second version was written", |cluster| cluster.started("version") == 2).await;
    sleep(LONG).await;
    assert_eq!((cluster.started("snapshot"), cluster.started("train")), (1, 1));
    assert_eq!((artifact(&cluster).digest, artifact(&cluster).revision), (before.digest, before.revision));
    assert!(is_ready(&cluster));
}

#[tokio::test(start_paused = true)]
async fn old_model_serves_when_the_new_one_does_not_start() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.external().broken_rollout = true;
    cluster.put_data("february");
    cluster
        .until("the new version is rolled out", |cluster| {
            condition::get(&deployment(cluster).conditions, condition_type::UP_TO_DATE)
                .is_some_and(|c| c.reason == "RollingOut")
        })
        .await;
    sleep(LONG).await;
    assert_eq!(served_version(&cluster).as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn job_starts_no_run_while_it_is_suspended() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.sim.edit::<TrainingJob>(NAMESPACE, "delay", |job| job.spec.suspend = true).unwrap();
    cluster.put_data("february");
    cluster.until("the features follow", |cluster| cluster.started("snapshot") == 2).await;
    sleep(LONG).await;
    assert_eq!(cluster.started("train"), 1);
    let up_to_date = |cluster: &Cluster| {
        let conditions = cluster.get::<TrainingJob>("delay").status.unwrap().conditions;
        condition::get(&conditions, condition_type::UP_TO_DATE).unwrap().reason.clone()
    };
    assert_eq!(up_to_date(&cluster), "Suspended");
    cluster.sim.edit::<TrainingJob>(NAMESPACE, "delay", |job| job.spec.suspend = false).unwrap();
    wait_for_version(&cluster, "2").await;
}

#[tokio::test(start_paused = true)]
async fn edit_replaces_a_run_that_fails() {
    let cluster = Cluster::start();
    let failure = Failure::transient(Reason::UserError, "exit code 1: a typo");
    cluster.external().failures.insert("train", vec![failure]);
    cluster.apply(PIPELINE);
    let retrying = |cluster: &Cluster| {
        cluster
            .sim
            .list::<TrainingRun>()
            .iter()
            .any(|run| run.status.as_ref().is_some_and(|s| s.attempts == 1))
    };
    cluster.until("the first attempt has failed", retrying).await;
    cluster
        .sim
        .edit::<TrainingJob>(NAMESPACE, "delay", |job| {
            job.spec.command = vec!["python".into(), "mended.py".into()]
        })
        .unwrap();
    wait_for_version(&cluster, "1").await;
    let runs = cluster.sim.list::<TrainingRun>();
    assert_eq!(runs.len(), 1, "the run with the typo is gone");
    assert_eq!(runs[0].spec.content.command[1], "mended.py");
    assert_eq!(cluster.started("train"), 2);
}

#[tokio::test(start_paused = true)]
async fn models_are_served_when_data_outruns_training() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    for day in 0..15 {
        cluster.put_data(&format!("day {day}"));
        sleep(DAY).await;
    }
    let served: u32 = served_version(&cluster).unwrap().parse().unwrap();
    assert!((5..12).contains(&served), "version {served} after five minutes of training for half a minute");
    let newest = cluster.get::<Dataset>("flights").status.unwrap().artifact.unwrap().digest;
    let is_newest = |cluster: &Cluster| {
        deployment(cluster)
            .artifact
            .is_some_and(|artifact| artifact.roots().all(|root| root.digest == newest))
    };
    cluster.until("the last day is served", is_newest).await;
    assert!(cluster.started("train") < 15, "outdated data was not trained on");
}

#[tokio::test(start_paused = true)]
async fn pin_holds_against_a_run_under_way() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let earlier = cluster.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    cluster.put_data("february");
    cluster.until("the next snapshot is under way", |cluster| cluster.started("snapshot") == 2).await;
    cluster
        .sim
        .edit::<FeatureView>(NAMESPACE, "routes", |view| view.spec.pin = Some(earlier.run.clone()))
        .unwrap();
    sleep(SETTLE).await;
    let artifact = cluster.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    assert_eq!(artifact.digest, earlier.digest);
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0], "the pinned snapshot is served");
    assert_eq!(cluster.started("activate"), 3, "the pin had the later number from the start");
    assert_eq!(cluster.started("train"), 1);
}

/// Fails the features of the next data for good.
async fn features_fail(cluster: &Cluster, data: &str) {
    let failure = Failure::terminal(Reason::QueryInvalid, "there is no column b");
    cluster.external().failures.insert("snapshot", vec![failure]);
    cluster.put_data(data);
    let failed = |cluster: &Cluster| {
        let conditions = cluster.get::<FeatureView>("routes").status.unwrap_or_default().conditions;
        condition::get(&conditions, condition_type::STALLED).is_some()
    };
    cluster.until("the features have failed", failed).await;
}

/// Waits until the status of the features is for their present spec.
async fn edit_is_noticed(cluster: &Cluster) {
    let is_noticed = |cluster: &Cluster| {
        let view = cluster.get::<FeatureView>("routes");
        view.status.is_some_and(|status| status.observed_generation == view.metadata.generation)
    };
    cluster.until("the edit is noticed", is_noticed).await;
}

#[tokio::test(start_paused = true)]
async fn withdrawn_pin_is_undone_in_external_systems() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let earlier = cluster.get::<FeatureView>("routes").status.unwrap().artifact.unwrap().run;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    features_fail(&cluster, "march").await;
    cluster
        .sim
        .edit::<FeatureView>(NAMESPACE, "routes", |view| view.spec.pin = Some(earlier.clone()))
        .unwrap();
    cluster.until("the pin is under way", |cluster| cluster.started("activate") == 3).await;
    cluster.sim.edit::<FeatureView>(NAMESPACE, "routes", |view| view.spec.pin = None).unwrap();
    sleep(SETTLE).await;
    let view = cluster.get::<FeatureView>("routes").status.unwrap();
    assert_ne!(view.artifact.unwrap().run, earlier);
    assert!(condition::get(&view.conditions, condition_type::STALLED).is_some(), "march has still failed");
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn view_stays_ready_when_an_edit_changes_no_result() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    features_fail(&cluster, "february").await;
    let before = cluster.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    cluster.sim.edit::<FeatureView>(NAMESPACE, "routes", |view| view.spec.suspend = true).unwrap();
    edit_is_noticed(&cluster).await;
    let view = cluster.get::<FeatureView>("routes");
    let status = view.status.unwrap();
    let artifact = status.artifact.unwrap();
    assert!(condition::is_true(&status.conditions, condition_type::READY));
    assert_eq!((artifact.digest, artifact.generation), (before.digest, view.metadata.generation));
    assert_eq!(cluster.started("activate"), 1);
}

#[tokio::test(start_paused = true)]
async fn view_is_not_ready_when_its_input_is_edited() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let other = |view: &mut FeatureView| view.spec.inputs[0].from.name = "other".into();
    cluster.sim.edit::<FeatureView>(NAMESPACE, "routes", other).unwrap();
    edit_is_noticed(&cluster).await;
    let conditions = cluster.get::<FeatureView>("routes").status.unwrap().conditions;
    assert!(!condition::is_true(&conditions, condition_type::READY));
}

#[tokio::test(start_paused = true)]
async fn terminal_activation_failure_is_retried_on_request() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let earlier = cluster.get::<Model>("delay").status.unwrap().artifact.unwrap().run;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    let failure = Failure::terminal(Reason::TrackingRefused, "there is no version 1");
    cluster.external().failures.insert("alias", vec![failure; 1_000]);
    cluster.sim.edit::<Model>(NAMESPACE, "delay", |model| model.spec.pin = Some(earlier)).unwrap();
    sleep(LONG).await;
    let conditions = cluster.get::<Model>("delay").status.unwrap().conditions;
    assert_eq!(condition::get(&conditions, condition_type::STALLED).unwrap().reason, "TrackingRefused");
    assert_eq!(served_version(&cluster).as_deref(), Some("2"));
    let attempts = cluster.started("alias");
    assert!(attempts < 60, "{attempts} attempts, with delays that grow to five minutes");
    cluster.external().failures.remove("alias");
    let ask = |model: &mut Model| {
        model.annotations_mut().insert(labels::RETRY_REQUESTED_AT.into(), "now".into());
    };
    cluster.sim.edit::<Model>(NAMESPACE, "delay", ask).unwrap();
    wait_for_version(&cluster, "1").await;
}

/// The Model's version in MLflow.
fn registered(cluster: &Cluster, model: &str) -> Option<String> {
    cluster.get::<Model>(model).status?.registered.map(|registered| registered.version)
}

/// The version that the alias `champion` of the Model `delay` names in MLflow.
fn champion(cluster: &Cluster) -> Option<String> {
    let name = cluster.get::<Model>("delay").status?.registered?.name;
    let mut servers = cluster.external().mlflow.clone().into_values();
    servers.find_map(|server| server.get(&name)?.aliases.get("champion").cloned())
}

/// Waits until the published version and its alias are in MLflow under the number `version`.
async fn wait_for_registration(cluster: &Cluster, version: &str) {
    let goal = format!("the alias names version {version}");
    let holds = |cluster: &Cluster| {
        champion(cluster).as_deref() == Some(version)
            && registered(cluster, "delay").as_deref() == Some(version)
    };
    assert!(cluster.within(CHECK_INTERVAL * 2, holds).await, "{goal}");
    sleep(SETTLE).await;
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn version_is_registered_again_when_mlflow_has_lost_it() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    cluster.external().registered_models().for_each(RegisteredModel::delete_versions);
    wait_for_registration(&cluster, "3").await;
    assert_eq!(served_version(&cluster).as_deref(), Some("3"));
    cluster.external().mlflow.clear();
    wait_for_registration(&cluster, "1").await;
    assert_eq!((cluster.started("train"), cluster.started("register")), (2, 2), "nothing is made again");
    let events = cluster.sim.list::<Event>();
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("Repaired")));
}

#[tokio::test(start_paused = true)]
async fn model_is_registered_in_the_server_that_it_moves_to() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    let elsewhere = |server: &mut TrackingServer| {
        server.spec.existing.as_mut().unwrap().service = Some("another".into());
    };
    cluster.sim.edit::<TrackingServer>(NAMESPACE, "mlflow", elsewhere).unwrap();
    cluster
        .until("it has a number there", |cluster| registered(cluster, "delay").as_deref() == Some("1"))
        .await;
    sleep(SETTLE).await;
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
    assert!(is_ready(&cluster));
    assert_eq!(cluster.started("train"), 2);
    let earlier = |model: &mut Model| model.spec.pin = Some("version 2".into());
    cluster.sim.edit::<Model>(NAMESPACE, "delay", earlier).unwrap();
    sleep(SETTLE).await;
    assert!(is_ready(&cluster), "its first number names it too");
}

#[tokio::test(start_paused = true)]
async fn alias_that_was_moved_by_hand_is_put_back() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    let alias = |alias: Option<&str>| {
        cluster.external().registered_models().for_each(|model| match alias {
            Some(version) => drop(model.aliases.insert("champion".into(), version.into())),
            None => drop(model.aliases.remove("champion")),
        });
    };
    alias(Some("1"));
    wait_for_registration(&cluster, "2").await;
    alias(None);
    let ask = |model: &mut Model| {
        model.annotations_mut().insert(labels::RETRY_REQUESTED_AT.into(), "now".into());
    };
    cluster.sim.edit::<Model>(NAMESPACE, "delay", ask).unwrap();
    let is_back = |cluster: &Cluster| champion(cluster).as_deref() == Some("2");
    assert!(cluster.within(SETTLE, is_back).await, "a request to retry checks at once");
    cluster.sim.edit::<Model>(NAMESPACE, "delay", |model| model.spec.suspend = true).unwrap();
    sleep(SETTLE).await;
    alias(Some("1"));
    sleep(LONG).await;
    assert_eq!(champion(&cluster).as_deref(), Some("1"), "a suspended Model leaves it");
}

#[tokio::test(start_paused = true)]
async fn alias_of_another_model_is_not_taken() {
    let cluster = Cluster::start();
    let shared =
        PIPELINE.replace("trackingServer: mlflow", "trackingServer: mlflow\n  registeredModel: shared");
    cluster.apply(&shared);
    wait_for_version(&cluster, "1").await;
    let model = shared.split("\n---\n").find(|text| text.contains("kind: Model\n")).unwrap();
    cluster.apply(&model.replace("metadata: {name: delay}", "metadata: {name: second}"));
    let reason = |cluster: &Cluster| {
        let conditions = cluster.get::<Model>("second").status.unwrap_or_default().conditions;
        condition::get(&conditions, condition_type::READY).map(|ready| ready.reason.clone())
    };
    cluster.until("the second is told", |cluster| reason(cluster).as_deref() == Some("AliasTaken")).await;
    sleep(LONG).await;
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0], "the first keeps it");
    assert_eq!(cluster.started("alias"), 1);
    let rename = |model: &mut Model| model.spec.alias = "best".into();
    cluster.sim.edit::<Model>(NAMESPACE, "delay", rename).unwrap();
    cluster.until("the second has it", |cluster| reason(cluster).as_deref() == Some("Ready")).await;
    sleep(SETTLE).await;
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn feature_store_is_filled_again_when_it_is_recreated() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.sim.delete::<FeatureStore>(NAMESPACE, "features").unwrap();
    cluster
        .until("it is gone", |cluster| cluster.sim.get::<FeatureStore>(NAMESPACE, "features").is_none())
        .await;
    let documents: Vec<_> =
        PIPELINE.split("\n---\n").filter(|text| text.contains("FeatureStore\n")).collect();
    cluster.apply(documents[0]);
    cluster.until("it is filled", |cluster| cluster.started("activate") == 2).await;
    sleep(SETTLE).await;
    assert_eq!(cluster.started("snapshot"), 1);
    let conditions = cluster.get::<FeatureView>("routes").status.unwrap().conditions;
    assert!(condition::is_true(&conditions, condition_type::READY));
}

#[tokio::test(start_paused = true)]
async fn another_pod_activates_when_the_run_could_not() {
    let cluster = Cluster::start();
    let failure = || vec![Failure::transient(Reason::OnlineStoreUnreachable, "no answer")];
    cluster.external().failures.insert("activate", failure());
    cluster.external().failures.insert("alias", failure());
    serve_first_model(&cluster).await;
    let done = ["snapshot", "activate", "register", "alias"].map(|work| cluster.started(work));
    assert_eq!(done, [1, 2, 1, 2]);
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn view_leaves_nothing_online_when_it_is_deleted_at_work() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    cluster.until("the snapshot is under way", |cluster| cluster.started("snapshot") == 1).await;
    cluster.sim.delete::<FeatureView>(NAMESPACE, "routes").unwrap();
    cluster
        .until("the view is gone", |cluster| cluster.sim.get::<FeatureView>(NAMESPACE, "routes").is_none())
        .await;
    sleep(SETTLE).await;
    assert!(cluster.external().pointers.is_empty(), "{:?}", cluster.external().pointers);
    assert_eq!(cluster.started("deactivate"), 1);
}

#[tokio::test(start_paused = true)]
async fn result_of_withdrawn_data_is_not_published_later() {
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    cluster.put_data("a mistake");
    cluster.until("it is trained on", |cluster| cluster.started("train") == 2).await;
    cluster.put_data("january");
    sleep(SETTLE).await;
    let mistake = cluster.sim.list::<TrainingRun>().into_iter().filter(|run| run.status.is_some()).count();
    assert_eq!((mistake, served_version(&cluster).as_deref()), (2, Some("1")));
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    sleep(SETTLE).await;
    assert_eq!((cluster.started("train"), cluster.started("register")), (3, 2), "the mistake got no further");
}

/// A pipeline of the same names in another namespace, with other content.
fn apply_elsewhere(cluster: &Cluster) {
    let name = ObjectMeta { name: Some(ELSEWHERE.to_owned()), ..ObjectMeta::default() };
    cluster.sim.create(&Namespace { metadata: name, ..Namespace::default() }).unwrap();
    for manifest in documents(&PIPELINE.replace("{name: a, type: string}", "{name: b, type: string}")) {
        create_in(&cluster.sim, ELSEWHERE, manifest).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pipelines_of_two_namespaces_do_not_meet() {
    let cluster = Cluster::start();
    apply_elsewhere(&cluster);
    serve_first_model(&cluster).await;
    let elsewhere = |cluster: &Cluster| {
        let deployment = cluster.sim.get::<ModelDeployment>(ELSEWHERE, "delay").unwrap();
        let status = deployment.status.unwrap_or_default();
        let ready = condition::is_true(&status.conditions, condition_type::READY);
        status.artifact.filter(|_| ready).map(|artifact| (artifact.digest, artifact.revision))
    };
    cluster.until("the other one is served", |cluster| elsewhere(cluster).is_some()).await;
    let (before, here) = (elsewhere(&cluster), deployment(&cluster).artifact.unwrap());
    assert_ne!(before.clone().unwrap().0, here.digest, "their columns differ");
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    sleep(LONG).await;
    assert_eq!(elsewhere(&cluster), before, "nobody has requested a look there");
    assert_eq!(wrong_pointers(&cluster.sim, &cluster.external()), [""; 0]);
    assert_eq!(cluster.external().object_stores.misses, [""; 0]);
    cluster.sim.delete::<FeatureView>(ELSEWHERE, "routes").unwrap();
    sleep(SETTLE).await;
    let pointers: Vec<_> = cluster.external().pointers.keys().cloned().collect();
    assert_eq!(pointers, ["view redis:6379 default/routes"]);
    assert!(is_ready(&cluster));
}

/// The spans of the operators by id. An id that is exported twice has equal spans.
fn collect(cluster: &Cluster, spans: &mut BTreeMap<SpanId, (&'static str, Span)>) -> usize {
    let taken = cluster.take_spans();
    for (operator, span) in &taken {
        let known = spans.entry(span.id.clone()).or_insert_with(|| (operator, span.clone()));
        assert_eq!(known, &(*operator, span.clone()));
    }
    taken.len()
}

/// The names of the runs' spans in a trace, in the order of their starts.
fn stages(spans: &BTreeMap<SpanId, (&'static str, Span)>, trace: &TraceId) -> Vec<String> {
    let mut stages: Vec<_> =
        spans.values().map(|(_, span)| span).filter(|span| span.trace == *trace).collect();
    stages.retain(|span| !span.name.starts_with("attempt"));
    stages.sort_by_key(|span| (span.start, span.end));
    stages.iter().map(|span| span.name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn propagation_is_one_trace_across_all_operators() {
    const STAGES: [&str; 5] = [
        "DatasetVersion flights",
        "FeatureSnapshot routes",
        "TrainingRun delay",
        "ModelVersion delay",
        "ModelDeployment delay",
    ];
    let cluster = Cluster::start();
    serve_first_model(&cluster).await;
    let mut spans = BTreeMap::new();
    assert_eq!(collect(&cluster, &mut spans), 9, "five stages, and an attempt of each run");
    let roots: Vec<_> = spans.values().filter(|(_, span)| span.parent.is_none()).cloned().collect();
    let [(mlop_ingestion::NAME, root)] = roots.as_slice() else { panic!("{roots:?}") };
    assert_eq!(stages(&spans, &root.trace), STAGES);
    let operators: BTreeSet<_> = spans.values().map(|(operator, _)| *operator).collect();
    assert_eq!(operators.len(), 5);
    for (_, span) in spans.values() {
        assert!(span.parent.as_ref().is_none_or(|parent| spans.contains_key(parent)), "{span:?}");
        assert_eq!((&span.trace, &span.error), (&root.trace, &None), "{span:?}");
    }
    let attempts = spans.values().filter(|(_, span)| span.name == "attempt 1");
    let parents: BTreeSet<_> = attempts.map(|(_, span)| trace::traceparent(&span.trace, &span.id)).collect();
    assert_eq!(traceparents(&cluster), parents, "the containers of all runs");

    cluster.restart_operators().await;
    sleep(SETTLE).await;
    assert_eq!(collect(&cluster, &mut spans), 9, "they are exported again");
    assert_eq!(spans.len(), 9);
    cluster.put_data("february");
    wait_for_version(&cluster, "2").await;
    assert_eq!(collect(&cluster, &mut spans), 9);
    let second = spans.values().find(|(_, span)| span.parent.is_none() && span.trace != root.trace).unwrap();
    assert_eq!(stages(&spans, &second.1.trace), STAGES);

    sleep(LONG).await;
    cluster.restart_operators().await;
    sleep(SETTLE).await;
    assert_eq!(collect(&cluster, &mut spans), 0, "nothing has ended within the last minutes");
}

/// The values of the variable that joins the containers of runs to their traces.
fn traceparents(cluster: &Cluster) -> BTreeSet<String> {
    let pods = cluster.sim.list::<Pod>().into_iter().filter(|pod| pod.labels().contains_key(labels::RUN));
    let spec = pods.filter_map(|pod| pod.spec);
    let containers = spec.flat_map(|spec| spec.init_containers.into_iter().flatten().chain(spec.containers));
    let parent = |variables: Vec<EnvVar>| {
        variables.into_iter().find(|variable| variable.name == trace::TRACEPARENT)?.value
    };
    containers.map(|container| container.env.and_then(parent).unwrap_or_default()).collect()
}
