//! A CSV file in a bucket, with the address and the keys of the environment variables that the AWS tools read.

use super::{Table, guess, inspect};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey as Key},
    path::Path,
};
use std::{
    io::{self, Read},
    sync::mpsc,
    time::Duration,
};

/// Region of requests if no variable has one: the default of an ObjectStore.
pub(super) const REGION: &str = "us-east-1";
/// How long a request is repeated while the store does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Chunks of a body that wait to be parsed.
const CHUNKS: usize = 4;

/// An object, or all below a prefix that ends with a slash: `s3://bucket/key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    bucket: String,
    key: String,
}

/// Where the objects of a Dataset are, in the words of an ObjectStore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub prefix: String,
}

impl Location {
    /// Reads an address; none if `text` is a file.
    ///
    /// # Errors
    /// It names no bucket.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some(rest) = text.strip_prefix("s3://") else { return Ok(None) };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!bucket.is_empty(), "{text} names no bucket: write s3://BUCKET/KEY, or s3://BUCKET/PREFIX/");
        Ok(Some(Self { bucket: bucket.to_owned(), key: key.to_owned() }))
    }

    fn is_prefix(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// What the keys of the Dataset start with.
    fn prefix(&self) -> &str {
        self.key.rfind('/').and_then(|end| self.key.get(..=end)).unwrap_or_default()
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

/// Looks at all rows of a CSV file in a bucket: of the newest one if `location` is a prefix.
///
/// # Errors
/// A variable is missing, the bucket cannot be read, there is no CSV file, or it has no rows.
pub async fn inspect_object(location: &Location) -> Result<Table> {
    let builder = AmazonS3Builder::from_env();
    let value = |key: Key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let is_unsigned = value(Key::SkipSignature).is_some_and(|it| it == "true");
    ensure!(
        is_unsigned || (value(Key::AccessKeyId).is_some() && value(Key::SecretAccessKey).is_some()),
        "there are no keys for {}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public \
         bucket",
        location.address(&location.key)
    );
    let region = value(Key::Region).unwrap_or_else(|| REGION.to_owned());
    let endpoint = value(Key::S3Endpoint).or_else(|| value(Key::Endpoint));
    let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let retry = RetryConfig { retry_timeout: PATIENCE, max_retries: 3, ..RetryConfig::default() };
    let store = builder
        .with_endpoint(&endpoint)
        .with_region(&region)
        .with_bucket_name(&location.bucket)
        .with_allow_http(true)
        .with_retry(retry)
        .build()
        .with_context(|| format!("cannot use {endpoint}; AWS_ENDPOINT_URL has the address of the store"))?;
    let (key, table) = read(&store, location).await.map_err(|error| anyhow!("{error:#}, at {endpoint}"))?;
    let prefix = location.prefix().to_owned();
    // Files below a prefix are months of something; the prefix says of what.
    let name = if location.is_prefix() && !prefix.is_empty() {
        guess::object_name(prefix.trim_end_matches('/'))
    } else {
        table.name
    };
    let source = Source { endpoint, region, bucket: location.bucket.clone(), prefix };
    Ok(Table { source: Some(source), file: location.address(&key), name, ..table })
}

/// The key that was read, and its rows.
async fn read(store: &dyn ObjectStore, location: &Location) -> Result<(String, Table)> {
    let key = if location.is_prefix() { newest(store, location).await? } else { location.key.clone() };
    let address = location.address(&key);
    let path = Path::parse(&key).with_context(|| format!("{address} cannot be read"))?;
    let found = store.get(&path).await.map_err(|error| match error {
        Error::NotFound { .. } => anyhow!("there is no {address}"),
        error => anyhow!(error).context(format!("cannot read {address}")),
    })?;
    Ok((key, rows(&address, found).await?))
}

/// The CSV file below a prefix that was written last.
async fn newest(store: &dyn ObjectStore, location: &Location) -> Result<String> {
    let address = location.address(&location.key);
    let prefix = Path::parse(location.key.trim_end_matches('/'));
    let prefix = prefix.with_context(|| format!("{address} cannot be listed"))?;
    let is_csv = |object: &ObjectMeta| {
        let name = object.location.as_ref();
        object.size > 0 && (name.ends_with(".csv") || name.ends_with(".csv.gz"))
    };
    let listed = store.list(Some(&prefix)).try_fold(None, |newest: Option<ObjectMeta>, object| async {
        let is_newer = newest.as_ref().is_none_or(|newest| object.last_modified > newest.last_modified);
        Ok(if is_csv(&object) && is_newer { Some(object) } else { newest })
    });
    let newest = listed.await.with_context(|| format!("cannot list {address}"))?;
    match newest {
        Some(object) => Ok(object.location.to_string()),
        None => bail!("there is no CSV file below {address}: its name ends with .csv or .csv.gz"),
    }
}

/// Parses a body while it comes.
async fn rows(address: &str, found: GetResult) -> Result<Table> {
    let (send, receive) = mpsc::sync_channel(CHUNKS);
    let name = address.to_owned();
    let parsed = tokio::task::spawn_blocking(move || inspect(&name, Chunks { receive, chunk: Bytes::new() }));
    let mut body = found.into_stream();
    while let Some(chunk) = body.next().await {
        let is_broken = chunk.is_err();
        // The parser has ended with an error of its own.
        if send.send(chunk.map_err(io::Error::other)).is_err() || is_broken {
            break;
        }
    }
    drop(send);
    parsed.await.context("the parser has ended")?
}

/// A body as the parser reads it.
struct Chunks {
    receive: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receive.recv() {
                Ok(chunk) => self.chunk = chunk?,
                Err(_) => return Ok(0),
            }
        }
        (&mut self.chunk).reader().read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn location(text: &str) -> Location {
        Location::parse(text).unwrap().unwrap()
    }

    #[test]
    fn address_has_a_bucket_and_a_key() {
        let of = |bucket: &str, key: &str| Location { bucket: bucket.into(), key: key.into() };
        for (text, want, prefix) in [
            ("s3://raw/flights/2026-06.csv", of("raw", "flights/2026-06.csv"), "flights/"),
            ("s3://raw/flights/", of("raw", "flights/"), "flights/"),
            ("s3://raw/a.csv", of("raw", "a.csv"), ""),
            ("s3://raw/", of("raw", ""), ""),
            ("s3://raw", of("raw", ""), ""),
        ] {
            let found = location(text);
            assert_eq!(found, want, "{text}");
            assert_eq!(found.prefix(), prefix, "{text}");
        }
        assert_eq!(Location::parse("rows.csv").unwrap(), None);
        assert!(Location::parse("s3:///a.csv").is_err());
    }

    #[tokio::test]
    async fn newest_file_below_a_prefix_is_read() {
        let store = InMemory::new();
        let put = async |key: &str, text: &'static str| {
            store.put(&Path::from(key), text.into()).await.unwrap();
        };
        put("sales/old.csv", "x,y\n1,2\n").await;
        put("sales/new.csv", "x,y\n1,2\n3,4\n").await;
        put("sales/empty.csv", "").await;
        put("sales/notes.txt", "x").await;
        put("other/newer.csv", "x\n1\n").await;
        for (text, want, count) in [
            ("s3://raw/sales/", "sales/new.csv", 2),
            ("s3://raw/sales/old.csv", "sales/old.csv", 1),
            ("s3://raw", "other/newer.csv", 1),
        ] {
            let (key, table) = read(&store, &location(text)).await.unwrap();
            assert_eq!((key.as_str(), table.rows), (want, count), "{text}");
        }
        for (text, want) in [
            ("s3://raw/sales/gone.csv", "there is no s3://raw/sales/gone.csv"),
            ("s3://raw/nothing/", "there is no CSV file below s3://raw/nothing/"),
            ("s3://raw/sales/empty.csv", "s3://raw/sales/empty.csv is empty"),
        ] {
            let error = format!("{:#}", read(&store, &location(text)).await.unwrap_err());
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }
}
