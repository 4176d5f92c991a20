//! An object's bytes in the listed state, as blocking code reads them.

use crate::listing::Object;
use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use mlop_api::{Reason, result::Failure};
use mlop_artifact::store::{self, ObjectStoreHandle};
use std::{
    fmt,
    io::{self, BufRead, Read},
};
use tokio::runtime::Handle;

/// Bytes of an object.
pub type Body = Box<dyn BufRead + Send>;

/// Opens `object` if it is still in its listed state.
///
/// # Errors
/// [`Reason::SourceChanged`] when the object is in another state, or, retryable, when the store does not find it.
pub fn open(source: &ObjectStoreHandle, object: &Object, runtime: &Handle) -> Result<Body, Failure> {
    let stream = runtime.block_on(source.read_unchanged(&object.key, &object.etag))?;
    Ok(body(Vec::new(), stream, runtime))
}

/// The chunks of an object that are there already, and then the rest.
pub fn body(chunks: Vec<Bytes>, rest: store::Body, runtime: &Handle) -> Body {
    let stream = futures::stream::iter(chunks.into_iter().map(Ok)).chain(rest).boxed();
    Box::new(Chunks { stream, chunk: Bytes::new(), runtime: runtime.clone() })
}

/// A body from the store for blocking code on a thread of its own.
struct Chunks {
    stream: store::Body,
    chunk: Bytes,
    runtime: Handle,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.try_next()) {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => break,
                Err(failure) => return Err(io::Error::other(Carried(failure))),
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, amount: usize) {
        self.chunk.advance(amount.min(self.chunk.len()));
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// A failure on its way through interfaces that know I/O errors only.
#[derive(Debug)]
pub struct Carried(Failure);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Carried {}

/// The failure behind an error of reading the object `key`: the store's, or that its content is damaged.
pub fn failure(key: &str, error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Carried>()) {
        Some(Carried(failure)) => failure.clone(),
        None => Failure::terminal(Reason::SchemaMismatch, format!("{key} {error}; upload it again")),
    }
}
