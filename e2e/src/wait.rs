//! Waits for a state, by a watch with a time limit.

use crate::state::Kind;
use anyhow::{Context as _, Result, bail};
use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::pin, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Waits until `reached` accepts the object `name`, and returns it. `what` describes the state in the error.
///
/// # Errors
/// `limit` has passed; with the last conditions of the object.
pub async fn until<K: Kind>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    reached: impl FnMut(&K) -> bool,
) -> Result<K> {
    let last = match until_or_last(api, name, limit, reached).await {
        Ok(object) => return Ok(object),
        Err(last) => last,
    };
    let state = last.map_or_else(|| "it does not exist".to_owned(), |object| object.describe());
    bail!("{} {name}: not {what} within {} s\n{state}", K::kind(&()), limit.as_secs())
}

/// The same for an object of any kind. Its last state is the error.
///
/// # Errors
/// `limit` has passed.
pub async fn until_or_last<K>(
    api: &Api<K>,
    name: &str,
    limit: Duration,
    mut reached: impl FnMut(&K) -> bool,
) -> Result<K, Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut last = None;
    let watch = watcher::watch_object(api.clone(), name).default_backoff();
    let found = first(watch, limit, |object| {
        let hit = object.as_ref().is_some_and(&mut reached);
        last.clone_from(object);
        hit
    });
    found.await.flatten().ok_or(last)
}

/// Waits until no object matches `config`.
///
/// # Errors
/// `limit` has passed; with the names of the remaining objects.
pub async fn until_gone<K>(api: &Api<K>, config: watcher::Config, what: &str, limit: Duration) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut left = Vec::new();
    let found = first(names(api.clone(), config), limit, |names| {
        left.clone_from(names);
        names.is_empty()
    });
    match found.await {
        Some(_) => Ok(()),
        None => bail!("{what}: these still exist after {} s: {}", limit.as_secs(), left.join(", ")),
    }
}

/// Waits until `reached` accepts an object that matches `config`, and returns it.
///
/// # Errors
/// `limit` has passed.
pub async fn until_any<K>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    limit: Duration,
    mut reached: impl FnMut(&K) -> bool,
) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let watch = watcher::watcher(api.clone(), config).default_backoff().applied_objects();
    let found = first(watch, limit, |object| reached(object)).await;
    found.with_context(|| format!("no {what} within {} s", limit.as_secs()))
}

/// The names of all matching objects, after each change.
fn names<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<Vec<String>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    use std::collections::BTreeSet;
    use watcher::Event;
    let events = watcher::watcher(api, config).default_backoff().boxed();
    stream::unfold((events, BTreeSet::new(), false), |(mut events, mut known, mut listed)| async move {
        loop {
            match events.next().await? {
                Ok(Event::Init) => {
                    known.clear();
                    listed = false;
                }
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    known.extend(object.meta().name.clone());
                }
                Ok(Event::InitDone) => listed = true,
                Ok(Event::Delete(object)) => {
                    known.retain(|name| Some(name) != object.meta().name.as_ref());
                }
                Err(error) => return Some((Err(error), (events, known, listed))),
            }
            if listed {
                return Some((Ok(known.iter().cloned().collect()), (events, known, listed)));
            }
        }
    })
}

/// The first item that `wanted` accepts. Errors are ignored, because the backoff of a watch restarts it.
async fn first<T>(
    items: impl Stream<Item = watcher::Result<T>>,
    limit: Duration,
    mut wanted: impl FnMut(&T) -> bool,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut items = pin!(items);
    loop {
        match timeout_at(deadline, items.next()).await.ok()?? {
            Ok(item) if wanted(&item) => return Some(item),
            _ => {}
        }
    }
}
