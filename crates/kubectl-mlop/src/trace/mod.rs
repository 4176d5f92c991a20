//! The origin of an artifact: digest by digest back to source objects, image, code, parameters and seed. The model
//! behind `kubectl mlop trace`.
//!
//! An artifact names its run, the run has its inputs with their digests, and each of those was the output of a run.
//! Nothing is guessed: a run that is no longer kept as an object is a gap, and is shown as one.

mod facts;
mod model;
mod render;

pub use facts::Fact;
pub use model::{Edge, Origin, Trace};
pub use render::{dot, mermaid, tree};

use crate::{
    names,
    snapshot::{Object, ObjectId, Snapshot},
};
use anyhow::{Result, bail};

use mlop_api::{Digest, contract::Artifact, kinds::Class, run::Lineage};
use std::collections::BTreeSet;

/// Least number of digits by which a digest is found.
const DIGITS_MIN: usize = 6;

impl Trace {
    /// The origin of the artifact in use of an intent, or of the output of a run.
    ///
    /// # Errors
    /// It has published nothing.
    pub fn of(snapshot: &Snapshot, object: &Object) -> Result<Self> {
        let mut trace = Self { namespace: snapshot.namespace.clone(), nodes: Vec::new(), edges: Vec::new() };
        match (&object.status.artifact, &object.status.output) {
            (Some(artifact), _) => trace.add_artifact(snapshot, object, artifact),
            (_, Some(output)) if object.class == Class::Run => {
                let intent = object.intent().unwrap_or_else(|| object.id.clone());
                trace.add(snapshot, intent, &output.digest, Some(object));
            }
            _ => bail!(
                "{} has published nothing yet; `kubectl mlop why {}` says why",
                object.id,
                object.id.argument()
            ),
        }
        Ok(trace)
    }

    /// The origin of the artifact with this digest, or with a digest that begins so.
    ///
    /// # Errors
    /// No object has it, or the beginning is too short.
    pub fn of_digest(snapshot: &Snapshot, digest: &str) -> Result<Self> {
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest).to_lowercase();
        if digits.len() < DIGITS_MIN || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            bail!("{digest:?} is not a digest: want sha256: and hexadecimal digits, {DIGITS_MIN} at least");
        }
        let has = |digest: Option<&Digest>| digest.is_some_and(|digest| digest.hex().starts_with(&digits));
        let published = |object: &&Object| has(object.status.artifact.as_ref().map(|it| &it.digest));
        let made = |object: &&Object| has(object.status.output.as_ref().map(|it| &it.digest));
        // A model's tree has one digest from its training to its deployment: the last one tells the most.
        let intents = snapshot.of_class(Class::Intent).filter(published);
        let last = intents.max_by_key(|object| crate::kinds::stage(&object.id.kind));
        match last.or_else(|| snapshot.of_class(Class::Run).filter(made).max_by_key(|run| run.created_at())) {
            Some(object) => Self::of(snapshot, object),
            None => bail!(
                "no object in namespace {} has published a digest that begins with {digits}; its run may be \
                 gone (spec.historyLimit), or it is in another namespace",
                snapshot.namespace
            ),
        }
    }

    /// Adds the artifact that an intent has published. A deployment has no runs: its artifact names that of its model.
    fn add_artifact(&mut self, snapshot: &Snapshot, object: &Object, artifact: &Artifact) {
        let run = snapshot.run(&artifact.run);
        let is_own = run.is_some_and(|run| run.intent().as_ref() == Some(&object.id));
        if is_own || object.has_runs() {
            let index = self.add(snapshot, object.id.clone(), &artifact.digest, run);
            self.add_lost(index, artifact);
            return;
        }
        let index = self.push(object.id.clone(), &artifact.digest, None, facts::of_intent(object), None);
        for input in &artifact.inputs {
            let id = ObjectId::new(&input.kind, &input.object);
            let run = run.filter(|run| run.intent().as_ref() == Some(&id));
            let parent = self.add(snapshot, id, &input.digest, run);
            self.connect(parent, index, &input.name);
        }
        self.add_lost(index, artifact);
    }

    /// Adds an artifact and, before it returns, everything that it was made from.
    fn add(&mut self, snapshot: &Snapshot, id: ObjectId, digest: &Digest, run: Option<&Object>) -> usize {
        if let Some(index) = self.nodes.iter().position(|node| node.object == id && node.digest == *digest) {
            return index;
        }
        let Some(run) = run.or_else(|| maker(snapshot, &id, digest)) else {
            let gap = "its run is no longer kept as an object (spec.historyLimit), or its kind has none";
            return self.push(id, digest, None, Vec::new(), Some(gap.to_owned()));
        };
        let facts = facts::of_run(snapshot, run);
        let index = self.push(id, digest, Some(run.id.clone()), facts, None);
        let lineage = run.lineage();
        for input in lineage.iter().flat_map(|lineage: &Lineage| &lineage.inputs) {
            let record = &input.record;
            let parent =
                self.add(snapshot, ObjectId::new(&record.kind, &record.object), &record.digest, None);
            self.connect(parent, index, &record.name);
        }
        index
    }

    /// Adds ancestors that no run led to: behind a gap their digests are known, but not what they became.
    fn add_lost(&mut self, index: usize, artifact: &Artifact) {
        let known: BTreeSet<_> =
            self.nodes.iter().map(|node| (node.object.clone(), node.digest.clone())).collect();
        let gap = self.nodes.iter().position(|node| node.gap.is_some()).unwrap_or(index);
        for ancestor in &artifact.ancestors {
            let id = ObjectId::new(&ancestor.kind, &ancestor.name);
            if !known.contains(&(id.clone(), ancestor.digest.clone())) {
                let text = "known as an ancestor only: the run that read it is no longer kept as an object";
                let lost = self.push(id, &ancestor.digest, None, Vec::new(), Some(text.to_owned()));
                self.connect(lost, gap, "ancestor");
            }
        }
    }

    fn push(
        &mut self,
        object: ObjectId,
        digest: &Digest,
        run: Option<ObjectId>,
        facts: Vec<Fact>,
        gap: Option<String>,
    ) -> usize {
        self.nodes.push(Origin { object, digest: digest.clone(), run, facts, gap });
        self.nodes.len() - 1
    }

    fn connect(&mut self, input: usize, output: usize, name: &str) {
        self.edges.push(Edge { input, output, name: name.to_owned() });
    }
}

/// The run whose output has the digest: the one in use, or the newest.
pub(crate) fn maker<'a>(snapshot: &'a Snapshot, intent: &ObjectId, digest: &Digest) -> Option<&'a Object> {
    let artifact = snapshot.get(intent).and_then(|object| object.status.artifact.as_ref());
    let in_use = artifact.filter(|artifact| artifact.digest == *digest).map(|artifact| artifact.run.as_str());
    let made = |run: &&Object| run.status.output.as_ref().is_some_and(|output| output.digest == *digest);
    let runs = snapshot.runs_of(intent);
    let of_artifact = runs.iter().copied().find(|run| Some(run.id.name.as_str()) == in_use);
    of_artifact.filter(made).or_else(|| runs.iter().copied().find(made))
}

/// The object whose artifact is traced: of several with the name, the most downstream one that has published something.
///
/// # Errors
/// There is no such object.
pub fn start<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Object> {
    let found = names::candidates(snapshot, name)?;
    let has_output = |object: &&&Object| object.status.artifact.is_some() || object.status.output.is_some();
    let first = found.first().copied();
    match found.iter().find(has_output).copied().or(first) {
        Some(object) => Ok(object),
        None => bail!("there is no object {name:?}"),
    }
}
