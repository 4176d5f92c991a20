//! One ObjectStore as a worker uses it.

use crate::{
    error::{local_failure, store_failure},
    patience::{Patience, is_passing},
    transfer::{self, Fingerprint},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use listed::Skipped;
use mlop_api::{Digest, Reason, result::Failure, task::Store};
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, memory::InMemory,
    path::Path as Key,
};
use std::{future::Future, path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;

mod listed;
mod open;
mod outage;

pub use open::{open, open_with_keys};
pub use outage::Outage;

/// Longest time of one request, other than reading a body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence while a body is read.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An ObjectStore, opened. Keys given to it are relative to the store's prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ObjectStoreHandle {
    store: Store,
    client: Arc<dyn ObjectStore>,
    patience: Patience,
    skipped: Skipped,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key, relative to the store's prefix.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The store's mark of this content, for [`ObjectStoreHandle::read_unchanged`].
    pub etag: Option<String>,
    /// The version's id, where the store tells it in listings.
    pub version: Option<String>,
}

/// Content of an object, chunk by chunk.
pub type Body = BoxStream<'static, Result<Bytes, Failure>>;

impl ObjectStoreHandle {
    /// A handle over any client whose root is the bucket. It makes each request once.
    pub fn new(store: Store, client: Arc<dyn ObjectStore>) -> Self {
        Self { store, client, patience: Patience::NONE, skipped: Skipped::default() }
    }

    /// The same store, whose requests are repeated with `patience` while it does not answer.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// How long requests are repeated while the store does not answer.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// A store in memory, for tests.
    pub fn in_memory(name: &str) -> Self {
        let store = Store {
            name: name.to_owned(),
            endpoint: "http://memory".to_owned(),
            region: "us-east-1".to_owned(),
            bucket: name.to_owned(),
            prefix: "test/".to_owned(),
            credentials: false,
            ..Store::default()
        };
        Self::new(store, Arc::new(InMemory::new()))
    }

    /// The part of this store below `directory`: a store of its own, with the same layout.
    #[must_use]
    pub fn within(&self, directory: &str) -> Self {
        let mut within = self.clone();
        within.store.prefix = format!("{}{directory}/", self.store.prefix);
        within
    }

    /// Where and what this store is.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Objects that listings of this store have left out because of their keys: how many, and some by name.
    pub fn skipped(&self) -> Option<String> {
        self.skipped.describe()
    }

    /// The whole object at `key`, or `None` when there is none.
    ///
    /// # Errors
    /// [`Reason::InputCorrupt`] when it has more than `bytes_max` bytes; otherwise as the store says.
    pub async fn find(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Failure> {
        self.patience.repeat(|| self.find_once(key, bytes_max)).await
    }

    async fn find_once(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Failure> {
        let doing = format!("reading {}", self.store.uri(key));
        let found = match self.request(&doing, self.client.get(&self.key(key)?)).await {
            Err(Unfulfilled { error: Some(Error::NotFound { .. }), failure }) => {
                return if failure.reason == Reason::BucketNotFound { Err(failure) } else { Ok(None) };
            }
            other => other?,
        };
        if found.meta.size > bytes_max {
            let message =
                format!("{}: {} bytes are more than {bytes_max}", self.store.uri(key), found.meta.size);
            return Err(Failure::terminal(Reason::InputCorrupt, message));
        }
        let mut body = self.bounded(doing, found.into_stream());
        let mut content = Vec::new();
        while let Some(chunk) = body.try_next().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(Some(content.into()))
    }

    /// The whole object at `key`.
    ///
    /// # Errors
    /// As [`find`](Self::find), and [`Reason::InputCorrupt`] when there is none.
    pub async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, Failure> {
        self.find(key, bytes_max).await?.ok_or_else(|| {
            let message = format!("{} does not exist: it was deleted or never written", self.store.uri(key));
            Failure::transient(Reason::InputCorrupt, message)
        })
    }

    /// The content of `key` as a stream.
    ///
    /// # Errors
    /// [`Reason::InputCorrupt`] when there is no such object; otherwise as the store says.
    pub async fn read(&self, key: &str) -> Result<Body, Failure> {
        self.stream(key, GetOptions::default()).await
    }

    /// The content of `key` as a stream, if its etag is still `etag`.
    ///
    /// # Errors
    /// [`Reason::SourceChanged`] when the object has changed, or, retryable, when the store does not find it.
    pub async fn read_unchanged(&self, key: &str, etag: &str) -> Result<Body, Failure> {
        let options = GetOptions { if_match: Some(etag.to_owned()), ..GetOptions::default() };
        self.stream(key, options).await.map_err(|failure| match failure.reason {
            Reason::InputCorrupt => Failure::transient(Reason::SourceChanged, failure.message),
            _ => failure,
        })
    }

    async fn stream(&self, key: &str, options: GetOptions) -> Result<Body, Failure> {
        let doing = format!("reading {}", self.store.uri(key));
        let place = self.key(key)?;
        let found = self.repeated(&doing, || self.client.get_opts(&place, options.clone())).await?;
        Ok(self.bounded(doing, found.into_stream()))
    }

    /// Writes `content` to `key` unless there is an object already. `false`: there is, and it was left as it is; it may
    /// be the content of an earlier attempt at this very request, whose answer was lost.
    ///
    /// # Errors
    /// As the store says.
    pub async fn create(&self, key: &str, content: impl Into<Bytes>) -> Result<bool, Failure> {
        let doing = format!("writing {}", self.store.uri(key));
        let (key, payload) = (self.key(key)?, PutPayload::from(content.into()));
        let put = || self.client.put_opts(&key, payload.clone(), PutMode::Create.into());
        match self.repeated(&doing, put).await {
            Ok(_) => Ok(true),
            Err(Unfulfilled { error: Some(Error::AlreadyExists { .. }), .. }) => Ok(false),
            Err(unfulfilled) => Err(unfulfilled.into()),
        }
    }

    /// Uploads the local file `path` to the key that `place` makes of its SHA-256, and returns that key and the upload.
    /// An object of that size that is already there is left. Memory does not grow with the file.
    ///
    /// # Errors
    /// As the store and the disk say.
    pub async fn upload(
        &self,
        path: &Path,
        place: impl FnOnce(&Digest) -> String,
    ) -> Result<(String, Fingerprint), Failure> {
        let open = || std::fs::File::open(path).map_err(local("opening", path));
        let fingerprint = transfer::fingerprint(open()?, path).await?;
        let key = place(&fingerprint.sha256);
        transfer::upload(self, &key, &open, &fingerprint, path).await?;
        Ok((key, fingerprint))
    }

    /// The size in bytes of the object at `key`, or `None` when there is none.
    ///
    /// # Errors
    /// As the store says.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Failure> {
        let doing = format!("looking at {}", self.store.uri(key));
        let place = self.key(key)?;
        match self.repeated(&doing, || self.client.head(&place)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Unfulfilled { error: Some(Error::NotFound { .. }), .. }) => Ok(None),
            Err(unfulfilled) => Err(unfulfilled.into()),
        }
    }

    /// Removes the object at `key`; one that is not there is removed already.
    ///
    /// # Errors
    /// As the store says.
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        let doing = format!("deleting {}", self.store.uri(key));
        let place = self.key(key)?;
        match self.repeated(&doing, || self.client.delete(&place)).await {
            Ok(()) | Err(Unfulfilled { error: Some(Error::NotFound { .. }), .. }) => Ok(()),
            Err(unfulfilled) => Err(unfulfilled.into()),
        }
    }

    /// All objects whose key starts with `prefix`, which may end inside a segment. In the store's order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Entry, Failure>> {
        let full = format!("{}{prefix}", self.store.prefix);
        let doing = format!("listing {}", self.store.uri(prefix));
        // The client lists whole directories only.
        let directory = full.rsplit_once('/').map_or("", |(directory, _)| directory);
        let directory = match Key::parse(directory) {
            Ok(directory) => directory,
            Err(error) => {
                let failure = store_failure(&self.store.name, &doing, &error.into());
                return futures::stream::once(async { Err(failure) }).boxed();
            }
        };
        let strip = self.store.prefix.len();
        self.objects(doing, directory)
            .try_filter_map(move |meta| {
                let key = meta.location.as_ref();
                let entry = key.starts_with(&full).then(|| Entry {
                    key: key.get(strip..).unwrap_or_default().to_owned(),
                    size: meta.size,
                    etag: meta.e_tag.clone(),
                    version: meta.version.clone(),
                });
                async { Ok(entry) }
            })
            .boxed()
    }

    /// All objects below `directory`. A listing that breaks off goes on behind the last object.
    fn objects(&self, doing: String, directory: Key) -> BoxStream<'static, Result<ObjectMeta, Failure>> {
        let first = self.bounded(doing.clone(), self.client.list(Some(&directory)));
        let state = (self.clone(), first, None::<Key>, self.patience.pauses());
        futures::stream::try_unfold(state, move |(handle, mut stream, mut last, mut pauses)| {
            let (doing, directory) = (doing.clone(), directory.clone());
            async move {
                loop {
                    match stream.try_next().await {
                        Ok(Some(meta)) => {
                            last = Some(meta.location.clone());
                            pauses = handle.patience.pauses();
                            return Ok(Some((meta, (handle, stream, last, pauses))));
                        }
                        Ok(None) => return Ok(None),
                        Err(failure) if is_passing(&failure) => pauses.wait(failure).await?,
                        Err(failure) => return Err(failure),
                    }
                    let listing = match &last {
                        None => handle.client.list(Some(&directory)),
                        Some(last) => handle.client.list_with_offset(Some(&directory), last),
                    };
                    stream = handle.bounded(doing.clone(), listing);
                }
            }
        })
        .boxed()
    }

    /// The client and the full key, for multipart uploads.
    pub(crate) async fn multipart(
        &self,
        key: &str,
    ) -> Result<Box<dyn object_store::MultipartUpload>, Failure> {
        let doing = format!("writing {}", self.store.uri(key));
        Ok(self.request(&doing, self.client.put_multipart(&self.key(key)?)).await?)
    }

    /// Carries out one request, again while the store does not answer.
    pub(crate) async fn repeated<T, F>(
        &self,
        doing: &str,
        mut request: impl FnMut() -> F,
    ) -> Result<T, Unfulfilled>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pauses = self.patience.pauses();
        loop {
            match self.request(doing, request()).await {
                Err(Unfulfilled { failure, .. }) if is_passing(&failure) => {
                    pauses.wait(failure).await.map_err(|failure| Unfulfilled { error: None, failure })?;
                }
                other => return other,
            }
        }
    }

    /// Carries out one request within its time.
    pub(crate) async fn request<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Unfulfilled> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failure = store_failure(&self.store.name, doing, &error);
                Err(Unfulfilled { error: Some(error), failure })
            }
            Err(_) => Err(Unfulfilled { error: None, failure: self.silent(doing, REQUEST_TIMEOUT) }),
        }
    }

    /// `stream` with errors as failures, ending with one when nothing comes for [`IDLE_TIMEOUT`].
    fn bounded<T: Send + 'static>(
        &self,
        doing: String,
        stream: BoxStream<'static, Result<T, Error>>,
    ) -> BoxStream<'static, Result<T, Failure>> {
        let handle = self.clone();
        futures::stream::try_unfold((handle, doing, stream), |(handle, doing, mut stream)| async move {
            match timeout(IDLE_TIMEOUT, stream.try_next()).await {
                Ok(Ok(Some(item))) => Ok(Some((item, (handle, doing, stream)))),
                Ok(Ok(None)) => Ok(None),
                Ok(Err(error)) => Err(store_failure(&handle.store.name, &doing, &error)),
                Err(_) => Err(handle.silent(&doing, IDLE_TIMEOUT)),
            }
        })
        .boxed()
    }

    fn silent(&self, doing: &str, after: Duration) -> Failure {
        let message =
            format!("ObjectStore {}: {doing}: no answer within {} s", self.store.name, after.as_secs());
        Failure::transient(Reason::StoreUnreachable, message)
    }

    fn key(&self, key: &str) -> Result<Key, Failure> {
        Key::parse(format!("{}{key}", self.store.prefix)).map_err(|error| {
            store_failure(&self.store.name, &format!("using the key {key:?}"), &error.into())
        })
    }
}

/// A request that failed: the store's own error, for callers to whom some errors are answers, and its
/// meaning.
#[derive(Debug)]
pub(crate) struct Unfulfilled {
    pub error: Option<Error>,
    pub failure: Failure,
}

impl From<Unfulfilled> for Failure {
    fn from(unfulfilled: Unfulfilled) -> Self {
        unfulfilled.failure
    }
}

/// Reads a local file's error as a failure; here so that users of the store need no second import.
pub(crate) fn local(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| local_failure(doing, path, &error)
}
