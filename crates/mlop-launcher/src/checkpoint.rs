//! Checkpoints: numbered folders that outlive the pod.
//!
//! `checkpoints/<run>/<number>/` in the store is laid out as a store of its own with one tree: every byte is addressed
//! by its digest and the manifest comes last. So an upload that another attempt left half done cannot mix with this
//! one, and a checkpoint is complete when it has a manifest.

use crate::local;
use futures::TryStreamExt;
use mlop_api::{
    Digest, Reason,
    result::Failure,
    task::{Provenance, Subject},
};
use mlop_artifact::{store::ObjectStoreHandle, tree};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use tokio::fs;

/// Checkpoints of a run that the store keeps.
const KEEP: usize = 2;

/// The checkpoints of one run, on the disk and in the store.
#[derive(Debug)]
pub struct Checkpoints {
    store: ObjectStoreHandle,
    folder: PathBuf,
    saved: Option<u64>,
}

impl Checkpoints {
    /// Those of the run `subject`, which writes them into `folder`.
    pub fn new(store: &ObjectStoreHandle, subject: &Subject, folder: PathBuf) -> Self {
        Self { store: store.within(&format!("checkpoints/{}", subject.name)), folder, saved: None }
    }

    /// The newest one that this object has saved.
    pub fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Uploads the newest complete checkpoint, unless that is done, and removes old ones from the store.
    ///
    /// # Errors
    /// As store and disk say; the checkpoints that were saved before are still there.
    pub async fn save(&mut self) -> Result<(), Failure> {
        let newest = newest(&self.folder).map_err(|error| local("listing", &self.folder, &error))?;
        let Some(number) = newest.filter(|number| self.saved.is_none_or(|saved| saved < *number)) else {
            return Ok(());
        };
        let from = self.folder.join(number.to_string());
        tree::upload(&self.store.within(&number.to_string()), &from, Provenance::default()).await?;
        tracing::info!(number, "checkpoint saved");
        self.saved = Some(number);
        self.prune().await
    }

    /// Downloads the newest complete checkpoint of the store into the folder; one that is damaged is passed over.
    ///
    /// # Errors
    /// As store and disk say.
    pub async fn restore(&self) -> Result<Option<u64>, Failure> {
        for (number, stored) in self.stored().await?.into_iter().rev() {
            for digest in stored.manifests {
                match self.download(number, &digest).await {
                    Ok(()) => return Ok(Some(number)),
                    Err(failure) if failure.reason == Reason::InputCorrupt => {
                        tracing::warn!(number, "{}", failure.message);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(None)
    }

    async fn download(&self, number: u64, digest: &Digest) -> Result<(), Failure> {
        // Not a number: not complete.
        let partial = self.folder.join(format!(".restoring-{number}"));
        remove(&partial).await?;
        tree::download(&self.store.within(&number.to_string()), digest, &partial).await?;
        let complete = self.folder.join(number.to_string());
        remove(&complete).await?;
        fs::rename(&partial, &complete).await.map_err(|error| local("renaming", &partial, &error))
    }

    async fn prune(&self) -> Result<(), Failure> {
        let mut complete = 0;
        for stored in self.stored().await?.into_values().rev() {
            if complete >= KEEP {
                // Manifests first: what is half removed must not look complete.
                let (manifests, others): (Vec<_>, Vec<_>) =
                    stored.keys.into_iter().partition(|key| key.contains("/manifests/"));
                for key in manifests.iter().chain(&others) {
                    self.store.delete(key).await?;
                }
            }
            complete += usize::from(!stored.manifests.is_empty());
        }
        Ok(())
    }

    /// What the store has, by number.
    async fn stored(&self) -> Result<BTreeMap<u64, Stored>, Failure> {
        let mut all: BTreeMap<u64, Stored> = BTreeMap::new();
        let mut entries = self.store.list("");
        while let Some(entry) = entries.try_next().await? {
            let Some((number, rest)) = entry.key.split_once('/') else { continue };
            let Some(number) = number_of(number) else { continue };
            let stored = all.entry(number).or_default();
            let hex = rest.strip_prefix("manifests/").and_then(|name| name.strip_suffix(".json"));
            stored.manifests.extend(hex.and_then(|hex| Digest::try_from(format!("sha256:{hex}")).ok()));
            stored.keys.push(entry.key);
        }
        Ok(all)
    }
}

/// One checkpoint in the store.
#[derive(Debug, Default)]
struct Stored {
    keys: Vec<String>,
    /// Of each complete upload; attempts may have written the same number differently.
    manifests: Vec<Digest>,
}

/// The highest number among the folders in `folder`.
fn newest(folder: &Path) -> io::Result<Option<u64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Not through links: user code could lead this process, which has keys, anywhere.
        if entry.file_type()?.is_dir() {
            newest = newest.max(entry.file_name().to_str().and_then(number_of));
        }
    }
    Ok(newest)
}

/// The number that `name` is, written as numbers are: without sign and leading zeros.
fn number_of(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
}

async fn remove(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(local("removing", folder, &error)),
        _ => Ok(()),
    }
}
