//! The ways to a cluster.
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::archive::{Archive, reference};
use crate::{paths, process};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Processes of this machine. Needs root on Debian, Go and a C compiler.
    Local,
    /// kind, with Docker or Podman, and Go. With `--node-image built`: with root on Debian, Go and a C compiler.
    Kind,
    /// The current context of the kubeconfig. `up` and `down` change nothing in it, and no images are loaded into it:
    /// `demo` and `test` need another.
    Current,
}

impl Provider {
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kind => "kind",
            Self::Current => "current",
        }
    }
}

/// A cluster that tests can use.
pub trait Cluster {
    fn provider(&self) -> Provider;
    /// What this machine lacks for the cluster; empty when nothing.
    fn missing(&self) -> Vec<String>;
    fn kubeconfig(&self) -> Result<PathBuf>;
    /// The API server's audit log, if there is one: JSON lines, times in microseconds.
    fn audit_log(&self) -> Result<Option<PathBuf>>;
    /// Variables by which the end-to-end tests reach the nodes: their processes and packets.
    fn node_access(&self) -> Result<Vec<(&'static str, OsString)>> {
        Ok(Vec::new())
    }
    /// Writes the logs of the cluster's parts into a directory.
    fn export_logs(&self, directory: &Path) -> Result<()>;
    /// Makes the programs available that `up` starts or uses.
    fn build(&self) -> Result<()>;
    /// Starts what does not run.
    fn up(&self) -> Result<()>;
    fn down(&self) -> Result<()>;
    /// Directory with one file per loaded image; the file has the key of the archive.
    fn loaded(&self) -> Result<PathBuf>;
    /// References of the images that pods can use now: a kubelet whose disk gets full removes some.
    fn images(&self) -> Result<BTreeSet<String>>;
    /// Makes the image in a docker-archive usable by pods.
    fn import(&self, archive: &Path) -> Result<()>;
}

/// Loads the images that the cluster does not have yet, and returns their names.
pub fn load(cluster: &dyn Cluster, archives: &[Archive]) -> Result<Vec<String>> {
    let directory = cluster.loaded()?;
    fs::create_dir_all(&directory)?;
    let present = cluster.images()?;
    let mut loaded = Vec::new();
    for archive in archives {
        let marker = directory.join(&archive.name);
        let is_newest = fs::read_to_string(&marker).is_ok_and(|key| key == archive.key);
        if is_newest && present.contains(&reference(&archive.name)) {
            continue;
        }
        cluster.import(&archive.path).with_context(|| format!("cannot load the image {}", archive.name))?;
        fs::write(&marker, &archive.key)?;
        loaded.push(archive.name.clone());
    }
    Ok(loaded)
}

/// The references that containerd lists, one a line.
pub fn references(ctr: &mut std::process::Command) -> Result<BTreeSet<String>> {
    let list = process::output(ctr.args(["-n", "k8s.io", "images", "ls", "-q"]))?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Files of the running cluster of this provider.
pub fn state(provider: Provider) -> Result<PathBuf> {
    Ok(paths::state()?.join(provider.name()))
}
