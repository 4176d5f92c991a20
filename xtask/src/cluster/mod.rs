//! `cargo xtask cluster`: a real Kubernetes for the end-to-end tests.
mod addons;
mod current;
mod kind;
mod kubectl;
pub mod local;
mod provider;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::{build, cache, paths, process};
use current::Current;
use kind::Kind;
pub use kind::Options;
pub use kubectl::Kubectl;
use local::Local;
pub use provider::{Cluster, Provider, load};

#[derive(Subcommand)]
pub enum Command {
    /// Start the cluster, or repair it; ends when S3 in it answers.
    Up(New),
    /// Build the programs of the cluster without starting it.
    Build(New),
    /// Remove the cluster and everything in it.
    Down(Choice),
    /// Show the nodes, deployments and failing pods; fails when the API server does not answer.
    Status(Choice),
    /// Print the shell commands that make the cluster the current one: eval "$(cargo xtask cluster env)"
    Env(Choice),
}

/// A cluster that may not be there yet.
#[derive(Args)]
pub struct New {
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub kind: Options,
}

#[derive(Args)]
pub struct Choice {
    /// Where the cluster comes from. By default the one that `up` chose, else what this machine can do.
    #[arg(long, env = "MLOP_CLUSTER")]
    pub provider: Option<Provider>,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up(new) => up(new),
        Command::Build(new) => new.cluster()?.build(),
        Command::Down(choice) => down(choice),
        Command::Status(choice) => status(choice),
        Command::Env(choice) => env(choice),
    }
}

fn up(new: &New) -> Result<()> {
    let cluster = new.cluster()?;
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
    for (name, value) in cluster.node_access()? {
        println!("export {name}='{}'", value.display());
    }
    println!("export PATH='{}':\"$PATH\"", paths::bin()?.display());
    Ok(())
}

impl New {
    /// The cluster that is meant; an error says what this machine lacks for it.
    pub fn cluster(&self) -> Result<Box<dyn Cluster>> {
        let cluster = self.choice.of(&self.kind)?;
        if self.kind.nodes > 1 && cluster.provider() != Provider::Kind {
            bail!("a {} cluster has one node: choose --provider kind for several", cluster.provider().name());
        }
        Ok(cluster)
    }
}

impl Choice {
    /// The cluster that is meant; an error says what this machine lacks for it.
    pub fn cluster(&self) -> Result<Box<dyn Cluster>> {
        self.of(&Options::of_environment())
    }

    fn of(&self, options: &Options) -> Result<Box<dyn Cluster>> {
        if let Some(provider) = self.provider.or_else(remembered) {
            let cluster = cluster(provider, options);
            let missing = cluster.missing();
            if !missing.is_empty() {
                bail!("no {} cluster on this machine: {}", provider.name(), missing.join("; "));
            }
            return Ok(cluster);
        }
        let mut reasons = String::new();
        for provider in [Provider::Local, Provider::Kind] {
            let cluster = cluster(provider, options);
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

fn cluster(provider: Provider, options: &Options) -> Box<dyn Cluster> {
    match provider {
        Provider::Local => Box::new(Local),
        Provider::Kind => Box::new(Kind::new(options)),
        Provider::Current => Box::new(Current),
    }
}

/// Gives `command` the cluster as `cargo xtask cluster env` prints it.
pub fn environment(command: &mut std::process::Command, cluster: &dyn Cluster) -> Result<()> {
    command.env("KUBECONFIG", cluster.kubeconfig()?).env("MLOP_CLUSTER", cluster.provider().name());
    if let Some(log) = cluster.audit_log()? {
        command.env("MLOP_AUDIT_LOG", log);
    }
    command.envs(cluster.node_access()?);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([paths::bin()?].into_iter().chain(std::env::split_paths(&path)))?;
    command.env("PATH", path);
    Ok(())
}

/// A task as a person would start it, with this cluster.
pub fn task(args: &[&str], cluster: &dyn Cluster) -> Result<std::process::Command> {
    let mut command = build::task(args)?;
    command.env("MLOP_CLUSTER", cluster.provider().name());
    Ok(command)
}

fn chosen() -> Result<PathBuf> {
    Ok(paths::built()?.join("provider"))
}

fn remembered() -> Option<Provider> {
    let name = fs::read_to_string(chosen().ok()?).ok()?;
    Provider::from_str(name.trim(), false).ok()
}
