//! A node of the cluster under test: its processes and its packet filter.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use std::{env, process::Command};

/// A node on which this process can run programs.
///
/// The node of a local cluster is this machine. Elsewhere `MLOP_NODE_EXEC` is a command that takes the name of a node, a
/// program and its arguments, such as `podman exec`.
#[derive(Clone)]
pub struct Node {
    /// The words before a program and its arguments.
    prefix: Vec<String>,
    name: String,
}

/// A process of a node.
pub struct Process {
    node: Node,
    id: String,
}

impl Node {
    /// The node of a pod.
    ///
    /// # Errors
    /// The pod is not scheduled, or the nodes of this cluster are out of reach.
    pub fn of(pod: &Pod) -> Result<Self> {
        let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        Self::named(name.context("the pod is not scheduled")?)
    }

    fn named(name: &str) -> Result<Self> {
        let prefix = match env::var("MLOP_NODE_EXEC") {
            Ok(exec) => exec.split_whitespace().chain([name]).map(str::to_owned).collect(),
            Err(_) if env::var("MLOP_CLUSTER").is_ok_and(|provider| provider == "local") => Vec::new(),
            Err(_) => bail!(
                "the node {name} is not this machine, and MLOP_NODE_EXEC is not set: `eval \"$(cargo xtask cluster env)\"` \
                 sets it for kind"
            ),
        };
        Ok(Self { prefix, name: name.to_owned() })
    }

    /// The newest process of a program. An earlier one can still be ending.
    ///
    /// # Errors
    /// There is none.
    pub fn process(&self, program: &str) -> Result<Process> {
        let found = self.run(&["pgrep", "--newest", "--full", &command_line(program)]);
        let id = found.with_context(|| format!("no process {program} on the node {}", self.name))?;
        Ok(Process { node: self.clone(), id: id.trim().to_owned() })
    }

    /// Changes a rule of the packet filter.
    ///
    /// # Errors
    /// iptables fails.
    pub fn iptables(&self, verb: &str, rule: &[String]) -> Result<()> {
        let rule = rule.iter().map(String::as_str);
        self.run(&["iptables", "-w", verb].into_iter().chain(rule).collect::<Vec<_>>()).map(drop)
    }

    /// Runs a program, and returns its standard output.
    fn run(&self, words: &[&str]) -> Result<String> {
        let mut words = self.prefix.iter().map(String::as_str).chain(words.iter().copied());
        let program = words.next().context("an empty command")?;
        let words: Vec<&str> = words.collect();
        let output = Command::new(program).args(&words).output();
        let output = output.with_context(|| format!("cannot start {program}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {} failed ({}): {error}", words.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Process {
    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.node.run(&["kill", "-s", name, &self.id]).map(drop)
    }
}

/// A regular expression for the command line of a program. All parts of Kubernetes can be one program, and its first
/// argument is then the name of the part.
fn command_line(program: &str) -> String {
    format!("^([^ ]*/)?(kube-all )?{program}( |$)")
}
