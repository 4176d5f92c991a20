//! A real S3 server (MinIO) behind TLS, with a certificate of an authority of its own.
//!
//! `MLOP_TEST_MINIO` names the program; without it, one on the PATH is taken. If there is none, the tests are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use futures::TryStreamExt;
use mlop_api::{Reason, labels, result::Failure, task::Store};
use mlop_artifact::{
    patience::Patience,
    store::{ObjectStoreHandle, open_with_keys},
};
use object_store::{
    Certificate, ClientOptions,
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpConnector, HttpRequest, ReqwestConnector},
};
use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};

/// The certificate, its key and its authority.
const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mlop-registrar/tests/tls");
const ID: &str = "mlop-test";
const SECRET: &str = "mlop-test-secret";
const BUCKET: &str = "raw";
/// Of the process that uses a proxy: the endpoint behind it, and the directory with its keys.
const ENDPOINT: &str = "MLOP_TEST_S3_ENDPOINT";
const KEYS: &str = "MLOP_TEST_S3_KEYS";

/// A server on a loopback port, with an empty bucket; ended when dropped.
struct Server {
    process: Child,
    port: u16,
    _directory: TempDir,
}

impl Server {
    /// Starts one, or reports that the test is skipped because there is no such program.
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (data, certificates) = (directory.path().join("data"), directory.path().join("certs"));
        // A bucket is a directory.
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        std::fs::create_dir(&certificates).unwrap();
        std::fs::copy(format!("{TLS}/server.crt"), certificates.join("public.crt")).unwrap();
        std::fs::copy(format!("{TLS}/server.key"), certificates.join("private.key")).unwrap();
        let port = free_port();
        let program = std::env::var_os("MLOP_TEST_MINIO").unwrap_or_else(|| "minio".into());
        let spawned = Command::new(program)
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}"), "--certs-dir"])
            .args([&certificates, &data])
            .env("MINIO_ROOT_USER", ID)
            .env("MINIO_ROOT_PASSWORD", SECRET)
            .env("MINIO_DOMAIN", "s3.test")
            .env("MINIO_BROWSER", "off")
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            let advice = "set MLOP_TEST_MINIO to the program; `cargo xtask test` builds one";
            assert!(std::env::var_os("CI").is_none(), "this test needs minio: {advice}");
            eprintln!("skipped: no minio here; {advice}");
            return None;
        };
        let mut server = Self { process, port, _directory: directory };
        server.wait().await;
        Some(server)
    }

    async fn wait(&mut self) {
        let keys = trusted_keys();
        let store = self.open("localhost", &keys).unwrap().with_patience(Patience::NONE);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while store.find("absent", 1).await != Ok(None) {
            assert!(self.process.try_wait().unwrap().is_none(), "minio ended at once");
            assert!(tokio::time::Instant::now() < deadline, "minio does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn open(&self, host: &str, keys: &TempDir) -> Result<ObjectStoreHandle, Failure> {
        open_with_keys(&store(&format!("https://{host}:{}", self.port)), keys.path())
    }

    /// Keys for an hour, with a session token.
    async fn temporary_keys(&self) -> [String; 3] {
        let pem = std::fs::read(format!("{TLS}/ca.crt")).unwrap();
        let authority = Certificate::from_pem(&pem).unwrap();
        let options = ClientOptions::new().with_root_certificate(authority);
        let client = ReqwestConnector::default().connect(&options).unwrap();
        let body = "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600";
        let request = http::Request::post(format!("https://localhost:{}/", self.port))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned().into());
        let mut request: HttpRequest = request.unwrap();
        let root = AwsCredential { key_id: ID.into(), secret_key: SECRET.into(), token: None };
        AwsAuthorizer::new(&root, "sts", "us-east-1").authorize(&mut request, None);
        let answer = client.execute(request).await.unwrap().into_body().bytes().await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{answer}"));
            rest.split_once('<').unwrap().0.to_owned()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A port that is free when asked. If another process takes it meanwhile, the start fails.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn store(endpoint: &str) -> Store {
    Store {
        name: "models".into(),
        endpoint: endpoint.into(),
        region: "us-east-1".into(),
        bucket: BUCKET.into(),
        prefix: "team/".into(),
        credentials: true,
        ..Store::default()
    }
}

/// The mounted Secret of the ObjectStore `models`, with the certificate of the server's authority if `is_trusted`.
fn keys(id: &str, secret: &str, token: Option<&str>, is_trusted: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mounted = directory.path().join("models");
    std::fs::create_dir(&mounted).unwrap();
    let pairs = [
        (labels::ACCESS_KEY_ID, Some(id)),
        (labels::SECRET_ACCESS_KEY, Some(secret)),
        (labels::SESSION_TOKEN, token),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            std::fs::write(mounted.join(name), value).unwrap();
        }
    }
    if is_trusted {
        std::fs::copy(format!("{TLS}/ca.crt"), mounted.join(labels::CA_CERTIFICATE)).unwrap();
    }
    directory
}

fn trusted_keys() -> TempDir {
    keys(ID, SECRET, None, true)
}

/// Writes, reads and lists.
async fn use_store(store: &ObjectStoreHandle) -> Result<(), Failure> {
    store.create("a/1.csv", "x\n").await?;
    assert_eq!(store.get("a/1.csv", 10).await?, "x\n");
    let listed: Vec<_> = store.list("a/").try_collect().await?;
    assert_eq!(listed.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["a/1.csv"]);
    Ok(())
}

/// The failure of the first request, which must come without the minutes that a silent store has.
async fn refusal(store: Result<ObjectStoreHandle, Failure>) -> (Reason, String) {
    let store = store.unwrap();
    let failure = tokio::time::timeout(Duration::from_secs(30), use_store(&store)).await;
    let failure = failure.expect("told soon").unwrap_err();
    (failure.reason, failure.message)
}

#[tokio::test]
async fn certificate_of_an_own_authority_is_judged_in_words() {
    let Some(server) = Server::start().await else { return };
    let trusted = trusted_keys();
    use_store(&server.open("localhost", &trusted).unwrap()).await.unwrap();

    let rows = [
        ("localhost", false, "as the key ca.crt to the Secret of spec.secretName"),
        ("127.0.0.1", true, "for another host; correct spec.endpoint"),
    ];
    for (host, is_trusted, words) in rows {
        let keys = keys(ID, SECRET, None, is_trusted);
        let (reason, message) = refusal(server.open(host, &keys)).await;
        assert_eq!(reason, Reason::StoreUnreachable, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let plain = store(&format!("http://localhost:{}", server.port));
    let (reason, message) = refusal(open_with_keys(&plain, trusted.path())).await;
    assert_eq!(reason, Reason::StoreDenied, "{message}");
    assert!(message.contains("HTTP request to an HTTPS server"), "{message}");
}

#[tokio::test]
async fn server_without_tls_is_told_from_a_silent_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::io::Write::write_all(&mut connection.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    let keys = trusted_keys();
    let (reason, message) = refusal(open_with_keys(&store(&endpoint), keys.path())).await;
    assert_eq!(reason, Reason::StoreUnreachable, "{message}");
    assert!(
        message.contains("does not speak TLS; correct the port or the scheme of spec.endpoint"),
        "{message}"
    );
}

#[tokio::test]
async fn session_token_belongs_to_its_keys() {
    let Some(server) = Server::start().await else { return };
    let [id, secret, token] = server.temporary_keys().await;
    let valid = keys(&id, &secret, Some(&token), true);
    use_store(&server.open("localhost", &valid).unwrap()).await.unwrap();
    for token in [None, Some("none")] {
        let keys = keys(&id, &secret, token, true);
        let (reason, message) = refusal(server.open("localhost", &keys)).await;
        assert_eq!(reason, Reason::StoreDenied, "{token:?}: {message}");
    }
}

/// Kubernetes replaces the files of a Secret that is applied again.
#[tokio::test]
async fn key_that_goes_missing_at_work_is_waited_for_and_named() {
    let Some(server) = Server::start().await else { return };
    let keys = trusted_keys();
    let file = keys.path().join("models").join(labels::ACCESS_KEY_ID);
    let store = server.open("localhost", &keys).unwrap();
    std::fs::remove_file(&file).unwrap();
    let impatient = store.with_patience(Patience::NONE);
    let failure = impatient.find("absent", 1).await.unwrap_err();
    assert_eq!((failure.reason, failure.retryable), (Reason::SecretMissing, true), "{}", failure.message);
    assert_eq!(
        failure.message,
        "ObjectStore models: the Secret that it names has no key AWS_ACCESS_KEY_ID, or does not exist"
    );
    let (found, ()) = tokio::join!(store.find("absent", 1), async {
        tokio::task::yield_now().await;
        std::fs::write(&file, ID).unwrap();
    });
    assert_eq!(found, Ok(None));
}

/// The bucket becomes a part of the host. No name below `s3.test` exists: a proxy leads all of them to the server, as a
/// company's does. The client reads its address from the environment, so the store is used by another process.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_is_part_of_the_host_behind_a_proxy() {
    if let (Ok(endpoint), Some(keys)) = (std::env::var(ENDPOINT), std::env::var_os(KEYS)) {
        let store = Store { virtual_hosted: true, ..store(&endpoint) };
        return use_store(&open_with_keys(&store, &PathBuf::from(keys)).unwrap()).await.unwrap();
    }
    let Some(server) = Server::start().await else { return };
    let (proxy, asked) = proxy(server.port).await;
    let (keys, endpoint) = (trusted_keys(), format!("https://s3.test:{}", server.port));
    let ended = tokio::task::spawn_blocking({
        let keys = keys.path().to_owned();
        move || itself(&endpoint, &keys, &proxy)
    });
    let output = ended.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, BTreeSet::from([format!("raw.s3.test:{}", server.port)]));
}

/// Runs the test of the proxy in a process with the proxy's variable.
fn itself(endpoint: &str, keys: &Path, proxy: &str) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bucket_is_part_of_the_host_behind_a_proxy", "--nocapture"])
        .env(ENDPOINT, endpoint)
        .env(KEYS, keys)
        .env("HTTPS_PROXY", proxy)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap()
}

/// Starts a proxy that leads every host to `port`. Returns its address and the hosts that were asked for.
async fn proxy(port: u16) -> (String, Arc<Mutex<BTreeSet<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let hosts = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let hosts = Arc::clone(&hosts);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let (mut first, mut line) = (String::new(), String::from("…"));
                client.read_line(&mut first).await.unwrap();
                while !line.trim().is_empty() {
                    line.clear();
                    client.read_line(&mut line).await.unwrap();
                }
                let host = first.split(' ').nth(1).unwrap().to_owned();
                hosts.lock().unwrap().insert(host);
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (address, asked)
}
