//! One file between a disk and the store, verified by its SHA-256.

use crate::store::{ObjectStoreHandle, local};
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, future::try_join_all};
use mlop_api::{Digest, Reason, result::Failure};
use object_store::{MultipartUpload, PutPayload};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncWriteExt},
};

/// Bytes of one chunk of an upload; files up to this size are one request.
const CHUNK_BYTES: usize = 8 << 20;
/// Chunks of one file in flight at once.
const CHUNKS: usize = 2;
/// Chunks that a multipart upload may have, below the 10,000 of S3.
const CHUNKS_MAX: u64 = 9_000;

/// Size and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size in bytes.
    pub bytes: u64,
    pub sha256: Digest,
}

/// Reads `file` from its beginning to its end.
pub(crate) async fn fingerprint(file: &mut File, shown: &Path) -> Result<Fingerprint, Failure> {
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut buffer = BytesMut::with_capacity(1 << 20);
    while file.read_buf(&mut buffer).await.map_err(local("reading", shown))? > 0 {
        hash.update(&buffer);
        bytes += buffer.len() as u64;
        buffer.clear();
    }
    Ok(Fingerprint { bytes, sha256: Digest::from_hash(&hash.finalize()) })
}

/// Uploads the content of `file`, whose position is its beginning, to `key`. An object of that size that is already
/// there is left: keys are content addresses.
///
/// # Errors
/// [`Reason::WorkerFailed`], retryable, when the file is not what `expected` says: it was written to meanwhile.
pub(crate) async fn upload(
    store: &ObjectStoreHandle,
    key: &str,
    file: &mut File,
    expected: &Fingerprint,
    shown: &Path,
) -> Result<(), Failure> {
    if store.size(key).await? == Some(expected.bytes) {
        return Ok(());
    }
    let mut source = Source { file, shown, hash: Sha256::new(), left: expected.bytes };
    if expected.bytes <= CHUNK_BYTES as u64 {
        let content = source.chunk(CHUNK_BYTES).await?;
        source.verify(expected)?;
        store.create(key, content).await?;
        return Ok(());
    }
    let mut multipart = store.multipart(key).await?;
    match send(store, key, &mut multipart, &mut source, expected).await {
        Ok(()) => Ok(()),
        Err(failure) => {
            // Best effort: the store's lifecycle rule removes what is left.
            let _aborted = multipart.abort().await;
            Err(failure)
        }
    }
}

async fn send(
    store: &ObjectStoreHandle,
    key: &str,
    multipart: &mut Box<dyn MultipartUpload>,
    source: &mut Source<'_>,
    expected: &Fingerprint,
) -> Result<(), Failure> {
    let doing = format!("writing {}", store.store().uri(key));
    let size = CHUNK_BYTES.max(usize::try_from(expected.bytes / CHUNKS_MAX).unwrap_or(CHUNK_BYTES));
    while source.left > 0 {
        let mut parts = Vec::with_capacity(CHUNKS);
        for _ in 0..CHUNKS {
            let chunk = source.chunk(size).await?;
            if !chunk.is_empty() {
                parts.push(store.request(&doing, multipart.put_part(PutPayload::from(chunk))));
            }
        }
        try_join_all(parts).await?;
    }
    source.verify(expected)?;
    store.request(&doing, multipart.complete()).await?;
    Ok(())
}

/// A local file on its way out, hashed again: user code may still be writing to it.
struct Source<'a> {
    file: &'a mut File,
    shown: &'a Path,
    hash: Sha256,
    left: u64,
}

impl Source<'_> {
    /// The next `size` bytes, fewer at the end of the file.
    async fn chunk(&mut self, size: usize) -> Result<Bytes, Failure> {
        let want = usize::try_from(self.left).unwrap_or(size).min(size);
        let mut chunk = vec![0; want];
        self.file.read_exact(&mut chunk).await.map_err(local("reading", self.shown))?;
        self.hash.update(&chunk);
        self.left -= want as u64;
        Ok(chunk.into())
    }

    fn verify(&self, expected: &Fingerprint) -> Result<(), Failure> {
        if Digest::from_hash(&self.hash.clone().finalize()) == expected.sha256 {
            return Ok(());
        }
        let message = format!("{} was written to while it was uploaded", self.shown.display());
        Err(Failure::transient(Reason::WorkerFailed, message))
    }
}

/// Downloads `key` to `target`, which appears only once every byte is verified.
///
/// # Errors
/// [`Reason::InputCorrupt`] when the object is missing or is not what `expected` says.
pub(crate) async fn download(
    store: &ObjectStoreHandle,
    key: &str,
    target: &Path,
    expected: &Fingerprint,
) -> Result<(), Failure> {
    let partial = target.with_added_extension("partial");
    let mut file = File::create(&partial).await.map_err(local("creating", &partial))?;
    let corrupt = |what: &str| {
        let message = format!("{} {what}: it was changed after it was published", store.store().uri(key));
        Failure::terminal(Reason::InputCorrupt, message)
    };
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut body = store.read(key).await?;
    while let Some(chunk) = body.try_next().await? {
        bytes += chunk.len() as u64;
        if bytes > expected.bytes {
            return Err(corrupt(&format!("has more than {} bytes", expected.bytes)));
        }
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(local("writing", &partial))?;
    }
    let sha256 = Digest::from_hash(&hash.finalize());
    if bytes != expected.bytes || sha256 != expected.sha256 {
        return Err(corrupt(&format!("has {bytes} bytes and the digest {sha256}, not {}", expected.sha256)));
    }
    file.flush().await.map_err(local("writing", &partial))?;
    fs::rename(&partial, target).await.map_err(local("renaming", &partial))
}
