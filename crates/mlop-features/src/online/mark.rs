//! The mark of an online store: a key that a store has as long as it has its data.
//!
//! A store that comes back empty, after a restart without persistence or a `FLUSHALL`, has no mark. The next probe sets
//! another one, and a view that was loaded under an earlier mark is loaded again.

use super::connection::{self, Server};
use mlop_api::{
    Digest, Reason,
    result::{Failure, ResultDocument},
};
use redis::{RedisError, RedisResult};
use std::time::Duration;
use tokio::time::sleep;

/// Attempts to reach Redis: one lost connection is not an outage.
const ATTEMPTS: u32 = 3;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The key of the mark of the FeatureStore `name`. Stores that share a Redis have a mark each.
pub fn mark_key(namespace: &str, name: &str) -> String {
    format!("mlop:store:{{{namespace}/{name}}}:mark")
}

/// Checks that the store answers, and reports its mark. A store without one gets the mark `fresh`.
///
/// # Errors
/// `OnlineStoreUnreachable` when Redis does not answer or refuses the password; otherwise as Redis says.
pub async fn probe(server: &Server, key: &str, fresh: &Digest) -> Result<ResultDocument, Failure> {
    let mut attempt = 1;
    let mark = loop {
        match read(server, key, fresh).await {
            Ok(mark) => break mark,
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                attempt += 1;
                sleep(PAUSE).await;
            }
            Err(error) => return Err(server.failure(&error)),
        }
    };
    let mark = mark.ok_or_else(|| {
        let message = format!("Redis {} does not keep keys: let it evict nothing", server.address);
        Failure::transient(Reason::OnlineStoreUnreachable, message)
    })?;
    Ok(ResultDocument { digest: Some(Digest::of_bytes(mark.as_bytes())), ..ResultDocument::default() })
}

async fn read(server: &Server, key: &str, fresh: &Digest) -> RedisResult<Option<String>> {
    let mut redis = server.connect().await?;
    // A Redis whose memory is full still answers a read: only a store without a mark is written to.
    let mark: Option<String> = redis::cmd("GET").arg(key).query_async(&mut redis).await?;
    if mark.is_some() {
        return Ok(mark);
    }
    redis::cmd("SET").arg(key).arg(fresh.as_str()).arg("NX").exec_async(&mut redis).await?;
    redis::cmd("GET").arg(key).query_async(&mut redis).await
}

/// Whether another attempt may help: a refused password stays refused.
fn is_passing(error: &RedisError) -> bool {
    connection::code(error).is_none() && error.kind() != redis::ErrorKind::AuthenticationFailed
}
