//! Many objects, and objects that hang: what they do to others.

#![allow(clippy::unwrap_used, reason = "a test bed fails as tests do")]

use mlop_api::{contract::condition_type, dataset::Dataset, training::TrainingJob};
use mlop_core::condition;
use mlop_faults::{
    inject::OUTAGE,
    plan::{Fault, Injection, Point, WriteId},
    scenario::PIPELINE,
    world::{World, create, refresh},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a request to a busy API server takes.
const LATENCY: Duration = Duration::from_millis(5);
const JOBS: usize = 100;
/// Objects of the tenant who creates too many.
const FLOOD: usize = 10_000;

fn store(world: &World) {
    world.apply(PIPELINE.split("\n---\n").next().unwrap());
}

/// Virtual seconds until each of many TrainingJobs has its result, all created at once.
async fn times(hanging: Option<&str>) -> BTreeMap<String, f64> {
    let world = World::start();
    world.injector.take(LATENCY);
    store(&world);
    hanging.into_iter().for_each(|name| world.injector.hang(name));
    for index in 0..JOBS {
        let job = json!({
            "apiVersion": "mlop.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": format!("job-{index}")},
            "spec": {"image": "trainer:1", "command": ["train"], "store": "files"},
        });
        create(&world.sim, job).unwrap();
    }
    let (begin, mut done) = (Instant::now(), BTreeMap::new());
    let expected = JOBS - hanging.iter().len();
    while done.len() < expected && begin.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_millis(250)).await;
        for job in world.sim.list::<TrainingJob>() {
            let ready = job
                .status
                .is_some_and(|status| condition::is_true(&status.conditions, condition_type::READY));
            if ready {
                done.entry(job.metadata.name.unwrap()).or_insert(begin.elapsed().as_secs_f64());
            }
        }
    }
    assert_eq!(done.len(), expected, "all others get their results");
    done
}

fn p99(times: &BTreeMap<String, f64>) -> f64 {
    let mut times: Vec<f64> = times.values().copied().collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 99 / 100).copied().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_object_that_hangs_does_not_slow_others() {
    let (usual, beside) = (p99(&times(None).await), p99(&times(Some("job-7")).await));
    println!("99 of 100 have their result after {usual:.1} s, beside one that hangs after {beside:.1} s");
    assert!(beside <= 2.0 * usual, "{beside} s instead of {usual} s");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_objects_of_one_tenant_do_not_stop_another() {
    let world = World::start();
    world.injector.take(LATENCY);
    for index in 0..FLOOD {
        let dataset = json!({
            "apiVersion": "mlop.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": format!("flood-{index}")},
            "spec": {
                "source": {"objects": {"store": "missing", "prefix": "in/"}, "format": {"csv": {}}},
                "columns": [{"name": "a", "type": "string"}], "store": "missing",
            },
        });
        create(&world.sim, dataset).unwrap();
    }
    let begin = Instant::now();
    world.apply(PIPELINE);
    world
        .until("the model of another is served", |world| {
            let deployment =
                world.sim.get::<mlop_api::deployment::ModelDeployment>(mlop_faults::world::NS, "delay");
            deployment
                .and_then(|d| d.status)
                .is_some_and(|s| condition::is_true(&s.conditions, condition_type::READY))
        })
        .await;
    println!("served after {:.1} s beside {FLOOD} objects of another", begin.elapsed().as_secs_f64());
    assert!(begin.elapsed() < Duration::from_secs(120), "{:?}", begin.elapsed());
    let waiting = world.sim.list::<Dataset>().into_iter().filter(|dataset| {
        let conditions =
            dataset.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition::get(conditions, condition_type::READY)
            .is_some_and(|ready| ready.reason == "ConnectionNotReady")
    });
    assert_eq!(waiting.count(), FLOOD, "all of them say what they wait for");
}

/// An object that changes all the time while it cannot be reconciled.
#[tokio::test(start_paused = true)]
async fn what_has_failed_often_recovers_as_soon_as_what_has_failed_for_as_long() {
    let refused = WriteId {
        by: mlop_ingestion::NAME.to_owned(),
        verb: "apply".to_owned(),
        kind: "datasets".to_owned(),
        name: "flights".to_owned(),
        subresource: "status".to_owned(),
        nth: 1,
    };
    let world = World::under(vec![Injection { at: Point::Write(refused), fault: Fault::Forbidden }]);
    world.apply(PIPELINE);
    let begin = Instant::now();
    // The last look at the source ends before the refusals do.
    while begin.elapsed() < OUTAGE - Duration::from_secs(5) {
        sleep(Duration::from_millis(500)).await;
        refresh(&world.sim, &format!("after {:?}", begin.elapsed()));
    }
    // The API server itself says that it waits for the controller.
    let reports = |world: &World| {
        let status = world.get::<Dataset>("flights").status.unwrap_or_default();
        status.conditions.iter().any(|condition| condition.observed_generation.is_some())
    };
    assert!(!reports(&world), "no status could be written");
    assert!(world.within(OUTAGE * 2, reports).await, "the delay grew with events instead of time");
}
