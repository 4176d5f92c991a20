//! The progress of an attempt in the status of its run.

use super::{
    Run, RunResource,
    listen::INTERVAL,
    plan::{Draft, PROGRESS_DELAY},
};
use crate::{children::pod, plan::Action};
use jiff::Timestamp;
use kube::Resource;
use mlop_api::progress::{self, Checkpoint, Progress, Report};

/// What an attempt that runs adds to the plan.
pub(super) struct News {
    /// Whether the status has changed, and may be written.
    pub is_due: bool,
    /// When there may be more.
    pub action: Action,
}

impl<R: Run> Draft<'_, R> {
    /// Takes over what the pod of the attempt has said that runs since `begin`, if the last time is long enough ago. The first
    /// report comes with the one that the attempt has lasted.
    pub(super) fn hear(&mut self, begin: Timestamp) -> News {
        let Some(heard) = &self.observed.heard else {
            return News { is_due: false, action: Action::AwaitChange };
        };
        let action = Action::RequeueAt(heard.next);
        // A pod of an earlier attempt may still be known.
        let report = heard.report.as_deref().filter(|report| report.attempt == self.next_attempt());
        let is_news =
            |report: &&Report| (report.has_progress() || report.checkpoint.is_some()) && !self.shows(report);
        let Some(report) = report.filter(is_news) else {
            return News { is_due: false, action };
        };
        let due = match &self.status.progress {
            Some(progress) => progress.at.get().checked_add(INTERVAL),
            None => begin.checked_add(PROGRESS_DELAY),
        };
        match due.ok().filter(|due| *due > self.now) {
            Some(due) => News { is_due: false, action: action.or(Action::RequeueAt(due)) },
            None => {
                self.show(report);
                News { is_due: true, action }
            }
        }
    }

    /// Whether the status says what `report` does.
    fn shows(&self, report: &Report) -> bool {
        let saved = report.checkpoint.as_ref().map(|saved| self.placed(saved));
        (saved.is_none() || self.status.last_checkpoint == saved)
            && self.status.progress.as_ref().is_some_and(|progress| progress.shows(report))
    }

    fn show(&mut self, report: &Report) {
        self.status.progress = Some(Progress::of(report, self.now.into()));
        progress::extend(&mut self.status.series, report);
        self.save(report.checkpoint.as_ref());
    }

    /// Takes over the last words of an attempt that has ended.
    pub(super) fn conclude(&mut self, report: Option<&Report>, saved: Option<&Checkpoint>) {
        if let Some(report) = report.filter(|report| report.has_progress() && !self.shows(report)) {
            self.show(report);
        }
        self.save(saved);
        if let Some(progress) = &mut self.status.progress {
            progress.eta = None;
        }
    }

    /// Drops the progress of an earlier attempt: the next one begins at its checkpoint. The curves stay.
    pub(super) fn drop_earlier_progress(&mut self) {
        let attempt = self.next_attempt();
        self.status.progress.take_if(|progress| progress.attempt != attempt);
    }

    /// Records a checkpoint that the worker has saved.
    pub(super) fn save(&mut self, saved: Option<&Checkpoint>) {
        if let Some(saved) = saved {
            self.status.checkpoint = saved.sequence;
            self.status.last_checkpoint = Some(self.placed(saved));
        }
    }

    /// The checkpoint with its place, which no pod says.
    fn placed(&self, saved: &Checkpoint) -> Checkpoint {
        let run = self.observed.object.as_ref();
        let uid = run.meta().uid.as_deref().unwrap_or_default();
        let store = self.observed.store(run.store()).ok();
        let uri = store
            .zip(saved.sequence)
            .map(|(store, sequence)| pod::store(store).uri(&format!("checkpoints/{uid}/{sequence}/")));
        Checkpoint { uri, ..saved.clone() }
    }
}
