//! Flux next to a cluster: its source-controller and its kustomize-controller keep a namespace as a directory of a bucket says.
//!
//! They are processes of this machine, end with [`Flux`], and look at one namespace, which has the objects of Flux. Their custom
//! resource definitions are of the whole cluster: a cluster that has a Flux is refused.

mod kinds;
mod view;

use crate::{
    control_plane::{free_ports, last_lines},
    namespace::TestNamespace,
    server::Server,
    wait,
};
use anyhow::{Context as _, Result, anyhow};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    discovery::{self, Scope},
};
use serde_json::json;
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Command;
use view::revision;
pub use view::{Actions, Delivered, condition, written};

/// The documented objects.
const SETUP: &str = include_str!("../../../docs/operations/flux/park.yaml");
/// The name of their Bucket, and of its Secret.
const SOURCE: &str = "config";
/// Keys of the test cluster.
const SECRET: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: config}
stringData: {accesskey: mlop-test, secretkey: mlop-test-secret}
";
const SOURCE_CONTROLLER: &str = "source-controller";
const KUSTOMIZE_CONTROLLER: &str = "kustomize-controller";
const READY: &str = "Ready";
/// Set by users to ask for a reconciliation, to any new value.
const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Longest time from an edit to a served model on a busy machine.
const LIMIT: Duration = Duration::from_secs(420);

/// A running Flux. Dropping it kills the controllers and leaves the objects.
pub struct Flux<'a> {
    /// The namespace that it keeps.
    ns: &'a TestNamespace,
    /// The namespace of its objects.
    system: TestNamespace,
    buckets: Api<Delivered>,
    kustomizations: Api<Delivered>,
    requests: AtomicUsize,
    // Ends before the directory.
    controllers: Vec<Server>,
    directory: TempDir,
}

impl<'a> Flux<'a> {
    /// Starts the controllers, and creates the documented objects for the namespace `ns`, with a source of these files: their names
    /// and manifests.
    ///
    /// # Errors
    /// The cluster has a Flux, or a controller does not start, with the end of its log.
    pub async fn start(ns: &'a TestNamespace, files: &[(&str, &str)]) -> Result<Self> {
        let client = &ns.cluster.client;
        kinds::delete(client).await?;
        kinds::create(client).await?;
        let system = TestNamespace::open(&format!("{}-system", ns.name)).await?;
        let directory = tempfile::tempdir()?;
        let controllers = start_controllers(&system.name, &directory).await?;
        let objects = |group: &str, kind: &str| objects(client, &system.name, group, kind);
        let flux = Self {
            buckets: objects("source.toolkit.fluxcd.io", "Bucket"),
            kustomizations: objects("kustomize.toolkit.fluxcd.io", "Kustomization"),
            requests: AtomicUsize::default(),
            ns,
            system,
            controllers,
            directory,
        };
        for (file, manifest) in files {
            upload(ns, file, manifest).await?;
        }
        flux.system.apply(&[SECRET, &flux.setup().await?]).await?;
        Ok(flux)
    }

    /// Stops the controllers, and deletes everything of Flux. What it has applied stays.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn stop(self) -> Result<()> {
        for controller in self.controllers {
            controller.stop().await;
        }
        kinds::delete(&self.ns.cluster.client).await?;
        let namespace = ["delete", "namespace", "--wait=false", &self.system.name];
        self.ns.cluster.kubectl(&namespace).await.map(drop)
    }

    /// Replaces a file of the source. Returns the revision that the source-controller gives to the new content.
    ///
    /// # Errors
    /// The store refuses it, or the source-controller does not fetch it.
    pub async fn publish(&self, file: &str, manifest: &str) -> Result<String> {
        let before = revision(&self.buckets.get(SOURCE).await?).map(str::to_owned);
        upload(self.ns, file, manifest).await?;
        self.request(&self.buckets, SOURCE).await?;
        self.until_fetched(before.as_deref()).await
    }

    /// Waits until the source has another revision than `before`, and returns it.
    ///
    /// # Errors
    /// The time is over; with the conditions.
    pub async fn until_fetched(&self, before: Option<&str>) -> Result<String> {
        let is_new = |bucket: &Delivered| revision(bucket).is_some_and(|revision| Some(revision) != before);
        let bucket = until(&self.buckets, SOURCE, "fetched", is_new).await?;
        Ok(revision(&bucket).unwrap_or_default().to_owned())
    }

    /// Waits until the Kustomization has applied this revision and is Ready.
    ///
    /// # Errors
    /// The time is over; with the conditions.
    pub async fn until_ready(&self, revision: &str) -> Result<Delivered> {
        self.until(&format!("ready with {revision}"), |kustomization| {
            is_ready(kustomization)
                && kustomization.status.as_ref().is_some_and(|s| s.last_applied_revision == revision)
        })
        .await
    }

    /// Waits until the health check of the Kustomization has failed with this revision, and returns its message.
    ///
    /// # Errors
    /// The time is over; with the conditions.
    pub async fn until_unhealthy(&self, revision: &str) -> Result<String> {
        let failed = |kustomization: &Delivered| {
            condition(kustomization, READY).is_some_and(|ready| ready.reason == "HealthCheckFailed")
                && kustomization.status.as_ref().is_some_and(|s| s.last_attempted_revision == revision)
        };
        let kustomization = self.until(&format!("unhealthy with {revision}"), failed).await?;
        Ok(condition(&kustomization, READY).map(|ready| ready.message.clone()).unwrap_or_default())
    }

    /// Asks the kustomize-controller to compare the source with the cluster, waits until the Kustomization is Ready afterwards,
    /// and returns the actions.
    ///
    /// # Errors
    /// The time is over; with the conditions.
    pub async fn reconcile(&self) -> Result<Actions> {
        let request = self.request(&self.kustomizations, &self.ns.name).await?;
        let handled =
            |kustomization: &Delivered| has_handled(kustomization, &request) && is_ready(kustomization);
        self.until("ready after a request", handled).await?;
        let log = fs::read_to_string(self.log(KUSTOMIZE_CONTROLLER))?;
        view::last_actions(&log).context("the kustomize-controller has applied nothing")
    }

    /// The objects that the Kustomization has applied.
    ///
    /// # Errors
    /// One does not exist.
    pub async fn delivered(&self) -> Result<Vec<Delivered>> {
        let client = &self.ns.cluster.client;
        let kustomization = self.kustomizations.get(&self.ns.name).await?;
        let mut delivered = Vec::new();
        for entry in kustomization.status.unwrap_or_default().inventory.entries {
            let (kind, namespace, name) = entry.parts()?;
            let (kind, capabilities) = discovery::pinned_kind(client, &kind).await?;
            let api: Api<Delivered> = match capabilities.scope {
                Scope::Cluster => Api::all_with(client.clone(), &kind),
                Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &kind),
            };
            delivered.push(api.get(name).await.with_context(|| format!("{} {name}", kind.kind))?);
        }
        Ok(delivered)
    }

    /// The state for the analysis of a failure: the Kustomization, and the ends of the logs.
    pub async fn diagnosis(&self) -> String {
        let kustomization = self.kustomizations.get(&self.ns.name).await;
        let conditions = kustomization.map_or_else(|error| error.to_string(), |found| view::describe(&found));
        let logs = [SOURCE_CONTROLLER, KUSTOMIZE_CONTROLLER].map(|name| last_lines(&self.log(name)));
        format!("Kustomization:\n{conditions}\n{}", logs.join("\n"))
    }

    /// The documented objects, for this namespace and its part of the bucket `raw`.
    async fn setup(&self) -> Result<String> {
        let store = self.ns.cluster.external_url("http://minio.storage.svc:9000").await?;
        let name = &self.ns.name;
        Ok(SETUP
            .replace("minio.storage.svc:9000", store.trim_start_matches("http://"))
            .replace("bucketName: config", "bucketName: raw")
            .replace("clusters/", &format!("{name}/gitops/"))
            .replace("flux-system", &self.system.name)
            .replace("park", name))
    }

    /// Asks for a reconciliation, and returns the value of the request.
    async fn request(&self, api: &Api<Delivered>, name: &str) -> Result<String> {
        let request = self.requests.fetch_add(1, Relaxed).to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REQUESTED_AT: request}}}));
        api.patch(name, &PatchParams::default(), &patch).await?;
        Ok(request)
    }

    async fn until(&self, what: &str, reached: impl FnMut(&Delivered) -> bool) -> Result<Delivered> {
        until(&self.kustomizations, &self.ns.name, what, reached).await
    }

    fn log(&self, controller: &str) -> PathBuf {
        self.directory.path().join(format!("{controller}.log"))
    }
}

async fn upload(ns: &TestNamespace, file: &str, manifest: &str) -> Result<()> {
    ns.upload(&format!("gitops/{}/{file}.yaml", ns.name), &ns.fill(&[manifest])).await
}

fn objects(client: &Client, namespace: &str, group: &str, kind: &str) -> Api<Delivered> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

async fn until(
    api: &Api<Delivered>,
    name: &str,
    what: &str,
    reached: impl FnMut(&Delivered) -> bool,
) -> Result<Delivered> {
    wait::until_or_last(api, name, LIMIT, reached).await.map_err(|last| {
        let state = last.as_ref().map_or_else(|| "it does not exist".to_owned(), view::describe);
        anyhow!("{name}: not {what} within {} s\n{state}", LIMIT.as_secs())
    })
}

fn is_ready(object: &Delivered) -> bool {
    condition(object, READY).is_some_and(|ready| ready.status == "True")
}

fn has_handled(object: &Delivered, request: &str) -> bool {
    object.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at == request)
}

/// Starts both controllers for the objects of `namespace`, with their data and logs in `directory`.
async fn start_controllers(namespace: &str, directory: &TempDir) -> Result<Vec<Server>> {
    let path = directory.path();
    let [source, kustomize, artifacts] = free_ports().await?.map(|port| format!("127.0.0.1:{port}"));
    let mut source_controller = controller(SOURCE_CONTROLLER, namespace, &source);
    source_controller
        .arg(format!("--storage-path={}", path.display()))
        .args([format!("--storage-addr={artifacts}"), format!("--storage-adv-addr={artifacts}")]);
    let kustomize_controller = controller(KUSTOMIZE_CONTROLLER, namespace, &kustomize);
    let mut controllers = vec![
        Server::start(&source_controller, &source, "/readyz", path)?,
        Server::start(&kustomize_controller, &kustomize, "/readyz", path)?,
    ];
    for controller in &mut controllers {
        controller.ready().await?;
    }
    Ok(controllers)
}

fn controller(program: &str, namespace: &str, health: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--watch-all-namespaces=false", "--metrics-addr=0", "--log-encoding=json"])
        .arg(format!("--health-addr={health}"))
        .env("RUNTIME_NAMESPACE", namespace);
    command
}
