//! Caches of watched objects.
//!
//! A cache is fed by a watch and by our own writes: what the API server answered to a write is in the cache before
//! the pass ends, so that no controller acts on a state older than its own last write.

use super::{backoff, workqueue::Key};
use crate::resource::ApiKind;
use futures::{StreamExt, stream::SelectAll};
use kube::{
    Api, Resource,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A dead connection is noticed after this time at the latest; the default would be five minutes.
const WATCH_TIMEOUT_SECONDS: u32 = 45;
/// Objects per page when listing.
const PAGE_SIZE: u32 = 500;
/// After this time no answer to a write comes any more that the API server carried out before a deletion.
const ANSWERS_END: Duration = Duration::from_secs(60);

/// What happened to one object.
pub struct Change<K> {
    pub key: Key,
    pub before: Option<Arc<K>>,
    pub after: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object as it is, or as it was last.
    pub fn object(&self) -> Option<&Arc<K>> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind that the operator watches.
pub struct Cache<K> {
    objects: Mutex<Objects<K>>,
    listeners: Mutex<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
}

struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    /// What is there by the lists that are being received, each by its namespace (none: all). What we write meanwhile
    /// counts, too: the list may be older.
    lists: BTreeMap<Option<String>, BTreeSet<Key>>,
    /// What is known counts for nothing until everything has been listed again: the API server may have gone back.
    distrusted: bool,
    deleted: Deleted,
}

/// The uids of objects that were deleted lately: the answer to a write may come after the event of the deletion.
#[derive(Default)]
struct Deleted {
    uids: BTreeSet<String>,
    by_time: VecDeque<(Instant, String)>,
}

impl Deleted {
    fn insert(&mut self, uid: &str) {
        while let Some((_, old)) = self.by_time.pop_front_if(|(at, _)| at.elapsed() > ANSWERS_END) {
            self.uids.remove(&old);
        }
        if self.uids.insert(uid.to_owned()) {
            self.by_time.push_back((Instant::now(), uid.to_owned()));
        }
    }

    fn holds(&self, uid: Option<&String>) -> bool {
        uid.is_some_and(|uid| self.uids.contains(uid))
    }
}

impl<K> Objects<K> {
    fn note_as_there(&mut self, key: &Key) {
        for (scope, there) in &mut self.lists {
            if covers(scope.as_deref(), key) {
                there.insert(key.clone());
            }
        }
    }

    /// What was deleted may be there again, too.
    fn distrust(&mut self) {
        self.distrusted = true;
        self.deleted = Deleted::default();
    }
}

impl<K: Resource + Clone> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: Mutex::new(Objects {
                by_key: BTreeMap::new(),
                lists: BTreeMap::new(),
                distrusted: false,
                deleted: Deleted::default(),
            }),
            listeners: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Resource + Clone + Send + Sync + 'static> Cache<K> {
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects().by_key.get(key).cloned()
    }

    /// The objects of `namespace` that satisfy `filter`, by name.
    pub fn select(&self, namespace: &str, filter: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.objects();
        let from = Key::new(namespace, "");
        let in_namespace = objects.by_key.range(from..).take_while(|(key, _)| key.namespace == namespace);
        in_namespace.filter(|(_, object)| filter(object)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Key> {
        self.objects().by_key.keys().cloned().collect()
    }

    /// Calls `listener` after every change, from now on.
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Turns true when the first list has been received completely.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects<K>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the API server answered to one of our writes, unless the object was seen to be deleted meanwhile: no
    /// event would ever take it out again.
    pub fn put_written(&self, object: K) {
        let uid = object.meta().uid.clone();
        self.objects().note_as_there(&Key::of(object.meta()));
        self.put_if(object, |objects, _| !objects.deleted.holds(uid.as_ref()));
    }

    /// Takes in what the API server answered to a deletion. What is not known any more was gone before the answer came.
    fn put_deleted(&self, object: K) {
        let uid = object.meta().uid.clone();
        if object.meta().deletion_timestamp.is_some() {
            self.put_if(object, |_, known| known.is_some_and(|known| known.meta().uid == uid));
        }
    }

    fn put(&self, object: K) {
        self.put_if(object, |_, _| true);
    }

    fn put_if(&self, mut object: K, wanted: impl Fn(&Objects<K>, Option<&K>) -> bool) {
        object.meta_mut().managed_fields = None;
        let key = Key::of(object.meta());
        let after = Arc::new(object);
        let before = {
            let mut objects = self.objects();
            let trusted = !objects.distrusted;
            match objects.by_key.get(&key) {
                known if !wanted(&objects, known.map(AsRef::as_ref)) => return,
                Some(known) if trusted && !is_newer(after.meta(), known.meta()) => return,
                _ => objects.by_key.insert(key.clone(), Arc::clone(&after)),
            }
        };
        self.tell(&Change { key, before, after: Some(after) });
    }

    fn remove(&self, key: &Key, uid: Option<&str>) {
        let before = {
            let mut objects = self.objects();
            uid.into_iter().for_each(|uid| objects.deleted.insert(uid));
            match objects.by_key.get(key) {
                Some(known) if uid.is_none() || known.meta().uid.as_deref() == uid => {
                    objects.by_key.remove(key)
                }
                _ => None,
            }
        };
        if before.is_some() {
            self.tell(&Change { key: key.clone(), before, after: None });
        }
    }

    fn begin_list(&self, scope: Option<String>) {
        self.objects().lists.insert(scope, BTreeSet::new());
    }

    fn put_listed(&self, object: K) {
        self.objects().note_as_there(&Key::of(object.meta()));
        self.put(object);
    }

    /// Forgets what the list of `scope` does not hold. Without a list there is nothing.
    fn end_list(&self, scope: &Option<String>) {
        let gone: Vec<Key> = {
            let mut objects = self.objects();
            let there = objects.lists.remove(scope).unwrap_or_default();
            let gone = |key: &&Key| covers(scope.as_deref(), key) && !there.contains(*key);
            objects.by_key.keys().filter(gone).cloned().collect()
        };
        for key in gone {
            self.remove(&key, None);
        }
    }

    fn tell(&self, change: &Change<K>) {
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(change);
        }
    }
}

/// Resource versions of one kind are comparable numbers (Kubernetes 1.35 guarantees it; all before behaved so).
/// Another uid is another object and always counts.
fn is_newer(
    new: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    known: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> bool {
    let version = |text: &Option<String>| text.as_deref().and_then(|v| v.parse::<u64>().ok());
    match (version(&new.resource_version), version(&known.resource_version)) {
        (Some(new_version), Some(known_version)) if new.uid == known.uid => new_version > known_version,
        (Some(new_version), Some(known_version)) => new_version >= known_version,
        _ => true,
    }
}

/// Pauses of one watch after errors. A new try begins with an event of the watcher itself, so that it is no sign of
/// recovery: only time without errors is.
struct Pauses {
    seed: String,
    failures: u32,
    last: Option<Instant>,
}

impl Pauses {
    const FORGET_AFTER: Duration = Duration::from_secs(60);

    fn of(kind: &ApiKind) -> Self {
        Self { seed: kind.to_string(), failures: 0, last: None }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_some_and(|last| last.elapsed() > Self::FORGET_AFTER) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        Some(backoff::outage_delay(self.failures, &self.seed))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

/// The API of a kind in one namespace, or in all.
pub type Scoped<K> = (Option<String>, Api<DeserializeGuard<K>>);

/// What a store is fed from.
pub struct Source<K> {
    pub kind: ApiKind,
    /// One watch for each.
    pub scopes: Vec<Scoped<K>>,
    /// Only objects with these labels.
    pub labels: Option<String>,
    /// Told when the API server was away or went back: watches may stay silent for long, without an end or an error.
    pub relist: Arc<Notify>,
}

/// Feeds a store from the API server until the process ends. Restarts by itself; never returns.
pub async fn feed<K>(source: Source<K>, store: Arc<Cache<K>>)
where
    K: Cached,
    K::DynamicType: Clone,
{
    let Source { kind, scopes, labels, relist } = source;
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS).page_size(PAGE_SIZE);
    let config = match labels {
        Some(labels) => config.labels(&labels),
        None => config,
    };
    let start = || -> SelectAll<_> {
        let watches = scopes.iter().map(|(scope, api)| {
            let (scope, paced) =
                (scope.clone(), watcher(api.clone(), config.clone()).backoff(Pauses::of(&kind)));
            paced.map(move |event| (scope.clone(), event)).boxed()
        });
        watches.collect()
    };
    let all = || -> BTreeSet<Option<String>> { scopes.iter().map(|(scope, _)| scope.clone()).collect() };
    let (mut streams, mut pending) = (start(), all());
    loop {
        let (scope, event) = tokio::select! {
            biased;
            () = relist.notified() => {
                store.objects().distrust();
                (streams, pending) = (start(), all());
                continue;
            }
            Some(next) = streams.next() => next,
            else => return,
        };
        match event {
            Ok(Event::Init) => store.begin_list(scope),
            Ok(Event::InitApply(DeserializeGuard(object))) => {
                take_in(&store, &kind, object, Cache::put_listed);
            }
            Ok(Event::InitDone) => {
                store.end_list(&scope);
                pending.remove(&scope);
                if pending.is_empty() {
                    store.objects().distrusted = false;
                    store.synced.send_replace(true);
                }
            }
            Ok(Event::Apply(DeserializeGuard(object))) => {
                take_in(&store, &kind, object, Cache::put);
            }
            Ok(Event::Delete(DeserializeGuard(object))) => {
                let meta = match &object {
                    Ok(object) => object.meta(),
                    Err(invalid) => &invalid.metadata,
                };
                store.remove(&Key::of(meta), meta.uid.as_deref());
            }
            Err(error) => {
                tracing::warn!(kind = %kind, %error, "watch interrupted, it starts again");
                if is_not_served(&error) {
                    store.end_list(&scope);
                }
            }
        }
    }
}

/// Whether the API server does not know the kind: its objects went with it, and no event will tell of that any more.
fn is_not_served(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    matches!(error, InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) if status.code == 404)
}

fn take_in<K: Resource + Clone + Send + Sync + 'static>(
    store: &Cache<K>,
    kind: &ApiKind,
    object: Result<K, InvalidObject>,
    put: impl Fn(&Cache<K>, K),
) {
    match object {
        Ok(object) => put(store, object),
        Err(invalid) => {
            let key = Key::of(&invalid.metadata);
            tracing::warn!(kind = %kind, object = %key, error = %invalid.error, "stored object cannot be read and is passed over");
            store.remove(&key, None);
        }
    }
}

/// Whether an object belongs to the namespace of a watch (none: all).
fn covers(scope: Option<&str>, key: &Key) -> bool {
    scope.is_none_or(|namespace| key.namespace == namespace)
}

/// A store whose kind is forgotten.
pub trait WriteThrough: Send + Sync {
    /// Takes in a written object.
    fn put_written_json(&self, object: Value);
    /// Takes in an object that is being deleted.
    fn put_deleted_json(&self, object: Value);
    /// The object, if this store keeps objects whole.
    fn live_json(&self, key: &Key) -> Option<Value>;
}

impl<K: Cached> WriteThrough for Cache<K> {
    fn put_written_json(&self, object: Value) {
        match serde_json::from_value(object) {
            Ok(object) => self.put_written(object),
            Err(error) => {
                tracing::warn!(%error, "the answer to a write cannot be read; the watch will bring it")
            }
        }
    }

    fn put_deleted_json(&self, object: Value) {
        // The answer may be a Status, if nothing is left: the watch tells.
        if let Ok(object) = serde_json::from_value(object) {
            self.put_deleted(object);
        }
    }

    fn live_json(&self, key: &Key) -> Option<Value> {
        self.get(key).and_then(|object| object.whole())
    }
}

/// What a store can hold.
pub trait Cached: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// The whole object as JSON; none for projections that leave fields out.
    fn whole(&self) -> Option<Value> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::PodView;
    use kube::client::Body;
    use serde_json::json;
    use tower::BoxError;

    fn pod(name: &str, uid: &str, version: &str) -> PodView {
        let mut pod = PodView::default();
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.into());
        pod
    }

    fn version(store: &Cache<PodView>, name: &str) -> Option<String> {
        store.get(&Key::new("ns", name)).and_then(|pod| pod.metadata.resource_version.clone())
    }

    #[test]
    fn an_older_event_does_not_undo_our_own_write() {
        let store = Cache::default();
        store.put(pod("a", "u", "5"));
        store.put_written(pod("a", "u", "7"));
        store.put(pod("a", "u", "6"));
        assert_eq!(version(&store, "a").as_deref(), Some("7"));
    }

    #[test]
    fn a_deletion_of_an_earlier_object_does_not_remove_the_new_one() {
        let store = Cache::default();
        store.put_written(pod("a", "new", "9"));
        store.remove(&Key::new("ns", "a"), Some("old"));
        assert_eq!(version(&store, "a").as_deref(), Some("9"));
    }

    #[test]
    fn the_answer_to_a_deletion_does_not_bring_back_what_is_gone() {
        let store = Cache::default();
        let mut going = pod("a", "u", "9");
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        going.metadata.deletion_timestamp = Some(now);
        store.put_deleted(going.clone());
        assert_eq!(version(&store, "a"), None);
        store.put(pod("a", "u", "8"));
        store.put_deleted(going);
        assert!(store.get(&Key::new("ns", "a")).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_a_creation_does_not_bring_back_what_was_deleted_before_it_came() {
        let store = Cache::default();
        store.put(pod("a", "u", "8"));
        store.remove(&Key::new("ns", "a"), Some("u"));
        store.put_written(pod("a", "u", "8"));
        assert_eq!(version(&store, "a"), None);
        store.put_written(pod("a", "another", "11"));
        assert_eq!(version(&store, "a").as_deref(), Some("11"));

        tokio::time::advance(ANSWERS_END * 2).await;
        store.remove(&Key::new("ns", "a"), Some("another"));
        assert_eq!(
            store.objects().deleted.uids,
            BTreeSet::from(["another".to_owned()]),
            "nothing is kept for ever"
        );
    }

    fn names(store: &Cache<PodView>) -> Vec<String> {
        store.keys().into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn a_list_forgets_what_it_does_not_hold_but_not_what_we_wrote_meanwhile() {
        let store = Cache::default();
        store.put(pod("gone", "1", "1"));
        store.put(pod("kept", "2", "2"));
        store.put_written(pod("ours-before", "3", "3"));
        store.begin_list(None);
        store.put_listed(pod("kept", "2", "2"));
        store.put_written(pod("ours", "4", "4"));
        store.end_list(&None);
        assert_eq!(names(&store), ["kept", "ours"]);

        store.end_list(&None);
        assert!(names(&store).is_empty(), "a write counts for the list of its time only");
    }

    #[test]
    fn a_list_of_another_namespace_changes_nothing() {
        let store = Cache::default();
        store.begin_list(Some("ns".into()));
        store.put_written(pod("ours", "1", "1"));
        store.begin_list(Some("other".into()));
        store.end_list(&Some("other".into()));
        store.end_list(&Some("ns".into()));
        assert_eq!(names(&store), ["ours"]);
    }

    /// A server that has listed one pod and does not know the kind any more.
    async fn forgotten_kind(request: http::Request<Body>) -> Result<http::Response<Body>, BoxError> {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let pod = json!({"metadata": {"namespace": "ns", "name": "a", "uid": "u", "resourceVersion": "1"}});
        let (status, answer) = match watches {
            false => (200, json!({"metadata": {"resourceVersion": "1"}, "items": [pod]})),
            true => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
        };
        Ok(http::Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()))?)
    }

    #[tokio::test(start_paused = true)]
    async fn objects_of_a_kind_that_is_not_served_any_more_are_gone_written_or_not() {
        let client = kube::Client::new(tower::service_fn(forgotten_kind), "ns");
        let store: Arc<Cache<PodView>> = Arc::default();
        let source = Source {
            kind: ApiKind::of::<PodView>(),
            scopes: vec![(None, Api::all(client))],
            labels: None,
            relist: Arc::default(),
        };
        let changes = Arc::new(Notify::new());
        let told = Arc::clone(&changes);
        store.listen(move |_| told.notify_one());
        let emptied = async {
            store.synced().wait_for(|synced| *synced).await.unwrap();
            store.put_written(pod("b", "v", "2"));
            while !names(&store).is_empty() {
                changes.notified().await;
            }
        };
        tokio::select! {
            () = feed(source, Arc::clone(&store)) => unreachable!("a feed never ends"),
            outcome = tokio::time::timeout(Duration::from_secs(60), emptied) => outcome.unwrap(),
        }
    }

    #[test]
    fn after_the_server_went_back_an_older_version_counts() {
        let store = Cache::default();
        store.put(pod("a", "u", "9"));
        store.objects().distrust();
        store.put(pod("a", "u", "4"));
        assert_eq!(version(&store, "a").as_deref(), Some("4"));
    }

    #[test]
    fn listeners_hear_changes_once() {
        let store = Cache::default();
        let heard = Arc::new(Mutex::new(0));
        let count = Arc::clone(&heard);
        store.listen(move |_: &Change<PodView>| *count.lock().unwrap() += 1);
        store.put_written(pod("a", "u", "1"));
        store.put(pod("a", "u", "1"));
        store.remove(&Key::new("ns", "a"), Some("u"));
        assert_eq!(*heard.lock().unwrap(), 2);
    }
}
