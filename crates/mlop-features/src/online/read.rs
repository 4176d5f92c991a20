//! Reading: rows of the generation that is being served.
//!
//! The schema of a generation never changes, so it is remembered. The generation in use is read with every request,
//! after the rows and in the same round trip. If it is still the one of the rows, nothing of it had been deleted, and the
//! rows are a consistent answer. If not, the reader looks again.

use super::{
    Schema,
    connection::Server,
    keys::{Generation, ViewKeys},
    shared::SharedConnection,
};
use crate::feast::{
    Malformed, Value,
    key::{field, timestamp_field},
    value::decode_time,
};
use futures::future::try_join_all;
use jiff::Timestamp;
use mlop_api::task::ViewKey;
use redis::{FromRedisValue, Pipeline, RedisError};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

/// Looks at a view whose pointer moves again and again.
const LOOKS_MAX: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the online store does not answer: {0}")]
    Redis(#[from] RedisError),
    #[error("the online store holds what is no row of view {view}: {flaw}")]
    Malformed { view: String, flaw: Malformed },
    #[error("the online store has lost keys of view {0}: load it again, and let Redis evict nothing")]
    Lost(String),
}

/// The views of one namespace.
pub struct Reader {
    namespace: String,
    connection: SharedConnection,
    known: RwLock<HashMap<String, Arc<Served>>>,
}

/// A generation of a view.
#[derive(Debug)]
pub struct Served {
    pub view: String,
    pub schema: Schema,
    keys: ViewKeys,
    generation: Generation,
}

/// Rows to be read from one view.
pub struct Lookup {
    pub served: Arc<Served>,
    pub features: Vec<String>,
    /// Feast's keys of the entities.
    pub entity_keys: Vec<Vec<u8>>,
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Since when it is true.
    pub time: Timestamp,
    /// In the order of the lookup's features.
    pub values: Vec<Value>,
}

impl Reader {
    /// Connects with the first read.
    pub fn new(server: Server, namespace: String) -> Self {
        Self { namespace, connection: SharedConnection::new(server), known: RwLock::default() }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), ReadError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING").ignore();
        Ok(self.connection.ask(&pipeline).await?)
    }

    /// Whether `key` exists.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn has(&self, key: &str) -> Result<bool, ReadError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EXISTS").arg(key);
        let (found,): (bool,) = self.connection.ask(&pipeline).await?;
        Ok(found)
    }

    /// The view `name` as it is served, or none if nothing was loaded under this name.
    ///
    /// # Errors
    /// When Redis does not answer or has lost the view's schema.
    pub async fn view(&self, name: &str) -> Result<Option<Arc<Served>>, ReadError> {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(known.clone()));
        }
        let key = ViewKey { namespace: self.namespace.clone(), name: name.to_owned() };
        let keys = ViewKeys::new(&key);
        for _ in 0..LOOKS_MAX {
            let mut pipeline = redis::pipe();
            pipeline.cmd("HGET").arg(keys.pointer()).arg("generation");
            let (generation,): (Option<String>,) = self.connection.ask(&pipeline).await?;
            let Some(generation) = generation.map(Generation) else { return Ok(None) };
            let mut pipeline = redis::pipe();
            pipeline.cmd("GET").arg(keys.meta(&generation));
            let (meta,): (Option<Vec<u8>>,) = self.connection.ask(&pipeline).await?;
            // None when the pointer moved on in between.
            let Some(meta) = meta else { continue };
            let flaw =
                |_| ReadError::Malformed { view: name.to_owned(), flaw: Malformed("its schema is no JSON") };
            let schema = serde_json::from_slice(&meta).map_err(flaw)?;
            let served = Arc::new(Served { view: name.to_owned(), schema, keys, generation });
            self.known
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.to_owned(), served.clone());
            return Ok(Some(served));
        }
        Err(ReadError::Lost(name.to_owned()))
    }

    /// The rows at `places` of all `lookups`, or none when another generation of a view is served by now: look the views up again.
    ///
    /// # Errors
    /// When Redis does not answer, or a value is not a row.
    pub async fn rows(
        &self,
        lookups: &[Lookup],
        places: Range<usize>,
    ) -> Result<Option<Vec<Vec<Option<Found>>>>, ReadError> {
        // The views of a cluster are on several nodes.
        let at_once = if self.connection.is_cluster() { 1 } else { lookups.len().max(1) };
        let asked = lookups.chunks(at_once).map(|lookups| self.rows_at_once(lookups, places.clone()));
        let found: Option<Vec<_>> = try_join_all(asked).await?.into_iter().collect();
        Ok(found.map(|found| found.concat()))
    }

    async fn rows_at_once(
        &self,
        lookups: &[Lookup],
        places: Range<usize>,
    ) -> Result<Option<Vec<Vec<Option<Found>>>>, ReadError> {
        let mut pipeline = redis::pipe();
        for lookup in lookups {
            lookup.ask_rows(&mut pipeline, places.clone());
        }
        for lookup in lookups {
            pipeline.cmd("HGET").arg(lookup.served.keys.pointer()).arg("generation");
        }
        let mut answers: Vec<redis::Value> = self.connection.ask(&pipeline).await?;
        let mut unmoved = true;
        let pointers = answers.split_off(answers.len().saturating_sub(lookups.len()));
        for (lookup, pointer) in lookups.iter().zip(pointers) {
            let generation: Option<String> = parse(pointer)?;
            if generation.as_ref() != Some(&lookup.served.generation.0) {
                self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&lookup.served.view);
                unmoved = false;
            }
        }
        if !unmoved {
            return Ok(None);
        }
        let mut answers = answers.into_iter();
        let found = lookups.iter().map(|lookup| lookup.found(answers.by_ref().take(places.len())));
        let found = found.collect::<Result<_, _>>()?;
        Ok(Some(found))
    }
}

impl Lookup {
    fn ask_rows(&self, pipeline: &mut Pipeline, places: Range<usize>) {
        let Served { view, keys, generation, .. } = &*self.served;
        let prefix = keys.rows(generation);
        let fields: Vec<_> = self.features.iter().map(|feature| field(view, feature)).collect();
        for key in self.entity_keys.get(places).unwrap_or_default() {
            let row = pipeline.cmd("HMGET").arg([prefix.as_slice(), key].concat()).arg(timestamp_field(view));
            for field in &fields {
                row.arg(field);
            }
        }
    }

    fn found(&self, answers: impl Iterator<Item = redis::Value>) -> Result<Vec<Option<Found>>, ReadError> {
        answers.map(|answer| self.row(parse(answer)?)).collect()
    }

    fn row(&self, fields: Vec<Option<Vec<u8>>>) -> Result<Option<Found>, ReadError> {
        let malformed = |flaw| ReadError::Malformed { view: self.served.view.clone(), flaw };
        let mut fields = fields.into_iter();
        let Some(time) = fields.next().flatten() else { return Ok(None) };
        let time = decode_time(&time).map_err(malformed)?;
        let values =
            fields.map(|value| Value::decode(value.as_deref().unwrap_or_default()).map_err(malformed));
        Ok(Some(Found { time, values: values.collect::<Result<_, _>>()? }))
    }
}

fn parse<T: FromRedisValue>(answer: redis::Value) -> Result<T, RedisError> {
    Ok(redis::from_redis_value(answer)?)
}
