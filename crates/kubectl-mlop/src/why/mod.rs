//! Why an object is as it is: the root of a problem, or of a wait, in words. The model behind `kubectl mlop why`.

mod advice;
mod causes;
mod model;
mod render;
mod root;
mod summary;

pub use model::{Explanation, Problem, Retry, Root, Step};
pub use render::text;
pub use summary::{Group, Summary, text as summary_text};

use crate::{
    age,
    output::clean,
    snapshot::{Object, Snapshot},
    state::{State, is_queued},
    status,
};
use root::Found;

impl Explanation {
    pub fn of(snapshot: &Snapshot, object: &Object) -> Self {
        let state = State::of(object);
        let found = root::of(snapshot, object);
        let next =
            found.as_ref().map(|found| advice::steps(snapshot, &object.id, &found.root)).unwrap_or_default();
        let (path, root, others) = match found {
            Some(Found { path, root, others }) => (path, Some(root), others),
            None => (vec![object.id.clone()], None, Vec::new()),
        };
        // The object may name the one of two causes that ends by itself.
        let state = match (state, root.as_ref().is_some_and(|root| root.is_problem)) {
            // Its inputs are in use, and something newer comes from further upstream.
            (State::Ready, false) if root.is_some() => State::Behind,
            (State::Ready | State::Behind, true) => State::Blocked,
            (State::Pending, true) => State::Failed,
            (state, _) => state,
        };
        Self {
            namespace: snapshot.namespace.clone(),
            object: object.id.clone(),
            state,
            sentence: sentence(snapshot, object, state, root.as_ref()),
            path,
            root,
            others,
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
    // The pods of a deployment may be gone while its version is the newest.
    let earlier = artifact.filter(|it| it.generation != Some(object.generation()));
    let earlier = earlier.map(|it| format!(" Revision {} is that of an earlier spec.", it.revision));
    let earlier = earlier.unwrap_or_default();
    let waits_for_room = root.is_some_and(|root| is_queued(&root.reason));
    let retry = root.and_then(|root| root.retry);
    let wish = root.is_some_and(|root| !root.is_problem && advice::is_wish(&root.reason));
    match state {
        State::Ready => format!("{id} is ready: {in_use}, and nothing newer is waiting."),
        State::Behind if wish => format!("{id} is ready: {in_use}. Something newer is held back on request."),
        State::Behind if waits_for_room => {
            format!(
                "{id} is ready: {in_use}. Nothing has failed: something newer waits for room in the cluster."
            )
        }
        State::Behind => format!("{id} is ready: {in_use}. Something newer is on its way."),
        State::Blocked => format!("{id} is ready: {in_use}. Something newer cannot be used."),
        State::Pending if wish => format!("{id} is not ready: it is held back on request.{earlier}"),
        State::Pending if waits_for_room => {
            format!("{id} is not ready yet. Nothing has failed: it waits for room in the cluster.{earlier}")
        }
        State::Pending => format!("{id} is not ready yet. Nothing is wrong: it is on its way.{earlier}"),
        State::Failed if retry.is_some() => {
            format!("{id} is not ready. What failed is tried again by itself.{earlier}")
        }
        State::Failed => format!("{id} is not ready, and will not be until somebody acts.{earlier}"),
    }
}

/// The artifact in use, in words.
fn in_use(snapshot: &Snapshot, object: &Object) -> String {
    match &object.status.artifact {
        Some(artifact) => {
            let summary =
                object.status.summary.as_ref().map(|text| format!(" ({})", clean(text))).unwrap_or_default();
            let published = age::since(snapshot.now, artifact.produced_at.get());
            format!("revision {}{summary} is in use, published {published} ago", artifact.revision)
        }
        None => match status::reason(object).1 {
            Some(message) => clean(&message),
            None => "it has been checked".to_owned(),
        },
    }
}
