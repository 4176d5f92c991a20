//! A version exactly once, whatever happens between two requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::Reason;
use support::{At, Cut, Fake, provenance, register, register_work};

#[tokio::test]
async fn everything_known_is_recorded() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    let result = register(mlflow.clone(), &work).await.unwrap();
    let registered = result.registered.unwrap();
    assert_eq!((registered.version.as_str(), registered.reference.as_str()), ("1", "models:/demo.delay/1"));
    assert_eq!(result.digest.unwrap(), work.model.digest);
    assert_eq!(result.metrics, work.metrics);
    assert_eq!(result.summary.unwrap(), "version 1");

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
async fn killed_between_any_two_requests_there_is_one_run_and_one_version() {
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
async fn a_deleted_experiment_is_brought_back() {
    let (mlflow, work) = (Fake::default(), register_work("http://mlflow", "a"));
    mlflow.state.lock().unwrap().experiments.push(support::deleted_experiment(&work.experiment));
    register(mlflow.clone(), &work).await.unwrap();
    assert!(!mlflow.state.lock().unwrap().experiments[0].deleted);
}
