//! What an operator watches and which controllers run, filled in by its `install` and then run as one.

use super::{
    cache::{self, Cache, Cached, WriteThrough},
    context::{Clock, Context, Settings},
    controller::{Controller, Reconciler},
    metrics::Metrics,
    triggers,
    workqueue::{Key, Workqueue},
};
use crate::resource::{ApiKind, ChildObject};
use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DeserializeGuard, DynamicResourceScope, NamespaceResourceScope},
};
use mlop_api::labels;
use std::{collections::BTreeMap, fmt::Debug, hash::Hash, sync::Arc};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

type Task = BoxFuture<'static, ()>;

/// What an operator consists of: filled in by its `install`, then run.
pub struct Setup {
    client: Client,
    settings: Settings,
    clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    relist: watch::Sender<u64>,
    /// One for each feed.
    relists: Vec<Arc<Notify>>,
    /// Each wakes all objects of one controller.
    wakers: Vec<Box<dyn Fn() + Send>>,
    stores: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
    feeds: Vec<Task>,
    pub(crate) synced: Vec<(String, watch::Receiver<bool>)>,
    controllers: Vec<Box<dyn FnOnce(Arc<Context>) -> Task + Send>>,
}

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

    /// Where [`leader_election::elect`] says that everything has to be listed anew.
    pub fn relist(&self) -> watch::Sender<u64> {
        self.relist.clone()
    }

    /// Watches all objects of a kind.
    pub fn watch<K>(&mut self) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.typed(None)
    }

    /// Watches the objects of a kind that this operator has made.
    pub fn watch_own<K>(&mut self) -> Arc<Cache<K>>
    where
        K: Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.typed(Some(self.own_label()))
    }

    /// Watches the children of a kind that this operator applies.
    pub fn watch_children<K>(&mut self) -> Arc<Cache<ChildObject>>
    where
        K: Resource<DynamicType = ()>,
    {
        let kind = ApiKind::of::<K>();
        let store = self.dynamic(kind.clone(), Some(self.own_label()));
        self.stores.insert(kind, Arc::clone(&store) as Arc<dyn WriteThrough>);
        store
    }

    fn own_label(&self) -> String {
        format!("{}={}", labels::OPERATOR, self.settings.operator)
    }

    fn typed<K>(&mut self, labels: Option<String>) -> Arc<Cache<K>>
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

    /// Watches the objects of a kind that is known at run time only.
    pub(crate) fn dynamic<K>(&mut self, kind: ApiKind, labels: Option<String>) -> Arc<Cache<K>>
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
    ) -> Arc<Cache<K>>
    where
        K: Cached,
        K::DynamicType: Clone + Debug + Eq + Hash + Unpin,
    {
        let store = Arc::new(Cache::default());
        self.synced.push((kind.plural.clone(), store.synced()));
        let scopes = match self.settings.namespaces.as_slice() {
            [] => vec![(None, api(None))],
            namespaces => namespaces.iter().map(|ns| (Some(ns.clone()), api(Some(ns)))).collect(),
        };
        let relist = Arc::new(Notify::new());
        self.relists.push(Arc::clone(&relist));
        let source = cache::Source { kind, scopes, labels, relist };
        self.feeds.push(Box::pin(cache::feed(source, Arc::clone(&store))));
        store
    }

    /// Runs `reconciler` over the objects of `store`. The queue that is returned wakes further passes.
    pub fn control<R: Reconciler>(
        &mut self,
        reconciler: R,
        store: &Arc<Cache<R::Resource>>,
    ) -> Arc<Workqueue> {
        let queue = Arc::new(Workqueue::default());
        triggers::wake(store, &queue, |object| vec![Key::of(object.meta())]);
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
