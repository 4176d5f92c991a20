//! The listing: which objects a version is made of, each in one exact state.

use mlop_api::{Digest, Reason, result::Failure};
use mlop_artifact::{manifest::canonical, store::ObjectStoreHandle};
use serde::{Deserialize, Serialize};

/// Most objects of a source.
pub const OBJECTS_MAX: usize = 1_000_000;
/// Largest listing in bytes: that many objects with keys of 300 bytes.
const LISTING_BYTES_MAX: u64 = 512 << 20;

/// The objects of a source, sorted by key. Its canonical JSON is stored, and the digest of that is its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub objects: Vec<Object>,
}

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

impl Listing {
    /// Size of all objects in bytes.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }

    /// Stores the listing and returns its digest.
    ///
    /// # Errors
    /// As the store says.
    pub async fn write(&self, output: &ObjectStoreHandle) -> Result<Digest, Failure> {
        let (bytes, digest) = canonical(self)?;
        output.create(&key(&digest), bytes).await?;
        Ok(digest)
    }

    /// Reads the listing `digest` and verifies it.
    ///
    /// # Errors
    /// [`Reason::InputCorrupt`] when it is missing or altered.
    pub async fn read(output: &ObjectStoreHandle, digest: &Digest) -> Result<Self, Failure> {
        let key = key(digest);
        let bytes = output.get(&key, LISTING_BYTES_MAX).await?;
        let corrupt = |what: &str| {
            let message =
                format!("the listing {} {what}; delete it and scan again", output.store().uri(&key));
            Failure::terminal(Reason::InputCorrupt, message)
        };
        if Digest::of_bytes(&bytes) != *digest {
            return Err(corrupt("has another digest: it was changed after it was written"));
        }
        serde_json::from_slice(&bytes).map_err(|error| corrupt(&format!("is not readable ({error})")))
    }
}

fn key(digest: &Digest) -> String {
    format!("listings/{}.json", digest.hex())
}
