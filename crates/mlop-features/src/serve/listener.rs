//! Connections: bounded in number, ended when their client is silent, and drained at the end.

use super::patience::Impatient;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// Longest time from the opening of a connection, or the end of a request on it, to the end of the next request's
/// headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time in which a client reads nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, usually for lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop`. Then no connection is accepted any more, and requests under way are
/// finished.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, router, stopped).await;
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

async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).serve_connection(
            TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)),
            TowerToHyperService::new(router),
        );
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
