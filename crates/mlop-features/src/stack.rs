//! Room for deeply nested work.

use std::{io, panic::resume_unwind, thread};
use tokio::runtime::Handle;

/// Parsing, planning and evaluating SQL recurse as deep as its expressions nest, and 16 KiB of SQL can nest thousands
/// deep. Only pages that are touched take memory.
const STACK_BYTES: usize = 512 << 20;

/// Runs the future that `work` makes on a thread of its own with a large stack, and waits for it. The runtime must
/// have several threads: the calling one is blocked.
///
/// # Errors
/// When the thread cannot be started.
pub fn with_room<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> io::Result<T> {
    let runtime = Handle::current();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES);
        let ended = thread.spawn_scoped(scope, || runtime.block_on(work()))?.join();
        Ok(ended.unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
