//! Backup and restore of a namespace, with the commands of the documentation.

use crate::support;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
    runtime::watcher,
};
use mlop_api::{
    dataset::DatasetVersion,
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureView},
    labels,
    registry::{Model, ModelVersion},
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{
    namespace::TestNamespace,
    stage::OPERATORS,
    state::{Intent as _, Kind as _, Run},
    wait,
};
use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::process::Command;

/// A TrackingServer of another namespace, as MLflow outlives the namespace of a chain.
const ELSEWHERE: &str = "
apiVersion: mlop.dev/v1alpha1
kind: TrackingServer
metadata: {name: mlflow}
spec:
  existing: {service: mlflow-mlflow, namespace: e2e-history-of-backup, port: 5000}
";

#[tokio::test(flavor = "multi_thread")]
async fn restored_namespace_serves_and_repeats_nothing() -> Result<()> {
    let mlflow = TestNamespace::open("e2e-history-of-backup").await?;
    let server = support::SERVE.split("\n---\n").next().unwrap_or_default();
    mlflow.apply(&[server]).await?;
    TestNamespace::run("backup", async |ns| {
        ns.upload("points/1.csv", &support::points(0, 2.0)).await?;
        ns.apply(&chain()).await?;
        ns.until("slope", "serving", support::CHAIN_SECONDS, ModelDeployment::is_ready).await?;
        let before = State::of(ns).await?;
        let directory = tempfile::tempdir()?;
        symlink(repository().join("charts"), directory.path().join("charts"))?;
        run(ns, &directory, &commands("## Save a namespace")?).await?;
        delete(ns).await?;
        let restored = run(ns, &directory, &commands("## Restore a namespace")?).await;
        // All tests share the operators that a failed restore leaves stopped.
        ns.cluster.kubectl(&["-n", OPERATORS, "scale", "deployment", "--all", "--replicas=1"]).await?;
        restored?;

        let limit = support::CHAIN_SECONDS;
        ns.until("means", "ready again", limit, FeatureView::is_ready).await?;
        ns.until("fit", "ready again", limit, TrainingJob::is_ready).await?;
        ns.until("slope", "ready again", limit, Model::is_ready).await?;
        ns.until("slope", "serving again", limit, ModelDeployment::is_ready).await?;
        ensure!(State::of(ns).await? == before, "the restored chain differs from {before:#?}");
        ensure!(attempts(ns).await? == 0, "a run was repeated");
        ensure!((support::predict(ns).await? - 20.0).abs() < 1e-6, "the prediction is not 2 x");
        Ok(())
    })
    .await?;
    mlflow.cluster.kubectl(&["delete", "namespace", &mlflow.name, "--wait=false"]).await.map(drop)
}

/// The chain, with its MLflow in another namespace.
fn chain() -> Vec<&'static str> {
    let served = support::SERVE.split("\n---\n").skip(1);
    [support::STORES, support::POINTS, support::MEANS, support::FIT, ELSEWHERE]
        .into_iter()
        .chain(served)
        .collect()
}

/// The results of a chain inside and outside the cluster.
#[derive(Debug, PartialEq)]
struct State {
    runs: Vec<String>,
    model: String,
    version: String,
    feature: String,
}

impl State {
    async fn of(ns: &TestNamespace) -> Result<Self> {
        let mut runs = outputs::<DatasetVersion>(ns).await?;
        runs.extend(outputs::<FeatureSnapshot>(ns).await?);
        runs.extend(outputs::<TrainingRun>(ns).await?);
        runs.extend(outputs::<ModelVersion>(ns).await?);
        let model: Model = ns.api().get("slope").await?;
        let model = model.artifact().context("no artifact")?.digest.to_string();
        Ok(Self {
            runs,
            model,
            version: support::registered(ns).await?,
            feature: support::online(ns, "features").await?,
        })
    }
}

/// Name, attempts and digest of each run.
async fn outputs<R: Run>(ns: &TestNamespace) -> Result<Vec<String>> {
    let text = |run: &R| {
        let status = run.status();
        let digest = status.and_then(|status| Some(status.output.as_ref()?.digest.to_string()));
        let attempts = status.map_or(0, |status| status.attempts);
        format!("{} {attempts} {}", kube::ResourceExt::name_any(run), digest.unwrap_or_default())
    };
    Ok(support::runs::<R>(ns).await?.iter().map(text).collect())
}

/// The number of pods that attempts of runs have.
async fn attempts(ns: &TestNamespace) -> Result<usize> {
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let of_runs = format!("{}=run", labels::ROLE);
    Ok(pods.list(&ListParams::default().labels(&of_runs)).await?.items.len())
}

/// Deletes the namespace, and waits until it is gone.
async fn delete(ns: &TestNamespace) -> Result<()> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ns.cluster.client.clone());
    namespaces.delete(&ns.name, &DeleteParams::background()).await?;
    let name = watcher::Config::default().fields(&format!("metadata.name={}", ns.name));
    wait::until_gone(&namespaces, name, "the namespace", Duration::from_secs(support::STAGE)).await
}

/// The commands below a heading of the documentation, up to the next one.
fn commands(heading: &str) -> Result<String> {
    let text = fs::read_to_string(repository().join("docs/operations/backup.md"))?;
    let section = text.split_once(heading).with_context(|| format!("no heading {heading}"))?.1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<&str> =
        section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    ensure!(!blocks.is_empty(), "{heading} has no commands");
    Ok(blocks.join("\n"))
}

/// Runs the commands for this namespace instead of `park`.
async fn run(ns: &TestNamespace, directory: &TempDir, commands: &str) -> Result<()> {
    let script = directory.path().join("script.sh");
    let commands = commands
        .replace("-n park ", &format!("-n {} ", ns.name))
        .replace("namespace park", &format!("namespace {}", ns.name));
    fs::write(&script, format!("set -euxo pipefail\n{commands}"))?;
    let output = Command::new("bash").arg(&script).current_dir(directory.path()).output().await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the commands failed ({}):\n{out}\n{err}", output.status);
    let pods = ns.cluster.kubectl(&["-n", OPERATORS, "get", "deployments"]).await?;
    println!("{err}\n{pods}");
    Ok(())
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
