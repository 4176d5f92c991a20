//! Checks that a store answers and allows what mlop needs.

use futures::TryStreamExt;
use mlop_api::{
    Reason,
    result::{Failure, ResultDocument},
    task::Subject,
};
use mlop_artifact::store::ObjectStoreHandle;

/// Content of the probe's object, which is compared when it is read back.
const CONTENT: &[u8] = b"mlop checks that it can create, read and delete here\n";

/// Lists, creates, reads and deletes a small object under `.mlop-probe/`.
///
/// A store whose requests are not signed may be a public source that cannot be written to: that is success, and the
/// summary says so.
///
/// # Errors
/// The reason of the first thing that does not work, with what to do about it.
pub async fn probe(store: &ObjectStoreHandle, subject: &Subject) -> Result<ResultDocument, Failure> {
    store.list("").try_next().await?;
    let key = format!(".mlop-probe/{}-{}", subject.uid, subject.attempt);
    match write(store, &key).await {
        Ok(()) => Ok(reachable("readable and writable")),
        Err(failure) if failure.reason == Reason::StoreDenied && !store.store().credentials => {
            Ok(reachable("readable; not writable without keys, so a source only"))
        }
        Err(failure) if failure.reason == Reason::StoreDenied => {
            let needs = "mlop needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject below the prefix; a source that \
                 is only read has spec.readOnly: true";
            Err(Failure { message: format!("{}; {needs}", failure.message), ..failure })
        }
        Err(failure) => Err(failure),
    }
}

/// Lists, and opens the first object.
///
/// # Errors
/// The reason of the first thing that does not work.
pub async fn source(store: &ObjectStoreHandle) -> Result<ResultDocument, Failure> {
    let Some(first) = store.list("").try_next().await? else {
        return Ok(reachable("readable; there is no object yet"));
    };
    // An object that is deleted meanwhile is no fault of the store.
    store.size(&first.key).await?;
    Ok(reachable("readable"))
}

async fn write(store: &ObjectStoreHandle, key: &str) -> Result<(), Failure> {
    store.create(key, CONTENT).await?;
    let overwritten = store.create(key, CONTENT).await?;
    let content = store.get(key, CONTENT.len() as u64).await?;
    store.delete(key).await?;
    let broken = |what: &str| {
        let message = format!("ObjectStore {}: {what}", store.store().name);
        Err(Failure::terminal(Reason::WorkerFailed, message))
    };
    if overwritten {
        return broken(
            "it overwrites objects in spite of If-None-Match: use a release of it that supports this",
        );
    }
    if content != CONTENT {
        return broken(
            "the content that was read differs from the content that was written: check proxies before the store",
        );
    }
    Ok(())
}

fn reachable(summary: &str) -> ResultDocument {
    ResultDocument { summary: Some(summary.to_owned()), ..ResultDocument::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::task::Store;
    use mlop_artifact::{patience::Patience, store};

    fn subject() -> Subject {
        Subject {
            kind: "ObjectStore".into(),
            namespace: "default".into(),
            name: "raw".into(),
            uid: "uid-1".into(),
            attempt: 1,
        }
    }

    #[tokio::test]
    async fn probe_leaves_a_good_store_unchanged() {
        let store = ObjectStoreHandle::in_memory("raw");
        let result = probe(&store, &subject()).await.unwrap();
        assert_eq!(result.summary.as_deref(), Some("readable and writable"));
        assert_eq!(store.list("").try_next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn probe_succeeds_after_an_interrupted_one() {
        let store = ObjectStoreHandle::in_memory("raw");
        store.create(".mlop-probe/uid-1-1", CONTENT).await.unwrap();
        probe(&store, &subject()).await.unwrap();
    }

    #[tokio::test]
    async fn source_is_only_read() {
        let store = ObjectStoreHandle::in_memory("raw");
        let summary = async || source(&store).await.unwrap().summary;
        assert_eq!(summary().await.as_deref(), Some("readable; there is no object yet"));
        store.create(".mlop-probe/uid-1-1", CONTENT).await.unwrap();
        assert_eq!(summary().await.as_deref(), Some("readable"));
        assert!(store.list("").try_next().await.unwrap().is_some(), "a probe that writes deletes it");
    }

    #[tokio::test]
    async fn silent_store_is_unreachable() {
        let address = Store {
            name: "raw".into(),
            endpoint: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
            bucket: "bucket".into(),
            prefix: String::new(),
            credentials: false,
            ..Store::default()
        };
        let unreachable = store::open(&address).unwrap().with_patience(Patience::NONE);
        let failure = probe(&unreachable, &subject()).await.unwrap_err();
        assert_eq!(
            (failure.reason, failure.retryable),
            (Reason::StoreUnreachable, true),
            "{}",
            failure.message
        );
    }
}
