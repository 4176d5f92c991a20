//! Writes carry their preconditions, and refusals are told apart.

use super::server::{Answer, Sent, Server, accept, context, forecast, refuse};
use crate::{
    Cache, Error, Key, Plan,
    children::{
        meta::{child_labels, child_meta},
        service::service,
    },
    plan::{Apply, Delete},
    resource::{ApiKind, ChildObject, PodView},
    runtime::{
        cache::WriteThrough,
        execute::{Subject, execute},
    },
    testing::NS,
};
use k8s_openapi::api::core::v1::{Pod, Service};
use mlop_api::{Reason, labels};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Carries out a plan of the intent `a` on a server with these answers.
async fn carry_out(
    plan: &Plan<Value>,
    answer: impl Fn(&Sent) -> Answer + Send + Sync + 'static,
) -> (Result<(), Error>, Arc<Server>) {
    let (server, client) = Server::start(answer);
    let (cx, _leads) = context(client, BTreeMap::new());
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    (execute(&cx, &subject, plan, cx.guard()).await, server)
}

fn pod() -> Pod {
    Pod { metadata: child_meta(&forecast(), "a-1".to_owned(), []), ..Default::default() }
}

fn creation() -> Plan<Value> {
    Plan::idle().create(&pod(), "there is none")
}

fn deletion() -> Plan<Value> {
    let delete = Delete {
        kind: ApiKind::of::<Pod>(),
        name: "a-0".to_owned(),
        uid: "a-0-uid".to_owned(),
        why: "it has ended".to_owned(),
    };
    Plan { deletes: vec![delete], ..Plan::idle() }
}

/// The cache of a new leader may lack a status that its predecessor has just written.
#[tokio::test(start_paused = true)]
async fn status_names_its_object_and_that_of_a_new_leader_the_version_too() {
    let (server, client) = Server::start(accept);
    let (cx, _leads) = context(client, BTreeMap::new());
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    for (seconds, version) in [(0, json!("1")), (4, json!("1")), (1, Value::Null)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        execute(&cx, &subject, &Plan::report(json!({"summary": "a"})), cx.guard()).await.unwrap();
        let sent = server.sent().pop().unwrap();
        assert_eq!(sent.path, format!("/apis/mlop.dev/v1alpha1/namespaces/{NS}/forecasts/a/status"));
        assert_eq!(sent.body["metadata"]["uid"], "a-uid");
        assert_eq!(sent.body["metadata"]["resourceVersion"], version);
    }
}

#[tokio::test]
async fn deletion_names_the_uid_of_its_object() {
    let (done, server) = carry_out(&deletion(), accept).await;
    done.unwrap();
    assert_eq!(server.sent()[0].body["preconditions"], json!({"uid": "a-0-uid"}));
}

#[tokio::test]
async fn status_is_written_before_deletions() {
    let plan = Plan { status: Some(json!({"summary": "a"})), creates: creation().creates, ..deletion() };
    let (done, server) = carry_out(&plan, accept).await;
    done.unwrap();
    assert_eq!(server.methods(), ["POST", "PATCH", "DELETE"]);
}

#[tokio::test]
async fn create_adopts_its_own_child_only() {
    let ours = serde_json::to_value(pod()).unwrap();
    let mut foreign = ours.clone();
    foreign["metadata"]["ownerReferences"] = json!([]);
    for (existing, want) in [(ours, None), (foreign, Some(Reason::NameConflict))] {
        let (done, _) = carry_out(&creation(), move |sent| match sent.method.as_str() {
            "POST" => refuse(409, "AlreadyExists", "a-1 exists"),
            _ => (200, existing.clone()),
        })
        .await;
        let reason = done.err().and_then(|error| error.report()).map(|(reason, _)| reason);
        assert_eq!(reason, want);
    }
}

#[tokio::test]
async fn create_fails_when_admission_refuses() {
    let (done, _) = carry_out(&creation(), |_| refuse(403, "Forbidden", "exceeded quota: pods=1")).await;
    assert_eq!(done.unwrap_err().report(), Some((Reason::QuotaExceeded, false)));
}

#[tokio::test]
async fn refused_child_does_not_hold_up_the_others() {
    let servers = service(child_meta(&forecast(), "a".to_owned(), []), &[]);
    let plan = Plan { status: Some(json!({"summary": "a"})), ..creation() }.apply(&servers, "it is wanted");
    let (done, server) = carry_out(&plan, |sent| match sent.path.ends_with("/pods") {
        true => refuse(403, "Forbidden", "exceeded quota: pods=1"),
        false => accept(sent),
    })
    .await;
    assert_eq!(done.unwrap_err().report(), Some((Reason::QuotaExceeded, false)));
    let written: Vec<_> = server.sent().into_iter().map(|sent| sent.path).collect();
    assert_eq!(written, ["pods", "services"].map(|kind| format!("/api/v1/namespaces/{NS}/{kind}")));
}

#[tokio::test]
async fn deletion_of_a_changed_object_is_decided_again() {
    let (done, _) = carry_out(&deletion(), |_| refuse(409, "Conflict", "the uid differs")).await;
    assert!(matches!(done, Err(Error::Outdated(_))), "{done:?}");
    let (done, _) = carry_out(&deletion(), |_| refuse(404, "NotFound", "a-0 not found")).await;
    done.unwrap();
}

#[tokio::test]
async fn created_object_is_cached_when_the_create_ends() {
    let (_, client) = Server::start(accept);
    let pods = Arc::new(Cache::<PodView>::default());
    let store = Arc::clone(&pods) as Arc<dyn WriteThrough>;
    let (cx, _leads) = context(client, BTreeMap::from([(ApiKind::of::<Pod>(), store)]));
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    execute(&cx, &subject, &creation(), cx.guard()).await.unwrap();
    assert_eq!(pods.keys(), [Key::new(NS, "a-1")]);
}

#[tokio::test]
async fn write_is_not_sent_without_the_lease() {
    let (server, client) = Server::start(accept);
    let (cx, leads) = context(client, BTreeMap::new());
    leads.send_replace(None);
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    for plan in [creation(), deletion(), Plan::report(json!({}))] {
        assert!(matches!(execute(&cx, &subject, &plan, cx.guard()).await, Err(Error::Gone(_))));
    }
    assert_eq!(server.sent(), []);
}

/// The Service of the intent `a`, as the API server stores it with this selector.
fn stored_service(selector: Value) -> Value {
    let mut live = crate::resource::object_value(&service(child_meta(&forecast(), "a".to_owned(), []), &[]));
    live["metadata"]["uid"] = json!("s-uid");
    live["metadata"]["resourceVersion"] = json!("7");
    live["spec"] = json!({"selector": selector, "type": "ClusterIP", "clusterIP": "10.0.0.1"});
    live
}

/// Carries out a plan with that Service three times, while the API server stores `live` and answers with `answer`.
async fn apply_service(
    live: &Value,
    answer: impl Fn(&Sent) -> Answer + Send + Sync + 'static,
) -> (Result<(), Error>, Arc<Server>) {
    let services = Arc::new(Cache::<ChildObject>::default());
    services.put_written(serde_json::from_value(live.clone()).unwrap());
    let (server, client) = Server::start(answer);
    let store = Arc::clone(&services) as Arc<dyn WriteThrough>;
    let (cx, _leads) = context(client, BTreeMap::from([(ApiKind::of::<Service>(), store)]));
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    let wanted = service(child_meta(&forecast(), "a".to_owned(), []), &[]);
    let plan: Plan<Value> = Plan::idle().apply(&wanted, "it is wanted");
    let mut done = Ok(());
    for _ in 0..3 {
        done = execute(&cx, &subject, &plan, cx.guard()).await;
    }
    (done, server)
}

#[tokio::test]
async fn differing_child_is_patched_once_under_its_uid_and_by_a_new_leader_its_version() {
    let ours = json!({"app.kubernetes.io/instance": "a"});
    let mut foreign = ours.clone();
    foreign["x"] = json!("y");
    let (live, mut mended) = (stored_service(foreign), stored_service(ours.clone()));
    mended["metadata"]["resourceVersion"] = json!("8");
    let (done, server) = apply_service(&live, move |_| (200, mended.clone())).await;
    done.unwrap();
    let [sent] = server.sent().try_into().unwrap();
    assert_eq!(
        (sent.method.as_str(), sent.path.as_str()),
        ("PATCH", format!("/api/v1/namespaces/{NS}/services/a").as_str())
    );
    let uid = json!({"op": "test", "path": "/metadata/uid", "value": "s-uid"});
    let version = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"});
    assert_eq!(sent.body, json!([uid, version, {"op": "add", "path": "/spec/selector", "value": ours}]));
    let (_, server) =
        apply_service(&stored_service(json!({"app.kubernetes.io/instance": "a"})), accept).await;
    assert_eq!(server.methods(), Vec::<String>::new());
}

#[tokio::test]
async fn value_that_a_webhook_restores_is_patched_once() {
    let live = stored_service(json!({"app.kubernetes.io/instance": "a", "injected": "true"}));
    let restored = live.clone();
    let (done, server) = apply_service(&live, move |_| (200, restored.clone())).await;
    done.unwrap();
    assert_eq!(server.methods(), ["PATCH"]);
}

#[tokio::test]
async fn patch_of_another_object_is_decided_again() {
    let live = stored_service(json!({}));
    let words = "the server rejected our request due to an error in our request";
    let (done, _) = apply_service(&live, move |_| refuse(422, "Invalid", words)).await;
    assert!(matches!(done, Err(Error::Outdated(_))), "{done:?}");
    let (done, _) = apply_service(&live, |_| refuse(422, "Invalid", "webhook w denied the request")).await;
    assert_eq!(done.unwrap_err().report(), Some((Reason::ChildRefused, false)));
}

#[tokio::test]
async fn mirrored_fields_are_replaced_as_a_whole() {
    let execution = json!({"resources": {"cpu": "1"}});
    let object = json!({"metadata": {"name": "a-1", "namespace": NS, "uid": "r-uid"}, "spec": {"execution": execution}});
    let kind = ApiKind::of::<crate::testing::ForecastRun>();
    let apply = Apply { kind, object, why: "it was edited".to_owned() };
    let written = json!({"metadata": {"name": "a-1", "namespace": NS}});
    let plan = Plan { applies: vec![apply], ..Plan::idle() };
    let (done, server) = carry_out(&plan, move |_| (200, written.clone())).await;
    done.unwrap();
    let set = json!({"op": "add", "path": "/spec/execution", "value": execution});
    let test = json!({"op": "test", "path": "/metadata/uid", "value": "r-uid"});
    assert_eq!(server.sent()[0].body, json!([test, set]));
}

/// Applies the Service of the intent `a`, whose cache is empty, to a server that has it with these labels.
async fn apply_unlabelled(existing: Value) -> (Result<(), Error>, Arc<Server>) {
    let wanted = service(labelled("a"), &[]);
    let plan: Plan<Value> = Plan::idle().apply(&wanted, "it is wanted");
    carry_out(&plan, move |sent| match sent.method.as_str() {
        "POST" => refuse(409, "AlreadyExists", "services a already exists"),
        _ => (200, existing.clone()),
    })
    .await
}

/// Metadata of a child with the labels by which it is found.
fn labelled(name: &str) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    child_meta(&forecast(), name.to_owned(), child_labels(&forecast(), "mlop-test", "serving"))
}

#[tokio::test]
async fn labels_that_a_child_is_found_by_are_put_back() {
    let mut existing = crate::resource::object_value(&service(labelled("a"), &[]));
    existing["metadata"]["uid"] = json!("s-uid");
    let (done, server) = apply_unlabelled(existing.clone()).await;
    done.unwrap();
    assert_eq!(server.methods(), ["POST", "GET"], "the cache is behind");

    let labels = existing["metadata"]["labels"].as_object_mut().unwrap();
    labels.remove(labels::OPERATOR);
    labels.insert(labels::INTENT.to_owned(), json!("b"));
    let (done, server) = apply_unlabelled(existing.clone()).await;
    done.unwrap();
    let put_back = json!({labels::OPERATOR: "mlop-test", labels::INTENT: "a"});
    let written = server.sent().pop().unwrap().body;
    assert_eq!(written, json!({"metadata": {"uid": "s-uid", "labels": put_back}}));

    existing["metadata"].as_object_mut().unwrap().remove("labels");
    let (done, server) = apply_unlabelled(existing).await;
    done.unwrap();
    let written = server.sent().pop().unwrap().body;
    assert_eq!(written["metadata"]["labels"].as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn pod_without_its_labels_is_reported() {
    let pod = Pod { metadata: labelled("a-1"), ..Default::default() };
    let mut existing = serde_json::to_value(&pod).unwrap();
    existing["metadata"]["labels"].as_object_mut().unwrap().remove(labels::OPERATOR);
    let (done, server) =
        carry_out(&Plan::idle().create(&pod, "there is none"), move |sent| match sent.method.as_str() {
            "POST" => refuse(409, "AlreadyExists", "a-1 exists"),
            _ => (200, existing.clone()),
        })
        .await;
    let error = done.unwrap_err();
    assert_eq!(error.report(), Some((Reason::NameConflict, true)));
    assert!(error.to_string().contains(labels::OPERATOR), "{error}");
    assert_eq!(server.methods(), ["POST", "GET"]);
}

#[tokio::test]
async fn finalizer_of_another_manager_is_released_too() {
    let release = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": "Forecast",
        "metadata": {"name": "a", "namespace": NS, "uid": "a-uid"}});
    let kind = ApiKind::of::<crate::testing::Forecast>();
    let apply = Apply { kind, object: release, why: "it is cleaned up".to_owned() };
    let plan = Plan { applies: vec![apply], ..Plan::idle() };
    let left =
        |finalizers: Value| json!({"metadata": {"name": "a", "uid": "a-uid", "finalizers": finalizers}});
    let restored = left(json!(["example.com/x", "mlop.dev/cleanup"]));
    let (done, server) = carry_out(&plan, move |_| (200, restored.clone())).await;
    done.unwrap();
    assert_eq!(
        server.sent().pop().unwrap().body,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "a-uid"},
            {"op": "test", "path": "/metadata/finalizers/1", "value": "mlop.dev/cleanup"},
            {"op": "remove", "path": "/metadata/finalizers/1"},
        ])
    );
    let (done, server) = carry_out(&plan, move |_| (200, left(json!(["example.com/x"])))).await;
    done.unwrap();
    assert_eq!(server.methods(), ["PATCH"]);
}

/// Another controller writes the rest of this status.
#[tokio::test]
async fn field_of_a_foreign_status_is_applied_in_the_namespace_of_its_object() {
    let kind = ApiKind::of::<crate::testing::ForecastRun>();
    let metadata = json!({"name": "a-1", "namespace": "elsewhere", "uid": "r-uid"});
    let object = json!({"metadata": metadata, "status": {"admission": {"queue": "q"}}});
    let apply = Apply { kind, object: object.clone(), why: "the queue admits it".to_owned() };
    let (done, server) = carry_out(&Plan { applies: vec![apply], ..Plan::idle() }, accept).await;
    done.unwrap();
    let [sent] = server.sent().try_into().unwrap();
    assert_eq!(sent.method, "PATCH");
    assert_eq!(sent.path, "/apis/mlop.dev/v1alpha1/namespaces/elsewhere/forecastruns/a-1/status");
    assert_eq!(sent.body, object);
}
