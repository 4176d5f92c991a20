//! The frame of every worker: task in, result out.
//!
//! ```no_run
//! use mlop_api::result::ResultDocument;
//! fn main() -> std::process::ExitCode {
//!     mlop_artifact::worker::run("mlop-example", async |task| {
//!         tracing::info!(work = ?task.work, "started");
//!         Ok(ResultDocument { summary: Some("nothing to do".into()), ..Default::default() })
//!     })
//! }
//! ```

use crate::{environment, store::ObjectStoreHandle};
use futures::FutureExt;
use mlop_api::{
    Reason,
    result::{Activated, Failure, ResultDocument},
    task::{Subject, Task},
    trace::{self, TraceId},
};
use serde_json::Value;
use std::{
    panic::AssertUnwindSafe,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Largest task in bytes: an annotation has at most 256 KiB.
const TASK_BYTES_MAX: u64 = 1 << 20;
/// Largest recorded result in bytes.
const RESULT_BYTES_MAX: u64 = 64 << 10;

/// Runs a worker: logs, reads the task, does the `work`, reports, and says how the process ends (0: success, 1: the
/// result is a failure). A panic and SIGTERM become retryable failures.
pub fn run<W>(name: &'static str, work: W) -> ExitCode
where
    W: AsyncFnOnce(Task) -> Result<ResultDocument, Failure>,
{
    start(name, async |task| {
        tokio::spawn(end_on_sigterm());
        work(task?).await
    })
}

/// As [`run`], for work that handles SIGTERM itself, and has more to report than the failure when it fails.
pub fn run_until_told<W>(name: &'static str, work: W) -> ExitCode
where
    W: AsyncFnOnce(Task) -> ResultDocument,
{
    start(name, async |task| Ok(work(task?).await))
}

fn start<W>(name: &'static str, work: W) -> ExitCode
where
    W: AsyncFnOnce(Result<Task, Failure>) -> Result<ResultDocument, Failure>,
{
    let task = read_task(&environment::task_dir());
    log(name, task.as_ref().ok().map(|task| &task.subject));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(guarded(work(task)));
    // Threads that are still reading must not delay the end.
    runtime.shutdown_background();
    report(ended, &environment::termination_log())
}

/// Does `work` once for the subject `uid`: a result that is recorded in `store` is only reported again, and a success
/// is recorded. Of two attempts that finish at the same time the first one's result counts for both.
///
/// # Errors
/// Those of `work` and of the store.
pub async fn once<W>(store: &ObjectStoreHandle, uid: &str, work: W) -> Result<ResultDocument, Failure>
where
    W: AsyncFnOnce() -> Result<ResultDocument, Failure>,
{
    if let Some(recorded) = recorded(store, uid).await? {
        return Ok(recorded);
    }
    let result = work().await?;
    record(store, uid, result).await
}

/// The result that an earlier attempt of the subject `uid` has recorded.
///
/// # Errors
/// As the store says, and [`Reason::WorkerFailed`] when the record is not readable.
pub async fn recorded(store: &ObjectStoreHandle, uid: &str) -> Result<Option<ResultDocument>, Failure> {
    let key = result_key(uid);
    let Some(json) = store.find(&key, RESULT_BYTES_MAX).await? else { return Ok(None) };
    tracing::info!(uid, "the work is done already");
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        let message = format!("{} is not a result ({error}); delete it", store.store().uri(&key));
        Failure::terminal(Reason::WorkerFailed, message)
    })
}

/// Records the success of the subject `uid`, and returns the result that counts: the first that was recorded.
///
/// # Errors
/// As the store says.
pub async fn record(
    store: &ObjectStoreHandle,
    uid: &str,
    result: ResultDocument,
) -> Result<ResultDocument, Failure> {
    let json = serde_json::to_vec(&result).map_err(|error| {
        Failure::terminal(Reason::WorkerFailed, format!("the result has no JSON form: {error}"))
    })?;
    if store.create(&result_key(uid), json).await? {
        return Ok(result);
    }
    Ok(recorded(store, uid).await?.unwrap_or(result))
}

fn result_key(uid: &str) -> String {
    format!("results/{uid}.json")
}

/// `result`, and that it is active if `activate` succeeds. A failed activation does not fail the work: the operator
/// starts a pod for the activation alone, and that pod reports the failure.
pub async fn activated(
    result: ResultDocument,
    activation: &Activated,
    activate: impl Future<Output = Result<ResultDocument, Failure>>,
) -> ResultDocument {
    match activate.await {
        Ok(_) => ResultDocument { activated: Some(activation.clone()), ..result },
        Err(Failure { reason, message, .. }) => {
            tracing::warn!(%reason, revision = activation.revision, "not activated: {message}");
            result
        }
    }
}

/// Logs one JSON object a line. Each has the keys of the operators' lines about the `subject`.
fn log(name: &'static str, subject: Option<&Subject>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let mut lines = json_subscriber::layer().flatten_event(true).with_writer(std::io::stderr);
    let parent = std::env::var(trace::TRACEPARENT).ok();
    for (key, value) in subject.into_iter().flat_map(|subject| keys(subject, parent.as_deref())) {
        lines.inner_layer_mut().add_static_field(key, value);
    }
    // Only a test sets a second subscriber.
    let _set_before = tracing_subscriber::registry().with(filter).with(lines).try_init();
    std::panic::set_hook(Box::new(move |panic| tracing::error!(worker = name, %panic, "panicked")));
}

/// The keys of all lines about `subject`. The pods of runs have a parent in a trace, small pods have none.
fn keys(subject: &Subject, parent: Option<&str>) -> Vec<(&'static str, Value)> {
    let Subject { kind, namespace, name, attempt, uid: _ } = subject;
    let mut keys: Vec<(_, Value)> = vec![
        ("kind", kind.as_str().into()),
        ("namespace", namespace.as_str().into()),
        ("name", name.as_str().into()),
        ("attempt", (*attempt).into()),
    ];
    if let Some(trace) = parent.and_then(TraceId::of_traceparent) {
        keys.push(("run", name.as_str().into()));
        keys.push(("trace_id", trace.as_str().into()));
    }
    keys
}

/// Reads `task.json` in `directory`.
fn read_task(directory: &Path) -> Result<Task, Failure> {
    let path = directory.join("task.json");
    let broken =
        |what: String| Failure::terminal(Reason::WorkerFailed, format!("the task {} {what}", path.display()));
    let size = std::fs::metadata(&path).map_err(|error| broken(format!("cannot be read: {error}")))?.len();
    if size > TASK_BYTES_MAX {
        return Err(broken(format!("has {size} bytes, more than {TASK_BYTES_MAX}")));
    }
    let json = std::fs::read(&path).map_err(|error| broken(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&json).map_err(|error| {
        broken(format!("is not one that this worker knows; are its versions mixed? {error}"))
    })
}

/// Set by the first report: there is one result.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Waits for SIGTERM, reports, and ends the process without waiting for the work.
async fn end_on_sigterm() {
    let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return tracing::error!("SIGTERM cannot be handled");
    };
    signal.recv().await;
    if !REPORTED.swap(true, Ordering::SeqCst) {
        let failure =
            Failure::transient(Reason::PodLost, "the pod was asked to end before the work was done");
        write(&ResultDocument::failed(failure), &environment::termination_log());
        std::process::exit(1);
    }
}

async fn guarded(
    work: impl Future<Output = Result<ResultDocument, Failure>>,
) -> Result<ResultDocument, Failure> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure::transient(
            Reason::WorkerFailed,
            format!("the worker panicked; please report it: {text}"),
        ))
    })
}

fn report(ended: Result<ResultDocument, Failure>, termination_log: &Path) -> ExitCode {
    if REPORTED.swap(true, Ordering::SeqCst) {
        return ExitCode::FAILURE;
    }
    let document = ended.unwrap_or_else(ResultDocument::failed);
    let written = write(&document, termination_log);
    if written && document.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(document: &ResultDocument, termination_log: &Path) -> bool {
    let message = document.to_message();
    match &document.error {
        None => tracing::info!(result = message, "succeeded"),
        Some(failure) => {
            tracing::error!(reason = %failure.reason, retryable = failure.retryable, "{}", failure.message);
        }
    }
    match std::fs::write(termination_log, message) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(path = %termination_log.display(), %error, "the result cannot be written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::Digest;
    use serde_json::json;
    use std::cell::Cell;

    fn done(summary: &str) -> ResultDocument {
        ResultDocument { summary: Some(summary.to_owned()), ..Default::default() }
    }

    #[tokio::test]
    async fn finished_work_is_not_repeated() {
        let store = ObjectStoreHandle::in_memory("data");
        let runs = Cell::new(0);
        for _ in 0..2 {
            let result = once(&store, "uid-1", async || {
                runs.set(runs.get() + 1);
                Ok(done("first"))
            });
            assert_eq!(result.await.unwrap(), done("first"));
        }
        assert_eq!(runs.get(), 1);
    }

    #[tokio::test]
    async fn failure_is_not_recorded() {
        let store = ObjectStoreHandle::in_memory("data");
        let failure = Failure::terminal(Reason::SchemaMismatch, "x");
        let failed = once(&store, "uid-1", async || Err(failure.clone())).await;
        assert_eq!(failed.unwrap_err(), failure);
        assert_eq!(once(&store, "uid-1", async || Ok(done("second"))).await.unwrap(), done("second"));
    }

    #[tokio::test]
    async fn first_result_counts_when_two_attempts_overlap() {
        let store = ObjectStoreHandle::in_memory("data");
        let late = once(&store, "uid-1", async || {
            once(&store, "uid-1", async || Ok(done("first"))).await?;
            Ok(done("late"))
        });
        assert_eq!(late.await.unwrap(), done("first"));
    }

    #[tokio::test]
    async fn output_is_made_when_its_activation_fails() {
        let activation = Activated { revision: 3, parameters: Digest::of_bytes(b"ttl") };
        let active = activated(done("made"), &activation, async { Ok(done("online")) }).await;
        assert_eq!(active, ResultDocument { activated: Some(activation.clone()), ..done("made") });
        let failure = Failure::transient(Reason::OnlineStoreUnreachable, "no answer");
        assert_eq!(activated(done("made"), &activation, async { Err(failure) }).await, done("made"));
    }

    #[test]
    fn lines_name_the_run_and_its_trace() {
        let subject = Subject {
            kind: "TrainingRun".to_owned(),
            namespace: "park".to_owned(),
            name: "delay-1".to_owned(),
            uid: "7c0e".to_owned(),
            attempt: 2,
        };
        let lines = |parent| {
            Value::Object(keys(&subject, parent).into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
        };
        let probe = json!({"kind": "TrainingRun", "namespace": "park", "name": "delay-1", "attempt": 2});
        assert_eq!(lines(None), probe);
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let mut run = probe;
        run["run"] = json!("delay-1");
        run["trace_id"] = json!(trace);
        assert_eq!(lines(Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")), run);
    }

    #[tokio::test]
    async fn panic_is_a_retryable_failure() {
        let failure = guarded(async { panic!("boom {}", 1) }).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::WorkerFailed, true));
        assert!(failure.message.contains("boom 1"), "{}", failure.message);
    }

    #[test]
    fn result_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("termination-log");
        let failure = Failure::terminal(Reason::SourceEmpty, "nothing there");
        report(Err(failure.clone()), &log);
        report(Ok(done("too late")), &log);
        let read = ResultDocument::from_message(&std::fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(read, ResultDocument::failed(failure));
    }

    #[test]
    fn unreadable_task_is_a_terminal_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_task(dir.path()).unwrap_err().reason, Reason::WorkerFailed);
        std::fs::write(dir.path().join("task.json"), "{}").unwrap();
        assert!(!read_task(dir.path()).unwrap_err().retryable);
    }
}
