//! Tables: Parquet parts under the SHA-256 of their bytes, and the manifest over them.
//!
//! A writer hands over its files one by one with [`put_part`], so that it never needs room for the whole table, and
//! ends with [`publish`](crate::manifest::publish).

use crate::{
    manifest::{self, ColumnSchema, ColumnStats, Part, TableManifest},
    store::{ObjectStoreHandle, local},
    transfer::{self, Fingerprint, Unfinished},
};
use futures::TryStreamExt;
use mlop_api::{Digest, MEDIA_TABLE, result::Failure};
use std::path::{Path, PathBuf};
use tokio::fs;

/// Parts that are downloaded at once.
const PARTS: usize = 4;

/// Uploads the finished Parquet file at `local`, which has `rows` rows.
///
/// # Errors
/// As the store and the disk say.
pub async fn put_part(store: &ObjectStoreHandle, path: &Path, rows: u64) -> Result<Part, Failure> {
    let (path, Fingerprint { bytes, sha256 }) = store.upload(path, manifest::part_key).await?;
    Ok(Part { path, bytes, sha256, rows })
}

/// The manifest over parts that are uploaded; [`publish`](crate::manifest::publish) it.
pub fn manifest(schema: Vec<ColumnSchema>, parts: Vec<Part>, columns: Vec<ColumnStats>) -> TableManifest {
    let rows = parts.iter().map(|part| part.rows).sum();
    TableManifest { media_type: MEDIA_TABLE.to_owned(), schema, parts, rows, columns }
}

/// Downloads the table `digest` into the directory `into`, which is created, as `part-00000.parquet`, `part-00001.parquet`
/// and so on. Every byte is verified.
///
/// # Errors
/// [`InputCorrupt`](mlop_api::Reason::InputCorrupt) when something is missing or altered.
pub async fn download(
    store: &ObjectStoreHandle,
    digest: &Digest,
    into: &Path,
) -> Result<TableManifest, Failure> {
    let manifest: TableManifest = manifest::read(store, digest).await?;
    fs::create_dir_all(into).await.map_err(local("creating", into))?;
    let unfinished = &Unfinished::within(into, |_| false).await?;
    futures::stream::iter(manifest.parts.iter().enumerate().map(Ok))
        .try_for_each_concurrent(PARTS, |(index, part)| async move {
            let expected = Fingerprint { bytes: part.bytes, sha256: part.sha256.clone() };
            let (from, to) = (unfinished.file(index), part_file(into, index));
            transfer::download(store, &part.path, &from, &to, &expected).await
        })
        .await?;
    unfinished.remove().await?;
    Ok(manifest)
}

/// Where [`download`] puts part number `index`.
pub fn part_file(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("part-{index:05}.parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::Reason;

    async fn put(store: &ObjectStoreHandle, directory: &Path, content: &[u8]) -> Part {
        let path = directory.join("x.parquet");
        std::fs::write(&path, content).unwrap();
        put_part(store, &path, 10).await.unwrap()
    }

    async fn table(store: &ObjectStoreHandle, contents: &[&[u8]]) -> (Digest, Vec<Part>) {
        let dir = tempfile::tempdir().unwrap();
        let mut parts = Vec::new();
        for content in contents {
            parts.push(put(store, dir.path(), content).await);
        }
        let published =
            manifest::publish(store, manifest(Vec::new(), parts.clone(), Vec::new())).await.unwrap();
        (published.digest, parts)
    }

    #[tokio::test]
    async fn table_comes_back_part_by_part() {
        let store = ObjectStoreHandle::in_memory("data");
        let (digest, _) = table(&store, &[b"one", b"two"]).await;
        let dir = tempfile::tempdir().unwrap();
        let manifest = download(&store, &digest, dir.path()).await.unwrap();
        assert_eq!(manifest.rows, 20);
        assert_eq!(std::fs::read(dir.path().join("part-00000.parquet")).unwrap(), b"one");
        assert_eq!(std::fs::read(dir.path().join("part-00001.parquet")).unwrap(), b"two");
    }

    #[tokio::test]
    async fn large_part_is_uploaded_in_chunks() {
        let store = ObjectStoreHandle::in_memory("data");
        let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (digest, parts) = table(&store, &[&large]).await;
        assert_eq!((parts[0].bytes, &parts[0].sha256), (20_000_000, &Digest::of_bytes(&large)));
        let dir = tempfile::tempdir().unwrap();
        download(&store, &digest, dir.path()).await.unwrap();
        assert_eq!(std::fs::read(part_file(dir.path(), 0)).unwrap(), large);
    }

    #[tokio::test]
    async fn one_flipped_byte_of_a_part_is_refused() {
        let store = ObjectStoreHandle::in_memory("data");
        let (digest, parts) = table(&store, &[b"one"]).await;
        store.delete(&parts[0].path).await.unwrap();
        store.create(&parts[0].path, "onf").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let failure = download(&store, &digest, dir.path()).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::InputCorrupt, false));
        assert!(!part_file(dir.path(), 0).exists(), "unverified bytes must not look finished");
    }

    #[tokio::test]
    async fn part_that_grew_or_is_gone_is_refused() {
        let store = ObjectStoreHandle::in_memory("data");
        let (digest, parts) = table(&store, &[b"one"]).await;
        let dir = tempfile::tempdir().unwrap();
        store.delete(&parts[0].path).await.unwrap();
        assert_eq!(download(&store, &digest, dir.path()).await.unwrap_err().reason, Reason::InputCorrupt);
        store.create(&parts[0].path, "one and more").await.unwrap();
        assert_eq!(download(&store, &digest, dir.path()).await.unwrap_err().reason, Reason::InputCorrupt);
    }
}
