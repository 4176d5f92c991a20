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

use common::{accepted, example, published, refused};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions, wait::await_condition},
};
use serde_json::{Value, json};
use std::{env, time::Duration};
use tokio::time::{sleep, timeout};

const GROUP: &str = "admission.mlop.dev";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn real_server_admits_right_objects_and_refuses_wrong_ones() {
    let Ok(kubeconfig) = env::var("MLOP_CONFORMANCE_KUBECONFIG") else {
        let left_out = format!(
            "MLOP_CONFORMANCE_KUBECONFIG is not set: {} objects left out",
            accepted().len() + refused().len()
        );
        assert!(env::var("CI").as_deref() != Ok("true"), "{left_out}");
        eprintln!("{left_out}");
        return;
    };
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    define(&client).await;
    let mut wrong = admits(&client).await;
    wrong.extend(refuses(&client).await);
    wrong.extend(keeps_identities(&client).await);
    wrong.extend(shows_what_nobody_has_seen_as_unknown(&client).await);
    remove(&client).await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn admits(client: &Client) -> Vec<String> {
    let mut objects = accepted();
    objects.extend(published().into_iter().map(|(_, object)| object));
    let mut with_null = example("Dataset");
    with_null["spec"]["pin"] = Value::Null;
    objects.push(with_null);
    let mut wrong = Vec::new();
    for object in objects {
        if let Err(message) = create(client, &object, DRY).await {
            wrong.push(format!("refused {} {}: {message}", object["kind"], object["metadata"]["name"]));
        }
    }
    wrong
}

async fn refuses(client: &Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in refused() {
        match create(client, &case.object, DRY).await {
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

async fn keeps_identities(client: &Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in ["DatasetVersion", "FeatureSnapshot", "TrainingRun", "ModelVersion"] {
        let mut run = create(client, &example(kind), "").await.unwrap();
        run["spec"]["execution"]["retry"]["limit"] = json!(7);
        let path = format!("{}/{}", path(&run), run["metadata"]["name"].as_str().unwrap());
        if let Err(message) = send(client, http::Method::PUT, &path, DRY, &run).await {
            wrong.push(format!("{kind}: refused another execution: {message}"));
        }
        run["spec"]["lineage"]["semanticsVersion"] = json!(2);
        match send(client, http::Method::PUT, &path, DRY, &run).await {
            Err(message)
                if message.contains("spec.lineage")
                    && message.contains("lineage is immutable: edit the ") => {}
            other => wrong.push(format!("{kind}: another identity: {other:?}")),
        }
    }
    wrong
}

async fn shows_what_nobody_has_seen_as_unknown(client: &Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in ["Dataset", "ModelDeployment", "ObjectStore"] {
        let created = create(client, &example(kind), "").await.unwrap();
        let path = format!("{}/{}", path(&created), created["metadata"]["name"].as_str().unwrap());
        let read = send(client, http::Method::GET, &path, "", &Value::Null).await.unwrap();
        let condition = &read["status"]["conditions"][0];
        if (&condition["type"], &condition["status"]) != (&json!("Ready"), &json!("Unknown")) {
            wrong.push(format!("{kind}: a new object shows {}", read["status"]));
        }
    }
    wrong
}

const DRY: &str = "dryRun=All&fieldValidation=Strict";

/// The object as stored, or the message of the refusal.
async fn create(client: &Client, object: &Value, query: &str) -> Result<Value, String> {
    send(client, http::Method::POST, &path(object), query, object).await
}

fn path(object: &Value) -> String {
    let kind = common::KINDS.iter().find(|crd| object["kind"] == crd.spec.names.kind.as_str()).unwrap();
    format!("/apis/{GROUP}/{}/namespaces/default/{}", mlop_api::VERSION, kind.spec.names.plural)
}

/// A server says "not found" until it serves a kind that was just established.
async fn send(
    client: &Client,
    method: http::Method,
    path: &str,
    query: &str,
    object: &Value,
) -> Result<Value, String> {
    let mut object = object.clone();
    if object.is_object() {
        object["apiVersion"] = json!(format!("{GROUP}/{}", mlop_api::VERSION));
    }
    let attempt = || async {
        let body = if object.is_null() { Vec::new() } else { serde_json::to_vec(&object).unwrap() };
        let request = http::Request::builder().method(method.clone()).uri(format!("{path}?{query}"));
        let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body).unwrap();
        client.request::<Value>(request).await
    };
    let served = async {
        loop {
            match attempt().await {
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    sleep(Duration::from_millis(100)).await
                }
                result => return result,
            }
        }
    };
    match timeout(PATIENCE, served).await.expect("the server does not serve the kind") {
        Ok(object) => Ok(object),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// The kinds in this test's group.
fn copies() -> Vec<CustomResourceDefinition> {
    let copy = |mut crd: CustomResourceDefinition| {
        crd.spec.group = GROUP.to_owned();
        crd.spec.names.short_names = None;
        crd.spec.names.categories = None;
        crd.metadata.name = Some(format!("{}.{GROUP}", crd.spec.names.plural));
        crd
    };
    common::KINDS.iter().cloned().map(copy).collect()
}

/// Objects of an earlier, interrupted test go with the definitions.
async fn define(client: &Client) {
    remove(client).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in copies() {
        let name = crd.name_any();
        let params = PatchParams::apply("mlop-admission-test").force();
        definitions
            .patch(&name, &params, &Patch::Apply(&crd))
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for crd in copies() {
        let name = crd.name_any();
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        timeout(PATIENCE, established).await.expect("the definition is not established").unwrap();
    }
}

async fn remove(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in copies() {
        let name = crd.name_any();
        let Ok(Some(found)) = definitions.get_opt(&name).await else { continue };
        definitions.delete(&name, &DeleteParams::default()).await.unwrap();
        let uid = found.metadata.uid.unwrap();
        let deleted = await_condition(definitions.clone(), &name, conditions::is_deleted(&uid));
        timeout(PATIENCE, deleted).await.expect("the definition is not deleted").unwrap();
    }
}
