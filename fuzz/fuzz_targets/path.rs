//! Relative paths, which user code chooses for the files of its output.
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
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{text:?} leaves its directory");
    assert_eq!(parts.len(), text.split('/').count(), "{text:?} names another directory on a disk");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(check_in_store(text));
});

/// Checks that an object written under the path is found under that path alone.
async fn check_in_store(text: &str) {
    let store = ObjectStoreHandle::in_memory("files");
    let digest = Digest::of_bytes(b"tree");
    let key = tree_key(&digest, text);
    assert_eq!(store.store().uri(&key), format!("s3://files/test/trees/{}/{text}", digest.hex()));
    if store.create(&key, b"content".to_vec()).await.is_err() {
        return;
    }
    assert_eq!(store.get(&key, 100).await.expect("the object was written"), b"content"[..]);
    let found: Vec<_> = store.list(&tree_key(&digest, "")).try_collect().await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, key);
}
