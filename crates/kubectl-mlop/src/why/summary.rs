//! Everything of a namespace that is not ready or not up to date, by cause.

use super::{Explanation, Root};
use crate::{
    age, kinds, names,
    output::{Style, brief},
    snapshot::{Object, ObjectId, Snapshot},
    state::{State, is_queued},
};
use mlop_api::kinds::Class;
use serde::Serialize;
use std::{cmp::Reverse, fmt::Write as _};

/// Characters of a message that a summary shows at most.
const MESSAGE_MAX: usize = 240;

/// The causes of a namespace, the worst first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub namespace: String,
    pub objects: usize,
    pub ready: usize,
    pub groups: Vec<Group>,
}

/// The objects that have one cause.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub root: Root,
    /// The worst state of the objects.
    pub state: State,
    /// The objects, in the order of the chain.
    pub objects: Vec<ObjectId>,
}

impl Summary {
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut objects: Vec<&Object> =
            snapshot.objects.iter().filter(|object| object.class != Class::Run).collect();
        objects.sort_by_key(|object| (kinds::stage(&object.id.kind), object.id.clone()));
        let mut groups: Vec<Group> = Vec::new();
        let mut ready = 0;
        for object in &objects {
            let Explanation { state, root, .. } = Explanation::of(snapshot, object);
            if state == State::Ready {
                ready += 1;
                continue;
            }
            let Some(root) = root else { continue };
            let is_same =
                |group: &&mut Group| (&group.root.object, &group.root.reason) == (&root.object, &root.reason);
            match groups.iter_mut().find(is_same) {
                Some(group) => {
                    group.objects.push(object.id.clone());
                    group.state = group.state.max(state);
                }
                None => groups.push(Group { root, state, objects: vec![object.id.clone()] }),
            }
        }
        groups.sort_by_key(|group| {
            let root = &group.root;
            (!root.is_problem, is_queued(&root.reason), Reverse((group.state, group.objects.len())))
        });
        Self { namespace: snapshot.namespace.clone(), objects: objects.len(), ready, groups }
    }

    pub fn is_ready(&self) -> bool {
        self.ready == self.objects
    }
}

/// The summary for a terminal.
pub fn text(summary: &Summary, snapshot: &Snapshot, style: Style) -> String {
    let Summary { namespace, objects, ready, groups } = summary;
    if *objects == 0 {
        return format!("namespace {namespace} has no objects of mlop; -n chooses another one\n");
    }
    let mut text = format!("{ready} of {objects} objects are ready and up to date\n");
    for Group { root, state, objects } in groups {
        let title = format!("{} {}: {}", state.mark(), root.object, root.reason);
        let since = root.since.map(|at| format!(" for {}", age::since(snapshot.now, at))).unwrap_or_default();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "\n{}{since}", style.state(*state, &title));
        for message in root.message.iter().filter(|message| !message.is_empty()) {
            let _ = writeln!(text, "  {}", brief(message, MESSAGE_MAX));
        }
        let others: Vec<&ObjectId> = objects.iter().filter(|id| **id != root.object).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "  {} {}", style.dim("holds up"), names::listed(&others));
        }
        let asked = objects.iter().find(|id| **id == root.object).or(objects.first());
        if let Some(id) = asked {
            let command = format!("kubectl mlop -n {namespace} why {}", id.argument());
            let _ = writeln!(text, "    {}", style.bold(&command));
        }
    }
    text
}
