//! Operators die at the worst moment.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use mlop_api::{
    dataset::DatasetVersion, deployment::ModelDeployment, features::FeatureSnapshot, labels,
    registry::ModelVersion, training::TrainingRun,
};
use mlop_e2e::{
    chain::{OPERATORS, STAGES},
    scratch::Scratch,
    state::{Kind as _, Run},
    trace, wait,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_operator_killed_while_its_stage_runs_loses_and_repeats_nothing() -> Result<()> {
    Scratch::run("kills", async |scratch| {
        scratch.arrive("points/1.csv", &support::points(0, 2.0)).await?;
        scratch.apply(&support::CHAIN).await?;
        let mut kills: FuturesUnordered<_> =
            STAGES.iter().map(|(kind, operator)| kill_during(scratch, kind, operator)).collect();
        while let Some(killed) = kills.next().await {
            killed?;
        }
        let limit = 2 * support::CHAIN_SECONDS;
        scratch.until("slope", "serving", limit, ModelDeployment::ready).await?;
        once::<DatasetVersion>(scratch).await?;
        once::<FeatureSnapshot>(scratch).await?;
        once::<TrainingRun>(scratch).await?;
        once::<ModelVersion>(scratch).await?;
        trace::trace(&scratch.cluster, &scratch.namespace, "slope").await?;
        support::predict(scratch).await?;
        Ok(())
    })
    .await
}

/// Kills the operator, without grace, as soon as a pod of its stage is there.
async fn kill_during(scratch: &Scratch, kind: &str, operator: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), &scratch.namespace);
    let of_stage = watcher::Config::default().labels(&format!("{}={kind}", labels::INTENT_KIND));
    let limit = Duration::from_secs(support::CHAIN_SECONDS);
    let works = |pod: &Pod| {
        pod.labels().get(labels::ROLE).is_some_and(|role| matches!(role.as_str(), "run" | "serving"))
    };
    wait::any(&pods, of_stage, &format!("pod of {kind}"), limit, works).await?;

    let operators: Api<Pod> = Api::namespaced(scratch.cluster.client.clone(), OPERATORS);
    let named = ListParams::default().labels(&format!("app.kubernetes.io/name={operator}"));
    let victims = operators.list(&named).await?.items;
    ensure!(!victims.is_empty(), "no pod of {operator} in {OPERATORS}");
    for victim in victims {
        let name = victim.name_any();
        scratch
            .cluster
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

/// There is one run, it succeeded, and at its first attempt.
async fn once<R: Run>(scratch: &Scratch) -> Result<()> {
    let runs = support::runs::<R>(scratch).await?;
    ensure!(runs.len() == 1, "{} runs of {}", runs.len(), R::kind(&()));
    let run = runs.first().context("no run")?;
    let attempts = run.status().map(|status| status.attempts);
    ensure!(attempts == Some(1), "{attempts:?} attempts\n{}", run.describe());
    Ok(())
}
