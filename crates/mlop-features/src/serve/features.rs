//! Answers a request: which views, which rows, which values.

use super::{
    answer::{Answer, Column},
    error::ApiError,
    request::{Feature, Wanted},
};
use crate::{
    feast::{EntityValue, key::entity_key},
    online::{
        Entity, EntityKind,
        read::{Found, Lookup, Reader, Served},
    },
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// Attempts to read from views that are moved on meanwhile.
const ATTEMPTS: usize = 3;

/// The features that are `wanted`, as they are at `now`.
///
/// # Errors
/// 404 for an unknown view or feature, 400 for entities that do not fit the view, 503 when Redis does not answer.
pub async fn answer(reader: &Reader, wanted: &Wanted, now: Timestamp) -> Result<Answer, ApiError> {
    let mut views: BTreeMap<&str, Vec<&Feature>> = BTreeMap::new();
    for feature in &wanted.features {
        views.entry(&feature.view).or_default().push(feature);
    }
    for _ in 0..ATTEMPTS {
        let mut lookups = Vec::with_capacity(views.len());
        for (view, features) in &views {
            lookups.push(lookup(reader, view, features, wanted).await?);
        }
        if let Some(rows) = reader.rows(&lookups).await? {
            return Ok(columns(wanted, &lookups, &rows, now));
        }
    }
    Err(ApiError::unavailable("the views were replaced while they were read: try again"))
}

async fn lookup(
    reader: &Reader,
    view: &str,
    features: &[&Feature],
    wanted: &Wanted,
) -> Result<Lookup, ApiError> {
    let Some(served) = reader.view(view).await? else {
        let message = format!("no view {view:?} is online in namespace {:?}", reader.namespace());
        return Err(ApiError::not_found(message));
    };
    let features: Vec<_> = features.iter().map(|feature| feature.name.clone()).collect();
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

fn columns(wanted: &Wanted, lookups: &[Lookup], rows: &[Vec<Option<Found>>], now: Timestamp) -> Answer {
    let mut answer = Answer::with_entities(wanted);
    for feature in &wanted.features {
        for (lookup, rows) in
            lookups.iter().zip(rows).filter(|(lookup, _)| lookup.served.view == feature.view)
        {
            let place = lookup.features.iter().position(|name| *name == feature.name);
            let ttl = lookup.served.schema.ttl_seconds;
            answer.push(&feature.shown, Column::of_feature(rows, place.unwrap_or(usize::MAX), ttl, now));
        }
    }
    answer
}
