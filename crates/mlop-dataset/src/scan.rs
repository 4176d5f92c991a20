//! Which objects of the source match, and in which state?

use crate::{
    glob::Pattern,
    listing::{OBJECTS_MAX, Object, Writer},
    text,
};
use futures::TryStreamExt;
use mlop_api::{
    Reason,
    common::Metric,
    result::{Failure, ResultDocument},
    task::ScanWork,
};
use mlop_artifact::store::{Entry, ObjectStoreHandle};

/// Lists the source and stores the listing in `output`. Empty objects are left out: they hold no rows, and many tools
/// leave them behind as marks of directories.
///
/// # Errors
/// [`Reason::SourceEmpty`] when nothing matches; otherwise as the stores say.
pub async fn scan(
    source: &ObjectStoreHandle,
    output: &ObjectStoreHandle,
    work: &ScanWork,
) -> Result<ResultDocument, Failure> {
    let listing = list(source, work).await?;
    let skipped = source.skipped().map(|keys| format!("; skipped objects with unusable keys: {keys}"));
    let skipped = skipped.unwrap_or_default();
    let (objects, bytes) = (listing.objects, listing.bytes);
    if objects == 0 {
        let (place, patterns) = (source.store().uri(&work.prefix), work.include.join(", "));
        let which =
            if patterns.is_empty() { "object".to_owned() } else { format!("object that matches {patterns}") };
        let message = format!(
            "there is no {which} with content under {place}; upload one, or correct prefix and include{skipped}"
        );
        return Err(Failure::terminal(Reason::SourceEmpty, message));
    }
    let digest = listing.store(output).await?;
    Ok(ResultDocument {
        digest: Some(digest),
        summary: Some(format!("{}, {}{skipped}", text::count(objects, "object"), text::bytes(bytes))),
        metrics: vec![Metric::new("objects", objects as f64), Metric::new("bytes", bytes as f64)],
        ..ResultDocument::default()
    })
}

async fn list(source: &ObjectStoreHandle, work: &ScanWork) -> Result<Writer, Failure> {
    let include = work.include.iter().map(|pattern| Pattern::new(pattern)).collect::<Result<Vec<_>, _>>()?;
    let mut listing = Writer::new()?;
    let mut entries = source.list(&work.prefix);
    while let Some(entry) = entries.try_next().await? {
        let rest = entry.key.get(work.prefix.len()..).unwrap_or_default();
        if entry.size == 0 || !(include.is_empty() || include.iter().any(|pattern| pattern.matches(rest))) {
            continue;
        }
        if listing.objects == OBJECTS_MAX {
            let most = text::thousands(OBJECTS_MAX);
            let message = format!("{} has more than {most} objects", source.store().uri(&work.prefix));
            return Err(Failure::terminal(
                Reason::InvalidSpec,
                format!("{message}; narrow prefix or include"),
            ));
        }
        listing.add(object(source, entry)?)?;
    }
    Ok(listing)
}

fn object(source: &ObjectStoreHandle, entry: Entry) -> Result<Object, Failure> {
    let Entry { key, size, etag, version } = entry;
    let Some(etag) = etag else {
        let message = format!(
            "the store lists no etag for {}, so changes would go unnoticed",
            source.store().uri(&key)
        );
        return Err(Failure::terminal(Reason::WorkerFailed, message));
    };
    Ok(Object { key, size, etag, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Listing;

    async fn store(keys: &[&str]) -> ObjectStoreHandle {
        let store = ObjectStoreHandle::in_memory("raw");
        for key in keys {
            store.create(key, "a\n1\n").await.unwrap();
        }
        store
    }

    fn work(source: &ObjectStoreHandle, prefix: &str, include: &[&str]) -> ScanWork {
        ScanWork {
            source: source.store().clone(),
            prefix: prefix.to_owned(),
            include: include.iter().map(|&pattern| pattern.to_owned()).collect(),
            output: source.store().clone(),
        }
    }

    async fn keys(source: &ObjectStoreHandle, prefix: &str, include: &[&str]) -> Vec<String> {
        let output = ObjectStoreHandle::in_memory("data");
        let result = scan(source, &output, &work(source, prefix, include)).await.unwrap();
        let listing = Listing::read(&output, &result.digest.unwrap()).await.unwrap();
        let mut keys = Vec::new();
        let add = |object: Object| {
            keys.push(object.key);
            Ok(())
        };
        listing.for_each(add).unwrap();
        keys
    }

    #[tokio::test]
    async fn listing_is_sorted_and_filtered() {
        let source = store(&["f/2.csv", "f/1.csv", "f/x/3.csv", "f/read.me", "g/4.csv"]).await;
        source.create("f/empty.csv", "").await.unwrap();
        assert_eq!(keys(&source, "f/", &["*.csv"]).await, ["f/1.csv", "f/2.csv"]);
        assert_eq!(keys(&source, "f/", &["**/*.csv"]).await, ["f/1.csv", "f/2.csv", "f/x/3.csv"]);
        assert_eq!(keys(&source, "f/", &["1*", "x/*"]).await, ["f/1.csv", "f/x/3.csv"]);
        assert_eq!(keys(&source, "f/", &[]).await, ["f/1.csv", "f/2.csv", "f/read.me", "f/x/3.csv"]);
        assert_eq!(keys(&source, "f/r", &[]).await, ["f/read.me"]);
        assert_eq!(keys(&source, "", &["g/*"]).await, ["g/4.csv"]);
    }

    #[tokio::test]
    async fn unchanged_source_has_an_unchanged_digest() {
        let source = store(&["a.csv", "b.csv"]).await;
        let output = ObjectStoreHandle::in_memory("data");
        let work = work(&source, "", &["*.csv"]);
        let first = scan(&source, &output, &work).await.unwrap();
        assert_eq!(scan(&source, &output, &work).await.unwrap(), first);
        assert_eq!(first.summary.as_deref(), Some("2 objects, 8 B"));
        source.delete("a.csv").await.unwrap();
        source.create("a.csv", "a\n2\n").await.unwrap();
        assert_ne!(scan(&source, &output, &work).await.unwrap().digest, first.digest);
    }

    #[tokio::test]
    async fn scan_without_a_match_is_terminal() {
        let source = store(&["a.csv"]).await;
        let failure = scan(&source, &source, &work(&source, "x/", &["*.csv"])).await.unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::SourceEmpty, false));
        assert!(failure.message.contains("s3://raw/test/x/") && failure.message.contains("*.csv"));
    }
}
