//! The container engine whose containers are the nodes.
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::engine::Engine;
use crate::{buildah, paths};

/// Podman and its parts. runc, since crun refuses hierarchies of both versions of cgroups next to each other.
pub(super) const PACKAGES: [&str; 7] =
    ["podman", "conmon", "runc", "netavark", "aardvark-dns", "iptables", "iproute2"];

/// Podman lowers its own limit of processes to this, and cannot give more.
const PROCESSES: u64 = 32768;
const FILES: u64 = 1 << 20;

pub(super) struct Nodes {
    engine: Engine,
    /// Variables that the engine, and programs that call it, need.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

impl Nodes {
    /// Docker or Podman as this machine has it.
    pub(super) fn of_this_machine() -> Result<Self> {
        let engine = Engine::running().context("neither Docker nor Podman answers")?;
        Ok(Self { engine, environment: Vec::new() })
    }

    /// Podman with settings of its own, and with the images that Buildah made.
    pub(super) fn apart() -> Result<Self> {
        let directory = directory()?;
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let limits = fs::read_to_string("/proc/self/limits").context("cannot read this process's limits")?;
        let files = [
            ("CONTAINERS_STORAGE_CONF", "storage.conf", storage()?),
            (
                "CONTAINERS_CONF",
                "containers.conf",
                settings(&limits, &directory.join("networks").display().to_string()),
            ),
        ];
        let mut environment = Vec::new();
        for (variable, name, text) in files {
            let path = directory.join(name);
            if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            environment.push((variable, path.into_os_string()));
        }
        Ok(Self { engine: Engine::Podman, environment })
    }

    pub(super) fn program(&self) -> &'static str {
        self.engine.program()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.envs(self.environment.iter().cloned());
        command
    }
}

fn directory() -> Result<PathBuf> {
    Ok(paths::built()?.join("podman"))
}

fn storage() -> Result<String> {
    let (root, run) = (buildah::storage()?, buildah::run()?);
    Ok(format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        root.display(),
        run.display()
    ))
}

/// By default Podman asks for more files and processes than a user without CAP_SYS_RESOURCE may have.
fn settings(limits: &str, networks: &str) -> String {
    let files = hard_limit(limits, "Max open files").min(FILES);
    let processes = hard_limit(limits, "Max processes").min(PROCESSES);
    format!(
        "[containers]\n\
         default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
         [engine]\n\
         runtime = \"runc\"\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         # A node has nothing to save.\n\
         stop_timeout = 1\n\
         [network]\n\
         network_backend = \"netavark\"\n\
         network_config_dir = \"{networks}\"\n"
    )
}

/// The hard limit in a table as in `/proc/self/limits`: name, soft limit, hard limit, unit.
fn hard_limit(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_at_most_those_of_the_process() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             95000                unlimited            processes \n\
                     Max open files            1024                 524288               files     \n";
        let settings = settings(table, "/networks");
        assert!(settings.contains(r#"["nofile=524288:524288", "nproc=32768:32768"]"#), "{settings}");
    }
}
