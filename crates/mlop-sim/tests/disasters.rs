//! What befalls a whole cluster, as clients see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Namespace, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams},
    client::Body,
    core::{ApiResource, GroupVersionKind, Status},
};
use mlop_sim::{
    Frames, ResponseBody, Service, Sim, conformance, controllers,
    kubelet::{self, PodOutcome},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}))
    .unwrap()
}

fn config_maps(sim: &Sim) -> Api<ConfigMap> {
    Api::namespaced(sim.client(), "default")
}

fn widgets(sim: &Sim) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("conformance.mlop.dev", "v1", "Widget"));
    Api::namespaced_with(sim.client(), "default", &resource)
}

fn widget(name: &str) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "conformance.mlop.dev/v1", "kind": "Widget",
        "metadata": {"name": name}, "spec": {"size": 1}}))
    .unwrap()
}

async fn watch<K>(api: &Api<K>, from: &str) -> Events<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    Box::pin(api.watch(&WatchParams::default().timeout(290), from).await.unwrap())
}

/// Longer than from one bookmark to the next.
const LISTEN: Duration = Duration::from_secs(61);

/// The next event as `TYPE name`, or `END`, or `SILENCE` for a while without one.
async fn next<K: ResourceExt>(events: &mut Events<K>) -> String {
    let Ok(event) = timeout(LISTEN, events.next()).await else { return "SILENCE".into() };
    match event.transpose().unwrap() {
        None => "END".into(),
        Some(WatchEvent::Added(object)) => format!("ADDED {}", object.name_any()),
        Some(WatchEvent::Modified(object)) => format!("MODIFIED {}", object.name_any()),
        Some(WatchEvent::Deleted(object)) => format!("DELETED {}", object.name_any()),
        Some(WatchEvent::Bookmark(bookmark)) => format!("BOOKMARK {}", bookmark.metadata.resource_version),
        Some(WatchEvent::Error(status)) => format!("ERROR {}", status.code),
    }
}

fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused: {other:?}"),
    }
}

fn names(sim: &Sim) -> Vec<String> {
    sim.list::<ConfigMap>().iter().map(ResourceExt::name_any).collect()
}

async fn until(sim: &Sim, mut holds: impl FnMut(&Sim) -> bool) {
    let polled = async {
        while !holds(sim) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(600), polled).await.expect("it becomes true");
}

fn phase(sim: &Sim, name: &str) -> String {
    let pod = sim.get::<Pod>("default", name);
    pod.and_then(|pod| pod.status?.phase).unwrap_or_else(|| "none".into())
}

#[tokio::test(start_paused = true)]
async fn a_restored_backup_shows_the_older_state_and_reuses_versions() {
    let sim = Sim::new();
    sim.create(&config_map("kept")).unwrap();
    sim.create(&config_map("deleted")).unwrap();
    let (backup, then) = (sim.snapshot(), sim.revision());
    let lost = sim.create(&config_map("lost")).unwrap();
    sim.delete::<ConfigMap>("default", "deleted").unwrap();
    sim.edit::<ConfigMap>("default", "kept", |map| map.data = Some([("k".into(), "v".into())].into()))
        .unwrap();

    sim.restore(&backup);
    assert_eq!(sim.revision(), then);
    let list = config_maps(&sim).list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version, Some(then.to_string()));
    let listed: Vec<_> = list.iter().map(|map| (map.name_any(), map.data.clone())).collect();
    assert_eq!(listed, [("deleted".into(), None), ("kept".into(), None)]);

    let new = sim.create(&config_map("new")).unwrap();
    assert_eq!(new.resource_version(), lost.resource_version());
    assert_ne!(new.uid(), lost.uid());
}

#[tokio::test(start_paused = true)]
async fn a_backup_can_be_restored_again() {
    let sim = Sim::new();
    let backup = sim.snapshot();
    for name in ["a", "b"] {
        sim.create(&config_map(name)).unwrap();
        assert_eq!(names(&sim), [name]);
        sim.restore(&backup);
        assert_eq!(names(&sim), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_ends_watches_and_a_resumed_one_is_silent_until_the_future_is_reached_again() {
    let sim = Sim::new();
    let api = config_maps(&sim);
    let (backup, then) = (sim.snapshot(), sim.revision().to_string());
    let mut events = watch(&api, &then).await;
    for name in ["a", "b"] {
        sim.create(&config_map(name)).unwrap();
    }
    assert_eq!([next(&mut events).await, next(&mut events).await], ["ADDED a", "ADDED b"]);
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    assert_eq!(next(&mut events).await, "END");

    let mut resumed = watch(&api, &lost).await;
    sim.create(&config_map("c")).unwrap();
    sim.create(&config_map("d")).unwrap();
    assert_eq!(next(&mut resumed).await, "SILENCE");
    sim.create(&config_map("e")).unwrap();
    assert_eq!(next(&mut resumed).await, "ADDED e");

    let mut from_backup = watch(&api, &then).await;
    let seen = [next(&mut from_backup).await, next(&mut from_backup).await, next(&mut from_backup).await];
    assert_eq!(seen, ["ADDED c", "ADDED d", "ADDED e"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_of_the_lost_future_gives_no_bookmarks() {
    let sim = Sim::new();
    let backup = sim.snapshot();
    for name in ["a", "b", "c"] {
        sim.create(&config_map(name)).unwrap();
    }
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    let mut resumed = watch(&config_maps(&sim), &lost).await;
    sim.create(&config_map("d")).unwrap();
    assert_eq!(next(&mut resumed).await, "SILENCE");
    assert_eq!(next(&mut resumed).await, "SILENCE");
    for name in ["e", "f", "g"] {
        sim.create(&config_map(name)).unwrap();
    }
    assert_eq!(next(&mut resumed).await, "ADDED g");
    assert_eq!(next(&mut resumed).await, format!("BOOKMARK {}", sim.revision()));
}

#[tokio::test(start_paused = true)]
async fn after_a_restore_versions_of_before_are_expired_and_those_of_the_lost_future_too_large() {
    let sim = Sim::new();
    let before = sim.revision().to_string();
    sim.create(&config_map("a")).unwrap();
    let backup = sim.snapshot();
    sim.create(&config_map("b")).unwrap();
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    let api = config_maps(&sim);
    assert_eq!(next(&mut watch(&api, &before).await).await, "ERROR 410");
    assert_eq!(refusal(api.list(&ListParams::default().at(&lost)).await).code, 504);
}

#[tokio::test(start_paused = true)]
async fn a_restore_brings_back_what_belongs_together() {
    let sim = Sim::new();
    sim.register_crd(&conformance::crd().unwrap()).unwrap();
    sim.set_quota("default", "configmaps", Some(1)).unwrap();
    widgets(&sim).create(&PostParams::default(), &widget("a")).await.unwrap();
    let backup = sim.snapshot();
    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    sim.set_quota("default", "configmaps", None).unwrap();
    sim.restore(&backup);
    assert_eq!(widgets(&sim).get("a").await.unwrap().data["spec"]["size"], 1);
    sim.create(&config_map("a")).unwrap();
    assert_eq!(sim.create(&config_map("b")).unwrap_err().code, 403);
}

#[tokio::test(start_paused = true)]
async fn the_kubelet_survives_a_restore() {
    let sim = Sim::new();
    let seconds = Duration::from_secs;
    kubelet::spawn(&sim, move |_| PodOutcome::succeed("done").running_for(seconds(20)));
    sim.create(&pod("ended")).unwrap();
    sim.create(&pod("forgotten")).unwrap();
    until(&sim, |sim| phase(sim, "ended") == "Running").await;
    let backup = sim.snapshot();
    until(&sim, |sim| phase(sim, "ended") == "Succeeded").await;
    let ended = sim.get::<Pod>("default", "ended").unwrap().status;
    sim.delete::<Pod>("default", "forgotten").unwrap();
    sim.create(&pod("lost")).unwrap();
    sleep(seconds(5)).await;

    sim.restore(&backup);
    sleep(seconds(1)).await;
    assert_eq!(sim.get::<Pod>("default", "ended").unwrap().status, ended, "it says again what it has said");
    assert_eq!(phase(&sim, "forgotten"), "Running");
    assert_eq!(phase(&sim, "lost"), "none");
    until(&sim, |sim| phase(sim, "forgotten") == "Succeeded").await;
    sim.delete::<Pod>("default", "ended").unwrap();
    until(&sim, |sim| phase(sim, "ended") == "none").await;
}

#[tokio::test(start_paused = true)]
async fn the_collector_survives_a_restore() {
    let sim = Sim::new();
    let owner = sim.create(&config_map("owner")).unwrap();
    let mut dependent = config_map("dependent");
    dependent.metadata.owner_references =
        Some(vec![owner_reference(&owner.name_any(), &owner.uid().unwrap())]);
    sim.create(&dependent).unwrap();
    sim.delete::<ConfigMap>("default", "owner").unwrap();
    let backup = sim.snapshot();
    until(&sim, |sim| names(sim).is_empty()).await;
    sim.restore(&backup);
    assert_eq!(names(&sim), ["dependent"]);
    until(&sim, |sim| names(sim).is_empty()).await;
}

fn owner_reference(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_type_takes_its_objects_along_and_is_not_found() {
    let sim = Sim::new();
    let crd = conformance::crd().unwrap();
    sim.register_crd(&crd).unwrap();
    let api = widgets(&sim);
    let mut held = widget("held");
    held.metadata.finalizers = Some(vec!["test.dev/hold".into()]);
    let owner = api.create(&PostParams::default(), &held).await.unwrap();
    let mut dependent = config_map("dependent");
    let mut reference = owner_reference("held", &owner.uid().unwrap());
    reference.api_version = "conformance.mlop.dev/v1".into();
    reference.kind = "Widget".into();
    dependent.metadata.owner_references = Some(vec![reference]);
    sim.create(&dependent).unwrap();
    let mut events = watch(&api, &sim.revision().to_string()).await;

    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    assert_eq!([next(&mut events).await, next(&mut events).await], ["DELETED held", "END"]);
    until(&sim, |sim| names(sim).is_empty()).await;
    let missing = refusal(api.list(&ListParams::default()).await);
    assert_eq!((missing.code, missing.message.as_str()), (404, "404 page not found"));
    assert_eq!(refusal(api.create(&PostParams::default(), &widget("b")).await).code, 404);
    assert_eq!(refusal(api.watch(&WatchParams::default(), "0").await.map(|_| ())).code, 404);
    assert!(sim.remove_crd("widgets", "conformance.mlop.dev").is_err());
    assert!(sim.remove_crd("configmaps", "").is_err(), "only custom types come and go");

    sim.register_crd(&crd).unwrap();
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items, []);
    api.create(&PostParams::default(), &widget("held")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_type_even_if_there_was_nothing_to_delete() {
    let sim = Sim::new();
    let crd = conformance::crd().unwrap();
    sim.register_crd(&crd).unwrap();
    let mut events = watch(&widgets(&sim), &sim.revision().to_string()).await;
    let mut others = watch(&config_maps(&sim), &sim.revision().to_string()).await;
    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    sim.register_crd(&crd).unwrap();
    assert_eq!(next(&mut events).await, "END");
    sim.create(&config_map("a")).unwrap();
    assert_eq!(next(&mut others).await, "ADDED a");
}

#[tokio::test(start_paused = true)]
async fn a_terminated_namespace_empties_and_goes() {
    let sim = Sim::new();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    sim.create(&namespace).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(sim.client(), "team");
    let mut held = config_map("held");
    held.metadata.finalizers = Some(vec!["test.dev/hold".into()]);
    for object in [&held, &config_map("free")] {
        api.create(&PostParams::default(), object).await.unwrap();
    }
    sim.create(&config_map("elsewhere")).unwrap();

    sim.terminate_namespace("team").unwrap();
    let refused = refusal(api.create(&PostParams::default(), &config_map("late")).await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being \
         terminated"
    );
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
    assert_eq!(cause.message, "namespace team is being terminated");

    sleep(Duration::from_secs(60)).await;
    assert_eq!(names(&sim), ["elsewhere", "held"]);
    assert!(sim.get::<Namespace>("", "team").is_some(), "a finalizer holds it");
    sim.edit::<ConfigMap>("team", "held", |map| map.metadata.finalizers = None).unwrap();
    until(&sim, |sim| sim.get::<Namespace>("", "team").is_none()).await;
    assert_eq!(names(&sim), ["elsewhere"]);
    let refused = refusal(api.create(&PostParams::default(), &config_map("later")).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"team\" not found"));
    assert!(sim.terminate_namespace("team").is_err());

    sim.create(&namespace).unwrap();
    api.create(&PostParams::default(), &config_map("later")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn running_pods_of_a_terminated_namespace_are_stopped() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::run_forever());
    sim.create(&pod("a")).unwrap();
    until(&sim, |sim| phase(sim, "a") == "Running").await;
    sim.terminate_namespace("default").unwrap();
    until(&sim, |sim| sim.get::<Namespace>("", "default").is_none()).await;
    assert_eq!(sim.count::<Pod>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quota_refuses_one_too_many() {
    let sim = Sim::new();
    sim.set_quota("default", "pods", Some(2)).unwrap();
    let api: Api<Pod> = Api::namespaced(sim.client(), "default");
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    for name in ["a", "c"] {
        let refused = refusal(api.create(&PostParams::default(), &pod(name)).await);
        assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
        assert_eq!(
            refused.message,
            format!(
                "pods \"{name}\" is forbidden: exceeded quota: quota, requested: pods=1, used: pods=2, limited: pods=2"
            ),
            "whether the name is free is asked later"
        );
    }
    let elsewhere: Api<Pod> = Api::namespaced(sim.client(), "kube-system");
    elsewhere.create(&PostParams::default(), &pod("c")).await.unwrap();
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    sim.create(&secret).unwrap();

    api.delete("a", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &pod("c")).await.unwrap();
    assert_eq!(refusal(api.create(&PostParams::default(), &pod("d")).await).code, 403);
    sim.set_quota("default", "pods", None).unwrap();
    api.create(&PostParams::default(), &pod("d")).await.unwrap();
    assert!(sim.set_quota("default", "teapots", None).is_err());
}

#[tokio::test(start_paused = true)]
async fn pods_that_have_ended_make_room() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed(""));
    sim.set_quota("default", "pods", Some(1)).unwrap();
    sim.create(&pod("a")).unwrap();
    assert_eq!(sim.create(&pod("b")).unwrap_err().code, 403);
    until(&sim, |sim| phase(sim, "a") == "Succeeded").await;
    sim.create(&pod("b")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_when_the_quota_lets_it() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed(""));
    controllers::spawn_jobs(&sim);
    sim.set_quota("default", "pods", Some(0)).unwrap();
    let job: Job = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}}}))
    .unwrap();
    sim.create(&job).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sim.count::<Pod>(), 0);
    sim.set_quota("default", "pods", None).unwrap();
    let succeeded = |sim: &Sim| sim.get::<Job>("default", "a").unwrap().status.unwrap().succeeded;
    until(&sim, |sim| succeeded(sim) == Some(1)).await;
}

/// A layer that records the frames of watches, and drops those that show `hidden`.
#[derive(Clone)]
struct Hiding {
    inner: Service,
    frames: tokio::sync::mpsc::UnboundedSender<bytes::Bytes>,
}

impl tower::Service<Request<Body>> for Hiding {
    type Response = Response<ResponseBody>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<kube::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        let (answer, frames) = (self.inner.call(request), self.frames.clone());
        Box::pin(async move {
            let (parts, body) = answer.await?.into_parts();
            if !is_watch {
                return Ok(Response::from_parts(parts, body));
            }
            let shown = body.filter(move |frame| {
                let line = frame.as_ref().unwrap().data_ref().unwrap().clone();
                let hidden = line.windows(6).any(|part| part == b"hidden");
                frames.send(line).unwrap();
                std::future::ready(!hidden)
            });
            let shown: Frames = Box::pin(shown);
            Ok(Response::from_parts(parts, ResponseBody::new(shown)))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn every_frame_of_a_watch_is_one_line() {
    let sim = Sim::new();
    let (frames, mut recorded) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::new(Hiding { inner: sim.service(), frames }, "default");
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    sim.create(&config_map("first")).unwrap();
    let mut events = watch(&api, "0").await;
    for name in ["hidden", "shown"] {
        let mut map = config_map(name);
        map.data = Some([("text".into(), "two\nlines\r\n".into())].into());
        sim.create(&map).unwrap();
    }
    sim.delete::<ConfigMap>("default", "shown").unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &String| event != "DELETED shown") {
        seen.push(next(&mut events).await);
    }
    seen.retain(|event| !event.starts_with("BOOKMARK"));
    assert_eq!(seen, ["ADDED first", "ADDED shown", "DELETED shown"]);
    // The bookmarks before the end, and the end.
    while next(&mut events).await != "END" {}
    sim.compact();
    assert_eq!(next(&mut watch(&api, "1001").await).await, "ERROR 410");

    drop((api, events));
    let mut kinds = Vec::new();
    while let Ok(frame) = recorded.try_recv() {
        let document = frame.strip_suffix(b"\n").expect("it ends its line");
        assert!(!document.contains(&b'\n'), "{frame:?}");
        let event: Value = serde_json::from_slice(document).unwrap();
        assert!(frame.starts_with(b"{\"type\":"), "the type comes first, as the real server has it");
        kinds.push(event["type"].as_str().unwrap().to_string());
    }
    kinds.dedup();
    assert_eq!(kinds, ["ADDED", "BOOKMARK", "ADDED", "DELETED", "BOOKMARK", "ERROR"]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_one_frame() {
    let sim = Sim::new();
    let request = Request::get("/api/v1/namespaces/default/configmaps").body(Body::empty()).unwrap();
    let mut body = tower::ServiceExt::oneshot(sim.service(), request).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let list: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(body.frame().await.is_none());
}
