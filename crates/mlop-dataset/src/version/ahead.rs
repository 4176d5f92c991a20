//! Objects that are read ahead of their turn.
//!
//! A request takes tens of milliseconds, whatever the size of its object. With one after the other a hundred thousand
//! small objects would take more than an hour of waiting. So the next small objects are fetched while earlier ones are
//! validated. Their order stays, and so does that of failures: each is reported when its object has its turn.

use super::{
    joined,
    source::{self, Body},
};
use crate::listing::Object;
use bytes::Bytes;
use futures::TryStreamExt;
use mlop_api::result::Failure;
use mlop_artifact::store::{self, ObjectStoreHandle};
use std::collections::VecDeque;
use tokio::{runtime::Handle, task::JoinHandle};

/// Objects that are fetched at once.
const OBJECTS_MAX: usize = 32;
/// Bytes of all objects that are fetched and not read yet. A larger object is streamed when it has its turn: its transfer
/// takes longer than its request.
const BYTES_MAX: u64 = 8 << 20;

/// The objects between the listing and their validation.
pub struct Ahead {
    source: ObjectStoreHandle,
    runtime: Handle,
    queue: VecDeque<(Object, Option<Fetch>)>,
    /// Size of the objects in the queue that are being fetched.
    bytes: u64,
}

/// The beginning of an object, and the rest if it is longer than its listed size.
type Fetched = Result<(Vec<Bytes>, store::Body), Failure>;

/// The fetch of one object. Dropping it ends it.
struct Fetch(JoinHandle<Fetched>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ahead {
    /// Nothing is read yet.
    pub fn new(source: ObjectStoreHandle, runtime: Handle) -> Self {
        Self { source, runtime, queue: VecDeque::new(), bytes: 0 }
    }

    /// Whether `object` has to wait until an earlier one is taken.
    pub fn is_full_for(&self, object: &Object) -> bool {
        let fits = self.bytes.saturating_add(object.size) <= BYTES_MAX;
        self.queue.len() >= OBJECTS_MAX || !(fits || self.queue.is_empty())
    }

    /// Adds the object that comes last by now.
    pub fn add(&mut self, object: Object) {
        let fetch = (object.size <= BYTES_MAX).then(|| self.fetch(object.clone()));
        self.bytes += if fetch.is_some() { object.size } else { 0 };
        self.queue.push_back((object, fetch));
    }

    /// Takes the object that comes first, with its bytes or the failure of [`source::open`].
    pub fn take(&mut self) -> Option<(Object, Result<Body, Failure>)> {
        let (object, fetch) = self.queue.pop_front()?;
        let body = match fetch {
            None => source::open(&self.source, &object, &self.runtime),
            Some(mut fetch) => {
                self.bytes -= object.size;
                let fetched = joined(self.runtime.block_on(&mut fetch.0));
                fetched.map(|(chunks, rest)| source::body(chunks, rest, &self.runtime))
            }
        };
        Some((object, body))
    }

    fn fetch(&self, object: Object) -> Fetch {
        let source = self.source.clone();
        Fetch(self.runtime.spawn(async move {
            let mut rest = source.read_unchanged(&object.key, &object.etag).await?;
            let (mut chunks, mut bytes) = (Vec::new(), 0);
            // A store that ignores the etag may have more by now: the rest is not held in memory.
            while bytes <= object.size {
                let Some(chunk) = rest.try_next().await? else { break };
                bytes += chunk.len() as u64;
                chunks.push(chunk);
            }
            Ok((chunks, rest))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, size: u64) -> Object {
        Object { key: key.to_owned(), size, etag: "e".to_owned(), version: None }
    }

    /// How many objects of `size` bytes are added before it is full.
    fn capacity(size: u64) -> usize {
        let mut ahead = Ahead::new(ObjectStoreHandle::in_memory("raw"), Handle::current());
        let mut added = 0;
        while !ahead.is_full_for(&object("a", size)) {
            ahead.add(object("a", size));
            added += 1;
            assert!(ahead.bytes <= BYTES_MAX);
        }
        added
    }

    #[tokio::test]
    async fn objects_ahead_are_bounded_in_number_and_bytes() {
        assert_eq!(capacity(1), OBJECTS_MAX);
        assert_eq!(capacity(BYTES_MAX / 4), 4);
        assert_eq!(capacity(BYTES_MAX), 1);
        assert_eq!(capacity(BYTES_MAX + 1), 1, "it is streamed");
    }

    #[tokio::test]
    async fn small_objects_are_fetched_while_a_large_one_is_read() {
        let mut ahead = Ahead::new(ObjectStoreHandle::in_memory("raw"), Handle::current());
        let large = object("a", BYTES_MAX + 1);
        ahead.add(large.clone());
        assert!(!ahead.is_full_for(&object("b", 1)));
        assert!(ahead.is_full_for(&large));
        ahead.add(object("b", 1));
        assert_eq!(ahead.queue.iter().map(|(_, fetch)| fetch.is_some()).collect::<Vec<_>>(), [false, true]);
    }
}
