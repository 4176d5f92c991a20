//! The object stores, as far as pods need them: which content lies where.

use mlop_api::{
    Digest, Reason,
    result::Failure,
    task::{ActivateWork, Input, Store, Work},
};
use std::collections::BTreeSet;

/// The bucket of the source in the pipeline.
const SOURCE: &str = "arrivals";

/// Content by the place that it was written to.
#[derive(Default)]
pub struct ObjectStores {
    written: BTreeSet<(String, Digest)>,
    /// A user has copied all content to another place. Content is found in every place, wherever it was written.
    pub is_mirrored: bool,
    /// Reads of content that was never written to that place.
    pub misses: Vec<String>,
}

impl ObjectStores {
    /// Notes that a pod has written content.
    pub fn write(&mut self, store: &Store, digest: &Digest) {
        self.written.insert((place(store), digest.clone()));
    }

    /// Reads all content that a pod needs for its work.
    ///
    /// # Errors
    /// The first content that is not where the task says.
    pub fn read_all(&mut self, work: &Work) -> Result<(), Failure> {
        let reads: Vec<(&Store, &Digest)> = match work {
            Work::Version(work) => vec![(&work.output, &work.listing)],
            Work::Snapshot(work) => work.inputs.iter().map(read).collect(),
            Work::Train(work) => work.inputs.iter().map(read).collect(),
            Work::Activate(ActivateWork { table, .. }) => vec![read(table)],
            Work::Register(work) => vec![read(&work.model)],
            Work::Serve { model, .. } => vec![read(model)],
            _ => Vec::new(),
        };
        for (store, digest) in reads {
            let place = place(store);
            let is_moved = self.is_mirrored && self.written.iter().any(|(_, written)| written == digest);
            if !is_moved && !self.written.contains(&(place.clone(), digest.clone())) {
                let message = format!("{digest} was never written to {place}");
                self.misses.push(message.clone());
                return Err(Failure::terminal(Reason::InputCorrupt, message));
            }
        }
        Ok(())
    }
}

/// Whether a scan of `store` sees the content of the source.
pub fn is_source(store: &Store) -> bool {
    store.bucket == SOURCE
}

/// Where `work` writes its result.
pub fn output(work: &Work) -> Option<&Store> {
    match work {
        Work::Scan(work) => Some(&work.output),
        Work::Version(work) => Some(&work.output),
        Work::Snapshot(work) => Some(&work.output),
        Work::Train(work) => Some(&work.output),
        _ => None,
    }
}

fn read(input: &Input) -> (&Store, &Digest) {
    (&input.store, &input.digest)
}

fn place(store: &Store) -> String {
    format!("{}/{}/{}", store.endpoint, store.bucket, store.prefix)
}
