//! What several test files need. Each uses a part of it.
#![allow(dead_code)]

pub mod api;
pub mod chain;
pub mod redis;
pub mod view;

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    compute::concat_batches,
};
use mlop_api::{Digest, result::Failure};
use mlop_artifact::{
    manifest::{self, TableManifest},
    store::ObjectStoreHandle,
    table,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// A directory that is removed in the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mlop-features-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub fn store() -> ObjectStoreHandle {
    ObjectStoreHandle::in_memory("features")
}

/// Puts `batch` into `store` as a table.
pub async fn table(store: &ObjectStoreHandle, batch: &RecordBatch) -> Digest {
    let scratch = Scratch::new();
    let rows = futures::stream::iter([Ok::<_, Failure>(batch.clone())]);
    let table = mlop_features::writer::write(store, scratch.path(), &batch.schema(), rows).await.unwrap();
    manifest::publish(store, table).await.unwrap().digest
}

pub async fn manifest(store: &ObjectStoreHandle, digest: &Digest) -> TableManifest {
    manifest::read(store, digest).await.unwrap()
}

/// All rows of the table `digest`.
pub async fn rows(store: &ObjectStoreHandle, digest: &Digest) -> RecordBatch {
    let scratch = Scratch::new();
    let manifest = table::download(store, digest, scratch.path()).await.unwrap();
    let mut batches = Vec::new();
    for index in 0..manifest.parts.len() {
        let file = File::open(table::part_file(scratch.path(), index)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        batches.extend(reader.build().unwrap().map(Result::unwrap));
    }
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Seconds since 1970 as a column of a table.
pub fn times(seconds: impl Iterator<Item = i64>) -> ArrayRef {
    let times = TimestampMicrosecondArray::from_iter_values(seconds.map(|second| second * 1_000_000));
    Arc::new(times.with_timezone("UTC"))
}
