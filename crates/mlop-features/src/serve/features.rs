//! Answers a request: which views, which rows, which values.

use super::{
    answer::{Answer, Column},
    budget::Room,
    error::ApiError,
    request::{Feature, Wanted},
};
use crate::{
    feast::{EntityValue, Value, key::entity_key},
    online::{
        Entity, EntityKind,
        read::{Lookup, Reader, Served},
    },
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// Attempts to read from views that are moved on meanwhile.
const ATTEMPTS: usize = 3;
/// Values that Redis is asked for at a time: its answer is larger than the rows made from it.
const VALUES_AT_ONCE: usize = 10_000;

/// The features that are `wanted`, as they are at `now`. Texts and lists take their memory from `room`.
///
/// # Errors
/// 404 for an unknown view or feature, 400 for entities that do not fit the view, 413 for an answer that is too large,
/// 503 when Redis does not answer or there is no room.
pub async fn answer(
    reader: &Reader,
    wanted: &Wanted,
    now: Timestamp,
    room: &mut Room<'_>,
) -> Result<Answer, ApiError> {
    let mut views: BTreeMap<&str, Vec<(usize, &Feature)>> = BTreeMap::new();
    for (place, feature) in wanted.features.iter().enumerate() {
        views.entry(&feature.view).or_default().push((place, feature));
    }
    for _ in 0..ATTEMPTS {
        let (mut lookups, mut places) = (Vec::with_capacity(views.len()), Vec::with_capacity(views.len()));
        for (view, features) in &views {
            lookups.push(lookup(reader, view, features, wanted).await?);
            places.push(features.iter().map(|(place, _)| *place).collect::<Vec<_>>());
        }
        if let Some(columns) = columns(reader, wanted, &lookups, &places, now, room).await? {
            let mut answer = Answer::with_entities(wanted);
            for (feature, column) in wanted.features.iter().zip(columns) {
                answer.push(&feature.shown, column);
            }
            return Ok(answer);
        }
        room.empty();
    }
    Err(ApiError::unavailable("the views were replaced while they were read: try again"))
}

/// The columns of all features, in the order of `wanted`; none when a view was replaced meanwhile. The features of a
/// lookup are the columns at its `places`.
async fn columns(
    reader: &Reader,
    wanted: &Wanted,
    lookups: &[Lookup],
    places: &[Vec<usize>],
    now: Timestamp,
    room: &mut Room<'_>,
) -> Result<Option<Vec<Column>>, ApiError> {
    let mut columns: Vec<Column> = wanted.features.iter().map(|_| Column::default()).collect();
    let step = (VALUES_AT_ONCE / wanted.features.len().max(1)).max(1);
    for begin in (0..wanted.rows).step_by(step) {
        let rows = reader.rows(lookups, begin..wanted.rows.min(begin + step)).await?;
        let Some(rows) = rows else { return Ok(None) };
        for ((lookup, places), rows) in lookups.iter().zip(places).zip(rows) {
            let ttl = lookup.served.schema.ttl_seconds;
            for row in rows {
                let (time, values) = row.map_or((None, Vec::new()), |row| (Some(row.time), row.values));
                let values = values.into_iter().chain(std::iter::repeat(Value::Null));
                for (place, value) in places.iter().zip(values) {
                    room.take(value.heap_bytes())?;
                    if let Some(column) = columns.get_mut(*place) {
                        column.push(value, time, ttl, now);
                    }
                }
            }
        }
    }
    Ok(Some(columns))
}

async fn lookup(
    reader: &Reader,
    view: &str,
    features: &[(usize, &Feature)],
    wanted: &Wanted,
) -> Result<Lookup, ApiError> {
    let Some(served) = reader.view(view).await? else {
        let message = format!("no view {view:?} is online in namespace {:?}", reader.namespace());
        return Err(ApiError::not_found(message));
    };
    let features: Vec<_> = features.iter().map(|(_, feature)| feature.name.clone()).collect();
    if let Some(unknown) = features.iter().find(|feature| !served.schema.features.contains(feature)) {
        let known = served.schema.features.join(", ");
        return Err(ApiError::not_found(format!("view {view:?} has no feature {unknown:?}, only {known}")));
    }
    let entity_keys = entity_keys(&served, wanted, reader.namespace())?;
    Ok(Lookup { served, features, entity_keys })
}

fn entity_keys(served: &Arc<Served>, wanted: &Wanted, project: &str) -> Result<Vec<Vec<u8>>, ApiError> {
    let view = &served.view;
    let mut columns: Vec<(&str, Vec<EntityValue>)> = Vec::with_capacity(served.schema.entities.len());
    for Entity { name, kind } in &served.schema.entities {
        let Some(keys) = wanted.entities.get(name) else {
            return Err(ApiError::bad_request(format!("view {view:?} needs the entity column {name:?}")));
        };
        let values: Vec<_> = keys.iter().map(|key| key.clone().into_value()).collect();
        let fits = |value: &EntityValue| match kind {
            EntityKind::String => matches!(value, EntityValue::Text(_)),
            EntityKind::Int64 => matches!(value, EntityValue::Int64(_)),
        };
        if let Some(row) = values.iter().position(|value| !fits(value)) {
            let kind = match kind {
                EntityKind::String => "a string",
                EntityKind::Int64 => "an integer",
            };
            return Err(ApiError::bad_request(format!("entity column {name:?} wants {kind} in row {row}")));
        }
        columns.push((name, values));
    }
    let key = |row: usize| {
        let entity: Vec<_> =
            columns.iter().filter_map(|(name, values)| Some((*name, values.get(row)?))).collect();
        entity_key(entity.into_iter(), project)
    };
    Ok((0..wanted.rows).map(key).collect())
}
