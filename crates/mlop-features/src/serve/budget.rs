//! The memory of requests, bounded over all of them.

use super::error::ApiError;
use axum::body::{Body, Bytes};
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest body of a request in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of the bodies that are held at a time.
const BODIES_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
/// Longest time in which a client may send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are answered at a time.
const REQUESTS_MAX: usize = 16;
/// Values in the answers that are made at a time: twice the largest answer.
const VALUES_MAX: usize = 2 * super::request::VALUES_MAX;

/// Bytes of texts and lists in one answer.
const CONTENT_BYTES_MAX: usize = 16 << 20;
/// Bytes of texts and lists in all answers that are made at a time.
const CONTENTS_BYTES_MAX: usize = 24 << 20;

/// Room for requests: a request waits until there is enough.
///
/// A client that sends slowly holds room only for the bytes it has sent, and none for an answer.
pub struct Budget {
    bodies: Semaphore,
    requests: Semaphore,
    values: Semaphore,
    contents: Semaphore,
}

/// A body with its room.
pub struct Received<'a> {
    pub bytes: Vec<u8>,
    room: Option<SemaphorePermit<'a>>,
}

/// Room for one answer.
pub struct Room<'a> {
    budget: &'a Budget,
    _request: SemaphorePermit<'a>,
    _values: SemaphorePermit<'a>,
    contents: Option<SemaphorePermit<'a>>,
    bytes: usize,
}

impl Room<'_> {
    /// Takes room for `bytes` of a text or list.
    ///
    /// # Errors
    /// 413 when the answer becomes too large, 503 when others have the room.
    pub fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes == 0 {
            return Ok(());
        }
        self.bytes += bytes;
        if self.bytes > CONTENT_BYTES_MAX {
            let message = format!(
                "the answer has more than {CONTENT_BYTES_MAX} bytes of texts and lists: ask for fewer entities"
            );
            return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let more = self.budget.contents.try_acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
        let more = more.map_err(|_| ApiError::unavailable("the server is too busy: try again"))?;
        match &mut self.contents {
            Some(held) => held.merge(more),
            None => self.contents = Some(more),
        }
        Ok(())
    }

    /// Gives the reserved amount back.
    pub fn empty(&mut self) {
        (self.contents, self.bytes) = (None, 0);
    }
}

impl Budget {
    pub fn new() -> Self {
        Self {
            bodies: Semaphore::new(BODIES_BYTES_MAX),
            requests: Semaphore::new(REQUESTS_MAX),
            values: Semaphore::new(VALUES_MAX),
            contents: Semaphore::new(CONTENTS_BYTES_MAX),
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// 408 when the client does not send it in time, 413 when it is too large, 400 when it breaks off.
    pub async fn receive(&self, body: Body) -> Result<Received<'_>, ApiError> {
        let received = tokio::time::timeout(BODY_TIMEOUT, self.read(body)).await;
        received.unwrap_or_else(|_| {
            Err(ApiError::new(
                axum::http::StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {} seconds", BODY_TIMEOUT.as_secs()),
            ))
        })
    }

    async fn read(&self, body: Body) -> Result<Received<'_>, ApiError> {
        let mut received = Received { bytes: Vec::new(), room: None };
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk: Bytes =
                chunk.map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))?;
            if received.bytes.len() + chunk.len() > BODY_BYTES_MAX {
                let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
                return Err(ApiError::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let room = acquire(&self.bodies, chunk.len()).await?;
            match &mut received.room {
                Some(held) => held.merge(room),
                None => received.room = Some(room),
            }
            received.bytes.extend_from_slice(&chunk);
        }
        Ok(received)
    }

    /// Waits for room for an answer of `values`.
    ///
    /// # Errors
    /// When the server is stopping.
    pub async fn room(&self, values: usize) -> Result<Room<'_>, ApiError> {
        let request = acquire(&self.requests, 1).await?;
        let values = acquire(&self.values, values).await?;
        Ok(Room { budget: self, _request: request, _values: values, contents: None, bytes: 0 })
    }
}

async fn acquire(semaphore: &Semaphore, count: usize) -> Result<SemaphorePermit<'_>, ApiError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    semaphore.acquire_many(count).await.map_err(|_| ApiError::unavailable("the server is stopping"))
}
