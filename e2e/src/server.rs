//! A server as a process of this machine.

use crate::control_plane::last_lines;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// The time limit for a start on a busy machine.
const START: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Dropping it kills the process.
pub(crate) struct Server {
    name: String,
    child: Child,
    probe: String,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, whose server listens at `address`. Its log is a file in `directory`.
    pub(crate) fn start(command: &Command, address: &str, probe: &str, directory: &Path) -> Result<Self> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        if std::net::TcpStream::connect(address).is_ok() {
            bail!("{name}: another process listens at {address}");
        }
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = bound(command)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| {
                format!("cannot start {name}: is it on the PATH? `cargo xtask` builds or unpacks it")
            })?;
        Ok(Self { name, child, probe: format!("http://{address}{probe}"), log })
    }

    /// Kills the process, and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        // One that cannot be killed has ended already.
        self.child.kill().await.ok();
    }

    /// Waits until the server answers with success.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if reqwest::get(&self.probe).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} has ended ({status}):\n{}", self.name, last_lines(&self.log));
            }
            sleep(POLL_INTERVAL).await;
        }
        bail!("{} does not answer at {}:\n{}", self.name, self.probe, last_lines(&self.log))
    }
}

/// The command as a process that does not outlive this one, however this one ends.
pub(crate) fn bound(command: &Command) -> Command {
    let command = command.as_std();
    let mut bound = Command::new("setpriv");
    bound
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .kill_on_drop(true);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_that_ends_is_an_error_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo wrong flag >&2; exit 2"]);
        // A port at which nothing listens: the probe fails until the process has ended.
        let mut server = Server::start(&command, "127.0.0.1:1", "/", directory.path()).unwrap();
        let error = server.ready().await.unwrap_err().to_string();
        assert!(error.contains("sh has ended") && error.contains("wrong flag"), "{error}");
    }

    #[tokio::test]
    async fn taken_address_is_an_error_that_names_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let error = Server::start(&Command::new("true"), &address, "/", directory.path()).err().unwrap();
        assert_eq!(error.to_string(), format!("true: another process listens at {address}"));
    }
}
