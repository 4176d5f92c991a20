//! Listings without the keys that the client cannot address.
//!
//! S3 allows any character in a key, empty segments and slashes at both ends. The client fails a whole page of a
//! listing for one such key, or addresses another object by it. So these entries are taken out of the store's answer
//! before the client reads it, and are remembered by name.

use bytes::Bytes;
use futures::future::BoxFuture;
use mlop_api::text::printable;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
        ReqwestConnector,
    },
    path::Path as Key,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Keys that are remembered by name.
const NAMES_MAX: usize = 3;
const CONTENTS: (&str, &str) = ("<Contents>", "</Contents>");

/// Objects that were left out of listings.
#[derive(Clone, Debug, Default)]
pub struct Skipped(Arc<Mutex<BTreeSet<String>>>);

/// Most keys that are counted.
const KEYS_MAX: usize = 10_000;

impl Skipped {
    /// How many there are, and some of them by name, if there are any.
    pub fn describe(&self) -> Option<String> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<_> =
            keys.iter().take(NAMES_MAX).map(|key| format!("\"{}\"", printable(key))).collect();
        let more = if keys.len() > names.len() { ", …" } else { "" };
        (!keys.is_empty()).then(|| format!("{} ({}{more})", keys.len(), names.join(", ")))
    }

    fn add(&self, key: String) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < KEYS_MAX {
            keys.insert(key);
        }
    }
}

/// Connects with listings that the client can read.
#[derive(Debug)]
pub struct Connector(pub Skipped);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { client, skipped: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    skipped: Skipped,
}

impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default();
            let is_listing = query.split('&').any(|parameter| parameter == "list-type=2");
            let response = self.client.execute(request).await?;
            if !is_listing || !response.status().is_success() {
                return Ok(response);
            }
            let (parts, body) = response.into_parts();
            let page = body.bytes().await?;
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(self.legible(page))))
        })
    }
}

impl Service {
    /// A page of a listing without the entries that the client cannot address.
    fn legible(&self, page: Bytes) -> Bytes {
        let text = String::from_utf8_lossy(&page);
        let mut kept = String::new();
        let mut rest = text.as_ref();
        while let Some((before, entry)) = rest.split_once(CONTENTS.0) {
            let Some((entry, after)) = entry.split_once(CONTENTS.1) else { break };
            kept.push_str(before);
            let key = unescape(element(entry, "Key"));
            if is_addressable(&key) {
                kept.extend([CONTENTS.0, entry, CONTENTS.1]);
            } else if element(entry, "Size") != "0" {
                // Empty objects are marks of directories.
                self.skipped.add(key);
            }
            rest = after;
        }
        if kept.len() + rest.len() == text.len() {
            return page;
        }
        kept.push_str(rest);
        kept.into()
    }
}

/// Whether the client asks for the object `key` by this very key.
fn is_addressable(key: &str) -> bool {
    // A store that cannot write a character in XML replaces it.
    !key.contains('\u{fffd}') && Key::parse(key).is_ok_and(|parsed| parsed.as_ref() == key)
}

/// The text of the first element `name` in `entry`.
fn element<'a>(entry: &'a str, name: &str) -> &'a str {
    let inner =
        entry.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    inner.map(|(inner, _)| inner).unwrap_or_default()
}

/// XML's text without entities.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        plain.push_str(before);
        let Some((name, after)) = entity.split_once(';') else { break };
        let number = name.strip_prefix("#x").map(|hex| u32::from_str_radix(hex, 16));
        let number = number.or_else(|| name.strip_prefix('#').map(str::parse)).and_then(Result::ok);
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => number.and_then(char::from_u32).unwrap_or('\u{fffd}'),
        });
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use mlop_api::task::Store;
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread::JoinHandle,
    };

    fn page(keys: &[&str]) -> String {
        let entry = |key: &&str| format!("<Contents><Key>{key}</Key><Size>3</Size></Contents>");
        let entries: String = keys.iter().map(entry).collect();
        format!(
            "<ListBucketResult><Name>raw</Name>{entries}<IsTruncated>false</IsTruncated></ListBucketResult>"
        )
    }

    fn legible(page: &str) -> (String, Option<String>) {
        let skipped = Skipped::default();
        let client = ReqwestConnector::default().connect(&ClientOptions::new()).unwrap();
        let service = Service { client, skipped: skipped.clone() };
        let kept = service.legible(Bytes::from(page.to_owned()));
        (String::from_utf8(kept.to_vec()).unwrap(), skipped.describe())
    }

    #[test]
    fn ordinary_keys_stay_as_they_are() {
        let page = page(&["a/b.csv", "a+b 50%.csv", "dt=1/ø[1]?.csv", "a&amp;b;'~.csv", "100%25.csv"]);
        assert_eq!(legible(&page), (page, None));
    }

    #[test]
    fn keys_without_an_address_are_skipped_and_named() {
        let odd = ["tab\tx", "x//y", "/lead", "trail/", "a/../b", "del\u{7f}", "nul&#x1;", "bad\u{fffd}"];
        for key in odd {
            let (kept, skipped) = legible(&page(&["a.csv", key, "b.csv"]));
            assert_eq!(kept, page(&["a.csv", "b.csv"]), "{key:?}");
            assert!(skipped.unwrap().starts_with("1 ("), "{key:?}");
        }
        let (kept, skipped) = legible(&page(&odd));
        assert_eq!(kept, page(&[]));
        assert_eq!(skipped.unwrap(), "8 (\"/lead\", \"a/../b\", \"bad\u{fffd}\", …)");
    }

    /// A store that answers one request with `page`: its endpoint, which has a path, and the request.
    fn serve(page: String) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let request = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            let length = connection.read(&mut request).unwrap();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
            connection.write_all((head + &page).as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (format!("http://{address}/gateway/v1"), request)
    }

    #[tokio::test]
    async fn one_odd_key_does_not_fail_the_listing_of_a_store() {
        let entry = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-03-01T10:00:00.000Z</LastModified><ETag>\"1\"</ETag><Size>3</Size></Contents>"
            )
        };
        let entries: String = ["in/a.csv", "in//b.csv", "in/del\u{7f}.csv", "in/c.csv/"].map(entry).concat();
        let (endpoint, request) = serve(format!("<ListBucketResult>{entries}</ListBucketResult>"));
        let (name, bucket, region) = ("raw".to_owned(), "raw".to_owned(), "us-east-1".to_owned());
        let store =
            crate::store::open(&Store { name, endpoint, bucket, region, ..Store::default() }).unwrap();
        let entries: Vec<_> = store.list("in/").try_collect().await.unwrap();
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["in/a.csv"]);
        let skipped = store.skipped().unwrap();
        assert_eq!(skipped, r#"3 ("in//b.csv", "in/c.csv/", "in/del\u{7f}.csv")"#);
        let request = request.join().unwrap();
        assert!(request.starts_with("GET /gateway/v1/raw?list-type=2&"), "{request}");
    }

    #[test]
    fn marks_of_directories_are_skipped_silently() {
        let mark = "<Contents><Key>b08/</Key><Size>0</Size></Contents>";
        assert_eq!(legible(&format!("<L>{mark}</L>")), ("<L></L>".to_owned(), None));
    }

    #[test]
    fn other_answers_pass_unchanged() {
        for text in ["", "<Error/>", "<Contents><Key>x//y", "\u{0}"] {
            assert_eq!(legible(text), (text.to_owned(), None));
        }
    }
}
