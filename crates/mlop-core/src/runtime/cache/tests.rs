//! Events and answers that a cache accepts or ignores.

use super::*;
use crate::resource::PodView;

fn pod(name: &str, uid: &str, version: &str) -> PodView {
    let mut pod = PodView::default();
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(uid.into());
    pod.metadata.resource_version = Some(version.into());
    pod
}

fn version(cache: &Cache<PodView>, name: &str) -> Option<String> {
    cache.get(&Key::new("ns", name)).and_then(|pod| pod.metadata.resource_version.clone())
}

#[test]
fn older_event_does_not_undo_a_write() {
    let cache = Cache::default();
    cache.put(pod("a", "u", "5"));
    cache.put_written(pod("a", "u", "7"));
    cache.put(pod("a", "u", "6"));
    assert_eq!(version(&cache, "a").as_deref(), Some("7"));
}

#[test]
fn deletion_of_an_earlier_uid_keeps_the_new_object() {
    let cache = Cache::default();
    cache.put_written(pod("a", "new", "9"));
    cache.remove(&Key::new("ns", "a"), Some("old"));
    assert_eq!(version(&cache, "a").as_deref(), Some("9"));
}

#[test]
fn answer_to_a_deletion_does_not_restore_the_object() {
    let cache = Cache::default();
    let mut going = pod("a", "u", "9");
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
    going.metadata.deletion_timestamp = Some(now);
    cache.put_deleted(going.clone());
    assert_eq!(version(&cache, "a"), None);
    cache.put(pod("a", "u", "8"));
    cache.put_deleted(going);
    assert!(cache.get(&Key::new("ns", "a")).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()));
}

#[tokio::test(start_paused = true)]
async fn answer_to_a_create_does_not_restore_a_deleted_object() {
    let cache = Cache::default();
    cache.put(pod("a", "u", "8"));
    cache.remove(&Key::new("ns", "a"), Some("u"));
    cache.put_written(pod("a", "u", "8"));
    assert_eq!(version(&cache, "a"), None);
    cache.put_written(pod("a", "another", "11"));
    assert_eq!(version(&cache, "a").as_deref(), Some("11"));

    tokio::time::advance(TOMBSTONE_TTL * 2).await;
    cache.remove(&Key::new("ns", "a"), Some("another"));
    assert_eq!(
        cache.objects().tombstones.uids,
        BTreeSet::from(["another".to_owned()]),
        "old tombstones are dropped"
    );
}

#[test]
fn write_to_an_object_that_came_back_is_kept() {
    let cache = Cache::default();
    cache.put(pod("a", "u", "5"));
    cache.remove(&Key::new("ns", "a"), Some("u"));
    cache.put(pod("a", "u", "7"));
    cache.put_written(pod("a", "u", "8"));
    assert_eq!(version(&cache, "a").as_deref(), Some("8"), "its label was taken off and put back");
}

fn names(cache: &Cache<PodView>) -> Vec<String> {
    cache.keys().into_iter().map(|key| key.name).collect()
}

#[test]
fn list_removes_missing_objects_but_not_recent_writes() {
    let cache = Cache::default();
    cache.put(pod("gone", "1", "1"));
    cache.put(pod("kept", "2", "2"));
    cache.put_written(pod("ours-before", "3", "3"));
    cache.begin_list(None);
    cache.put_listed(pod("kept", "2", "2"));
    cache.put_written(pod("ours", "4", "4"));
    cache.end_list(&None);
    assert_eq!(names(&cache), ["kept", "ours"]);

    cache.end_list(&None);
    assert!(names(&cache).is_empty(), "a write counts only for the list it overlaps");
}

#[test]
fn list_of_another_namespace_removes_nothing() {
    let cache = Cache::default();
    cache.begin_list(Some("ns".into()));
    cache.put_written(pod("ours", "1", "1"));
    cache.begin_list(Some("other".into()));
    cache.end_list(&Some("other".into()));
    cache.end_list(&Some("ns".into()));
    assert_eq!(names(&cache), ["ours"]);
}

#[test]
fn older_version_counts_after_invalidation() {
    let cache = Cache::default();
    cache.put(pod("a", "u", "9"));
    cache.invalidate();
    cache.put(pod("a", "u", "4"));
    assert_eq!(version(&cache, "a").as_deref(), Some("4"));
}

#[test]
fn listener_is_called_once_per_change() {
    let cache = Cache::default();
    let heard = Arc::new(Mutex::new(0));
    let count = Arc::clone(&heard);
    cache.on_change(move |_: &Change<PodView>| *count.lock().unwrap() += 1);
    cache.put_written(pod("a", "u", "1"));
    cache.put(pod("a", "u", "1"));
    cache.remove(&Key::new("ns", "a"), Some("u"));
    assert_eq!(*heard.lock().unwrap(), 2);
}
