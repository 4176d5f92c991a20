//! The connection to Redis that all requests share.
//!
//! One attempt to connect is on its way at most, and each request waits for it within its own limit. A Redis that did not
//! answer is left alone for a moment. Requests fail at once meanwhile: they would only queue up behind it.

use super::connection::{Connection, Server};
use futures::future::{BoxFuture, FutureExt, Shared};
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult};
use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// Time from a failure to the next attempt to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that is made with the first question, and again after it broke.
pub struct SharedConnection {
    server: Server,
    /// The newest attempt to connect, also after it has ended.
    attempt: Mutex<Option<Attempt>>,
}

type Attempt = Shared<BoxFuture<'static, Result<Connection, Failed>>>;

#[derive(Clone, Debug)]
struct Failed {
    at: Instant,
    error: RedisError,
}

impl Failed {
    fn now(error: impl Into<RedisError>) -> Self {
        Self { at: Instant::now(), error: error.into() }
    }
}

impl SharedConnection {
    /// A connection to `server`.
    pub fn new(server: Server) -> Self {
        Self { server, attempt: Mutex::default() }
    }

    /// Whether the keys of one pipeline must be on one node.
    pub fn is_cluster(&self) -> bool {
        self.server.cluster
    }

    /// Sends `pipeline` and returns the answer.
    ///
    /// # Errors
    /// As Redis says; a timeout when connecting and answering take longer than [`Server::response_timeout`].
    pub async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> RedisResult<T> {
        let attempt = self.attempt();
        let asked = async {
            let mut redis = attempt.clone().await.map_err(|failed| failed.error)?;
            pipeline.query_async(&mut redis).await
        };
        let answer = timeout(self.server.response_timeout, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        let was_connected = matches!(attempt.peek(), Some(Ok(_)));
        if let Some(error) = answer.as_ref().err().filter(|error| was_connected && error.code().is_none()) {
            self.give_up(&attempt, error);
        }
        answer
    }

    /// The attempt that a request waits for. A new one begins when the last one has failed some time ago.
    fn attempt(&self) -> Attempt {
        let mut newest = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |attempt: &Attempt| match attempt.clone().now_or_never() {
            Some(Err(failed)) => failed.at.elapsed() < PAUSE,
            Some(Ok(_)) | None => true,
        };
        let attempt = newest.take().filter(counts).unwrap_or_else(|| self.connect());
        newest.insert(attempt).clone()
    }

    /// Begins to connect, in a task of its own: the request that began it may go away.
    fn connect(&self) -> Attempt {
        let server = self.server.clone();
        let task = tokio::spawn(async move { server.connect().await.map_err(Failed::now) });
        let attempt = async { task.await.unwrap_or_else(|error| Err(Failed::now(io::Error::other(error)))) };
        attempt.boxed().shared()
    }

    /// Uses the connection of `attempt` no more: its `error` was not an answer of the server. A connection that another
    /// request has made since is kept.
    fn give_up(&self, attempt: &Attempt, error: &RedisError) {
        let mut newest = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_some_and(|newest| newest.ptr_eq(attempt)) {
            // A closed connection says nothing about the next one. A silent server will be silent again.
            let silent = error.is_timeout().then(|| Failed::now(error.clone()));
            *newest = silent.map(|failed| async { Err(failed) }.boxed().shared());
        }
    }
}
