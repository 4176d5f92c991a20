//! The commands that change an object.

use super::{
    format::{Plain, document},
    screen::Screen,
};
use crate::{
    actions::{self, Change},
    cluster::{Cluster, Place},
    dead_letters,
    output::clean,
    snapshot::Snapshot,
};
use anyhow::{Result, bail};
use clap::Args;
use mlop_api::text::printable;
use std::process::ExitCode;

pub(super) const PIN_HELP: &str = "\
RUN is the name of a run that has succeeded, or its version in the registry; `kubectl mlop versions NAME` lists both.

Examples:
  kubectl mlop pin model/delay delay-3b0c41d8a7e2
  kubectl mlop pin model/delay 2
  kubectl mlop unpin model/delay";

#[derive(Debug, Args)]
pub(super) struct Target {
    /// The object: NAME or KIND/NAME.
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct Pin {
    /// The object: NAME or KIND/NAME.
    name: String,
    /// The run to publish again.
    run: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Only show what would be changed; the API server checks it.
    #[arg(long)]
    dry_run: bool,
}

impl Target {
    pub(super) async fn run(
        self,
        place: &Place,
        screen: &Screen,
        decide: impl FnOnce(&Snapshot, &str) -> Result<Change>,
    ) -> Result<ExitCode> {
        self.how.carry_out(place, screen, |snapshot| decide(snapshot, &self.name)).await
    }
}

impl Pin {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        self.how.carry_out(place, screen, |snapshot| actions::pin(snapshot, &self.name, &self.run)).await
    }
}

impl How {
    async fn carry_out(
        &self,
        place: &Place,
        screen: &Screen,
        decide: impl FnOnce(&Snapshot) -> Result<Change>,
    ) -> Result<ExitCode> {
        let cluster = Cluster::connect(place).await?;
        let change = decide(&cluster.snapshot(screen.now()).await?)?;
        cluster.apply(&change, self.dry_run).await?;
        screen.print(&said(&change, self.dry_run))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a change says, and the patch of a dry run.
fn said(change: &Change, dry_run: bool) -> String {
    let mut text = String::new();
    if let Some(patch) = change.patch.as_ref().filter(|_| dry_run) {
        text = format!(
            "dry run, nothing is changed; the merge patch of {} would be {patch}\nwithout --dry-run it says:\n",
            change.object
        );
    }
    for line in &change.says {
        text.push_str(&clean(line));
        text.push('\n');
    }
    text
}

#[derive(Debug, Args)]
pub(super) struct DeadLetters {
    /// Retry those that are the present inputs of their objects.
    #[arg(long, conflicts_with = "all_namespaces")]
    replay: bool,
    /// All namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl DeadLetters {
    pub(super) async fn run(self, place: Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(&Place { all_namespaces: self.all_namespaces, ..place }).await?;
        if self.replay {
            return replay(&cluster, screen).await;
        }
        for snapshot in cluster.snapshots(screen.now()).await? {
            let entries = dead_letters::of(&snapshot);
            if entries.is_empty() && self.all_namespaces {
                continue;
            }
            let title = if self.all_namespaces {
                format!("namespace {}\n", snapshot.namespace)
            } else {
                String::new()
            };
            screen.print(&match self.output {
                Plain::Text => title + &dead_letters::table(&entries, snapshot.now),
                other => document(other, &entries)?,
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn replay(cluster: &Cluster, screen: &Screen) -> Result<ExitCode> {
    let snapshot = cluster.snapshot(screen.now()).await?;
    let changes = dead_letters::replay(&snapshot)?;
    if changes.is_empty() {
        screen.print("no dead letter is the present inputs of its object: nothing to replay\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for change in &changes {
        match cluster.apply(change, false).await {
            Ok(()) => screen.print(&said(change, false))?,
            Err(error) => {
                failed += 1;
                eprintln!("error: {}", printable(&format!("{error:#}")));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} retries failed", changes.len());
    }
    Ok(ExitCode::SUCCESS)
}
