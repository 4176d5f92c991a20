//! The document in which a worker says how its work ended.
//!
//! It is the termination message of the worker's container: at most [`LIMIT`] bytes, since the kubelet shares
//! 12 KiB among all containers of a pod. What does not fit is in the object store.

use crate::{
    Digest, Reason,
    common::Metric,
    preflight::Check,
    progress::{Checkpoint, Report},
    text::make_printable,
};
use serde::{Deserialize, Serialize};

/// Largest result in bytes.
pub const LIMIT: usize = 2_048;
/// A worker's words for the Secret of a connection, whose name it is not given. The operator puts the name there.
pub const UNNAMED_SECRET: &str = "the Secret that it names";
// Limits of the fields of a run's status: see `Output`.
const METRICS_MAX: usize = 64;
const METRIC_NAME_CHARS_MAX: usize = 100;
const METRIC_VALUE_CHARS_MAX: usize = 32;
const SUMMARY_CHARS_MAX: usize = 256;
const NOTES_MAX: usize = 4;
const NOTE_CHARS_MAX: usize = 256;

/// How one piece of work ended: an `error`, or none and the facts of its success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResultDocument {
    /// Why it failed; absent on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Identity of the output: the manifest's digest, or for a scan that of the listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_digest: Option<Digest>,
    /// Measured values, as many as fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// One line for people: `336776 rows, 12 rejected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Remarks on a usable result, the most important first: rows that were rejected, files that were skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Name of the model version in the tracking server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
    /// The newest complete checkpoint.
    // Agents of earlier releases report its number.
    #[serde(rename = "lastCheckpoint", alias = "checkpoint", skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The last progress that the code of a training has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Report>,
    /// The pod's activation of its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<Activated>,
    /// The changes by others in an external system that the pod has put right, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<String>,
}

/// An activation: the external system (online store, alias) shows the output, unless a higher revision came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Activated {
    /// Its number among the intent's activations, each of which has another.
    pub revision: i64,
    /// Digest of everything that it depends on besides the artifact.
    pub parameters: Digest,
}

/// A version as a registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Name of the TrackingServer that recorded it.
    #[schemars(length(max = 63))]
    pub registry: String,
    /// Name of the registered model.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Version number in the registry.
    #[schemars(length(max = 20))]
    pub version: String,
    /// Address for the registry's clients, for example `models:/flights.delay/3` for MLflow.
    #[schemars(length(max = 300))]
    pub reference: String,
    /// Alias that names it in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub alias: Option<String>,
}

/// Why work failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: Reason,
    /// What happened, to which object, and what to do.
    pub message: String,
    /// Whether a retry of the same work may succeed.
    pub retryable: bool,
    /// The revision that is in use outside the cluster, or wanted there, where an activation came too late for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<i64>,
    /// The check of the preflight that has failed, for [`Reason::PreflightFailed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Check>,
}

impl Failure {
    /// A failure that the same inputs will show again.
    pub fn terminal(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retryable: false, superseded_by: None, preflight: None }
    }

    /// A check of the preflight has failed.
    pub fn preflight(check: Check, message: impl Into<String>) -> Self {
        Self { preflight: Some(check), ..Self::transient(Reason::PreflightFailed, message) }
    }

    /// An activation that came too late for `revision`, which is in use or wanted.
    pub fn superseded(revision: Option<i64>, message: impl Into<String>) -> Self {
        Self { superseded_by: revision, ..Self::terminal(Reason::ActivationSuperseded, message) }
    }

    /// A failure that may pass.
    pub fn transient(reason: Reason, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::terminal(reason, message) }
    }
}

impl ResultDocument {
    pub fn failed(failure: Failure) -> Self {
        Self { error: Some(failure), ..Self::default() }
    }

    /// The document as JSON of at most [`LIMIT`] bytes: drops notes but the first from the end, then metrics, those of the
    /// progress first, then shortens the message.
    pub fn to_message(&self) -> String {
        let mut document = self.clone().fitted();
        loop {
            let json = serde_json::to_string(&document).unwrap_or_default();
            if json.len() <= LIMIT {
                return json;
            }
            if document.notes.len() > 1 {
                document.notes.pop();
                continue;
            }
            let mut progress = document.progress.iter_mut();
            if progress.any(|progress| progress.metrics.pop().is_some())
                || document.metrics.pop().is_some()
                || document.notes.pop().is_some()
            {
                continue;
            }
            let excess = json.len() - LIMIT;
            match (&mut document.error, &mut document.summary) {
                (Some(failure), _) if !failure.message.is_empty() => shorten(&mut failure.message, excess),
                (_, Some(summary)) if !summary.is_empty() => shorten(summary, excess),
                _ => return json,
            }
        }
    }

    /// How many of its metrics [`to_message`](Self::to_message) has room for.
    pub fn fitting_metrics(&self) -> usize {
        Self::from_message(&self.to_message()).map_or(0, |fitting| fitting.metrics.len())
    }

    /// Reads a termination message, cut to the limits of a status: the API server would refuse the whole status.
    ///
    /// # Errors
    /// When the text is longer than [`LIMIT`] or not such a document: the pod was killed before it could report.
    pub fn from_message(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err(format!("the result has {} bytes, more than {LIMIT}", text.len()));
        }
        // By way of a map: an array would be read as the fields in their order.
        let fields: serde_json::Map<_, _> =
            serde_json::from_str(text).map_err(|e| format!("the result is not readable: {e}"))?;
        let document: Self =
            serde_json::from_value(fields.into()).map_err(|e| format!("the result is not readable: {e}"))?;
        Ok(document.fitted())
    }

    /// The document cut to the limits of a status, with text that can be written everywhere.
    fn fitted(mut self) -> Self {
        let failure = self.error.iter_mut().map(|failure| &mut failure.message);
        let metrics = self.metrics.iter_mut().map(|metric| &mut metric.name);
        let texts = failure.chain(metrics).chain(&mut self.summary).chain(&mut self.repaired);
        texts.chain(&mut self.notes).for_each(make_printable);
        self.notes.truncate(NOTES_MAX);
        for note in &mut self.notes {
            *note = note.chars().take(NOTE_CHARS_MAX).collect();
        }
        self.metrics.retain(|metric| {
            (1..=METRIC_NAME_CHARS_MAX).contains(&metric.name.chars().count())
                && (1..=METRIC_VALUE_CHARS_MAX).contains(&metric.value.chars().count())
        });
        self.metrics.truncate(METRICS_MAX);
        let cut = |text: String| text.chars().take(SUMMARY_CHARS_MAX).collect();
        self.summary = self.summary.map(cut);
        self.repaired = self.repaired.map(cut);
        self.progress = self.progress.map(Report::fitted);
        self
    }
}

fn shorten(text: &mut String, excess: usize) {
    // Escapes make JSON longer than its text: at most half is cut at once, so that a beginning remains.
    let mut end = text.len().saturating_sub(excess.clamp(1, text.len() / 2 + 1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_reads_back() {
        let result = ResultDocument {
            digest: Some(Digest::of_bytes(b"x")),
            metrics: vec![Metric::new("auc", 0.71)],
            summary: Some("336776 rows".into()),
            ..Default::default()
        };
        assert_eq!(ResultDocument::from_message(&result.to_message()).unwrap(), result);
    }

    #[test]
    fn oversized_result_keeps_digest_and_reason() {
        let message = "é\"\\\n".repeat(2_000);
        let result = ResultDocument {
            digest: Some(Digest::of_bytes(b"x")),
            metrics: (0..200).map(|i| Metric::new(format!("m{i}"), 1.5)).collect(),
            error: Some(Failure::terminal(Reason::UserError, message)),
            ..Default::default()
        };
        let text = result.to_message();
        assert!(text.len() <= LIMIT);
        let read = ResultDocument::from_message(&text).unwrap();
        assert_eq!(read.digest, result.digest);
        assert_eq!(read.error.unwrap().reason, Reason::UserError);
    }

    #[test]
    fn result_is_cut_to_the_limits_of_a_status() {
        let metric = |name: String, value: &str| Metric { name, value: value.to_owned() };
        let metrics =
            [metric("n".repeat(101), "1"), metric(String::new(), "1"), metric("m".into(), &"1".repeat(33))];
        let mut result = ResultDocument { metrics: metrics.into(), ..Default::default() };
        result.metrics.extend((0..70).map(|i| metric(i.to_string(), "1")));
        result.summary = Some("é".repeat(300));
        let written = serde_json::to_string(&ResultDocument { summary: None, ..result.clone() }).unwrap();
        let read = ResultDocument::from_message(&written).unwrap();
        assert_eq!((read.metrics.len(), read.metrics[0].name.as_str()), (64, "0"));
        let read = ResultDocument::from_message(&result.to_message()).unwrap();
        assert_eq!(read.summary.unwrap().chars().count(), 256);
    }

    #[test]
    fn message_of_escapes_only_is_not_cut_to_nothing() {
        for message in ["\u{1}".repeat(5_000), "\"\\".repeat(5_000), "é\n".repeat(5_000)] {
            let result = ResultDocument::failed(Failure::terminal(Reason::UserError, message));
            let read = ResultDocument::from_message(&result.to_message()).unwrap();
            assert!(read.error.unwrap().message.len() > 500);
        }
    }

    #[test]
    fn text_from_outside_is_made_printable() {
        let result = ResultDocument {
            summary: Some("a\u{7f}".into()),
            error: Some(Failure::terminal(Reason::SourceChanged, "tab\u{1}\u{ffff}.csv")),
            ..Default::default()
        };
        let written = serde_json::to_string(&result).unwrap();
        for read in
            [ResultDocument::from_message(&written), ResultDocument::from_message(&result.to_message())]
        {
            let read = read.unwrap();
            assert_eq!(read.summary.as_deref(), Some("a\\u{7f}"));
            assert_eq!(read.error.unwrap().message, "tab\\u{1}\\u{ffff}.csv");
        }
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in ["", "Killed", "[]", "{\"digest\":\"sha256:zz\"}", &" ".repeat(LIMIT + 1)] {
            assert!(ResultDocument::from_message(text).is_err(), "{text:?}");
        }
    }
}
