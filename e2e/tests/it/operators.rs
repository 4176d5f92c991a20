//! Operators that are killed while their stages run.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use mlop_api::{
    dataset::DatasetVersion,
    deployment::ModelDeployment,
    features::FeatureSnapshot,
    labels,
    operators::{self, Operator},
    registry::ModelVersion,
    training::TrainingRun,
};
use mlop_e2e::{
    lineage,
    namespace::TestNamespace,
    stage::OPERATORS,
    state::{Kind as _, Run},
    wait,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn chain_runs_each_stage_once_when_operators_are_killed() -> Result<()> {
    TestNamespace::run("kills", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&support::CHAIN).await?;
        let kill = |operator: &&Operator| Some(kill_during(ns, operator.intent()?, operator.name));
        let mut kills: FuturesUnordered<_> =
            operators::of_stages().filter_map(|operator| kill(&operator)).collect();
        while let Some(killed) = kills.next().await {
            killed?;
        }
        let limit = 2 * support::CHAIN_SECONDS;
        ns.until("slope", "serving", limit, ModelDeployment::is_ready).await?;
        check_single_attempt::<DatasetVersion>(ns).await?;
        check_single_attempt::<FeatureSnapshot>(ns).await?;
        check_single_attempt::<TrainingRun>(ns).await?;
        check_single_attempt::<ModelVersion>(ns).await?;
        lineage::verify(&ns.cluster, &ns.name, "slope").await?;
        support::predict(ns).await?;
        Ok(())
    })
    .await
}

/// Kills the operator without grace as soon as a pod of its stage exists.
async fn kill_during(ns: &TestNamespace, kind: &str, operator: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let of_stage = watcher::Config::default().labels(&format!("{}={kind}", labels::INTENT_KIND));
    let limit = Duration::from_secs(support::CHAIN_SECONDS);
    let works = |pod: &Pod| {
        pod.labels().get(labels::ROLE).is_some_and(|role| matches!(role.as_str(), "run" | "serving"))
    };
    wait::until_any(&pods, of_stage, &format!("pod of {kind}"), limit, works).await?;

    let operators: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), OPERATORS);
    let named = ListParams::default().labels(&format!("app.kubernetes.io/name={operator}"));
    let victims = operators.list(&named).await?.items;
    ensure!(!victims.is_empty(), "no pod of {operator} in {OPERATORS}");
    for victim in victims {
        let name = victim.name_any();
        ns.cluster
            .kubectl(&[
                "-n",
                OPERATORS,
                "delete",
                "pod",
                &name,
                "--grace-period=0",
                "--force",
                "--wait=false",
            ])
            .await?;
    }
    Ok(())
}

/// Checks that there is one run, and that it succeeded at its first attempt.
async fn check_single_attempt<R: Run>(ns: &TestNamespace) -> Result<()> {
    let runs = support::runs::<R>(ns).await?;
    ensure!(runs.len() == 1, "{} runs of {}", runs.len(), R::kind(&()));
    let run = runs.first().context("no run")?;
    let attempts = run.status().map(|status| status.attempts);
    ensure!(attempts == Some(1), "{attempts:?} attempts\n{}", run.describe());
    Ok(())
}
