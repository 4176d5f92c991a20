//! A version is registered exactly once, whether requests fail, repeat or meet those of another attempt.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{Reason, common::Metric, task::Provenance};
use mlop_artifact::manifest::TreeSummary;
use support::{At, Cut, Fake, provenance, register, register_tree, register_work};

#[tokio::test]
async fn everything_known_is_recorded() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    let result = register(mlflow.clone(), &work).await.unwrap();
    let registered = result.registered.unwrap();
    assert_eq!((registered.version.as_str(), registered.reference.as_str()), ("1", "models:/model a/1"));
    assert_eq!(result.digest.unwrap(), work.model.digest);
    assert_eq!(result.metrics, work.metrics);
    assert_eq!(result.summary.unwrap(), "version 1; in MLflow \"f1@5\" is f1_5");

    let state = mlflow.state.lock().unwrap();
    let run = &state.runs[0];
    assert!(run.finished);
    assert_eq!(run.params["learning_rate"], "0.1");
    assert_eq!(run.params["seed"], "42");
    let values: Vec<_> =
        run.metrics.iter().map(|m| (m["key"].as_str().unwrap(), m["value"].to_string())).collect();
    let expected = [("auc", "0.71"), ("f1_5", "0.5"), ("loss", "\"NaN\""), ("bound", "\"-Infinity\"")]
        .map(|(k, v)| (k, v.into()));
    assert_eq!(values, expected);
    assert_eq!(run.datasets[0]["dataset"]["digest"], provenance().inputs["features"].short(36));
    let version = &state.models[&work.registered_model].versions[&1];
    assert_eq!(version["source"], work.source_uri);
    let tag = |key: &str| {
        let tags = version["tags"].as_array().unwrap();
        tags.iter().find(|tag| tag["key"] == key).map(|tag| tag["value"].as_str().unwrap().to_owned())
    };
    assert_eq!(tag("mlop.input_digest").unwrap(), work.input_digest.as_str());
    assert_eq!(tag("mlop.digest").unwrap(), work.model.digest.as_str());
    assert_eq!(tag("mlop.namespace").unwrap(), "demo");
    assert_eq!(tag("mlop.input.features").unwrap(), provenance().inputs["features"].as_str());
    assert_eq!(tag("mlop.root.Dataset.flights").unwrap(), provenance().ancestors[0].digest.as_str());
    assert_eq!(run.tags, *version["tags"].as_array().unwrap());
}

#[tokio::test]
async fn killed_registration_leaves_one_run_and_one_version() {
    for at in [At::Request, At::Answer] {
        let mut cuts = 0;
        for after in 1.. {
            let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
            let first = register(Cut::new(mlflow.clone(), after, at), &work).await;
            if first.is_ok() {
                break;
            }
            cuts += 1;
            let failure = first.unwrap_err();
            assert_eq!((failure.reason, failure.retryable), (Reason::TrackingUnreachable, true));
            let second = register(mlflow.clone(), &work).await.unwrap();
            assert_eq!(second.registered.unwrap().version, "1", "cut at {at:?} {after}");
            assert_eq!(mlflow.active_runs(), 1, "cut at {at:?} {after}");
            assert_eq!(mlflow.versions(&work.registered_model), [1], "cut at {at:?} {after}");
            let state = mlflow.state.lock().unwrap();
            let run = state.runs.iter().find(|run| !run.deleted).unwrap();
            assert!(
                run.finished && run.metrics.len() == 4 && run.datasets.len() == 1,
                "cut at {at:?} {after}: {run:?}"
            );
        }
        assert!(cuts > 10, "{cuts}");
    }
}

#[tokio::test]
async fn attempts_at_the_same_time_agree_on_one_version() {
    let mut duplicates = 0;
    for seed in 0..300 {
        let (mlflow, work) = (Fake::shuffled(seed), register_work("http://mlflow", "a"));
        let attempt = || register(mlflow.clone(), &work);
        let (one, two, three) = tokio::join!(attempt(), attempt(), attempt());
        let [one, two, three] = [one, two, three].map(|result| result.unwrap().registered.unwrap());
        assert_eq!((&one, &two), (&two, &three), "seed {seed}");
        assert_eq!(mlflow.versions(&work.registered_model), [1], "seed {seed}");
        assert_eq!(mlflow.active_runs(), 1, "seed {seed}");
        duplicates += usize::from(mlflow.state.lock().unwrap().models[&work.registered_model].made > 1);
    }
    assert!(duplicates > 50, "the attempts met only {duplicates} times");
}

#[tokio::test]
async fn another_model_gets_the_next_version() {
    let (mlflow, first) = (Fake::default(), register_work("http://mlflow", "a"));
    let mut second = register_work("http://mlflow", "b");
    second.registered_model.clone_from(&first.registered_model);
    register(mlflow.clone(), &first).await.unwrap();
    let result = register(mlflow.clone(), &second).await.unwrap();
    assert_eq!(result.registered.unwrap().version, "2");
    let before = mlflow.state.lock().unwrap().requests;
    let again = register(mlflow.clone(), &first).await.unwrap();
    assert_eq!(again.registered.unwrap().version, "1");
    assert_eq!(mlflow.state.lock().unwrap().requests - before, 5, "a repetition only looks");
}

#[tokio::test]
async fn deleted_experiment_is_restored() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    mlflow.state.lock().unwrap().experiments.push(support::deleted_experiment(&work.experiment));
    register(mlflow.clone(), &work).await.unwrap();
    assert!(!mlflow.state.lock().unwrap().experiments[0].deleted);
}

#[tokio::test]
async fn collected_experiment_is_recreated() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    let mut experiment = support::deleted_experiment(&work.experiment);
    experiment.collected = true;
    mlflow.state.lock().unwrap().experiments.push(experiment);
    register(mlflow.clone(), &work).await.unwrap();
    assert_eq!(mlflow.state.lock().unwrap().experiments.len(), 2);
}

#[tokio::test]
async fn deleted_model_is_registered_again() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    register(mlflow.clone(), &work).await.unwrap();
    mlflow.state.lock().unwrap().models.clear();
    let again = register(mlflow.clone(), &work).await.unwrap();
    assert_eq!(again.registered.unwrap().version, "1");
    assert_eq!(mlflow.active_runs(), 1);
}

#[tokio::test]
async fn version_whose_run_is_collected_says_so() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    register(mlflow.clone(), &work).await.unwrap();
    mlflow.state.lock().unwrap().runs.clear();
    let again = register(mlflow.clone(), &work).await.unwrap();
    assert!(again.summary.unwrap().contains("its run run0 was deleted in MLflow for good"));
}

#[tokio::test]
async fn metrics_of_the_manifest_are_logged_under_their_own_keys() {
    let (mlflow, mut work) = (Fake::default(), register_work("http://mlflow", "a"));
    let mut metrics: Vec<Metric> =
        (0..1_500).map(|i| Metric::new(format!("m{i:04}"), f64::from(i))).collect();
    metrics.extend([Metric::new("MAP@k", 0.5), Metric::new("MAP_k", 0.9), Metric::new("val_auc", 0.7)]);
    work.gates = vec!["val_auc".into(), "MAP@k".into()];
    let tree = TreeSummary { provenance: provenance(), metrics, ..TreeSummary::default() };
    let result = register_tree(mlflow.clone(), &work, &tree).await.unwrap();
    let first: Vec<_> = result.metrics.iter().take(3).map(|metric| metric.name.as_str()).collect();
    assert_eq!(first, ["MAP@k", "val_auc", "m0000"], "those of gates come first");
    let state = mlflow.state.lock().unwrap();
    assert_eq!(state.runs[0].metrics.len(), 1_503);
    let value = |key: &str| {
        let found = state.runs[0].metrics.iter().find(|point| point["key"] == key);
        found.map(|point| point["value"].as_f64().unwrap())
    };
    let tag = state.runs[0].tags.iter().find(|tag| tag["value"] == "MAP@k").unwrap();
    let key = tag["key"].as_str().unwrap().strip_prefix("mlop.metric.").unwrap();
    assert_eq!((value("MAP_k"), value(key)), (Some(0.9), Some(0.5)));
    let summary = result.summary.unwrap();
    assert!(summary.contains(&format!("\"MAP@k\" is {key}")), "{summary}");
}

#[tokio::test]
async fn source_is_the_directory_of_the_model() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    let tree = TreeSummary { mlflow_model: Some("model".into()), ..TreeSummary::default() };
    register_tree(mlflow.clone(), &work, &tree).await.unwrap();
    let state = mlflow.state.lock().unwrap();
    let source = state.models[&work.registered_model].versions[&1]["source"].as_str().unwrap();
    assert_eq!(source, format!("{}/model", work.source_uri.trim_end_matches('/')));
}

#[tokio::test]
async fn odd_parameters_are_recorded_and_cut_ones_named() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    let hyperparameters = [("seed", "10".to_owned()), ("long", "ü".repeat(7_000)), ("empty", String::new())];
    let provenance = Provenance {
        seed: i64::MIN,
        hyperparameters: hyperparameters.map(|(name, value)| (name.to_owned(), value)).into(),
        ..provenance()
    };
    let tree = TreeSummary { provenance, ..TreeSummary::default() };
    for _ in 0..2 {
        let result = register_tree(mlflow.clone(), &work, &tree).await.unwrap();
        assert!(result.summary.unwrap().ends_with("cut: long"));
    }
    let state = mlflow.state.lock().unwrap();
    let params = &state.runs[0].params;
    assert_eq!((params["seed"].as_str(), params["empty"].as_str()), ("10", ""));
    assert_eq!(params["spec.seed"], i64::MIN.to_string());
}
