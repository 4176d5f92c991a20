//! The same against a real MLflow 3.17, given as `MLOP_TEST_MLFLOW=http://127.0.0.1:<port>`. By hand:
//!
//! ```text
//! python3 -m venv v && v/bin/pip install mlflow==3.17.2
//! MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false v/bin/mlflow server --workers 1 --port 5123 \
//!     --backend-store-uri sqlite:////tmp/mlflow.db --artifacts-destination /tmp/mlflow-artifacts
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{Reason, result::ResultDocument, task::AliasWork};
use mlop_artifact::manifest::TreeSummary;
use mlop_registrar::{
    alias,
    mlflow::Mlflow,
    restore,
    transport::{Http, Method, Request, Transport},
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{
    At, Cut, alias_work, provenance, register, register_work, subject,
    tls::{self, CA},
};

/// The server's address, unless there is none to test with.
fn server() -> Option<String> {
    let server = std::env::var("MLOP_TEST_MLFLOW").ok();
    if server.is_none() {
        println!("left out: MLOP_TEST_MLFLOW names no server");
    }
    server
}

/// A text that no earlier test has used.
#[allow(clippy::disallowed_methods, reason = "the server outlives the test")]
fn unique(name: &str) -> String {
    format!("{name} {}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos())
}

async fn ask(
    http: &Http,
    method: Method,
    path: &'static str,
    query: &[(&'static str, &str)],
    body: Value,
) -> Value {
    let query = query.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let body = (!body.is_null()).then_some(body);
    let response = http.send(&Request { method, path, query, body }).await.unwrap();
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn experiment_id(http: &Http, name: &str) -> Value {
    let query = [("experiment_name", name)];
    let found = ask(http, Method::Get, "experiments/get-by-name", &query, Value::Null).await;
    found["experiment"]["experiment_id"].clone()
}

/// All runs of the experiment and all versions of the model.
async fn recorded(http: &Http, experiment: &str, model: &str) -> (Vec<Value>, Vec<Value>) {
    let id = experiment_id(http, experiment).await;
    let runs = ask(http, Method::Post, "runs/search", &[], json!({"experiment_ids": [id]})).await;
    let filter = format!("name = '{model}'");
    let versions = ask(http, Method::Get, "model-versions/search", &[("filter", &filter)], Value::Null).await;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    (list(&runs["runs"]), list(&versions["model_versions"]))
}

#[tokio::test]
async fn version_is_recorded_once_wherever_the_pod_is_killed() {
    let Some(server) = server() else { return };
    let http = Http::new(&server, None).unwrap();
    for at in [At::Request, At::Answer] {
        for after in 1.. {
            let work = register_work(&server, &unique("killed"));
            let line = Cut::new(Http::new(&server, None).unwrap(), after, at);
            let killed = register(line, &work).await;
            let result = register(Http::new(&server, None).unwrap(), &work).await.unwrap();
            let (runs, versions) = recorded(&http, &work.experiment, &work.registered_model).await;
            assert_eq!((runs.len(), versions.len()), (1, 1), "cut at {at:?} {after}");
            let registered = result.registered.unwrap();
            assert_eq!(versions[0]["version"], registered.version);
            assert_eq!(versions[0]["source"], work.source_uri);
            assert_eq!(runs[0]["info"]["run_id"], versions[0]["run_id"]);
            check_run(&runs[0]);
            if killed.is_ok() {
                assert!(after > 10, "{after}");
                break;
            }
        }
    }
}

#[track_caller]
fn check_run(run: &Value) {
    assert_eq!(run["info"]["status"], "FINISHED");
    let pairs = |list: &Value| -> Vec<(String, String)> {
        let list = list.as_array().unwrap().iter();
        list.map(|pair| (pair["key"].as_str().unwrap().into(), pair["value"].to_string())).collect()
    };
    let metrics = pairs(&run["data"]["metrics"]);
    for (key, value) in [("auc", "0.71"), ("f1_5", "0.5"), ("loss", "\"NaN\""), ("bound", "\"-Infinity\"")] {
        // MLflow's database holds the largest finite number for an infinite one.
        let found = metrics.iter().find(|metric| metric.0 == key).unwrap();
        assert!(found.1 == value || key == "bound", "{found:?}");
    }
    let params = pairs(&run["data"]["params"]);
    assert!(params.contains(&("learning_rate".into(), "\"0.1\"".into())), "{params:?}");
    let datasets = run["inputs"]["dataset_inputs"].as_array().unwrap();
    assert_eq!(datasets.len(), 1);
    assert_eq!(datasets[0]["dataset"]["digest"], provenance().inputs["features"].short(36));
    assert!(pairs(&run["data"]["tags"]).contains(&("mlop.seed".into(), "\"42\"".into())));
}

#[tokio::test]
async fn attempts_at_the_same_time_agree_on_one_version() {
    let Some(server) = server() else { return };
    for _ in 0..5 {
        let work = register_work(&server, &unique("together"));
        let attempt = || register(Http::new(&server, None).unwrap(), &work);
        let (one, two) = tokio::join!(attempt(), attempt());
        let (one, two) = (one.unwrap().registered.unwrap(), two.unwrap().registered.unwrap());
        assert_eq!(one, two);
        let http = Http::new(&server, None).unwrap();
        let (runs, versions) = recorded(&http, &work.experiment, &work.registered_model).await;
        assert_eq!((runs.len(), versions.len()), (1, 1));
    }
}

#[tokio::test]
async fn deleted_experiment_and_run_come_back() {
    let Some(server) = server() else { return };
    let work = register_work(&server, &unique("deleted"));
    let first = register(Http::new(&server, None).unwrap(), &work).await.unwrap().registered.unwrap();
    let http = Http::new(&server, None).unwrap();
    let id = experiment_id(&http, &work.experiment).await;
    let (_, versions) = recorded(&http, &work.experiment, &work.registered_model).await;
    ask(&http, Method::Post, "runs/delete", &[], json!({"run_id": versions[0]["run_id"]})).await;
    ask(&http, Method::Post, "experiments/delete", &[], json!({"experiment_id": id})).await;
    let second = register(Http::new(&server, None).unwrap(), &work).await.unwrap().registered.unwrap();
    assert_eq!(first, second);
    assert_eq!(recorded(&http, &work.experiment, &work.registered_model).await.0.len(), 1);
}

#[tokio::test]
async fn alias_moves_only_up() {
    let Some(server) = server() else { return };
    let mut work = register_work(&server, &unique("alias"));
    let model = work.registered_model.clone();
    for n in 1..=2 {
        work.input_digest = mlop_api::Digest::of_bytes(format!("{model} {n}").as_bytes());
        register(Http::new(&server, None).unwrap(), &work).await.unwrap();
    }
    let http = Http::new(&server, None).unwrap();
    let mlflow = Mlflow::new(Http::new(&server, None).unwrap());
    let alias = async |version: &str, revision| {
        alias::activate(&mlflow, &alias_work(&model, version, revision)).await
    };
    alias("1", 1).await.unwrap();
    alias("2", 2).await.unwrap();
    alias("2", 2).await.unwrap();
    let late = alias("1", 1).await.unwrap_err();
    assert_eq!(late.reason, Reason::ActivationSuperseded, "{}", late.message);
    let missing = alias("77", 3).await.unwrap_err();
    assert_eq!(missing.reason, Reason::TrackingRefused, "{}", missing.message);
    let query = [("name", model.as_str()), ("alias", "champion")];
    let named = ask(&http, Method::Get, "registered-models/alias", &query, Value::Null).await;
    assert_eq!(named["model_version"]["version"], "2");
}

/// Checks the alias of a version that was registered as version 1.
async fn check(http: Http, work: &mlop_api::task::RegisterWork) -> ResultDocument {
    let work = AliasWork {
        check: true,
        register: Some(Box::new(work.clone())),
        ..alias_work(&work.registered_model, "1", 1)
    };
    let tree = TreeSummary { provenance: provenance(), ..TreeSummary::default() };
    let now = || 1_795_234_596_176;
    restore::activate(&Mlflow::new(http), &subject(), &work, async |_| Ok(tree), now).await.unwrap()
}

#[tokio::test]
async fn lost_versions_and_aliases_come_back() {
    let Some(server) = server() else { return };
    let http = || Http::new(&server, None).unwrap();
    let work = register_work(&server, &unique("lost"));
    let model = work.registered_model.clone();
    register(http(), &work).await.unwrap();
    assert_eq!(check(http(), &work).await.registered.unwrap().version, "1");
    let named = async || {
        let query = [("name", model.as_str()), ("alias", "champion")];
        let named = ask(&http(), Method::Get, "registered-models/alias", &query, Value::Null).await;
        named["model_version"]["version"].as_str().unwrap().to_owned()
    };
    let version = json!({"name": model, "version": "1"});
    ask(&http(), Method::Delete, "model-versions/delete", &[], version).await;
    let restored = check(http(), &work).await;
    assert_eq!(restored.registered.unwrap().version, "2");
    assert!(restored.repaired.unwrap().contains("registered again"));
    assert_eq!(named().await, "2");
    let client = Mlflow::new(http());
    client.delete_alias(&model, "champion").await.unwrap();
    assert!(check(http(), &work).await.repaired.unwrap().contains("had been deleted"));
    assert_eq!(named().await, "2");
    ask(&http(), Method::Delete, "registered-models/delete", &[], json!({"name": model})).await;
    assert_eq!(check(http(), &work).await.registered.unwrap().version, "1");
    assert_eq!(named().await, "1");
    let renamed = AliasWork {
        alias: mlop_api::task::Alias { name: "best".into(), ..alias_work(&model, "1", 2).alias },
        ..alias_work(&model, "1", 2)
    };
    alias::activate(&client, &renamed).await.unwrap();
    let found = client.registered_model(&model).await.unwrap().unwrap();
    let aliases: Vec<_> = found.aliases.iter().map(|set| set.alias.as_str()).collect();
    assert_eq!(aliases, ["best"], "the former alias is removed");
}

#[tokio::test]
async fn gateway_with_tls_login_and_path_is_used() {
    let Some(server) = server() else { return };
    let address = tls::gateway(&server, &["Bearer t0ken", "Basic dTpw"]).await;
    let rows: [&[(&str, &str)]; 2] =
        [&[("ca.crt", CA), ("token", "t0ken")], &[("ca.crt", CA), ("username", "u"), ("password", "p")]];
    for keys in rows {
        let secret = tls::secret(keys);
        let http = || Http::new(&address, Some(secret.path())).unwrap();
        let work = register_work(&address, &unique("gateway"));
        register(http(), &work).await.unwrap();
        check(http(), &work).await;
        let direct = Http::new(&server, None).unwrap();
        let (runs, versions) = recorded(&direct, &work.experiment, &work.registered_model).await;
        assert_eq!((runs.len(), versions.len()), (1, 1));
        check_run(&runs[0]);
    }
    let wrong = tls::secret(&[("ca.crt", CA), ("token", "another")]);
    let http = Http::new(&address, Some(wrong.path())).unwrap();
    let failure = register(http, &register_work(&address, "refused")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TrackingRefused, "{}", failure.message);
    assert!(failure.message.contains("it wants a login"), "{}", failure.message);
}
