//! The commands that read.

use super::{
    format::{Format, Graph, NOT_READY, Plain, document},
    screen::Screen,
};
use crate::{
    cluster::{Cluster, Objects, Place},
    diff, kinds, names,
    output::{json, yaml},
    queue, rollout,
    snapshot::{ObjectId, Snapshot},
    status::{self, Chain, Width},
    trace, versions,
    why::{self, Explanation, Summary},
};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use mlop_api::kinds::Class;
use std::{process::ExitCode, time::Duration};

/// Time after which a live status shows its ages again.
const TICK: Duration = Duration::from_secs(1);
/// The same where nobody looks at ages.
const LONG_TICK: Duration = Duration::from_secs(3_600);

pub(super) const STATUS_HELP: &str = "\
States:
  ✓ ready     in use, made from the newest inputs
  ~ behind    in use; something newer is on its way, or held back by you
  ! blocked   in use; something newer has failed
  … pending   on its way: waiting helps
  ✗ failed    not usable, because something has failed; `kubectl mlop why NAME` says what to do

Examples:
  kubectl mlop status
  kubectl mlop status --watch
  kubectl mlop status delay -o wide
  kubectl mlop status -A --exit-code       for scripts: exit status 3 unless everything is ready";

pub(super) const WHY_HELP: &str = "\
Examples:
  kubectl mlop why                         every cause in the namespace, the worst first
  kubectl mlop why delay
  kubectl mlop why dset/flights
  kubectl mlop why delay -o json --exit-code";

pub(super) const TRACE_HELP: &str = "\
Examples:
  kubectl mlop trace delay
  kubectl mlop trace trun/delay-ed97b84d16b1
  kubectl mlop trace --digest sha256:9f2c41d8a7e2
  kubectl mlop trace delay -o dot | dot -Tsvg > trace.svg
  kubectl mlop trace delay -o mermaid";

pub(super) const DIFF_HELP: &str = "\
A and B are runs, objects (their run in use), or OBJECT@VERSION: a number in the registry, or the name of a run.
Inputs that differ are followed upstream to what made them differ.

Examples:
  kubectl mlop diff delay-3b0c41d8a7e2 delay-b91f02c6e4d5
  kubectl mlop diff model/delay@1 model/delay@2
  kubectl mlop diff trun/delay-3b0c41d8a7e2 tjob/delay";

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Show only the chains with an object of this name.
    name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show every change until interrupted.
    #[arg(short, long, conflicts_with = "exit_code")]
    watch: bool,
    /// Exit with status 3 unless everything is ready and up to date.
    #[arg(long)]
    exit_code: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Status {
    pub(super) async fn run(self, place: Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(&Place { all_namespaces: self.all_namespaces, ..place }).await?;
        if self.watch {
            self.watch(&cluster, screen).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let chains = self.chains(&cluster.snapshots(screen.now()).await?)?;
        screen.print(&self.render(&chains, screen)?)?;
        Ok(code(!self.exit_code || chains.iter().all(Chain::is_ready)))
    }

    async fn watch(&self, cluster: &Cluster, screen: &Screen) -> Result<()> {
        let tick = if screen.is_terminal { TICK } else { LONG_TICK };
        let mut shown = String::new();
        let show = |objects: &Objects| {
            let chains = self.chains(&cluster.split(objects.clone(), screen.now()))?;
            let text = self.render(&chains, screen)?;
            if text != shown {
                screen.replace(&text)?;
                shown = text;
            }
            Ok(())
        };
        cluster.watch(tick, show).await
    }

    fn chains(&self, snapshots: &[Snapshot]) -> Result<Vec<Chain>> {
        let Some(name) = &self.name else {
            return Ok(snapshots.iter().map(|snapshot| Chain::of(snapshot, None)).collect());
        };
        let mut chains = Vec::new();
        let mut missing = None;
        for snapshot in snapshots {
            match names::candidates(snapshot, name) {
                // A run stands for its intent.
                Ok(found) => {
                    let ids: Vec<ObjectId> = found
                        .into_iter()
                        .map(|object| object.intent().unwrap_or_else(|| object.id.clone()))
                        .collect();
                    chains.push(Chain::of(snapshot, Some(&ids)));
                }
                Err(error) => missing = missing.or(Some(error)),
            }
        }
        match missing {
            Some(error) if chains.is_empty() => Err(error),
            _ => Ok(chains),
        }
    }

    fn render(&self, chains: &[Chain], screen: &Screen) -> Result<String> {
        match (self.output, chains) {
            (Format::Json, [chain]) if !self.all_namespaces => json(chain),
            (Format::Yaml, [chain]) if !self.all_namespaces => yaml(chain),
            (Format::Json, chains) => json(&chains),
            (Format::Yaml, chains) => yaml(&chains),
            (Format::Text, chains) => Ok(self.text(chains, Width::Normal, screen)),
            (Format::Wide, chains) => Ok(self.text(chains, Width::Wide, screen)),
        }
    }

    fn text(&self, chains: &[Chain], width: Width, screen: &Screen) -> String {
        let mut texts = Vec::new();
        for chain in chains {
            let is_empty = chain.nodes.is_empty() && chain.connections.is_empty();
            let tree = if is_empty {
                format!(
                    "namespace {} has no objects of mlop; -n chooses another one, -A shows all\n",
                    chain.namespace
                )
            } else {
                status::tree(chain, width, screen.style)
            };
            let title = screen.style.bold(&format!("namespace {}", chain.namespace));
            texts.push(if self.all_namespaces && !is_empty { format!("{title}\n{tree}") } else { tree });
        }
        if texts.is_empty() {
            return "no namespace has objects of mlop\n".to_owned();
        }
        texts.join("\n")
    }
}

#[derive(Debug, Args)]
pub(super) struct Why {
    /// The object: NAME or KIND/NAME. Without it: every cause in the namespace.
    name: Option<String>,
    /// Exit with status 3 unless the object, or every object, is ready and up to date.
    #[arg(long)]
    exit_code: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Why {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let Some(name) = &self.name else {
            let summary = Summary::of(&snapshot);
            screen.print(&match self.output {
                Plain::Text => why::summary_text(&summary, &snapshot, screen.style),
                other => document(other, &summary)?,
            })?;
            return Ok(code(!self.exit_code || summary.is_ready()));
        };
        let found = names::candidates(&snapshot, name)?;
        let object = found.first().with_context(|| format!("there is no object {name}"))?;
        let explanation = Explanation::of(&snapshot, object);
        screen.print(&match self.output {
            Plain::Text => why::text(&explanation, snapshot.now, screen.style),
            other => document(other, &explanation)?,
        })?;
        Ok(code(!self.exit_code || explanation.is_ready()))
    }
}

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// The object or run whose artifact is traced: NAME or KIND/NAME.
    #[arg(required_unless_present = "digest")]
    name: Option<String>,
    /// The digest of the artifact, or its beginning.
    #[arg(long, conflicts_with = "name", value_name = "DIGEST")]
    digest: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Graph,
}

impl Trace {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let trace = match (&self.digest, &self.name) {
            (Some(digest), _) => trace::Trace::of_digest(&snapshot, digest)?,
            (None, Some(name)) => trace::Trace::of(&snapshot, trace::start(&snapshot, name)?)?,
            (None, None) => bail!("want a name or --digest"),
        };
        screen.print(&match self.output {
            Graph::Tree => trace::tree(&trace, screen.style),
            Graph::Json => json(&trace)?,
            Graph::Yaml => yaml(&trace)?,
            Graph::Dot => trace::dot(&trace),
            Graph::Mermaid => trace::mermaid(&trace),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct Versions {
    /// The object: NAME or KIND/NAME.
    name: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Versions {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let mut all: Vec<versions::Versions> = Vec::new();
        for object in names::candidates(&snapshot, &self.name)? {
            let Some(owner) = versions::owner(&snapshot, object).filter(|owner| owner.class == Class::Intent)
            else {
                continue;
            };
            if !all.iter().any(|known| known.object == owner.id) {
                all.push(versions::Versions::of(&snapshot, owner));
            }
        }
        if all.is_empty() {
            let kinds: Vec<_> = kinds::all()
                .iter()
                .filter(|kind| kind.class == Class::Intent)
                .map(|kind| kind.kind.as_str())
                .collect();
            bail!("{} has no versions; these kinds have: {}", self.name, kinds.join(", "));
        }
        screen.print(&match self.output {
            Plain::Text => {
                let texts: Vec<_> = all.iter().map(|one| versions::table(one, screen.style)).collect();
                texts.join("\n")
            }
            Plain::Json => json(&all)?,
            Plain::Yaml => yaml(&all)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct Rollout {
    /// The ModelDeployment: NAME or KIND/NAME.
    name: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Rollout {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let rollout = rollout::of(&snapshot, &self.name)?;
        screen.print(&match self.output {
            Plain::Text => rollout::text(&rollout, snapshot.now),
            other => document(other, &rollout)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct Queue {
    /// The TrainingQueue. Without it: all of the cluster.
    name: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Queue {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let queues = Cluster::connect(place).await?.queues().await?;
        let queues = queue::of(&queues, self.name.as_deref())?;
        screen.print(&match self.output {
            Format::Text => queue::text(&queues, Width::Normal, screen.now()),
            Format::Wide => queue::text(&queues, Width::Wide, screen.now()),
            Format::Json => json(&queues)?,
            Format::Yaml => yaml(&queues)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// A run, an object, or OBJECT@VERSION.
    a: String,
    /// Another one of the same kind.
    b: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Diff {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let diff = diff::Diff::of(&snapshot, diff::run(&snapshot, &self.a)?, diff::run(&snapshot, &self.b)?)?;
        screen.print(&match self.output {
            Plain::Text => diff::text(&diff, screen.style),
            other => document(other, &diff)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn code(is_ready: bool) -> ExitCode {
    if is_ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) }
}
