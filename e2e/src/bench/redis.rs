//! A Redis of this machine, and a client that does nothing but read and write.

use crate::control_plane::{free_ports, on_the_path};
use anyhow::{Context as _, Result, ensure};
use redis::{AsyncConnectionConfig, Client, Value, aio::MultiplexedConnection};
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The time limit for the start, and for one answer on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Commands that are sent at once.
const BATCH: usize = 1_000;

/// A Redis without persistence. Dropping it ends its process.
pub(super) struct Redis {
    process: Child,
    port: u16,
    _directory: TempDir,
}

/// One hash: its key, and its fields in the order in which they were written.
pub(super) struct Row {
    pub key: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Redis {
    /// # Errors
    /// `redis-server` is not on the PATH or does not start.
    pub(super) async fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let [port] = free_ports().await?;
        let process = Command::new(on_the_path("redis-server")?)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server")?;
        let redis = Self { process, port, _directory: directory };
        let end = Instant::now() + LIMIT;
        while let Err(error) = redis.connect().await {
            ensure!(Instant::now() < end, "redis-server does not answer: {error}");
            sleep(POLL_INTERVAL).await;
        }
        Ok(redis)
    }

    /// `host:port`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) async fn connect(&self) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
        let client = Client::open(format!("redis://{}", self.address()))?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// All hashes whose keys match `pattern`.
pub(super) async fn rows(redis: &mut MultiplexedConnection, pattern: &str) -> Result<Vec<Row>> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query_async(redis).await?;
    let mut rows = Vec::with_capacity(keys.len());
    for keys in keys.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        keys.iter().for_each(|key| {
            pipeline.cmd("HGETALL").arg(key);
        });
        let hashes: Vec<Vec<(Vec<u8>, Vec<u8>)>> = pipeline.query_async(redis).await?;
        rows.extend(keys.iter().cloned().zip(hashes).map(|(key, fields)| Row { key, fields }));
    }
    Ok(rows)
}

/// Writes `rows` under other keys.
pub(super) async fn write(redis: &mut MultiplexedConnection, rows: &[Row]) -> Result<()> {
    for rows in rows.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for Row { key, fields } in rows {
            let hash = pipeline.cmd("HSET").arg([b"plain:", key.as_slice()].concat());
            fields.iter().for_each(|(field, value)| {
                hash.arg(field).arg(value);
            });
            hash.ignore();
        }
        pipeline.exec_async(redis).await?;
    }
    Ok(())
}

/// Reads the first `fields` of `rows`, in one round trip.
pub(super) async fn read(redis: &mut MultiplexedConnection, rows: &[&Row], fields: usize) -> Result<()> {
    let mut pipeline = redis::pipe();
    for row in rows {
        let hash = pipeline.cmd("HMGET").arg(&row.key);
        row.fields.iter().take(fields).for_each(|(field, _)| {
            hash.arg(field);
        });
    }
    let answers: Vec<Vec<Value>> = pipeline.query_async(redis).await?;
    ensure!(answers.iter().flatten().all(|value| *value != Value::Nil), "a row has gone");
    Ok(())
}
