//! Publishing the output of a command that ended with 0. That work is done and paid for: an absent store, an odd file
//! or an odd metric must not lose it.

use crate::{metrics, words};
use mlop_api::{
    Digest, Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::Provenance,
};
use mlop_artifact::{
    directory::{Contents, Directory},
    patience::Patience,
    store::ObjectStoreHandle,
    tree::{self, Facts},
};
use std::{path::Path, time::Duration};
use tokio::time::sleep;

/// Attempts when the files change while they are uploaded.
const CHANGES_MAX: usize = 5;
/// Longest time for somebody to mend a store that refuses: its keys, its bucket.
const MENDING: Duration = Duration::from_secs(3_600);
/// Skipped entries that a note names one by one.
const NAMED_MAX: usize = 3;

/// The output of a command.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    pub path: &'a Path,
    pub provenance: &'a Provenance,
    /// Its patience is the time that is left.
    pub store: &'a ObjectStoreHandle,
}

impl Output<'_> {
    /// Uploads the output and returns its digest and metrics. A store that refuses is asked again for an hour, so that repairing it
    /// saves the output.
    ///
    /// # Errors
    /// [`Reason::UserError`] when nothing is left; otherwise as store and disk say when the time is over.
    pub async fn publish(&self) -> Result<ResultDocument, Failure> {
        let patience = self.store.patience();
        let mut refusals = Patience { total: patience.total.min(MENDING), ..patience }.pauses();
        let mut changes = 0;
        loop {
            match self.publish_once().await {
                Err(failure) if is_refusal(&failure) => refusals.wait(failure).await?,
                Err(failure) if failure.reason == Reason::WorkerFailed && failure.retryable => {
                    changes += 1;
                    if changes == CHANGES_MAX {
                        return Err(failure);
                    }
                    tracing::warn!("uploading again: {}", failure.message);
                    sleep(patience.shortest).await;
                }
                other => return other,
            }
        }
    }

    async fn publish_once(&self) -> Result<ResultDocument, Failure> {
        let directory = Directory::open(self.path)?;
        let contents = directory.contents()?;
        if contents.files.is_empty() {
            return Err(Failure::terminal(Reason::UserError, nothing_left(&contents)));
        }
        let (metrics, ignored) = metrics::lift(&directory, &contents);
        let facts = Facts { provenance: self.provenance.clone(), metrics: metrics.clone() };
        let tree = tree::publish(self.store, &directory, &contents, facts).await?;
        let bytes = tree.manifest.files.iter().map(|file| file.bytes).sum();
        let summary = words::summary(&metrics, tree.manifest.files.len(), bytes);
        let remarks: Vec<String> = ignored.into_iter().chain(left_out(&contents)).collect();
        for remark in &remarks {
            tracing::warn!("{remark}");
        }
        Ok(document(tree.digest, metrics, summary, remarks))
    }
}

/// The result, with as many metrics as it has room for. The manifest has the others.
fn document(digest: Digest, metrics: Vec<Metric>, summary: String, remarks: Vec<String>) -> ResultDocument {
    let all = metrics.len();
    let more = |number: usize| (number > 0).then(|| format!("{number} more metrics in the manifest"));
    let notes = |more: Option<String>| remarks.iter().cloned().chain(more).collect::<Vec<_>>();
    let mut document = ResultDocument {
        digest: Some(digest),
        metrics,
        summary: Some(summary),
        notes: notes(more(all)),
        ..ResultDocument::default()
    };
    let fitting = document.fitting_metrics();
    document.metrics.truncate(fitting);
    document.notes = notes(more(all - fitting));
    document
}

fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::StoreDenied | Reason::BucketNotFound | Reason::SecretMissing)
}

fn nothing_left(contents: &Contents) -> String {
    let remark = left_out(contents).map_or_else(String::new, |left_out| format!(" ({left_out})"));
    format!("the command ended with 0 but left nothing in $MLOP_OUTPUT{remark}; write the model there")
}

/// Names the entries that are no part of the tree.
fn left_out(contents: &Contents) -> Option<String> {
    let named: Vec<String> = contents
        .skipped
        .iter()
        .take(NAMED_MAX)
        .map(|skipped| format!("{:?} {}", skipped.path, skipped.reason))
        .collect();
    let more = match contents.skipped_count.saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| format!("skipped: {}{more}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_that_do_not_fit_are_counted_in_a_note() {
        let metrics: Vec<Metric> =
            (0..100).map(|i| Metric::new(format!("accuracy_of_class_{i:03}"), 0.123_456)).collect();
        let document = document(Digest::of_bytes(b"x"), metrics, "3 files".into(), vec!["skipped: x".into()]);
        let read = ResultDocument::from_message(&document.to_message()).unwrap();
        assert_eq!(read, document, "nothing more is cut off");
        assert!(read.metrics.len() > 20, "{}", read.metrics.len());
        let more = 100 - read.metrics.len();
        assert_eq!(read.notes, ["skipped: x".to_owned(), format!("{more} more metrics in the manifest")]);
    }
}
