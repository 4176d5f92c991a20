//! A store in memory that goes away, for tests.

use super::ObjectStoreHandle;
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Barrier;

/// How many of the next requests a store does not answer, how many it refuses after that, and how many reads it answers
/// together.
#[derive(Clone, Debug, Default)]
pub struct Outage {
    unanswered: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    together: Option<Arc<Barrier>>,
}

impl Outage {
    /// The next `requests` requests get no answer.
    pub fn leave_unanswered(&self, requests: usize) {
        self.unanswered.store(requests, Ordering::SeqCst);
    }

    /// The next `requests` requests are refused, as with wrong keys.
    pub fn refuse(&self, requests: usize) {
        self.refused.store(requests, Ordering::SeqCst);
    }

    /// Reads are answered `reads` at a time: each waits until there are so many.
    pub fn of_reads_together(reads: usize) -> Self {
        Self { together: Some(Arc::new(Barrier::new(reads))), ..Self::default() }
    }

    /// Requests that are still to fail.
    pub fn left(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst) + self.refused.load(Ordering::SeqCst)
    }

    fn pass(&self) -> Result<()> {
        if take_one(&self.unanswered) {
            return Err(Error::Generic { store: "memory", source: "connection refused".into() });
        }
        if take_one(&self.refused) {
            return Err(Error::PermissionDenied { path: "key".into(), source: "403".into() });
        }
        Ok(())
    }
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl ObjectStoreHandle {
    /// The same store behind a line that `outage` cuts, for tests.
    #[must_use]
    pub fn behind(&self, outage: &Outage) -> Self {
        let client = Interrupted { inner: Arc::clone(&self.client), outage: outage.clone() };
        Self { client: Arc::new(client), ..self.clone() }
    }
}

#[derive(Debug)]
struct Interrupted {
    inner: Arc<dyn ObjectStore>,
    outage: Outage,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Carries out `request` unless there is an outage.
macro_rules! pass {
    ($store:ident, $request:expr) => {
        Box::pin(async move {
            $store.outage.pass()?;
            $request.await
        })
    };
}

impl ObjectStore for Interrupted {
    fn put_opts<'s: 'f, 'l: 'f, 'f>(
        &'s self,
        location: &'l Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> BoxFuture<'f, Result<PutResult>> {
        pass!(self, self.inner.put_opts(location, payload, options))
    }

    fn put_multipart_opts<'s: 'f, 'l: 'f, 'f>(
        &'s self,
        location: &'l Path,
        options: PutMultipartOptions,
    ) -> BoxFuture<'f, Result<Box<dyn MultipartUpload>>> {
        pass!(self, self.inner.put_multipart_opts(location, options))
    }

    fn get_opts<'s: 'f, 'l: 'f, 'f>(
        &'s self,
        location: &'l Path,
        options: GetOptions,
    ) -> BoxFuture<'f, Result<GetResult>> {
        pass!(self, async {
            if let Some(together) = &self.outage.together {
                together.wait().await;
            }
            self.inner.get_opts(location, options).await
        })
    }

    fn get_ranges<'s: 'f, 'l: 'f, 'r: 'f, 'f>(
        &'s self,
        location: &'l Path,
        ranges: &'r [Range<u64>],
    ) -> BoxFuture<'f, Result<Vec<Bytes>>> {
        pass!(self, self.inner.get_ranges(location, ranges))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.stream(|inner| inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // Breaks off in the middle as well.
        let outage = self.outage.clone();
        self.inner.list(prefix).map(move |entry| outage.pass().and(entry)).boxed()
    }

    fn list_with_delimiter<'s: 'f, 'p: 'f, 'f>(
        &'s self,
        prefix: Option<&'p Path>,
    ) -> BoxFuture<'f, Result<ListResult>> {
        pass!(self, self.inner.list_with_delimiter(prefix))
    }

    fn copy_opts<'s: 'f, 'a: 'f, 'b: 'f, 'f>(
        &'s self,
        from: &'a Path,
        to: &'b Path,
        options: CopyOptions,
    ) -> BoxFuture<'f, Result<()>> {
        pass!(self, self.inner.copy_opts(from, to, options))
    }
}

impl Interrupted {
    fn stream<T: Send + 'static>(
        &self,
        open: impl FnOnce(&dyn ObjectStore) -> BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        match self.outage.pass() {
            Ok(()) => open(self.inner.as_ref()),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::Patience;
    use futures::TryStreamExt;
    use mlop_api::Reason;
    use std::time::Duration;

    /// A store whose requests are repeated at once.
    fn store(outage: &Outage) -> ObjectStoreHandle {
        let moment = Duration::from_millis(1);
        let patience = Patience { total: Duration::from_secs(30), shortest: moment, longest: moment };
        ObjectStoreHandle::in_memory("data").behind(outage).with_patience(patience)
    }

    #[tokio::test]
    async fn requests_survive_an_outage() {
        let outage = Outage::default();
        let store = store(&outage);
        outage.leave_unanswered(3);
        assert!(store.create("a/b", "content").await.unwrap());
        outage.leave_unanswered(3);
        assert!(!store.create("a/b", "other").await.unwrap());
        outage.leave_unanswered(3);
        assert_eq!(store.get("a/b", 100).await.unwrap(), "content");
        outage.leave_unanswered(3);
        assert_eq!(store.size("a/b").await.unwrap(), Some(7));
        outage.leave_unanswered(3);
        let read: Vec<_> = store.read("a/b").await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), b"content");
        outage.leave_unanswered(3);
        store.delete("a/b").await.unwrap();
        assert_eq!((store.size("a/b").await.unwrap(), outage.left()), (None, 0));
    }

    #[tokio::test]
    async fn broken_listing_resumes_behind_its_last_object() {
        let outage = Outage::default();
        let store = store(&outage);
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            store.create(key, "x").await.unwrap();
        }
        let mut listing = store.list("a/");
        let mut keys = vec![listing.try_next().await.unwrap().unwrap().key];
        outage.leave_unanswered(4);
        keys.extend(listing.map_ok(|entry| entry.key).try_collect::<Vec<_>>().await.unwrap());
        assert_eq!(keys, ["a/1", "a/2", "a/3"]);
        assert_eq!(outage.left(), 0);
    }

    #[tokio::test]
    async fn refusal_is_reported_at_once() {
        let outage = Outage::default();
        outage.refuse(1);
        let failure = store(&outage).create("a", "x").await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::StoreDenied, false));
    }
}
