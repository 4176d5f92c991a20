//! The binary as pods run it: a task in a directory, a result in a file, and a server that ends when asked to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use common::{
    Scratch,
    redis::{PASSWORD, TestRedis},
    view::user_stats,
};
use mlop_api::{
    Digest, Reason,
    result::ResultDocument,
    task::{Redis, Subject, Task, Work},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const BINARY: &str = env!("CARGO_BIN_EXE_mlop-features");

/// Runs the worker; gives its exit code and result.
fn work(work: Work, redis_dir: &std::path::Path) -> (Option<i32>, ResultDocument) {
    let subject = Subject {
        kind: "FeatureView".to_owned(),
        namespace: "fraud".to_owned(),
        name: "user-stats".to_owned(),
        uid: "1".to_owned(),
        attempt: 1,
    };
    let (scratch, log) = (Scratch::new(), Scratch::new());
    fs::write(scratch.path().join("task.json"), serde_json::to_vec(&Task { subject, work }).unwrap())
        .unwrap();
    let log = log.path().join("termination-log");
    let status = Command::new(BINARY)
        .env("MLOP_TASK_DIR", scratch.path())
        .env("MLOP_REDIS_DIR", redis_dir)
        .env("MLOP_TERMINATION_LOG", &log)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let message = fs::read_to_string(&log).unwrap();
    (status.code(), ResultDocument::from_message(&message).unwrap())
}

#[tokio::test]
async fn task_ends_with_its_result() {
    let Some(mut redis) = TestRedis::start().await else { return };
    let directory = redis.password_file().parent().unwrap().to_owned();
    let remove = Work::Deactivate {
        view: user_stats(),
        redis: Redis { address: redis.address(), password: true, user: None, tls: false, cluster: false },
        left: None,
    };
    let (code, result) = work(remove.clone(), &directory);
    assert_eq!((code, result.summary.as_deref()), (Some(0), Some("removed")));
    redis.stop();
    let (code, result) = work(remove, &directory);
    let failure = result.error.unwrap();
    assert_eq!((code, failure.reason, failure.retryable), (Some(1), Reason::OnlineStoreUnreachable, true));
}

/// Probes `redis`, whose data had seen so many probes. Gives the digest of the mark, and how many they have seen now.
fn probe(redis: &TestRedis, secret: &Scratch, seen: u64) -> (Digest, u64) {
    let redis = Redis { address: redis.address(), password: true, user: None, tls: false, cluster: false };
    let (namespace, name) = ("fraud".to_owned(), "features".to_owned());
    let (code, result) = work(Work::ProbeOnline { namespace, name, redis, seen }, secret.path());
    assert_eq!(code, Some(0), "{result:?}");
    let [probes] = &result.metrics[..] else { panic!("{result:?}") };
    (result.digest.unwrap(), probes.value.parse().unwrap())
}

fn secret() -> Scratch {
    let secret = Scratch::new();
    fs::write(secret.path().join("password"), PASSWORD).unwrap();
    secret
}

#[tokio::test]
async fn mark_changes_when_the_store_has_lost_its_data() {
    let Some(redis) = TestRedis::start().await else { return };
    let secret = secret();
    let (first, seen) = probe(&redis, &secret, 0);
    assert_eq!(probe(&redis, &secret, seen), (first.clone(), 2), "the mark stays with the data");
    redis.run(&["FLUSHALL"]).await;
    let (second, seen) = probe(&redis, &secret, 2);
    assert_ne!(second, first);
    assert_eq!(probe(&redis, &secret, seen), (second, 4));
}

#[tokio::test]
async fn mark_changes_when_the_store_has_earlier_data() {
    let Some(redis) = TestRedis::start().await else { return };
    let secret = secret();
    let (first, backup) = probe(&redis, &secret, 0);
    let (_, seen) = probe(&redis, &secret, backup);
    // A pod that was lost has counted too.
    assert_eq!(probe(&redis, &secret, backup), (first.clone(), 3));
    assert_eq!(probe(&redis, &secret, seen).0, first);
    let counter = "mlop:store:{fraud/features}:mark:probes";
    redis.run(&["SET", counter, &backup.to_string()]).await;
    let (second, seen) = probe(&redis, &secret, seen);
    assert_ne!(second, first, "the data are those of the backup");
    assert_eq!(probe(&redis, &secret, seen), (second, seen + 1));
}

#[tokio::test]
async fn full_store_answers_probes() {
    let Some(redis) = TestRedis::start().await else { return };
    let secret = secret();
    let (mark, seen) = probe(&redis, &secret, 0);
    redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(probe(&redis, &secret, seen), (mark, seen));
}

#[test]
fn unusable_password_is_refused_by_name() {
    let scratch = Scratch::new();
    let probe = || {
        let redis = Redis {
            address: "127.0.0.1:1".to_owned(),
            password: true,
            user: None,
            tls: false,
            cluster: false,
        };
        let (namespace, name) = ("fraud".to_owned(), "features".to_owned());
        work(Work::ProbeOnline { namespace, name, redis, seen: 0 }, scratch.path()).1.error.unwrap()
    };
    let missing = probe();
    assert_eq!(missing.reason, Reason::SecretMissing);
    assert!(
        missing.message.contains("FeatureStore features: the Secret that it names has no key password"),
        "{missing:?}"
    );
    fs::write(scratch.path().join("password"), "secret\n").unwrap();
    let flawed = probe();
    assert_eq!(flawed.reason, Reason::SecretMissing);
    assert!(flawed.message.contains("ends with a line end"), "{flawed:?}");
}

#[test]
fn foreign_work_is_refused() {
    let scratch = Scratch::new();
    let store = common::store().store().clone();
    let (code, result) = work(Work::Probe { store, read_only: false }, scratch.path());
    let failure = result.error.unwrap();
    assert_eq!((code, failure.reason, failure.retryable), (Some(1), Reason::WorkerFailed, false));
}

#[test]
fn server_ends_when_it_receives_sigterm() {
    let mut server = Command::new(BINARY)
        .args(["serve", "--redis", "127.0.0.1:1", "--namespace", "fraud", "--listen", "127.0.0.1:0"])
        .args(["--drain-seconds", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("listening")));
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    assert!(server.wait().unwrap().success());
}
