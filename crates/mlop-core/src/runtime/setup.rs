//! The watches and controllers of an operator: filled in by its `install`, then run as one.

use super::{
    cache::{Cache, UnavailableScopes, WriteThrough},
    context::{Clock, Context, Settings},
    controller::{Controller, Reconciler},
    decoded::Decoded,
    events::{self, Recorder},
    health::Readiness,
    leader_election::Leading,
    leftovers::Leftovers,
    metrics::Metrics,
    reflector::{Source, reflect},
    tracer::Tracer,
    triggers::Controls,
    workqueue::Workqueue,
};
use crate::resource::{ApiKind, Cached, ChildObject};
use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, ClusterResourceScope, DynamicResourceScope, NamespaceResourceScope},
};
use mlop_api::labels;
use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt::Debug,
    hash::Hash,
    sync::Arc,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

/// The state of a watch, for probes.
#[derive(Clone)]
struct Watch {
    plural: String,
    synced: watch::Receiver<bool>,
    unavailable: watch::Receiver<UnavailableScopes>,
}

type Task = BoxFuture<'static, ()>;
/// The type of the cached objects, their kind, and the label selector of the watch.
type WatchId = (TypeId, ApiKind, Option<String>);

/// The watches and controllers of an operator.
pub struct Setup {
    client: Client,
    settings: Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    tracer: Option<Tracer>,
    relist: watch::Sender<u64>,
    /// One per reflector.
    relists: Vec<Arc<Notify>>,
    /// Each enqueues all objects of one controller.
    resyncs: Vec<Box<dyn Fn() + Send>>,
    /// All caches, each an `Arc<Cache<K>>`.
    caches: BTreeMap<WatchId, Box<dyn Any + Send>>,
    write_through: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
    reflectors: Vec<Task>,
    watches: Vec<Watch>,
    controllers: Vec<Box<dyn FnOnce(Arc<Context>) -> Task + Send>>,
}

impl Setup {
    pub fn new(client: Client, settings: Settings, clock: Clock) -> Self {
        Self {
            client,
            settings,
            clock,
            metrics: Arc::default(),
            tracer: None,
            relist: watch::Sender::new(0),
            relists: Vec::new(),
            resyncs: Vec::new(),
            caches: BTreeMap::new(),
            write_through: BTreeMap::new(),
            reflectors: Vec::new(),
            watches: Vec::new(),
            controllers: Vec::new(),
        }
    }

    /// Reports into `metrics`, which has begun to count.
    pub(crate) fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Gives the spans of reconciles to `tracer`.
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer: Some(tracer), ..self }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads the state of all watches.
    pub(crate) fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let watches = self.watches.clone();
        move || {
            let unsynced = watches.iter().filter(|watch| !*watch.synced.borrow());
            let unavailable = watches.iter().flat_map(|watch| {
                let scopes = watch.unavailable.borrow();
                let texts = scopes.iter().map(|(scope, why)| match scope {
                    Some(namespace) => format!("{} in {namespace}: {why}", watch.plural),
                    None => format!("{}: {why}", watch.plural),
                });
                texts.collect::<Vec<_>>()
            });
            Readiness {
                unsynced: unsynced.map(|watch| watch.plural.clone()).collect(),
                unavailable: unavailable.collect(),
            }
        }
    }

    /// The sender by which leader election orders a new list of everything.
    pub fn relist(&self) -> watch::Sender<u64> {
        self.relist.clone()
    }

    /// Watches all objects of a kind. Watching it again gives the same cache.
    pub fn watch<K>(&mut self) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.watch_typed(None, |_| ())
    }

    /// Watches all objects of a kind without namespaces.
    pub fn watch_cluster<K>(&mut self) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        let (client, kind) = (self.client.clone(), ApiKind::of::<K>());
        let scopes = vec![(None, Api::all(client))];
        let cache = self.reflect(kind.clone(), scopes, None, |_| ());
        self.write_through.insert(kind, Arc::clone(&cache) as Arc<dyn WriteThrough>);
        cache
    }

    /// Watches all objects of a kind without the parts that `project` drops.
    pub(crate) fn watch_projected<K>(&mut self, project: fn(&mut K)) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.watch_typed(None, project)
    }

    /// Watches the objects of a kind that this operator has created.
    pub fn watch_own<K>(&mut self) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.watch_typed(Some(self.own_label()), |_| ())
    }

    /// Watches the children of a kind that this operator applies.
    pub fn watch_children<K>(&mut self) -> Arc<Cache<ChildObject>>
    where
        K: Resource<DynamicType = ()>,
    {
        let kind = ApiKind::of::<K>();
        let cache = self.watch_selected(kind.clone(), Some(self.own_label()));
        self.write_through.insert(kind, Arc::clone(&cache) as Arc<dyn WriteThrough>);
        cache
    }

    /// Watches all objects of a kind that is known at run time only.
    pub(crate) fn watch_dynamic<K>(&mut self, kind: ApiKind) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        self.watch_selected(kind, None)
    }

    fn own_label(&self) -> String {
        format!("{}={}", labels::OPERATOR, self.settings.operator)
    }

    fn watch_typed<K>(&mut self, labels: Option<String>, project: fn(&mut K)) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let client = self.client.clone();
        let api = move |namespace: Option<&str>| match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let (kind, scopes) = (ApiKind::of::<K>(), self.scopes(api));
        let cache = self.reflect(kind.clone(), scopes, labels, project);
        self.write_through.insert(kind, Arc::clone(&cache) as Arc<dyn WriteThrough>);
        cache
    }

    fn watch_selected<K>(&mut self, kind: ApiKind, labels: Option<String>) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let (client, resource) = (self.client.clone(), kind.resource());
        let api = move |namespace: Option<&str>| match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let scopes = self.scopes(api);
        self.reflect(kind, scopes, labels, |_| ())
    }

    /// The namespaces (none: all) that the operator works in, each with its API.
    fn scopes<K>(&self, api: impl Fn(Option<&str>) -> Api<K>) -> Vec<(Option<String>, Api<K>)> {
        match self.settings.namespaces.as_slice() {
            [] => vec![(None, api(None))],
            namespaces => namespaces.iter().map(|ns| (Some(ns.clone()), api(Some(ns)))).collect(),
        }
    }

    /// The cache of these objects, fed by a reflector.
    fn reflect<K>(
        &mut self,
        kind: ApiKind,
        scopes: Vec<(Option<String>, Api<Decoded<K>>)>,
        labels: Option<String>,
        project: fn(&mut K),
    ) -> Arc<Cache<K>>
    where
        K: Cached,
        K::DynamicType: Clone + Debug + Eq + Hash + Unpin,
    {
        let id = (TypeId::of::<K>(), kind.clone(), labels.clone());
        if let Some(cache) = self.caches.get(&id).and_then(|cache| cache.downcast_ref::<Arc<Cache<K>>>()) {
            return Arc::clone(cache);
        }
        let cache = Arc::new(Cache::new(project));
        self.caches.insert(id, Box::new(Arc::clone(&cache)));
        self.watches.push(Watch {
            plural: kind.plural.clone(),
            synced: cache.synced(),
            unavailable: cache.unavailable_scopes(),
        });
        let relist = Arc::new(Notify::new());
        self.relists.push(Arc::clone(&relist));
        let source = Source { kind, scopes, labels, relist, metrics: Arc::clone(&self.metrics) };
        self.reflectors.push(Box::pin(reflect(source, Arc::clone(&cache))));
        cache
    }

    /// Reconciles the objects of a cache. The returned [`Controls`] add triggers.
    pub fn control<R: Reconciler>(
        &mut self,
        reconciler: R,
        objects: &Arc<Cache<R::Resource>>,
    ) -> Controls<R::Resource> {
        let queue = Arc::new(Workqueue::default());
        let controls = Controls::new(objects, &queue);
        let (own_objects, own_queue) = (Arc::clone(objects), Arc::clone(&queue));
        self.resyncs
            .push(Box::new(move || own_objects.keys().into_iter().for_each(|key| own_queue.enqueue(key))));
        self.metrics.count_objects(ApiKind::of::<R::Resource>().kind, Arc::clone(objects));
        let objects = Arc::clone(objects);
        self.controllers
            .push(Box::new(move |cx| Box::pin(Controller::new(reconciler, cx, objects, queue).run())));
        controls
    }

    /// Runs everything until one part ends, which none should.
    ///
    /// # Errors
    /// When a part ends or panics.
    pub async fn run(self, leading: watch::Receiver<Leading>) -> anyhow::Result<()> {
        let (mut gained, mut relist) = (leading.clone(), self.relist.subscribe());
        let (events, queued) = Recorder::new();
        let cx = Arc::new(Context {
            client: self.client,
            settings: self.settings,
            clock: self.clock,
            metrics: self.metrics,
            leading,
            stores: self.write_through,
            leftovers: Leftovers::default(),
            events,
            tracer: self.tracer,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(events::write(cx.client.clone(), queued, Arc::clone(&cx.metrics)));
        for reflector in self.reflectors {
            tasks.spawn(reflector);
        }
        for mut watch in self.watches {
            tokio::select! {
                _ = watch.synced.wait_for(|synced| *synced) => {}
                Some(ended) = tasks.join_next() => return unexpected_end(ended),
            }
        }
        tracing::info!(operator = cx.settings.operator, "caches are synced");
        for controller in self.controllers {
            tasks.spawn(controller(Arc::clone(&cx)));
        }
        cx.metrics.leading.set(i64::from(gained.borrow().is_some()));
        // One listener notifies all parts in their order. With a receiver each, they would run in any order.
        loop {
            tokio::select! {
                biased;
                Ok(()) = gained.changed() => {
                    let leads = gained.borrow_and_update().is_some();
                    cx.metrics.leading.set(i64::from(leads));
                    if leads {
                        self.resyncs.iter().for_each(|resync| resync());
                    }
                }
                Ok(()) = relist.changed() => self.relists.iter().for_each(|reflector| reflector.notify_one()),
                ended = tasks.join_next() => match ended {
                    Some(ended) => return unexpected_end(ended),
                    None => bail!("the operator has no watches and no controllers"),
                },
            }
        }
    }
}

fn unexpected_end(ended: Result<(), tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(()) => bail!("a part of the operator has ended"),
        Err(error) => Err(error).context("a part of the operator has failed"),
    }
}
