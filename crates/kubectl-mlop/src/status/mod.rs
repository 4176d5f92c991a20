//! The chain of a namespace as a graph: the model behind `kubectl mlop status`.

mod model;
mod render;
mod shape;

pub use model::{Chain, InUse, Node, RunInProgress, reason};
pub use render::{Width, tree};

use crate::{
    kinds, references,
    snapshot::{Object, ObjectId, Snapshot},
    state::State,
};
use mlop_api::kinds::Class;

impl Chain {
    /// The chains of the namespace; with `names`, those that contain one of these objects.
    pub fn of(snapshot: &Snapshot, names: Option<&[ObjectId]>) -> Self {
        let mut nodes: Vec<Node> =
            snapshot.of_class(Class::Intent).map(|it| Node::of(snapshot, it)).collect();
        let missing = missing(snapshot, &nodes);
        nodes.extend(missing);
        let mut nodes = shape::arranged(nodes);
        let of_class = |class| snapshot.of_class(class).map(|it| Node::of(snapshot, it));
        let mut connections: Vec<Node> = of_class(Class::Connection).chain(of_class(Class::Policy)).collect();
        connections.sort_by_key(|node| (kinds::stage(&node.id.kind), node.id.name.clone()));
        if let Some(names) = names {
            let mut wanted = names.to_vec();
            let users = snapshot.of_class(Class::Intent).filter(|it| refers_to_any(it, names));
            wanted.extend(users.map(|it| it.id.clone()));
            shape::keep_related(&mut nodes, &wanted);
            let used: Vec<ObjectId> =
                nodes.iter().filter_map(|node| snapshot.get(&node.id)).flat_map(referred).collect();
            connections.retain(|node| used.contains(&node.id) || names.contains(&node.id));
        }
        Self { namespace: snapshot.namespace.clone(), nodes, connections, now: snapshot.now }
    }

    /// Whether every object is ready and made from the newest inputs.
    pub fn is_ready(&self) -> bool {
        self.nodes.iter().chain(&self.connections).all(|node| node.state == State::Ready)
    }
}

fn referred(object: &Object) -> Vec<ObjectId> {
    references::of(&object.spec).into_iter().map(|reference| reference.to).collect()
}

fn refers_to_any(object: &Object, names: &[ObjectId]) -> bool {
    referred(object).iter().any(|to| names.contains(to))
}

/// Nodes for inputs that do not exist, or whose kinds are not mlop's.
fn missing(snapshot: &Snapshot, nodes: &[Node]) -> Vec<Node> {
    let references = nodes.iter().filter_map(|node| snapshot.get(&node.id));
    let references = references.flat_map(|object| references::of(&object.spec));
    let mut missing: Vec<Node> = Vec::new();
    for reference in references.filter(|reference| reference.is_input) {
        let is_known = nodes.iter().chain(&missing).any(|node| node.id == reference.to);
        if !is_known {
            missing.push(Node::absent(&reference));
        }
    }
    missing
}
