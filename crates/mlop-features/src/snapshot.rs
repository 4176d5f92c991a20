//! Computes a view's table: SQL over its inputs, sorted, as Parquet.

use crate::{
    query::{Roles, Tables, execution_failed, planning_failed},
    served::{LeftOut, Servable},
    text::count,
    writer,
};
use futures::TryStreamExt;
use mlop_api::{
    Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::SnapshotWork,
};
use mlop_artifact::{
    manifest::{self, TableManifest},
    store::ObjectStoreHandle,
    table,
};
use std::{fs, path::Path};

/// Does `work`: downloads into the empty directory `scratch` and writes to `output`. `open` gives the store of an input.
///
/// # Errors
/// `QueryInvalid` when the SQL cannot run on these inputs or yields no such table, `OutOfMemory` when it does not fit,
/// `InputCorrupt` when an input does not have the published digest; otherwise as the stores say.
pub async fn run(
    work: &SnapshotWork,
    output: &ObjectStoreHandle,
    open: impl Fn(&mlop_api::task::Store) -> Result<ObjectStoreHandle, Failure>,
    scratch: &Path,
) -> Result<ResultDocument, Failure> {
    let (inputs, spill) = (scratch.join("inputs"), scratch.join("spill"));
    fs::create_dir(&spill).map_err(|error| {
        Failure::transient(Reason::WorkerFailed, format!("making {}: {error}", spill.display()))
    })?;
    let tables = Tables::new(work.memory_bytes, &spill)?;
    for (index, input) in work.inputs.iter().enumerate() {
        // The input's name may be no file name.
        let directory = inputs.join(index.to_string());
        let manifest = table::download(&open(&input.store)?, &input.digest, &directory).await?;
        tracing::info!(input = input.name, digest = %input.digest, rows = manifest.rows, "downloaded");
        tables.add(&input.name, &manifest, &directory).await?;
    }
    let roles = Roles { entities: &work.content.entities, timestamp: &work.content.timestamp };
    let frame = tables.query(&work.content.sql, &roles).await?;
    let schema = frame.schema().inner().clone();
    let features = schema.fields().iter().filter(|field| !roles.contains(field.name())).count();
    let plan = frame.create_physical_plan().await.map_err(planning_failed)?;
    let rows = datafusion::physical_plan::execute_stream(plan, tables.context()).map_err(execution_failed)?;
    let servable = Servable::of(&schema, &work.content.entities, &work.content.timestamp, work.as_of);
    let servable = servable.map_err(|error| execution_failed(error.into()))?;
    let mut left_out = LeftOut::default();
    let rows = rows.map_err(execution_failed).inspect_ok(|batch| left_out += servable.count(batch));
    let table = writer::write(output, scratch, &schema, rows).await?;
    let published = manifest::publish(output, table).await?;
    let mut result = result(&published.manifest, published.digest, features)?;
    if !left_out.is_empty() {
        result.summary = result.summary.map(|summary| format!("{summary}; {left_out}"));
        result.metrics.push(Metric::new("rows_not_online", (left_out.nameless + left_out.later) as f64));
    }
    Ok(result)
}

fn result(
    table: &TableManifest,
    digest: mlop_api::Digest,
    features: usize,
) -> Result<ResultDocument, Failure> {
    Ok(ResultDocument {
        digest: Some(digest),
        schema_digest: Some(manifest::schema_digest(&table.schema)?),
        metrics: vec![
            Metric::new("rows", table.rows as f64),
            Metric::new("features", features as f64),
            Metric::new("bytes", table.parts.iter().map(|part| part.bytes).sum::<u64>() as f64),
        ],
        summary: Some(format!(
            "{}, {}",
            count(table.rows, "row", "rows"),
            count(features as u64, "feature", "features")
        )),
        ..ResultDocument::default()
    })
}
