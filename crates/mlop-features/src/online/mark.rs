//! The mark of an online store: a key that a store has as long as it has its data.
//!
//! A store that comes back empty, after a restart without persistence or a `FLUSHALL`, has no mark. The next probe sets
//! another one, and a view that was loaded under an earlier mark is loaded again.
//!
//! Next to the mark is the number of probes that the data have seen. A store that has seen fewer than it had came back
//! with the data of an earlier time, such as a backup. It gets another mark, too.

use super::connection::{self, Server};
use mlop_api::{
    Digest, Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::PROBES,
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

/// A probe of the online store of a FeatureStore.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Key of the mark.
    pub key: String,
    /// The mark that a store gets which has none, or the data of an earlier time.
    pub fresh: Digest,
    /// Number of probes that the data had seen at the last one.
    pub seen: u64,
}

/// Checks that the store answers, and reports its mark and the number of probes that its data have seen.
///
/// # Errors
/// `OnlineStoreUnreachable` when Redis does not answer or refuses the password; otherwise as Redis says.
pub async fn probe(server: &Server, probe: &Probe) -> Result<ResultDocument, Failure> {
    let mut attempt = 1;
    let (mark, probes) = loop {
        match read(server, probe).await {
            Ok(read) => break read,
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
    Ok(ResultDocument {
        digest: Some(Digest::of_bytes(mark.as_bytes())),
        metrics: vec![Metric::new(PROBES, probes as f64)],
        ..ResultDocument::default()
    })
}

/// The mark, and the number of probes with this one.
async fn read(server: &Server, probe: &Probe) -> RedisResult<(Option<String>, u64)> {
    let mut redis = server.connect().await?;
    let Probe { key, fresh, seen } = probe;
    let counter = format!("{key}:probes");
    // A Redis whose memory is full still answers a read: only a store that needs a mark must be written to.
    let (mut mark, probes): (Option<String>, Option<u64>) =
        redis::cmd("MGET").arg(key).arg(&counter).query_async(&mut redis).await?;
    let mut probes = probes.unwrap_or_default();
    if mark.is_none() || probes < *seen {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("SET").arg(key).arg(fresh.as_str());
        if mark.is_none() {
            // Another probe may have set one meanwhile.
            pipeline.arg("NX");
        }
        pipeline.ignore().cmd("SET").arg(&counter).arg(*seen).ignore().cmd("GET").arg(key);
        (mark,) = pipeline.query_async(&mut redis).await?;
        probes = *seen;
    }
    match redis::cmd("INCR").arg(&counter).query_async(&mut redis).await {
        Ok(counted) => Ok((mark, counted)),
        Err(error) if connection::code(&error).is_some() => Ok((mark, probes)),
        Err(error) => Err(error),
    }
}

/// Whether another attempt may help: a refused password stays refused.
fn is_passing(error: &RedisError) -> bool {
    connection::code(error).is_none() && error.kind() != redis::ErrorKind::AuthenticationFailed
}
