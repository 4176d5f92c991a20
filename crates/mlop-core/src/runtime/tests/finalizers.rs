//! The release of finalizers at the end of an installation.

use super::server::{Answer, Sent, Server, refuse};
use crate::runtime::finalizers::release;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const ALL: &str = "/apis/mlop.dev/v1alpha1/featureviews";
const IN_PARK: &str = "/apis/mlop.dev/v1alpha1/namespaces/park/featureviews";

fn view(namespace: &str, name: &str, finalizers: Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
        "namespace": namespace, "name": name, "resourceVersion": "7", "finalizers": finalizers}})
}

fn list(items: &[Value]) -> Answer {
    (
        200,
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}),
    )
}

fn bodies(server: &Server) -> Vec<(String, Value)> {
    let patches = server.sent().into_iter().filter(|sent| sent.method == "PATCH");
    patches.map(|sent| (sent.path, sent.body["metadata"].clone())).collect()
}

#[tokio::test]
async fn own_finalizers_are_taken_off_and_others_kept() {
    let (server, client) = Server::start(|sent: &Sent| match sent.method.as_str() {
        "GET" => list(&[
            view("park", "a", json!(["example.com/x", "mlop.dev/online-cleanup"])),
            view("zoo", "b", json!(["mlop.dev/online-cleanup"])),
            view("zoo", "c", json!(["example.com/x"])),
            view("zoo", "d", Value::Null),
        ]),
        _ => (200, view("park", "a", json!([]))),
    });
    release(&client, &["FeatureView"], &[]).await.unwrap();
    assert_eq!(server.sent()[0].path, ALL);
    assert_eq!(
        bodies(&server),
        [
            (format!("{IN_PARK}/a"), json!({"resourceVersion": "7", "finalizers": ["example.com/x"]})),
            (
                "/apis/mlop.dev/v1alpha1/namespaces/zoo/featureviews/b".to_owned(),
                json!({"resourceVersion": "7", "finalizers": []})
            ),
        ]
    );
}

#[tokio::test]
async fn only_given_namespaces_are_listed() {
    let (server, client) = Server::start(|_: &Sent| list(&[]));
    release(&client, &["FeatureView"], &["park".to_owned(), "gone".to_owned()]).await.unwrap();
    let paths: Vec<_> = server.sent().into_iter().map(|sent| sent.path).collect();
    assert_eq!(paths, [IN_PARK.to_owned(), IN_PARK.replace("park", "gone")]);
}

#[tokio::test]
async fn object_that_changes_meanwhile_is_read_again() {
    let patches = AtomicUsize::new(0);
    let (server, client) = Server::start(move |sent: &Sent| match sent.method.as_str() {
        "PATCH" if patches.fetch_add(1, Ordering::SeqCst) == 0 => refuse(409, "Conflict", "modified"),
        "GET" if sent.path.ends_with("/a") => {
            (200, view("park", "a", json!(["mlop.dev/online-cleanup", "example.com/y"])))
        }
        "GET" => list(&[view("park", "a", json!(["mlop.dev/online-cleanup"]))]),
        _ => (200, view("park", "a", json!([]))),
    });
    release(&client, &["FeatureView"], &[]).await.unwrap();
    assert_eq!(server.methods(), ["GET", "PATCH", "GET", "PATCH"]);
    assert_eq!(bodies(&server)[1].1["finalizers"], json!(["example.com/y"]));
}

#[tokio::test]
async fn absent_kind_and_absent_object_are_released() {
    let (_, client) = Server::start(|_: &Sent| refuse(404, "NotFound", "no such resource"));
    release(&client, &["FeatureView"], &[]).await.unwrap();
    let (_, client) = Server::start(|sent: &Sent| match sent.method.as_str() {
        "GET" => list(&[view("park", "a", json!(["mlop.dev/online-cleanup"]))]),
        _ => refuse(404, "NotFound", "it is gone"),
    });
    release(&client, &["FeatureView"], &[]).await.unwrap();
}

#[tokio::test]
async fn refusal_names_the_object() {
    let (_, client) = Server::start(|sent: &Sent| match sent.method.as_str() {
        "GET" => list(&[view("park", "a", json!(["mlop.dev/online-cleanup"]))]),
        _ => refuse(403, "Forbidden", "not allowed"),
    });
    let error = release(&client, &["FeatureView"], &[]).await.unwrap_err();
    assert!(format!("{error:#}").contains("FeatureView park/a"), "{error:#}");
}
