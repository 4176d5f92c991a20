//! The decisions that Redis takes atomically. Revisions are exact in Lua up to 2^53.

use super::{
    connection::Connection,
    keys::{Generation, ViewKeys},
};
use mlop_api::Digest;
use redis::{RedisResult, Script};

/// An obstacle to a revision, reported by all scripts.
const STANDING: &str = r"
    local revision = tonumber(ARGV[1])
    local current =
        redis.call('HMGET', KEYS[1], 'revision', 'digest', 'claimed', 'entities', 'generation', 'claimant')
    local same = current[1] and tonumber(current[1]) == revision
    if same and current[5] == ARGV[3] then return {'served', current[4]} end
    if same and current[2] ~= ARGV[2] then return {'superseded', current[1]} end
    for _, other in ipairs({current[1], current[3]}) do
        if other and tonumber(other) > revision then return {'superseded', other} end
    end
";

/// Announces a load: from now on lower revisions lose, and other generations of this one.
const CLAIM: &str = r"
    redis.call('HSET', KEYS[1], 'claimed', ARGV[1], 'claimant', ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[3])
    return {'free', ARGV[1]}
";

/// Serves the generation from now on, if nobody else claimed the view and it was not removed meanwhile.
const MOVE: &str = r"
    if current[3] == ARGV[1] and current[6] ~= ARGV[3] then return {'superseded', current[3]} end
    if current[3] ~= ARGV[1] then return {'removed', ARGV[1]} end
    redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'digest', ARGV[2], 'generation', ARGV[3], 'entities', ARGV[4])
    return {'moved', ARGV[1]}
";

/// Serves nothing from now on. The claim stays: lower revisions lose, also when they come later.
const LEAVE: &str = r"
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'claimed', ARGV[1], 'claimant', ARGV[3])
    return {'free', ARGV[1]}
";

/// State of a revision in the online store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be loaded, or is served from now on.
    Ahead,
    /// It is served already, with so many entities.
    Served { entities: u64 },
    /// Another table has this revision or a higher one.
    Superseded { by: String },
    /// The view was removed while it was loaded.
    Removed,
}

/// One revision of a view.
pub struct Revision<'a> {
    pub keys: &'a ViewKeys,
    pub number: i64,
    pub digest: &'a Digest,
    pub generation: &'a Generation,
}

pub async fn claim(redis: &mut Connection, revision: &Revision<'_>) -> RedisResult<Standing> {
    run(redis, revision, CLAIM, 0).await
}

pub async fn move_pointer(
    redis: &mut Connection,
    revision: &Revision<'_>,
    entities: u64,
) -> RedisResult<Standing> {
    run(redis, revision, MOVE, entities).await
}

pub async fn leave(redis: &mut Connection, revision: &Revision<'_>) -> RedisResult<Standing> {
    run(redis, revision, LEAVE, 0).await
}

async fn run(
    redis: &mut Connection,
    revision: &Revision<'_>,
    step: &str,
    entities: u64,
) -> RedisResult<Standing> {
    let script = Script::new(&format!("{STANDING}{step}"));
    let (word, detail): (String, String) = script
        .key(revision.keys.pointer())
        .key(revision.keys.generations())
        .arg(revision.number)
        .arg(revision.digest.as_str())
        .arg(&revision.generation.0)
        .arg(entities)
        .invoke_async(redis)
        .await?;
    Ok(match word.as_str() {
        "served" => Standing::Served { entities: detail.parse().unwrap_or_default() },
        "superseded" => Standing::Superseded { by: detail },
        "removed" => Standing::Removed,
        _ => Standing::Ahead,
    })
}
