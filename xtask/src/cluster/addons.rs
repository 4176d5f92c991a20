//! The cluster's own images, and S3.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::kubectl::Kubectl;
use super::provider::{Cluster, load};
use crate::archive::{Archive, Entry, Image, reference};
use crate::cache::Inputs;
use crate::progress::Outcome;
use crate::tools::{self, COREDNS, LOCAL_PATH, MINIO, Program};
use crate::{paths, process};

/// Images of the local cluster's own pods.
pub fn images() -> Result<Vec<Archive>> {
    Ok(vec![
        program("pause", &tools::pause()?, "")?,
        program("coredns", &tools::build(&COREDNS)?.0, "")?,
        program("local-path-provisioner", &tools::build(&LOCAL_PATH)?.0, "")?,
        busybox()?,
    ])
}

/// Installs S3 with the buckets `raw` and `mlop`, and waits until it answers.
pub fn object_store(cluster: &dyn Cluster) -> Result<Outcome> {
    let image = program("minio", &tools::build(&MINIO)?.0, "65532:65532")?;
    load(cluster, &[image])?;
    let kubectl = Kubectl::new(cluster.kubeconfig()?);
    let manifest = paths::repository().join("e2e/cluster/manifests/minio.yaml");
    kubectl.apply(&fs::read_to_string(manifest)?)?;
    kubectl.wait_for_rollout("storage", "deployment/minio")?;
    Ok(Outcome::Done)
}

/// An image with nothing but one program, and a `/tmp`.
pub fn program(name: &str, program: &Program, user: &'static str) -> Result<Archive> {
    named(name, vec![reference(name)], program, user)
}

/// The same under other names than those of mlop's images.
pub fn named(name: &str, names: Vec<String>, program: &Program, user: &'static str) -> Result<Archive> {
    let path = format!("/{name}");
    let image = Image {
        names,
        entries: vec![
            Entry::File { source: program.path.clone(), path: path.clone() },
            Entry::Scratch { path: "/tmp".to_owned() },
        ],
        entrypoint: path,
        user,
    };
    Archive::provide(name, Inputs::new(&program.key), &image)
}

/// Debian's static busybox, for the pods that make and remove volumes.
pub fn busybox() -> Result<Archive> {
    let source = Path::new("/bin/busybox");
    let applets = process::output(Command::new(source).arg("--list"))?;
    let links = applets.lines().filter(|applet| *applet != "busybox");
    let mut entries = vec![Entry::File { source: source.to_owned(), path: "/bin/busybox".to_owned() }];
    entries.extend(
        links.map(|applet| Entry::Link { path: format!("/bin/{applet}"), target: "busybox".to_owned() }),
    );
    entries.push(Entry::Scratch { path: "/tmp".to_owned() });
    let mut inputs = Inputs::new("busybox");
    inputs.file(source).context("busybox-static is not installed")?;
    let names = vec![reference("busybox")];
    Archive::provide("busybox", inputs, &Image { names, entries, entrypoint: "/bin/sh".to_owned(), user: "" })
}
