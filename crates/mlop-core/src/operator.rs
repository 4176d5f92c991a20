//! The whole of an operator's start: what it watches, which controllers run, and how the process lives and ends.

use crate::{
    chain::{self, InputState},
    client,
    context::{Clock, Context, Settings},
    controller::{Controller, Reconciler},
    health, lease,
    metrics::Metrics,
    queue::{Key, Queue},
    resource::{ApiKind, ChildObject, InputObject},
    store::{self, Cached, Store, WriteThrough},
    telemetry,
};
use anyhow::{Context as _, bail};
use clap::Parser;
use futures::future::BoxFuture;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DeserializeGuard, DynamicResourceScope, NamespaceResourceScope},
};
use mlop_api::{
    common::{NamedInput, ObjectRef},
    labels,
};
use std::{collections::BTreeMap, fmt::Debug, hash::Hash, sync::Arc};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

/// How an operator is started. Each flag has an environment variable.
#[derive(Debug, Parser)]
#[command(version, about = "A mlop operator: reconciles its kinds until it is told to stop.")]
struct Args {
    /// Namespaces to work in, separated by commas; empty: all.
    #[arg(long, env = "MLOP_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Kinds that may be inputs, as Kind.version.group, separated by commas.
    #[arg(long, env = "MLOP_INPUT_KINDS", value_delimiter = ',')]
    input_kinds: Vec<String>,
    /// Image of this operator's worker.
    #[arg(long, env = "MLOP_WORKER_IMAGE", default_value = "")]
    worker_image: String,
    /// Address for /livez, /readyz and /metrics.
    #[arg(long, env = "MLOP_HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: String,
    /// Whether to hold a lease, so that only one of several replicas works.
    #[arg(long, env = "MLOP_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// Namespace of the lease.
    #[arg(long, env = "MLOP_LEASE_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name that holds the lease: the pod's.
    #[arg(long, env = "MLOP_POD_NAME", default_value = "local")]
    pod_name: String,
    /// What is logged: a level (error, warn, info, debug) or a list such as info,mlop_core=debug.
    #[arg(long, env = "MLOP_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

type Task = BoxFuture<'static, ()>;

/// What an operator consists of: filled in by its `install`, then run.
pub struct Setup {
    client: Client,
    settings: Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    relist: watch::Sender<u64>,
    /// One for each feed.
    relists: Vec<Arc<Notify>>,
    /// Each wakes all objects of one controller.
    wakers: Vec<Box<dyn Fn() + Send>>,
    stores: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
    feeds: Vec<Task>,
    synced: Vec<(String, watch::Receiver<bool>)>,
    controllers: Vec<Box<dyn FnOnce(Arc<Context>) -> Task + Send>>,
}

/// The caches of all kinds that may be inputs.
#[derive(Clone, Default)]
pub struct Inputs {
    stores: BTreeMap<GroupKind, InputStore>,
}

type GroupKind = (String, String);
type InputStore = (ApiKind, Arc<Store<InputObject>>);

impl Setup {
    pub fn new(client: Client, settings: Settings, clock: Clock) -> Self {
        Self {
            client,
            settings,
            clock,
            metrics: Arc::default(),
            relist: watch::Sender::new(0),
            relists: Vec::new(),
            wakers: Vec::new(),
            stores: BTreeMap::new(),
            feeds: Vec::new(),
            synced: Vec::new(),
            controllers: Vec::new(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where [`lease::elect`] says that everything has to be listed anew.
    pub fn relist(&self) -> watch::Sender<u64> {
        self.relist.clone()
    }

    /// Watches all objects of a kind.
    pub fn watch<K>(&mut self) -> Arc<Store<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.typed(None)
    }

    /// Watches the objects of a kind that this operator has made.
    pub fn watch_own<K>(&mut self) -> Arc<Store<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.typed(Some(self.own_label()))
    }

    /// Watches the children of a kind that this operator applies.
    pub fn watch_children<K>(&mut self) -> Arc<Store<ChildObject>>
    where
        K: Resource<DynamicType = ()>,
    {
        let kind = ApiKind::of::<K>();
        let store = self.dynamic(kind.clone(), Some(self.own_label()));
        self.stores.insert(kind, Arc::clone(&store) as Arc<dyn WriteThrough>);
        store
    }

    /// Watches all kinds that may be inputs, as `--input-kinds` lists them.
    pub fn watch_inputs(&mut self) -> Inputs {
        let kinds = self.settings.input_kinds.clone();
        let stores = kinds.into_iter().map(|kind| {
            let store = self.dynamic(kind.clone(), None);
            ((kind.group.clone(), kind.kind.clone()), (kind, store))
        });
        Inputs { stores: stores.collect() }
    }

    fn own_label(&self) -> String {
        format!("{}={}", labels::OPERATOR, self.settings.operator)
    }

    fn typed<K>(&mut self, labels: Option<String>) -> Arc<Store<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let client = self.client.clone();
        let api = move |namespace: Option<&str>| match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let kind = ApiKind::of::<K>();
        let store = self.feed(kind.clone(), api, labels);
        self.stores.insert(kind, Arc::clone(&store) as Arc<dyn WriteThrough>);
        store
    }

    fn dynamic<K>(&mut self, kind: ApiKind, labels: Option<String>) -> Arc<Store<K>>
    where
        K: Cached + Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let (client, resource) = (self.client.clone(), kind.resource());
        let api = move |namespace: Option<&str>| match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        self.feed(kind, api, labels)
    }

    fn feed<K>(
        &mut self,
        kind: ApiKind,
        api: impl Fn(Option<&str>) -> Api<DeserializeGuard<K>>,
        labels: Option<String>,
    ) -> Arc<Store<K>>
    where
        K: Cached,
        K::DynamicType: Clone + Debug + Eq + Hash + Unpin,
    {
        let store = Arc::new(Store::default());
        self.synced.push((kind.plural.clone(), store.synced()));
        let scopes = match self.settings.namespaces.as_slice() {
            [] => vec![(None, api(None))],
            namespaces => namespaces.iter().map(|ns| (Some(ns.clone()), api(Some(ns)))).collect(),
        };
        let relist = Arc::new(Notify::new());
        self.relists.push(Arc::clone(&relist));
        let source = store::Source { kind, scopes, labels, relist };
        self.feeds.push(Box::pin(store::feed(source, Arc::clone(&store))));
        store
    }

    /// Runs `reconciler` over the objects of `store`. The queue that is returned wakes further passes.
    pub fn control<R: Reconciler>(&mut self, reconciler: R, store: &Arc<Store<R::Resource>>) -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        wake(store, &queue, |object| vec![Key::of(object.meta())]);
        let (own_store, own_queue) = (Arc::clone(store), Arc::clone(&queue));
        self.wakers.push(Box::new(move || own_store.keys().into_iter().for_each(|key| own_queue.wake(key))));
        let (own_store, own_queue) = (Arc::clone(store), Arc::clone(&queue));
        self.controllers
            .push(Box::new(move |cx| Box::pin(Controller::new(reconciler, cx, own_store, own_queue).run())));
        queue
    }

    /// Runs everything until one part ends, which none should.
    pub async fn run(self, leading: watch::Receiver<bool>) -> anyhow::Result<()> {
        let (mut gained, mut relist) = (leading.clone(), self.relist.subscribe());
        let cx = Arc::new(Context {
            client: self.client,
            settings: self.settings,
            clock: self.clock,
            metrics: self.metrics,
            leading,
            stores: self.stores,
        });
        let mut tasks = JoinSet::new();
        for feed in self.feeds {
            tasks.spawn(feed);
        }
        for (_, mut synced) in self.synced {
            tokio::select! {
                _ = synced.wait_for(|synced| *synced) => {}
                Some(ended) = tasks.join_next() => return unexpected_end(ended),
            }
        }
        tracing::info!(operator = cx.settings.operator, "caches are complete");
        for controller in self.controllers {
            tasks.spawn(controller(Arc::clone(&cx)));
        }
        cx.metrics.leading.set(i64::from(*gained.borrow()));
        // One listener tells all parts in their order: receivers of their own would be woken in any order.
        loop {
            tokio::select! {
                biased;
                Ok(()) = gained.changed() => {
                    let leads = *gained.borrow_and_update();
                    cx.metrics.leading.set(i64::from(leads));
                    if leads {
                        self.wakers.iter().for_each(|wake| wake());
                    }
                }
                Ok(()) = relist.changed() => self.relists.iter().for_each(|feed| feed.notify_one()),
                ended = tasks.join_next() => match ended {
                    Some(ended) => return unexpected_end(ended),
                    None => bail!("the operator has nothing to do"),
                },
            }
        }
    }
}

fn unexpected_end(ended: Result<(), tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(()) => bail!("a part that should run for ever has ended"),
        Err(error) => Err(error).context("a part that should run for ever has failed"),
    }
}

impl Inputs {
    /// The input as the cache knows it.
    pub fn state(&self, namespace: &str, input: &NamedInput) -> InputState {
        let found = self.of(&input.from);
        InputState {
            name: input.name.clone(),
            from: input.from.clone(),
            kind: found.map(|(kind, _)| kind.clone()),
            object: found.and_then(|(_, store)| store.get(&Key::new(namespace, &input.from.name))),
        }
    }

    pub fn lookup(&self, namespace: &str, from: &ObjectRef) -> Option<Arc<InputObject>> {
        self.of(from).and_then(|(_, store)| store.get(&Key::new(namespace, &from.name)))
    }

    fn of(&self, from: &ObjectRef) -> Option<&InputStore> {
        self.stores.get(&(from.api_group.clone(), from.kind.clone()))
    }

    /// Wakes the dependents of an input when something that they decide on has changed.
    pub fn wake<K: Cached>(
        &self,
        dependents: &Arc<Store<K>>,
        queue: &Arc<Queue>,
        references: impl Fn(&K) -> Vec<ObjectRef> + Clone + Send + Sync + 'static,
    ) {
        for ((group, kind), (_, store)) in &self.stores {
            let (group, kind) = (group.clone(), kind.clone());
            let (dependents, queue) = (Arc::clone(dependents), Arc::clone(queue));
            let references = references.clone();
            store.listen(move |change| {
                let unchanged = match (&change.before, &change.after) {
                    (Some(before), Some(after)) => chain::signal(before) == chain::signal(after),
                    _ => false,
                };
                if unchanged {
                    return;
                }
                let wanted =
                    ObjectRef { api_group: group.clone(), kind: kind.clone(), name: change.key.name.clone() };
                let depends = |object: &K| references(object).contains(&wanted);
                for object in dependents.select(&change.key.namespace, depends) {
                    queue.wake(Key::of(object.meta()));
                }
            });
        }
    }
}

/// Wakes `queue` for the keys that `keys` names, on every change in `store`.
pub fn wake<K: Cached>(
    store: &Arc<Store<K>>,
    queue: &Arc<Queue>,
    keys: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = Arc::clone(queue);
    store.listen(move |change| {
        for key in change.object().into_iter().flat_map(|object| keys(object)) {
            queue.wake(key);
        }
    });
}

/// The key of the intent that a child belongs to, by its label, if the intent is of `kind`.
pub fn intent_key<K: Cached>(child: &K, kind: &str) -> Vec<Key> {
    let labels = child.meta().labels.as_ref();
    let label = |name: &str| labels.and_then(|all| all.get(name));
    match (label(labels::INTENT_KIND), label(labels::INTENT)) {
        (Some(of), Some(name)) if of == kind => {
            vec![Key::new(child.meta().namespace.clone().unwrap_or_default(), name)]
        }
        _ => Vec::new(),
    }
}

/// The key of the run that a pod or Job works for, by its label, if the run is of `kind`.
pub fn run_key<K: Cached>(child: &K, kind: &str) -> Vec<Key> {
    let labels = child.meta().labels.as_ref();
    let label = |name: &str| labels.and_then(|all| all.get(name));
    match (label(labels::RUN_KIND), label(labels::RUN)) {
        (Some(of), Some(name)) if of == kind => {
            vec![Key::new(child.meta().namespace.clone().unwrap_or_default(), name)]
        }
        _ => Vec::new(),
    }
}

/// An operator's `main`: reads flags, connects, holds the lease, answers probes, runs what `install` sets up, and
/// stops gracefully on SIGTERM.
///
/// # Errors
/// When it cannot start, or when a part that should run for ever ends.
pub async fn main(operator: &str, install: impl FnOnce(&mut Setup)) -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry::init(&args.log_level)?;
    let input_kinds = args.input_kinds.iter().filter(|text| !text.is_empty()).map(|text| text.parse());
    let settings = Settings {
        operator: operator.to_owned(),
        namespaces: args.namespaces.into_iter().filter(|ns| !ns.is_empty()).collect(),
        input_kinds: input_kinds.collect::<Result<_, String>>().map_err(anyhow::Error::msg)?,
        worker_image: args.worker_image,
    };
    let config = kube::Config::infer().await.context("no cluster: neither in a pod nor a kubeconfig")?;
    let client = client::connect(config)?;
    #[allow(clippy::disallowed_methods, reason = "the one place where an operator reads the clock")]
    let clock: Clock = Arc::new(jiff::Timestamp::now);

    let mut setup = Setup::new(client.clone(), settings, Arc::clone(&clock));
    install(&mut setup);
    let metrics = Arc::clone(&setup.metrics);
    let relist = setup.relist();
    let synced = setup.synced.clone();
    let waiting = move || synced.iter().filter(|(_, s)| !*s.borrow()).map(|(name, _)| name.clone()).collect();
    let probes = health::serve(args.health_address, Arc::clone(&metrics), waiting);

    let (leading, is_leading) = watch::channel(!args.leader_elect);
    let (stop, stopping) = watch::channel(false);
    let election = args.leader_elect.then(|| {
        let candidate = lease::Candidate {
            client,
            namespace: args.lease_namespace,
            name: operator.to_owned(),
            me: args.pod_name,
            clock,
            relist,
        };
        tokio::spawn(lease::elect(candidate, leading, stopping))
    });
    let result = tokio::select! {
        ended = setup.run(is_leading) => ended,
        ended = probes => ended.context("probes"),
        signal = terminated() => signal,
    };
    stop.send_replace(true);
    if let Some(election) = election {
        election.await.context("leader election")?;
    }
    result
}

async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("told to stop");
    Ok(())
}
