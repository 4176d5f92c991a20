//! One file between a disk and the store, verified by its SHA-256.

use crate::store::{ObjectStoreHandle, local};
use bytes::Bytes;
use futures::{TryStreamExt, future::try_join_all};
use mlop_api::{Digest, Reason, result::Failure};
use object_store::{MultipartUpload, PutPayload};
use sha2::{Digest as _, Sha256};
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
};

/// Bytes of one chunk of an upload; files up to this size are one request.
const CHUNK_BYTES: usize = 8 << 20;
/// Chunks of one file in flight at once.
const CHUNKS: usize = 2;
/// Files up to this size are sent without asking first whether they are there already.
const UNASKED_BYTES: u64 = 256 << 10;
/// Bytes that are hashed at once.
const HASHED_BYTES: usize = 256 << 10;
/// Chunks that a multipart upload may have, below the 10,000 of S3.
const CHUNKS_MAX: u64 = 9_000;

/// Size and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size in bytes.
    pub bytes: u64,
    pub sha256: Digest,
}

/// Reads `file` from its beginning to its end, on a thread for that.
pub(crate) async fn fingerprint(mut file: std::fs::File, shown: &Path) -> Result<Fingerprint, Failure> {
    let hashed = spawn_blocking(move || {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; HASHED_BYTES]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Fingerprint { bytes, sha256: Digest::from_hash(&hash.finalize()) });
            }
            hash.update(buffer.get(..read).unwrap_or_default());
            bytes += read as u64;
        }
    });
    hashed.await.unwrap_or_else(|gone| Err(std::io::Error::other(gone))).map_err(local("reading", shown))
}

/// Uploads the content of the file that `open` opens to `key`. An object of that size that is already there is left:
/// keys are content addresses. While the store does not answer, the file is sent again.
///
/// # Errors
/// [`Reason::WorkerFailed`], retryable, when the file is not what `expected` says: it was written to meanwhile.
pub(crate) async fn upload(
    store: &ObjectStoreHandle,
    key: &str,
    open: &impl Fn() -> Result<std::fs::File, Failure>,
    expected: &Fingerprint,
    shown: &Path,
) -> Result<(), Failure> {
    if expected.bytes > UNASKED_BYTES && store.size(key).await? == Some(expected.bytes) {
        return Ok(());
    }
    if expected.bytes <= CHUNK_BYTES as u64 {
        let content = whole(open()?, expected, shown).await?;
        store.create(key, content).await?;
        return Ok(());
    }
    store.patience().repeat(|| upload_in_chunks(store, key, open, expected, shown)).await
}

/// The content of a small file, verified, on a thread for that.
async fn whole(file: std::fs::File, expected: &Fingerprint, shown: &Path) -> Result<Bytes, Failure> {
    let bytes = expected.bytes;
    let read = spawn_blocking(move || {
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        // One byte more would show that the file has grown.
        file.take(bytes + 1).read_to_end(&mut content)?;
        let sha256 = Digest::of_bytes(&content);
        Ok((content, sha256))
    });
    let read = read.await.unwrap_or_else(|gone| Err(std::io::Error::other(gone)));
    let (content, sha256) = read.map_err(local("reading", shown))?;
    if sha256 == expected.sha256 { Ok(content.into()) } else { Err(changed(shown)) }
}

fn changed(shown: &Path) -> Failure {
    let message = format!("{} was written to while it was uploaded", shown.display());
    Failure::transient(Reason::WorkerFailed, message)
}

async fn upload_in_chunks(
    store: &ObjectStoreHandle,
    key: &str,
    open: &impl Fn() -> Result<std::fs::File, Failure>,
    expected: &Fingerprint,
    shown: &Path,
) -> Result<(), Failure> {
    let mut file = File::from_std(open()?);
    let mut source = Source { file: &mut file, shown, hash: Sha256::new(), left: expected.bytes };
    let mut multipart = store.multipart(key).await?;
    match send(store, key, &mut multipart, &mut source, expected).await {
        Ok(()) => Ok(()),
        Err(failure) => {
            // Best effort: the store's lifecycle rule removes an upload that is not aborted.
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
        let same = Digest::from_hash(&self.hash.clone().finalize()) == expected.sha256;
        if same { Ok(()) } else { Err(changed(self.shown)) }
    }
}

/// A directory for unfinished downloads beside the finished ones, under a name that none of them has.
#[derive(Debug)]
pub(crate) struct Unfinished {
    directory: PathBuf,
}

impl Unfinished {
    /// Makes the directory in `into`. `is_taken` tells whether a name belongs to a finished file.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn within(into: &Path, is_taken: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let mut name = ".mlop-unfinished".to_owned();
        while is_taken(&name) {
            name.push('_');
        }
        let unfinished = Self { directory: into.join(name) };
        // An attempt that was killed may have left its own.
        unfinished.remove().await?;
        let directory = &unfinished.directory;
        fs::create_dir_all(directory).await.map_err(local("creating", directory))?;
        Ok(unfinished)
    }

    /// Where the download number `index` is written.
    pub fn file(&self, index: usize) -> PathBuf {
        self.directory.join(index.to_string())
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// As the disk says.
    pub async fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.directory).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(local("removing", &self.directory)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Downloads `key` to `target`, which appears only once every byte is verified; until then it is `unfinished`. While
/// the store does not answer, the download begins again.
///
/// # Errors
/// [`Reason::InputCorrupt`] when the object is missing or is not what `expected` says.
pub(crate) async fn download(
    store: &ObjectStoreHandle,
    key: &str,
    unfinished: &Path,
    target: &Path,
    expected: &Fingerprint,
) -> Result<(), Failure> {
    store.patience().repeat(|| fetch(store, key, unfinished, expected)).await?;
    fs::rename(unfinished, target).await.map_err(local("renaming", unfinished))
}

async fn fetch(
    store: &ObjectStoreHandle,
    key: &str,
    unfinished: &Path,
    expected: &Fingerprint,
) -> Result<(), Failure> {
    let mut file = File::create(unfinished).await.map_err(local("creating", unfinished))?;
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
        file.write_all(&chunk).await.map_err(local("writing", unfinished))?;
    }
    let sha256 = Digest::from_hash(&hash.finalize());
    if bytes != expected.bytes || sha256 != expected.sha256 {
        return Err(corrupt(&format!("has {bytes} bytes and the digest {sha256}, not {}", expected.sha256)));
    }
    file.flush().await.map_err(local("writing", unfinished))
}
