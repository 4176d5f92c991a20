//! One ObjectStore as a worker uses it.

use crate::{
    environment,
    error::{local_failure, store_failure},
    transfer::{self, Fingerprint},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use mlop_api::{Digest, Reason, labels, result::Failure, task::Store};
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    RetryConfig, aws::AmazonS3Builder, memory::InMemory, path::Path as Key,
};
use std::{future::Future, path::Path, sync::Arc, time::Duration};
use tokio::{fs::File, io::AsyncSeekExt, time::timeout};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of one request with its retries, other than reading a body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence while a body is read.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Retries of one request, with delays from 100 ms to 3 s.
const RETRIES: usize = 5;

/// An ObjectStore, opened. Keys given to it are relative to the store's prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ObjectStoreHandle {
    store: Store,
    client: Arc<dyn ObjectStore>,
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

/// Opens `store` with the keys that the operator mounted, or unsigned when it names no Secret. Sends nothing yet.
///
/// # Errors
/// [`Reason::SecretMissing`] when a key file is not there; [`Reason::InvalidSpec`] when the address cannot be used.
pub fn open(store: &Store) -> Result<ObjectStoreHandle, Failure> {
    open_with_keys(store, &environment::stores_dir())
}

/// As [`open`], with the folder of key folders given.
///
/// # Errors
/// As [`open`].
pub fn open_with_keys(store: &Store, stores_dir: &Path) -> Result<ObjectStoreHandle, Failure> {
    let mut builder = AmazonS3Builder::new()
        .with_endpoint(store.endpoint.trim_end_matches('/'))
        .with_region(&store.region)
        .with_bucket_name(&store.bucket)
        .with_virtual_hosted_style_request(false)
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(true)
                .with_connect_timeout(CONNECT_TIMEOUT)
                // Bodies may take hours; silence and single requests are bounded here instead.
                .with_timeout_disabled(),
        )
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 2.0,
            },
            max_retries: RETRIES,
            // For one body this counts from its beginning: it must not forbid resuming a long one.
            retry_timeout: Duration::from_secs(24 * 3_600),
        });
    builder = if store.credentials {
        let folder = stores_dir.join(&store.name);
        builder
            .with_access_key_id(mounted_key(store, &folder, labels::ACCESS_KEY_ID)?)
            .with_secret_access_key(mounted_key(store, &folder, labels::SECRET_ACCESS_KEY)?)
    } else {
        builder.with_skip_signature(true)
    };
    let client = builder.build().map_err(|error| {
        let address = format!("endpoint {:?}, bucket {:?}", store.endpoint, store.bucket);
        Failure::terminal(Reason::InvalidSpec, format!("ObjectStore {}: {address}: {error}", store.name))
    })?;
    Ok(ObjectStoreHandle::new(store.clone(), Arc::new(client)))
}

fn mounted_key(store: &Store, folder: &Path, name: &str) -> Result<String, Failure> {
    match std::fs::read_to_string(folder.join(name)) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(error) => Err(Failure::terminal(
            Reason::SecretMissing,
            format!("ObjectStore {}: its Secret has no usable key {name}: {error}", store.name),
        )),
    }
}

impl ObjectStoreHandle {
    /// A handle over any client whose root is the bucket.
    pub fn new(store: Store, client: Arc<dyn ObjectStore>) -> Self {
        Self { store, client }
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
        };
        Self::new(store, Arc::new(InMemory::new()))
    }

    /// The part of this store below `folder`: a store of its own, with the same layout.
    #[must_use]
    pub fn within(&self, folder: &str) -> Self {
        let mut store = self.store.clone();
        store.prefix = format!("{}{folder}/", store.prefix);
        Self { store, client: Arc::clone(&self.client) }
    }

    /// Where and what this store is.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The whole object at `key`, or `None` when there is none.
    ///
    /// # Errors
    /// [`Reason::InputCorrupt`] when it has more than `bytes_max` bytes; otherwise as the store says.
    pub async fn find(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Failure> {
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
            Failure::terminal(Reason::InputCorrupt, message)
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
    /// [`Reason::SourceChanged`], retryable, when the object has changed or is gone.
    pub async fn read_unchanged(&self, key: &str, etag: &str) -> Result<Body, Failure> {
        let options = GetOptions { if_match: Some(etag.to_owned()), ..GetOptions::default() };
        self.stream(key, options).await.map_err(|failure| match failure.reason {
            Reason::InputCorrupt => Failure::transient(Reason::SourceChanged, failure.message),
            _ => failure,
        })
    }

    async fn stream(&self, key: &str, options: GetOptions) -> Result<Body, Failure> {
        let doing = format!("reading {}", self.store.uri(key));
        let found = self.request(&doing, self.client.get_opts(&self.key(key)?, options)).await?;
        Ok(self.bounded(doing, found.into_stream()))
    }

    /// Writes `content` to `key` unless there is an object already. `false`: there is, and it was left as it is.
    ///
    /// # Errors
    /// As the store says.
    pub async fn create(&self, key: &str, content: impl Into<Bytes>) -> Result<bool, Failure> {
        let doing = format!("writing {}", self.store.uri(key));
        let (key, payload) = (self.key(key)?, PutPayload::from(content.into()));
        let put = self.client.put_opts(&key, payload, PutMode::Create.into());
        match self.request(&doing, put).await {
            Ok(_) => Ok(true),
            Err(Unfulfilled { error: Some(Error::AlreadyExists { .. }), .. }) => Ok(false),
            Err(unfulfilled) => Err(unfulfilled.into()),
        }
    }

    /// Uploads the local file `path` to the key that `place` makes of its SHA-256, and returns that key and what was
    /// uploaded. An object of that size that is already there is left. Memory does not grow with the file.
    ///
    /// # Errors
    /// As the store and the disk say.
    pub async fn upload(
        &self,
        path: &Path,
        place: impl FnOnce(&Digest) -> String,
    ) -> Result<(String, Fingerprint), Failure> {
        let mut file = File::open(path).await.map_err(local("opening", path))?;
        let fingerprint = transfer::fingerprint(&mut file, path).await?;
        file.rewind().await.map_err(local("reading", path))?;
        let key = place(&fingerprint.sha256);
        transfer::upload(self, &key, &mut file, &fingerprint, path).await?;
        Ok((key, fingerprint))
    }

    /// The size in bytes of the object at `key`, or `None` when there is none.
    ///
    /// # Errors
    /// As the store says.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Failure> {
        let doing = format!("looking at {}", self.store.uri(key));
        match self.request(&doing, self.client.head(&self.key(key)?)).await {
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
        match self.request(&doing, self.client.delete(&self.key(key)?)).await {
            Ok(()) | Err(Unfulfilled { error: Some(Error::NotFound { .. }), .. }) => Ok(()),
            Err(unfulfilled) => Err(unfulfilled.into()),
        }
    }

    /// All objects whose key starts with `prefix`, which may end inside a segment. In the store's order.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Entry, Failure>> {
        let full = format!("{}{prefix}", self.store.prefix);
        let doing = format!("listing {}", self.store.uri(prefix));
        // The client lists whole folders only.
        let folder = full.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = match Key::parse(folder) {
            Ok(folder) => folder,
            Err(error) => {
                let failure = store_failure(&self.store.name, &doing, &error.into());
                return futures::stream::once(async { Err(failure) }).boxed();
            }
        };
        let (listing, strip) = (self.client.list(Some(&folder)), self.store.prefix.len());
        self.bounded(doing, listing)
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

    /// The client and the full key, for multipart uploads.
    pub(crate) async fn multipart(
        &self,
        key: &str,
    ) -> Result<Box<dyn object_store::MultipartUpload>, Failure> {
        let doing = format!("writing {}", self.store.uri(key));
        Ok(self.request(&doing, self.client.put_multipart(&self.key(key)?)).await?)
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

/// A request that failed: the store's own error, for callers to whom some errors are answers, and its meaning.
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
