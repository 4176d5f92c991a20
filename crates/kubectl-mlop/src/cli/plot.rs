//! The command that plots.

use super::screen::Screen;
use crate::{
    cluster::{Cluster, Place},
    output::json,
    plot::{Plot, html, text},
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;

pub(super) const HELP: &str = "\
The points are those of the status: at most 64 of each of at most 4 metrics. The whole series of an attempt is in the
store: series/<uid of the run>/<attempt>.ndjson.

Examples:
  kubectl mlop plot delay
  kubectl mlop plot trun/delay-ed97b84d16b1 --metric accuracy
  kubectl mlop plot delay -o html > delay.html";

#[derive(Debug, Args)]
pub(super) struct Curves {
    /// The TrainingJob, or one of its runs: NAME or KIND/NAME.
    name: String,
    /// Only this metric.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    #[default]
    Text,
    /// A page of its own, with pictures.
    Html,
    Json,
}

impl Curves {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let snapshot = Cluster::connect(place).await?.snapshot(screen.now()).await?;
        let plot = Plot::of(&snapshot, &self.name, self.metric.as_deref())?;
        screen.print(&match self.output {
            Form::Text => text(&plot),
            Form::Html => html(&plot),
            Form::Json => json(&plot)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
