//! Measures the online API on loopback: `cargo test -p mlop-features --test latency -- --ignored --nocapture`. The
//! variable MLOP_FEATURES names another binary to measure, such as an optimized one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

mod common;

use common::{
    redis::TestRedis,
    view::{EARLY, NAMESPACE, activate, users},
};
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::Instant,
};

const ENTITIES: i64 = 10_000;

/// Sends `body` over a connection that stays open and reads the answer; gives its status line.
async fn ask(stream: &mut BufStream<TcpStream>, body: &str) -> String {
    let head =
        format!("POST /get-online-features HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let (mut status, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let line = line.trim_end();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        match line {
            "" => break,
            line if status.is_empty() => line.clone_into(&mut status),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    status
}

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn online_features_are_measured() {
    let Some(redis) = TestRedis::start().await else { return };
    let rows: Vec<_> = (0..ENTITIES).map(|user| (Some(user), EARLY, user as f64, Some("RO"))).collect();
    activate(&redis, &users(&rows), 1).await.unwrap();
    let binary = std::env::var("MLOP_FEATURES").unwrap_or(env!("CARGO_BIN_EXE_mlop-features").to_owned());
    let mut server = Command::new(binary)
        .args(["serve", "--redis", &redis.address(), "--namespace", NAMESPACE, "--listen", "127.0.0.1:0"])
        .arg("--password-file")
        .arg(redis.password_file())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        (line["message"] == "listening").then(|| line["address"].as_str().unwrap().to_owned())
    });
    let mut stream = BufStream::new(TcpStream::connect(listening.unwrap()).await.unwrap());
    for entities in [1, 100] {
        let mut times = Vec::new();
        let begin = Instant::now();
        for round in 0.. {
            if begin.elapsed() > Duration::from_secs(3) {
                break;
            }
            let users: Vec<_> = (0..entities).map(|n| (round * 7919 + n * 101) % ENTITIES).collect();
            let features = ["user_stats:amount_avg", "user_stats:tx_count", "user_stats:country"];
            let body = json!({"features": features, "entities": {"user_id": users}}).to_string();
            let sent = Instant::now();
            let status = ask(&mut stream, &body).await;
            times.push(sent.elapsed());
            assert_eq!(status, "HTTP/1.1 200 OK");
        }
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 1_000];
        println!("{entities} entities: {} requests, p50 {:?}, p99 {:?}", times.len(), at(500), at(990));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("server {resident}");
    server.kill().unwrap();
    server.wait().unwrap();
}
