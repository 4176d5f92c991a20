//! A real API server with copies of the kinds in a group of its own, so that a test meets no installation.
#![allow(dead_code, reason = "each test uses a part")]

use crate::common::KINDS;
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

pub const PATIENCE: Duration = Duration::from_secs(60);
/// The request changes nothing, and fields must be known.
pub const DRY: &str = "dryRun=All&fieldValidation=Strict";

/// The server that `MLOP_CONFORMANCE_KUBECONFIG` names.
pub struct Server {
    pub client: Client,
    pub group: &'static str,
}

impl Server {
    /// None if no server is named; `count` objects are left out then.
    pub async fn connect(group: &'static str, count: usize) -> Option<Self> {
        let Ok(kubeconfig) = env::var("MLOP_CONFORMANCE_KUBECONFIG") else {
            let left_out = format!("MLOP_CONFORMANCE_KUBECONFIG is not set: {count} objects left out");
            assert!(env::var("CI").as_deref() != Ok("true"), "{left_out}");
            eprintln!("{left_out}");
            return None;
        };
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Some(Self { client: Client::try_from(config).unwrap(), group })
    }

    /// Objects of an earlier, interrupted test go with the definitions.
    pub async fn define(&self) {
        self.remove().await;
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in self.copies() {
            let name = crd.name_any();
            let params = PatchParams::apply("mlop-admission-test").force();
            let applied = definitions.patch(&name, &params, &Patch::Apply(&crd)).await;
            applied.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        for crd in self.copies() {
            let name = crd.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            timeout(PATIENCE, established).await.expect("the definition is not established").unwrap();
        }
    }

    pub async fn remove(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in self.copies() {
            let name = crd.name_any();
            let Ok(Some(found)) = definitions.get_opt(&name).await else { continue };
            definitions.delete(&name, &DeleteParams::default()).await.unwrap();
            let uid = found.metadata.uid.unwrap();
            let deleted = await_condition(definitions.clone(), &name, conditions::is_deleted(&uid));
            timeout(PATIENCE, deleted).await.expect("the definition is not deleted").unwrap();
        }
    }

    /// The kinds in this group.
    fn copies(&self) -> Vec<CustomResourceDefinition> {
        let copy = |mut crd: CustomResourceDefinition| {
            crd.spec.group = self.group.to_owned();
            crd.spec.names.short_names = None;
            crd.spec.names.categories = None;
            crd.metadata.name = Some(format!("{}.{}", crd.spec.names.plural, self.group));
            crd
        };
        KINDS.iter().cloned().map(copy).collect()
    }

    /// The object as stored, or the message of the refusal.
    pub async fn create(&self, object: &Value, query: &str) -> Result<Value, String> {
        self.send(http::Method::POST, &self.path(object), query, object).await
    }

    /// Where objects of the kind of `object` are.
    fn path(&self, object: &Value) -> String {
        let kind = KINDS.iter().find(|crd| object["kind"] == crd.spec.names.kind.as_str()).unwrap();
        let (version, plural) = (mlop_api::VERSION, &kind.spec.names.plural);
        let namespace = if kind.spec.scope == "Namespaced" { "/namespaces/default" } else { "" };
        format!("/apis/{}/{version}{namespace}/{plural}", self.group)
    }

    /// Where `object` is.
    pub fn path_of(&self, object: &Value) -> String {
        format!("{}/{}", self.path(object), object["metadata"]["name"].as_str().unwrap())
    }

    /// A server says "not found" until it serves a kind that was just established.
    pub async fn send(
        &self,
        method: http::Method,
        path: &str,
        query: &str,
        object: &Value,
    ) -> Result<Value, String> {
        let mut object = object.clone();
        if object.is_object() {
            object["apiVersion"] = json!(format!("{}/{}", self.group, mlop_api::VERSION));
        }
        let attempt = || async {
            let body = if object.is_null() { Vec::new() } else { serde_json::to_vec(&object).unwrap() };
            let request = http::Request::builder().method(method.clone()).uri(format!("{path}?{query}"));
            let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body).unwrap();
            self.client.request::<Value>(request).await
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
}
