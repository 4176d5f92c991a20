//! Manifests: they lie in a bucket that others may write to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlop_artifact::manifest::{Manifest, TableManifest, TreeManifest, canonical};
use std::path::{Component, Path};

fuzz_target!(|bytes: &[u8]| {
    if let Some(tree) = accepted::<TreeManifest>(bytes) {
        for file in &tree.files {
            stays_inside(&file.path);
        }
    }
    if let Some(table) = accepted::<TableManifest>(bytes) {
        for part in &table.parts {
            stays_inside(&part.path);
        }
    }
});

/// The manifest, if a reader takes it. Written anew it must be the same, under the same digest.
fn accepted<M: Manifest + PartialEq>(bytes: &[u8]) -> Option<M> {
    let manifest: M = serde_json::from_slice(bytes).ok()?;
    if manifest.flaw().is_some() {
        return None;
    }
    let (written, digest) = canonical(&manifest).expect("what was JSON has a canonical form");
    let again: M = serde_json::from_slice(&written).expect("what we write can be read");
    assert!(again == manifest && again.flaw().is_none());
    assert_eq!(canonical(&again).expect("it had one before"), (written, digest));
    Some(manifest)
}

fn stays_inside(path: &str) {
    let mut parts = Path::new(path).components();
    assert!(!path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
}
