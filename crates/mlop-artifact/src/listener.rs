//! Connections of an HTTP server: bounded in number, ended when their client is silent, and drained at the end.

use crate::impatient::Impatient;
use bytes::Buf;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{error::Error, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Longest time from the opening of a connection, or the end of a request on it, to the end of the next request's
/// headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time in which a client reads nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, usually for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The bounds of a server's memory.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Bytes that are buffered of a connection, at least 8 KiB. A request's headers fit in.
    pub buffer: usize,
}

/// Serves `service` on `listener` until `stop`. Then no connection is accepted any more, and requests under way are
/// finished.
pub async fn serve<S, B>(listener: TcpListener, service: S, bounds: Bounds, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (service, stopped) = (service.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, service, bounds, stopped).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop((listener, stopped));
    let _nobody_listens = stopping.send(true);
    stopping.closed().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer is one write: nothing is gained by waiting for more.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

async fn connection<S, B>(stream: TcpStream, service: S, bounds: Bounds, mut stopped: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Buf, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(bounds.buffer)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    let mut connection = pin!(connection);
    let stop = async {
        let _sender_is_gone = stopped.wait_for(|stopped| *stopped).await;
    };
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = stop => connection.as_mut().graceful_shutdown(),
    }
    log(connection.await);
}

/// Clients go away as they like.
fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
