//! Manifests, in a bucket that other writers can reach.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlop_artifact::manifest::{Manifest, TableManifest, TreeManifest, canonical};
use std::path::{Component, Path};

fuzz_target!(|bytes: &[u8]| {
    if let Some(tree) = accepted::<TreeManifest>(bytes) {
        for file in &tree.files {
            check_stays_inside(&file.path);
        }
    }
    if let Some(table) = accepted::<TableManifest>(bytes) {
        for part in &table.parts {
            check_stays_inside(&part.path);
        }
    }
});

/// The manifest if a reader accepts it. Writing and reading it must give an equal manifest with the same digest.
fn accepted<M: Manifest + PartialEq>(bytes: &[u8]) -> Option<M> {
    let manifest: M = serde_json::from_slice(bytes).ok()?;
    if manifest.flaw().is_some() {
        return None;
    }
    let (written, digest) = canonical(&manifest).expect("a manifest has a canonical form");
    let again: M = serde_json::from_slice(&written).expect("a written manifest can be read");
    assert!(again == manifest && again.flaw().is_none());
    assert_eq!(canonical(&again).expect("a manifest has a canonical form"), (written, digest));
    Some(manifest)
}

fn check_stays_inside(path: &str) {
    let mut parts = Path::new(path).components();
    assert!(!path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
}
