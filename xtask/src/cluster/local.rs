//! Kubernetes as processes of this machine: built from Go modules, run by the scripts in `e2e/cluster/local`.
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::addons;
use super::kubectl::Kubectl;
use super::provider::{Cluster, Provider, load, references, state};
use crate::progress::{Outcome, Steps};
use crate::tools::{self, COREDNS, HELM, KUBE_ALL, KUBECTL, LOCAL_PATH, MINIO};
use crate::{cache, paths, process};

const PACKAGES: [&str; 8] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "busybox-static",
    "iptables",
    "iproute2",
    "curl",
    "openssl",
];

pub struct Local;

impl Cluster for Local {
    fn provider(&self) -> Provider {
        Provider::Local
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !is_root() {
            missing.push("needs root on Linux".to_owned());
        }
        for (program, why) in [
            ("apt-get", "installs the packages"),
            ("go", "builds Kubernetes"),
            ("cc", "builds the pause image"),
        ] {
            if !process::found(program) {
                missing.push(format!("`{program}` ({why}) is not on the PATH"));
            }
        }
        missing
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(state(Provider::Local)?.join("admin.conf"))
    }

    fn audit_log(&self) -> Result<Option<PathBuf>> {
        Ok(Some(state(Provider::Local)?.join("audit.log")))
    }

    fn build(&self) -> Result<()> {
        let mut steps = Steps::new(2);
        steps.run("Debian packages", || install(&PACKAGES))?;
        steps.run("programs", || tools::provide(&[&KUBE_ALL, &KUBECTL, &COREDNS, &LOCAL_PATH, &HELM, &MINIO]))
    }

    fn up(&self) -> Result<()> {
        self.build()?;
        let mut steps = Steps::new(4);
        steps.run("control plane", || script("control-plane.sh"))?;
        steps.run("node", || script("node.sh"))?;
        steps.run("DNS and storage class", || self.addons())?;
        steps.run("S3", || addons::object_store(self))
    }

    fn down(&self) -> Result<()> {
        script("down.sh").map(drop)
    }

    fn loaded(&self) -> Result<PathBuf> {
        Ok(images()?.join("loaded"))
    }

    fn images(&self) -> Result<BTreeSet<String>> {
        references(&mut ctr()?)
    }

    fn import(&self, archive: &Path) -> Result<()> {
        process::run(ctr()?.args(["-n", "k8s.io", "images", "import"]).arg(archive))
    }

    fn export_logs(&self, directory: &Path) -> Result<()> {
        let logs = state(Provider::Local)?.join("log");
        for log in cache::files(&logs)? {
            let copy = directory.join(log.strip_prefix(&logs)?);
            fs::copy(&log, &copy)
                .with_context(|| format!("cannot copy {} to {}", log.display(), copy.display()))?;
        }
        Ok(())
    }
}

impl Local {
    fn addons(&self) -> Result<Outcome> {
        load(self, &addons::images()?)?;
        let kubectl = Kubectl::new(self.kubeconfig()?);
        let directory = paths::repository().join("e2e/cluster/local/manifests");
        let state = state(Provider::Local)?.display().to_string();
        for file in ["coredns.yaml", "storage.yaml"] {
            kubectl.apply(&fs::read_to_string(directory.join(file))?.replace("@STATE@", &state))?;
        }
        for deployment in ["deployment/coredns", "deployment/local-path-provisioner"] {
            kubectl.wait_for_rollout("kube-system", deployment)?;
        }
        Ok(Outcome::Done)
    }
}

fn is_root() -> bool {
    cfg!(target_os = "linux") && fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Whether Debian packages can be installed on this machine.
pub fn can_install() -> bool {
    is_root() && process::found("apt-get")
}

/// Installs the Debian packages that are missing.
pub fn install(packages: &[&str]) -> Result<Outcome> {
    let said = process::output(Command::new(scripts().join("packages.sh")).args(packages))?;
    Ok(if said.is_empty() { Outcome::Present } else { Outcome::Done })
}

/// Makes `program` available, from a Debian package if it is missing.
pub fn provide(program: &str, package: &str, reason: &str) -> Result<()> {
    if process::found(program) {
        return Ok(());
    }
    if !can_install() {
        bail!("`{program}` is not on the PATH: install it; {reason}");
    }
    install(&[package]).map(drop)
}

fn ctr() -> Result<Command> {
    let mut command = Command::new("ctr");
    command.arg("-a").arg(state(Provider::Local)?.join("run/containerd.sock"));
    Ok(command)
}

fn script(name: &str) -> Result<Outcome> {
    let mut command = Command::new(scripts().join(name));
    command.env("STATE", state(Provider::Local)?).env("IMAGES", images()?).env("BIN", paths::bin()?);
    process::run(&mut command)?;
    Ok(Outcome::Done)
}

/// containerd's own directory: images outlive the cluster, so that the next one has them at once.
fn images() -> Result<PathBuf> {
    Ok(paths::built()?.join("containerd"))
}

fn scripts() -> PathBuf {
    paths::repository().join("e2e/cluster/local")
}
