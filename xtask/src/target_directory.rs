//! The target directory in the cache, which one checkout uses after the other.
//!
//! Cargo takes the packages of two checkouts for the same ones, and compares only the times of their files: a checkout that
//! is older than a build of another one would get the programs of that one.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// How the names of the workspace's packages begin.
const MEMBERS: [&str; 2] = ["mlop-", "xtask-"];

/// The target directory in `cache`, for builds of `checkout`. What another checkout has built of its own packages there is
/// forgotten; dependencies stay.
pub fn of(cache: &Path, checkout: &Path) -> Result<PathBuf> {
    let (target, owner) = (cache.join("target"), cache.join("target-checkout"));
    let checkout = checkout.display().to_string();
    if fs::read_to_string(&owner).is_ok_and(|owner| owner == checkout) {
        return Ok(target);
    }
    // `<profile>`, or `<triple>/<profile>`.
    for first in directories(&target) {
        forget_members(&first)?;
        for second in directories(&first) {
            forget_members(&second)?;
        }
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    fs::write(&owner, checkout).with_context(|| format!("cannot write {}", owner.display()))?;
    Ok(target)
}

/// A package without a fingerprint is built again. Waits for a build that goes on there.
fn forget_members(profile: &Path) -> Result<()> {
    // Cargo holds this lock while it builds.
    let lock = profile.join(".cargo-lock");
    let _build = match File::open(&lock) {
        Ok(file) => {
            file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
            Some(file)
        }
        // Nothing was ever built here.
        Err(_) => None,
    };
    for unit in directories(&profile.join(".fingerprint")) {
        let name = unit.file_name().unwrap_or_default().to_string_lossy();
        if MEMBERS.iter().any(|member| name.starts_with(member)) {
            fs::remove_dir_all(&unit).with_context(|| format!("cannot delete {}", unit.display()))?;
        }
    }
    Ok(())
}

/// The directories in `parent`; none if there is no `parent`.
fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_build_of_another_checkout_ends_first() {
        let cache = std::env::temp_dir().join(format!("mlop-target-lock-{}", std::process::id()));
        let profile = cache.join("target/e2e");
        fs::create_dir_all(profile.join(".fingerprint/xtask-1")).unwrap();
        let build = File::create(profile.join(".cargo-lock")).unwrap();
        build.lock().unwrap();
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                of(&cache, Path::new("b")).unwrap();
                assert!(has_ended.load(Ordering::SeqCst), "packages were forgotten during a build");
            });
            // A caller that does not wait has long deleted it.
            let is_kept = || profile.join(".fingerprint/xtask-1").is_dir();
            assert!((0..1_000).all(|_| {
                thread::yield_now();
                is_kept()
            }));
            has_ended.store(true, Ordering::SeqCst);
            drop(build);
        });
        assert!(!profile.join(".fingerprint/xtask-1").is_dir());
        fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn packages_of_another_checkout_are_forgotten() {
        let cache = std::env::temp_dir().join(format!("mlop-target-{}", std::process::id()));
        let units =
            ["e2e/.fingerprint/serde-1", "e2e/.fingerprint/xtask-1", "gnu/e2e/.fingerprint/mlop-api-1"];
        let left = |checkout: &str| {
            let target = of(&cache, Path::new(checkout)).unwrap();
            units.map(|unit| target.join(unit).is_dir())
        };
        let build =
            || units.iter().for_each(|unit| fs::create_dir_all(cache.join("target").join(unit)).unwrap());
        left("a");
        build();
        assert_eq!(left("a"), [true, true, true]);
        assert_eq!(left("b"), [true, false, false]);
        build();
        assert_eq!(left("b"), [true, true, true]);
        fs::remove_dir_all(&cache).unwrap();
    }
}
