//! The runs of an intent as versions of its artifact.

use crate::{
    age,
    output::{Cell, Style, Table, clean},
    references,
    snapshot::{Object, ObjectId, Snapshot},
    state::State,
};
use jiff::Timestamp;
use mlop_api::{Digest, Reason, common::Metric};
use serde::Serialize;

/// Metrics that a table shows at most.
const METRICS_MAX: usize = 4;

/// The versions of one intent, newest first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    #[serde(flatten)]
    pub object: ObjectId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    pub versions: Vec<Version>,
    #[serde(skip)]
    pub now: Timestamp,
}

/// A run, as a version of the artifact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub run: String,
    /// Number in the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    pub state: State,
    pub reason: String,
    pub in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    pub metrics: Vec<Metric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

impl Versions {
    pub fn of(snapshot: &Snapshot, intent: &Object) -> Self {
        let in_use = intent.status.artifact.as_ref().map(|artifact| artifact.run.as_str());
        let version = |run: &Object| Version::of(run, in_use == Some(run.id.name.as_str()));
        let versions = snapshot.runs_of(&intent.id).into_iter().map(version);
        Self {
            object: intent.id.clone(),
            pin: intent.text("pin").map(str::to_owned),
            versions: versions.collect(),
            now: snapshot.now,
        }
    }

    /// The versions that can be pinned.
    pub fn usable(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| version.state == State::Ready)
    }

    /// The newest usable version with another digest that is older than the one in use.
    pub fn before(&self) -> Option<&Version> {
        let in_use = self.versions.iter().find(|version| version.in_use)?;
        let is_older =
            |version: &&Version| version.created_at < in_use.created_at && version.digest != in_use.digest;
        self.usable().find(is_older)
    }
}

impl Version {
    /// A version in use has passed the gates of now, whatever earlier gates have said of its run.
    fn of(run: &Object, in_use: bool) -> Self {
        let headline = run.status.headline.as_ref().map_or("Pending", |headline| headline.reason.as_str());
        let (state, reason) = match State::of(run) {
            State::Blocked if in_use => (State::Ready, Reason::Succeeded.as_str()),
            state => (state, headline),
        };
        let output = run.status.output.as_ref();
        Self {
            run: run.id.name.clone(),
            number: run.version().map(str::to_owned),
            state,
            reason: reason.to_owned(),
            in_use,
            digest: output.map(|output| output.digest.clone()),
            summary: output.and_then(|output| output.summary.clone()),
            metrics: output.map(|output| output.metrics.clone()).unwrap_or_default(),
            created_at: run.created_at(),
        }
    }
}

/// The object whose versions belong to `object`: the intent of a run, itself, or the first input that has runs.
pub fn owner<'a>(snapshot: &'a Snapshot, object: &'a Object) -> Option<&'a Object> {
    if let Some(intent) = object.intent() {
        return snapshot.get(&intent);
    }
    if object.has_runs() {
        return Some(object);
    }
    references::present_inputs(snapshot, object).into_iter().find(|input| input.has_runs())
}

/// The table for a terminal.
pub fn table(versions: &Versions, style: Style) -> String {
    let mut table = Table::with_header(&["", "RUN", "VERSION", "STATE", "REASON", "DIGEST", "AGE", "RESULT"]);
    for version in &versions.versions {
        let state = format!("{} {}", version.state.mark(), version.state.word());
        table.row(vec![
            if version.in_use { "*" } else { "" }.into(),
            version.run.clone().into(),
            version.number.clone().unwrap_or_else(|| "-".to_owned()).into(),
            Cell::painted(state.clone(), style.state(version.state, &state)),
            version.reason.clone().into(),
            version.digest.as_ref().map_or("-", |digest| digest.short(12)).into(),
            version.created_at.map_or_else(String::new, |at| age::since(versions.now, at)).into(),
            result(version).into(),
        ]);
    }
    let mut text = format!("{}: * is in use\n{}", versions.object, table.render());
    if versions.versions.is_empty() {
        text = format!("{} has no runs yet\n", versions.object);
    }
    if let Some(pin) = &versions.pin {
        text.push_str(&format!("pinned to {} by spec.pin\n", clean(pin)));
    }
    text
}

/// The summary and the first metrics.
fn result(version: &Version) -> String {
    let summary = version.summary.as_deref().unwrap_or_default();
    let metrics = version.metrics.iter().map(|metric| format!("{}={}", metric.name, metric.value));
    let metrics: Vec<_> =
        metrics.take(METRICS_MAX).filter(|metric| !summary.contains(metric.as_str())).collect();
    let parts = [summary.to_owned(), metrics.join(", ")].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("; ")
}
