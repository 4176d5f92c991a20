//! An HTTP server of this machine: its start, its CPU time, and requests to it.

use super::process::usage;
use crate::control_plane::last_lines;
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    time::{Instant, sleep},
};

const START_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A server on a port of loopback. Dropping it asks the process to end.
pub(super) struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts `command`, which listens on `port` and writes to `log`, and waits until `/health` answers 200.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start(mut command: Command, port: u16, log: PathBuf) -> Result<Self> {
        let name = command.get_program().display().to_string();
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { process, port };
        let end = Instant::now() + START_LIMIT;
        loop {
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/health")).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(server);
            }
            if let Some(ended) = server.process.try_wait()? {
                bail!("{name} ended ({ended}):\n{}", last_lines(&log));
            }
            ensure!(Instant::now() < end, "{name} does not answer:\n{}", last_lines(&log));
            sleep(POLL_INTERVAL).await;
        }
    }

    /// CPU seconds of the process and of those that it has started.
    pub(super) fn cpu(&self) -> Result<f64> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(|child| Ok(usage(child.parse()?)?.cpu));
        Ok(usage(id)?.cpu + children.sum::<Result<f64>>()?)
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufStream::new(stream)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that is killed would leave those that it has started.
        let _asked = Command::new("kill").arg(self.process.id().to_string()).status();
        let _reaped = self.process.wait();
    }
}

/// An HTTP connection that stays open.
pub(super) struct Connection(BufStream<TcpStream>);

impl Connection {
    /// Sends JSON and returns the body of the answer.
    ///
    /// # Errors
    /// The status is not 200.
    pub(super) async fn post(&mut self, path: &str, body: &str) -> Result<Vec<u8>> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let begin = head.len();
            ensure!(self.0.read_line(&mut head).await? > 0, "the server has closed the connection");
            let line = head.get(begin..).unwrap_or_default().trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}{}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
