//! The listing: which objects a version is made of, each in one exact state.
//!
//! A listing may have a million objects, so it is never held in memory as a whole: it is written to a file, uploaded and
//! downloaded as a file, and read object by object.

use futures::TryStreamExt;
use mlop_api::{Digest, Reason, result::Failure};
use mlop_artifact::{manifest::canonical, store::ObjectStoreHandle};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
};
use tempfile::NamedTempFile;

/// Most objects of a source.
pub const OBJECTS_MAX: u64 = 1_000_000;
/// Largest listing in bytes: that many objects with keys of 300 bytes.
const LISTING_BYTES_MAX: u64 = 512 << 20;

/// An object in one state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// Key, relative to the source store's prefix.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// The store's mark of this state. The object is read only while it has this mark.
    pub etag: String,
    /// Version id, if listings of the store have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
}

/// The objects of a source, sorted by key, on the scratch disk. The digest of its canonical JSON,
/// `{"objects":[...]}`, is its identity.
#[derive(Debug)]
pub struct Listing {
    file: NamedTempFile,
}

/// A listing in the making.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<NamedTempFile>,
    last: Option<Object>,
    is_sorted: bool,
    /// Number of objects.
    pub objects: u64,
    /// Size of all objects in bytes.
    pub bytes: u64,
}

impl Writer {
    /// An empty listing.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`] when the scratch disk cannot be written.
    pub fn new() -> Result<Self, Failure> {
        let mut file = BufWriter::new(scratch_file()?);
        file.write_all(b"{\"objects\":[").map_err(|error| unwritable(&error))?;
        Ok(Self { file, last: None, is_sorted: true, objects: 0, bytes: 0 })
    }

    /// Adds `object`.
    ///
    /// # Errors
    /// [`Reason::WorkerFailed`] when the scratch disk cannot be written.
    pub fn add(&mut self, object: Object) -> Result<(), Failure> {
        let (json, _) = canonical(&object)?;
        let comma: &[u8] = if self.objects == 0 { b"" } else { b"," };
        self.file.write_all(comma).and_then(|()| self.file.write_all(&json)).map_err(|e| unwritable(&e))?;
        self.objects += 1;
        self.bytes += object.size;
        self.is_sorted &= self.last.as_ref().is_none_or(|last| *last <= object);
        self.last = Some(object);
        Ok(())
    }

    /// Stores the listing and returns its digest.
    ///
    /// # Errors
    /// As the store and the scratch disk say.
    pub async fn store(self, output: &ObjectStoreHandle) -> Result<Digest, Failure> {
        if !self.is_sorted {
            return Box::pin(self.sorted()?.store(output)).await;
        }
        let mut file = self.file;
        file.write_all(b"]}").and_then(|()| file.flush()).map_err(|error| unwritable(&error))?;
        let (_, fingerprint) = output.upload(file.get_ref().path(), key).await?;
        Ok(fingerprint.sha256)
    }

    /// The same listing in order. Stores list in the order of their keys; one that does not costs memory.
    fn sorted(mut self) -> Result<Self, Failure> {
        self.file.write_all(b"]}").and_then(|()| self.file.flush()).map_err(|error| unwritable(&error))?;
        let mut objects = Vec::new();
        let add = |object| {
            objects.push(object);
            Ok(())
        };
        for_each(self.file.get_ref().path(), add).map_err(|error| match error {
            Stopped::Unreadable(error) => unwritable(&error),
            Stopped::Failed(failure) => failure,
        })?;
        objects.sort_unstable();
        let mut sorted = Self::new()?;
        objects.into_iter().try_for_each(|object| sorted.add(object))?;
        Ok(sorted)
    }
}

impl Listing {
    /// Downloads the listing `digest` and verifies it.
    ///
    /// # Errors
    /// [`Reason::InputCorrupt`] when it is missing or altered.
    pub async fn read(output: &ObjectStoreHandle, digest: &Digest) -> Result<Self, Failure> {
        let key = key(digest);
        let file = output.patience().repeat(|| download(output, &key)).await?;
        let (file, sha256) = file.ok_or_else(|| corrupt(output, &key, "is too large"))?;
        if sha256 != *digest {
            let what = "has another digest: it was changed after it was written";
            return Err(corrupt(output, &key, what));
        }
        Ok(Self { file })
    }

    /// Calls `act` with each object in order, and returns their number.
    ///
    /// # Errors
    /// That of `act`, and [`Reason::InputCorrupt`] when the listing is not readable.
    pub fn for_each(&self, act: impl FnMut(Object) -> Result<(), Failure>) -> Result<u64, Failure> {
        for_each(self.file.path(), act).map_err(|stopped| match stopped {
            Stopped::Failed(failure) => failure,
            Stopped::Unreadable(error) => Failure::terminal(
                Reason::InputCorrupt,
                format!("the listing is not readable ({error}); delete it and scan again"),
            ),
        })
    }
}

/// The object at `key` in a file, and its SHA-256; none if it is larger than a listing may be.
async fn download(output: &ObjectStoreHandle, key: &str) -> Result<Option<(NamedTempFile, Digest)>, Failure> {
    let mut file = scratch_file()?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut body = output.read(key).await?;
    while let Some(chunk) = body.try_next().await? {
        bytes += chunk.len() as u64;
        if bytes > LISTING_BYTES_MAX {
            return Ok(None);
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(|error| unwritable(&error))?;
    }
    Ok(Some((file, Digest::from_hash(&hash.finalize()))))
}

fn corrupt(output: &ObjectStoreHandle, key: &str, what: &str) -> Failure {
    let message = format!("the listing {} {what}; delete it and scan again", output.store().uri(key));
    Failure::terminal(Reason::InputCorrupt, message)
}

fn scratch_file() -> Result<NamedTempFile, Failure> {
    NamedTempFile::new().map_err(|error| unwritable(&error))
}

fn unwritable(error: &io::Error) -> Failure {
    Failure::transient(Reason::WorkerFailed, format!("writing the listing to the scratch disk: {error}"))
}

fn key(digest: &Digest) -> String {
    format!("listings/{}.json", digest.hex())
}

/// The reason that reading a listing ended early.
enum Stopped {
    Unreadable(io::Error),
    Failed(Failure),
}

/// Calls `act` with each object of the listing at `path`, and returns their number.
fn for_each(path: &Path, act: impl FnMut(Object) -> Result<(), Failure>) -> Result<u64, Stopped> {
    let file = File::open(path).map_err(Stopped::Unreadable)?;
    let mut each = Each { act, objects: 0, failure: None };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(file));
    let read = json.deserialize_map(Document(&mut each)).and_then(|()| json.end());
    match (each.failure, read) {
        (Some(failure), _) => Err(Stopped::Failed(failure)),
        (None, Err(error)) => Err(Stopped::Unreadable(error.into())),
        (None, Ok(())) => Ok(each.objects),
    }
}

/// The action on each object.
struct Each<F> {
    act: F,
    objects: u64,
    failure: Option<Failure>,
}

/// Reads `{"objects": [...]}`.
struct Document<'a, F>(&'a mut Each<F>);

impl<'de, F: FnMut(Object) -> Result<(), Failure>> Visitor<'de> for Document<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<String>()? {
            if field == "objects" {
                map.next_value_seed(Objects(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads `[...]`.
struct Objects<'a, F>(&'a mut Each<F>);

impl<'de, F: FnMut(Object) -> Result<(), Failure>> DeserializeSeed<'de> for Objects<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Object) -> Result<(), Failure>> Visitor<'de> for Objects<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(object) = list.next_element::<Object>()? {
            self.0.objects += 1;
            if let Err(failure) = (self.0.act)(object) {
                self.0.failure = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Object {
        Object { key: key.to_owned(), size: 3, etag: "\"e\"".to_owned(), version: None }
    }

    async fn stored(keys: &[&str], output: &ObjectStoreHandle) -> Digest {
        let mut writer = Writer::new().unwrap();
        keys.iter().for_each(|key| writer.add(object(key)).unwrap());
        assert_eq!((writer.objects, writer.bytes), (keys.len() as u64, 3 * keys.len() as u64));
        writer.store(output).await.unwrap()
    }

    async fn read(digest: &Digest, output: &ObjectStoreHandle) -> Vec<Object> {
        let mut objects = Vec::new();
        let listing = Listing::read(output, digest).await.unwrap();
        let add = |object| {
            objects.push(object);
            Ok(())
        };
        listing.for_each(add).unwrap();
        objects
    }

    #[tokio::test]
    async fn listing_is_the_canonical_json_of_its_objects() {
        let output = ObjectStoreHandle::in_memory("data");
        let keys = ["a", "b/ø\"", "c"];
        let digest = stored(&keys, &output).await;
        let objects = keys.map(object);
        let (_, whole) = canonical(&serde_json::json!({"objects": objects})).unwrap();
        assert_eq!(digest, whole);
        assert_eq!(read(&digest, &output).await, objects);
    }

    #[tokio::test]
    async fn listing_is_sorted_when_the_store_does_not_sort() {
        let output = ObjectStoreHandle::in_memory("data");
        let sorted = stored(&["a", "b", "c"], &output).await;
        assert_eq!(stored(&["c", "a", "b"], &output).await, sorted);
        assert_eq!(read(&sorted, &output).await, ["a", "b", "c"].map(object));
    }

    #[tokio::test]
    async fn reading_ends_at_the_first_failure() {
        let output = ObjectStoreHandle::in_memory("data");
        let digest = stored(&["a", "b"], &output).await;
        let listing = Listing::read(&output, &digest).await.unwrap();
        let mut seen = 0;
        let stop = |_| {
            seen += 1;
            Err(Failure::transient(Reason::SourceChanged, "gone"))
        };
        assert_eq!(listing.for_each(stop).unwrap_err().reason, Reason::SourceChanged);
        assert_eq!(seen, 1);
    }

    #[tokio::test]
    async fn altered_listing_is_refused() {
        let output = ObjectStoreHandle::in_memory("data");
        let digest = stored(&["a"], &output).await;
        output.delete(&key(&digest)).await.unwrap();
        assert_eq!(Listing::read(&output, &digest).await.unwrap_err().reason, Reason::InputCorrupt);
        output.create(&key(&digest), "{\"objects\":[]}").await.unwrap();
        let failure = Listing::read(&output, &digest).await.unwrap_err();
        assert!(failure.message.contains("has another digest"), "{}", failure.message);
    }
}
