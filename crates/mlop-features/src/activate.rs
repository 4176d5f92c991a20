//! Loads a view's table into the online store and serves it from there.

use crate::{
    cell::Cell,
    feast::{
        EntityValue,
        key::{entity_key, field, timestamp_field},
        value::encode_time,
    },
    newest::Newest,
    online::{
        Entity, EntityKind, Schema,
        connection::Server,
        load::{Claim, Load, Row, View},
    },
    served::{LeftOut, Servable},
    text::count,
};
use arrow::{
    array::{RecordBatch, RecordBatchReader},
    datatypes::SchemaRef,
};
use mlop_api::{
    Digest, Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::Online,
};
use mlop_artifact::{
    manifest::{ColumnSchema, TableManifest},
    store::ObjectStoreHandle,
    table,
};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::{collections::BTreeMap, fs::File, path::Path};

/// Entities that are sent to Redis at once. Part of the [layout](crate::online): the number of a batch names its keys.
const BATCH_ENTITIES: usize = 1_000;
/// Rows of the table that are read at a time.
const BATCH_ROWS: usize = 1_024;

/// Serves the table `digest` of `store` as `online` says, downloading into the directory `scratch`.
///
/// # Errors
/// `ActivationSuperseded` when the online store is further than this revision, `InputCorrupt` when the table is not a
/// snapshot of this view, `OnlineStoreUnreachable`; otherwise as the store says.
pub async fn run(
    online: &Online,
    digest: &Digest,
    store: &ObjectStoreHandle,
    server: Server,
    scratch: &Path,
) -> Result<ResultDocument, Failure> {
    let mut view = View::open(server, online.view.clone()).await?;
    view.check_keeps_rows().await?;
    let table: TableManifest = mlop_artifact::manifest::read(store, digest).await?;
    let schema = online_schema(online, &table.schema)?;
    let (entities, left_out) = match view.claim(online.activation.revision, digest, &schema).await? {
        Claim::Served { entities } => (entities, LeftOut::default()),
        Claim::Load(load) => {
            let directory = scratch.join("table");
            table::download(store, digest, &directory).await?;
            Activation::new(online, &schema, load).run(&directory, table.parts.len()).await?
        }
    };
    let mut summary = format!("{} online", count(entities, "entity", "entities"));
    if !left_out.is_empty() {
        summary = format!("{summary}; {left_out}");
    }
    Ok(ResultDocument {
        metrics: vec![Metric::new("entities", entities as f64)],
        summary: Some(summary),
        ..ResultDocument::default()
    })
}

/// What readers have to know of the view.
fn online_schema(online: &Online, columns: &[ColumnSchema]) -> Result<Schema, Failure> {
    let kind_of = |name: &str| {
        let found = columns.iter().find(|column| column.name == name).map(|column| column.kind.as_str());
        found.ok_or_else(|| corrupt(format!("the table has no column {name:?}")))
    };
    let mut entities = Vec::new();
    for name in &online.entities {
        let kind = match kind_of(name)? {
            "string" => EntityKind::String,
            "int64" => EntityKind::Int64,
            other => {
                return Err(corrupt(format!("the entity {name:?} has type {other}, not string or int64")));
            }
        };
        entities.push(Entity { name: name.clone(), kind });
    }
    entities.sort_by(|a, b| a.name.cmp(&b.name));
    kind_of(&online.timestamp)?;
    let names = columns.iter().map(|column| column.name.clone());
    let features: Vec<_> =
        names.filter(|name| *name != online.timestamp && !online.entities.contains(name)).collect();
    let mut fields = BTreeMap::new();
    for feature in &features {
        if let Some(other) = fields.insert(field(&online.view.name, feature), feature) {
            return Err(Failure::terminal(
                Reason::QueryInvalid,
                format!(
                    "features {other:?} and {feature:?} have the same key online: give one another name with AS"
                ),
            ));
        }
    }
    Ok(Schema { entities, timestamp: online.timestamp.clone(), features, ttl_seconds: online.ttl_seconds })
}

fn corrupt(message: String) -> Failure {
    Failure::terminal(Reason::InputCorrupt, message)
}

/// A table on its way into the online store.
struct Activation<'a> {
    online: &'a Online,
    schema: &'a Schema,
    load: Load<'a>,
    /// Rows that are not sent yet.
    waiting: Vec<Row>,
    left_out: LeftOut,
}

/// Where in the table the parts of a row lie.
struct Places {
    entities: Vec<usize>,
    timestamp: usize,
    features: Vec<(Vec<u8>, usize)>,
}

impl<'a> Activation<'a> {
    fn new(online: &'a Online, schema: &'a Schema, load: Load<'a>) -> Self {
        Self {
            online,
            schema,
            load,
            waiting: Vec::with_capacity(BATCH_ENTITIES),
            left_out: LeftOut::default(),
        }
    }

    /// Loads all parts and moves the pointer. Returns the number of entities online, and of rows that are not.
    async fn run(mut self, directory: &Path, parts: usize) -> Result<(u64, LeftOut), Failure> {
        let mut state: Option<(Places, Servable, Newest)> = None;
        for index in 0..parts {
            let reader = open(&table::part_file(directory, index))?;
            let (places, servable, newest) = match &mut state {
                Some(state) => state,
                None => state.insert(self.prepare(&reader.schema())?),
            };
            for batch in reader {
                let batch = batch.map_err(|error| corrupt(format!("reading the table: {error}")))?;
                let (batch, left_out) = servable
                    .choose(&batch)
                    .map_err(|error| corrupt(format!("reading the table: {error}")))?;
                self.left_out += left_out;
                for rows in newest.push(&batch)? {
                    self.add(places, &rows).await?;
                }
            }
        }
        if let Some((places, _, newest)) = state
            && let Some(last) = newest.finish()
        {
            self.add(&places, &last).await?;
        }
        self.send().await?;
        if !self.left_out.is_empty() {
            tracing::warn!("{}", self.left_out);
        }
        Ok((self.load.finish().await?, self.left_out))
    }

    fn prepare(&self, schema: &SchemaRef) -> Result<(Places, Servable, Newest), Failure> {
        let place = |name: &str| {
            schema.index_of(name).map_err(|_| corrupt(format!("the table has no column {name:?}")))
        };
        // The table is sorted in the order of the spec, keys are made in the order of names.
        let sorted_by = self.online.entities.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>()?;
        let entities =
            self.schema.entities.iter().map(|entity| place(&entity.name)).collect::<Result<_, _>>()?;
        let timestamp = place(&self.online.timestamp)?;
        let view = &self.online.view.name;
        let features = self.schema.features.iter();
        let features = features
            .map(|feature| Ok((field(view, feature).to_vec(), place(feature)?)))
            .collect::<Result<_, Failure>>()?;
        let newest = Newest::new(schema, &sorted_by, timestamp)?;
        let servable = Servable::new(sorted_by, timestamp, self.online.as_of);
        Ok((Places { entities, timestamp, features }, servable, newest))
    }

    async fn add(&mut self, places: &Places, rows: &RecordBatch) -> Result<(), Failure> {
        for row in 0..rows.num_rows() {
            self.waiting.extend(self.encode(places, rows, row)?);
            if self.waiting.len() == BATCH_ENTITIES {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.load.put(&self.waiting).await?;
        self.waiting.clear();
        Ok(())
    }

    /// The row as Redis holds it; none without entity or time.
    fn encode(&self, places: &Places, rows: &RecordBatch, row: usize) -> Result<Option<Row>, Failure> {
        let cell = |place: usize| {
            let schema = rows.schema_ref();
            let column =
                rows.columns().get(place).ok_or_else(|| corrupt("a part lacks a column".to_owned()))?;
            Cell::read(column, row).map_err(|flaw| flaw.in_column(schema.field(place).name()))
        };
        let mut entity = Vec::with_capacity(places.entities.len());
        for (&place, Entity { name, .. }) in places.entities.iter().zip(&self.schema.entities) {
            match cell(place)? {
                Cell::Text(text) => entity.push((name.as_str(), EntityValue::Text(text))),
                Cell::Int(number) => entity.push((name.as_str(), EntityValue::Int64(number))),
                _ => return Ok(None),
            }
        }
        let Some(time) = cell(places.timestamp)?.time() else { return Ok(None) };
        let view = &self.online.view;
        let mut fields = Vec::with_capacity(places.features.len() + 1);
        fields.push((timestamp_field(&view.name).into_bytes(), encode_time(time)));
        for (field, place) in &places.features {
            let value = cell(*place)?.into_feature().encode();
            fields.push((field.clone(), value.map_err(|error| corrupt(error.to_string()))?));
        }
        let entity_key = entity_key(entity.iter().map(|(name, value)| (*name, value)), &view.namespace);
        Ok(Some(Row { entity_key, fields }))
    }
}

fn open(part: &Path) -> Result<ParquetRecordBatchReader, Failure> {
    let file = File::open(part).map_err(|error| {
        Failure::transient(Reason::WorkerFailed, format!("opening {}: {error}", part.display()))
    })?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
        .map_err(|error| corrupt(format!("reading the table: {error}")))
}
