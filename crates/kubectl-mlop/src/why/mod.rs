//! Why an object is as it is: the root of a problem, or of a wait, in words. The model behind `kubectl mlop why`.

mod advice;
mod render;
mod root;

pub use render::text;

use crate::{
    age,
    snapshot::{Object, ObjectId, Snapshot},
    state::State,
    status,
};
use jiff::Timestamp;
use root::Found;
use serde::Serialize;

/// The answer for one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub namespace: String,
    #[serde(flatten)]
    pub object: ObjectId,
    pub state: State,
    /// The answer in one sentence.
    pub sentence: String,
    /// From the object to the one where it began, both included.
    pub path: Vec<ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    pub next: Vec<Step>,
}

/// Where it began.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    #[serde(flatten)]
    pub object: ObjectId,
    /// Whether it is a problem. Otherwise it is work that goes on, or a user's wish.
    pub is_problem: bool,
    pub reason: String,
    /// The documentation of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Path of the field to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The run that failed or works, with its attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// Something to do: in words, and as a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Explanation {
    pub fn of(snapshot: &Snapshot, object: &Object) -> Self {
        let state = State::of(object);
        let found = root::of(snapshot, object);
        let next =
            found.as_ref().map(|found| advice::steps(snapshot, &object.id, &found.root)).unwrap_or_default();
        let (path, root) = match found {
            Some(Found { path, root }) => (path, Some(root)),
            None => (vec![object.id.clone()], None),
        };
        Self {
            namespace: snapshot.namespace.clone(),
            object: object.id.clone(),
            state,
            sentence: sentence(snapshot, object, state, root.as_ref()),
            path,
            root,
            next,
        }
    }

    /// Whether nothing is wrong and nothing is waited for.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }
}

fn sentence(snapshot: &Snapshot, object: &Object, state: State, root: Option<&Root>) -> String {
    let id = &object.id;
    let in_use = in_use(snapshot, object);
    let artifact = object.status.artifact.as_ref();
    let earlier = artifact.map(|it| format!(" Revision {} is that of an earlier spec.", it.revision));
    let earlier = earlier.unwrap_or_default();
    let wish = root.is_some_and(|root| !root.is_problem && advice::is_wish(&root.reason));
    match state {
        State::Ready => format!("{id} is ready: {in_use}, and nothing newer is waiting."),
        State::Behind if wish => format!("{id} is ready: {in_use}. Something newer is held back on request."),
        State::Behind => format!("{id} is ready: {in_use}. Something newer is on its way."),
        State::Blocked => format!("{id} is ready: {in_use}. Something newer cannot be used."),
        State::Pending if wish => format!("{id} is not ready: it is held back on request.{earlier}"),
        State::Pending => format!("{id} is not ready yet. Nothing is wrong: it is on its way.{earlier}"),
        State::Failed => format!("{id} is not ready, and will not be until somebody acts.{earlier}"),
    }
}

/// The artifact in use, in words.
fn in_use(snapshot: &Snapshot, object: &Object) -> String {
    match &object.status.artifact {
        Some(artifact) => {
            let summary = object.status.summary.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            let published = age::since(snapshot.now, artifact.produced_at.get());
            format!("revision {}{summary} is in use, published {published} ago", artifact.revision)
        }
        None => match status::reason(object).1 {
            Some(message) => message,
            None => "it has been checked".to_owned(),
        },
    }
}
