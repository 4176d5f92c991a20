//! Changes of the machine for composed nodes, and their reversal.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::engine::Nodes;
use super::{NODE_RANGE, POD_RANGE, SERVICE_RANGE};
use crate::{cache, process};

/// kind's name for its network.
const NETWORK: &str = "kind";
/// kind mounts it into nodes; it may be empty.
const MODULES: &str = "/lib/modules";
/// A file in the cluster's state, there when `MODULES` was created.
const MADE_MODULES: &str = "made-modules";
/// A file in the cluster's state, with the values before the cluster.
const SYSCTLS: &str = "sysctls";
/// systemd and the kubelet of a node set these for the whole machine.
const CHANGED: [&str; 14] = [
    "fs.file-max",
    "fs.nr_open",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.pid_max",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "net.ipv4.ip_forward",
];
/// The names of chains that Podman's network leaves behind.
const CHAINS: &str = "NETAVARK";
/// The cgroup of Podman's containers, in every hierarchy.
const CGROUP: &str = "libpod_parent";

pub(super) fn prepare(nodes: &Nodes, state: &Path) -> Result<()> {
    let sysctls = state.join(SYSCTLS);
    if !sysctls.exists() {
        fs::write(&sysctls, process::output(Command::new("sysctl").args(CHANGED))? + "\n")?;
    }
    if !Path::new(MODULES).exists() {
        fs::create_dir_all(MODULES).with_context(|| format!("cannot make {MODULES}"))?;
        fs::write(state.join(MADE_MODULES), "")?;
    }
    // kind would make it with IPv6.
    if process::run(nodes.command().args(["network", "exists", NETWORK])).is_err() {
        process::run(nodes.command().args(["network", "create", "--subnet", NODE_RANGE, NETWORK]))?;
    }
    // Nothing that nodes or pods send, or that is meant for pods or Services, leaves the machine.
    for range in [POD_RANGE, SERVICE_RANGE] {
        process::run(Command::new("ip").args(["route", "replace", "blackhole", range]))?;
    }
    for rule in rejections()? {
        if change("-C", &rule).is_err() {
            change("-I", &rule)?;
        }
    }
    Ok(())
}

/// Undoes [`prepare`], and what the engine leaves. Absent changes are no errors: the cluster may be half up.
pub(super) fn restore(nodes: &Nodes, state: &Path) -> Result<()> {
    process::run(nodes.command().args(["network", "rm", "--force", NETWORK])).ok();
    for rule in rejections()? {
        while change("-D", &rule).is_ok() {}
    }
    for range in [POD_RANGE, SERVICE_RANGE] {
        process::run(Command::new("ip").args(["route", "del", "blackhole", range])).ok();
    }
    for table in ["nat", "filter"] {
        remove_chains(table)?;
    }
    for hierarchy in directories(Path::new("/sys/fs/cgroup")) {
        remove_empty(&hierarchy.join(CGROUP));
    }
    let sysctls = state.join(SYSCTLS);
    if sysctls.exists() {
        process::run(Command::new("sysctl").arg("--quiet").arg("--load").arg(&sysctls))?;
    }
    if state.join(MADE_MODULES).exists() {
        fs::remove_dir(MODULES).with_context(|| format!("cannot remove {MODULES}"))?;
        cache::remove(&state.join(MADE_MODULES))?;
    }
    Ok(())
}

/// Rules against packets of nodes and pods that would leave by the default route; none without such a route.
fn rejections() -> Result<Vec<String>> {
    let route = process::output(Command::new("ip").args(["-4", "route", "show", "default"]))?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev").skip(1);
    let Some(interface) = words.next() else { return Ok(Vec::new()) };
    let rule = |range| format!("FORWARD -s {range} -o {interface} -m comment --comment mlop-kind -j REJECT");
    Ok([NODE_RANGE, POD_RANGE].map(rule).into())
}

fn remove_chains(table: &str) -> Result<()> {
    let rules = process::output(Command::new("iptables").args(["-w", "-t", table, "-S"]))?;
    let commands = format!("*{table}\n{}\nCOMMIT\n", deletions(&rules).join("\n"));
    process::feed(Command::new("iptables-restore").args(["-w", "--noflush"]), &commands)
}

/// The commands for `iptables-restore` that remove the chains of Podman's network from the rules that `iptables -S` lists: first the jumps to them,
/// then their rules, then they themselves.
fn deletions(rules: &str) -> Vec<String> {
    let chains: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix("-N "))
        .filter(|chain| chain.starts_with(CHAINS))
        .collect();
    let jumps = rules.lines().filter_map(|line| {
        let rule = line.strip_prefix("-A ")?;
        let from_outside = !rule.starts_with(CHAINS);
        let target = rule.rsplit_once("-j ")?.1;
        (from_outside && target.starts_with(CHAINS)).then(|| format!("-D {rule}"))
    });
    let mut deletions: Vec<String> = jumps.collect();
    deletions.extend(chains.iter().map(|chain| format!("-F {chain}")));
    deletions.extend(chains.iter().map(|chain| format!("-X {chain}")));
    deletions
}

/// Removes a cgroup with its children; those with processes stay.
fn remove_empty(cgroup: &Path) {
    directories(cgroup).iter().for_each(|child| remove_empty(child));
    fs::remove_dir(cgroup).ok();
}

/// The directories in `parent`; none if there is no `parent`.
fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect()
}

fn change(verb: &str, rule: &str) -> Result<()> {
    process::run(Command::new("iptables").args(["-w", verb]).args(rule.split(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chains_of_podman_are_removed() {
        let rules = "-P FORWARD ACCEPT\n-N KUBE-X\n-N NETAVARK-1\n-N NETAVARK_FORWARD\n\
                     -A FORWARD -m comment --comment \"netavark firewall plugin rules\" -j NETAVARK_FORWARD\n\
                     -A FORWARD -j KUBE-X\n-A NETAVARK_FORWARD -d 198.19.208.0/24 -j ACCEPT\n";
        assert_eq!(
            deletions(rules),
            [
                "-D FORWARD -m comment --comment \"netavark firewall plugin rules\" -j NETAVARK_FORWARD",
                "-F NETAVARK-1",
                "-F NETAVARK_FORWARD",
                "-X NETAVARK-1",
                "-X NETAVARK_FORWARD",
            ]
        );
    }
}
