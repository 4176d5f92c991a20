//! Writes carry their preconditions, and refusals are told apart.

use super::server::{Answer, Sent, Server, accept, context, forecast, refuse};
use crate::{
    Cache, Error, Key, Plan,
    children::meta::child_meta,
    plan::Delete,
    resource::{ApiKind, PodView},
    runtime::{
        cache::WriteThrough,
        execute::{Subject, execute},
    },
    testing::NS,
};
use k8s_openapi::api::core::v1::Pod;
use mlop_api::Reason;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Carries out a plan of the intent `a` on a server with these answers.
async fn carry_out(
    plan: &Plan<Value>,
    answer: impl Fn(&Sent) -> Answer + Send + Sync + 'static,
) -> (Result<(), Error>, Arc<Server>) {
    let (server, client) = Server::start(answer);
    let (cx, _leads) = context(client, BTreeMap::new());
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    (execute(&cx, &subject, plan).await, server)
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

#[tokio::test]
async fn status_names_the_uid_of_its_object() {
    let (done, server) = carry_out(&Plan::report(json!({"summary": "a"})), accept).await;
    done.unwrap();
    let [sent] = server.sent().try_into().unwrap();
    assert_eq!(sent.path, format!("/apis/mlop.dev/v1alpha1/namespaces/{NS}/forecasts/a/status"));
    assert_eq!(sent.body["metadata"]["uid"], "a-uid");
    assert_eq!(sent.body["metadata"]["resourceVersion"], Value::Null);
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
    execute(&cx, &subject, &creation()).await.unwrap();
    assert_eq!(pods.keys(), [Key::new(NS, "a-1")]);
}

#[tokio::test]
async fn write_is_not_sent_without_the_lease() {
    let (server, client) = Server::start(accept);
    let (cx, leads) = context(client, BTreeMap::new());
    leads.send_replace(false);
    let intent = forecast();
    let subject = Subject { kind: ApiKind::of::<crate::testing::Forecast>(), meta: &intent.metadata };
    for plan in [creation(), deletion(), Plan::report(json!({}))] {
        assert!(matches!(execute(&cx, &subject, &plan).await, Err(Error::Gone(_))));
    }
    assert_eq!(server.sent(), []);
}
