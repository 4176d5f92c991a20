//! The order of a chain's nodes, and the place of each in a tree.

use super::model::Node;
use crate::{kinds, snapshot::ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// Parents before children. Each node gets the parent with the longest way from a root, so that a diamond is shown once,
/// below its last input. Nodes of a cycle become roots.
pub(super) fn arranged(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_key(|node| (kinds::stage(&node.id.kind), node.id.clone()));
    let mut depths: BTreeMap<ObjectId, usize> = BTreeMap::new();
    let mut arranged: Vec<Node> = Vec::new();
    while !nodes.is_empty() {
        let is_free = |node: &Node| node.inputs.iter().all(|input| depths.contains_key(input));
        let index = nodes.iter().position(is_free);
        let mut node = nodes.remove(index.unwrap_or_default());
        let of_input = |input: &ObjectId| depths.get(input).map(|depth| (*depth, input.clone()));
        // Of equal depths the first input counts.
        let mut deepest: Option<(usize, ObjectId)> = None;
        for (depth, input) in node.inputs.iter().filter_map(of_input) {
            if deepest.as_ref().is_none_or(|(found, _)| depth > *found) {
                deepest = Some((depth, input));
            }
        }
        let is_in_cycle = index.is_none();
        node.parent = deepest.clone().filter(|_| !is_in_cycle).map(|(_, input)| input);
        let depth = deepest.map_or(0, |(depth, _)| depth + 1);
        depths.insert(node.id.clone(), depth);
        arranged.push(node);
    }
    arranged
}

/// Keeps the `wanted` nodes, everything that they descend from and everything that descends from them.
pub(super) fn keep_related(nodes: &mut Vec<Node>, wanted: &[ObjectId]) {
    let mut kept: BTreeSet<ObjectId> = wanted.iter().cloned().collect();
    // Parents come before children: one walk in each direction is enough.
    for node in nodes.iter() {
        if node.inputs.iter().any(|input| kept.contains(input)) {
            kept.insert(node.id.clone());
        }
    }
    for node in nodes.iter().rev() {
        if kept.contains(&node.id) {
            kept.extend(node.inputs.iter().cloned());
        }
    }
    nodes.retain(|node| kept.contains(&node.id));
}
