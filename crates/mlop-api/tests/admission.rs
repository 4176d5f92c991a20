//! A real API server accepts the kinds with their rules, admits right objects, and refuses wrong ones with a message
//! that names the field and its allowed values.
//!
//! `MLOP_CONFORMANCE_KUBECONFIG` names the kubeconfig of a cluster. The test defines copies of the kinds there in a group
//! of its own, so that it meets no installation, and removes them in the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{accepted, example, published, refused};
use serde_json::{Value, json};
use server::{DRY, Server};

#[tokio::test]
async fn real_server_admits_right_objects_and_refuses_wrong_ones() {
    let Some(server) = Server::connect("admission.mlop.dev", accepted().len() + refused().len()).await else {
        return;
    };
    server.define().await;
    let mut wrong = admits(&server).await;
    wrong.extend(refuses(&server).await);
    wrong.extend(keeps_identities(&server).await);
    wrong.extend(shows_what_nobody_has_seen_as_unknown(&server).await);
    server.remove().await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn admits(server: &Server) -> Vec<String> {
    let mut objects = accepted();
    objects.extend(published().into_iter().map(|(_, object)| object));
    let mut with_null = example("Dataset");
    with_null["spec"]["pin"] = Value::Null;
    objects.push(with_null);
    let mut wrong = Vec::new();
    for object in objects {
        if let Err(message) = server.create(&object, DRY).await {
            wrong.push(format!("refused {} {}: {message}", object["kind"], object["metadata"]["name"]));
        }
    }
    wrong
}

async fn refuses(server: &Server) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in refused() {
        match server.create(&case.object, DRY).await {
            Ok(_) => wrong.push(format!("admitted {}", case.name)),
            Err(message) => {
                let missing: Vec<_> =
                    case.says.iter().filter(|part| !message.contains(part.as_str())).collect();
                if !missing.is_empty() {
                    wrong.push(format!("{}: {missing:?} not in: {message}", case.name));
                }
            }
        }
    }
    wrong
}

async fn keeps_identities(server: &Server) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in ["DatasetVersion", "FeatureSnapshot", "TrainingRun", "ModelVersion"] {
        let mut run = server.create(&example(kind), "").await.unwrap();
        run["spec"]["execution"]["retry"]["limit"] = json!(7);
        let path = server.path_of(&run);
        if let Err(message) = server.send(http::Method::PUT, &path, DRY, &run).await {
            wrong.push(format!("{kind}: refused another execution: {message}"));
        }
        run["spec"]["lineage"]["semanticsVersion"] = json!(2);
        match server.send(http::Method::PUT, &path, DRY, &run).await {
            Err(message)
                if message.contains("spec.lineage")
                    && message.contains("lineage is immutable: edit the ") => {}
            other => wrong.push(format!("{kind}: another identity: {other:?}")),
        }
    }
    wrong
}

async fn shows_what_nobody_has_seen_as_unknown(server: &Server) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in ["Dataset", "ModelDeployment", "ObjectStore"] {
        let created = server.create(&example(kind), "").await.unwrap();
        let path = server.path_of(&created);
        let read = server.send(http::Method::GET, &path, "", &Value::Null).await.unwrap();
        let condition = &read["status"]["conditions"][0];
        if (&condition["type"], &condition["status"]) != (&json!("Ready"), &json!("Unknown")) {
            wrong.push(format!("{kind}: a new object shows {}", read["status"]));
        }
    }
    wrong
}
