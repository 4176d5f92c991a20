//! Trees: plain directories of any files under `trees/<digest>/`, so that people and tools can open them by uri.

use crate::{
    directory::{Contents, Directory, Found},
    manifest::{self, File, Manifest, Published, TreeManifest},
    progress::Progress,
    store::{ObjectStoreHandle, local},
    transfer::{self, Fingerprint, Unfinished},
};
use futures::{StreamExt, TryStreamExt};
use mlop_api::{Digest, MEDIA_TREE, Reason, common::Metric, result::Failure, task::Provenance};
use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path};
use tokio::{fs, sync::Semaphore};

/// Files that are hashed at once.
const HASHED: usize = 4;
/// Files in flight at once: small ones wait for the store, not for the line.
const FILES: usize = 64;
/// Mebibytes of memory that uploads may take together.
const MEMORY_MIB: usize = 64;
/// Mebibytes that one file takes at most: two chunks of 8 MiB.
const FILE_MIB: u64 = 16;

/// The facts about a tree in its manifest besides its files.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub provenance: Provenance,
    pub metrics: Vec<Metric>,
}

/// Uploads the directory `from` as a tree. Empty directories are not part of a tree.
///
/// # Errors
/// As [`publish`].
pub async fn upload(
    store: &ObjectStoreHandle,
    from: &Path,
    provenance: Provenance,
) -> Result<Published<TreeManifest>, Failure> {
    let directory = Directory::open(from)?;
    let contents = directory.contents()?;
    publish(store, &directory, &contents, Facts { provenance, ..Facts::default() }).await
}

/// Uploads `contents` of `directory` as a tree.
///
/// # Errors
/// [`Reason::WorkerFailed`], retryable, when a file changes meanwhile; otherwise as the store and the disk say.
pub async fn publish(
    store: &ObjectStoreHandle,
    directory: &Directory,
    contents: &Contents,
    facts: Facts,
) -> Result<Published<TreeManifest>, Failure> {
    let files = futures::stream::iter(&contents.files)
        .map(|found| hash(directory, found))
        .buffered(HASHED)
        .try_collect()
        .await?;
    let manifest = TreeManifest {
        media_type: MEDIA_TREE.to_owned(),
        files,
        provenance: facts.provenance,
        metrics: facts.metrics,
        skipped: contents.skipped.clone(),
    };
    if let Some(flaw) = manifest.flaw() {
        let message = format!("the directory {} {flaw}", directory.path().display());
        return Err(Failure::terminal(Reason::UserError, message));
    }
    let (_, digest) = manifest::canonical(&manifest)?;
    let progress = Progress::new("uploading", manifest.files.iter().map(|file| file.bytes));
    progress.told(put_files(store, directory, &contents.files, &manifest.files, &digest, &progress)).await?;
    manifest::publish(store, manifest).await
}

async fn hash(directory: &Directory, found: &Found) -> Result<File, Failure> {
    let file = directory.file(found)?;
    let shown = directory.path().join(&found.path);
    let Fingerprint { bytes, sha256 } = transfer::fingerprint(file, &shown).await?;
    Ok(File { path: found.path.clone(), bytes, sha256, executable: found.executable })
}

async fn put_files(
    store: &ObjectStoreHandle,
    directory: &Directory,
    found: &[Found],
    files: &[File],
    digest: &Digest,
    progress: &Progress,
) -> Result<(), Failure> {
    let memory = &Semaphore::new(MEMORY_MIB);
    futures::stream::iter(found.iter().zip(files).map(Ok))
        .try_for_each_concurrent(FILES, |(found, file)| async move {
            let mebibytes = u32::try_from((file.bytes >> 20).clamp(1, FILE_MIB)).unwrap_or(1);
            let _held = memory.acquire_many(mebibytes).await;
            let expected = Fingerprint { bytes: file.bytes, sha256: file.sha256.clone() };
            let key = manifest::tree_key(digest, &file.path);
            let shown = directory.path().join(&file.path);
            transfer::upload(store, &key, &|| directory.file(found), &expected, &shown).await?;
            progress.done(file.bytes);
            Ok(())
        })
        .await
}

/// Downloads the tree `digest` into the directory `into`, which is created. Every byte is verified.
///
/// # Errors
/// [`Reason::InputCorrupt`] when something is missing, altered or unsafe to write.
pub async fn download(
    store: &ObjectStoreHandle,
    digest: &Digest,
    into: &Path,
) -> Result<TreeManifest, Failure> {
    download_part(store, digest, into, None).await
}

/// As [`download`], but only the file or directory at `part` of the tree, at its place in the tree. The manifest that
/// is returned lists the downloaded files.
///
/// # Errors
/// As [`download`], and [`Reason::InvalidSpec`] when the tree has no such part.
pub async fn download_part(
    store: &ObjectStoreHandle,
    digest: &Digest,
    into: &Path,
    part: Option<&str>,
) -> Result<TreeManifest, Failure> {
    let mut manifest: TreeManifest = manifest::read(store, digest).await?;
    fs::create_dir_all(into).await.map_err(local("creating", into))?;
    let taken: BTreeSet<String> = manifest.files.iter().map(|file| first(&file.path).to_owned()).collect();
    if let Some(part) = part.map(|part| part.trim_matches('/')).filter(|part| !part.is_empty()) {
        manifest.files.retain(|file| is_within(&file.path, part));
        if manifest.files.is_empty() {
            let there = taken.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("the tree has nothing at {part:?}; at its top it has {there}");
            return Err(Failure::terminal(Reason::InvalidSpec, message));
        }
    }
    let unfinished = &Unfinished::within(into, |name| taken.contains(name)).await?;
    let progress = &Progress::new("downloading", manifest.files.iter().map(|file| file.bytes));
    let all = futures::stream::iter(manifest.files.iter().enumerate().map(Ok)).try_for_each_concurrent(
        FILES,
        |(index, file)| async move {
            get_file(store, digest, file, &unfinished.file(index), into).await?;
            progress.done(file.bytes);
            Ok::<(), Failure>(())
        },
    );
    progress.told(all).await?;
    unfinished.remove().await?;
    Ok(manifest)
}

async fn get_file(
    store: &ObjectStoreHandle,
    digest: &Digest,
    file: &File,
    unfinished: &Path,
    into: &Path,
) -> Result<(), Failure> {
    let target = into.join(&file.path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).await.map_err(local("creating", parent))?;
    }
    let expected = Fingerprint { bytes: file.bytes, sha256: file.sha256.clone() };
    let key = manifest::tree_key(digest, &file.path);
    transfer::download(store, &key, unfinished, &target, &expected).await?;
    if file.executable {
        let mode = std::fs::Permissions::from_mode(0o755);
        fs::set_permissions(&target, mode).await.map_err(local("changing the mode of", &target))?;
    }
    Ok(())
}

fn first(path: &str) -> &str {
    path.split_once('/').map_or(path, |(first, _)| first)
}

fn is_within(path: &str, part: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
