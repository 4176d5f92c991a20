//! The conformance suite on a real API server. A failure here shows a defect of the checks.
//!
//! `MLOP_CONFORMANCE_KUBECONFIG` names the kubeconfig of a cluster with a controller manager. The test creates a
//! namespace and a CRD there, and deletes both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{env, time::Duration};

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
    runtime::{conditions, wait::await_condition},
};
use mlop_sim::conformance;
use serde_json::json;
use tokio::time::timeout;

const SETUP_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn simulator_conforms_to_a_real_server() {
    let Ok(path) = env::var("MLOP_CONFORMANCE_KUBECONFIG") else {
        let skipped = conformance::checks().len();
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "MLOP_CONFORMANCE_KUBECONFIG is not set: {skipped} checks skipped"
        );
        eprintln!("MLOP_CONFORMANCE_KUBECONFIG is not set: {skipped} checks skipped");
        return;
    };
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    // Many checks expect a refusal, which kube would retry.
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let namespace = set_up(&client).await;
    let mut failures = Vec::new();
    for check in conformance::checks() {
        let outcome = check.run(&client, &namespace).await;
        match &outcome {
            Ok(()) => eprintln!("{}: ok", check.name),
            Err(failure) => eprintln!("FAILED {failure}"),
        }
        failures.extend(outcome.err());
    }
    clean_up(&client, &namespace).await;
    assert!(failures.is_empty(), "{}", conformance::report(&failures));
}

async fn set_up(client: &Client) -> String {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = conformance::crd().unwrap();
    let name = crd.name_any();
    let params = PatchParams::apply("mlop-conformance").force();
    crds.patch(&name, &params, &Patch::Apply(&crd)).await.unwrap();
    let established = await_condition(crds, &name, conditions::is_crd_established());
    timeout(SETUP_MAX, established).await.expect("the CRD is established").unwrap();
    // The server serves the path only some time after it sets the condition.
    let widgets = "/apis/conformance.mlop.dev/v1/widgets";
    let served = async {
        while client.request_text(http::Request::get(widgets).body(Vec::new()).unwrap()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SETUP_MAX, served).await.expect("the CRD is served");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"generateName": "conformance-"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any()
}

async fn clean_up(client: &Client, namespace: &str) {
    let widgets = Api::<DynamicObject>::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::from_gvk(&GroupVersionKind::gvk("conformance.mlop.dev", "v1", "Widget")),
    );
    let without_finalizers = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for widget in widgets.list(&ListParams::default()).await.unwrap() {
        widgets.patch(&widget.name_any(), &PatchParams::default(), &without_finalizers).await.unwrap();
    }
    Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::default()).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.delete("widgets.conformance.mlop.dev", &DeleteParams::default()).await.unwrap();
}
