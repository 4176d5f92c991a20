//! `cargo xtask images`: the container images of mlop, and those that the demo and the end-to-end tests need.
pub mod container;
mod rust;

pub use rust::programs;

use anyhow::{Result, bail};

use crate::archive::{Archive, reference};
use crate::cache;
use crate::cluster::{self, Choice};
use crate::progress::{Outcome, Steps, note};

#[derive(clap::Args)]
#[command(
    after_help = "Images of a release, as archives for your registry: cargo xtask images --profile release --no-load\n\
                        After an edit of one operator: cargo xtask images --only mlop-training, then cargo xtask install"
)]
pub struct Args {
    /// Only these images, by their short names. Those of PyTorch and of OpenBao are built only when they are named.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Build without loading into the cluster.
    #[arg(long)]
    no_load: bool,
    /// Cargo profile of mlop's programs: `e2e` compiles faster, `release` is for publishing.
    #[arg(long, default_value = "e2e")]
    profile: String,
    #[command(flatten)]
    choice: Choice,
}

pub fn run(args: &Args) -> Result<()> {
    let (crates, containers) = args.wanted()?;
    let cluster = args.choice.cluster()?;
    let builder = container::Builder::of_this_machine()?;

    let mut steps =
        Steps::new(containers.len() + usize::from(!crates.is_empty()) + usize::from(!args.no_load));
    let mut archives: Vec<Archive> = Vec::new();
    let mut broken: Vec<&str> = Vec::new();
    if !crates.is_empty() {
        steps.run("mlop's programs", || {
            (archives, broken) = rust::build(&crates, &args.profile)?;
            Ok(Outcome::Done)
        })?;
    }
    for container in containers {
        steps.run(container.name, || {
            let (archive, built) = builder.build(container)?;
            archives.push(archive);
            Ok(if built { Outcome::Done } else { Outcome::Present })
        })?;
    }
    if args.no_load {
        archives.iter().for_each(|archive| note(&archive.path.display().to_string()));
    } else {
        steps.run("load", || {
            let _lock = cache::lock()?;
            let loaded = cluster::load(cluster.as_ref(), &archives)?;
            loaded.iter().for_each(|name| note(&reference(name)));
            Ok(if loaded.is_empty() { Outcome::Present } else { Outcome::Done })
        })?;
    }
    if !broken.is_empty() {
        bail!("{} did not compile, so there is no new image: cargo's errors are above", broken.join(", "));
    }
    Ok(())
}

/// How an image is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program of this repository and nothing else.
    Program,
    /// From a Containerfile.
    Container,
}

/// The command line that builds all images of `kind` and loads none.
pub fn arguments(kind: Kind) -> Vec<&'static str> {
    let names: Vec<&str> = match kind {
        Kind::Program => rust::programs(),
        Kind::Container => container::ALL.iter().map(|container| container.name).collect(),
    };
    [&["images", "--no-load", "--only"], names.as_slice()].concat()
}

impl Args {
    fn wanted(&self) -> Result<(Vec<&'static str>, Vec<&'static container::Container>)> {
        let containers = || container::ALL.iter().chain(&container::BY_NAME);
        let known: Vec<&str> = rust::programs().into_iter().chain(containers().map(|c| c.name)).collect();
        if let Some(unknown) = self.only.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("there is no image {unknown}; there are {}", known.join(", "));
        }
        let wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let crates = rust::programs().into_iter().filter(|name| wanted(name)).collect();
        let named = container::BY_NAME.iter().filter(|c| self.only.iter().any(|only| only == c.name));
        Ok((crates, container::ALL.iter().filter(|c| wanted(c.name)).chain(named).collect()))
    }
}
