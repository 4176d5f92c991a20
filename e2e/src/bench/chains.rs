//! Chains of five stages, each in a namespace of its own, and the operators that work on them.

use super::{CONCURRENCY, create_namespace, object, process::Process, workers::Epoch};
use crate::{
    control_plane::{ControlPlane, KINDS},
    state::Kind as _,
};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{contract::condition_type, dataset::Dataset, deployment::ModelDeployment, labels, operators};
use serde_json::json;
use std::{collections::BTreeSet, path::Path, pin::pin, time::Duration};
use tokio::time::{Instant, timeout};

const PIPELINE: &str = include_str!("pipeline.yaml");
/// The time limit for all chains to serve a version.
const LIMIT: Duration = Duration::from_secs(1200);

/// The processes of all operators.
pub(super) struct Operators(pub Vec<Process>);

impl Operators {
    /// Starts all programs, and waits until they are ready.
    pub(super) async fn start(programs: &Path, server: &ControlPlane) -> Result<Self> {
        let mut processes = Vec::new();
        for operator in operators::ALL {
            let mut process = Process::start(operator, programs, server, None).await?;
            process.ready().await?;
            processes.push(process);
        }
        Ok(Self(processes))
    }

    /// Waits until no object waits for a reconcile.
    pub(super) async fn settle(&mut self) -> Result<()> {
        for process in &mut self.0 {
            // One that no object concerns never reconciles.
            process.settled(0.0).await?;
        }
        Ok(())
    }

    /// CPU seconds of all.
    pub(super) fn cpu(&self) -> Result<f64> {
        self.0.iter().map(|process| Ok(process.usage()?.cpu)).sum()
    }

    pub(super) async fn kill(self) -> Result<()> {
        for process in self.0 {
            process.kill().await?;
        }
        Ok(())
    }
}

/// Does the same for all chains at once.
pub(super) async fn each<'a, F>(namespaces: &'a [String], act: impl Fn(&'a str) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let all = stream::iter(namespaces).map(Ok);
    all.try_for_each_concurrent(CONCURRENCY, |namespace| act(namespace)).await
}

/// The namespaces of chains.
pub(super) fn namespaces(chains: u32) -> Vec<String> {
    (0..chains).map(|number| format!("chain-{number:04}")).collect()
}

/// Creates the chains, and waits until they serve the first version.
pub(super) async fn serve_first(client: &Client, namespaces: &[String], epoch: &Epoch) -> Result<()> {
    let version = epoch.next();
    each(namespaces, |namespace| create_pipeline(client, namespace)).await?;
    until_served(client, namespaces, version).await
}

/// Gives the chains new data at the same moment, and returns the time until all serve it.
pub(super) async fn serve_next(client: &Client, namespaces: &[String], epoch: &Epoch) -> Result<Duration> {
    let (began, version) = (Instant::now(), epoch.next());
    each(namespaces, |namespace| refresh(client, namespace, version)).await?;
    until_served(client, namespaces, version).await?;
    Ok(began.elapsed())
}

/// Creates a namespace with a chain.
pub(super) async fn create_pipeline(client: &Client, namespace: &str) -> Result<()> {
    create_namespace(client, namespace).await?;
    for document in PIPELINE.split("\n---\n") {
        let value: DynamicObject = object(serde_saphyr::from_str(document).context("pipeline")?)?;
        let kind = value.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        let crd = KINDS.iter().find(|crd| crd.spec.names.kind == kind).context(kind)?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &resource(&crd.spec.names.plural));
        api.create(&PostParams::default(), &value).await?;
    }
    Ok(())
}

/// The kind with this plural name.
pub(super) fn resource(plural: &str) -> ApiResource {
    let of_mlop = KINDS.iter().map(|crd| &crd.spec.names).find(|names| names.plural == plural);
    let (group, version, kind) = match (plural, of_mlop) {
        (_, Some(names)) => (mlop_api::GROUP, "v1alpha1", names.kind.as_str()),
        ("jobs", _) => ("batch", "v1", "Job"),
        ("deployments", _) => ("apps", "v1", "Deployment"),
        _ => ("", "v1", "Pod"),
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Asks the chain to look at its source, which has the data of `version`.
async fn refresh(client: &Client, namespace: &str, version: u32) -> Result<()> {
    let asked = json!({"metadata": {"annotations": {labels::REFRESH_REQUESTED_AT: version.to_string()}}});
    let datasets: Api<Dataset> = Api::namespaced(client.clone(), namespace);
    datasets.patch("flights", &PatchParams::default(), &Patch::Merge(asked)).await?;
    Ok(())
}

/// Waits until the chains in `namespaces` serve a version.
async fn until_served(client: &Client, namespaces: &[String], version: u32) -> Result<()> {
    let api: Api<ModelDeployment> = Api::all(client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut waiting: BTreeSet<&str> = namespaces.iter().map(String::as_str).collect();
    let version = version.to_string();
    let all = async {
        while !waiting.is_empty() {
            // The watch restarts after an error.
            let Ok(deployment) = events.next().await.context("the watch has ended")? else { continue };
            let serving = deployment.status.as_ref().and_then(|status| status.serving.first());
            if deployment.is_ready()
                && deployment.has_status(condition_type::UP_TO_DATE, "True")
                && serving.is_some_and(|serving| serving.version.as_ref() == Some(&version))
            {
                waiting.remove(deployment.namespace().unwrap_or_default().as_str());
            }
        }
        Ok(())
    };
    let ended = timeout(LIMIT, all).await;
    ended.with_context(|| {
        format!("{} of {} do not serve version {version}", waiting.len(), namespaces.len())
    })?
}
