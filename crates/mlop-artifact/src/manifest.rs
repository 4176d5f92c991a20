//! What tables and trees consist of.
//!
//! A manifest is stored as its canonical JSON (RFC 8785); the SHA-256 of those bytes is the artifact's digest. No
//! manifest holds a time, a host or a path of the machine that made it: equal content has equal digests.

use crate::{directory::Skipped, path, store::ObjectStoreHandle};
use mlop_api::{Digest, MEDIA_TABLE, MEDIA_TREE, Reason, common::Metric, result::Failure, task::Provenance};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;

mod summary;

pub use summary::{TreeSummary, read_summary};

/// Largest manifest in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Most parts of a table or files of a tree.
pub const OBJECTS_MAX: usize = 100_000;

/// The parts of a table: Parquet files whose concatenation in this order is the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableManifest {
    /// Always [`MEDIA_TABLE`].
    pub media_type: String,
    /// The columns in order.
    pub schema: Vec<ColumnSchema>,
    pub parts: Vec<Part>,
    /// Rows of all parts.
    pub rows: u64,
    /// Statistics of each column in the order of the schema.
    pub columns: Vec<ColumnStats>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSchema {
    pub name: String,
    /// `string`, `int64`, `float64`, `bool`, `timestamp` (microseconds UTC), `date`, or Arrow's name of another type.
    #[serde(rename = "type")]
    pub kind: String,
    pub nullable: bool,
}

/// A Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Key in the store: `parts/<sha256>.parquet`.
    pub path: String,
    pub bytes: u64,
    #[serde(with = "hex_digest")]
    pub sha256: Digest,
    pub rows: u64,
}

/// Statistics of a column. Values are texts: a JSON number could not hold every one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnStats {
    pub name: String,
    /// Values that are not null.
    pub count: u64,
    pub nulls: u64,
    /// Least value; none when there are no values. Texts may be cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min: Option<String>,
    /// Greatest value; none when there are no values. Texts may be cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<String>,
    /// Mean of a numeric column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mean: Option<String>,
    /// About how many different values there are (within a few per cent).
    pub distinct_estimate: u64,
}

/// The files of a tree, and the provenance of its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeManifest {
    /// Always [`MEDIA_TREE`].
    pub media_type: String,
    /// Sorted by path.
    pub files: Vec<File>,
    pub provenance: Provenance,
    /// Everything that was measured, sorted by name; a status holds the first of these only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub metrics: Vec<Metric>,
    /// Entries of the directory that could not be part of the tree, the first 100 of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub skipped: Vec<Skipped>,
}

/// A file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path below the tree's root.
    pub path: String,
    pub bytes: u64,
    #[serde(with = "hex_digest")]
    pub sha256: Digest,
    /// Whether the file may be executed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub executable: bool,
}

/// A kind of manifest.
pub trait Manifest: Serialize + DeserializeOwned {
    /// The first defect, if there is one: a manifest is input of unknown origin.
    fn flaw(&self) -> Option<String>;
}

impl Manifest for TableManifest {
    fn flaw(&self) -> Option<String> {
        if self.media_type != MEDIA_TABLE {
            return Some(format!("has media type {:?}, not {MEDIA_TABLE}", self.media_type));
        }
        if self.parts.len() > OBJECTS_MAX {
            return Some(format!("lists {} parts, more than {OBJECTS_MAX}", self.parts.len()));
        }
        let misplaced = self.parts.iter().find(|part| part.path != part_key(&part.sha256));
        misplaced.map(|part| format!("has the part {:?} where its sha256 does not belong", part.path))
    }
}

impl Manifest for TreeManifest {
    fn flaw(&self) -> Option<String> {
        if self.media_type != MEDIA_TREE {
            return Some(format!("has media type {:?}, not {MEDIA_TREE}", self.media_type));
        }
        if self.files.len() > OBJECTS_MAX {
            return Some(format!("lists {} files, more than {OBJECTS_MAX}", self.files.len()));
        }
        let mut files = BTreeSet::new();
        for file in &self.files {
            if let Err(failure) = path::safe(&file.path) {
                return Some(format!("is unsafe: {}", failure.message));
            }
            if !files.insert(file.path.as_str()) {
                return Some(format!("lists {:?} twice", file.path));
            }
        }
        // A file where another one needs a directory cannot be laid out on a disk.
        files.iter().find_map(|path| {
            let parents = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
            parents
                .into_iter()
                .find(|parent| files.contains(parent))
                .map(|f| format!("has {f:?} as file and directory"))
        })
    }
}

/// A manifest that is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Published<M> {
    /// Identity of the artifact.
    pub digest: Digest,
    pub manifest: M,
}

/// Key of the part with this content.
pub fn part_key(sha256: &Digest) -> String {
    format!("parts/{}.parquet", sha256.hex())
}

/// Key of the manifest of the artifact `digest`.
pub fn manifest_key(digest: &Digest) -> String {
    format!("manifests/{}.json", digest.hex())
}

/// Key of a file of the tree `digest`; with an empty path, of its root.
pub fn tree_key(digest: &Digest, path: &str) -> String {
    format!("trees/{}/{path}", digest.hex())
}

/// Identity of a table's columns.
///
/// # Errors
/// As [`canonical`].
pub fn schema_digest(schema: &[ColumnSchema]) -> Result<Digest, Failure> {
    Ok(canonical(&schema)?.1)
}

/// Canonical bytes of a document and their digest.
///
/// # Errors
/// [`Reason::WorkerFailed`] when the document has no JSON form.
pub fn canonical(document: &impl Serialize) -> Result<(Vec<u8>, Digest), Failure> {
    let bytes = serde_json_canonicalizer::to_vec(document).map_err(|error| {
        Failure::terminal(Reason::WorkerFailed, format!("a document has no JSON form: {error}"))
    })?;
    let digest = Digest::of_bytes(&bytes);
    Ok((bytes, digest))
}

/// Writes a manifest whose objects are all in the store.
///
/// # Errors
/// [`Reason::WorkerFailed`] when the manifest is one that no reader would accept; otherwise as the store says.
pub async fn publish<M: Manifest>(store: &ObjectStoreHandle, manifest: M) -> Result<Published<M>, Failure> {
    let (bytes, digest) = canonical(&manifest)?;
    if let Some(flaw) = manifest.flaw() {
        return Err(Failure::terminal(Reason::WorkerFailed, format!("the manifest {flaw}")));
    }
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        let message = format!("the manifest has {} bytes, more than {MANIFEST_BYTES_MAX}", bytes.len());
        return Err(Failure::terminal(Reason::WorkerFailed, message));
    }
    store.create(&manifest_key(&digest), bytes).await?;
    Ok(Published { digest, manifest })
}

/// Reads the manifest of the artifact `digest` and verifies it.
///
/// # Errors
/// [`Reason::InputCorrupt`] when it is missing, when its bytes have another digest or when it is unsafe to use.
pub async fn read<M: Manifest>(store: &ObjectStoreHandle, digest: &Digest) -> Result<M, Failure> {
    let key = manifest_key(digest);
    let corrupt = |what: String| {
        Failure::terminal(Reason::InputCorrupt, format!("the manifest {} {what}", store.store().uri(&key)))
    };
    let bytes = store.get(&key, MANIFEST_BYTES_MAX).await?;
    let found = Digest::of_bytes(&bytes);
    if found != *digest {
        return Err(corrupt(format!("has the digest {found}: it was changed after it was published")));
    }
    let manifest: M =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(format!("is not readable: {error}")))?;
    match manifest.flaw() {
        Some(flaw) => Err(corrupt(flaw)),
        None => Ok(manifest),
    }
}

/// Bytes of the parts of the table `digest`.
///
/// # Errors
/// As [`read`].
pub async fn table_bytes(store: &ObjectStoreHandle, digest: &Digest) -> Result<u64, Failure> {
    let manifest: TableManifest = read(store, digest).await?;
    Ok(manifest.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes)))
}

/// Bytes of the files of the tree `digest`.
///
/// # Errors
/// As [`read`].
pub async fn tree_bytes(store: &ObjectStoreHandle, digest: &Digest) -> Result<u64, Failure> {
    let manifest: TreeManifest = read(store, digest).await?;
    Ok(manifest.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes)))
}

/// A SHA-256 as its bare 64 hexadecimal digits, for fields that are called `sha256`.
mod hex_digest {
    use mlop_api::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(digest.hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let hex = String::deserialize(deserializer)?;
        Digest::try_from(format!("sha256:{hex}")).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> TreeManifest {
        let file = |path: &&str| File {
            path: (*path).to_owned(),
            bytes: 1,
            sha256: Digest::of_bytes(b"x"),
            executable: false,
        };
        TreeManifest {
            media_type: MEDIA_TREE.to_owned(),
            files: paths.iter().map(file).collect(),
            provenance: Provenance::default(),
            metrics: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn table(path: &str) -> TableManifest {
        TableManifest {
            media_type: MEDIA_TABLE.to_owned(),
            schema: vec![ColumnSchema { name: "a".into(), kind: "int64".into(), nullable: false }],
            parts: vec![Part { path: path.to_owned(), bytes: 1, sha256: Digest::of_bytes(b"x"), rows: 1 }],
            rows: 1,
            columns: vec![ColumnStats {
                name: "a".into(),
                count: 1,
                distinct_estimate: 1,
                ..Default::default()
            }],
        }
    }

    #[tokio::test]
    async fn manifest_reads_back_under_its_digest() {
        let store = ObjectStoreHandle::in_memory("data");
        let written = publish(&store, tree(&["a", "b/c"])).await.unwrap();
        assert_eq!(read::<TreeManifest>(&store, &written.digest).await.unwrap(), written.manifest);
        let again = publish(&store, written.manifest.clone()).await.unwrap();
        assert_eq!(again, written);
        let written = publish(&store, table(&part_key(&Digest::of_bytes(b"x")))).await.unwrap();
        assert_eq!(read::<TableManifest>(&store, &written.digest).await.unwrap(), written.manifest);
    }

    #[test]
    fn sha256_is_written_as_bare_digits() {
        let json = serde_json::to_value(tree(&["a"])).unwrap();
        assert_eq!(json["files"][0]["sha256"], Digest::of_bytes(b"x").hex());
    }

    #[tokio::test]
    async fn one_flipped_bit_is_refused() {
        let store = ObjectStoreHandle::in_memory("data");
        let (mut bytes, digest) = canonical(&tree(&["a"])).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        store.create(&manifest_key(&digest), bytes).await.unwrap();
        let failure = read::<TreeManifest>(&store, &digest).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::InputCorrupt, false));
    }

    #[track_caller]
    fn refused(manifest: &impl Manifest, what: &str) {
        let flaw = manifest.flaw().unwrap();
        assert!(flaw.contains(what), "{flaw}");
    }

    #[test]
    fn unsafe_manifests_are_refused() {
        refused(&tree(&["../x"]), "'..'");
        refused(&tree(&["/x"]), "absolute");
        refused(&tree(&["x", "x"]), "twice");
        refused(&tree(&["a", "a-b", "a/b"]), "as file and directory");
        refused(&TreeManifest { media_type: MEDIA_TABLE.into(), ..tree(&["x"]) }, "media type");
        refused(&table("../../etc/passwd"), "does not belong");
        let many: Vec<String> = (0..=OBJECTS_MAX).map(|i| i.to_string()).collect();
        refused(&tree(&many.iter().map(String::as_str).collect::<Vec<_>>()), "more than");
    }

    #[tokio::test]
    async fn unsafe_manifest_is_refused_although_its_digest_is_right() {
        let store = ObjectStoreHandle::in_memory("data");
        let (bytes, digest) = canonical(&tree(&["../../etc/passwd"])).unwrap();
        store.create(&manifest_key(&digest), bytes).await.unwrap();
        assert_eq!(read::<TreeManifest>(&store, &digest).await.unwrap_err().reason, Reason::InputCorrupt);
    }

    #[tokio::test]
    async fn missing_manifest_is_corrupt_input() {
        let store = ObjectStoreHandle::in_memory("data");
        let failure = read::<TableManifest>(&store, &Digest::of_bytes(b"none")).await.unwrap_err();
        assert_eq!(failure.reason, Reason::InputCorrupt);
        assert!(failure.message.contains("does not exist"), "{}", failure.message);
    }
}
