//! What a chain costs the API server, and the effect of many objects, and of objects that hang, on others.

#![allow(clippy::unwrap_used, reason = "a test bed fails as tests do")]

use expect_test::expect_file;
use mlop_api::{
    contract::condition_type, dataset::Dataset, deployment::ModelDeployment, training::TrainingJob,
};
use mlop_core::condition;
use mlop_faults::{
    cluster::{Cluster, NAMESPACE, create, refresh},
    plan::{Fault, Injection, Point, WriteId, stable},
    scenario::PIPELINE,
    timing::OUTAGE,
};
use mlop_sim::Write;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a request to a busy API server takes.
const LATENCY: Duration = Duration::from_millis(5);
const JOBS: usize = 100;
/// Virtual time in which all operators write their last statuses.
const SETTLE: Duration = Duration::from_secs(60);
/// Number of objects of the tenant that creates too many.
const FLOOD: usize = 10_000;

fn store(cluster: &Cluster) {
    cluster.apply(PIPELINE.split("\n---\n").next().unwrap());
}

async fn serve(cluster: &Cluster, version: &str) {
    cluster
        .until(&format!("version {version} is served"), |cluster| {
            let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
            let served = status.serving.into_iter().find_map(|serving| serving.version);
            served.as_deref() == Some(version)
                && condition::is_true(&status.conditions, condition_type::READY)
        })
        .await;
    sleep(SETTLE).await;
}

/// The write as one line: the controller, if the request names it, the verb, the object.
fn line(write: &Write) -> String {
    let controller = write.field_manager.trim_start_matches("mlop-");
    let kind = write.resource.split('.').next().unwrap_or_default();
    let status = if write.subresource.is_empty() { "" } else { "/status" };
    format!("{controller:<16}{} {kind}{status} {}\n", write.verb, stable(&write.name))
}

/// Every chain pays for a longer list.
#[tokio::test(start_paused = true)]
async fn new_data_costs_the_recorded_writes() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    serve(&cluster, "1").await;
    let before = cluster.sim.writes().len();
    cluster.put_data("february");
    serve(&cluster, "2").await;
    let lines: String = cluster.sim.writes().iter().skip(before).map(line).collect();
    expect_file!["golden/writes.txt"].assert_eq(&lines);
}

/// Virtual seconds until each of many TrainingJobs has its result, all created at once.
async fn times(hanging: Option<&str>) -> BTreeMap<String, f64> {
    let cluster = Cluster::start();
    cluster.injector.set_latency(LATENCY);
    store(&cluster);
    hanging.into_iter().for_each(|name| cluster.injector.hang(name));
    for index in 0..JOBS {
        let job = json!({
            "apiVersion": "mlop.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": format!("job-{index}")},
            "spec": {"image": "trainer:1", "command": ["train"], "store": "files"},
        });
        create(&cluster.sim, job).unwrap();
    }
    let (begin, mut done) = (Instant::now(), BTreeMap::new());
    let expected = JOBS - hanging.iter().len();
    while done.len() < expected && begin.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_millis(250)).await;
        for job in cluster.sim.list::<TrainingJob>() {
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
async fn hanging_object_does_not_slow_others() {
    let (usual, disturbed) = (p99(&times(None).await), p99(&times(Some("job-7")).await));
    println!("99 of 100 have their result after {usual:.1} s, with a hanging object after {disturbed:.1} s");
    assert!(disturbed <= 2.0 * usual, "{disturbed} s instead of {usual} s");
}

#[tokio::test(start_paused = true)]
async fn chain_completes_among_ten_thousand_other_objects() {
    let cluster = Cluster::start();
    cluster.injector.set_latency(LATENCY);
    for index in 0..FLOOD {
        let dataset = json!({
            "apiVersion": "mlop.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": format!("flood-{index}")},
            "spec": {
                "source": {"objects": {"store": "missing", "prefix": "in/"}, "format": {"csv": {}}},
                "columns": [{"name": "a", "type": "string"}], "store": "missing",
            },
        });
        create(&cluster.sim, dataset).unwrap();
    }
    let begin = Instant::now();
    cluster.apply(PIPELINE);
    cluster
        .until("the model of another is served", |cluster| {
            let deployment = cluster.sim.get::<mlop_api::deployment::ModelDeployment>(NAMESPACE, "delay");
            deployment
                .and_then(|d| d.status)
                .is_some_and(|s| condition::is_true(&s.conditions, condition_type::READY))
        })
        .await;
    println!("served after {:.1} s beside {FLOOD} other objects", begin.elapsed().as_secs_f64());
    assert!(begin.elapsed() < Duration::from_secs(120), "{:?}", begin.elapsed());
    let waiting = cluster.sim.list::<Dataset>().into_iter().filter(|dataset| {
        let conditions =
            dataset.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition::get(conditions, condition_type::READY)
            .is_some_and(|ready| ready.reason == "ConnectionNotReady")
    });
    assert_eq!(waiting.count(), FLOOD, "all of them report why they wait");
}

/// The object changes all the time while its reconciles fail.
#[tokio::test(start_paused = true)]
async fn backoff_depends_on_time_failing_not_on_attempts() {
    let refused = WriteId {
        by: mlop_ingestion::NAME.to_owned(),
        verb: "apply".to_owned(),
        kind: "datasets".to_owned(),
        name: "flights".to_owned(),
        subresource: "status".to_owned(),
        nth: 1,
    };
    let cluster = Cluster::under(vec![Injection { at: Point::Write(refused), fault: Fault::Forbidden }]);
    cluster.apply(PIPELINE);
    let begin = Instant::now();
    // The last look at the source ends before the refusals do.
    while begin.elapsed() < OUTAGE - Duration::from_secs(5) {
        sleep(Duration::from_millis(500)).await;
        refresh(&cluster.sim, &format!("after {:?}", begin.elapsed()));
    }
    // The API server itself reports that it waits for the controller.
    let reports = |cluster: &Cluster| {
        let status = cluster.get::<Dataset>("flights").status.unwrap_or_default();
        status.conditions.iter().any(|condition| condition.observed_generation.is_some())
    };
    assert!(!reports(&cluster), "no status could be written");
    assert!(cluster.within(OUTAGE * 2, reports).await, "the delay grew with events instead of time");
}
