//! Where a worker finds the operator's mounts. The variables exist for keys that do
//! not come from Secrets, for tests and for running a worker by hand.

use mlop_api::labels;
use std::{env, path::PathBuf};

/// Directory with `task.json`: `MLOP_TASK_DIR`, or [`labels::TASK_DIR`].
pub fn task_dir() -> PathBuf {
    directory("MLOP_TASK_DIR", labels::TASK_DIR)
}

/// Directory with one directory of key files per ObjectStore: `MLOP_STORES_DIR`, or [`labels::STORES_DIR`].
pub fn stores_dir() -> PathBuf {
    directory("MLOP_STORES_DIR", labels::STORES_DIR)
}

/// Directory with the online store's `password`: `MLOP_REDIS_DIR`, or [`labels::REDIS_DIR`].
pub fn redis_dir() -> PathBuf {
    directory("MLOP_REDIS_DIR", labels::REDIS_DIR)
}

/// Directory with the keys of the tracking server's Secret: `MLOP_TRACKING_DIR`, or [`labels::TRACKING_DIR`].
pub fn tracking_dir() -> PathBuf {
    directory("MLOP_TRACKING_DIR", labels::TRACKING_DIR)
}

/// File whose content becomes the container's termination message: `MLOP_TERMINATION_LOG`, or Kubernetes' default.
pub fn termination_log() -> PathBuf {
    directory("MLOP_TERMINATION_LOG", "/dev/termination-log")
}

fn directory(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}
