//! The Events of an object, of its runs and of their pods.

use crate::{
    age, kinds,
    output::{Table, brief},
    snapshot::{Object, ObjectId, Snapshot},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use mlop_api::{kinds::Class, text::printable};
use serde::Serialize;

/// An Event in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub object: ObjectId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    pub count: i32,
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
}

/// The Events about `object`, its runs, its `pods`, and what made these; the newest last.
pub fn of(snapshot: &Snapshot, object: &Object, pods: &[Pod], events: &[Event]) -> Vec<Entry> {
    let runs: Vec<&ObjectId> = snapshot.runs_of(&object.id).into_iter().map(|run| &run.id).collect();
    let mut stems: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    stems.extend(pods.iter().map(stem));
    if object.class == Class::Run {
        stems.push(object.id.name.clone());
    }
    let is_child = |name: &str| {
        let is_below = |stem: &String| {
            name.strip_prefix(stem.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        stems.iter().any(is_below)
    };
    let is_about = |id: &ObjectId| {
        let is_kind_of_mlop = kinds::info(&id.kind).is_some();
        *id == object.id || runs.contains(&id) || (!is_kind_of_mlop && is_child(&id.name))
    };
    let mut entries: Vec<_> = events.iter().map(entry).filter(|entry| is_about(&entry.object)).collect();
    entries.sort_by_key(|entry| entry.last_seen);
    entries
}

/// The beginning of the names of a pod and of what made it: that of its Deployment, StatefulSet or Job.
fn stem(pod: &Pod) -> String {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    match owner {
        Some(set) if set.kind == "ReplicaSet" => set
            .name
            .rsplit_once('-')
            .map_or_else(|| set.name.clone(), |(deployment, _)| deployment.to_owned()),
        Some(owner) if kinds::info(&owner.kind).is_none() => owner.name.clone(),
        _ => pod.name_any(),
    }
}

fn entry(event: &Event) -> Entry {
    let about = &event.involved_object;
    let series = event.series.as_ref();
    let last = series.and_then(|series| series.last_observed_time.as_ref()).map(|at| at.0);
    let last = last.or_else(|| event.last_timestamp.as_ref().map(|at| at.0));
    Entry {
        object: ObjectId::new(
            about.kind.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default(),
        ),
        last_seen: last.or_else(|| event.event_time.as_ref().map(|at| at.0)),
        count: series.and_then(|series| series.count).or(event.count).unwrap_or(1),
        is_warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        message: printable(event.message.as_deref().unwrap_or_default()).into_owned(),
    }
}

/// The table for a terminal.
pub fn table(entries: &[Entry], object: &ObjectId, now: Timestamp) -> String {
    if entries.is_empty() {
        return format!(
            "no Events of {object}, its runs and their pods; Kubernetes keeps Events for an hour\n"
        );
    }
    let mut table = Table::with_header(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    for entry in entries {
        let times = if entry.count > 1 { format!(" (x{})", entry.count) } else { String::new() };
        table.row(vec![
            entry.last_seen.map_or_else(String::new, |at| format!("{} ago", age::since(now, at))).into(),
            if entry.is_warning { "Warning" } else { "Normal" }.into(),
            entry.reason.clone().into(),
            entry.object.to_string().into(),
            format!("{}{times}", brief(&entry.message, 300)).into(),
        ]);
    }
    table.render()
}
