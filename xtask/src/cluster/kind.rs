//! A cluster of kind, in Docker or Podman.
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::addons;
use super::kubectl::Kubectl;
use super::provider::{Cluster, Provider, references, state};
use crate::engine::Engine;
use crate::progress::{Outcome, Steps};
use crate::tools::{self, HELM, KUBECTL, MINIO};
use crate::{cache, paths, process};

const NAME: &str = "mlop";
/// kind's name for the only node.
const NODE: &str = "mlop-control-plane";
/// The variable that names the node image, and with it the version of Kubernetes; without it kind takes its own.
const NODE_IMAGE: &str = "KIND_NODE_IMAGE";
/// Path in the cluster's state. kind.yaml mounts its directory.
const AUDIT_LOG: &str = "audit/audit.log";

pub struct Kind;

impl Cluster for Kind {
    fn provider(&self) -> Provider {
        Provider::Kind
    }

    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !process::found("kind") {
            missing.push("`kind` is not on the PATH".to_owned());
        }
        if Engine::running().is_none() {
            missing.push("neither Docker nor Podman answers".to_owned());
        }
        if !process::found("go") {
            missing.push("`go` (builds kubectl, helm and MinIO) is not on the PATH".to_owned());
        }
        missing
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(state(Provider::Kind)?.join("kubeconfig"))
    }

    fn audit_log(&self) -> Result<Option<PathBuf>> {
        Ok(Some(state(Provider::Kind)?.join(AUDIT_LOG)))
    }

    fn build(&self) -> Result<()> {
        Steps::new(1).run("programs", || tools::provide(&[&KUBECTL, &HELM, &MINIO]))
    }

    fn up(&self) -> Result<()> {
        self.build()?;
        let mut steps = Steps::new(2);
        steps.run("kind", || self.create())?;
        steps.run("S3", || addons::object_store(self))
    }

    fn down(&self) -> Result<()> {
        process::run(kind(&["delete", "cluster"])?.arg("--kubeconfig").arg(self.kubeconfig()?))?;
        cache::remove(&state(Provider::Kind)?)
    }

    fn loaded(&self) -> Result<PathBuf> {
        let uid = Kubectl::new(self.kubeconfig()?).cluster_uid()?;
        Ok(state(Provider::Kind)?.join("loaded").join(uid))
    }

    fn images(&self) -> Result<BTreeSet<String>> {
        references(engine()?.args(["exec", NODE, "ctr"]))
    }

    fn import(&self, archive: &Path) -> Result<()> {
        process::run(kind(&["load", "image-archive"])?.arg(archive))
    }
}

impl Kind {
    fn create(&self) -> Result<Outcome> {
        let state = state(Provider::Kind)?;
        let clusters = process::output(Command::new("kind").args(["get", "clusters"]).envs(environment()))?;
        if clusters.lines().any(|name| name == NAME) {
            // When the machine or the engine was restarted, the node is there but does not run.
            process::run(engine()?.args(["start", NODE]))?;
            process::run(kind(&["export", "kubeconfig"])?.arg("--kubeconfig").arg(self.kubeconfig()?))?;
            Kubectl::new(self.kubeconfig()?).wait_for_server()?;
            return Ok(Outcome::Present);
        }
        fs::create_dir_all(state.join("audit"))?;
        // The API server appends to the file. If it created the file, only root could read it.
        fs::write(state.join(AUDIT_LOG), "")?;
        let directory = paths::repository().join("e2e/cluster");
        let template = fs::read_to_string(directory.join("kind.yaml"))?;
        let policy = directory.join("audit-policy.yaml").display().to_string();
        let config = template.replace("@POLICY@", &policy).replace("@STATE@", &state.display().to_string());
        let mut command = kind(&["create", "cluster", "--wait=600s", "--config=-"])?;
        if let Some(image) = env::var_os(NODE_IMAGE) {
            command.arg("--image").arg(image);
        }
        process::feed(command.arg("--kubeconfig").arg(self.kubeconfig()?), &config)?;
        Ok(Outcome::Done)
    }
}

fn kind(args: &[&str]) -> Result<Command> {
    let mut command = Command::new("kind");
    command.args(args).args(["--name", NAME]).envs(environment());
    Ok(command)
}

fn engine() -> Result<Command> {
    let engine = Engine::running().context("neither Docker nor Podman answers")?;
    Ok(Command::new(engine.program()))
}

/// kind takes Docker unless it is told.
fn environment() -> Option<(&'static str, &'static str)> {
    (Engine::running() == Some(Engine::Podman)).then_some(("KIND_EXPERIMENTAL_PROVIDER", "podman"))
}
