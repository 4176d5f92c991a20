//! The agent: watches over the user's command from its own container, saves what the command leaves, and writes the
//! result.

use crate::{
    Layout,
    checkpoint::Checkpoints,
    local, metrics,
    protocol::{self, End, Report, Stop},
};
use mlop_api::{
    Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::{Subject, TrainWork},
};
use mlop_artifact::{folder::Folder, store::ObjectStoreHandle, tree, worker};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncBufRead, BufReader},
    net::{UnixListener, unix::OwnedWriteHalf},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Time between two looks for new checkpoints.
const LOOK: Duration = Duration::from_secs(5);
/// Time to save for a command that has reached its deadline, in seconds.
const STOP_GRACE_SECONDS: u64 = 30;
/// How much longer than the grace the launcher may take to report.
const REPORT_WAIT: Duration = Duration::from_secs(10);
/// When the pod must go: time of the command to save, then time of the agent to upload. Together less than the pod's
/// 60 s.
const LEAVING_COMMAND: Duration = Duration::from_secs(30);
const LEAVING_UPLOAD: Duration = Duration::from_secs(20);
/// Most bytes of the command's last lines in the result, as JSON; what is left of 2,048 holds the rest.
const QUOTE_BYTES_MAX: usize = 1_400;

/// A training as its agent sees it.
pub struct Agent<'a> {
    pub layout: &'a Layout,
    pub subject: &'a Subject,
    pub work: &'a TrainWork,
    pub store: &'a ObjectStoreHandle,
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
        let mut checkpoints = Checkpoints::new(self.store, self.subject, self.layout.checkpoint());
        let result =
            worker::once(self.store, &self.subject.uid, async || self.attempt(&mut checkpoints).await).await;
        let document = result.unwrap_or_else(ResultDocument::failed);
        ResultDocument { checkpoint: document.checkpoint.or(checkpoints.saved()), ..document }
    }

    async fn attempt(&self, checkpoints: &mut Checkpoints) -> Result<ResultDocument, Failure> {
        let ended = tokio::select! {
            ended = self.watch() => ended?,
            never = save_as_they_appear(checkpoints) => match never {},
        };
        if let Err(failure) = judge(ended) {
            // The next attempt begins there.
            if let Err(unsaved) = self.unless_left("its checkpoint was saved", checkpoints.save()).await {
                tracing::warn!("the newest checkpoint is not saved: {}", unsaved.message);
            }
            return Err(failure);
        }
        let result = self.unless_left("its output was uploaded", self.publish()).await?;
        Ok(ResultDocument { checkpoint: checkpoints.saved(), ..result })
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
            sleep(LEAVING_UPLOAD).await;
        };
        tokio::select! {
            done = work => done,
            () = patience => Err(left(before)),
        }
    }

    /// Listens to the launcher until the command has ended.
    async fn watch(&self) -> Result<Ended, Failure> {
        let mut leaving = self.leaving.clone();
        let limit = Duration::from_secs(self.work.deadline_seconds.unwrap_or(u64::from(u32::MAX)));
        let deadline = Instant::now() + limit;
        let (from, mut to) = tokio::select! {
            launcher = accept(self.layout) => launcher?,
            () = sleep_until(deadline) => return Ok(Ended::TooLong(Vec::new())),
            () = leave(&mut leaving) => return Ok(Ended::Leaving),
        };
        tracing::info!("the command's container is there");
        let mut report = std::pin::pin!(listen(from));
        tokio::select! {
            ended = &mut report => return Ok(ended),
            () = leave(&mut leaving) => {
                // The kubelet has told the command too; its last checkpoint is worth waiting for.
                let _saved = timeout(LEAVING_COMMAND, report).await;
                return Ok(Ended::Leaving);
            }
            () = sleep_until(deadline) => {}
        }
        stop(&mut to).await;
        let patience = Duration::from_secs(STOP_GRACE_SECONDS) + REPORT_WAIT;
        match timeout(patience, report).await {
            Ok(Ended::Reported(report)) => Ok(Ended::TooLong(report.last_lines)),
            _ => Ok(Ended::TooLong(Vec::new())),
        }
    }

    /// Uploads the output and tells what it is.
    async fn publish(&self) -> Result<ResultDocument, Failure> {
        let output = self.layout.output();
        let folder = Folder::open(&output)?;
        let files = folder.files()?;
        if files.is_empty() {
            let message = "the command ended with 0 but left nothing in $MLOP_OUTPUT; write the model there";
            return Err(Failure::terminal(Reason::UserError, message));
        }
        let has_metrics = files.iter().any(|file| file == metrics::FILE);
        let (metrics, ignored) = if has_metrics { metrics::lift(&folder) } else { Default::default() };
        let tree = tree::upload(self.store, &output, self.work.provenance.clone()).await?;
        let bytes = tree.manifest.files.iter().map(|file| file.bytes).sum();
        let mut summary = summary(&metrics, tree.manifest.files.len(), bytes);
        if let Some(ignored) = ignored {
            tracing::warn!("{ignored}");
            summary = format!("{summary}; {ignored}");
        }
        Ok(ResultDocument {
            digest: Some(tree.digest),
            metrics,
            summary: Some(summary),
            ..ResultDocument::default()
        })
    }
}

/// Whether the output may be published.
fn judge(ended: Ended) -> Result<(), Failure> {
    let user =
        |message: String, lines: &[String]| Failure::transient(Reason::UserError, message + &quote(lines));
    match ended {
        Ended::Reported(Report { end: End::ExitCode(0), .. }) => Ok(()),
        Ended::Reported(Report { end: End::ExitCode(code), last_lines }) => {
            Err(user(format!("exit code {code}"), &last_lines))
        }
        Ended::Reported(Report { end: End::Signal(signal), last_lines }) => {
            let hint = if signal == 9 { ", as when memory runs out" } else { "" };
            Err(user(format!("ended by signal {signal}{hint}"), &last_lines))
        }
        Ended::Reported(Report { end: End::NotStarted(why), .. }) => Err(Failure::terminal(
            Reason::UserError,
            format!("{}; correct spec.command or spec.image", cut(&why)),
        )),
        Ended::Lost(why) => Err(Failure::transient(
            Reason::PodLost,
            format!("the user's container ended before it could report ({why}): it was killed"),
        )),
        Ended::TooLong(lines) => Err(Failure::transient(
            Reason::DeadlineExceeded,
            format!("the command did not end before spec.deadline{}", quote(&lines)),
        )),
        Ended::Leaving => Err(left("the command ended")),
    }
}

fn left(before: &str) -> Failure {
    Failure::transient(Reason::PodLost, format!("the pod was asked to end before {before}"))
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

async fn stop(launcher: &mut OwnedWriteHalf) {
    tracing::warn!("the deadline is reached; the command is told to end");
    if let Err(error) = protocol::send(launcher, &Stop { grace_seconds: STOP_GRACE_SECONDS }).await {
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
        if let Err(failure) = checkpoints.save().await {
            tracing::warn!("a checkpoint is not saved yet: {}", failure.message);
        }
    }
}

/// As many of the last lines as fit, the end rather than the beginning.
fn quote(lines: &[String]) -> String {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for line in lines.iter().rev() {
        let line = cut(line);
        bytes += serde_json::to_string(&line).map_or(0, |json| json.len());
        if bytes > QUOTE_BYTES_MAX {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    if kept.is_empty() { String::new() } else { format!(": {}", kept.join("\n")) }
}

/// A text from the other side of the wall, bounded again.
fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}

/// For example `auc=0.71, 3 files, 1.2 MB`.
fn summary(metrics: &[Metric], files: usize, bytes: u64) -> String {
    let mut parts: Vec<String> =
        metrics.iter().take(2).map(|metric| format!("{}={}", metric.name, short(metric.number()))).collect();
    parts.push(if files == 1 { "1 file".to_owned() } else { format!("{files} files") });
    parts.push(size(bytes));
    parts.join(", ")
}

/// A number for people: whole, or with about four digits.
fn short(number: f64) -> String {
    if !number.is_finite() || number == number.trunc() {
        number.to_string()
    } else if number.abs() < 0.001 {
        format!("{number:.2e}")
    } else {
        format!("{number:.4}").trim_end_matches('0').to_owned()
    }
}

/// A size for people, in decimal units.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / unit as u128;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_short_line() {
        let metrics =
            [Metric::new("auc", 0.706_640_459), Metric::new("loss", 0.000_012_34), Metric::new("x", 1.0)];
        assert_eq!(summary(&metrics, 3, 1_230_000), "auc=0.7066, loss=1.23e-5, 3 files, 1.2 MB");
        assert_eq!(summary(&[Metric::new("rows", 12.0)], 3, 10), "rows=12, 3 files, 10 B");
        assert_eq!(summary(&[], 1, 999), "1 file, 999 B");
        assert_eq!(size(2_000_000_000_000), "2000.0 GB");
    }

    #[test]
    fn a_quotation_keeps_the_end_and_fits_a_result() {
        let lines: Vec<String> = (0..20).map(|i| format!("{i} {}", "\u{1}".repeat(100))).collect();
        let failure = Failure::transient(Reason::UserError, "exit code 3".to_owned() + &quote(&lines));
        assert!(failure.message.contains("19 "));
        let message = ResultDocument::failed(failure.clone()).to_message();
        assert_eq!(
            ResultDocument::from_message(&message).unwrap().error.unwrap(),
            failure,
            "nothing was cut off"
        );
    }
}
