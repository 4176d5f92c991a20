//! The launcher: starts the user's command, passes signals on, reaps its orphans, and reports how it ended.

use crate::{
    Layout, preflight,
    protocol::{self, End, Report, Stop},
    tail::{Cutter, Tail},
};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::pipe},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Longest wait for the agent, whose container starts after this one.
const AGENT_WAIT: Duration = Duration::from_secs(120);
/// Delay between two looks for the agent.
const AGENT_LOOK: Duration = Duration::from_millis(50);
/// Time to save for a command whose agent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(30);
/// Delay between two looks for remaining processes of the command.
const GROUP_LOOK: Duration = Duration::from_millis(100);
/// Longest wait for output that is still in the pipes when the command has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// Exit code of a command that does not exist, as shells have it.
const NOT_FOUND: u8 = 127;
/// Exit code of a command that cannot be started.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code when the command was not started, because the preflight has failed.
const UNFIT: u8 = 124;
/// Exit code when nothing could be started, because the agent is missing.
const NO_AGENT: u8 = 125;

/// Runs `command`, its program first, if the container has the `gpus` that it asks for, and returns the exit code for this
/// process.
pub async fn run(layout: &Layout, command: &[OsString], gpus: u32) -> u8 {
    if layout.finished().exists() {
        println!("mlop: an earlier attempt has finished this run; nothing to do");
        return 0;
    }
    // The command runs as the same user: it must not be able to trace this process and speak for it.
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("mlop: this process could be traced: {error}");
    }
    let agent = match connect(layout).await {
        Ok(agent) => agent,
        Err(error) => {
            eprintln!(
                "mlop: the agent's container does not answer at {}: {error}",
                layout.socket().display()
            );
            return NO_AGENT;
        }
    };
    let (from_agent, mut to_agent) = agent.into_split();
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (end, code) = match started(layout, command, gpus, &tail).await {
        Ok(running) => {
            let end = running.until_ended(BufReader::new(from_agent)).await;
            let code = exit_code(&end);
            (end, code)
        }
        Err(NotStarted { why, code }) => {
            eprintln!("mlop: {why}");
            (if code == UNFIT { End::Unfit(why) } else { End::NotStarted(why) }, code)
        }
    };
    let last_lines = tail.lock().unwrap_or_else(PoisonError::into_inner).lines();
    if let Err(error) = protocol::send(&mut to_agent, &Report { end, last_lines }).await {
        eprintln!("mlop: the agent is gone: {error}");
    }
    code
}

async fn connect(layout: &Layout) -> io::Result<UnixStream> {
    let given_up = Instant::now() + AGENT_WAIT;
    loop {
        match UnixStream::connect(layout.socket()).await {
            Ok(agent) => return Ok(agent),
            Err(error) if Instant::now() > given_up => return Err(error),
            Err(_) => sleep(AGENT_LOOK).await,
        }
    }
}

/// The command, started once the preflight has succeeded.
async fn started(
    layout: &Layout,
    command: &[OsString],
    gpus: u32,
    tail: &Arc<Mutex<Tail>>,
) -> Result<Running, NotStarted> {
    if gpus > 0 {
        preflight::gpus().await.map_err(|why| NotStarted { why, code: UNFIT })?;
    }
    Running::start(layout, command, tail)
}

struct NotStarted {
    why: String,
    code: u8,
}

/// The command, in a process group of its own.
struct Running {
    pid: Pid,
    children: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    output: JoinSet<()>,
}

impl Running {
    fn start(layout: &Layout, command: &[OsString], tail: &Arc<Mutex<Tail>>) -> Result<Self, NotStarted> {
        let failed = |what: &str, error: io::Error| {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            NotStarted { why: format!("{what}: {error}"), code }
        };
        let Some((program, arguments)) = command.split_first() else {
            return Err(NotStarted { why: "there is no command".to_owned(), code: NOT_EXECUTABLE });
        };
        let what = format!("the command {} cannot be started", program.display());
        // Before the command exists, so that no signal of its end is missed.
        let children = signal(SignalKind::child()).map_err(|error| failed(&what, error))?;
        let terminate = signal(SignalKind::terminate()).map_err(|error| failed(&what, error))?;
        let mut command = isolated(Command::new(program));
        command.args(arguments).envs(hyperparameters(layout));
        // Without code files the image's own working directory stays.
        let work = layout.work();
        if work.is_dir() {
            command.current_dir(work);
        }
        let mut child = command.spawn().map_err(|error| failed(&what, error))?;
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(forward(stdout.into(), tokio::io::stdout(), Arc::clone(tail)));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(forward(stderr.into(), tokio::io::stderr(), Arc::clone(tail)));
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid =
            pid.ok_or_else(|| NotStarted { why: format!("{what}: it has no id"), code: NOT_EXECUTABLE })?;
        Ok(Self { pid, children, terminate, output })
    }

    /// Waits for the command's end. SIGTERM is passed on to its main process, and the kubelet counts the time; the
    /// agent's `Stop` and its disappearance end the command within a grace.
    async fn until_ended(mut self, mut agent: BufReader<tokio::net::unix::OwnedReadHalf>) -> End {
        let mut told = std::pin::pin!(protocol::receive::<Stop>(&mut agent));
        let (mut kill_at, mut listening) = (None, true);
        let mut is_told = false;
        let end = loop {
            // SIGCHLD of several children may be one: everything is reaped each time, also before the first wait.
            if let Some(end) = self.reap() {
                break end;
            }
            tokio::select! {
                _ = self.children.recv() => {}
                _ = self.terminate.recv() => {
                    is_told = true;
                    self.signal_main(Signal::TERM);
                }
                stop = &mut told, if listening => {
                    listening = false;
                    let grace = stop.ok().flatten().map_or(ORPHAN_GRACE, |stop| Duration::from_secs(stop.grace_seconds));
                    is_told = true;
                    self.signal_main(Signal::TERM);
                    kill_at = Some(Instant::now() + grace);
                }
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    self.signal_group(Signal::KILL);
                    kill_at = None;
                }
            }
        };
        if is_told && end == End::Signal(Signal::TERM.as_raw()) {
            // A shell that does not pass SIGTERM on: the program that it has started may still save.
            self.end_group(kill_at.unwrap_or_else(|| Instant::now() + ORPHAN_GRACE)).await;
        }
        // Processes that the command left behind could still change its output.
        self.signal_group(Signal::KILL);
        end_everything();
        let drained = async { while self.output.join_next().await.is_some() {} };
        if timeout(DRAIN, drained).await.is_err() {
            eprintln!("mlop: a process that the command left behind still holds its output");
        }
        end
    }

    fn signal_main(&self, signal: Signal) {
        // It may have ended meanwhile.
        let _gone = rustix::process::kill_process(self.pid, signal);
    }

    fn signal_group(&self, signal: Signal) {
        let _gone = rustix::process::kill_process_group(self.pid, signal);
    }

    /// Asks the remaining processes of the command to end, and waits for them until `deadline`.
    async fn end_group(&mut self, deadline: Instant) {
        self.signal_group(Signal::TERM);
        while Instant::now() < deadline && rustix::process::test_kill_process_group(self.pid).is_ok() {
            self.reap();
            // The remains are children of others when this is not the first process.
            let _child = timeout(GROUP_LOOK, self.children.recv()).await;
        }
    }

    /// Reaps every child that has ended, orphans included; the command's end if it is among them.
    fn reap(&self) -> Option<End> {
        let mut end = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                end = end_of(status).or(end);
            }
        }
        end
    }
}

/// As the first process of a container: ends all others. They would end with this one, but only after its report.
fn end_everything() {
    if rustix::process::getpid() == Pid::INIT {
        // kill(-1): everything but the sender.
        let _none_left = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::empty()) {}
    }
}

fn isolated(mut command: Command) -> Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Each hyperparameter as an environment variable.
fn hyperparameters(layout: &Layout) -> BTreeMap<String, String> {
    let path = layout.hyperparameters();
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|json| {
        serde_json::from_slice::<BTreeMap<String, String>>(&json).map_err(|error| error.to_string())
    });
    parsed.map(variables).unwrap_or_else(|error| {
        eprintln!("mlop: {} cannot be read: {error}", path.display());
        BTreeMap::new()
    })
}

/// The variables of `values`. Names that differ in case only get none: which one counts would be a guess.
fn variables(values: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (name, value) in values {
        let variable = variables.entry(format!("MLOP_HP_{}", name.to_uppercase()));
        variable.and_modify(|value| *value = None).or_insert(Some(value));
    }
    let set = variables.into_iter().filter_map(|(name, value)| {
        if value.is_none() {
            eprintln!("mlop: {name} is not set: several hyperparameters have this name in upper case");
        }
        Some((name, value?))
    });
    set.collect()
}

/// Passes one stream of the command on and keeps its last lines.
async fn forward(from: OwnedFd, mut to: impl AsyncWrite + Unpin, tail: Arc<Mutex<Tail>>) {
    let Ok(mut from) = pipe::Receiver::from_owned_fd(from) else { return };
    let (mut buffer, mut cutter) = (vec![0; 16 << 10], Cutter::default());
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        cutter.feed(bytes, &mut tail.lock().unwrap_or_else(PoisonError::into_inner));
        // Nobody may be reading this container's log; the command continues.
        let _unread = to.write_all(bytes).await;
        let _unread = to.flush().await;
    }
    cutter.end(&mut tail.lock().unwrap_or_else(PoisonError::into_inner));
}

fn end_of(status: WaitStatus) -> Option<End> {
    status.exit_status().map(End::ExitCode).or_else(|| status.terminating_signal().map(End::Signal))
}

/// As a shell reports it: a signal is 128 and its number.
fn exit_code(end: &End) -> u8 {
    let code = match end {
        End::ExitCode(code) => *code,
        End::Signal(signal) => 128 + signal,
        End::NotStarted(_) => i32::from(NOT_EXECUTABLE),
        End::Unfit(_) => i32::from(UNFIT),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
