//! The pods of a distributed training.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{Reason, distributed::Size};
use support::{Run, failure};

/// A run of two pods.
fn run() -> Run {
    let mut run = Run::new();
    run.work.size = Some(Size { replicas: 2, processes_per_worker: 1 });
    run
}

const TRAIN: &str = "echo $0 > $MLOP_OUTPUT/model; echo 5 > $MLOP_CHECKPOINT/5";

#[tokio::test]
async fn only_the_leader_publishes() {
    let run = run();
    let mut worker = run.pod().await;
    worker.rank = 1;
    let (document, _) = worker.attempt(&["sh", "-c", TRAIN]).await;
    assert_eq!((document.error, document.digest, document.checkpoint), (None, None, None));
    assert_eq!(run.keys().await, [""; 0], "neither an output nor a result nor a checkpoint");
    let (document, _) = run.attempt(TRAIN).await;
    assert!(document.digest.is_some(), "{document:?}");
}

#[tokio::test]
async fn worker_of_a_finished_run_has_nothing_to_do() {
    let run = run();
    let (published, _) = run.attempt(TRAIN).await;
    let mut worker = run.pod().await;
    worker.rank = 1;
    let (document, output) = worker.attempt(&["sh", "-c", "exit 1"]).await;
    assert_eq!((document.error, output.status.code()), (None, Some(0)));
    let (again, _) = run.pod().await.attempt(&["sh", "-c", "exit 1"]).await;
    assert_eq!(again.digest, published.digest);
}

#[tokio::test]
async fn end_of_a_worker_is_reported() {
    let run = run();
    let mut worker = run.pod().await;
    worker.rank = 1;
    let (document, _) = worker.attempt(&["sh", "-c", "echo no peer >&2; exit 3"]).await;
    let failure = failure(&document);
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::UserError, "exit code 3: no peer"));
}

#[tokio::test]
async fn leader_that_falls_with_others_does_not_doubt_its_checkpoint() {
    let run = run();
    run.attempt("echo 1 > $MLOP_CHECKPOINT/1; exit 1").await;
    run.attempt("echo lost a peer >&2; exit 1").await;
    let (document, _) = run.attempt("cat $MLOP_CHECKPOINT/1 > $MLOP_OUTPUT/seen").await;
    assert!(document.error.is_none(), "{document:?}");
    let suspects = run.keys().await.into_iter().filter(|key| key.ends_with("suspect"));
    assert_eq!(suspects.count(), 0);
}
