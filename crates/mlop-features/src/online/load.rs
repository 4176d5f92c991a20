//! Writing: loading a generation, and removing a view for good or because it has left.

use super::{
    Schema,
    connection::{Connection, Server, code},
    keys::{Generation, ViewKeys},
    mark::mark_key,
    memory::Memory,
    script::{self, Revision, Standing},
};
use mlop_api::{
    Digest, Reason,
    result::Failure,
    task::{Departure, ViewKey},
};
use redis::{RedisError, RedisResult};

/// Keys that are deleted with one command.
const DELETED_AT_ONCE: usize = 1_000;

/// One row as it will lie in Redis.
pub struct Row {
    pub entity_key: Vec<u8>,
    /// Fields and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A view in Redis, to be written.
pub struct View {
    server: Server,
    redis: Connection,
    name: ViewKey,
    keys: ViewKeys,
}

/// Whether a load has to be done.
pub enum Claim<'a> {
    /// This is being served already, with so many entities.
    Served {
        entities: u64,
    },
    Load(Load<'a>),
}

/// A load under way. Dropping it leaves its rows; a retry finishes them, or the next load deletes them.
pub struct Load<'a> {
    view: &'a mut View,
    revision: i64,
    digest: &'a Digest,
    generation: Generation,
    batches: u64,
    entities: u64,
}

impl View {
    /// # Errors
    /// `OnlineStoreUnreachable` when Redis does not answer or refuses the password.
    pub async fn open(server: Server, name: ViewKey) -> Result<Self, Failure> {
        let redis = server.connect().await.map_err(|error| server.failure(&error))?;
        let keys = ViewKeys::new(&name);
        Ok(Self { server, redis, name, keys })
    }

    /// Refuses a Redis that may delete rows to make room: a reader would take them for entities that do not exist.
    ///
    /// # Errors
    /// `OnlineStoreUnreachable` for such a Redis.
    pub async fn check_keeps_rows(&mut self) -> Result<(), Failure> {
        let memory = Memory::read(&mut self.redis).await;
        if !memory.evicts() {
            return Ok(());
        }
        Err(Failure::transient(
            Reason::OnlineStoreUnreachable,
            format!(
                "Redis {} deletes rows when its memory is full: set its maxmemory-policy from {} to noeviction",
                self.server.address, memory.policy
            ),
        ))
    }

    /// The failure of a load whose rows have no room. Its rows are deleted, those of its last batch by their keys `written`,
    /// so that Redis can serve the earlier generation.
    async fn full(&mut self, generation: &Generation, written: Vec<Vec<u8>>, error: &RedisError) -> Failure {
        let failure = self.server.failure(error);
        let deleted = async {
            unlink(&written).exec_async(&mut self.redis).await?;
            self.delete(generation).await
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, "deleting the rows of a load that has no room");
        }
        let memory = Memory::read(&mut self.redis).await;
        Failure { message: format!("{}; {memory}", failure.message), ..failure }
    }

    /// Begins to load the table `digest` as `revision`, described by `schema`: from now on lower revisions lose, and loads of
    /// the same revision with another schema. Deletes every generation that is neither served nor this one.
    ///
    /// # Errors
    /// `ActivationSuperseded` when another table has this revision or a higher one; otherwise as Redis says.
    pub async fn claim<'a>(
        &'a mut self,
        revision: i64,
        digest: &'a Digest,
        schema: &Schema,
    ) -> Result<Claim<'a>, Failure> {
        let meta = serde_json::to_string(schema).map_err(|error| {
            Failure::terminal(Reason::WorkerFailed, format!("the view's schema has no JSON form: {error}"))
        })?;
        let generation = Generation::new(revision, digest, &meta);
        let mut load = Load { view: self, revision, digest, generation, batches: 0, entities: 0 };
        match load.step(Step::Claim).await? {
            Standing::Served { entities } => return Ok(Claim::Served { entities }),
            Standing::Ahead => {}
            lost => return Err(load.view.lost(revision, &lost)),
        }
        load.begin(&meta).await?;
        Ok(Claim::Load(load))
    }

    /// Deletes everything of the view. Loads that are under way lose.
    ///
    /// # Errors
    /// As Redis says.
    pub async fn remove(&mut self) -> Result<(), Failure> {
        self.delete_all().await.map_err(|error| self.server.failure(&error))
    }

    async fn delete_all(&mut self) -> RedisResult<()> {
        // First the pointer: readers must not find a view half there, and loads must not go on.
        redis::cmd("DEL").arg(self.keys.pointer()).exec_async(&mut self.redis).await?;
        for generation in self.generations("+inf").await? {
            self.delete(&generation).await?;
        }
        redis::cmd("DEL").arg(self.keys.generations()).exec_async(&mut self.redis).await
    }

    /// Deletes the rows of a view that is online elsewhere. Loads under lower revisions lose, also later ones. Returns
    /// false if the rows stay: a later revision was loaded, or the FeatureStore that has the view now uses this Redis too.
    ///
    /// # Errors
    /// As Redis says.
    pub async fn leave(&mut self, left: &Departure) -> Result<bool, Failure> {
        self.delete_former(left).await.map_err(|error| self.server.failure(&error))
    }

    async fn delete_former(&mut self, left: &Departure) -> RedisResult<bool> {
        if let Some(to) = &left.to {
            let mark = mark_key(&self.name.namespace, to);
            if redis::cmd("EXISTS").arg(mark).query_async(&mut self.redis).await? {
                return Ok(false);
            }
        }
        let (digest, generation) = (Digest::of_bytes(&[]), Generation::none(left.revision));
        let revision =
            Revision { keys: &self.keys, number: left.revision, digest: &digest, generation: &generation };
        if script::leave(&mut self.redis, &revision).await? != Standing::Ahead {
            return Ok(false);
        }
        // Those of later revisions belong to a view that has come back meanwhile.
        for generation in self.generations(&left.revision.to_string()).await? {
            self.delete(&generation).await?;
        }
        Ok(true)
    }

    /// The generations of revisions up to `last`.
    async fn generations(&mut self, last: &str) -> RedisResult<Vec<Generation>> {
        let names: Vec<String> = redis::cmd("ZRANGEBYSCORE")
            .arg(self.keys.generations())
            .arg("-inf")
            .arg(last)
            .query_async(&mut self.redis)
            .await?;
        Ok(names.into_iter().map(Generation).collect())
    }

    async fn served(&mut self) -> RedisResult<Option<Generation>> {
        let name: Option<String> = redis::cmd("HGET")
            .arg(self.keys.pointer())
            .arg("generation")
            .query_async(&mut self.redis)
            .await?;
        Ok(name.map(Generation))
    }

    /// Deletes a generation; interrupted, it can be deleted again.
    async fn delete(&mut self, generation: &Generation) -> RedisResult<()> {
        let (index, prefix) = (self.keys.index(generation), self.keys.rows(generation));
        let batches: Vec<Vec<u8>> = redis::cmd("HKEYS").arg(&index).query_async(&mut self.redis).await?;
        for batch in batches {
            let entities: Option<Vec<u8>> =
                redis::cmd("HGET").arg(&index).arg(&batch).query_async(&mut self.redis).await?;
            let keys: Vec<Vec<u8>> =
                split(entities.as_deref().unwrap_or_default()).map(|key| [&prefix, key].concat()).collect();
            let mut pipeline = unlink(&keys);
            // Last, so that the remaining rows can still be found.
            pipeline.cmd("HDEL").arg(&index).arg(&batch).ignore();
            pipeline.exec_async(&mut self.redis).await?;
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("DEL").arg(self.keys.meta(generation)).ignore();
        pipeline.cmd("ZREM").arg(self.keys.generations()).arg(&generation.0).ignore();
        pipeline.exec_async(&mut self.redis).await
    }

    fn lost(&self, revision: i64, standing: &Standing) -> Failure {
        let view = format!("FeatureView {}/{}", self.name.namespace, self.name.name);
        let (by, why) = match standing {
            Standing::Superseded { by } => {
                (by.parse().ok(), format!("revision {by} is served or being loaded"))
            }
            _ => (None, "the view was removed from the online store meanwhile".to_owned()),
        };
        Failure::superseded(by, format!("{view}: revision {revision} is not served: {why}"))
    }
}

enum Step {
    Claim,
    Move,
}

impl Load<'_> {
    async fn step(&mut self, step: Step) -> Result<Standing, Failure> {
        let View { redis, keys, server, .. } = &mut *self.view;
        let revision =
            Revision { keys, number: self.revision, digest: self.digest, generation: &self.generation };
        let standing = match step {
            Step::Claim => script::claim(redis, &revision).await,
            Step::Move => script::move_pointer(redis, &revision, self.entities).await,
        };
        standing.map_err(|error| server.failure(&error))
    }

    async fn begin(&mut self, meta: &str) -> Result<(), Failure> {
        let begun = async {
            let served = self.view.served().await?;
            for other in self.view.generations("+inf").await? {
                if other != self.generation && Some(&other) != served.as_ref() {
                    self.view.delete(&other).await?;
                }
            }
            let key = self.view.keys.meta(&self.generation);
            redis::cmd("SET").arg(key).arg(meta).exec_async(&mut self.view.redis).await
        };
        begun.await.map_err(|error| self.view.server.failure(&error))
    }

    /// Writes the next rows. A table's rows come in the same batches each time.
    ///
    /// # Errors
    /// `ActivationSuperseded` when another load was begun; otherwise as Redis says.
    pub async fn put(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let View { redis, keys, server, .. } = &mut *self.view;
        let prefix = keys.rows(&self.generation);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(keys.pointer()).arg("claimed").arg("claimant");
        // Before the rows, so that none is ever there that cannot be found again.
        pipeline.cmd("ZADD").arg(keys.generations()).arg(self.revision).arg(&self.generation.0).ignore();
        let index = join(rows.iter().map(|row| row.entity_key.as_slice()));
        pipeline.cmd("HSET").arg(keys.index(&self.generation)).arg(self.batches).arg(index).ignore();
        for row in rows {
            pipeline.cmd("HSET").arg([prefix.as_slice(), &row.entity_key].concat());
            for (field, value) in &row.fields {
                pipeline.arg(field).arg(value);
            }
            pipeline.ignore();
        }
        let asked: RedisResult<((Option<String>, Option<String>),)> = pipeline.query_async(redis).await;
        let ((claimed, claimant),) = match asked {
            Ok(answer) => answer,
            Err(error) if code(&error).as_deref() == Some("OOM") => {
                // Redis may have refused the index and taken some of the rows: they are deleted by their own keys.
                let written = rows.iter().map(|row| [prefix.as_slice(), &row.entity_key].concat()).collect();
                return Err(self.view.full(&self.generation, written, &error).await);
            }
            Err(error) => return Err(server.failure(&error)),
        };
        self.batches += 1;
        self.entities += rows.len() as u64;
        if claimant.as_ref() == Some(&self.generation.0) {
            return Ok(());
        }
        let lost = claimed.map_or(Standing::Removed, |by| Standing::Superseded { by });
        Err(self.abandon(&lost).await?)
    }

    /// Serves the loaded rows from now on; returns the number of entities.
    ///
    /// # Errors
    /// `ActivationSuperseded` when another load was begun; otherwise as Redis says.
    pub async fn finish(mut self) -> Result<u64, Failure> {
        match self.step(Step::Move).await? {
            Standing::Ahead | Standing::Served { .. } => Ok(self.entities),
            lost => Err(self.abandon(&lost).await?),
        }
    }

    /// Deletes the loaded rows, unless a twin of this load made it the served generation before it lost. Returns the
    /// failure to report.
    async fn abandon(&mut self, standing: &Standing) -> Result<Failure, Failure> {
        let deleted = async {
            if self.view.served().await?.as_ref() != Some(&self.generation) {
                self.view.delete(&self.generation).await?;
            }
            RedisResult::Ok(())
        };
        deleted.await.map_err(|error| self.view.server.failure(&error))?;
        Ok(self.view.lost(self.revision, standing))
    }
}

/// Deletes `keys`, a limited number with each command.
fn unlink(keys: &[Vec<u8>]) -> redis::Pipeline {
    let mut pipeline = redis::pipe();
    for some in keys.chunks(DELETED_AT_ONCE) {
        pipeline.cmd("UNLINK").arg(some).ignore();
    }
    pipeline
}

fn join<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut joined = Vec::new();
    for key in keys {
        joined.extend_from_slice(&(key.len() as u32).to_le_bytes());
        joined.extend_from_slice(key);
    }
    joined
}

fn split(mut joined: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = joined.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        joined = rest;
        Some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_keys_come_apart_again() {
        let keys: [&[u8]; 3] = [b"one", b"", &[0; 300]];
        let joined = join(keys.into_iter());
        assert_eq!(split(&joined).collect::<Vec<_>>(), keys);
        assert_eq!(split(&joined[..5]).count(), 0);
    }
}
