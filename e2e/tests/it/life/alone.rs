//! Troubles of the whole cluster: a lost node, busy cores, operators that are uninstalled.

use super::release::Release;
use crate::support::{self, SAVE, STAGE, STORES, published_run, script, stores_are_ready};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
    runtime::watcher,
};
use mlop_api::{
    Reason,
    contract::condition_type::READY,
    features::FeatureView,
    operators,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    namespace::{ENFORCE, TestNamespace},
    node,
    stage::OPERATORS,
    state::Kind as _,
    wait,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// The limit of an edit's way into the status while all cores are busy.
const BUSY_EDIT_SECONDS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn training_recovers_from_the_loss_of_its_node() -> Result<()> {
    TestNamespace::run("node", async |ns| {
        stores_are_ready(ns).await?;
        let code = format!("import os, signal\nif os.environ['MLOP_ATTEMPT'] == '1': signal.pause()\n{SAVE}");
        ns.apply(&[&script(&code)]).await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
        let limit = Duration::from_secs(STAGE);
        let pod =
            wait::until_any(&pods, support::of_runs(), "training at work", limit, support::command_runs);
        let pod = pod.await?;

        let kubelet = Stopped::kubelet(&node::Node::of(&pod)?)?;
        let nodes: Api<Node> = Api::all(ns.cluster.client.clone());
        wait::until_any(&nodes, watcher::Config::default(), "lost node", limit, is_lost).await?;
        // Kubernetes does this after five minutes.
        pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
        let lost = |run: &TrainingRun| {
            let failure = run.status.as_ref().and_then(|status| status.failure.as_ref());
            failure.is_some_and(|failure| failure.reason == Reason::PodLost.as_str())
        };
        wait::until_any(&ns.api(), watcher::Config::default(), "run that lost its pod", limit, lost).await?;
        drop(kubelet);
        let run = published_run(ns).await?;
        ensure!(run.status.as_ref().map(|status| status.attempts) == Some(2), "{}", run.describe());
        Ok(())
    })
    .await
}

/// Whether the node controller misses the node's reports.
fn is_lost(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

/// The kubelet of a node, which reports nothing and ends no pod. Dropping it lets it go on.
struct Stopped {
    process: node::Process,
}

impl Stopped {
    fn kubelet(node: &node::Node) -> Result<Self> {
        let process = node.process("kubelet")?;
        process.signal("STOP")?;
        Ok(Self { process })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = self.process.signal("CONT") {
            eprintln!("{error:#}");
        }
    }
}

/// Two teams share a cluster, each with a release of its own; one of them uninstalls it.
#[tokio::test(flavor = "multi_thread")]
async fn second_release_works_and_leaves_in_any_order() -> Result<()> {
    TestNamespace::run("team-a", async |ns| {
        let other = TestNamespace::open("e2e-team-b").await?;
        let first = Release::FIRST;
        let second = Release { name: "team-b", namespace: "e2e-team-b-system" };
        let outcome = async {
            first.upgrade(&["global.watchNamespaces={e2e-team-a}"]).await?;
            let both = ["mlop-crds.enabled=false", "global.watchNamespaces={e2e-team-b,e2e-team-a}"];
            let refused = second.install(&both).await.err().context("two releases over one namespace")?;
            ensure!(refused.to_string().contains("already works for e2e-team-a: "), "{refused}");
            let restricted = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": second.namespace, "labels": {ENFORCE: "restricted"}},
            });
            ns.cluster.kubectl_with(&["apply", "-f", "-"], &restricted.to_string()).await?;
            second.install(&["mlop-crds.enabled=false", "global.watchNamespaces={e2e-team-b}"]).await?;
            two_teams(ns, &other, &second).await
        };
        let outcome = outcome.await;
        if outcome.is_err() {
            second.uninstall().await.ok();
        }
        ns.cluster.kubectl(&["delete", "namespace", second.namespace, "--wait=false"]).await.ok();
        first.upgrade(&["global.watchNamespaces=null"]).await?;
        outcome
    })
    .await
}

async fn two_teams(a: &TestNamespace, b: &TestNamespace, second: &Release) -> Result<()> {
    a.apply(&[STORES, &script(SAVE)]).await?;
    b.upload("points/1.csv", &support::points(0, 2.0)).await?;
    b.apply(&[STORES, support::POINTS, support::MEANS, &script(SAVE)]).await?;
    a.until("script", "ready", support::CHAIN_SECONDS, TrainingJob::is_ready).await?;
    b.until("script", "ready", support::CHAIN_SECONDS, TrainingJob::is_ready).await?;
    b.until("means", "ready", support::CHAIN_SECONDS, FeatureView::is_ready).await?;

    second.uninstall().await?;
    let kinds = b.cluster.kubectl(&["get", "crd", "featureviews.mlop.dev", "-o", "name"]).await?;
    ensure!(!kinds.is_empty(), "the kinds went with the second release");
    let left =
        b.cluster.kubectl(&["-n", second.namespace, "get", "jobs,serviceaccounts", "-o", "name"]).await?;
    ensure!(!left.contains("mlop-"), "hooks are left: {left}");
    let view: FeatureView = b.api().get("means").await?;
    ensure!(view.finalizers().is_empty(), "finalizers are left: {:?}", view.finalizers());
    // Nobody watches the namespace now, and it can still be deleted.
    delete(b).await
}

async fn delete(ns: &TestNamespace) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(ns.cluster.client.clone());
    namespaces.delete(&ns.name, &DeleteParams::background()).await?;
    let named = watcher::Config::default().fields(&format!("metadata.name={}", ns.name));
    wait::until_gone(&namespaces, named, "the namespace", Duration::from_secs(STAGE)).await
}

/// Ten minutes in which compilers or other pods leave the operators no idle core.
#[tokio::test(flavor = "multi_thread")]
async fn busy_cores_restart_no_operator() -> Result<()> {
    TestNamespace::run("busy", async |ns| {
        ns.apply(&[support::FIT]).await?;
        let reported = |job: &TrainingJob| job.current(READY).is_some();
        ns.until("fit", "reported", STAGE, reported).await?;
        let before = restarts(ns).await?;
        let load = Load::start();
        let (end, mut slowest, mut edits) = (Instant::now() + BUSY, Duration::ZERO, 0);
        while Instant::now() < end {
            let begin = Instant::now();
            let suspend = json!({"spec": {"suspend": edits % 2 == 0}});
            ns.patch::<TrainingJob>("fit", &suspend).await?;
            ns.until("fit", "reported", BUSY_EDIT_SECONDS, reported).await?;
            slowest = slowest.max(begin.elapsed());
            edits += 1;
            // A user looks at the object for some seconds.
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        drop(load);
        ensure!(restarts(ns).await? == before, "operators were restarted: {:?}", restarts(ns).await?);
        println!("{edits} edits with busy cores, the slowest was reported after {slowest:?}");
        Ok(())
    })
    .await
}

/// How long the cores are busy.
const BUSY: Duration = Duration::from_secs(600);

/// Two threads for each core that never rest. Dropping it ends them.
struct Load {
    runs: Arc<AtomicBool>,
}

impl Load {
    fn start() -> Self {
        let runs = Arc::new(AtomicBool::new(true));
        let cores = thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..2 * cores {
            let runs = Arc::clone(&runs);
            thread::spawn(move || {
                while runs.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { runs }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.runs.store(false, Ordering::Relaxed);
    }
}

/// Name and restarts of each operator's pod.
async fn restarts(ns: &TestNamespace) -> Result<Vec<(String, i32)>> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), OPERATORS);
    let names = operators::ALL.map(|operator| operator.name);
    let named = ListParams::default().labels(&format!("app.kubernetes.io/name in ({})", names.join(",")));
    let count = |pod: &Pod| Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count);
    let pods = pods.list(&named).await?.items;
    Ok(pods.iter().map(|pod| (pod.name_any(), count(pod).unwrap_or_default())).collect())
}
