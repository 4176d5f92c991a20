//! The facts of a tree's manifest, read without holding the list of its files: a worker of 64 Mi can read a manifest of
//! 64 MiB.

use super::{MANIFEST_BYTES_MAX, manifest_key};
use crate::{path, store::ObjectStoreHandle};
use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use mlop_api::{Digest, MEDIA_TREE, Reason, common::Metric, result::Failure, task::Provenance};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{self, Read},
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// The file that makes a directory a model of MLflow's.
const MLMODEL: &str = "MLmodel";
/// Chunks of the manifest that wait to be read.
const CHUNKS: usize = 4;

/// A tree's manifest without its files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeSummary {
    /// Always [`MEDIA_TREE`].
    pub media_type: String,
    pub provenance: Provenance,
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Directory of the tree's MLflow model, the one nearest to the root; an empty path is the root itself.
    #[serde(rename = "files", deserialize_with = "model_directory")]
    pub mlflow_model: Option<String>,
}

/// Reads the facts of the tree `digest`, and verifies the manifest.
///
/// # Errors
/// As [`read`](super::read).
pub async fn read_summary(store: &ObjectStoreHandle, digest: &Digest) -> Result<TreeSummary, Failure> {
    store.patience().repeat(|| read_once(store, digest)).await
}

async fn read_once(store: &ObjectStoreHandle, digest: &Digest) -> Result<TreeSummary, Failure> {
    let key = manifest_key(digest);
    let corrupt = |what: String| {
        Failure::terminal(Reason::InputCorrupt, format!("the manifest {} {what}", store.store().uri(&key)))
    };
    match store.size(&key).await? {
        None => {
            // An overloaded store may say so of an object that it has.
            let missing = corrupt("does not exist: it was deleted or never written".to_owned());
            return Err(Failure { retryable: true, ..missing });
        }
        Some(bytes) if bytes > MANIFEST_BYTES_MAX => {
            return Err(corrupt(format!("has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")));
        }
        Some(_) => {}
    }
    let mut body = store.read(&key).await?;
    let (chunks, waiting) = mpsc::channel(CHUNKS);
    let parsing = spawn_blocking(move || {
        let mut reader = Chunks { waiting, chunk: Bytes::new(), hash: Sha256::new() };
        let parsed: Result<TreeSummary, _> = serde_json::from_reader(io::BufReader::new(&mut reader));
        // Bytes behind the document belong to the digest too.
        let _rest = io::copy(&mut reader, &mut io::sink());
        (parsed, Digest::from_hash(&reader.hash.finalize()))
    });
    while let Some(chunk) = body.try_next().await? {
        if chunks.send(chunk).await.is_err() {
            break;
        }
    }
    drop(chunks);
    let (parsed, found) = parsing.await.map_err(|gone| corrupt(format!("cannot be read: {gone}")))?;
    if found != *digest {
        return Err(corrupt(format!("has the digest {found}: it was changed after it was published")));
    }
    let summary = parsed.map_err(|error| corrupt(format!("is not readable: {error}")))?;
    if summary.media_type != MEDIA_TREE {
        return Err(corrupt(format!("has media type {:?}, not {MEDIA_TREE}", summary.media_type)));
    }
    Ok(summary)
}

/// A stream of chunks as a reader, which hashes what passes.
struct Chunks {
    waiting: mpsc::Receiver<Bytes>,
    chunk: Bytes,
    hash: Sha256,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.waiting.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let read = self.chunk.len().min(buffer.len());
        let (Some(to), Some(from)) = (buffer.get_mut(..read), self.chunk.get(..read)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.hash.update(from);
        self.chunk.advance(read);
        Ok(read)
    }
}

/// The directory of the MLmodel file that is nearest to the root.
fn model_directory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Listed {
        path: String,
    }
    struct Files;
    impl<'de> Visitor<'de> for Files {
        type Value = Option<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<Self::Value, A::Error> {
            let mut nearest: Option<(usize, String)> = None;
            while let Some(Listed { path }) = files.next_element()? {
                let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
                if name != MLMODEL || path::check(&path).is_err() {
                    continue;
                }
                let found = (path.matches('/').count(), directory.to_owned());
                if nearest.as_ref().is_none_or(|nearest| found < *nearest) {
                    nearest = Some(found);
                }
            }
            Ok(nearest.map(|(_, directory)| directory))
        }
    }
    deserializer.deserialize_seq(Files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{File, TreeManifest, canonical, publish};

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
            provenance: Provenance { seed: 7, ..Provenance::default() },
            metrics: vec![Metric::new("auc", 0.5)],
            skipped: Vec::new(),
        }
    }

    #[tokio::test]
    async fn summary_has_the_facts_of_the_manifest() {
        let store = ObjectStoreHandle::in_memory("models");
        let rows = [
            (vec!["metrics.json"], None),
            (vec!["MLmodel", "model/MLmodel"], Some("")),
            (vec!["a/old/MLmodel", "model/MLmodel", "model/python_env.yaml"], Some("model")),
        ];
        for (paths, model) in rows {
            let published = publish(&store, tree(&paths)).await.unwrap();
            let summary = read_summary(&store, &published.digest).await.unwrap();
            assert_eq!(summary.provenance, published.manifest.provenance);
            assert_eq!(summary.metrics, published.manifest.metrics);
            assert_eq!(summary.mlflow_model.as_deref(), model, "{paths:?}");
        }
    }

    #[tokio::test]
    async fn changed_or_missing_manifest_is_refused() {
        let store = ObjectStoreHandle::in_memory("models");
        let (mut bytes, digest) = canonical(&tree(&["a"])).unwrap();
        bytes.push(b' ');
        let missing = read_summary(&store, &digest).await.unwrap_err();
        assert!(missing.message.contains("does not exist"), "{}", missing.message);
        store.create(&manifest_key(&digest), bytes).await.unwrap();
        let failure = read_summary(&store, &digest).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::InputCorrupt, false));
        assert!(failure.message.contains("changed after"), "{}", failure.message);
    }
}
