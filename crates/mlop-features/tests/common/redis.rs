//! A Redis of its own for one test.

use super::Scratch;
use mlop_features::online::connection::Server;
use redis::aio::MultiplexedConnection;
use std::{
    io::ErrorKind,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A redis-server on a loopback port, with an empty directory; ended when dropped.
pub struct TestRedis {
    process: Child,
    port: u16,
    scratch: Scratch,
}

pub const PASSWORD: &str = "p@ss word";

impl TestRedis {
    /// Starts one, or reports that the test is skipped because there is no redis-server; in CI that is a failure.
    pub async fn start() -> Option<Self> {
        let scratch = Scratch::new();
        // Free when asked. If another process takes it meanwhile, the start fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD, "--dir"])
            .arg(scratch.path())
            .stdout(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "this test needs redis-server: install the package redis-server"
                );
                eprintln!("left out: no redis-server here; install the package redis-server");
                return None;
            }
            Err(error) => panic!("starting redis-server: {error}"),
        };
        std::fs::write(scratch.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let mut redis = Self { process, port, scratch };
        redis.wait().await;
        Some(redis)
    }

    async fn wait(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.server().connect().await.is_err() {
            assert!(self.process.try_wait().unwrap().is_none(), "redis-server ended at once");
            assert!(tokio::time::Instant::now() < deadline, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn server(&self) -> Server {
        Server {
            address: self.address(),
            password_file: Some(self.password_file()),
            response_timeout: Duration::from_secs(10),
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn password_file(&self) -> std::path::PathBuf {
        self.scratch.path().join("password")
    }

    pub async fn connect(&self) -> MultiplexedConnection {
        self.server().connect().await.unwrap()
    }

    /// All keys, as text as far as they are.
    pub async fn keys(&self) -> Vec<String> {
        let keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg("*").query_async(&mut self.connect().await).await.unwrap();
        let mut keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        keys.sort();
        keys
    }

    pub fn stop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.stop();
    }
}
