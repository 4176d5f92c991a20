//! Probes and scans that hang, are lost or cannot start, connections that refuse, and an online store that comes back
//! empty.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mlop_api::{
    Reason,
    contract::condition_type,
    dataset::{Dataset, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    registry::{Model, TrackingServer},
    result::Failure,
    training::TrainingJob,
};

use mlop_core::condition;
use mlop_faults::{
    cluster::{Cluster, NAMESPACE},
    scenario::PIPELINE,
};
use mlop_sim::kubelet::PodOutcome;
use std::time::Duration;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);
/// The pointer of the view in the online store.
const ROUTES: &str = "view redis:6379 default/routes";

/// Starts the chain with this course of the first pod of this kind of work.
fn start(work: &'static str, course: fn(PodOutcome) -> PodOutcome) -> Cluster {
    let cluster = Cluster::start();
    cluster.external().courses.insert(work, vec![course]);
    cluster.apply(PIPELINE);
    cluster
}

fn ready(conditions: &[Condition]) -> String {
    condition::get(conditions, condition_type::READY)
        .map(|c| format!("{}/{}", c.status, c.reason))
        .unwrap_or_default()
}

fn store(cluster: &Cluster) -> String {
    ready(&cluster.get::<ObjectStore>("files").status.unwrap_or_default().conditions)
}

fn dataset(cluster: &Cluster) -> String {
    ready(&cluster.get::<Dataset>("flights").status.unwrap_or_default().conditions)
}

async fn until_served(cluster: &Cluster, limit: Duration) {
    let is_served = |cluster: &Cluster| {
        let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
        status.serving.iter().any(|serving| serving.version.as_deref() == Some("1"))
    };
    assert!(
        cluster.within(limit, is_served).await,
        "not served in time: {}, {}",
        store(cluster),
        dataset(cluster)
    );
}

#[tokio::test(start_paused = true)]
async fn probe_that_cannot_start_is_reported_and_replaced() {
    let cluster = start("probe", |_| PodOutcome::image_pull_back_off());
    cluster
        .until("the connection names the image", |cluster| {
            let stores = cluster.sim.list::<ObjectStore>().into_iter().filter_map(|store| store.status);
            let features = cluster.sim.list::<FeatureStore>().into_iter().filter_map(|store| store.status);
            let servers = cluster.sim.list::<TrackingServer>().into_iter().filter_map(|server| server.status);
            let mut connections = stores.chain(features).chain(servers);
            connections.any(|status| ready(&status.conditions) == "Unknown/ImagePull")
        })
        .await;
    until_served(&cluster, 30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn hung_scan_is_replaced_after_its_deadline() {
    let cluster = start("scan", |pod| pod.running_for(1_000 * MINUTE));
    until_served(&cluster, 180 * MINUTE).await;
    assert_eq!(cluster.started("scan"), 2);
}

#[tokio::test(start_paused = true)]
async fn scan_of_a_lost_node_is_repeated() {
    let cluster = start("scan", |_| PodOutcome::node_lost());
    until_served(&cluster, 30 * MINUTE).await;
    assert_eq!(cluster.started("scan"), 2);
}

#[tokio::test(start_paused = true)]
async fn scan_waits_while_its_store_is_not_ready() {
    let cluster = Cluster::start();
    let away = Failure::transient(Reason::StoreUnreachable, "no answer");
    cluster.external().failures.insert("probe", vec![away; 6]);
    cluster.apply(PIPELINE);
    cluster.until("the Dataset waits", |cluster| dataset(cluster) == "Unknown/ConnectionNotReady").await;
    assert_eq!(cluster.started("scan"), 0);
    until_served(&cluster, 30 * MINUTE).await;
}

#[tokio::test(start_paused = true)]
async fn absent_store_costs_few_probes() {
    let cluster = Cluster::start();
    let away = Failure::terminal(Reason::BucketNotFound, "no bucket");
    cluster.external().failures.insert("probe", vec![away; 1_000]);
    cluster.apply(PIPELINE.split("\n---\n").next().unwrap());
    sleep(60 * MINUTE).await;
    assert_eq!(store(&cluster), "False/BucketNotFound");
    let probes = cluster.started("probe");
    assert!(probes < 20, "{probes} probes in an hour");
}

#[tokio::test(start_paused = true)]
async fn bucket_that_is_gone_takes_ready_away() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE.split("\n---\n").next().unwrap());
    cluster.until("the store is ready", |cluster| store(cluster) == "True/Ready").await;
    let gone = Failure::terminal(Reason::BucketNotFound, "no bucket");
    cluster.external().failures.insert("probe", vec![gone]);
    assert!(cluster.within(11 * MINUTE, |cluster| store(cluster) == "False/BucketNotFound").await);
    assert!(cluster.within(MINUTE, |cluster| store(cluster) == "True/Ready").await, "{}", store(&cluster));
}

#[tokio::test(start_paused = true)]
async fn emptied_online_store_is_filled_again() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    until_served(&cluster, 10 * MINUTE).await;
    let before = cluster.external().pointers.get(ROUTES).cloned().unwrap();
    cluster.external().flush();
    probe_online(&cluster, "now");
    let is_filled = |cluster: &Cluster| cluster.external().pointers.contains_key(ROUTES);
    assert!(cluster.within(MINUTE, is_filled).await);
    let after = cluster.external().pointers.get(ROUTES).cloned().unwrap();
    assert_eq!(after.content, before.content);
    assert!(after.revision > before.revision);
    let is_ready = |cluster: &Cluster| {
        ready(&cluster.get::<FeatureView>("routes").status.unwrap_or_default().conditions) == "True/Ready"
    };
    assert!(cluster.within(MINUTE, is_ready).await);
}

/// A user requests a probe of the online store.
fn probe_online(cluster: &Cluster, request: &str) {
    let retry = |store: &mut FeatureStore| {
        let annotations = store.metadata.annotations.get_or_insert_default();
        annotations.insert("mlop.dev/retry-requested-at".to_owned(), request.to_owned());
    };
    cluster.sim.edit::<FeatureStore>(NAMESPACE, "features", retry).unwrap();
}

#[tokio::test(start_paused = true)]
async fn online_store_with_the_data_of_a_backup_is_filled_again() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    until_served(&cluster, 10 * MINUTE).await;
    let backup = {
        let external = cluster.external();
        (external.pointers.clone(), external.probes)
    };
    cluster.put_data("february");
    let view = |cluster: &Cluster| cluster.external().pointers.get(ROUTES).cloned().unwrap();
    let before = view(&cluster);
    cluster.until("the new data are online", |cluster| view(cluster) != before).await;
    let is_probed = |cluster: &Cluster| cluster.external().probes > backup.1;
    assert!(cluster.within(11 * MINUTE, is_probed).await);
    let newest = view(&cluster);
    {
        let mut external = cluster.external();
        (external.pointers, external.probes) = backup;
    }
    probe_online(&cluster, "now");
    let is_filled = |cluster: &Cluster| view(cluster).content == newest.content;
    assert!(cluster.within(MINUTE, is_filled).await);
    assert!(view(&cluster).revision > newest.revision);
}

#[tokio::test(start_paused = true)]
async fn emptied_online_store_is_noticed_by_the_next_probe() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    until_served(&cluster, 10 * MINUTE).await;
    cluster.external().flush();
    let is_filled = |cluster: &Cluster| cluster.external().pointers.contains_key(ROUTES);
    assert!(cluster.within(11 * MINUTE, is_filled).await);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_refused_for_a_while_end_no_run() {
    let cluster = Cluster::start();
    let denied = |reason| vec![Failure::terminal(reason, "the keys are refused"); 5];
    cluster.external().failures.insert("version", denied(Reason::StoreDenied));
    cluster.external().failures.insert("snapshot", denied(Reason::SecretMissing));
    cluster.external().failures.insert("train", denied(Reason::BucketNotFound));
    cluster.external().failures.insert("register", denied(Reason::TrackingDenied));
    cluster.apply(PIPELINE);
    until_served(&cluster, 30 * MINUTE).await;
    let flights = cluster.get::<Dataset>("flights").status.unwrap();
    let model = cluster.get::<Model>("delay").status.unwrap();
    assert!(flights.dead_letters.is_empty() && model.dead_letters.is_empty());
    let done = ["version", "snapshot", "train", "register"].map(|work| cluster.started(work));
    assert_eq!(done, [6; 4]);
}

#[tokio::test(start_paused = true)]
async fn training_waits_while_its_store_is_not_ready() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    until_served(&cluster, 10 * MINUTE).await;
    let denied = Failure::terminal(Reason::StoreDenied, "the keys are refused");
    cluster.external().failures.insert("probe", vec![denied; 6]);
    assert!(cluster.within(11 * MINUTE, |cluster| store(cluster) == "False/StoreDenied").await);
    let job = |job: &mut TrainingJob| job.spec.seed += 1;
    cluster.sim.edit::<TrainingJob>(NAMESPACE, "delay", job).unwrap();
    let waits = |cluster: &Cluster| {
        let job = cluster.get::<TrainingJob>("delay").status.unwrap_or_default();
        ready(&job.conditions) == "Unknown/ConnectionNotReady"
    };
    assert!(cluster.within(MINUTE, waits).await);
    assert_eq!(cluster.started("train"), 1);
    let is_trained = |cluster: &Cluster| {
        let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
        status.serving.iter().any(|serving| serving.version.as_deref() == Some("2"))
    };
    assert!(cluster.within(30 * MINUTE, is_trained).await);
    assert_eq!(cluster.started("train"), 2);
}

/// The cause that the deployment names.
fn cause(cluster: &Cluster) -> Option<String> {
    let cause = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default().cause?;
    Some(format!("{} {}: {}", cause.kind, cause.name, cause.reason))
}

/// The whole chain names `told` while the first pods of `work` fail, and nothing once it is served.
async fn check_told_downstream(work: &'static str, failures: Vec<Failure>, told: &str) {
    let cluster = Cluster::start();
    cluster.external().failures.insert(work, failures);
    cluster.apply(PIPELINE);
    let names_it = |cluster: &Cluster| cause(cluster).as_deref() == Some(told);
    assert!(cluster.within(10 * MINUTE, names_it).await, "{:?}", cause(&cluster));
    until_served(&cluster, 30 * MINUTE).await;
    assert!(cluster.within(MINUTE, |cluster| cause(cluster).is_none()).await, "{:?}", cause(&cluster));
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_named_downstream_until_they_are_mended() {
    let denied = Failure::terminal(Reason::StoreDenied, "the keys are refused");
    check_told_downstream("probe", vec![denied; 18], "ObjectStore lake: StoreDenied").await;
}

#[tokio::test(start_paused = true)]
async fn wrong_prefix_is_named_downstream_until_it_is_mended() {
    let empty = Failure::terminal(Reason::SourceEmpty, "no object matches");
    check_told_downstream("scan", vec![empty; 2], "Dataset flights: SourceEmpty").await;
}

#[tokio::test(start_paused = true)]
async fn absent_store_of_a_run_is_named_downstream() {
    let away = Failure::transient(Reason::StoreUnreachable, "no answer");
    check_told_downstream("train", vec![away; 5], "TrainingJob delay: StoreUnreachable").await;
}

#[tokio::test(start_paused = true)]
async fn repeated_scan_that_cannot_start_is_reported() {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    until_served(&cluster, 10 * MINUTE).await;
    cluster.external().courses.insert("scan", vec![|_| PodOutcome::image_pull_back_off()]);
    cluster.put_data("february");
    let up_to_date = |cluster: &Cluster| {
        let status = cluster.get::<Dataset>("flights").status.unwrap_or_default();
        condition::get(&status.conditions, condition_type::UP_TO_DATE).map(|c| c.reason.clone())
    };
    let is_told = |cluster: &Cluster| up_to_date(cluster).as_deref() == Some("ImagePull");
    assert!(cluster.within(MINUTE, is_told).await, "{:?}", up_to_date(&cluster));
    sleep(MINUTE).await;
    assert!(is_told(&cluster), "{:?}", up_to_date(&cluster));
    assert_eq!(dataset(&cluster), "True/Ready");
}
