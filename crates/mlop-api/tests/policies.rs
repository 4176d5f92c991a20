//! The policies for platform teams, in `policies/`: those of the API server and those of OPA Gatekeeper judge the same cases, and
//! as `policies/cases.yaml` says.
//!
//! `MLOP_CONFORMANCE_KUBECONFIG` names the kubeconfig of a cluster, where copies of the kinds and of the policies are made in a
//! group of their own. `MLOP_GATOR` is Gatekeeper's own program for tests.
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

use common::{documents, example, merge};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, Resource, ResourceExt, api::DeleteParams, api::Patch, api::PatchParams};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use server::{DRY, PATIENCE, Server};
use std::{
    collections::BTreeMap,
    env,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::{sleep, timeout};

const GROUP: &str = "policies.mlop.dev";
const NAMES: [&str; 4] = ["images", "gpus", "labels", "profiles"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    admissible: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    kind: String,
    case: String,
    #[serde(default)]
    patch: Value,
    /// The policy that refuses, and a part of its message.
    #[serde(default)]
    refused: BTreeMap<String, String>,
}

impl Cases {
    fn read() -> Self {
        serde_saphyr::from_str(&fs::read_to_string(directory().join("cases.yaml")).unwrap()).unwrap()
    }

    fn object(&self, case: &Case) -> Value {
        let mut object = example(&case.kind);
        let admissible = ["every", &case.kind].map(|key| self.admissible.get(key));
        for patch in admissible.into_iter().flatten().chain([&case.patch]).filter(|patch| patch.is_object()) {
            merge(&mut object, patch);
        }
        object
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

/// The documents of a file of the API server's policies or of Gatekeeper's.
fn policy(engine: &str, name: &str) -> Vec<Value> {
    documents(&fs::read_to_string(directory().join(engine).join(format!("{name}.yaml"))).unwrap())
}

#[test]
fn every_policy_refuses_a_case() {
    let cases = Cases::read();
    for name in NAMES {
        assert!(cases.cases.iter().any(|case| case.refused.contains_key(name)), "{name}");
        assert_eq!(policy("admission", name).len(), 2, "{name}");
        assert_eq!(policy("gatekeeper", name).len(), 2, "{name}");
    }
    for engine in ["admission", "gatekeeper"] {
        let files = fs::read_dir(directory().join(engine)).unwrap().count();
        assert_eq!(files, NAMES.len(), "a policy of {engine} is not tested");
    }
}

#[tokio::test]
async fn real_server_judges_as_the_cases_say() {
    let cases = Cases::read();
    let Some(server) = Server::connect(GROUP, cases.cases.len()).await else { return };
    let policies = Policies::new(&server);
    policies.remove().await;
    server.define().await;
    let before = server.create(&earlier(&cases), "").await.unwrap();
    policies.apply().await;
    let mut wrong = policies.warnings().await;
    // Refusals first: after them every policy counts.
    let (admitted, refused): (Vec<_>, Vec<_>) = cases.cases.iter().partition(|case| case.refused.is_empty());
    for case in refused.into_iter().chain(admitted) {
        wrong.extend(judge(&server, &cases, case).await);
    }
    wrong.extend(judge_updates(&server, before).await);
    policies.remove().await;
    server.remove().await;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// An object that no policy would admit, and that is older than they are.
fn earlier(cases: &Cases) -> Value {
    let case = cases.cases.iter().find(|case| case.case == "no labels").unwrap();
    let mut object = cases.object(case);
    object["metadata"]["name"] = json!("earlier");
    object
}

async fn judge(server: &Server, cases: &Cases, case: &Case) -> Option<String> {
    let object = cases.object(case);
    let name = format!("{}, {}", case.kind, case.case);
    let Some((policy, says)) = case.refused.first_key_value() else {
        return server.create(&object, DRY).await.err().map(|message| format!("{name}: refused: {message}"));
    };
    // A policy counts some time after it is applied.
    let mut last = String::new();
    let refused = async {
        loop {
            match server.create(&object, DRY).await {
                Err(message) if message.contains(&format!("'{policy}-test'")) && message.contains(says) => {
                    return;
                }
                other => last = format!("{:?}", other.map(|_| "admitted")),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let refused = timeout(PATIENCE, refused).await;
    refused.err().map(|_| format!("{name}: want a refusal by {policy} with {says:?}: {last}"))
}

/// Changes of an object that is older than the policies, and whether they are refused.
fn updates(object: &Value) -> [(&'static str, Value, bool); 3] {
    let with = |patch| {
        let mut changed = object.clone();
        merge(&mut changed, &patch);
        changed
    };
    [
        (
            "a note and a finalizer",
            with(
                json!({"metadata": {"annotations": {"example.com/note": "a"}, "finalizers": ["example.com/hold"]}}),
            ),
            false,
        ),
        ("an edit of the spec", with(json!({"spec": {"suspend": true}})), true),
        ("an edit of the labels", with(json!({"metadata": {"labels": {"team": "ranking"}}})), true),
    ]
}

async fn judge_updates(server: &Server, object: Value) -> Vec<String> {
    let path = server.path_of(&object);
    let mut wrong = Vec::new();
    for (what, changed, refused) in updates(&object) {
        match server.send(http::Method::PUT, &path, DRY, &changed).await {
            Err(message) if refused && message.contains("missing labels") => {}
            Ok(_) if !refused => {}
            other => wrong.push(format!("{what}: {other:?}")),
        }
    }
    if let Err(message) = server.send(http::Method::DELETE, &path, "", &Value::Null).await {
        wrong.push(format!("the deletion is refused: {message}"));
    }
    wrong
}

/// Copies of the API server's policies for the test's group, under other names.
struct Policies<'a> {
    server: &'a Server,
    policies: Vec<ValidatingAdmissionPolicy>,
    bindings: Vec<ValidatingAdmissionPolicyBinding>,
}

impl<'a> Policies<'a> {
    fn new(server: &'a Server) -> Self {
        let (mut policies, mut bindings) = (Vec::new(), Vec::new());
        for name in NAMES {
            let [mut policy, mut binding] = <[Value; 2]>::try_from(policy("admission", name)).unwrap();
            rename(&mut policy);
            policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!([GROUP]);
            rename(&mut binding);
            binding["spec"]["policyName"] = policy["metadata"]["name"].clone();
            policies.push(serde_json::from_value(policy).unwrap());
            bindings.push(serde_json::from_value(binding).unwrap());
        }
        Self { server, policies, bindings }
    }

    async fn apply(&self) {
        for policy in &self.policies {
            apply(&Api::all(self.server.client.clone()), policy).await;
        }
        for binding in &self.bindings {
            apply(&Api::all(self.server.client.clone()), binding).await;
        }
    }

    /// What the API server says about the types in the expressions.
    async fn warnings(&self) -> Vec<String> {
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.server.client.clone());
        let mut warnings = Vec::new();
        for policy in &self.policies {
            let checked = async {
                loop {
                    let found = api.get(&policy.name_any()).await.unwrap();
                    match found.status.and_then(|status| status.type_checking) {
                        Some(checked) => return checked.expression_warnings.unwrap_or_default(),
                        None => sleep(Duration::from_millis(100)).await,
                    }
                }
            };
            let found = timeout(PATIENCE, checked).await.expect("the policy is not checked");
            warnings.extend(
                found.iter().map(|it| format!("{}: {}: {}", policy.name_any(), it.field_ref, it.warning)),
            );
        }
        warnings
    }

    async fn remove(&self) {
        for binding in &self.bindings {
            delete(&Api::all(self.server.client.clone()), binding).await;
        }
        for policy in &self.policies {
            delete(&Api::all(self.server.client.clone()), policy).await;
        }
    }
}

fn rename(object: &mut Value) {
    let name = object["metadata"]["name"].as_str().unwrap().trim_start_matches("mlop-");
    object["metadata"]["name"] = json!(format!("{name}-test"));
}

async fn apply<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + serde::Serialize>(
    api: &Api<K>,
    object: &K,
) {
    let params = PatchParams::apply("mlop-policies-test").force();
    api.patch(&object.name_any(), &params, &Patch::Apply(object)).await.unwrap();
}

async fn delete<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned>(api: &Api<K>, object: &K) {
    match api.delete(&object.name_any(), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        deleted => drop(deleted.unwrap()),
    }
}

#[test]
fn gatekeeper_judges_as_the_cases_say() {
    let cases = Cases::read();
    let Some(gator) = env::var_os("MLOP_GATOR") else {
        let left_out = format!("MLOP_GATOR is not set: {} objects left out", cases.cases.len());
        assert!(env::var("CI").as_deref() != Ok("true"), "{left_out}");
        eprintln!("{left_out}");
        return;
    };
    let suite = suite(&cases);
    let output = Command::new(gator).arg("verify").arg("-v").arg(&suite).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let judged = said.lines().filter(|line| line.contains("--- PASS")).count();
    assert!(judged >= cases.cases.len() * NAMES.len(), "{judged} checks: {said}");
}

/// Writes a suite in which each policy judges each case, and its files.
fn suite(cases: &Cases) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gatekeeper");
    fs::create_dir_all(&directory).unwrap();
    let write = |name: String, document: &Value| {
        fs::write(directory.join(&name), document.to_string()).unwrap();
        name
    };
    let objects: Vec<_> = cases.cases.iter().map(|case| (case, cases.object(case))).collect();
    let earlier = earlier(cases);
    let tests = NAMES.map(|name| {
        let [template, constraint] = <[Value; 2]>::try_from(policy("gatekeeper", name)).unwrap();
        let mut rows = Vec::new();
        for (index, (case, object)) in objects.iter().enumerate() {
            let assertion = match case.refused.get(name) {
                Some(says) => json!({"violations": 1, "message": regex::escape(says)}),
                None => json!({"violations": "no"}),
            };
            let title = format!("{}, {}", case.kind, case.case);
            let object = write(format!("{index}.yaml"), object);
            rows.push(json!({"name": title, "object": object, "assertions": [assertion]}));
        }
        for (title, update, refused) in updates(&earlier) {
            let violations = if refused && name == "labels" { "yes" } else { "no" };
            let object = write(format!("{title}.yaml"), &review(&earlier, &update));
            rows.push(json!({"name": title, "object": object, "assertions": [{"violations": violations}]}));
        }
        let template = write(format!("template-{name}.yaml"), &template);
        let constraint = write(format!("constraint-{name}.yaml"), &constraint);
        json!({"name": name, "template": template, "constraint": constraint, "cases": rows})
    });
    let suite = json!({"apiVersion": "test.gatekeeper.sh/v1alpha1", "kind": "Suite", "tests": tests});
    directory.join(write("suite.yaml".to_owned(), &suite))
}

/// What the API server asks when a user changes `old`.
fn review(old: &Value, object: &Value) -> Value {
    let (group, version) = (mlop_api::GROUP, mlop_api::VERSION);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "UPDATE", "name": object["metadata"]["name"], "namespace": "default",
        "kind": {"group": group, "version": version, "kind": object["kind"]},
        "resource": {"group": group, "version": version, "resource": "models"},
        "userInfo": {}, "object": object, "oldObject": old,
    }})
}
