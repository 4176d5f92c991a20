//! Feeds a cache from the watches of its kind.

use super::{
    backoff::WatchBackoff,
    cache::Cache,
    decoded::{Decoded, Unreadable},
    error::watch_words,
    metrics::{KindLabel, Metrics},
    workqueue::Key,
};
use crate::resource::{ApiKind, Cached, Unavailable};
use futures::{StreamExt, stream::SelectAll};
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::Notify;

/// A dead connection is noticed within this time. The default is five minutes.
const WATCH_TIMEOUT_SECONDS: u32 = 45;
/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// The API of a kind in one namespace, or in all.
pub(crate) type Scoped<K> = (Option<String>, Api<Decoded<K>>);

/// The watches that feed a cache.
pub(crate) struct Source<K> {
    pub kind: ApiKind,
    /// One watch for each.
    pub scopes: Vec<Scoped<K>>,
    /// Label selector.
    pub labels: Option<String>,
    /// Notified when the API server was out of reach or restored: a watch may then stay silent without an error.
    pub relist: Arc<Notify>,
    pub metrics: Arc<Metrics>,
}

/// Feeds `cache` until the process ends. Failed watches restart; the function never returns.
pub(crate) async fn reflect<K>(source: Source<K>, cache: Arc<Cache<K>>)
where
    K: Cached,
    K::DynamicType: Clone,
{
    let Source { kind, scopes, labels, relist, metrics } = source;
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS).page_size(PAGE_SIZE);
    let config = match labels {
        Some(labels) => config.labels(&labels),
        None => config,
    };
    let start = || -> SelectAll<_> {
        let watches = scopes.iter().map(|(scope, api)| {
            let (scope, paced) =
                (scope.clone(), watcher(api.clone(), config.clone()).backoff(WatchBackoff::of(&kind)));
            paced.map(move |event| (scope.clone(), event)).boxed()
        });
        watches.collect()
    };
    let all = || -> BTreeSet<Option<String>> { scopes.iter().map(|(scope, _)| scope.clone()).collect() };
    let (mut streams, mut pending) = (start(), all());
    let (label, mut counted) = (KindLabel { kind: kind.kind.clone() }, 0);
    loop {
        let (scope, event) = tokio::select! {
            biased;
            () = relist.notified() => {
                cache.invalidate();
                (streams, pending) = (start(), all());
                continue;
            }
            Some(next) = streams.next() => next,
            else => return,
        };
        let listed = match &event {
            Ok(Event::InitDone) => Some(None),
            Err(error) => unavailable(error).map(Some),
            Ok(_) => None,
        };
        take_in(&cache, &kind, scope.clone(), event);
        // A kind or a namespace that is absent counts as listed, so that the others do not wait for it.
        if let Some(why) = listed {
            cache.set_unavailable(&scope, why);
            metrics.set_unavailable(&kind.plural, scope.as_deref(), why);
            pending.remove(&scope);
            if pending.is_empty() {
                cache.end_sync();
            }
        }
        // A kind may have two caches: its own, and that of inputs.
        let objects = i64::try_from(cache.len()).unwrap_or(i64::MAX);
        metrics.cached.get_or_create(&label).inc_by(objects - counted);
        counted = objects;
    }
}

fn take_in<K: Cached>(
    cache: &Cache<K>,
    kind: &ApiKind,
    scope: Option<String>,
    event: watcher::Result<Event<Decoded<K>>>,
) {
    match event {
        Ok(Event::Init) => cache.begin_list(scope),
        Ok(Event::InitDone) => cache.end_list(&scope),
        Ok(Event::InitApply(Decoded(object))) => put(cache, kind, object, Cache::put_listed),
        Ok(Event::Apply(Decoded(object))) => put(cache, kind, object, Cache::put),
        Ok(Event::Delete(Decoded(object))) => {
            let meta = match &object {
                Ok(object) => object.meta(),
                Err(unreadable) => &unreadable.metadata,
            };
            cache.remove(&Key::of(meta), meta.uid.as_deref());
        }
        Err(error) => {
            tracing::warn!(kind = %kind, error = watch_words(&error), "watch failed; restarting it");
            // The objects of a kind that is not served are gone with it, and no event reports that. Those that may not be
            // listed may exist.
            if unavailable(&error) == Some(Unavailable::NotServed) {
                cache.end_list(&scope);
            }
        }
    }
}

/// Whether the error says that the objects cannot be listed for now.
fn unavailable(error: &watcher::Error) -> Option<Unavailable> {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => {
            match status.code {
                404 => Some(Unavailable::NotServed),
                403 => Some(Unavailable::Forbidden),
                _ => None,
            }
        }
        _ => None,
    }
}

fn put<K: Cached>(
    cache: &Cache<K>,
    kind: &ApiKind,
    object: Result<K, Unreadable>,
    put: impl Fn(&Cache<K>, K),
) {
    match object {
        Ok(object) => put(cache, object),
        Err(Unreadable { metadata, error }) => {
            let key = Key::of(&metadata);
            tracing::warn!(kind = %kind, namespace = key.namespace, name = key.name, error, "cannot read a stored object; ignoring it");
            cache.remove(&key, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::PodView;
    use kube::client::Body;
    use serde_json::json;
    use std::{
        sync::atomic::{AtomicU16, Ordering},
        time::Duration,
    };
    use tower::BoxError;

    /// A server that lists one pod and refuses to watch its kind.
    async fn refuse_watch(request: http::Request<Body>) -> Result<http::Response<Body>, BoxError> {
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let pod = json!({"metadata": {"namespace": "ns", "name": "a", "uid": "u", "resourceVersion": "1"}});
        let (status, answer) = match watches {
            false => (200, json!({"metadata": {"resourceVersion": "1"}, "items": [pod]})),
            true => (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})),
        };
        Ok(http::Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()))?)
    }

    #[tokio::test(start_paused = true)]
    async fn objects_are_removed_when_their_kind_is_no_longer_served() {
        let client = kube::Client::new(tower::service_fn(refuse_watch), "ns");
        let cache: Arc<Cache<PodView>> = Arc::default();
        let source = Source {
            kind: ApiKind::of::<PodView>(),
            scopes: vec![(None, Api::all(client))],
            labels: None,
            relist: Arc::default(),
            metrics: Arc::default(),
        };
        let changes = Arc::new(Notify::new());
        let notify = Arc::clone(&changes);
        cache.on_change(move |_| notify.notify_one());
        let emptied = async {
            cache.synced().wait_for(|synced| *synced).await.unwrap();
            let mut pod = PodView::default();
            pod.metadata.namespace = Some("ns".into());
            pod.metadata.name = Some("b".into());
            pod.metadata.uid = Some("v".into());
            pod.metadata.resource_version = Some("2".into());
            cache.put_written(pod);
            while !cache.keys().is_empty() {
                changes.notified().await;
            }
        };
        tokio::select! {
            () = reflect(source, Arc::clone(&cache)) => unreachable!("a reflector never ends"),
            outcome = tokio::time::timeout(Duration::from_secs(60), emptied) => outcome.unwrap(),
        }
    }

    /// A client whose lists of namespace `b` have the status `code`. Those of `a` and accepted ones have one pod.
    fn listing(code: &Arc<AtomicU16>) -> kube::Client {
        let code = Arc::clone(code);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let code = Arc::clone(&code);
            async move {
                if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                    return std::future::pending::<Result<_, BoxError>>().await;
                }
                let namespace = if request.uri().path().contains("/b/") { "b" } else { "a" };
                let status = if namespace == "b" { code.load(Ordering::Relaxed) } else { 200 };
                let pod = json!({"metadata": {"namespace": namespace, "name": "p", "uid": namespace, "resourceVersion": "1"}});
                let answer = match status {
                    200 => json!({"metadata": {"resourceVersion": "1"}, "items": [pod]}),
                    code => json!({"kind": "Status", "status": "Failure", "code": code}),
                };
                Ok(http::Response::builder()
                    .status(status)
                    .body(Body::from(answer.to_string().into_bytes()))?)
            }
        });
        kube::Client::new(service, "a")
    }

    #[tokio::test(start_paused = true)]
    async fn absent_namespace_counts_as_empty_until_it_is_there() {
        for (status, why) in [(404, Unavailable::NotServed), (403, Unavailable::Forbidden)] {
            let code = Arc::new(AtomicU16::new(status));
            let client = listing(&code);
            let scope =
                |namespace: &str| (Some(namespace.to_owned()), Api::namespaced(client.clone(), namespace));
            let cache: Arc<Cache<PodView>> = Arc::default();
            let relist = Arc::new(Notify::new());
            let source = Source {
                kind: ApiKind::of::<PodView>(),
                scopes: vec![scope("a"), scope("b")],
                labels: None,
                relist: Arc::clone(&relist),
                metrics: Arc::default(),
            };
            let metrics = Arc::clone(&source.metrics);
            let changes = Arc::new(Notify::new());
            let notify = Arc::clone(&changes);
            cache.on_availability(move || notify.notify_one());
            let namespaces = || cache.keys().into_iter().map(|key| key.namespace).collect::<Vec<_>>();
            let told =
                || metrics.render().contains("mlop_watch_unavailable{resource=\"pods\",namespace=\"b\"} 1");
            let story = async {
                cache.synced().wait_for(|synced| *synced).await.unwrap();
                assert_eq!((cache.unavailable("b"), cache.unavailable("a")), (Some(why), None), "{status}");
                assert_eq!((namespaces(), told()), (vec!["a".to_owned()], true), "{status}");
                changes.notified().await;

                code.store(200, Ordering::Relaxed);
                changes.notified().await;
                assert_eq!((cache.unavailable("b"), told()), (None, false), "{status}");
                assert_eq!(namespaces(), ["a", "b"], "{status}");

                code.store(status, Ordering::Relaxed);
                relist.notify_one();
                changes.notified().await;
                let known = namespaces().contains(&"b".to_owned());
                assert_eq!(
                    known,
                    why == Unavailable::Forbidden,
                    "objects of a kind that is not served are gone"
                );
            };
            tokio::select! {
                () = reflect(source, Arc::clone(&cache)) => unreachable!("a reflector never ends"),
                outcome = tokio::time::timeout(Duration::from_secs(60), story) => outcome.unwrap(),
            }
        }
    }
}
