//! The commands that look at pods and Events.

use super::{
    format::{Plain, document},
    screen::Screen,
};
use crate::{
    cluster::{Cluster, Place, copy_lines},
    events, names, pods,
    snapshot::Object,
};
use anyhow::{Context as _, Result};
use clap::Args;
use kube::api::LogParams;
use mlop_api::text::printable;
use std::process::ExitCode;

pub(super) const LOGS_HELP: &str = "\
Of an intent it is the newest attempt of its newest run, of a ModelDeployment a server, of a connection its check.
Containers: `user` is your command or model server, `worker` is mlop's own; without -c it is yours if there is one.

Examples:
  kubectl mlop logs tjob/delay
  kubectl mlop logs -f tjob/delay
  kubectl mlop logs tjob/delay -c worker
  kubectl mlop logs trun/delay-ed97b84d16b1 --tail 50";

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The object or run: NAME or KIND/NAME.
    name: String,
    /// Go on until the container ends.
    #[arg(short, long)]
    follow: bool,
    /// `user`, `worker`, or the name of a container.
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// The container before its last restart.
    #[arg(short, long)]
    previous: bool,
}

impl Logs {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(place).await?;
        let snapshot = cluster.snapshot(screen.now()).await?;
        // Of several objects with the name, the one that works now is meant.
        let works = |object: &Object| snapshot.active_run(&object.id).is_some();
        let object = names::single(&snapshot, &self.name, "logs", works)?;
        let pods = cluster.pods(object).await?;
        let choice = pods::choose(&snapshot, object, &pods, self.container.as_deref())?;
        let others = match choice.others.as_slice() {
            [] => String::new(),
            others => format!("; -c chooses another: {}", others.join(", ")),
        };
        eprintln!("container {} of pod {}{others}", choice.container, choice.pod);
        let params = LogParams {
            follow: self.follow,
            tail_lines: self.tail.map(i64::from),
            previous: self.previous,
            ..LogParams::default()
        };
        let log = cluster.logs(&choice, params).await?;
        copy_lines(log, |line| screen.print(&format!("{}\n", printable(line)))).await?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// The object: NAME or KIND/NAME.
    name: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Events {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(place).await?;
        let snapshot = cluster.snapshot(screen.now()).await?;
        let found = names::candidates(&snapshot, &self.name)?;
        let object = found.first().with_context(|| format!("there is no object {}", self.name))?;
        let pods = cluster.pods(object).await?;
        let entries = events::of(&snapshot, object, &pods, &cluster.events().await?);
        screen.print(&match self.output {
            Plain::Text => events::table(&entries, &object.id, snapshot.now),
            other => document(other, &entries)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
