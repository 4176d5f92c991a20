//! Listening to running pods: the last lines of their workers' logs, read from time to time in the background.
//!
//! A log is the only way in which a pod without a token can say something before it ends. No reconcile waits for a read. A
//! read that brings something new enqueues its run. What was read is kept in memory only: a restarted operator reads it
//! again.

use crate::runtime::{backoff, context::Context, metrics::Metrics, workqueue::Key};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use mlop_api::{labels, progress::Report};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// Least time between two reads of one log.
pub(super) const INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// Time between two reads of any logs, on the average: with many runs, each is read less often.
const PACE: SignedDuration = SignedDuration::from_millis(50);
/// Reads at the same time.
const READS: usize = 8;
/// Longest time of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines that are read: the worker logs other things too.
const LINES: i64 = 10;
/// Most bytes that are read.
const BYTES: i64 = 64 << 10;
/// Least number of runs at which those that are read no more are forgotten.
const RUNS_KEPT: usize = 64;

/// What is known from the log of a run's pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub report: Option<Arc<Report>>,
    /// When its log is read next.
    pub next: Timestamp,
}

/// The logs that are read.
pub(super) struct Listener {
    shared: Arc<Shared>,
    /// Ends the reads with the listener.
    reads: Mutex<JoinSet<()>>,
}

struct Shared {
    permits: Semaphore,
    logs: Mutex<Logs>,
    enqueue: OnceLock<Box<dyn Fn(Key) + Send + Sync>>,
}

#[derive(Default)]
struct Logs {
    by_run: BTreeMap<Key, Log>,
    /// Number of runs at which those that are read no more are forgotten next.
    limit: usize,
}

struct Log {
    pod: String,
    next: Timestamp,
    is_being_read: bool,
    report: Option<Arc<Report>>,
}

impl Listener {
    pub(super) fn new() -> Self {
        let (permits, enqueue) = (Semaphore::new(READS), OnceLock::new());
        let shared = Shared { permits, logs: Mutex::default(), enqueue };
        Self { shared: Arc::new(shared), reads: Mutex::default() }
    }

    /// Calls `enqueue` with the run about which there is something new.
    pub(super) fn on_news(&self, enqueue: impl Fn(Key) + Send + Sync + 'static) {
        // Set once, by the set-up.
        let _first = self.shared.enqueue.set(Box::new(enqueue));
    }

    /// What the pod `name` of `run` has said, which has this uid and runs. Begins to read its log if that is due.
    pub(super) fn listen(&self, cx: &Context, run: &Key, name: &str, uid: &str) -> Heard {
        let now = cx.now();
        let mut logs = self.shared.logs();
        if logs.by_run.get(run).is_none_or(|log| log.pod != uid) {
            logs.forget(now);
            let log = Log { pod: uid.to_owned(), next: first(now, uid), is_being_read: false, report: None };
            logs.by_run.insert(run.clone(), log);
        }
        let interval = interval(logs.by_run.len());
        let Some(log) = logs.by_run.get_mut(run) else { return Heard { report: None, next: now } };
        if log.next <= now {
            log.next = now.checked_add(interval).unwrap_or(now);
            if !std::mem::replace(&mut log.is_being_read, true) {
                self.read(cx, run.clone(), name.to_owned(), uid.to_owned());
            }
        }
        Heard { report: log.report.clone(), next: log.next }
    }

    fn read(&self, cx: &Context, run: Key, name: String, uid: String) {
        let (client, metrics, shared) =
            (cx.client.clone(), Arc::clone(&cx.metrics), Arc::clone(&self.shared));
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        while reads.try_join_next().is_some() {}
        reads.spawn(async move {
            let report = {
                let _permit = shared.permits.acquire().await;
                last_report(client, &metrics, &run.namespace, &name).await
            };
            shared.heard(&run, &uid, report);
        });
    }
}

impl Shared {
    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, run: &Key, uid: &str, report: Option<Report>) {
        let mut logs = self.logs();
        let Some(log) = logs.by_run.get_mut(run).filter(|log| log.pod == uid) else { return };
        log.is_being_read = false;
        // A read that has failed, or finds other lines only, changes nothing.
        let Some(report) = report.filter(|report| log.report.as_deref() != Some(report)) else { return };
        log.report = Some(Arc::new(report));
        drop(logs);
        if let Some(enqueue) = self.enqueue.get() {
            enqueue(run.clone());
        }
    }
}

impl Logs {
    /// Forgets the runs that nobody asks for any more, at a cost per run that does not grow with their number.
    fn forget(&mut self, now: Timestamp) {
        if self.by_run.len() < self.limit.max(RUNS_KEPT) {
            return;
        }
        let interval = interval(self.by_run.len());
        self.by_run.retain(|_, log| log.next.checked_add(interval * 2).is_ok_and(|end| end > now));
        self.limit = 2 * self.by_run.len();
    }
}

/// When the log of a pod is read first, which was seen to run at `now`: soon, but not at once. There is nothing to read yet, or
/// the operator has just started and sees all pods.
fn first(now: Timestamp, uid: &str) -> Timestamp {
    let delay = INTERVAL / 3
        + SignedDuration::try_from(backoff::jitter(Duration::from_secs(5), uid)).unwrap_or_default();
    now.checked_add(delay).unwrap_or(now)
}

/// Time between two reads of each of `runs` logs.
fn interval(runs: usize) -> SignedDuration {
    let runs = i32::try_from(runs).unwrap_or(i32::MAX);
    INTERVAL.max(PACE.saturating_mul(runs))
}

/// The last report in the log of the worker of pod `name`; none if there is none or it cannot be read.
async fn last_report(client: Client, metrics: &Metrics, namespace: &str, name: &str) -> Option<Report> {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let params = LogParams {
        container: Some(labels::WORKER_CONTAINER.to_owned()),
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        ..LogParams::default()
    };
    let read = timeout(READ_TIMEOUT, pods.logs(name, &params)).await;
    let log = match read {
        Ok(Ok(log)) => Ok(log),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", READ_TIMEOUT.as_secs())),
    };
    metrics.count_log_read(log.is_ok());
    match log {
        Ok(log) => Report::last_of(&log),
        Err(error) => {
            tracing::warn!(namespace, pod = name, "the progress of a training cannot be read: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_grows_with_the_number_of_logs() {
        for (runs, seconds) in [(0, 15), (1, 15), (300, 15), (600, 30), (4_000, 200)] {
            assert_eq!(interval(runs).as_secs(), seconds, "{runs}");
        }
    }

    #[test]
    fn first_read_is_soon_and_spread() {
        let delays: std::collections::BTreeSet<_> = (0..100)
            .map(|pod| first(Timestamp::UNIX_EPOCH, &pod.to_string()).as_millisecond())
            .inspect(|delay| assert!((5_000..10_000).contains(delay), "{delay}"))
            .collect();
        assert!(delays.len() > 90, "{delays:?}");
    }

    #[test]
    fn runs_that_nobody_asks_for_are_forgotten() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut logs = Logs::default();
        for run in 0..1_000 {
            logs.forget(at(run));
            let log = Log { pod: String::new(), next: at(run + 15), is_being_read: false, report: None };
            logs.by_run.insert(Key::new("ns", run.to_string()), log);
        }
        assert!(logs.by_run.len() < 4 * RUNS_KEPT, "{}", logs.by_run.len());
    }
}
