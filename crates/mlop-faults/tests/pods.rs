//! Trainings whose pods wait, are held up, are disrupted or fill their disks, as on a real node.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use mlop_api::{
    dataset::ObjectStore,
    deployment::ModelDeployment,
    preflight::Check,
    profile::PodProfile,
    result::Failure,
    training::{TrainingJob, TrainingRun},
};
use mlop_faults::{
    cluster::{Cluster, NAMESPACE},
    scenario::PIPELINE,
};
use mlop_sim::kubelet::PodOutcome;
use std::time::Duration;
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(3_600);

/// Starts the chain with these courses of the first training pods.
fn start(courses: &[fn(PodOutcome) -> PodOutcome]) -> Cluster {
    let cluster = Cluster::start();
    cluster.external().courses.insert("train", courses.to_vec());
    cluster.apply(PIPELINE);
    cluster
}

async fn until_served(cluster: &Cluster, limit: Duration) {
    let is_served = |cluster: &Cluster| {
        let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
        status.serving.iter().any(|serving| serving.version.as_deref() == Some("1"))
    };
    let job = |cluster: &Cluster| cluster.get::<TrainingJob>("delay").status;
    assert!(cluster.within(limit, is_served).await, "not served in time: {:#?}", job(cluster));
}

fn attempts(cluster: &Cluster) -> u32 {
    let runs = cluster.sim.list::<TrainingRun>();
    assert_eq!(runs.len(), 1);
    runs[0].status.as_ref().map_or(0, |status| status.attempts)
}

/// Whether the conditions of the training or of its job name `reason`.
fn names(cluster: &Cluster, reason: &str) -> bool {
    let job = cluster.get::<TrainingJob>("delay").status.unwrap_or_default();
    job.conditions.iter().any(|condition| condition.reason == reason || condition.message.contains(reason))
}

/// The reason of the cause that the deployment reports.
fn cause(cluster: &Cluster) -> Option<String> {
    let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
    status.cause.map(|cause| cause.reason)
}

#[tokio::test(start_paused = true)]
async fn training_succeeds_after_hours_in_a_queue() {
    let cluster = start(&[|pod| pod.queued_for(3 * HOUR)]);
    until_served(&cluster, 4 * HOUR).await;
    assert_eq!((cluster.started("train"), attempts(&cluster)), (1, 1), "the queue costs no attempt");
}

#[tokio::test(start_paused = true)]
async fn training_succeeds_after_hours_of_fetching() {
    let cluster = start(&[|pod| pod.fetching_for(3 * HOUR)]);
    until_served(&cluster, 4 * HOUR).await;
    assert_eq!((cluster.started("train"), attempts(&cluster)), (1, 1), "fetching costs no attempt");
}

#[tokio::test(start_paused = true)]
async fn wrong_image_of_the_user_is_reported_downstream() {
    let cluster = start(&[|_| PodOutcome::image_pull_back_off().in_container("user")]);
    cluster.until("the job names the image", |cluster| names(cluster, "ImagePull")).await;
}

#[tokio::test(start_paused = true)]
async fn missing_secret_of_the_user_is_reported() {
    let held_up = |_| {
        PodOutcome::held_up("CreateContainerConfigError", "secret \"absent\" not found").in_container("user")
    };
    let cluster = start(&[held_up]);
    cluster.until("the job names the Secret", |cluster| names(cluster, "absent")).await;
}

#[tokio::test(start_paused = true)]
async fn full_disk_is_terminal_and_the_cause_downstream() {
    let full = |_| PodOutcome::disk_full("Usage of EmptyDir volume \"mlop\" exceeds the limit \"8Mi\". ");
    let cluster = start(&[full]);
    cluster.until("the cause is the disk", |cluster| cause(cluster).as_deref() == Some("OutOfDisk")).await;
    sleep(HOUR).await;
    assert_eq!(cluster.started("train"), 1, "the same disk is not filled twice");
    let raise = |job: &mut TrainingJob| job.spec.scratch = "64Gi".into();
    cluster.sim.edit::<TrainingJob>(NAMESPACE, "delay", raise).unwrap();
    until_served(&cluster, HOUR).await;
    assert_eq!(cluster.sim.list::<TrainingRun>().len(), 1, "the size of the disk is not in the digest");
}

#[tokio::test(start_paused = true)]
async fn disruptions_cost_no_attempt_of_the_budget() {
    let cluster = start(&[
        |_| PodOutcome::preempted(),
        |_| PodOutcome::evicted(),
        |_| PodOutcome::rejected("OutOfcpu", "Node didn't have enough resource: cpu"),
        |_| PodOutcome::preempted(),
        |_| PodOutcome::evicted(),
    ]);
    until_served(&cluster, HOUR).await;
    assert_eq!(cluster.started("train"), 6, "five disruptions, and a budget of three attempts");
}

#[tokio::test(start_paused = true)]
async fn training_leaves_an_unfit_node_and_costs_no_attempt() {
    let cluster = start(&[]);
    let unfit = || Failure::preflight(Check::Gpu, "no working GPU");
    cluster.external().failures.insert("train", (0..3).map(|_| unfit()).collect());
    cluster.until("the node is named", |cluster| names(cluster, "node node-0: no working GPU")).await;
    let second = |cluster: &Cluster| {
        let jobs = cluster.sim.list::<Job>().into_iter();
        jobs.filter(|job| job.name_any().ends_with("-2")).find_map(|job| job.spec?.template.spec?.affinity)
    };
    cluster.until("the second attempt", |cluster| second(cluster).is_some()).await;
    let affinity = serde_json::to_string(&second(&cluster).unwrap()).unwrap();
    assert!(affinity.contains(r#""operator":"NotIn","values":["node-0"]"#), "{affinity}");
    until_served(&cluster, HOUR).await;
    assert_eq!(cluster.started("train"), 4, "three nodes that are not fit");
    let status = cluster.sim.list::<TrainingRun>()[0].status.clone().unwrap();
    assert_eq!((status.attempts, status.budget_start), (4, 3));
    assert!(status.avoided_nodes.is_empty(), "{:?}", status.avoided_nodes);
}

#[tokio::test(start_paused = true)]
async fn training_of_a_lost_node_is_repeated() {
    let cluster = start(&[|_| PodOutcome::node_lost()]);
    until_served(&cluster, HOUR).await;
    assert_eq!(cluster.started("train"), 2);
}

/// The chain, whose objects all name the PodProfile `quota`.
fn with_profile() -> String {
    PIPELINE
        .replace("\nspec: {", "\nspec: {profile: quota, ")
        .replace("\nspec:\n", "\nspec:\n  profile: quota\n")
}

/// Gives every container a limit of CPU.
const PROFILE: &str = "apiVersion: mlop.dev/v1alpha1
kind: PodProfile
metadata: {name: quota}
spec:
  workers: {priorityClassName: low, container: {resources: {limits: {cpu: '4'}}}}
  user: {priorityClassName: low, container: {resources: {limits: {cpu: '4'}}}}
";

#[tokio::test(start_paused = true)]
async fn chain_waits_for_its_profile_and_repeats_nothing_for_an_edit() {
    let cluster = Cluster::start();
    cluster.apply(&with_profile());
    sleep(HOUR).await;
    assert_eq!(cluster.sim.list::<Pod>().len(), 0, "no pod is made without the profile");
    let store = cluster.get::<ObjectStore>("files").status.unwrap();
    assert!(store.conditions.iter().any(|c| c.reason == "ProfileNotFound"), "{store:#?}");
    cluster.apply(PROFILE);
    until_served(&cluster, HOUR).await;
    let pods = cluster.sim.list::<Pod>();
    for pod in &pods {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.priority_class_name.as_deref(), Some("low"), "{:?}", pod.metadata.name);
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            assert!(limits.is_some_and(|limits| limits.contains_key("cpu")), "{:?}", pod.metadata.name);
        }
    }
    assert!(!pods.is_empty());
    let raise = |profile: &mut PodProfile| {
        profile.spec.workers.priority_class_name = Some("high".into());
        profile.spec.user.priority_class_name = Some("high".into());
    };
    cluster.sim.edit::<PodProfile>(NAMESPACE, "quota", raise).unwrap();
    sleep(HOUR).await;
    assert_eq!(
        (cluster.started("version"), cluster.started("train")),
        (1, 1),
        "no finished work is repeated"
    );
    let is_rolled_over = |cluster: &Cluster| {
        let deployments = cluster.sim.list::<Deployment>();
        let priority = |deployment: &Deployment| {
            deployment.spec.as_ref()?.template.spec.as_ref()?.priority_class_name.clone()
        };
        deployments.iter().all(|deployment| priority(deployment).as_deref() == Some("high"))
    };
    cluster.until("the servers have the new profile", is_rolled_over).await;
}
