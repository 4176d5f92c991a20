//! The progress that a command reports: lines of JSON in the file `$MLOP_PROGRESS`.
//!
//! The command may write anything, as fast as it likes, and replace or cut off the file. What the agent keeps of it is
//! bounded, and an ignored line is logged once.

mod eta;
mod line;
mod lines;
mod series;

use crate::Layout;
use line::Reported;
use lines::Lines;
use mlop_api::{
    common::Metric,
    progress::{Checkpoint, METRICS_MAX, Report},
    result::Failure,
    task::Subject,
};
use mlop_artifact::store::ObjectStoreHandle;
use series::Record;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// Time between two looks into the file. Each prints at most one line.
const LOOK: Duration = Duration::from_secs(2);
/// Kinds of remarks that are logged.
const TOLD_MAX: usize = 32;

/// What the agent knows of the progress of a command.
#[derive(Debug)]
pub struct Progress {
    lines: Lines,
    attempt: u32,
    step: Option<u64>,
    of: Option<u64>,
    epoch: Option<u64>,
    metrics: BTreeMap<String, Metric>,
    /// The first step of this attempt and when it was seen.
    first: Option<(u64, Instant)>,
    /// The last step, and when it was seen.
    last: Option<(u64, Instant)>,
    record: Record,
    told: BTreeSet<String>,
}

impl Progress {
    /// That of an attempt whose command writes the file of `layout`.
    pub fn new(layout: &Layout, attempt: u32) -> Self {
        Self {
            lines: Lines::new(layout.progress()),
            attempt,
            step: None,
            of: None,
            epoch: None,
            metrics: BTreeMap::new(),
            first: None,
            last: None,
            record: Record::default(),
            told: BTreeSet::new(),
        }
    }

    /// Prints each new report while the command runs.
    pub async fn follow(&mut self, saved: watch::Receiver<Option<Checkpoint>>) -> std::convert::Infallible {
        let mut printed = Report { attempt: self.attempt, ..Report::default() };
        loop {
            sleep(LOOK).await;
            self.look();
            let checkpoint = saved.borrow().clone();
            let report = Report { checkpoint, ..self.report(true) };
            if report != printed {
                // Nobody may be reading the log.
                let _unread = writeln!(std::io::stdout(), "{}", report.to_line());
                printed = report;
            }
        }
    }

    /// The last progress, when the command has ended; none if it has reported none.
    pub fn end(&mut self) -> Option<Report> {
        self.look();
        let rest = self.lines.rest();
        self.take(&rest);
        Some(self.report(false)).filter(Report::has_progress)
    }

    /// Stores the whole series of the attempt, unless there is none.
    ///
    /// # Errors
    /// As the store says.
    pub async fn store(&self, store: &ObjectStoreHandle, subject: &Subject) -> Result<(), Failure> {
        let Some(lines) = self.record.to_lines() else { return Ok(()) };
        let key = format!("series/{}/{}.ndjson", subject.uid, subject.attempt);
        store.create(&key, lines).await.map(drop)
    }

    fn look(&mut self) {
        loop {
            let read = self.lines.read();
            for remark in read.remarks {
                self.tell(remark);
            }
            for line in &read.lines {
                self.take(line);
            }
            if read.is_all {
                return;
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        match Reported::parse(line) {
            Ok(None) => {}
            Ok(Some(reported)) => self.merge(reported),
            Err(problem) => self.tell(problem),
        }
    }

    fn merge(&mut self, reported: Reported) {
        for (name, why) in &reported.ignored {
            self.tell(format!("{name:?} is ignored: {why}"));
        }
        let now = Instant::now();
        self.of = reported.of.or(self.of);
        self.epoch = reported.epoch.or(self.epoch);
        if let Some(step) = reported.step {
            // A command that counts again has started over.
            self.first = self.first.filter(|(first, _)| *first <= step).or(Some((step, now)));
            (self.step, self.last) = (Some(step), Some((step, now)));
        }
        for metric in &reported.metrics {
            if self.metrics.len() < METRICS_MAX || self.metrics.contains_key(&metric.name) {
                self.metrics.insert(metric.name.clone(), metric.clone());
            } else {
                self.tell(format!(
                    "the status shows the first {METRICS_MAX} metrics only; the series has all"
                ));
            }
        }
        self.record.add(&reported, crate::now());
    }

    fn report(&self, runs: bool) -> Report {
        let mut metrics: Vec<_> = self.metrics.values().cloned().collect();
        // Where there is no room for all, it is the one that people look for.
        metrics.sort_by_key(|metric| metric.name != "loss");
        let eta = || eta::seconds(self.first?, self.last?, self.of?, Instant::now());
        Report {
            attempt: self.attempt,
            step: self.step,
            of: self.of,
            epoch: self.epoch,
            metrics,
            eta_seconds: if runs { eta() } else { None },
            checkpoint: None,
        }
    }

    /// Logs each kind of remark once.
    fn tell(&mut self, remark: String) {
        if self.told.len() < TOLD_MAX && !self.told.contains(&remark) {
            tracing::warn!("$MLOP_PROGRESS: {remark}");
            self.told.insert(remark);
        }
    }
}

#[cfg(test)]
mod tests;
