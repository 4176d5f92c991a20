//! Forms of output, and exit statuses.

use crate::output::{json, yaml};
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// Exit status when `--exit-code` is given and something is not ready.
pub(super) const NOT_READY: u8 = 3;

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For people, with more columns.
    Wide,
    Json,
    Yaml,
}

/// A form of output without further columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Plain {
    /// For people.
    #[default]
    Text,
    Json,
    Yaml,
}

/// A form of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Graph {
    /// For people.
    #[default]
    Tree,
    Json,
    Yaml,
    /// For Graphviz: `| dot -Tsvg > trace.svg`.
    Dot,
    /// For Markdown pages.
    Mermaid,
}

/// A model as a document.
pub(super) fn document(format: Plain, model: &impl Serialize) -> Result<String> {
    if format == Plain::Yaml { yaml(model) } else { json(model) }
}
