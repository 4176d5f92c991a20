//! What is on the disk before the command starts, and what survives a pod.

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
    task::{Input, Provenance},
};
use mlop_artifact::{manifest::tree_key, tree};
use mlop_launcher::checkpoint::Checkpoints;
use std::{fs, path::Path};
use support::{Pod, Run, failure};

/// A run with a tree as its input.
async fn run_with_input() -> (Run, Digest) {
    let (mut run, folder) = (Run::new(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/b"), "content").unwrap();
    let digest = tree::upload(&run.store, folder.path(), Provenance::default()).await.unwrap().digest;
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
    assert!(pod.layout.output().is_dir() && pod.layout.checkpoint().is_dir());
}

#[tokio::test]
async fn an_altered_input_is_refused() {
    let (run, digest) = run_with_input().await;
    let key = tree_key(&digest, "a/b");
    run.store.delete(&key).await.unwrap();
    run.store.create(&key, "CONTENT".as_bytes()).await.unwrap();
    let failure = Pod::new(&run).fetch().await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::InputCorrupt, false), "{}", failure.message);
}

#[tokio::test]
async fn names_cannot_lead_out_of_their_folder() {
    let (mut run, _) = run_with_input().await;
    run.work.code.insert("../evil".into(), String::new());
    let pod = Pod::new(&run);
    assert_eq!(pod.fetch().await.unwrap_err().reason, Reason::InputCorrupt);
    assert!(!pod.path("evil").exists());
}

#[tokio::test]
async fn an_attempt_goes_on_from_the_last_checkpoint() {
    let run = Run::new();
    let save = "save() { mkdir $MLOP_CHECKPOINT/.new && echo $1 > $MLOP_CHECKPOINT/.new/state && mv $MLOP_CHECKPOINT/.new $MLOP_CHECKPOINT/$1; }";
    let (first, _) =
        run.attempt(&format!("{save}; save 9; save 10; mkdir $MLOP_CHECKPOINT/011; exit 1")).await;
    assert_eq!((failure(&first).reason, first.checkpoint), (Reason::UserError, Some(10)));
    let (second, _) = run
        .attempt(
            "ls $MLOP_CHECKPOINT > $MLOP_OUTPUT/seen; cat $MLOP_CHECKPOINT/10/state >> $MLOP_OUTPUT/seen",
        )
        .await;
    assert_eq!(second.error, None);
    let seen = run.store.get(&tree_key(&second.digest.unwrap(), "seen"), 100).await.unwrap();
    assert_eq!(seen, "10\n10\n");
}

fn write_checkpoint(folder: &Path, number: u64, state: &str) {
    fs::create_dir_all(folder.join(number.to_string())).unwrap();
    fs::write(folder.join(number.to_string()).join("state"), state).unwrap();
}

#[tokio::test]
async fn the_store_keeps_the_newest_two() {
    let (run, folder) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = Checkpoints::new(&run.store, &run.subject, folder.path().to_owned());
    for number in [1, 2, 10] {
        write_checkpoint(folder.path(), number, "x");
        checkpoints.save().await.unwrap();
        checkpoints.save().await.unwrap();
        assert_eq!(checkpoints.saved(), Some(number));
    }
    let mut numbers: Vec<String> =
        run.keys().await.iter().map(|key| key.split('/').nth(2).unwrap().to_owned()).collect();
    numbers.dedup();
    assert_eq!(numbers, ["10", "2"]);
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over() {
    let (run, folder) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = Checkpoints::new(&run.store, &run.subject, folder.path().to_owned());
    for number in [1, 2] {
        write_checkpoint(folder.path(), number, "x");
        checkpoints.save().await.unwrap();
    }
    let state = run.keys().await.into_iter().find(|key| key.contains("/2/trees/")).unwrap();
    run.store.delete(&state).await.unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let restored =
        Checkpoints::new(&run.store, &run.subject, fresh.path().to_owned()).restore().await.unwrap();
    assert_eq!(restored, Some(1));
    assert_eq!(fs::read_to_string(fresh.path().join("1/state")).unwrap(), "x");
    assert!(!fresh.path().join("2").exists());
}

#[tokio::test]
async fn a_link_is_no_checkpoint() {
    let (run, folder) = (Run::new(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("/etc", folder.path().join("5")).unwrap();
    let mut checkpoints = Checkpoints::new(&run.store, &run.subject, folder.path().to_owned());
    checkpoints.save().await.unwrap();
    assert_eq!(checkpoints.saved(), None);
}
