//! Checkpoints: the files of `$MLOP_CHECKPOINT`, kept beyond the pod.
//!
//! `checkpoints/<uid of the run>/<sequence number>/` in the store is laid out as a store of its own with one tree: every
//! byte is addressed by its digest and the manifest comes last. So an upload that another attempt left half done cannot
//! mix with this one, and a checkpoint is complete when it has a manifest. Sequence numbers grow with each upload of the
//! run, independently of the steps in the command's file names.

use crate::local;
use futures::{StreamExt, TryStreamExt};
use mlop_api::{Digest, Reason, progress::Checkpoint, result::Failure, task::Subject};
use mlop_artifact::{
    directory::Directory,
    store::ObjectStoreHandle,
    tree::{self, Facts},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};
use tokio::{fs, sync::watch};

mod local_look;

use local_look::{Look, Snapshot, look};

/// Checkpoints of a run that the store keeps, those that an attempt has failed with aside.
const KEEP: usize = 2;
/// Looks without a change after which the newest checkpoint counts as complete.
const SETTLED_LOOKS: u32 = 2;
/// Objects that are removed at once.
const REMOVALS: usize = 16;
/// Marks a checkpoint that an attempt started from and failed without a newer one.
const SUSPECT: &str = "suspect";

/// Which checkpoints on the disk count as complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    /// Those that no longer change, or have a newer one.
    Settled,
    /// All: the command has ended by itself.
    All,
}

/// The checkpoints of one run, on the disk and in the store.
#[derive(Debug)]
pub struct Checkpoints {
    store: ObjectStoreHandle,
    directory: PathBuf,
    /// The checkpoint that this attempt started from.
    restored: Option<u64>,
    /// The newest one that this object has saved or found on the disk at first.
    newest: Option<Snapshot>,
    saved: watch::Sender<Option<Checkpoint>>,
    next: u64,
    /// How often each checkpoint on the disk was seen without a change.
    looks: BTreeMap<Option<u64>, (Snapshot, u32)>,
    told: BTreeSet<String>,
}

impl Checkpoints {
    /// Those of the run `subject`, whose command writes them into `directory`.
    pub fn new(store: &ObjectStoreHandle, subject: &Subject, directory: PathBuf) -> Self {
        Self {
            store: store.within(&format!("checkpoints/{}", subject.uid)),
            directory,
            restored: None,
            newest: None,
            saved: watch::Sender::new(None),
            next: 1,
            looks: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// The newest one that this object has saved.
    pub fn saved(&self) -> Option<Checkpoint> {
        self.saved.borrow().clone()
    }

    /// The newest one that this object has saved, now and later.
    pub fn follow(&self) -> watch::Receiver<Option<Checkpoint>> {
        self.saved.subscribe()
    }

    /// Takes the present files for stored ones: called before the command starts, when they are those of the fetch.
    ///
    /// # Errors
    /// As store and disk say.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        let stored = self.stored().await?;
        self.next = stored.keys().next_back().map_or(1, |last| last + 1);
        self.newest = self.look()?.snapshots.pop();
        if self.newest.is_some() {
            self.restored = preferred(&stored).first().copied();
        }
        Ok(())
    }

    /// Uploads the newest complete checkpoint, unless that is done, and removes old ones from the store.
    ///
    /// # Errors
    /// As store and disk say; the checkpoints that were saved before are still there.
    pub async fn save(&mut self, complete: Complete) -> Result<(), Failure> {
        let look = self.look()?;
        self.count(&look);
        let newest = look.snapshots.last().map(|snapshot| snapshot.step);
        let is_settled = |snapshot: &&Snapshot| {
            let looks = self.looks.get(&snapshot.step).map_or(0, |(_, looks)| *looks);
            newest != Some(snapshot.step) || looks >= SETTLED_LOOKS
        };
        // A checkpoint that may be half written does not replace the one before it.
        let settled = look.snapshots.iter().rfind(is_settled).cloned();
        if let Some(snapshot) = settled.filter(|snapshot| self.is_new(snapshot)) {
            self.upload(snapshot).await?;
        }
        let last = look.snapshots.last().filter(|_| complete == Complete::All).cloned();
        if let Some(snapshot) = last.filter(|snapshot| self.is_new(snapshot)) {
            self.upload(snapshot).await?;
        }
        Ok(())
    }

    /// Marks the checkpoint that this attempt started from, unless it has saved a newer one: the next attempt starts
    /// from the one before.
    ///
    /// # Errors
    /// As the store says.
    pub async fn suspect(&self) -> Result<(), Failure> {
        let Some(restored) = self.restored.filter(|_| self.saved.borrow().is_none()) else { return Ok(()) };
        tracing::warn!(
            sequence = restored,
            "no progress since this checkpoint; the next attempt starts from another"
        );
        self.store.create(&format!("{restored}/{SUSPECT}"), "").await.map(drop)
    }

    /// Downloads the newest complete checkpoint of the store into the directory and tells its name. One that is damaged
    /// is passed over, and so is one that an attempt has failed with while there is another.
    ///
    /// # Errors
    /// As store and disk say.
    pub async fn restore(&self, unfinished: &Path) -> Result<Option<String>, Failure> {
        let stored = self.stored().await?;
        for sequence in preferred(&stored) {
            for digest in stored.get(&sequence).into_iter().flat_map(|stored| &stored.manifests) {
                match self.download(sequence, digest, unfinished).await {
                    Ok(name) => return Ok(Some(name)),
                    Err(failure) if failure.reason == Reason::InputCorrupt => {
                        tracing::warn!(sequence, "checkpoint passed over: {}", failure.message);
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(None)
    }

    /// Removes all checkpoints of the run from the store.
    ///
    /// # Errors
    /// As the store says.
    pub async fn remove_all(&self) -> Result<(), Failure> {
        let keys = self.stored().await?.into_values().flat_map(|stored| stored.keys).collect();
        self.remove(keys).await
    }

    fn look(&mut self) -> Result<Look, Failure> {
        let look = look(Directory::open(&self.directory)?.contents()?);
        for skipped in &look.ignored {
            if self.told.insert(skipped.path.clone()) {
                tracing::warn!(path = skipped.path, "not part of a checkpoint: it {}", skipped.reason);
            }
        }
        Ok(look)
    }

    fn count(&mut self, look: &Look) {
        let mut before = std::mem::take(&mut self.looks);
        for snapshot in &look.snapshots {
            let looks = match before.remove(&snapshot.step) {
                Some((seen, looks)) if seen.fingerprint == snapshot.fingerprint => looks + 1,
                _ => 0,
            };
            self.looks.insert(snapshot.step, (snapshot.clone(), looks));
        }
    }

    fn is_new(&self, snapshot: &Snapshot) -> bool {
        self.newest.as_ref().is_none_or(|newest| {
            snapshot.step > newest.step
                || snapshot.step == newest.step && snapshot.fingerprint != newest.fingerprint
        })
    }

    async fn upload(&mut self, snapshot: Snapshot) -> Result<(), Failure> {
        let directory = Directory::open(&self.directory)?;
        let sequence = self.next;
        let place = self.store.within(&sequence.to_string());
        let tree = tree::publish(&place, &directory, &snapshot.contents, Facts::default()).await?;
        tracing::info!(checkpoint = snapshot.name, sequence, "checkpoint saved");
        self.next += 1;
        self.saved.send_replace(Some(Checkpoint {
            sequence: Some(sequence),
            step: snapshot.step,
            uri: None,
            digest: Some(tree.digest),
            size: Some(tree.manifest.files.iter().map(|file| file.bytes).sum()),
            at: Some(crate::now().into()),
        }));
        self.newest = Some(snapshot);
        self.prune().await
    }

    async fn download(&self, sequence: u64, digest: &Digest, unfinished: &Path) -> Result<String, Failure> {
        remove(unfinished).await?;
        let place = self.store.within(&sequence.to_string());
        let manifest = tree::download(&place, digest, unfinished).await?;
        let entries: BTreeSet<&str> =
            manifest.files.iter().map(|file| local_look::entry_of(&file.path)).collect();
        for entry in &entries {
            let (from, to) = (unfinished.join(entry), self.directory.join(entry));
            remove(&to).await?;
            fs::rename(&from, &to).await.map_err(|error| local("renaming", &from, &error))?;
        }
        Ok(entries.into_iter().collect::<Vec<_>>().join(", "))
    }

    async fn prune(&self) -> Result<(), Failure> {
        let mut complete = 0;
        for stored in self.stored().await?.into_values().rev() {
            if complete >= KEEP {
                // Manifests first: a checkpoint that is half removed must not look complete.
                let (manifests, others) =
                    stored.keys.into_iter().partition(|key| key.contains("/manifests/"));
                self.remove(manifests).await?;
                self.remove(others).await?;
            }
            complete += usize::from(!stored.manifests.is_empty() && !stored.is_suspect);
        }
        Ok(())
    }

    async fn remove(&self, keys: Vec<String>) -> Result<(), Failure> {
        futures::stream::iter(keys)
            .map(Ok)
            .try_for_each_concurrent(REMOVALS, |key| async move { self.store.delete(&key).await })
            .await
    }

    /// The checkpoints in the store by sequence number.
    async fn stored(&self) -> Result<BTreeMap<u64, Stored>, Failure> {
        let mut all: BTreeMap<u64, Stored> = BTreeMap::new();
        let mut entries = self.store.list("");
        while let Some(entry) = entries.try_next().await? {
            let Some((sequence, rest)) = entry.key.split_once('/') else { continue };
            let Ok(sequence) = sequence.parse() else { continue };
            let stored = all.entry(sequence).or_default();
            let hex = rest.strip_prefix("manifests/").and_then(|name| name.strip_suffix(".json"));
            stored.manifests.extend(hex.and_then(|hex| Digest::try_from(format!("sha256:{hex}")).ok()));
            stored.is_suspect |= rest == SUSPECT;
            stored.keys.push(entry.key);
        }
        Ok(all)
    }
}

/// Sequence numbers in the order in which an attempt should try them.
fn preferred(stored: &BTreeMap<u64, Stored>) -> Vec<u64> {
    let complete = stored.iter().rev().filter(|(_, stored)| !stored.manifests.is_empty());
    let (suspect, trusted): (Vec<_>, Vec<_>) = complete.partition(|(_, stored)| stored.is_suspect);
    trusted.into_iter().chain(suspect).map(|(sequence, _)| *sequence).collect()
}

/// One checkpoint in the store.
#[derive(Debug, Default)]
struct Stored {
    keys: Vec<String>,
    /// Of each complete upload; two attempts at the same time may have used one number.
    manifests: Vec<Digest>,
    is_suspect: bool,
}

/// Removes the file or directory at `path`, if there is one.
async fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path).await {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).await,
        Ok(_) => fs::remove_file(path).await,
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(local("removing", path, &error)),
        _ => Ok(()),
    }
}
