//! Children that operators apply: a foreign change is undone once, an unwanted child is deleted, and nothing is written
//! when nothing differs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use k8s_openapi::{
    Metadata,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{EnvVar, PersistentVolumeClaim, Service, Toleration},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mlop_api::{
    deployment::ModelDeployment,
    features::{ExistingRedis, FeatureStore},
    registry::{ExistingMlflow, TrackingServer},
    training::{TrainingJob, TrainingRun},
};
use mlop_faults::{
    cluster::{Cluster, NAMESPACE},
    scenario::PIPELINE,
};
use mlop_sim::kubelet::PodOutcome;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::time::sleep;

/// Virtual time in which all operators notice a change and write what follows.
const SETTLE: Duration = Duration::from_secs(60);
/// Connections that run servers, of every kind that does.
const SERVERS: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: FeatureStore
metadata: {name: shop}
spec:
  store: files
  redis: {managed: {image: "redis:8", secretName: redis, resources: {cpu: "0.1", memory: 131072Ki}}}
---
apiVersion: mlop.dev/v1alpha1
kind: TrackingServer
metadata: {name: history}
spec: {managed: {image: "mlflow:3", resources: {cpu: 1000m}}}
"#;

/// A cluster with every kind of child, at rest.
async fn settled() -> Cluster {
    let cluster = Cluster::start();
    cluster.apply(PIPELINE);
    cluster.apply(SERVERS.trim());
    let is_served = |cluster: &Cluster| {
        let status = cluster.get::<ModelDeployment>("delay").status.unwrap_or_default();
        !status.serving.is_empty()
    };
    cluster.until("the model is served", is_served).await;
    sleep(SETTLE).await;
    cluster
}

/// Writes of operators to children so far.
fn child_writes(cluster: &Cluster) -> Vec<String> {
    let kinds = [
        "deployments",
        "statefulsets",
        "services",
        "networkpolicies",
        "persistentvolumeclaims",
        "poddisruptionbudgets",
    ];
    let is_child = |resource: &str| kinds.iter().any(|kind| resource.starts_with(kind));
    let writes = cluster.sim.writes().into_iter();
    let writes = writes.filter(|w| is_child(&w.resource) && w.field_manager.starts_with("mlop-"));
    writes.map(|write| format!("{} {} {}", write.verb, write.resource, write.name)).collect()
}

fn edit<K>(cluster: &Cluster, name: &str, change: impl FnOnce(&mut K))
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    cluster.sim.edit::<K>(NAMESPACE, name, change).unwrap();
}

/// Makes every owner of children reconcile.
fn poke(cluster: &Cluster, note: &str) {
    fn annotate<K: Resource>(object: &mut K, note: &str) {
        object.meta_mut().annotations.get_or_insert_default().insert("note".to_owned(), note.to_owned());
    }
    for store in ["features", "shop"] {
        edit::<FeatureStore>(cluster, store, |object| annotate(object, note));
    }
    for server in ["mlflow", "history"] {
        edit::<TrackingServer>(cluster, server, |object| annotate(object, note));
    }
    edit::<ModelDeployment>(cluster, "delay", |object| annotate(object, note));
}

/// Adds to the labels of every child of a kind, as GitOps tools do.
fn label_all<K>(cluster: &Cluster) -> usize
where
    K: Resource<DynamicType = ()> + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
{
    let names: Vec<_> = cluster.sim.list::<K>().into_iter().filter_map(|o| o.meta().name.clone()).collect();
    for name in &names {
        edit::<K>(cluster, name, |object| {
            object.meta_mut().labels.get_or_insert_default().insert("argo".to_owned(), "x".to_owned());
        });
    }
    names.len()
}

#[tokio::test(start_paused = true)]
async fn second_reconcile_writes_no_child() {
    let cluster = settled().await;
    let before = child_writes(&cluster);
    poke(&cluster, "again");
    sleep(SETTLE).await;
    let labelled = [
        label_all::<Deployment>(&cluster),
        label_all::<StatefulSet>(&cluster),
        label_all::<Service>(&cluster),
        label_all::<NetworkPolicy>(&cluster),
        label_all::<PersistentVolumeClaim>(&cluster),
        label_all::<PodDisruptionBudget>(&cluster),
    ];
    assert!(labelled.iter().all(|count| *count > 0), "a kind of child is missing: {labelled:?}");
    sleep(SETTLE).await;
    assert_eq!(child_writes(&cluster), before);
}

#[tokio::test(start_paused = true)]
async fn foreign_additions_to_children_are_undone_once() {
    let cluster = settled().await;
    let before = child_writes(&cluster).len();
    edit::<Service>(&cluster, "delay-mdep", |service| {
        let selector = &mut service.spec.as_mut().unwrap().selector;
        selector.get_or_insert_default().insert("x".to_owned(), "y".to_owned());
    });
    edit::<Deployment>(&cluster, "delay-mdep", |deployment| {
        let pod = deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        pod.tolerations = Some(vec![Toleration { key: Some("gpu".to_owned()), ..Default::default() }]);
        let foo = EnvVar { name: "FOO".to_owned(), value: Some("x".to_owned()), value_from: None };
        pod.containers[0].env.get_or_insert_default().push(foo);
    });
    sleep(SETTLE).await;
    let selector = cluster.get::<Service>("delay-mdep").spec.unwrap().selector.unwrap();
    assert_eq!(selector.keys().collect::<Vec<_>>(), ["app.kubernetes.io/instance"]);
    let pod = cluster.get::<Deployment>("delay-mdep").spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.tolerations, None);
    assert!(pod.containers[0].env.iter().flatten().all(|variable| variable.name != "FOO"));
    poke(&cluster, "again");
    sleep(SETTLE).await;
    let writes = child_writes(&cluster);
    assert_eq!(writes[before..], ["patch services delay-mdep", "patch deployments.apps delay-mdep"]);
}

#[tokio::test(start_paused = true)]
async fn setting_taken_out_of_a_spec_leaves_its_children() {
    let cluster = Cluster::start();
    cluster.external().courses.insert("train", vec![|pod: PodOutcome| pod.queued_for(SETTLE * 60)]);
    let gpu = || [("gpu".to_owned(), "a100".to_owned())].into();
    cluster.apply(PIPELINE);
    edit::<TrainingJob>(&cluster, "delay", |job| job.spec.node_selector = gpu());
    let execution = |cluster: &Cluster| {
        let runs = cluster.sim.list::<TrainingRun>();
        runs.first().map(|run| run.spec.execution.node_selector.clone())
    };
    cluster.until("the run has the selector", |cluster| execution(cluster) == Some(gpu())).await;
    edit::<TrainingJob>(&cluster, "delay", |job| job.spec.node_selector.clear());
    cluster.until("the selector leaves the run", |cluster| execution(cluster) == Some([].into())).await;
}

#[tokio::test(start_paused = true)]
async fn child_of_an_earlier_backend_is_deleted() {
    let cluster = settled().await;
    edit::<FeatureStore>(&cluster, "shop", |store| {
        store.spec.redis.managed = None;
        store.spec.redis.existing = Some(ExistingRedis {
            address: "another:6379".to_owned(),
            secret_name: None,
            user: None,
            tls: false,
            cluster: false,
        });
    });
    edit::<TrackingServer>(&cluster, "history", |server| {
        server.spec.managed = None;
        let service = Some("mlflow".to_owned());
        server.spec.existing = Some(ExistingMlflow { service, port: 5000, ..ExistingMlflow::default() });
    });
    sleep(SETTLE).await;
    fn names<K>(cluster: &Cluster) -> Vec<String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Serialize,
    {
        cluster.sim.list::<K>().into_iter().filter_map(|object| object.meta().name.clone()).collect()
    }
    assert_eq!(names::<StatefulSet>(&cluster), Vec::<String>::new());
    assert_eq!(names::<NetworkPolicy>(&cluster), Vec::<String>::new());
    assert_eq!(names::<Deployment>(&cluster), ["delay-mdep", "features-fs", "shop-fs"]);
    assert_eq!(names::<Service>(&cluster), ["delay-mdep", "features-fs", "shop-fs"]);
    assert_eq!(names::<PersistentVolumeClaim>(&cluster), ["history-mlflow"], "the history of models stays");
}
