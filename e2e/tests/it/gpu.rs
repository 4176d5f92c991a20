//! GPUs, imitated by an extended resource of the nodes. The program of their driver is a stand-in from a ConfigMap: no machine
//! of the tests has a GPU.

use crate::support::{SAVE, STAGE, of_runs, published_run, says, script, stores_are_ready};
use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use mlop_api::{Reason, profile::PodProfile, training::TrainingJob};
use mlop_e2e::{cluster::Cluster, namespace::TestNamespace, state::Kind as _, wait};
use serde_json::{Value, json};
use std::time::Duration;

const GPU: &str = "nvidia.com/gpu";
/// What the stand-in of `nvidia-smi` does on a node that is well.
pub const WORKS: &str = "echo 'GPU 0: Stand-in (UUID: GPU-0)'";
/// A program `nvidia-smi` where container runtimes put it.
const DRIVER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: driver}
data:
  nvidia-smi: |
    #!/bin/sh
    @DOES@
---
apiVersion: mlop.dev/v1alpha1
kind: PodProfile
metadata: {name: default}
spec:
  user:
    volumes: [{name: driver, configMap: {name: driver, defaultMode: 365}}]
    container:
      volumeMounts: [{name: driver, mountPath: /usr/local/nvidia/bin, readOnly: true}]
"#;
/// GPUs of each node.
const COUNT: u32 = 2;
/// The time limit in seconds until a status reports a pod that fits on no node.
const REPORTED: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn training_with_gpus_runs_where_they_fit_or_waits() -> Result<()> {
    TestNamespace::run("gpu", async |ns| {
        set(&ns.cluster, json!(COUNT.to_string())).await?;
        let outcome = fits_or_waits(ns).await;
        set(&ns.cluster, Value::Null).await?;
        outcome
    })
    .await
}

async fn fits_or_waits(ns: &TestNamespace) -> Result<()> {
    stores_are_ready(ns).await?;
    install_driver(ns, WORKS).await?;
    ns.apply(&[&training(COUNT + 1)]).await?;
    let waits = |job: &TrainingJob| says(job, Reason::Unschedulable, &format!("Insufficient {GPU}"));
    ns.until("script", "a node with more GPUs is missing", REPORTED, waits).await?;

    ns.apply(&[&training(1)]).await?;
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let limit = Duration::from_secs(STAGE);
    wait::until_any(&pods, of_runs(), "training with a GPU at work", limit, works_with_gpu).await?;
    published_run(ns).await.map(drop)
}

fn works_with_gpu(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    phase.is_some_and(|phase| phase != "Pending") && limits.any(|limits| limits.contains_key(GPU))
}

/// Puts the stand-in of a driver into the pods of the namespace that come now.
pub async fn install_driver(ns: &TestNamespace, does: &str) -> Result<()> {
    ns.apply(&[&DRIVER.replace("@DOES@", does)]).await?;
    ns.until("default", "accepted", REPORTED, PodProfile::is_ready).await.map(drop)
}

/// The training `script` with GPUs.
pub fn training(count: u32) -> String {
    script(SAVE).replace("memory: 128Mi}", &format!("memory: 128Mi, gpu: {count}}}"))
}

/// Gives all nodes this number of GPUs. The kubelet leaves them in the status, as it does those of a device plugin.
pub async fn set(cluster: &Cluster, count: Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let status = json!({"status": {"capacity": {GPU: count}, "allocatable": {GPU: count}}});
    for node in nodes.list(&ListParams::default()).await? {
        nodes.patch_status(&node.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await?;
    }
    Ok(())
}
