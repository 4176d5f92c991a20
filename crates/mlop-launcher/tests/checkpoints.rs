//! Checkpoints that outlive a pod.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::Reason;
use mlop_artifact::manifest::tree_key;
use mlop_launcher::checkpoint::{Checkpoints, Complete};
use std::{fs, path::Path};
use support::{Run, failure};
use tempfile::TempDir;

fn write(directory: &Path, path: &str, content: &str) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn on(run: &Run, directory: &TempDir) -> Checkpoints {
    Checkpoints::new(&run.store, &run.subject, directory.path().to_owned())
}

/// The entries that the next attempt finds.
async fn restored(run: &Run) -> (Option<String>, TempDir) {
    let (directory, unfinished) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = on(run, &directory).restore(&unfinished.path().join("restoring")).await.unwrap();
    (name, directory)
}

/// Sequence numbers in the store.
async fn kept(run: &Run) -> Vec<String> {
    let keys = run.keys().await.into_iter().filter(|key| key.starts_with("checkpoints/"));
    let mut numbers: Vec<String> = keys.map(|key| key.split('/').nth(2).unwrap().to_owned()).collect();
    numbers.dedup();
    numbers
}

/// The number of the newest one that was saved.
fn number(checkpoints: &Checkpoints) -> Option<u64> {
    checkpoints.saved().and_then(|saved| saved.number())
}

#[tokio::test]
async fn attempt_goes_on_from_the_last_checkpoint() {
    let run = Run::new();
    let save = "save() { mkdir $MLOP_CHECKPOINT/.new && echo $1 > $MLOP_CHECKPOINT/.new/state && mv $MLOP_CHECKPOINT/.new $MLOP_CHECKPOINT/checkpoint-$1; }";
    let (first, _) =
        run.attempt(&format!("{save}; save 9; save 10; mkdir $MLOP_CHECKPOINT/011; exit 1")).await;
    assert_eq!(
        (failure(&first).reason, first.checkpoint.and_then(|saved| saved.step)),
        (Reason::UserError, Some(10))
    );
    let look = "ls $MLOP_CHECKPOINT > $MLOP_OUTPUT/seen; cat $MLOP_CHECKPOINT/checkpoint-10/state >> $MLOP_OUTPUT/seen";
    let (second, _) = run.attempt(look).await;
    assert_eq!((second.error, second.checkpoint), (None, None));
    let seen = run.store.get(&tree_key(&second.digest.unwrap(), "seen"), 100).await.unwrap();
    assert_eq!(seen, "checkpoint-10\n10\n");
    assert_eq!(kept(&run).await, [""; 0], "they are of no use after a success");
}

#[tokio::test]
async fn another_run_of_the_same_name_starts_from_nothing() {
    let mut run = Run::new();
    run.attempt("echo 1 > $MLOP_CHECKPOINT/1; exit 1").await;
    run.subject.uid = "uid-2".into();
    assert_eq!(restored(&run).await.0, None);
}

#[tokio::test]
async fn store_keeps_the_newest_two_checkpoints() {
    let (run, disk) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = on(&run, &disk);
    checkpoints.begin().await.unwrap();
    for step in [1, 2, 10] {
        write(disk.path(), &format!("{step}/state"), "x");
        checkpoints.save(Complete::All).await.unwrap();
        checkpoints.save(Complete::All).await.unwrap();
        assert_eq!(number(&checkpoints), Some(step));
    }
    assert_eq!(kept(&run).await, ["2", "3"]);
}

#[tokio::test]
async fn checkpoint_counts_when_it_no_longer_changes() {
    let (run, disk) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = on(&run, &disk);
    checkpoints.begin().await.unwrap();
    write(disk.path(), "epoch=1.ckpt", "a");
    for content in ["ab", "abc"] {
        checkpoints.save(Complete::Settled).await.unwrap();
        checkpoints.save(Complete::Settled).await.unwrap();
        write(disk.path(), "epoch=1.ckpt", content);
    }
    assert_eq!(number(&checkpoints), None);
    for _ in 0..3 {
        checkpoints.save(Complete::Settled).await.unwrap();
    }
    assert_eq!(number(&checkpoints), Some(1));
    write(disk.path(), "epoch=2.ckpt", "half");
    checkpoints.save(Complete::Settled).await.unwrap();
    assert_eq!(number(&checkpoints), Some(1));
    write(disk.path(), "epoch=3.ckpt", "half");
    checkpoints.save(Complete::Settled).await.unwrap();
    assert_eq!(number(&checkpoints), Some(2), "the next one has begun");
    let (name, found) = restored(&run).await;
    assert_eq!(name.unwrap(), "epoch=2.ckpt");
    assert_eq!(fs::read_dir(found.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn file_without_a_number_is_saved_when_it_changes() {
    let (run, disk) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = on(&run, &disk);
    checkpoints.begin().await.unwrap();
    for content in ["1", "22"] {
        write(disk.path(), "last.ckpt", content);
        for _ in 0..4 {
            checkpoints.save(Complete::Settled).await.unwrap();
        }
    }
    assert_eq!((number(&checkpoints), kept(&run).await), (Some(2), vec!["1".to_owned(), "2".to_owned()]));
    let (_, found) = restored(&run).await;
    assert_eq!(fs::read_to_string(found.path().join("last.ckpt")).unwrap(), "22");
}

#[tokio::test]
async fn damaged_checkpoint_is_skipped() {
    let (run, disk) = (Run::new(), tempfile::tempdir().unwrap());
    let mut checkpoints = on(&run, &disk);
    checkpoints.begin().await.unwrap();
    for step in [1, 2] {
        write(disk.path(), &format!("{step}/state"), "x");
        checkpoints.save(Complete::All).await.unwrap();
    }
    let state = run.keys().await.into_iter().find(|key| key.contains("/2/trees/")).unwrap();
    run.store.delete(&state).await.unwrap();
    let (name, found) = restored(&run).await;
    assert_eq!(name.unwrap(), "1");
    assert_eq!(fs::read_to_string(found.path().join("1/state")).unwrap(), "x");
    assert!(!found.path().join("2").exists());
}

#[tokio::test]
async fn checkpoint_that_fails_attempts_gives_way_to_its_predecessor() {
    let run = Run::new();
    let work =
        "cd $MLOP_CHECKPOINT; ls >&2; test -e bad-3 && exit 2; echo 1 > good-2; echo half > bad-3; exit 1";
    let begin = "echo 1 > $MLOP_CHECKPOINT/good-2; while [ ! -e ../go ]; do sleep 0.1; done";
    let pod = run.pod().await;
    let launcher = pod.launch(&["sh", "-c", &format!("{begin}; {work}")]);
    let (first, ()) = tokio::join!(pod.agent(), async {
        while run.keys().await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        fs::write(pod.path("go"), "").unwrap();
    });
    support::ended(launcher).await;
    assert_eq!(first.checkpoint.and_then(|saved| saved.number()), Some(3));
    let (second, _) = run.attempt(work).await;
    assert!(failure(&second).message.starts_with("exit code 2"), "{second:?}");
    assert_eq!(second.checkpoint, None);
    let (name, _) = restored(&run).await;
    assert_eq!(name.unwrap(), "good-2");
}

#[tokio::test]
async fn link_is_not_a_checkpoint() {
    let (run, disk) = (Run::new(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("/etc", disk.path().join("5")).unwrap();
    let mut checkpoints = on(&run, &disk);
    checkpoints.begin().await.unwrap();
    checkpoints.save(Complete::All).await.unwrap();
    assert_eq!(number(&checkpoints), None);
}
