//! Inputs whose attempts are used up, of all intents of a namespace.

use crate::{
    actions::{self, Change},
    age,
    output::{Table, brief},
    snapshot::{Object, ObjectId, Snapshot},
    state::State,
};
use anyhow::Result;
use jiff::Timestamp;
use mlop_api::{kinds::Class, status::DeadLetter, text::printable};
use serde::Serialize;

/// Inputs that an intent has given up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(flatten)]
    pub object: ObjectId,
    #[serde(rename = "deadLetter")]
    pub letter: DeadLetter,
    /// Whether they are the present inputs, which a retry tries again.
    pub is_present: bool,
}

/// The dead letters of the namespace, the newest of each intent first.
pub fn of(snapshot: &Snapshot) -> Vec<Entry> {
    let mut entries = Vec::new();
    for object in snapshot.of_class(Class::Intent) {
        let present = present_run(snapshot, object);
        entries.extend(object.status.dead_letters.iter().map(|letter| Entry {
            object: object.id.clone(),
            is_present: present.as_ref() == Some(&letter.run),
            letter: letter.clone(),
        }));
    }
    entries
}

/// A retry of each intent whose present inputs are a dead letter.
///
/// # Errors
/// An intent has no work to retry.
pub fn replay(snapshot: &Snapshot) -> Result<Vec<Change>> {
    let present = of(snapshot).into_iter().filter(|entry| entry.is_present);
    present
        .map(|entry| actions::retry(snapshot, &format!("{}/{}", entry.object.kind, entry.object.name)))
        .collect()
}

/// The run of the present inputs, if it is what the intent is stalled by.
fn present_run(snapshot: &Snapshot, object: &Object) -> Option<String> {
    if !State::of(object).is_problem() {
        return None;
    }
    let newest = snapshot.runs_of(&object.id).into_iter().next()?;
    (State::of(newest) == State::Failed).then(|| newest.id.name.clone())
}

/// The table for a terminal.
pub fn table(entries: &[Entry], now: Timestamp) -> String {
    if entries.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut table =
        Table::with_header(&["OBJECT", "RUN", "REASON", "ATTEMPTS", "AGE", "PRESENT INPUTS", "MESSAGE"]);
    for Entry { object, letter, is_present } in entries {
        table.row(vec![
            object.to_string().into(),
            letter.run.clone().into(),
            letter.reason.clone().into(),
            letter.attempts.to_string().into(),
            age::since(now, letter.at.get()).into(),
            if *is_present { "yes: --replay tries them again" } else { "no: newer inputs came" }.into(),
            brief(&printable(&letter.message), 120).into(),
        ]);
    }
    table.render()
}
