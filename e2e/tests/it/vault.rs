//! The documented way to keys from Vault without Secrets: an agent in each pod writes them into files. OpenBao and its agent are real;
//! a policy of the API server puts the agent into the pods. Their image is built for this test, so it runs by name only.

use crate::support::{SAVE, STAGE, published_run, script};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::watcher};
use mlop_api::{
    dataset::ObjectStore,
    profile::PodProfile,
    training::{TrainingJob, TrainingRun},
};
use mlop_e2e::{namespace::TestNamespace, state::Kind as _, wait};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const OPENBAO: &str = include_str!("../pipelines/openbao.yaml");
const INJECTOR: &str = include_str!("../../../docs/operations/vault/injector.yaml");
const NAMESPACE: &str = include_str!("../../../docs/operations/vault/namespace.yaml");
/// The token of an OpenBao that only this test uses.
const ROOT: &str = "e2e-root";

/// Reads the credential, waits for the next one, and looks for the keys of the store.
const CODE: &str = r#"
import json, os, pathlib, time
credential = pathlib.Path("/vault/credentials/mlflow")
first = credential.read_text()
assert first == "first", first
assert not os.path.exists("/vault/stores"), "the keys of the store are visible"
assert not os.path.exists("/run/vault"), "the agent's token is visible"
with open(os.environ["MLOP_PROGRESS"], "a") as progress:
    print(json.dumps({"step": 1}), file=progress)
end = time.monotonic() + 120
while credential.read_text() != "second":
    assert time.monotonic() < end, "the credential is not renewed"
    time.sleep(1)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn training_has_its_keys_from_files_of_an_agent() -> Result<()> {
    TestNamespace::run("vault", async |ns| {
        let outcome = from_vault(ns).await;
        for what in [
            "clusterrolebinding/e2e-vault-bao",
            "mutatingadmissionpolicy/vault-agent",
            "mutatingadmissionpolicybinding/vault-agent",
        ] {
            ns.kubectl(&["delete", "--ignore-not-found", what], "").await?;
        }
        outcome
    })
    .await
}

async fn from_vault(ns: &TestNamespace) -> Result<()> {
    ns.apply(&[&OPENBAO.replace("@ROOT@", ROOT)]).await?;
    ns.kubectl(&["rollout", "status", "deployment/bao", "--timeout=120s"], "").await?;
    let bao = Bao { url: ns.cluster.url(&ns.name, "bao", None).await?, client: reqwest::Client::new() };
    bao.configure(&ns.name).await?;
    bao.put("mlflow", &json!({"password": "first"})).await?;

    let here = |manifest: &str| manifest.replace("park", &ns.name).replace("\"1m\"", "\"5s\"");
    ns.apply(&[&here(INJECTOR)]).await?;
    until_injected(ns).await?;
    ns.apply(&[&here(NAMESPACE)]).await?;
    ns.until("default", "accepted", STAGE, PodProfile::is_ready).await?;
    ns.until("mlop", "ready", STAGE, ObjectStore::is_ready).await?;
    ns.apply(&[&script(&format!("{CODE}{SAVE}"))]).await?;
    let has_first = |run: &TrainingRun| run.status.as_ref().is_some_and(|status| status.progress.is_some());
    let (runs, limit) = (ns.api::<TrainingRun>(), Duration::from_secs(STAGE));
    wait::until_any(&runs, watcher::Config::default(), "run with the first credential", limit, has_first)
        .await?;
    bao.put("mlflow", &json!({"password": "second"})).await?;
    let run = published_run(ns).await?;
    ensure!(run.status.as_ref().map(|status| status.attempts) == Some(1), "{}", run.describe());
    let job: TrainingJob = ns.api().get("script").await?;
    ensure!(job.is_ready(), "{}", job.describe());

    let secrets = ns.kubectl(&["get", "secrets", "-o", "name"], "").await?;
    ensure!(secrets.trim().is_empty(), "there are Secrets: {secrets}");
    let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &ns.name);
    let pods = pods.list(&ListParams::default().labels("vault")).await?;
    let without: Vec<String> = pods.iter().filter(|pod| !has_agent(pod)).map(|pod| pod.name_any()).collect();
    ensure!(!pods.items.is_empty() && without.is_empty(), "pods without an agent: {without:?}");
    Ok(())
}

/// A pod that wants an agent. It is never created.
const SAMPLE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sample, labels: {vault: workers}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: profile-workers-stores, emptyDir: {}}]
  containers:
  - name: sample
    image: mlop.local/openbao:dev
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

/// Waits until the API server knows the policy.
async fn until_injected(ns: &TestNamespace) -> Result<()> {
    let create = ["create", "--dry-run=server", "--output=json", "--filename=-"];
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let sample = ns.kubectl(&create, SAMPLE).await?;
        if has_agent(&serde_json::from_str(&sample)?) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the policy has no effect: {sample}");
        sleep(Duration::from_millis(200)).await;
    }
}

fn has_agent(pod: &Pod) -> bool {
    let mut init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.any(|container| {
        container.name == "vault-agent" && container.restart_policy.as_deref() == Some("Always")
    })
}

/// The API of an OpenBao.
struct Bao {
    url: String,
    client: reqwest::Client,
}

impl Bao {
    /// Waits until its Service leads to its pod, which the node learns a moment after the pod is ready.
    async fn until_reachable(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match self.client.get(format!("{}/v1/sys/health", self.url)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                answer => ensure!(Instant::now() < end, "OpenBao does not answer: {answer:?}"),
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets the agents of `namespace` read the entries below `ml`.
    async fn configure(&self, namespace: &str) -> Result<()> {
        let policy = "path \"secret/data/ml/*\" { capabilities = [\"read\"] }";
        let role = json!({"bound_service_account_names": "vault-agent", "bound_service_account_namespaces": namespace,
            "audience": "vault", "policies": "ml", "ttl": "1h"});
        let keys = json!({"accessKey": "mlop-test", "secretKey": "mlop-test-secret"});
        self.until_reachable().await?;
        self.post("sys/auth/kubernetes", &json!({"type": "kubernetes"})).await?;
        self.post("auth/kubernetes/config", &json!({"kubernetes_host": "https://kubernetes.default.svc"}))
            .await?;
        self.post("sys/policies/acl/ml", &json!({"policy": policy})).await?;
        self.post(&format!("auth/kubernetes/role/{namespace}"), &role).await?;
        self.put("s3", &keys).await
    }

    async fn put(&self, entry: &str, data: &Value) -> Result<()> {
        self.post(&format!("secret/data/ml/{entry}"), &json!({"data": data})).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let request =
            self.client.post(format!("{}/v1/{path}", self.url)).header("X-Vault-Token", ROOT).json(body);
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        ensure!(status.is_success(), "{path}: {status}: {}", answer.text().await?);
        Ok(())
    }
}
