//! Runs a view's SQL over its input tables.
//!
//! The same SQL over the same tables yields the same rows in the same order: statements other than one query and
//! functions that depend on the time or on chance are refused, one thread does the work (the last digits of a
//! floating-point sum depend on the order of its terms), and the result is sorted by all its columns.

mod aggregate;
mod arithmetic;
mod check;
mod distinct;
mod failure;
mod union;

pub use check::Roles;
pub use failure::{execution_failed, planning_failed};

use crate::types;
use arrow::datatypes::DataType;
use datafusion::{
    common::TableReference,
    dataframe::DataFrame,
    execution::{
        TaskContext,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::FairSpillPool,
        runtime_env::RuntimeEnvBuilder,
        session_state::SessionStateBuilder,
    },
    functions::math::expr_fn::nanvl,
    logical_expr::{Expr, SortExpr, cast, ident, lit},
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use mlop_api::{Reason, result::Failure};
use mlop_artifact::{manifest::TableManifest, table::part_file};
use std::{path::Path, sync::Arc};

/// Rows that the engine handles at a time.
const BATCH_ROWS: usize = 8_192;

/// Memory that each sort sets aside for merging its spilled rows; a query may have several sorts.
const MERGE_BYTES_MAX: usize = 10 << 20;

/// The tables that a query may read.
pub struct Tables(SessionContext);

impl Tables {
    /// No tables yet. A query over them uses at most `memory_bytes` and then spills to the directory `spill`.
    ///
    /// # Errors
    /// When `spill` cannot be used.
    pub fn new(memory_bytes: u64, spill: &Path) -> Result<Self, Failure> {
        let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
        let disk =
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.to_owned()]));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(memory)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(execution_failed)?;
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS)
            .with_sort_spill_reservation_bytes(MERGE_BYTES_MAX.min(memory / 8))
            .with_information_schema(false);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_analyzer_rule(Arc::new(arithmetic::MakeReliable))
            .build();
        let context = SessionContext::new_with_state(state);
        aggregate::functions().for_each(|function| context.register_udaf(function));
        Ok(Self(context))
    }

    /// Makes the table that was downloaded into `directory` known as `name`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn add(&self, name: &str, manifest: &TableManifest, directory: &Path) -> Result<(), Failure> {
        let parts = 0..manifest.parts.len();
        let paths: Vec<_> = parts.map(|index| part_file(directory, index).display().to_string()).collect();
        if paths.is_empty() {
            let message = format!("input {name:?} is a table without parts, not even one for its columns");
            return Err(Failure::terminal(Reason::InputCorrupt, message));
        }
        let table =
            self.0.read_parquet(paths, ParquetReadOptions::default()).await.map_err(execution_failed)?;
        self.0.register_table(TableReference::bare(name), table.into_view()).map_err(execution_failed)?;
        Ok(())
    }

    /// The context in which a plan over these tables is executed.
    pub fn context(&self) -> Arc<TaskContext> {
        self.0.task_ctx()
    }

    /// Plans `sql`, whose result must have the columns of `roles`.
    ///
    /// # Errors
    /// `QueryInvalid`, with the engine's message or the flaw of the result's columns.
    pub async fn query(&self, sql: &str, roles: &Roles<'_>) -> Result<DataFrame, Failure> {
        let state = self.0.state();
        let plan = check::plan(&state, sql).await?;
        let columns = check::columns(plan.schema(), roles)?;
        DataFrame::new(state, plan)
            .select(columns)
            .and_then(|frame| {
                let order = order(&frame, roles);
                frame.sort(order)
            })
            .map_err(planning_failed)
    }
}

/// By entity, then by time, then by everything else: the newest row of an entity is its last one.
fn order(frame: &DataFrame, roles: &Roles<'_>) -> Vec<SortExpr> {
    let names = frame.schema().fields().iter().map(|field| field.name().as_str());
    let rest = names.filter(|name| !roles.contains(name));
    let first = roles.entities.iter().map(String::as_str).chain([roles.timestamp]);
    first.chain(rest).map(|name| ident(name).sort(true, true)).collect()
}

/// `column` under the type in which tables keep it.
fn stored(column: Expr, name: &str, from: &DataType) -> Option<Expr> {
    let to = types::stored(from)?;
    let column = if *from == to { column } else { cast(column, to.clone()) };
    // The sign of NaN differs between processors, and with it the order of rows.
    let column = match to {
        DataType::Float32 => nanvl(column, lit(f32::NAN)),
        DataType::Float64 => nanvl(column, lit(f64::NAN)),
        _ => column,
    };
    Some(column.alias(name))
}
