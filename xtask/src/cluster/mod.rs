//! `cargo xtask cluster`: a real Kubernetes for the end-to-end tests.
mod addons;
mod current;
mod kind;
mod kubectl;
pub mod local;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::archive::{Archive, reference};
use crate::{cache, paths, process};
use current::Current;
use kind::Kind;
pub use kubectl::Kubectl;
use local::Local;

#[derive(Subcommand)]
pub enum Command {
    /// Start the cluster, or repair it; ends when S3 in it answers.
    Up(Choice),
    /// Build the programs of the cluster without starting it.
    Build(Choice),
    /// Remove the cluster and everything in it.
    Down(Choice),
    /// Show the nodes, deployments and failing pods; fails when the API server does not answer.
    Status(Choice),
    /// Print the shell commands that make the cluster the current one: eval "$(cargo xtask cluster env)"
    Env(Choice),
}

#[derive(Args)]
pub struct Choice {
    /// Where the cluster comes from. By default the one that `up` chose, else what this machine can do.
    #[arg(long, env = "MLOP_CLUSTER")]
    pub provider: Option<Provider>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Processes of this machine. Needs root on Debian, Go and a C compiler.
    Local,
    /// kind, with Docker or Podman, and Go.
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

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up(choice) => up(choice),
        Command::Build(choice) => choice.cluster()?.build(),
        Command::Down(choice) => down(choice),
        Command::Status(choice) => status(choice),
        Command::Env(choice) => env(choice),
    }
}

fn up(choice: &Choice) -> Result<()> {
    let cluster = choice.cluster()?;
    let _lock = cache::lock()?;
    eprintln!("cluster: {}", cluster.provider().name());
    cluster.up()?;
    fs::write(chosen()?, cluster.provider().name())?;
    eprintln!("use it: eval \"$(cargo xtask cluster env)\"");
    Ok(())
}

fn down(choice: &Choice) -> Result<()> {
    let cluster = choice.cluster()?;
    let _lock = cache::lock()?;
    cluster.down()?;
    fs::remove_file(chosen()?).ok();
    eprintln!("cluster {}: down", cluster.provider().name());
    Ok(())
}

fn status(choice: &Choice) -> Result<()> {
    let cluster = choice.cluster()?;
    let kubectl = Kubectl::new(cluster.kubeconfig()?);
    eprintln!("cluster {}, {}", cluster.provider().name(), cluster.kubeconfig()?.display());
    if !kubectl.answers() {
        bail!("the API server does not answer: start it with `cargo xtask cluster up`");
    }
    process::show(&mut kubectl.command(&["get", "nodes,deployments", "--all-namespaces"])?)?;
    eprintln!("pods that are not running:");
    let unwell = "--field-selector=status.phase!=Running,status.phase!=Succeeded";
    process::show(&mut kubectl.command(&["get", "pods", "--all-namespaces", unwell])?)
}

fn env(choice: &Choice) -> Result<()> {
    let cluster = choice.cluster()?;
    let kubeconfig = cluster.kubeconfig()?;
    if !kubeconfig.exists() {
        bail!("there is no {} cluster: start it with `cargo xtask cluster up`", cluster.provider().name());
    }
    println!("export KUBECONFIG='{}'", kubeconfig.display());
    println!("export MLOP_CLUSTER='{}'", cluster.provider().name());
    if let Some(log) = cluster.audit_log()? {
        println!("export MLOP_AUDIT_LOG='{}'", log.display());
    }
    println!("export PATH='{}':\"$PATH\"", paths::bin()?.display());
    Ok(())
}

impl Choice {
    /// The cluster that is meant; an error says what this machine lacks for it.
    pub fn cluster(&self) -> Result<Box<dyn Cluster>> {
        if let Some(provider) = self.provider.or_else(remembered) {
            let cluster = cluster(provider);
            let missing = cluster.missing();
            if !missing.is_empty() {
                bail!("no {} cluster on this machine: {}", provider.name(), missing.join("; "));
            }
            return Ok(cluster);
        }
        let mut reasons = String::new();
        for provider in [Provider::Local, Provider::Kind] {
            let cluster = cluster(provider);
            let missing = cluster.missing();
            if missing.is_empty() {
                return Ok(cluster);
            }
            reasons += &format!("\n  {}: {}", provider.name(), missing.join("; "));
        }
        bail!(
            "no cluster can be made on this machine:{reasons}\n  or use --provider current with a kubeconfig of yours"
        )
    }
}

fn cluster(provider: Provider) -> Box<dyn Cluster> {
    match provider {
        Provider::Local => Box::new(Local),
        Provider::Kind => Box::new(Kind),
        Provider::Current => Box::new(Current),
    }
}

/// Gives `command` the cluster as `cargo xtask cluster env` prints it.
pub fn environment(command: &mut std::process::Command, cluster: &dyn Cluster) -> Result<()> {
    command.env("KUBECONFIG", cluster.kubeconfig()?).env("MLOP_CLUSTER", cluster.provider().name());
    if let Some(log) = cluster.audit_log()? {
        command.env("MLOP_AUDIT_LOG", log);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([paths::bin()?].into_iter().chain(std::env::split_paths(&path)))?;
    command.env("PATH", path);
    Ok(())
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
fn references(ctr: &mut std::process::Command) -> Result<BTreeSet<String>> {
    let list = process::output(ctr.args(["-n", "k8s.io", "images", "ls", "-q"]))?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Files of the running cluster of this provider.
fn state(provider: Provider) -> Result<PathBuf> {
    Ok(paths::state()?.join(provider.name()))
}

fn chosen() -> Result<PathBuf> {
    Ok(paths::built()?.join("provider"))
}

fn remembered() -> Option<Provider> {
    let name = fs::read_to_string(chosen().ok()?).ok()?;
    Provider::from_str(name.trim(), false).ok()
}
