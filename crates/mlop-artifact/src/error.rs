//! The meaning of an error of the object store or of a local file for the work: a documented reason, and whether
//! trying again can help.

use mlop_api::{
    Reason, labels,
    result::{Failure, UNNAMED_SECRET},
};
use object_store::Error;
use std::{error::Error as _, io, path::Path};

/// Longest quotation of somebody else's error text, in bytes.
const QUOTE_BYTES_MAX: usize = 400;

/// The listed state does not come back: a further attempt would read everything up to this object in vain.
const CHANGED: &str = "the object changed since it was listed; a new scan sees its present state";

/// The failure behind `error`, met while `doing` something (`reading s3://bucket/key`) with the ObjectStore `store`.
pub fn store_failure(store: &str, doing: &str, error: &Error) -> Failure {
    let text = chain(error);
    let failure = |retryable, reason, advice: &str| {
        let message = format!("ObjectStore {store}: {doing}: {advice} ({})", quote(&text));
        Failure { retryable, ..Failure::terminal(reason, message) }
    };
    let (terminal, transient) = (|r, a: &str| failure(false, r, a), |r, a: &str| failure(true, r, a));
    // The keys are read for each request. A Secret that is being replaced is whole again in a moment.
    if let Some((_, words)) = text.split_once("Generic S3 error: ").filter(|_| text.contains(UNNAMED_SECRET))
    {
        return Failure::transient(Reason::SecretMissing, words);
    }
    if text.contains("NoSuchBucket") {
        return terminal(
            Reason::BucketNotFound,
            "the bucket does not exist; create it or correct spec.bucket",
        );
    }
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => denied(terminal),
        // An overloaded store may say so of an object that it has.
        Error::NotFound { .. } => transient(Reason::InputCorrupt, "the object does not exist"),
        Error::Precondition { .. } => terminal(Reason::SourceChanged, CHANGED),
        Error::InvalidPath { .. } => terminal(
            Reason::WorkerFailed,
            "a key has an empty segment, a '..' or control characters; rename the object or narrow the prefix",
        ),
        Error::AlreadyExists { .. } => terminal(Reason::WorkerFailed, "there is another object already"),
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            terminal(Reason::WorkerFailed, "the store does not support this")
        }
        _ => match status(&text).ok_or_else(|| untrusted(&text, "spec.secretName", "spec.endpoint")) {
            Ok(401 | 403) => denied(terminal),
            Ok(412) => terminal(Reason::SourceChanged, CHANGED),
            Ok(404) => transient(
                Reason::StoreUnreachable,
                "the store does not know the address; check endpoint and region",
            ),
            // 409: another request for the same key is under way.
            Ok(status @ 300..=499) if !matches!(status, 408 | 409 | 429) => terminal(
                Reason::StoreDenied,
                "the store refuses the request; correct endpoint, region or bucket",
            ),
            // No repetition changes a certificate.
            Err(Some(advice)) => terminal(Reason::StoreUnreachable, &advice),
            _ => transient(Reason::StoreUnreachable, "the store does not answer; check endpoint and network"),
        },
    }
}

fn denied(failure: impl Fn(Reason, &str) -> Failure) -> Failure {
    failure(
        Reason::StoreDenied,
        "the store refuses the keys, or there are none; correct the Secret or the bucket's policy",
    )
}

/// What to do about the certificate of a server, if `text` is the error of a client that does not trust it. `secret` is the
/// field that names the Secret of the connection, `address` that of the server's address.
pub fn untrusted(text: &str, secret: &str, address: &str) -> Option<String> {
    if text.contains("InvalidContentType") {
        return Some(format!("the server does not speak TLS; correct the port or the scheme of {address}"));
    }
    let (_, flaw) = text.split_once("invalid peer certificate: ")?;
    Some(if flaw.starts_with("UnknownIssuer") {
        let key = labels::CA_CERTIFICATE;
        format!(
            "the authority of the server's certificate is not known; add its certificate (PEM) as the key {key} to the Secret of {secret}"
        )
    } else if flaw.contains("not valid for name") {
        format!("the server's certificate is for another host; correct {address} or the certificate")
    } else {
        "the server's certificate is not valid; replace it".to_owned()
    })
}

/// The failure behind an error of a local file, met while `doing` (`writing`) something to `path`.
pub fn local_failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let advice = if full { "; the pod needs more scratch space" } else { "" };
    Failure::transient(Reason::WorkerFailed, format!("{doing} {}: {error}{advice}", path.display()))
}

/// The error and its causes in one line, each once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The HTTP status in the client's error text: its list calls keep it nowhere else.
fn status(text: &str) -> Option<u16> {
    if text.contains("redirect without LOCATION") {
        return Some(301);
    }
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The part that helps a reader: code and message of an S3 error document; otherwise what follows the client's account
/// of its retries, if there is one.
fn quote(text: &str) -> String {
    let element = |name: &str| {
        text.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
    };
    let mut quoted = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.rsplit_once(" - ").map_or(text, |(_, cause)| cause).to_owned(),
    };
    let mut end = quoted.len().min(QUOTE_BYTES_MAX);
    while !quoted.is_char_boundary(end) {
        end -= 1;
    }
    quoted.truncate(end);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[track_caller]
    fn check(error: &Error, reason: Reason, retryable: bool) {
        let failure = store_failure("raw", "listing s3://b/", error);
        assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{}", failure.message);
        assert!(failure.message.contains("ObjectStore raw: listing s3://b/"), "{}", failure.message);
    }

    #[test]
    fn errors_have_their_reasons() {
        let source = || Box::<dyn std::error::Error + Send + Sync>::from("x");
        check(&generic("connection refused"), Reason::StoreUnreachable, true);
        check(&generic("non-2xx status code: 503 Slow Down: "), Reason::StoreUnreachable, true);
        check(&generic("non-2xx status code: 429 Too Many Requests: "), Reason::StoreUnreachable, true);
        check(&generic("non-2xx status code: 409 Conflict: "), Reason::StoreUnreachable, true);
        check(&generic("status code: 412 Precondition Failed: "), Reason::SourceChanged, false);
        check(&generic("non-2xx status code: 403 Forbidden: <Error/>"), Reason::StoreDenied, false);
        check(&generic("non-2xx status code: 400 Bad Request: <Error/>"), Reason::StoreDenied, false);
        check(&generic("non-2xx status code: 404 Not Found: <Error/>"), Reason::StoreUnreachable, true);
        check(&generic("Received redirect without LOCATION"), Reason::StoreDenied, false);
        check(&generic("invalid peer certificate: UnknownIssuer"), Reason::StoreUnreachable, false);
        check(&generic("status code: 404: <Code>NoSuchBucket</Code>"), Reason::BucketNotFound, false);
        check(&Error::PermissionDenied { path: "k".into(), source: source() }, Reason::StoreDenied, false);
        check(&Error::NotFound { path: "k".into(), source: source() }, Reason::InputCorrupt, true);
        check(&Error::Precondition { path: "k".into(), source: source() }, Reason::SourceChanged, false);
    }

    #[test]
    fn s3_error_document_is_quoted_by_code_and_message() {
        let body = "status code: 403: <?xml?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
        assert_eq!(quote(body), "AccessDenied: No.");
        let retried = "GET http://x in 1s, after 5 retries, max_retries: 5 - HTTP error: connection refused";
        assert_eq!(quote(retried), "HTTP error: connection refused");
        assert_eq!(quote(&"é".repeat(1_000)).len(), QUOTE_BYTES_MAX);
    }
}
