//! Tasks side by side: compilers, downloads and links wait at different times, so two cores end sooner together.
//!
//! Each line of output carries the name of its lane. The first failure ends the other lanes, and its words are the error.
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, anyhow};

use crate::process;
use crate::progress::note;

/// Memory in KiB below which lanes run one after the other: a Go linker and two Rust compilers at the same time.
const MEMORY_KIB: u64 = 6 << 20;

/// Commands that run one after the other.
pub struct Lane {
    pub name: &'static str,
    pub commands: Vec<Command>,
}

/// The lanes that run, and the failure that ended them.
#[derive(Default)]
struct State {
    running: Vec<u32>,
    failure: Option<anyhow::Error>,
}

/// Runs all `lanes` to their ends.
///
/// # Errors
/// The first failure of a command.
pub fn run(lanes: Vec<Lane>) -> Result<()> {
    let state = Mutex::new(State::default());
    if available_kib().is_some_and(|kib| kib < MEMORY_KIB) {
        note("little memory: one after the other");
        lanes.into_iter().for_each(|lane| follow(lane, &state));
    } else {
        thread::scope(|scope| {
            for lane in lanes {
                scope.spawn(|| follow(lane, &state));
            }
        });
    }
    let state = state.into_inner().map_err(|_| anyhow!("a lane panicked"))?;
    state.failure.map_or(Ok(()), Err)
}

fn follow(lane: Lane, state: &Mutex<State>) {
    let prefix = format!("{} | ", lane.name);
    for mut command in lane.commands {
        if locked(state, |state| state.failure.is_some()) {
            return;
        }
        let mut child = None;
        let started = |pid| {
            child = Some(pid);
            locked(state, |state| {
                state.running.push(pid);
                if state.failure.is_some() {
                    stop(&[pid]);
                }
            });
        };
        let ended = process::stream(&mut command, &prefix, started, |_| ());
        locked(state, |state| {
            state.running.retain(|pid| Some(*pid) != child);
            let Err(error) = ended else { return };
            // Later failures are those of the commands that are stopped here.
            if state.failure.is_none() {
                state.failure = Some(error.context(format!("{} failed", lane.name)));
                stop(&state.running);
            }
        });
    }
}

fn locked<T>(state: &Mutex<State>, access: impl FnOnce(&mut State) -> T) -> T {
    access(&mut state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Ends all programs that this process has started.
pub fn stop_all() {
    let table = process::output(Command::new("ps").args(["-A", "-o", "pid=,ppid="])).unwrap_or_default();
    let own = std::process::id();
    let children: Vec<u32> = family(&[own], &table).into_iter().filter(|pid| *pid != own).collect();
    stop(&children);
}

/// Ends `processes` with all their descendants: cargo and go would otherwise run on.
fn stop(processes: &[u32]) {
    let mut stopped = Vec::new();
    loop {
        let table = process::output(Command::new("ps").args(["-A", "-o", "pid=,ppid="])).unwrap_or_default();
        let family = family(processes, &table);
        if family.len() <= stopped.len() {
            break;
        }
        // A stopped process starts no others.
        signal("STOP", &family);
        stopped = family;
    }
    signal("TERM", &stopped);
    signal("CONT", &stopped);
}

fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let mut kill = Command::new("kill");
    kill.args(["-s", name]).args(processes.iter().map(u32::to_string));
    // A process that has ended meanwhile needs no signal.
    kill.output().ok();
}

/// `processes` and their descendants; `table` has a process and its parent in each line.
fn family(processes: &[u32], table: &str) -> Vec<u32> {
    let mut family = processes.to_vec();
    let pairs: Vec<(u32, u32)> = table
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
        .collect();
    loop {
        let found: Vec<u32> = pairs
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if found.is_empty() {
            return family;
        }
        family.extend(found);
    }
}

/// Memory that new processes can have; none where the system does not say.
fn available_kib() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &'static str, script: &str) -> Lane {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Lane { name, commands: vec![command] }
    }

    #[test]
    fn failure_of_a_lane_stops_the_others_and_is_the_error() {
        // Without the stop this test would take minutes.
        let lanes = vec![lane("long", "sleep 600 & wait"), lane("short", "echo why >&2; exit 3")];
        let error = format!("{:#}", run(lanes).unwrap_err());
        assert!(error.starts_with("short failed") && error.ends_with("why"), "{error}");
    }

    #[test]
    fn family_has_the_children_of_children() {
        let table = "  1 0\n 10 1\n 11 10\n 12 11\n 20 1\n";
        assert_eq!(family(&[10], table), [10, 11, 12]);
    }
}
