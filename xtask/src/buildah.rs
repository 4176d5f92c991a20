//! Buildah with its storage in the cache, and base images of Debian packages: no daemon and no registry.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::{self, Inputs};
use crate::cluster::local;
use crate::progress::note;
use crate::{paths, process};

const SUITE: &str = "bookworm";

/// What determines the base image of these packages.
pub fn recipe(packages: &str) -> String {
    format!("{SUITE} {packages}")
}

/// The tag of a base image made of Debian packages.
pub fn debian(packages: &str) -> Result<String> {
    local::install(&["buildah", "mmdebstrap"])?;
    let key = Inputs::new(&recipe(packages)).key();
    let tag = format!("mlop.local/debian:{key}");
    let archive = paths::built()?.join("bases").join(format!("{key}.tar"));
    cache::entry(&archive, |part| {
        note(&format!("composing a root filesystem of {packages} from Debian"));
        let mut command = Command::new("mmdebstrap");
        command.args([
            "--quiet",
            "--variant=minbase",
            "--format=tar",
            &format!("--include={packages}"),
            SUITE,
        ]);
        process::run(command.arg(part))
    })?;
    if !has(&tag)? {
        let container = process::output(command()?.args(["from", "scratch"]))?;
        process::run(command()?.args(["add", "--quiet", &container]).arg(&archive).arg("/"))?;
        process::run(command()?.args(["commit", "--quiet", "--rm", &container, &tag]))?;
    }
    Ok(tag)
}

/// `buildah build`, to which a directory with a Containerfile is to be added.
pub fn build() -> Result<Command> {
    let mut command = command()?;
    command.args(["build", "--isolation=chroot", "--network=host"]).args(trust());
    Ok(command)
}

/// Whether there is an image of this name.
pub fn has(tag: &str) -> Result<bool> {
    Ok(process::run(command()?.args(["inspect", "--type=image", tag])).is_ok())
}

/// Buildah with its storage in the cache.
pub fn command() -> Result<Command> {
    let temporary = paths::cache()?.join("buildah/tmp");
    fs::create_dir_all(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;
    let mut command = Command::new("buildah");
    command.env("TMPDIR", temporary).arg("--storage-driver=overlay");
    command.arg("--root").arg(storage()?).arg("--runroot").arg(run()?);
    Ok(command)
}

/// The directory of the images. Podman can use it, too.
pub fn storage() -> Result<PathBuf> {
    Ok(paths::cache()?.join("buildah/storage"))
}

/// The directory of the mounts.
pub fn run() -> Result<PathBuf> {
    Ok(paths::cache()?.join("buildah/run"))
}

/// Mounts this machine's certificates and pip settings during the build, which reaches package registries by them.
fn trust() -> Vec<String> {
    let files = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf"];
    files
        .iter()
        .filter(|file| Path::new(file).exists())
        .map(|file| format!("--volume={file}:{file}:ro"))
        .collect()
}
