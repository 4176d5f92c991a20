//! A trace as data.

use super::facts::{self, Fact};
use crate::snapshot::ObjectId;
use mlop_api::Digest;
use serde::Serialize;

/// An artifact and everything that it was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    pub namespace: String,
    /// The first is the artifact that was asked for.
    pub nodes: Vec<Origin>,
    pub edges: Vec<Edge>,
}

/// One artifact.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    #[serde(flatten)]
    pub object: ObjectId,
    pub digest: Digest,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<ObjectId>,
    #[serde(serialize_with = "facts::as_map")]
    pub facts: Vec<Fact>,
    /// Why its own inputs are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// `nodes[input]` went into `nodes[output]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    pub input: usize,
    pub output: usize,
    /// Name of the input in the spec.
    pub name: String,
}

impl Trace {
    /// The inputs of a node, with their names in the spec.
    pub fn inputs_of(&self, output: usize) -> impl Iterator<Item = (usize, &str)> {
        let edges = self.edges.iter().filter(move |edge| edge.output == output);
        edges.map(|edge| (edge.input, edge.name.as_str()))
    }
}
