//! The server under requests of the documented size, and with clients that are slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use common::{
    redis::TestRedis,
    store, table,
    view::{EARLY, NAMESPACE, online, run},
};
use mlop_api::task::{Online, ViewKey};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const ENTITIES: i64 = 10_000;
const FEATURES: usize = 20;
/// Memory that the server may use: the default of `spec.api.resources.memory`.
const MEMORY_BYTES: u64 = 256 << 20;

/// A server of its own for one test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Serves a view `wide` of [`FEATURES`] whole numbers for each of [`ENTITIES`].
    async fn start(redis: &TestRedis) -> Self {
        let users = || Arc::new(Int64Array::from_iter_values(0..ENTITIES)) as ArrayRef;
        let mut columns = vec![
            ("user_id".to_owned(), users()),
            ("ts".to_owned(), common::times((0..ENTITIES).map(|_| EARLY))),
        ];
        columns.extend((0..FEATURES).map(|n| (format!("f{n}"), users())));
        let store = store();
        let digest = table(&store, &RecordBatch::try_from_iter(columns).unwrap()).await;
        let view = ViewKey { namespace: NAMESPACE.to_owned(), name: "wide".to_owned() };
        run(redis, &store, &digest, &Online { view, ..online(1) }).await.unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_mlop-features"))
            .args(["serve", "--namespace", NAMESPACE, "--listen", "127.0.0.1:0", "--drain-seconds", "0"])
            .args(["--redis", &redis.address(), "--password-file"])
            .arg(redis.password_file())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("listening")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: line["address"].as_str().unwrap().to_owned() }
    }

    /// Most memory that was in use.
    fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Requests that a client makes before it gives up.
const TRIES: usize = 20;

fn head(length: usize) -> String {
    format!(
        "POST /get-online-features HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Sends `body` and gives the answer. On a busy machine a server without room asks for another try.
async fn ask(address: String, body: String) -> String {
    for _ in 0..TRIES {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(head(body.len()).as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        if !answer.starts_with("HTTP/1.1 503") {
            return answer;
        }
    }
    panic!("{TRIES} answers with 503");
}

fn body(entities: i64) -> String {
    let features: Vec<_> = (0..FEATURES).map(|n| format!("wide:f{n}")).collect();
    json!({"features": features, "entities": {"user_id": (0..entities).collect::<Vec<_>>()}}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_requests_fit_into_the_default_memory() {
    let Some(redis) = TestRedis::start().await else { return };
    let server = Server::start(&redis).await;
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        requests.spawn(ask(server.address.clone(), body(ENTITIES)));
    }
    while let Some(answer) = requests.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{}", answer.get(..300).unwrap_or(&answer));
        assert!(answer.contains("9999"));
    }
    let peak = server.peak_bytes();
    println!("{} MiB at most", peak >> 20);
    assert!(peak < MEMORY_BYTES * 3 / 4, "{} MiB", peak >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_do_not_hold_up_others() {
    let Some(redis) = TestRedis::start().await else { return };
    let server = Server::start(&redis).await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        stream.write_all(head(1_000_000).as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 1_000]).await.unwrap();
        slow.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), ask(server.address.clone(), body(3))).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    let mut answer = String::new();
    slow[0].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("did not arrive within 10 seconds"), "{answer}");
}
