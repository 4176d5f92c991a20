//! A cluster of kind, in Docker or Podman.
mod engine;
mod host;
mod node_image;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::addons;
use super::kubectl::Kubectl;
use super::local::{self, Local};
use super::provider::{Cluster, Provider, references, state};
use crate::progress::{Outcome, Steps};
use crate::tools::{self, HELM, KIND, KUBECTL, MINIO};
use crate::{cache, paths, process};
use engine::Nodes;

const NAME: &str = "mlop";
/// The variable that names the node image, and with it the version of Kubernetes; without it kind takes its own.
const NODE_IMAGE: &str = "KIND_NODE_IMAGE";
/// The node image that is composed on this machine.
const BUILT: &str = "built";
/// Path in the cluster's state. The configuration mounts its directory.
const AUDIT_LOG: &str = "audit/audit.log";
/// A file in the cluster's state, there when its nodes have the composed image.
const COMPOSED: &str = "composed";

/// Packets of nodes, pods and Services stay in these ranges, which the local cluster does not use.
const NODE_RANGE: &str = "198.19.208.0/24";
const POD_RANGE: &str = "198.19.128.0/18";
const SERVICE_RANGE: &str = "198.19.192.0/20";

/// Properties of a new cluster.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Nodes of a new kind cluster; the first has the control plane, and alone if there are others.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,
    /// Node image of a new kind cluster; kind's own by default. `built` composes one on this machine, as root on Debian,
    /// for a network without image registry.
    #[arg(long, env = NODE_IMAGE)]
    pub node_image: Option<String>,
}

impl Options {
    /// One node, with the image that the environment names.
    pub fn of_environment() -> Self {
        Self { nodes: 1, node_image: env::var(NODE_IMAGE).ok() }
    }
}

pub struct Kind {
    options: Options,
}

impl Cluster for Kind {
    fn provider(&self) -> Provider {
        Provider::Kind
    }

    fn missing(&self) -> Vec<String> {
        if self.is_composed() {
            return Local.missing();
        }
        let mut missing = Vec::new();
        if self.nodes().is_err() {
            missing.push("neither Docker nor Podman answers".to_owned());
        }
        if !process::found("go") {
            missing.push("`go` (builds kind, kubectl, helm and MinIO) is not on the PATH".to_owned());
        }
        missing
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(state(Provider::Kind)?.join("kubeconfig"))
    }

    fn audit_log(&self) -> Result<Option<PathBuf>> {
        Ok(Some(state(Provider::Kind)?.join(AUDIT_LOG)))
    }

    /// The tests run programs on a node by `MLOP_NODE_EXEC`, followed by its name.
    fn node_access(&self) -> Result<Vec<(&'static str, OsString)>> {
        let nodes = self.nodes()?;
        let exec = format!("{} exec", nodes.program()).into();
        Ok([vec![("MLOP_NODE_EXEC", exec)], nodes.environment].concat())
    }

    fn build(&self) -> Result<()> {
        let mut steps = Steps::new(1 + usize::from(self.is_composed()));
        steps.run("programs", || tools::provide(&[&KIND, &KUBECTL, &HELM, &MINIO]))?;
        if self.is_composed() {
            steps.run("node image", || {
                local::install(&engine::PACKAGES)?;
                node_image::provide().map(|(_, outcome)| outcome)
            })?;
        }
        Ok(())
    }

    fn up(&self) -> Result<()> {
        self.build()?;
        let mut steps = Steps::new(3);
        steps.run("kind", || self.create())?;
        steps.run("DNS", || self.ready())?;
        steps.run("S3", || addons::object_store(self))
    }

    fn down(&self) -> Result<()> {
        let state = state(Provider::Kind)?;
        if state.exists() {
            let mut delete = self.kind(&["delete", "cluster"])?;
            delete.arg("--kubeconfig").arg(self.kubeconfig()?);
            // Podman fails when a node stops by itself just before it is killed; the nodes that are left can be deleted.
            process::run(&mut delete).or_else(|_| process::run(&mut delete))?;
        }
        if self.is_composed() {
            host::restore(&self.nodes()?, &state)?;
        }
        cache::remove(&state)
    }

    fn loaded(&self) -> Result<PathBuf> {
        let uid = Kubectl::new(self.kubeconfig()?).cluster_uid()?;
        Ok(state(Provider::Kind)?.join("loaded").join(uid))
    }

    /// The images that all nodes have.
    fn images(&self) -> Result<BTreeSet<String>> {
        let nodes = self.nodes()?;
        let mut images: Option<BTreeSet<String>> = None;
        for node in self.names()? {
            let present = references(nodes.command().args(["exec", &node, "ctr"]))?;
            images = Some(images.map_or(present.clone(), |images| &images & &present));
        }
        Ok(images.unwrap_or_default())
    }

    fn import(&self, archive: &Path) -> Result<()> {
        process::run(self.kind(&["load", "image-archive"])?.arg(archive))
    }

    fn export_logs(&self, directory: &Path) -> Result<()> {
        process::run(self.kind(&["export", "logs"])?.arg(directory))
    }
}

impl Kind {
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone() }
    }

    /// Whether the nodes have the image that is composed on this machine: those of the running cluster, else the next ones.
    fn is_composed(&self) -> bool {
        let state = state(Provider::Kind);
        if let Ok(state) = state.as_ref()
            && state.exists()
        {
            return state.join(COMPOSED).exists();
        }
        self.options.node_image.as_deref() == Some(BUILT)
    }

    fn nodes(&self) -> Result<Nodes> {
        if self.is_composed() { Nodes::apart() } else { Nodes::of_this_machine() }
    }

    fn create(&self) -> Result<Outcome> {
        if !self.names()?.is_empty() {
            return self.restart();
        }
        let state = state(Provider::Kind)?;
        let composed = self.is_composed();
        let image = if composed { Some(node_image::provide()?.0) } else { self.options.node_image.clone() };
        fs::create_dir_all(state.join("audit"))?;
        // The API server appends to the file. If it created the file, only root could read it.
        fs::write(state.join(AUDIT_LOG), "")?;
        if composed {
            fs::write(state.join(COMPOSED), "")?;
            host::prepare(&self.nodes()?, &state)?;
        }
        let mut command = self.kind(&["create", "cluster", "--wait=600s", "--config=-"])?;
        if let Some(image) = &image {
            command.arg("--image").arg(image);
        }
        let config = self.config(&state)?;
        process::feed(command.arg("--retain").arg("--kubeconfig").arg(self.kubeconfig()?), &config)
            .with_context(|| {
                format!(
                    "kind cannot create the cluster; where its node image cannot be pulled, \
                     set {NODE_IMAGE} to an image that is there, or to `{BUILT}` as root on Debian"
                )
            })?;
        Ok(Outcome::Done)
    }

    /// Starts the nodes that do not run, as after a restart of the machine or the engine.
    fn restart(&self) -> Result<Outcome> {
        let nodes = self.nodes()?;
        process::run(nodes.command().arg("start").args(self.names()?))?;
        process::run(self.kind(&["export", "kubeconfig"])?.arg("--kubeconfig").arg(self.kubeconfig()?))?;
        Kubectl::new(self.kubeconfig()?).wait_for_server()?;
        Ok(Outcome::Present)
    }

    /// Waits for all nodes, and for DNS on them.
    fn ready(&self) -> Result<Outcome> {
        let kubectl = Kubectl::new(self.kubeconfig()?);
        process::run(&mut kubectl.command(&[
            "wait",
            "--for=condition=Ready",
            "node",
            "--all",
            "--timeout=600s",
        ])?)?;
        kubectl.wait_for_rollout("kube-system", "deployment/coredns")?;
        Ok(Outcome::Done)
    }

    /// kind's configuration of a new cluster.
    fn config(&self, state: &Path) -> Result<String> {
        let directory = paths::repository().join("e2e/cluster");
        let template = fs::read_to_string(directory.join("kind/cluster.yaml"))?;
        let policy = directory.join("audit-policy.yaml").display().to_string();
        let settings: &[&str] = if self.is_composed() { &node_image::SETTINGS } else { &[] };
        let config = template
            .replace("@POLICY@", &policy)
            .replace("@STATE@", &state.display().to_string())
            .replace("@PODS@", POD_RANGE)
            .replace("@SERVICES@", SERVICE_RANGE)
            .replace("@PATCHES@", &directory.join("kind/patches").display().to_string())
            .replace("@SETTINGS@", &serde_json::to_string(settings)?);
        let workers = usize::from(self.options.nodes).saturating_sub(1);
        Ok(config + &"- role: worker\n".repeat(workers))
    }

    /// The names of the nodes; none when there is no cluster.
    fn names(&self) -> Result<Vec<String>> {
        let names = process::output(&mut self.kind(&["get", "nodes", "--quiet"])?)?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    fn kind(&self, args: &[&str]) -> Result<Command> {
        let nodes = self.nodes()?;
        let mut command = Command::new(paths::bin()?.join("kind"));
        command.args(args).args(["--name", NAME]).envs(nodes.environment.iter().cloned());
        // kind takes Docker unless it is told.
        command.env("KIND_EXPERIMENTAL_PROVIDER", nodes.program());
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_has_a_role_for_each_node() {
        for (nodes, workers) in [(1, 0), (3, 2)] {
            let kind = Kind::new(&Options { nodes, node_image: None });
            let config = kind.config(Path::new("/state")).unwrap();
            let config: serde_json::Value = serde_saphyr::from_str(&config).unwrap();
            let roles: Vec<_> = config["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| node["role"].as_str().unwrap())
                .collect();
            assert_eq!(roles, [&["control-plane"][..], &["worker"].repeat(workers)].concat());
            assert_eq!(config["networking"]["podSubnet"], POD_RANGE);
            let mount = &config["nodes"][0]["extraMounts"][1];
            assert_eq!(mount["hostPath"], "/state/audit");
        }
    }
}
