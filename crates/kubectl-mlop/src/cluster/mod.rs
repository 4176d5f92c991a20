//! Reading and changing the objects of a cluster: the only module with a client.

pub mod forward;
mod material;
mod served;

pub use served::Prediction;

use crate::{
    actions::Change,
    kinds::{self, KindInfo},
    pods,
    snapshot::{Object, Snapshot},
};
use anyhow::{Context as _, Result, anyhow, bail};
use futures::{AsyncBufRead, StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Config,
    api::{DynamicObject, ListParams, LogParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{GROUP, queue::TrainingQueue};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use tokio::time::timeout;

/// Objects of a list that are asked for at once.
const PAGE: u32 = 500;

/// Time in which changes are taken together.
const TOGETHER: Duration = Duration::from_millis(300);

/// Where a cluster is found.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub all_namespaces: bool,
}

/// A cluster, and the namespace that is looked at.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    /// None: all namespaces.
    scope: Option<String>,
}

/// Objects by kind, namespace and name, as a watch keeps them.
pub type Objects = BTreeMap<(String, String, String), Object>;

impl Cluster {
    /// # Errors
    /// There is no usable kubeconfig, or it has no such context.
    pub async fn connect(place: &Place) -> Result<Self> {
        let kubeconfig = match &place.kubeconfig {
            Some(path) => Kubeconfig::read_from(path).map_err(|error| anyhow!("{error}"))?,
            None => Kubeconfig::read().map_err(|error| {
                anyhow!("no kubeconfig: set KUBECONFIG or pass --kubeconfig FILE: {error}")
            })?,
        };
        let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
        let options = KubeConfigOptions { context: place.context.clone(), ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
            anyhow!("{error}; the contexts of the kubeconfig are: {}", contexts.join(", "))
        })?;
        let namespace = place.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig is unusable")?;
        let scope = (!place.all_namespaces).then(|| namespace.clone());
        Ok(Self { client, namespace, scope })
    }

    /// A cluster by an existing client, for callers that have one.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), scope: Some(namespace.to_owned()) }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The objects of the namespace.
    ///
    /// # Errors
    /// The cluster does not answer, refuses, or has no kinds of mlop.
    pub async fn snapshot(&self, now: Timestamp) -> Result<Snapshot> {
        let objects = self.objects().await?.into_values().collect();
        Ok(Snapshot { namespace: self.namespace.clone(), objects, now })
    }

    /// The objects of each namespace that has some; of one namespace if it was chosen.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub async fn snapshots(&self, now: Timestamp) -> Result<Vec<Snapshot>> {
        Ok(self.split(self.objects().await?, now))
    }

    /// Groups objects by namespace.
    pub fn split(&self, objects: Objects, now: Timestamp) -> Vec<Snapshot> {
        let mut groups: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        groups.extend(self.scope.clone().map(|namespace| (namespace, Vec::new())));
        for ((_, namespace, _), object) in objects {
            groups.entry(namespace).or_default().push(object);
        }
        groups.into_iter().map(|(namespace, objects)| Snapshot { namespace, objects, now }).collect()
    }

    /// Calls `show` with all objects at first, whenever one of them has changed, and after each `tick`.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot), or that of `show`.
    pub async fn watch(&self, tick: Duration, mut show: impl FnMut(&Objects) -> Result<()>) -> Result<()> {
        // A watch repeats a refused request without an end; the first list reports missing kinds and permissions.
        let mut live = Live { objects: self.objects().await?, listed: BTreeMap::new() };
        let streams = kinds::namespaced().map(|kind| {
            let changes = watcher(self.api(kind), watcher::Config::default()).default_backoff();
            changes.map(move |event| (kind, event)).boxed()
        });
        let mut changes = stream::select_all(streams);
        loop {
            show(&live.objects)?;
            if let Ok(Some((kind, event))) = timeout(tick, changes.next()).await {
                live.apply(kind, event);
            }
            // What changes together is shown together.
            let together = async {
                while let Some((kind, event)) = changes.next().await {
                    live.apply(kind, event);
                }
            };
            // The time is over while the stream goes on.
            let _ = timeout(TOGETHER, together).await;
        }
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, change: &Change, dry_run: bool) -> Result<()> {
        let Some(patch) = &change.patch else { return Ok(()) };
        let kind = kinds::info(&change.object.kind)
            .with_context(|| format!("{} is not a kind of mlop", change.object.kind))?;
        let params = PatchParams { dry_run, ..PatchParams::default() };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource);
        let patched = api.patch(&change.object.name, &params, &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|error| explained(error, &format!("changing {}", change.object)))
    }

    /// The TrainingQueues of the cluster.
    ///
    /// # Errors
    /// The cluster does not answer, refuses, or does not have the kind.
    pub async fn queues(&self) -> Result<Vec<TrainingQueue>> {
        let api: Api<TrainingQueue> = Api::all(self.client.clone());
        let list = api.list(&ListParams::default()).await;
        Ok(list.map_err(|error| explained(error, "listing TrainingQueues"))?.items)
    }

    /// The pods that work for an object.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn pods(&self, object: &Object) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(&pods::selector(object));
        Ok(api.list(&params).await.map_err(|error| explained(error, "listing pods"))?.items)
    }

    /// The Events of the namespace.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn events(&self) -> Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.list(&ListParams::default()).await.map_err(|error| explained(error, "listing Events"))?.items)
    }

    /// The output of a container.
    ///
    /// # Errors
    /// The container has not started, or its pod is gone.
    pub async fn logs(&self, choice: &pods::Choice, params: LogParams) -> Result<impl AsyncBufRead + use<>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = LogParams { container: Some(choice.container.clone()), ..params };
        let what = format!("reading container {} of pod {}", choice.container, choice.pod);
        api.log_stream(&choice.pod, &params).await.map_err(|error| explained(error, &what))
    }

    fn api(&self, kind: &KindInfo) -> Api<DynamicObject> {
        match &self.scope {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            None => Api::all_with(self.client.clone(), &kind.resource),
        }
    }

    async fn objects(&self) -> Result<Objects> {
        let mut objects = Objects::new();
        for (kind, list) in self.lists().await? {
            for object in list {
                insert(&mut objects, kind, object);
            }
        }
        Ok(objects)
    }

    /// The objects of each kind.
    async fn lists(&self) -> Result<Vec<(&'static KindInfo, Vec<DynamicObject>)>> {
        let lists = kinds::namespaced().map(|kind| async move { (kind, self.list(kind).await) });
        let lists = futures::future::join_all(lists).await;
        if lists.iter().all(|(_, list)| matches!(list, Ok(None))) {
            bail!(
                "the cluster has no kinds of mlop (API group {GROUP}): install the charts, or choose another cluster with --context"
            );
        }
        lists.into_iter().map(|(kind, list)| Ok((kind, list?.unwrap_or_default()))).collect()
    }

    /// The objects of a kind; none if the cluster does not have the kind.
    async fn list(&self, kind: &KindInfo) -> Result<Option<Vec<DynamicObject>>> {
        let api = self.api(kind);
        let mut objects = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                page => {
                    page.map_err(|error| explained(error, &format!("listing {}", kind.resource.plural)))?
                }
            };
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(Some(objects)),
            }
        }
    }
}

fn insert(objects: &mut Objects, kind: &KindInfo, object: DynamicObject) {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let object = Object::new(kind, object.metadata, &object.data);
    objects.insert((kind.kind.clone(), namespace, object.id.name.clone()), object);
}

/// Objects that a watch keeps up to date.
struct Live {
    objects: Objects,
    /// Objects of a kind whose list is being read.
    listed: BTreeMap<String, Vec<DynamicObject>>,
}

impl Live {
    fn apply(&mut self, kind: &KindInfo, event: Result<watcher::Event<DynamicObject>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Apply(object)) => insert(&mut self.objects, kind, object),
            Ok(watcher::Event::Delete(object)) => {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                self.objects.remove(&(kind.kind.clone(), namespace, name));
            }
            Ok(watcher::Event::Init) => drop(self.listed.insert(kind.kind.clone(), Vec::new())),
            Ok(watcher::Event::InitApply(object)) => {
                self.listed.entry(kind.kind.clone()).or_default().push(object);
            }
            Ok(watcher::Event::InitDone) => {
                // An object that is not in the new list was deleted meanwhile.
                self.objects.retain(|(known, _, _), _| *known != kind.kind);
                for object in self.listed.remove(&kind.kind).unwrap_or_default() {
                    insert(&mut self.objects, kind, object);
                }
            }
            // The watch begins again by itself. The last tree stays on the screen.
            Err(_) => {}
        }
    }
}

/// An error of the API server with what to do about it.
fn explained(error: kube::Error, what: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            let is_own = status.message.contains(GROUP);
            let roles = if is_own {
                "the roles mlop-view and mlop-edit allow"
            } else {
                "the cluster role view allows"
            };
            anyhow!("{what}: not allowed: {}; {roles} it", status.message)
        }
        kube::Error::Api(status) if status.code == 401 => {
            anyhow!("{what}: the cluster refuses the login of the kubeconfig: {}", status.message)
        }
        kube::Error::Api(status) => anyhow!("{what}: {}", status.message),
        error => anyhow::Error::new(error)
            .context(format!("{what}: the cluster does not answer; is the context right?")),
    }
}

/// Copies the lines of a log to `write` as they come.
///
/// # Errors
/// The connection breaks, or `write` fails.
pub async fn copy_lines(log: impl AsyncBufRead, mut write: impl FnMut(&str) -> Result<()>) -> Result<()> {
    use futures::AsyncBufReadExt as _;
    let mut lines = Box::pin(log.lines());
    while let Some(line) = lines.try_next().await? {
        write(&line)?;
    }
    Ok(())
}
