//! The whole chain in virtual time: five operators, one YAML file, workers that compute digests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use kube::ResourceExt as _;
use mlop_api::{
    Reason,
    contract::condition_type,
    dataset::Dataset,
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    labels,
    registry::{Model, ModelVersion},
    result::Failure,
    status::DeploymentStatus,
    training::{TrainingJob, TrainingRun},
};
use mlop_core::condition;
use mlop_faults::{
    oracle::outside,
    scenario::PIPELINE,
    world::{NS, World},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Virtual time after which all operators have noticed what happened and have written what they had to.
const SETTLE: Duration = Duration::from_secs(60);
/// Virtual time in which what must not happen would have happened.
const LONG: Duration = Duration::from_secs(1_800);

/// Virtual time between two states of the data, shorter than a training.
const DAY: Duration = Duration::from_secs(20);

fn deployment(world: &World) -> DeploymentStatus {
    world.get::<ModelDeployment>("delay").status.unwrap_or_default()
}

fn served_version(world: &World) -> Option<String> {
    deployment(world).serving.and_then(|serving| serving.version)
}

fn is_ready(world: &World) -> bool {
    condition::is_true(&deployment(world).conditions, condition_type::READY)
}

async fn served(world: &World, version: &str) {
    world
        .until(&format!("version {version} is served"), |w| {
            is_ready(w) && served_version(w).as_deref() == Some(version)
        })
        .await;
}

async fn first(world: &World) {
    world.apply(PIPELINE);
    served(world, "1").await;
}

#[tokio::test(start_paused = true)]
async fn one_file_becomes_a_served_model() {
    let world = World::start();
    first(&world).await;
    let status = deployment(&world);
    assert_eq!(status.summary.as_deref(), Some("version 1 on 2 of 2 pods"));
    assert_eq!(status.cause, None);
    let artifact = status.artifact.unwrap();
    let dataset = world.get::<Dataset>("flights").status.unwrap().artifact.unwrap();
    assert_eq!(artifact.roots.len(), 1);
    assert_eq!(artifact.roots[0].digest, dataset.digest);
    for work in ["version", "snapshot", "train", "register", "activate", "alias"] {
        assert_eq!(world.done(work), 1, "{work}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_start_gives_the_same_trace() {
    let trace = || async {
        let world = World::start();
        first(&world).await;
        world.sim.trace_hash()
    };
    assert_eq!(trace().await, trace().await);
}

#[tokio::test(start_paused = true)]
async fn new_data_flows_through_and_old_data_starts_nothing() {
    let world = World::start();
    world.apply(&PIPELINE.replace("every: 24h", "every: 1m"));
    served(&world, "1").await;
    let quiet = |w: &World| {
        w.sim
            .writes()
            .into_iter()
            .filter(|write| write.resource != "pods" && write.resource != "events")
            .count()
    };
    sleep(SETTLE).await;
    let before = quiet(&world);
    sleep(LONG).await;
    assert_eq!(quiet(&world), before, "unchanged data causes no write but the scans' pods");
    assert!(world.done("scan") >= 10);
    assert_eq!(world.done("version"), 1);

    world.arrive("february");
    served(&world, "2").await;
    assert_eq!((world.done("version"), world.done("train")), (2, 2));
    let model = world.get::<Model>("delay").status.unwrap();
    assert_eq!(model.artifact.unwrap().revision, 2);
}

#[tokio::test(start_paused = true)]
async fn no_write_changes_nothing() {
    let world = World::start();
    first(&world).await;
    world.arrive("february");
    served(&world, "2").await;
    let idle: Vec<_> =
        world.sim.writes().into_iter().filter(|write| write.code < 300 && !write.changed).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_explained_downstream_while_the_old_model_serves() {
    let world = World::start();
    first(&world).await;
    let failure = Failure::terminal(Reason::SchemaMismatch, "column \"dep_delay\" is missing in in/2.csv");
    world.outside().failures.insert("version", vec![failure]);
    world.arrive("broken");
    world.until("the deployment names the cause", |w| deployment(w).cause.is_some()).await;
    let status = deployment(&world);
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
    assert!(is_ready(&world), "the old model keeps serving");
    assert_eq!(served_version(&world).as_deref(), Some("1"));

    world.arrive("mended");
    served(&world, "2").await;
    assert_eq!(deployment(&world).cause, None);
}

#[tokio::test(start_paused = true)]
async fn training_is_tried_again_and_succeeds() {
    let world = World::start();
    let failure = Failure::transient(Reason::UserError, "exit code 3: no luck");
    world.outside().failures.insert("train", vec![failure.clone(), failure]);
    first(&world).await;
    assert_eq!(world.done("train"), 3);
    let runs = world.sim.list::<TrainingRun>();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].status.as_ref().unwrap().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn out_of_memory_waits_for_more_memory() {
    let world = World::start();
    world.outside().failures.insert("train", vec![Failure::terminal(Reason::OutOfMemory, "")]);
    world.apply(PIPELINE);
    world
        .until("the job says so", |w| {
            w.get::<TrainingJob>("delay")
                .status
                .is_some_and(|s| s.cause.is_some_and(|c| c.reason == "OutOfMemory"))
        })
        .await;
    assert_eq!(world.done("train"), 1, "the same memory is not tried twice");
    world.sim.edit::<TrainingJob>(NS, "delay", |job| job.spec.resources.memory = "4Gi".into()).unwrap();
    served(&world, "1").await;
    assert_eq!(world.sim.list::<TrainingRun>().len(), 1, "memory is no part of the digest");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_a_dead_letter_until_it_is_replayed() {
    let world = World::start();
    let failure = Failure::transient(Reason::UserError, "exit code 3");
    world.outside().failures.insert("train", vec![failure; 3]);
    world.apply(PIPELINE);
    let letters = |w: &World| w.get::<TrainingJob>("delay").status.unwrap_or_default().dead_letters;
    world.until("there is a dead letter", |w| !letters(w).is_empty()).await;
    let letter = letters(&world).remove(0);
    assert_eq!((letter.reason.as_str(), letter.attempts), ("UserError", 3));
    sleep(LONG).await;
    assert_eq!(world.done("train"), 3, "nothing is tried beyond the budget");
    let replay = |job: &mut TrainingJob| {
        job.metadata
            .annotations
            .get_or_insert_default()
            .insert("mlop.dev/retry-requested-at".into(), "now".into());
    };
    world.sim.edit::<TrainingJob>(NS, "delay", replay).unwrap();
    served(&world, "1").await;
    assert!(letters(&world).is_empty());
    let runs = world.sim.list::<TrainingRun>();
    assert_eq!((runs.len(), runs[0].status.as_ref().unwrap().attempts), (1, 4), "numbers never restart");
}

#[tokio::test(start_paused = true)]
async fn a_failed_gate_keeps_the_version_out() {
    let world = World::start();
    first(&world).await;
    world.outside().auc = 0.6;
    world.arrive("february");
    let gate_failed = |w: &World| {
        w.get::<Model>("delay").status.is_some_and(|s| s.cause.is_some_and(|c| c.reason == "GateFailed"))
    };
    world.until("the gate fails", gate_failed).await;
    world.until("the deployment says so", |w| deployment(w).cause.is_some_and(|c| c.kind == "Model")).await;
    assert_eq!(served_version(&world).as_deref(), Some("1"));
    assert!(is_ready(&world));
    assert_eq!(world.sim.list::<ModelVersion>().len(), 2, "the version is recorded all the same");
    assert_eq!(world.done("alias"), 1);

    world.sim.edit::<Model>(NS, "delay", |model| model.spec.gates[0].min = Some("0.5".into())).unwrap();
    served(&world, "2").await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_brings_the_earlier_model_back() {
    let world = World::start();
    first(&world).await;
    let earlier = world.get::<Model>("delay").status.unwrap().artifact.unwrap().run;
    world.arrive("february");
    served(&world, "2").await;
    world.sim.edit::<Model>(NS, "delay", |model| model.spec.pin = Some(earlier)).unwrap();
    let begin = Instant::now();
    served(&world, "1").await;
    // Moving the alias takes a pod 1.5 s, the rollout 2 s.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}: something waited for a timer", begin.elapsed());
    let revision = || world.get::<Model>("delay").status.unwrap().artifact.unwrap().revision;
    assert_eq!((revision(), world.done("alias")), (3, 3), "a rollback is a revision like any other");
    world.sim.edit::<Model>(NS, "delay", |model| model.spec.pin = None).unwrap();
    served(&world, "2").await;
    assert_eq!((revision(), world.done("train"), world.done("register")), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_equal_result_stops_the_chain() {
    let world = World::start();
    first(&world).await;
    let artifact = |w: &World| w.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    let before = artifact(&world);
    // The rows' values do not depend on how rejected rows are counted: another input digest, the same content.
    world.sim.edit::<Dataset>(NS, "flights", |set| set.spec.quarantine.max_ratio = "0.5".into()).unwrap();
    world.until("a second version was written", |w| w.done("version") == 2).await;
    sleep(LONG).await;
    assert_eq!((world.done("snapshot"), world.done("train")), (1, 1));
    assert_eq!((artifact(&world).digest, artifact(&world).revision), (before.digest, before.revision));
    assert!(is_ready(&world));
}

#[tokio::test(start_paused = true)]
async fn the_old_model_serves_when_the_new_one_does_not_start() {
    let world = World::start();
    first(&world).await;
    world.outside().broken_rollout = true;
    world.arrive("february");
    world
        .until("the new version is rolled out", |w| {
            condition::get(&deployment(w).conditions, condition_type::UP_TO_DATE)
                .is_some_and(|c| c.reason == "RollingOut")
        })
        .await;
    sleep(LONG).await;
    assert_eq!(served_version(&world).as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn suspension_holds_new_work_back() {
    let world = World::start();
    first(&world).await;
    world.sim.edit::<TrainingJob>(NS, "delay", |job| job.spec.suspend = true).unwrap();
    world.arrive("february");
    world.until("the features follow", |w| w.done("snapshot") == 2).await;
    sleep(LONG).await;
    assert_eq!(world.done("train"), 1);
    let up_to_date = |w: &World| {
        let conditions = w.get::<TrainingJob>("delay").status.unwrap().conditions;
        condition::get(&conditions, condition_type::UP_TO_DATE).unwrap().reason.clone()
    };
    assert_eq!(up_to_date(&world), "Suspended");
    world.sim.edit::<TrainingJob>(NS, "delay", |job| job.spec.suspend = false).unwrap();
    served(&world, "2").await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_does_not_wait_for_a_run_that_gets_nowhere() {
    let world = World::start();
    let failure = Failure::transient(Reason::UserError, "exit code 1: a typo");
    world.outside().failures.insert("train", vec![failure]);
    world.apply(PIPELINE);
    let retrying = |w: &World| {
        w.sim.list::<TrainingRun>().iter().any(|run| run.status.as_ref().is_some_and(|s| s.attempts == 1))
    };
    world.until("the first attempt has failed", retrying).await;
    world
        .sim
        .edit::<TrainingJob>(NS, "delay", |job| job.spec.command = vec!["python".into(), "mended.py".into()])
        .unwrap();
    served(&world, "1").await;
    let runs = world.sim.list::<TrainingRun>();
    assert_eq!(runs.len(), 1, "the run with the typo is gone");
    assert_eq!(runs[0].spec.identity.command[1], "mended.py");
    assert_eq!(world.done("train"), 2);
}

#[tokio::test(start_paused = true)]
async fn data_that_changes_faster_than_a_training_ends_is_served_even_so() {
    let world = World::start();
    first(&world).await;
    for day in 0..15 {
        world.arrive(&format!("day {day}"));
        sleep(DAY).await;
    }
    let served: u32 = served_version(&world).unwrap().parse().unwrap();
    assert!((5..12).contains(&served), "version {served} after five minutes of training for half a minute");
    let newest = world.get::<Dataset>("flights").status.unwrap().artifact.unwrap().digest;
    let is_newest =
        |w: &World| deployment(w).artifact.is_some_and(|artifact| artifact.roots[0].digest == newest);
    world.until("the last day is served", is_newest).await;
    assert!(world.done("train") < 15, "what nobody waited for was not trained");
}

#[tokio::test(start_paused = true)]
async fn a_pin_holds_against_a_run_that_is_under_way() {
    let world = World::start();
    first(&world).await;
    let earlier = world.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    world.arrive("february");
    world.until("the next snapshot is under way", |w| w.done("snapshot") == 2).await;
    world.sim.edit::<FeatureView>(NS, "routes", |view| view.spec.pin = Some(earlier.run.clone())).unwrap();
    sleep(SETTLE).await;
    let artifact = world.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    assert_eq!(artifact.digest, earlier.digest);
    assert_eq!(outside(&world, &world.outside()), [""; 0], "the pinned snapshot is served");
    assert_eq!(world.done("activate"), 3, "the pin had the later number from the start");
    assert_eq!(world.done("train"), 1);
}

/// Fails the features of the next data for good.
async fn features_fail(world: &World, data: &str) {
    let failure = Failure::terminal(Reason::QueryInvalid, "there is no column b");
    world.outside().failures.insert("snapshot", vec![failure]);
    world.arrive(data);
    let failed = |w: &World| {
        let conditions = w.get::<FeatureView>("routes").status.unwrap_or_default().conditions;
        condition::get(&conditions, condition_type::STALLED).is_some()
    };
    world.until("the features have failed", failed).await;
}

/// Waits until the status of the features is for their present spec.
async fn edit_is_noticed(world: &World) {
    let is_noticed = |w: &World| {
        let view = w.get::<FeatureView>("routes");
        view.status.is_some_and(|status| status.observed_generation == view.metadata.generation)
    };
    world.until("the edit is noticed", is_noticed).await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_taken_back_at_work_is_taken_back_outside() {
    let world = World::start();
    first(&world).await;
    let earlier = world.get::<FeatureView>("routes").status.unwrap().artifact.unwrap().run;
    world.arrive("february");
    served(&world, "2").await;
    features_fail(&world, "march").await;
    world.sim.edit::<FeatureView>(NS, "routes", |view| view.spec.pin = Some(earlier.clone())).unwrap();
    world.until("the pin is under way", |w| w.done("activate") == 3).await;
    world.sim.edit::<FeatureView>(NS, "routes", |view| view.spec.pin = None).unwrap();
    sleep(SETTLE).await;
    let view = world.get::<FeatureView>("routes").status.unwrap();
    assert_ne!(view.artifact.unwrap().run, earlier);
    assert!(condition::get(&view.conditions, condition_type::STALLED).is_some(), "march has still failed");
    assert_eq!(outside(&world, &world.outside()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_changes_no_result_leaves_what_is_used_ready() {
    let world = World::start();
    first(&world).await;
    features_fail(&world, "february").await;
    let before = world.get::<FeatureView>("routes").status.unwrap().artifact.unwrap();
    world.sim.edit::<FeatureView>(NS, "routes", |view| view.spec.suspend = true).unwrap();
    edit_is_noticed(&world).await;
    let view = world.get::<FeatureView>("routes");
    let status = view.status.unwrap();
    let artifact = status.artifact.unwrap();
    assert!(condition::is_true(&status.conditions, condition_type::READY));
    assert_eq!((artifact.digest, Some(artifact.generation)), (before.digest, view.metadata.generation));
    assert_eq!(world.done("activate"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_an_input_takes_ready_away() {
    let world = World::start();
    first(&world).await;
    let other = |view: &mut FeatureView| view.spec.inputs[0].from.name = "other".into();
    world.sim.edit::<FeatureView>(NS, "routes", other).unwrap();
    edit_is_noticed(&world).await;
    let conditions = world.get::<FeatureView>("routes").status.unwrap().conditions;
    assert!(!condition::is_true(&conditions, condition_type::READY));
}

#[tokio::test(start_paused = true)]
async fn an_activation_that_cannot_succeed_is_tried_again_when_asked_to() {
    let world = World::start();
    first(&world).await;
    let earlier = world.get::<Model>("delay").status.unwrap().artifact.unwrap().run;
    world.arrive("february");
    served(&world, "2").await;
    let failure = Failure::terminal(Reason::TrackingRefused, "there is no version 1");
    world.outside().failures.insert("alias", vec![failure]);
    world.sim.edit::<Model>(NS, "delay", |model| model.spec.pin = Some(earlier)).unwrap();
    sleep(LONG).await;
    let conditions = world.get::<Model>("delay").status.unwrap().conditions;
    assert_eq!(condition::get(&conditions, condition_type::STALLED).unwrap().reason, "TrackingRefused");
    assert_eq!((world.done("alias"), served_version(&world).as_deref()), (3, Some("2")));
    let ask = |model: &mut Model| {
        model.annotations_mut().insert(labels::RETRY_REQUESTED_AT.into(), "now".into());
    };
    world.sim.edit::<Model>(NS, "delay", ask).unwrap();
    served(&world, "1").await;
}

#[tokio::test(start_paused = true)]
async fn a_feature_store_that_was_made_anew_is_filled_again() {
    let world = World::start();
    first(&world).await;
    world.sim.delete::<FeatureStore>(NS, "features").unwrap();
    world.until("it is gone", |w| w.sim.get::<FeatureStore>(NS, "features").is_none()).await;
    let documents: Vec<_> =
        PIPELINE.split("\n---\n").filter(|text| text.contains("FeatureStore\n")).collect();
    world.apply(documents[0]);
    world.until("it is filled", |w| w.done("activate") == 2).await;
    sleep(SETTLE).await;
    assert_eq!(world.done("snapshot"), 1);
    let conditions = world.get::<FeatureView>("routes").status.unwrap().conditions;
    assert!(condition::is_true(&conditions, condition_type::READY));
}

#[tokio::test(start_paused = true)]
async fn what_a_run_could_not_activate_another_pod_does() {
    let world = World::start();
    let failure = || vec![Failure::transient(Reason::OnlineStoreUnreachable, "no answer")];
    world.outside().failures.insert("activate", failure());
    world.outside().failures.insert("alias", failure());
    first(&world).await;
    let done = ["snapshot", "activate", "register", "alias"].map(|work| world.done(work));
    assert_eq!(done, [1, 2, 1, 2]);
    assert_eq!(outside(&world, &world.outside()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_deleted_at_work_leaves_nothing_online() {
    let world = World::start();
    world.apply(PIPELINE);
    world.until("the snapshot is under way", |w| w.done("snapshot") == 1).await;
    world.sim.delete::<FeatureView>(NS, "routes").unwrap();
    world.until("the view is gone", |w| w.sim.get::<FeatureView>(NS, "routes").is_none()).await;
    sleep(SETTLE).await;
    assert!(world.outside().pointers.is_empty(), "{:?}", world.outside().pointers);
    assert_eq!(world.done("deactivate"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_back_while_it_was_made_does_not_come_later() {
    let world = World::start();
    first(&world).await;
    world.arrive("a mistake");
    world.until("it is trained on", |w| w.done("train") == 2).await;
    world.arrive("january");
    sleep(SETTLE).await;
    let mistake = world.sim.list::<TrainingRun>().into_iter().filter(|run| run.status.is_some()).count();
    assert_eq!((mistake, served_version(&world).as_deref()), (2, Some("1")));
    world.arrive("february");
    served(&world, "2").await;
    sleep(SETTLE).await;
    assert_eq!((world.done("train"), world.done("register")), (3, 2), "the mistake got no further");
}
