//! The commands that ask servers: a model, and the online features.

use super::{
    format::{Plain, document},
    screen::{Screen, read_text},
};
use crate::{
    cluster::{Cluster, Place, Prediction},
    columns::Column,
    names, online,
    predict::{self, Answer, Body},
    snapshot::{Object, Snapshot},
};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use mlop_api::text::printable;
use std::{path::PathBuf, process::ExitCode};

pub(super) const PREDICT_HELP: &str = "\
Without -f and --input it shows the inputs that the model expects, and how to send them.
A FILE has rows, as CSV with a header or as a JSON list of objects, or it is a request of the Open Inference Protocol (V2),
a JSON object with inputs. It needs get and create of pods/portforward, which the cluster role edit allows.

Examples:
  kubectl mlop predict delay
  kubectl mlop predict delay --input distance=2475,229 --input hour=17,6
  kubectl mlop predict delay -f rows.csv
  kubectl mlop predict delay -f request.json -o json";

pub(super) const FEATURES_HELP: &str = "\
Name each entity column of the view, with one value per entity. Values of digits are integers. Write texts of digits, and
texts with commas, as JSON: --entity 'zip=[\"10115\"]'.
Statuses: PRESENT, NOT_FOUND (no such entity), NULL_VALUE, OUTSIDE_MAX_AGE (older than the ttl of the view).
It needs get and create of pods/portforward, which the cluster role edit allows.

Examples:
  kubectl mlop get-features users --entity user_id=5,6
  kubectl mlop get-features route-delays --entity origin=JFK,EWR --entity dest=LAX,SFO --entity carrier=AA,UA
  kubectl mlop get-features users --entity user_id=5 --features visits,spent -o json";

#[derive(Debug, Args)]
pub(super) struct Predict {
    /// The ModelDeployment: NAME or KIND/NAME.
    name: String,
    /// Rows or a request; - is the standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "input")]
    file: Option<PathBuf>,
    /// An input and its values, one per row: NAME=VALUE,VALUE or NAME=[JSON].
    #[arg(long, value_name = "NAME=VALUE", value_parser = Column::parse)]
    input: Vec<Column>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Predict {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let body = match &self.file {
            Some(file) => Some(Body::read(&read_text(file)?)?),
            None => (!self.input.is_empty()).then_some(Body::Columns(self.input)),
        };
        let cluster = Cluster::connect(place).await?;
        let snapshot = cluster.snapshot(screen.now()).await?;
        let object = of_kind(&snapshot, &self.name, "predict", "ModelDeployment")?;
        let serving = &object.status.serving;
        let Some(body) = body else {
            let metadata = cluster.model_metadata(object).await?;
            screen.print(&match self.output {
                Plain::Text => predict::inputs(&metadata, &object.id, &predict::version(serving, None))?,
                other => document(other, &metadata)?,
            })?;
            return Ok(ExitCode::SUCCESS);
        };
        let Prediction { answer, left_out } = cluster.predict(object, body).await?;
        if !left_out.is_empty() {
            eprintln!("not inputs of the model, left out: {}", printable(&left_out.join(", ")));
        }
        screen.print(&match self.output {
            Plain::Text => {
                let answer: Answer = serde_json::from_value(answer)
                    .context("the answer does not have the form of the protocol")?;
                let version = predict::version(serving, answer.model_version.as_deref());
                predict::answer(&answer, &object.id, &version)
            }
            other => document(other, &answer)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct GetFeatures {
    /// The FeatureView: NAME or KIND/NAME.
    name: String,
    /// An entity column and its values, one per entity: NAME=VALUE,VALUE or NAME=[JSON].
    #[arg(long, value_name = "NAME=VALUE", required = true, value_parser = Column::parse)]
    entity: Vec<Column>,
    /// Names of features; without it all of the view.
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl GetFeatures {
    pub(super) async fn run(self, place: &Place, screen: &Screen) -> Result<ExitCode> {
        let cluster = Cluster::connect(place).await?;
        let snapshot = cluster.snapshot(screen.now()).await?;
        let view = of_kind(&snapshot, &self.name, "get-features", "FeatureView")?;
        let answer = cluster.online_features(&snapshot, view, &self.entity, &self.features).await?;
        screen.print(&match self.output {
            Plain::Text => online::table(&answer, view),
            other => document(other, &answer)?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The object of `kind` that `name` means.
fn of_kind<'a>(snapshot: &'a Snapshot, name: &str, command: &str, kind: &str) -> Result<&'a Object> {
    let object = names::single(snapshot, name, command, |object| object.id.kind == kind)?;
    if object.id.kind != kind {
        bail!("{} is not a {kind}: {command} asks one", object.id);
    }
    Ok(object)
}
