//! What launcher and agent tell each other: one JSON document per line, bounded. The agent trusts none of it, because
//! user code runs beside the launcher.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest document in bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

/// The agent to the launcher: end the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
}

/// The launcher to the agent: the command has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub end: End,
    /// The last lines that it printed.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    ExitCode(i32),
    Signal(i32),
    /// It could not be started, and why.
    NotStarted(String),
    /// It was not started, because the container has no working GPU, and why.
    Unfit(String),
}

/// Sends one document.
///
/// # Errors
/// When the other side is gone.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

/// Receives one document; `None` when the other side is gone without one.
///
/// # Errors
/// When the line is not such a document, or too long.
pub async fn receive<M: DeserializeOwned>(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<M>> {
    let mut line = Vec::new();
    from.take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn documents_read_back_and_garbage_is_refused() {
        let report = Report { end: End::Signal(9), last_lines: vec!["a\nb".into()] };
        let mut sent = Vec::new();
        send(&mut sent, &report).await.unwrap();
        assert_eq!(receive(&mut sent.as_slice()).await.unwrap(), Some(report));
        assert_eq!(receive::<Report>(&mut [].as_slice()).await.unwrap(), None);
        let long = vec![b'['; 1 << 20];
        for garbage in [b"{\"end\":{\"exitCode\":0}".as_slice(), b"\n", b"null\n", &long] {
            assert!(receive::<Report>(&mut &garbage[..]).await.is_err());
        }
    }
}
