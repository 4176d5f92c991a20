//! Opening an ObjectStore with the keys that the operator mounted.

use super::{
    ObjectStoreHandle,
    listed::{Connector, Skipped},
};
use crate::{environment, patience::Patience, secret::MountedSecret};
use mlop_api::{Reason, labels, result::Failure, task::Store};
use object_store::{
    BackoffConfig, Certificate, ClientOptions, CredentialProvider, Error, RetryConfig,
    aws::{AmazonS3Builder, AwsCredential},
};
use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request is repeated while the store does not answer, unless a worker has more time.
const PATIENCE: Patience = Patience::of(Duration::from_secs(120));
/// Repetitions of one request inside the client, which also resume bodies that break off.
const RETRIES: usize = 5;

/// Opens `store` with the keys that the operator mounted, or unsigned when it names no Secret. Sends nothing yet.
///
/// # Errors
/// [`Reason::SecretMissing`] when a key is missing or has white space at its ends; [`Reason::InvalidSpec`] when the
/// address or the certificate cannot be used.
pub fn open(store: &Store) -> Result<ObjectStoreHandle, Failure> {
    open_with_keys(store, &environment::stores_dir())
}

/// As [`open`], with the directory given that holds a directory of keys per ObjectStore.
///
/// # Errors
/// As [`open`].
pub fn open_with_keys(store: &Store, stores_dir: &Path) -> Result<ObjectStoreHandle, Failure> {
    let address = || format!("endpoint {:?}, bucket {:?}", store.endpoint, store.bucket);
    let invalid =
        |why: String| Failure::terminal(Reason::InvalidSpec, format!("ObjectStore {}: {why}", store.name));
    let secret = MountedSecret::new(format!("ObjectStore {}", store.name), stores_dir.join(&store.name));
    let mut options = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(CONNECT_TIMEOUT)
        // Bodies may take hours; the handle bounds silence and single requests.
        .with_timeout_disabled();
    let certificates = if store.credentials { secret.text(labels::CA_CERTIFICATE)? } else { None };
    if let Some(pem) = certificates {
        let bundle = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
        if bundle.is_empty() {
            return Err(invalid(format!(
                "{} in its Secret holds no certificate (PEM)",
                labels::CA_CERTIFICATE
            )));
        }
        options = bundle.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    let endpoint = store.endpoint.trim_end_matches('/');
    let skipped = Skipped::default();
    let builder = AmazonS3Builder::new()
        .with_http_connector(Connector(skipped.clone()))
        .with_endpoint(if store.virtual_hosted {
            hosted(endpoint, &store.bucket)
        } else {
            endpoint.to_owned()
        })
        .with_region(&store.region)
        .with_bucket_name(&store.bucket)
        .with_virtual_hosted_style_request(store.virtual_hosted)
        .with_client_options(options)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 2.0,
            },
            max_retries: RETRIES,
            // For one body this counts from its beginning: it must not forbid resuming a long one.
            retry_timeout: Duration::from_secs(24 * 3_600),
        });
    let builder = if store.credentials {
        // Read at once, so that a missing key is named before any request.
        let keys = Keys(secret);
        keys.read()?;
        builder.with_credentials(Arc::new(keys))
    } else {
        builder.with_skip_signature(true)
    };
    let client = builder.build().map_err(|error| invalid(format!("{}: {error}", address())))?;
    let handle = ObjectStoreHandle::new(store.clone(), Arc::new(client)).with_patience(PATIENCE);
    Ok(ObjectStoreHandle { skipped, ..handle })
}

/// `https://host/path` as `https://bucket.host/path`.
fn hosted(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        None => endpoint.to_owned(),
    }
}

/// The keys of one ObjectStore. They are read for each request, so that rotated keys are used at once.
#[derive(Debug)]
struct Keys(MountedSecret);

impl Keys {
    fn read(&self) -> Result<AwsCredential, Failure> {
        Ok(AwsCredential {
            key_id: self.0.required(labels::ACCESS_KEY_ID)?,
            secret_key: self.0.required(labels::SECRET_ACCESS_KEY)?,
            token: self.0.optional(labels::SESSION_TOKEN)?,
        })
    }
}

type Credential<'a> = Pin<Box<dyn Future<Output = Result<Arc<AwsCredential>, Error>> + Send + 'a>>;

impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    fn get_credential<'a, 'b>(&'a self) -> Credential<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let read = self.read();
        Box::pin(async {
            read.map(Arc::new)
                .map_err(|failure| Error::Generic { store: "S3", source: failure.message.into() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(credentials: bool) -> Store {
        Store {
            name: "models".into(),
            endpoint: "https://s3.example.com:9000/gateway".into(),
            region: "eu-1".into(),
            bucket: "b".into(),
            credentials,
            ..Store::default()
        }
    }

    fn secret(keys: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        for (name, value) in keys {
            std::fs::write(dir.path().join("models").join(name), value).unwrap();
        }
        dir
    }

    #[test]
    fn secret_is_refused_with_the_key_and_its_flaw() {
        let rows: [(&[(&str, &str)], &str); 6] = [
            (&[], "has no key AWS_ACCESS_KEY_ID"),
            (&[("AWS_ACCESS_KEY_ID", "a")], "has no key AWS_SECRET_ACCESS_KEY"),
            (&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "s")], "has no key AWS_ACCESS_KEY_ID"),
            (
                &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s\n")],
                "AWS_SECRET_ACCESS_KEY that ends with a line end",
            ),
            (
                &[("AWS_ACCESS_KEY_ID", " a"), ("AWS_SECRET_ACCESS_KEY", "s")],
                "AWS_ACCESS_KEY_ID that has white space",
            ),
            (
                &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t\n")],
                "AWS_SESSION_TOKEN that ends with a line end",
            ),
        ];
        for (keys, words) in rows {
            let failure = open_with_keys(&store(true), secret(keys).path()).unwrap_err();
            assert_eq!((failure.reason, failure.retryable), (Reason::SecretMissing, false), "{words}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn keys_are_read_again_for_each_request() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
        let dir = secret(&keys);
        let mounted = Keys(MountedSecret::new("ObjectStore models".into(), dir.path().join("models")));
        let credential = mounted.get_credential().await.unwrap();
        assert_eq!((credential.key_id.as_str(), credential.token.as_deref()), ("a", Some("t")));
        std::fs::write(dir.path().join("models/AWS_ACCESS_KEY_ID"), "b").unwrap();
        assert_eq!(mounted.get_credential().await.unwrap().key_id, "b");
    }

    #[test]
    fn unreadable_certificate_is_refused() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s"), ("ca.crt", "-----BEGIN")];
        let opened = open_with_keys(&store(true), secret(&keys).path());
        assert!(opened.is_err_and(|failure| failure.message.contains("ca.crt")));
    }

    #[test]
    fn bucket_is_part_of_the_host_when_asked_for() {
        assert_eq!(
            hosted("https://s3.example.com:9000/gateway", "b"),
            "https://b.s3.example.com:9000/gateway"
        );
        let virtual_hosted = Store { virtual_hosted: true, ..store(false) };
        assert!(open_with_keys(&virtual_hosted, Path::new("/none")).is_ok());
        assert!(open_with_keys(&store(false), Path::new("/none")).is_ok());
    }
}
