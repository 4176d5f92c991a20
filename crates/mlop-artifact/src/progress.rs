//! Tells in the log how far a long transfer is.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// A transfer of several files.
#[derive(Debug)]
pub(crate) struct Progress {
    doing: &'static str,
    files: u64,
    bytes: u64,
    files_done: AtomicU64,
    bytes_done: AtomicU64,
}

impl Progress {
    /// A transfer of files of these sizes.
    pub fn new(doing: &'static str, sizes: impl Iterator<Item = u64>) -> Self {
        let (files, bytes) = sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
        Self { doing, files, bytes, files_done: AtomicU64::new(0), bytes_done: AtomicU64::new(0) }
    }

    /// Counts a file of `bytes` bytes as transferred.
    pub fn done(&self, bytes: u64) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Carries out `transfer`, with a line in the log every 10 seconds.
    pub async fn told<T>(&self, transfer: impl Future<Output = T>) -> T {
        tokio::select! {
            result = transfer => result,
            never = self.tell(Instant::now()) => match never {},
        }
    }
    async fn tell(&self, started: Instant) -> std::convert::Infallible {
        loop {
            sleep(INTERVAL).await;
            tracing::info!(
                files = self.files_done.load(Ordering::Relaxed),
                of_files = self.files,
                bytes = self.bytes_done.load(Ordering::Relaxed),
                of_bytes = self.bytes,
                seconds = started.elapsed().as_secs(),
                "{}",
                self.doing
            );
        }
    }
}
