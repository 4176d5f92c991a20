//! The recovery time of operators after a kill, and after a partition from the API server.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, ResourceExt as _, api::ListParams};
use mlop_api::{
    contract::condition_type::READY, dataset::Dataset, deployment::ModelDeployment, features::FeatureView,
    operators, registry::Model, training::TrainingJob,
};
use mlop_e2e::{namespace::TestNamespace, node::Node, stage::OPERATORS, state::Kind};
use serde_json::json;
use std::time::Duration;
use tokio::{
    time::{Instant, sleep},
    try_join,
};

/// The label of an operator's pods.
const NAME: &str = "app.kubernetes.io/name";
/// The time limit in seconds, from a kill or the end of a partition to the operator's next status.
const RECOVERY_LIMIT: u64 = 5;
/// The limit for the median of the killed operators. The kubelet checks for dead processes once a second.
const MEDIAN_LIMIT: Duration = Duration::from_secs(2);
/// Longer than the lease duration, so that leadership is lost too.
const PARTITION_DURATION: Duration = Duration::from_secs(20);
/// The time limit in seconds, until an operator has reconciled new objects.
const RECONCILE_LIMIT: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn operators_recover_in_seconds_after_kill_or_partition() -> Result<()> {
    TestNamespace::run("recovery", async |ns| {
        restart_operators(ns).await?;
        ns.apply(&blocked_objects()).await?;
        until_all_reconciled(ns, RECONCILE_LIMIT).await?;

        let mut killed = [
            recovery_after_kill::<Dataset>(ns, "points").await?,
            recovery_after_kill::<FeatureView>(ns, "means").await?,
            recovery_after_kill::<TrainingJob>(ns, "fit").await?,
            recovery_after_kill::<Model>(ns, "slope").await?,
            recovery_after_kill::<ModelDeployment>(ns, "slope").await?,
        ];
        killed.sort();
        ensure!(killed[2] <= MEDIAN_LIMIT, "operators recover {killed:?} after a kill");

        let operators = operators(ns).await?;
        let partition = Partition::start(&operators, ns).await?;
        edit::<Dataset>(ns, "points", false).await?;
        edit::<FeatureView>(ns, "means", false).await?;
        edit::<TrainingJob>(ns, "fit", false).await?;
        edit::<Model>(ns, "slope", false).await?;
        edit::<ModelDeployment>(ns, "slope", false).await?;
        sleep(PARTITION_DURATION).await;
        drop(partition);
        let partitioned = until_all_reconciled(ns, RECOVERY_LIMIT).await?;
        let instances = |pods: &[Pod]| -> Vec<_> {
            pods.iter().map(|pod| (pod.metadata.uid.clone(), restarts(pod))).collect()
        };
        ensure!(
            instances(&self::operators(ns).await?) == instances(&operators),
            "the partition restarted an operator"
        );
        println!("operators recover {killed:?} after a kill, {partitioned:?} after a partition");
        Ok(())
    })
    .await
}

/// One object per operator without its dependencies, so that operators write statuses but start nothing.
fn blocked_objects() -> Vec<&'static str> {
    let files = [support::POINTS, support::MEANS, support::FIT, support::SERVE];
    let of_a_stage = |document: &&str| {
        let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
        operators::ALL.iter().any(|operator| kind.is_some() && operator.intent() == kind)
    };
    files.iter().flat_map(|file| file.split("\n---\n")).filter(of_a_stage).collect()
}

/// Restarts all operators. The kubelet delays the restart of containers that crashed recently, so the test needs new ones.
async fn restart_operators(ns: &TestNamespace) -> Result<()> {
    let deployments: Vec<String> =
        operators::ALL.iter().map(|operator| format!("deployment/{}", operator.name)).collect();
    let names: Vec<&str> = deployments.iter().map(String::as_str).collect();
    ns.cluster.kubectl(&[&["-n", OPERATORS, "rollout", "restart"], &names[..]].concat()).await?;
    for name in names {
        ns.cluster.kubectl(&["-n", OPERATORS, "rollout", "status", name, "--timeout=60s"]).await?;
    }
    Ok(())
}

/// Kills the operator of a kind, edits an object, and returns the time from the kill to the new status.
async fn recovery_after_kill<K: Kind>(ns: &TestNamespace, name: &str) -> Result<Duration> {
    let operator = operators::of(&K::kind(&())).context("no operator has this kind")?;
    let named = |pod: &&Pod| pod.labels().get(NAME).is_some_and(|name| name == operator.name);
    let pods = operators(ns).await?;
    let pod = pods.iter().find(named).with_context(|| format!("no pod of {}", operator.name))?;
    let process = Node::of(pod)?.process(operator.name)?;
    let start = Instant::now();
    process.signal("KILL")?;
    edit::<K>(ns, name, true).await?;
    until_reconciled::<K>(ns, name, RECOVERY_LIMIT).await?;
    Ok(start.elapsed())
}

async fn edit<K: Kind>(ns: &TestNamespace, name: &str, suspend: bool) -> Result<()> {
    ns.patch::<K>(name, &json!({ "spec": { "suspend": suspend } })).await.map(drop)
}

async fn until_all_reconciled(ns: &TestNamespace, seconds: u64) -> Result<[Duration; 5]> {
    let (dataset, view, job, model, deployment) = try_join!(
        until_reconciled::<Dataset>(ns, "points", seconds),
        until_reconciled::<FeatureView>(ns, "means", seconds),
        until_reconciled::<TrainingJob>(ns, "fit", seconds),
        until_reconciled::<Model>(ns, "slope", seconds),
        until_reconciled::<ModelDeployment>(ns, "slope", seconds),
    )?;
    Ok([dataset, view, job, model, deployment])
}

/// Waits until the status is of the current generation, and returns the elapsed time.
async fn until_reconciled<K: Kind>(ns: &TestNamespace, name: &str, seconds: u64) -> Result<Duration> {
    let start = Instant::now();
    let is_current = |object: &K| object.current(READY).is_some();
    ns.until(name, "reconciled", seconds, is_current).await?;
    Ok(start.elapsed())
}

/// The pods of all operators. Those that are ending after a restart do not count.
async fn operators(ns: &TestNamespace) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), OPERATORS);
    let names = operators::ALL.map(|operator| operator.name);
    let named = ListParams::default().labels(&format!("{NAME} in ({})", names.join(",")));
    let mut pods = pods.list(&named).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    ensure!(pods.len() == names.len(), "{} pods of {} operators", pods.len(), names.len());
    Ok(pods)
}

fn restarts(pod: &Pod) -> Option<i32> {
    Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count)
}

/// Firewall rules that drop the packets between pods and the API server, on the pods' nodes. Dropping it removes them.
#[derive(Default)]
struct Partition {
    rules: Vec<(Node, Vec<String>)>,
}

impl Partition {
    async fn start(pods: &[Pod], ns: &TestNamespace) -> Result<Self> {
        let port = api_port(ns).await?.to_string();
        let mut partition = Self::default();
        for pod in pods {
            let node = Node::of(pod)?;
            let status = pod.status.as_ref();
            let address = status.and_then(|status| status.pod_ip.clone()).context("a pod has no address")?;
            // The API server is on the pod's node, or on another one.
            for words in [
                ["INPUT", "-s", &address, "--dport", &port],
                ["OUTPUT", "-d", &address, "--sport", &port],
                ["FORWARD", "-s", &address, "--dport", &port],
                ["FORWARD", "-d", &address, "--sport", &port],
            ] {
                let [chain, side, address, which, port] = words;
                let rule = [chain, side, address, "-p", "tcp", which, port, "-j", "DROP"].map(str::to_owned);
                node.iptables("-I", &rule)?;
                partition.rules.push((node.clone(), rule.to_vec()));
            }
        }
        Ok(partition)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        for (node, rule) in &self.rules {
            if let Err(error) = node.iptables("-D", rule) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The port of the API server itself.
async fn api_port(ns: &TestNamespace) -> Result<i32> {
    let slices: Api<EndpointSlice> = Api::namespaced(ns.cluster.client.clone(), "default");
    let ports = slices.get("kubernetes").await?.ports.unwrap_or_default();
    ports.into_iter().find_map(|port| port.port).context("the Service kubernetes has no endpoint")
}
