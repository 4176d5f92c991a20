//! The agent: watches over the user's command from its own container, saves its checkpoints and output, and writes the
//! result.

use crate::{
    Layout,
    checkpoint::{Checkpoints, Complete},
    local,
    progress::Progress,
    protocol::{self, End, Report, Stop},
    publish::Output,
    words::{cut, quote},
};
use mlop_api::{
    Reason,
    preflight::Check,
    result::{Failure, ResultDocument},
    task::{Provenance, Subject, TrainWork},
};
use mlop_artifact::{patience::Patience, store::ObjectStoreHandle, worker};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncBufRead, BufReader},
    net::{UnixListener, unix::OwnedWriteHalf},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Time between two looks for new checkpoints.
const LOOK: Duration = Duration::from_secs(5);
/// How much longer than the grace the launcher may take to report.
const REPORT_WAIT: Duration = Duration::from_secs(10);
/// Time between SIGTERM and SIGKILL of the pod, unless the task says otherwise.
const GRACE: Duration = Duration::from_secs(60);
/// Longest look for a result that an earlier attempt has recorded.
const RECORDED_WAIT: Duration = Duration::from_secs(60);
/// Longest removal of the checkpoints of a run that has succeeded.
const REMOVAL_WAIT: Duration = Duration::from_secs(30);
/// How long after the deadline finished output may still be published: less than the pod has.
const PUBLISHING: Duration = Duration::from_secs(300);
/// Longest time for the output of a command without a deadline.
const UNLIMITED: Duration = Duration::from_secs(u32::MAX as u64);

/// A training as its agent sees it.
pub struct Agent<'a> {
    pub layout: &'a Layout,
    pub subject: &'a Subject,
    pub work: &'a TrainWork,
    pub store: &'a ObjectStoreHandle,
    /// The rank of the pod among those of a distributed training. That of rank 0 publishes and saves checkpoints.
    pub rank: u32,
    /// Becomes true when the pod must go.
    pub leaving: watch::Receiver<bool>,
}

/// How the watch over the command ended.
enum Ended {
    Reported(Report),
    /// The launcher was killed, and with it the command.
    Lost(String),
    /// The deadline was reached; the last lines.
    TooLong(Vec<String>),
    /// The pod must go.
    Leaving,
}

impl Agent<'_> {
    /// Sees the training through, unless an earlier attempt has.
    pub async fn train(self) -> ResultDocument {
        if self.rank > 0 {
            return self.follow().await.unwrap_or_else(ResultDocument::failed);
        }
        let mut checkpoints = Checkpoints::new(self.store, self.subject, self.layout.checkpoint());
        let mut progress = Progress::new(self.layout, self.subject.attempt);
        let result = match self.recorded().await {
            Some(result) => result,
            None => self.attempt(&mut checkpoints, &mut progress).await,
        };
        if result.is_ok() {
            remove(&checkpoints).await;
        }
        let document = result.unwrap_or_else(ResultDocument::failed);
        let checkpoint = document.checkpoint.or(checkpoints.saved());
        ResultDocument { checkpoint, progress: document.progress.or_else(|| progress.end()), ..document }
    }

    /// The result of an earlier attempt, or that it cannot be read. A store that does not answer has time until there
    /// is something to record.
    async fn recorded(&self) -> Option<Result<ResultDocument, Failure>> {
        let store = self.store.with_patience(Patience { total: RECORDED_WAIT, ..self.store.patience() });
        match worker::recorded(&store, &self.subject.uid).await {
            Ok(recorded) => recorded.map(Ok),
            Err(failure) if failure.retryable => {
                tracing::warn!("no look for an earlier result: {}", failure.message);
                None
            }
            Err(failure) => Some(Err(failure)),
        }
    }

    /// Watches over the command of a pod that does not lead. What it leaves in the directories is of its own use.
    async fn follow(&self) -> Result<ResultDocument, Failure> {
        if self.layout.finished().exists() {
            return Ok(ended(self.rank));
        }
        match self.watch(self.deadline()).await? {
            Ended::Reported(Report { end: End::ExitCode(0), .. }) => Ok(ended(self.rank)),
            // The leader knows the checkpoints.
            other => Err(judge(other, true)),
        }
    }

    async fn attempt(
        &self,
        checkpoints: &mut Checkpoints,
        progress: &mut Progress,
    ) -> Result<ResultDocument, Failure> {
        if let Err(failure) = checkpoints.begin().await {
            tracing::warn!("checkpoints of earlier attempts are not known: {}", failure.message);
        }
        let deadline = self.deadline();
        let saved = checkpoints.follow();
        let ended = tokio::select! {
            ended = self.watch(deadline) => ended?,
            never = save_as_they_appear(checkpoints) => match never {},
            never = progress.follow(saved) => match never {},
        };
        if !matches!(ended, Ended::Reported(Report { end: End::ExitCode(0), .. })) {
            return Err(self.failed(ended, checkpoints, progress).await);
        }
        let left = deadline.saturating_duration_since(Instant::now()) + PUBLISHING;
        let store = self.store.with_patience(Patience { total: left, ..self.store.patience() });
        let provenance = Provenance::from(self.work);
        let output = Output { path: &self.layout.output(), provenance: &provenance, store: &store };
        let recorded = async {
            let published = output.publish().await?;
            let (checkpoint, progress) = (checkpoints.saved(), self.last_progress(progress, &store).await);
            let result = ResultDocument { checkpoint, progress, ..published };
            worker::record(&store, &self.subject.uid, result).await
        };
        self.unless_left("its output was uploaded", recorded).await
    }

    /// The failure of an attempt. Its newest checkpoint is saved: the next attempt begins there.
    async fn failed(&self, ended: Ended, checkpoints: &mut Checkpoints, progress: &mut Progress) -> Failure {
        let complete = match &ended {
            // Killed in the middle of its work, or left to itself: a checkpoint may be half written.
            Ended::Reported(Report { end: End::Signal(9), .. }) | Ended::Lost(_) => Complete::Settled,
            _ => Complete::All,
        };
        // In a distributed training it may be another pod's, which ends this one too.
        let is_own_fault = self.work.size.is_none()
            && matches!(&ended, Ended::Reported(Report { end: End::ExitCode(_) | End::Signal(_), .. }));
        let saved = async {
            checkpoints.save(complete).await?;
            if is_own_fault {
                checkpoints.suspect().await?;
            }
            self.last_progress(progress, self.store).await;
            Ok(())
        };
        if let Err(unsaved) = self.unless_left("its checkpoint was saved", saved).await {
            tracing::warn!("the newest checkpoint is not saved: {}", unsaved.message);
        }
        judge(ended, checkpoints.saved().is_some())
    }

    /// The last progress. Its series is stored too; that it cannot be loses no result.
    async fn last_progress(
        &self,
        progress: &mut Progress,
        store: &ObjectStoreHandle,
    ) -> Option<mlop_api::progress::Report> {
        let last = progress.end();
        if let Err(failure) = progress.store(store, self.subject).await {
            tracing::warn!("the series of the metrics is not stored: {}", failure.message);
        }
        last
    }

    /// When the command must end. The time counts from the attempt's first container, so that this comes before the
    /// deadline of the pod.
    fn deadline(&self) -> Instant {
        let passed = std::fs::metadata(self.layout.started())
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|started| started.elapsed().ok())
            .unwrap_or_default();
        let limit = self.work.deadline_seconds.map_or(UNLIMITED, Duration::from_secs);
        Instant::now() + limit.saturating_sub(passed)
    }

    /// Does `work`, but no longer than a pod that must go has.
    async fn unless_left<T>(
        &self,
        before: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut leaving = self.leaving.clone();
        let patience = async {
            leave(&mut leaving).await;
            sleep(self.grace().upload).await;
        };
        tokio::select! {
            done = work => done,
            () = patience => Err(left(before)),
        }
    }

    fn grace(&self) -> Grace {
        Grace::of(self.work.grace_seconds.map_or(GRACE, Duration::from_secs))
    }

    /// Listens to the launcher until the command has ended.
    async fn watch(&self, deadline: Instant) -> Result<Ended, Failure> {
        let mut leaving = self.leaving.clone();
        let (from, mut to) = tokio::select! {
            launcher = accept(self.layout) => launcher?,
            () = sleep_until(deadline) => return Ok(Ended::TooLong(Vec::new())),
            () = leave(&mut leaving) => return Ok(Ended::Leaving),
        };
        tracing::info!("the command's container has started");
        let mut report = std::pin::pin!(listen(from));
        tokio::select! {
            ended = &mut report => return Ok(ended),
            () = leave(&mut leaving) => {
                // The kubelet has told the command too; its last checkpoint is worth waiting for.
                let _saved = timeout(self.grace().command, report).await;
                return Ok(Ended::Leaving);
            }
            () = sleep_until(deadline) => {}
        }
        let grace = self.grace().command;
        stop(&mut to, grace).await;
        match timeout(grace + REPORT_WAIT, report).await {
            Ok(Ended::Reported(report)) => Ok(Ended::TooLong(report.last_lines)),
            _ => Ok(Ended::TooLong(Vec::new())),
        }
    }
}

/// How the time between SIGTERM and SIGKILL is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grace {
    /// Time of the command to save.
    command: Duration,
    /// Time of the agent to upload after that.
    upload: Duration,
}

impl Grace {
    /// A sixth is left for the report and for the kubelet.
    fn of(whole: Duration) -> Self {
        Self { command: whole / 2, upload: whole / 3 }
    }
}

/// The failure of a command that did not end with 0.
fn judge(ended: Ended, has_progressed: bool) -> Failure {
    let user =
        |message: String, lines: &[String]| Failure::transient(Reason::UserError, message + &quote(lines));
    match ended {
        Ended::Reported(Report { end: End::ExitCode(code), last_lines }) => {
            user(format!("exit code {code}"), &last_lines)
        }
        Ended::Reported(Report { end: End::Signal(signal), last_lines }) => {
            let hint = if signal == 9 { ", as when memory runs out" } else { "" };
            user(format!("ended by signal {signal}{hint}"), &last_lines)
        }
        Ended::Reported(Report { end: End::NotStarted(why), .. }) => {
            Failure::terminal(Reason::UserError, format!("{}; correct spec.command or spec.image", cut(&why)))
        }
        Ended::Reported(Report { end: End::Unfit(why), .. }) => Failure::preflight(Check::Gpu, cut(&why)),
        Ended::Lost(why) => Failure::transient(
            Reason::PodLost,
            format!("the user's container ended before it could report ({why}): it was killed"),
        ),
        Ended::TooLong(lines) if has_progressed => Failure::transient(
            Reason::DeadlineExceeded,
            format!(
                "the command did not end before spec.deadline; it goes on from its checkpoint{}",
                quote(&lines)
            ),
        ),
        Ended::TooLong(lines) => Failure::terminal(
            Reason::DeadlineExceeded,
            format!(
                "the command did not end before spec.deadline and saved no checkpoint; raise it{}",
                quote(&lines)
            ),
        ),
        Ended::Leaving => left("the command ended"),
    }
}

/// The result of a pod that does not lead.
fn ended(rank: u32) -> ResultDocument {
    ResultDocument { summary: Some(format!("worker {rank} has ended")), ..ResultDocument::default() }
}

fn left(before: &str) -> Failure {
    Failure::transient(Reason::PodLost, format!("the pod was asked to end before {before}"))
}

/// The checkpoints of a run that has succeeded are of no use any more.
async fn remove(checkpoints: &Checkpoints) {
    match timeout(REMOVAL_WAIT, checkpoints.remove_all()).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::warn!("checkpoints are not removed: {}", failure.message),
        Err(_) => tracing::warn!("checkpoints are not removed: it takes too long"),
    }
}

/// The connection of the launcher, the first and only one.
async fn accept(
    layout: &Layout,
) -> Result<(BufReader<tokio::net::unix::OwnedReadHalf>, OwnedWriteHalf), Failure> {
    let socket = layout.socket();
    let failed = |error: io::Error| local("listening at", &socket, &error);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    let (launcher, _) = listener.accept().await.map_err(failed)?;
    let (from, to) = launcher.into_split();
    Ok((BufReader::new(from), to))
}

async fn listen(mut from: impl AsyncBufRead + Unpin) -> Ended {
    match protocol::receive::<Report>(&mut from).await {
        Ok(Some(report)) => Ended::Reported(report),
        Ok(None) => Ended::Lost("the connection ended".to_owned()),
        Err(error) => Ended::Lost(error.to_string()),
    }
}

async fn stop(launcher: &mut OwnedWriteHalf, grace: Duration) {
    tracing::warn!("the deadline is reached; the command is told to end");
    if let Err(error) = protocol::send(launcher, &Stop { grace_seconds: grace.as_secs() }).await {
        tracing::warn!(%error, "the launcher is gone");
    }
}

async fn leave(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        // Nobody is left who could tell.
        std::future::pending().await
    }
}

async fn save_as_they_appear(checkpoints: &mut Checkpoints) -> std::convert::Infallible {
    loop {
        sleep(LOOK).await;
        if let Err(failure) = checkpoints.save(Complete::Settled).await {
            tracing::warn!("a checkpoint is not saved yet: {}", failure.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_leaves_time_to_upload_and_to_report() {
        let grace = Grace::of(GRACE);
        assert_eq!((grace.command, grace.upload), (Duration::from_secs(30), Duration::from_secs(20)));
        let grace = Grace::of(Duration::from_secs(600));
        assert_eq!((grace.command, grace.upload), (Duration::from_secs(300), Duration::from_secs(200)));
    }

    #[test]
    fn deadline_is_retried_only_after_progress() {
        for (has_progressed, retryable) in [(true, true), (false, false)] {
            let failure = judge(Ended::TooLong(vec!["step 5".into()]), has_progressed);
            assert_eq!((failure.reason, failure.retryable), (Reason::DeadlineExceeded, retryable));
            assert!(failure.message.ends_with(": step 5"), "{}", failure.message);
        }
    }
}
