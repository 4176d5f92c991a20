//! Trees: plain folders of any files under `trees/<digest>/`, so that people and tools can open them by uri.

use crate::{
    TRANSFERS,
    folder::Folder,
    manifest::{self, File, Manifest, Published, TreeManifest},
    store::{ObjectStoreHandle, local},
    transfer::{self, Fingerprint},
};
use futures::TryStreamExt;
use mlop_api::{Digest, MEDIA_TREE, Reason, result::Failure, task::Provenance};
use std::path::Path;
use tokio::fs;

/// Uploads the folder `from` as a tree. Empty folders are not part of a tree; links are followed within the folder only.
///
/// # Errors
/// [`Reason::UserError`] for files that cannot be part of a tree; otherwise as the store and the disk say.
pub async fn upload(
    store: &ObjectStoreHandle,
    from: &Path,
    provenance: Provenance,
) -> Result<Published<TreeManifest>, Failure> {
    let folder = Folder::open(from)?;
    let mut files = Vec::new();
    for path in folder.files()? {
        let mut file = fs::File::from_std(folder.file(&path)?);
        let Fingerprint { bytes, sha256 } = transfer::fingerprint(&mut file, &from.join(&path)).await?;
        files.push(File { path, bytes, sha256 });
    }
    let manifest = TreeManifest { media_type: MEDIA_TREE.to_owned(), files, provenance };
    if let Some(flaw) = manifest.flaw() {
        return Err(Failure::terminal(Reason::UserError, format!("the folder {} {flaw}", from.display())));
    }
    let (_, digest) = manifest::canonical(&manifest)?;
    put_files(store, &folder, &manifest.files, &digest).await?;
    manifest::publish(store, manifest).await
}

async fn put_files(
    store: &ObjectStoreHandle,
    folder: &Folder,
    files: &[File],
    digest: &Digest,
) -> Result<(), Failure> {
    futures::stream::iter(files.iter().map(Ok))
        .try_for_each_concurrent(TRANSFERS, |file| async move {
            let mut source = fs::File::from_std(folder.file(&file.path)?);
            let expected = Fingerprint { bytes: file.bytes, sha256: file.sha256.clone() };
            let key = manifest::tree_key(digest, &file.path);
            transfer::upload(store, &key, &mut source, &expected, &folder.path().join(&file.path)).await
        })
        .await
}

/// Downloads the tree `digest` into the folder `into`, which is created. Every byte is verified.
///
/// # Errors
/// [`Reason::InputCorrupt`] when something is missing, altered or unsafe to write.
pub async fn download(
    store: &ObjectStoreHandle,
    digest: &Digest,
    into: &Path,
) -> Result<TreeManifest, Failure> {
    let manifest: TreeManifest = manifest::read(store, digest).await?;
    fs::create_dir_all(into).await.map_err(local("creating", into))?;
    futures::stream::iter(manifest.files.iter().map(Ok))
        .try_for_each_concurrent(TRANSFERS, |file| async move {
            let target = into.join(&file.path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).await.map_err(local("creating", parent))?;
            }
            let expected = Fingerprint { bytes: file.bytes, sha256: file.sha256.clone() };
            transfer::download(store, &manifest::tree_key(digest, &file.path), &target, &expected).await
        })
        .await?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    fn provenance(seed: i64) -> Provenance {
        Provenance { image: "train:1".into(), seed, ..Provenance::default() }
    }

    #[tokio::test]
    async fn a_tree_comes_back_file_by_file() {
        let store = ObjectStoreHandle::in_memory("models");
        let dir = folder(&[("model.bin", "weights"), ("meta/info.json", "{}"), ("empty", "")]);
        let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
        let paths: Vec<_> = tree.manifest.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["empty", "meta/info.json", "model.bin"]);
        let into = tempfile::tempdir().unwrap();
        assert_eq!(download(&store, &tree.digest, into.path()).await.unwrap(), tree.manifest);
        assert_eq!(std::fs::read_to_string(into.path().join("meta/info.json")).unwrap(), "{}");
        assert_eq!(std::fs::read_to_string(into.path().join("empty")).unwrap(), "");
    }

    #[tokio::test]
    async fn provenance_is_part_of_the_identity() {
        let store = ObjectStoreHandle::in_memory("models");
        let dir = folder(&[("model.bin", "weights")]);
        let one = upload(&store, dir.path(), provenance(1)).await.unwrap();
        let same = upload(&store, dir.path(), provenance(1)).await.unwrap();
        let other = upload(&store, dir.path(), provenance(2)).await.unwrap();
        assert_eq!(one.digest, same.digest);
        assert_ne!(one.digest, other.digest);
    }

    #[tokio::test]
    async fn an_interrupted_upload_is_finished_by_its_retry() {
        let dir = folder(&[("a", "1"), ("b", "2")]);
        let whole = upload(&ObjectStoreHandle::in_memory("x"), dir.path(), provenance(1)).await.unwrap();

        let store = ObjectStoreHandle::in_memory("models");
        let written = manifest::tree_key(&whole.digest, "a");
        store.create(&written, "1").await.unwrap();
        assert!(download(&store, &whole.digest, dir.path()).await.is_err(), "no manifest, no tree");
        let tree = upload(&store, dir.path(), provenance(1)).await.unwrap();
        assert_eq!(tree.digest, whole.digest);
        download(&store, &tree.digest, tempfile::tempdir().unwrap().path()).await.unwrap();
    }

    #[tokio::test]
    async fn one_flipped_byte_of_a_file_is_refused() {
        let store = ObjectStoreHandle::in_memory("models");
        let tree = upload(&store, folder(&[("a", "1")]).path(), provenance(1)).await.unwrap();
        let key = manifest::tree_key(&tree.digest, "a");
        store.delete(&key).await.unwrap();
        store.create(&key, "0").await.unwrap();
        let into = tempfile::tempdir().unwrap();
        let failure = download(&store, &tree.digest, into.path()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::InputCorrupt);
        assert!(!into.path().join("a").exists());
    }

    #[tokio::test]
    async fn a_link_out_of_the_folder_fails_the_upload() {
        let store = ObjectStoreHandle::in_memory("models");
        let (dir, outside) = (folder(&[("a", "1")]), folder(&[("secret", "key")]));
        symlink(outside.path().join("secret"), dir.path().join("b")).unwrap();
        let failure = upload(&store, dir.path(), provenance(1)).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::UserError, false));
    }
}
