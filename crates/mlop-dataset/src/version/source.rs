//! An object's bytes in the listed state, as blocking code reads them.

use crate::listing::Object;
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use futures::TryStreamExt;
use mlop_api::{Reason, result::Failure};
use mlop_artifact::store::{self, ObjectStoreHandle};
use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
};
use tokio::runtime::Handle;

/// Bytes of an object, decompressed.
pub type Body = Box<dyn BufRead + Send>;

/// Size of the buffer between decompression and parsing.
const BUFFER_BYTES: usize = 256 << 10;

/// Opens `object` if it is still in its listed state. Objects whose key ends with `.gz` are decompressed, with all of
/// their members.
///
/// # Errors
/// [`Reason::SourceChanged`], retryable, when the object is in another state or gone.
pub fn open(source: &ObjectStoreHandle, object: &Object, runtime: &Handle) -> Result<Body, Failure> {
    let stream = runtime.block_on(source.read_unchanged(&object.key, &object.etag))?;
    let chunks = Chunks { stream, chunk: Bytes::new(), runtime: runtime.clone() };
    Ok(if object.key.ends_with(".gz") {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(chunks)))
    } else {
        Box::new(chunks)
    })
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
struct Carried(Failure);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Carried {}

/// The failure behind an error of reading the object `key`: the store's, or that it is not gzip.
pub fn failure(key: &str, error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Carried>()) {
        Some(Carried(failure)) => failure.clone(),
        None => Failure::terminal(
            Reason::SchemaMismatch,
            format!("{key} ends with .gz but its content is not whole gzip: {error}; upload it again"),
        ),
    }
}
