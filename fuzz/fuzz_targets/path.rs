//! Relative paths: user code names the files of its output.
#![no_main]

use futures::TryStreamExt;
use libfuzzer_sys::fuzz_target;
use mlop_api::Digest;
use mlop_artifact::{manifest::tree_key, path, store::ObjectStoreHandle};
use std::path::{Component, Path};

fuzz_target!(|text: &str| {
    if path::safe(text).is_err() {
        return;
    }
    let parts: Vec<_> = Path::new(text).components().collect();
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{text:?} leaves its folder");
    assert_eq!(parts.len(), text.split('/').count(), "{text:?} means another folder on a disk");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(in_a_store(text));
});

/// What is written under the path is found under that path, and nowhere else.
async fn in_a_store(text: &str) {
    let store = ObjectStoreHandle::in_memory("files");
    let digest = Digest::of_bytes(b"tree");
    let key = tree_key(&digest, text);
    assert_eq!(store.store().uri(&key), format!("s3://files/test/trees/{}/{text}", digest.hex()));
    if store.create(&key, b"content".to_vec()).await.is_err() {
        return;
    }
    assert_eq!(store.get(&key, 100).await.expect("it was written"), b"content"[..]);
    let found: Vec<_> = store.list(&tree_key(&digest, "")).try_collect().await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, key);
}
