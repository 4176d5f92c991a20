//! The files on the disk before the command starts, and those that survive a pod.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{
    Digest, MEDIA_TREE, Reason,
    preflight::Check,
    task::{Input, Provenance},
};
use mlop_artifact::{manifest::tree_key, patience::Patience, tree};
use std::{fs, time::Duration};
use support::{Pod, Run};

/// A run with a tree as its input.
async fn run_with_input() -> (Run, Digest) {
    let (mut run, directory) = (Run::new(), tempfile::tempdir().unwrap());
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::write(directory.path().join("a/b"), "content").unwrap();
    let digest = tree::upload(&run.store, directory.path(), Provenance::default()).await.unwrap().digest;
    let input = Input {
        name: "features".into(),
        digest: digest.clone(),
        media_type: MEDIA_TREE.into(),
        store: run.store.store().clone(),
    };
    run.work.inputs.push(input);
    (run, digest)
}

#[tokio::test]
async fn inputs_code_and_parameters_are_there() {
    let (run, _) = run_with_input().await;
    let pod = run.pod().await;
    pod.fetch().await.expect("an init container may run twice");
    let read = |path: &str| fs::read_to_string(pod.path(path)).unwrap();
    assert_eq!(read("inputs/features/a/b"), "content");
    assert_eq!(read("work/train.py"), "print(1)");
    assert_eq!(read("hyperparameters.json"), r#"{"learning_rate":"0.1"}"#);
    assert!(
        pod.layout.started().exists() && pod.layout.output().is_dir() && pod.layout.checkpoint().is_dir()
    );
}

#[tokio::test]
async fn altered_input_is_refused() {
    let (run, digest) = run_with_input().await;
    let key = tree_key(&digest, "a/b");
    run.store.delete(&key).await.unwrap();
    run.store.create(&key, "CONTENT".as_bytes()).await.unwrap();
    let failure = Pod::new(&run).fetch().await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::InputCorrupt, false), "{}", failure.message);
}

#[tokio::test]
async fn names_cannot_lead_out_of_their_directory() {
    let (mut run, _) = run_with_input().await;
    run.work.content.code.insert("../evil".into(), String::new());
    let pod = Pod::new(&run);
    assert_eq!(pod.fetch().await.unwrap_err().reason, Reason::InputCorrupt);
    assert!(!pod.path("evil").exists());
}

#[tokio::test]
async fn nothing_is_fetched_to_a_pod_that_is_not_fit() {
    let (mut run, _) = run_with_input().await;
    run.work.needs.scratch_bytes = u64::MAX;
    let pod = Pod::new(&run);
    let failure = pod.fetch().await.unwrap_err();
    assert_eq!((failure.reason, failure.preflight), (Reason::PreflightFailed, Some(Check::Disk)));
    assert!(!pod.path("inputs/features").exists());

    run.work.needs.scratch_bytes = 3;
    let failure = Pod::new(&run).fetch().await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::OutOfDisk, false), "{}", failure.message);
}

#[tokio::test]
async fn store_that_does_not_answer_in_time_fails_the_preflight() {
    let (run, outage) = Run::with_outage();
    let short = Patience { total: Duration::from_millis(20), ..run.store.patience() };
    let run = Run { store: run.store.with_patience(short), ..run };
    outage.leave_unanswered(usize::MAX);
    let failure = Pod::new(&run).fetch().await.unwrap_err();
    assert_eq!((failure.reason, failure.preflight), (Reason::PreflightFailed, Some(Check::Store)));
    assert!(failure.message.contains("ObjectStore models does not answer this pod: "), "{}", failure.message);
    outage.leave_unanswered(0);
    Pod::new(&run).fetch().await.unwrap();
}
