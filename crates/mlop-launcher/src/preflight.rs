//! The preflight: whether the pod is fit for the work where it is, before the user's command starts.
//!
//! The container that has the keys checks the stores and the disk, the user's container its GPUs: only there the driver is
//! visible. What fails here is the node's fault more often than the work's, so the operator tries another node.

use crate::words;
use mlop_api::{
    Reason,
    preflight::{Check, Needs},
    result::Failure,
    text::last_words,
};
use mlop_artifact::{patience::Patience, store::ObjectStoreHandle};
use std::{
    env, fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    time::{sleep, timeout},
};

/// Longest time until a store answers.
const STORE_LIMIT: Duration = Duration::from_secs(30);
/// How long a request to a store is repeated.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of disk for the least output, checkpoint and temporary files.
const SPARE: u64 = 64 << 20;
/// Longest run of `nvidia-smi`. The first one after a start of the node may initialise the driver.
const GPU_LIMIT: Duration = Duration::from_secs(30);
/// Delay between two looks whether `nvidia-smi` has ended. The launcher reaps its children itself, so the runtime watches none.
const GPU_LOOK: Duration = Duration::from_millis(20);
/// Longest output of `nvidia-smi` that is read, in bytes.
const GPU_OUTPUT_MAX: u64 = 64 << 10;
/// Longest quotation of `nvidia-smi`, in bytes.
const GPU_WORDS_MAX: usize = 300;
/// Directories in which container runtimes put `nvidia-smi`, besides those of `PATH`.
const GPU_PROGRAMS: [&str; 2] = ["/usr/bin", "/usr/local/nvidia/bin"];

/// `store`, whose requests are repeated for a short time only.
pub fn impatient(store: &ObjectStoreHandle) -> ObjectStoreHandle {
    let patience = store.patience();
    store.with_patience(Patience { total: patience.total.min(STORE_PATIENCE), ..patience })
}

/// The answer of `store` to a small `request`.
///
/// # Errors
/// [`Check::Store`] when it does not answer in time; its refusals as they are.
pub async fn answered<T>(
    store: &ObjectStoreHandle,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let name = &store.store().name;
    let unreachable = |why: String| {
        let message = format!(
            "ObjectStore {name} does not answer this pod: {why}; check the network of the node and the NetworkPolicies \
             of the namespace"
        );
        Failure::preflight(Check::Store, message)
    };
    match timeout(STORE_LIMIT, request).await {
        Ok(Err(failure)) if failure.reason == Reason::StoreUnreachable => Err(unreachable(failure.message)),
        Ok(answer) => answer,
        Err(_) => Err(unreachable(format!("no answer within {} s", STORE_LIMIT.as_secs()))),
    }
}

/// Whether the disk below `directory` is fit for the work, whose inputs have `inputs` bytes.
///
/// # Errors
/// [`Check::Disk`] when it is not; [`Reason::OutOfDisk`] when no disk would do, since the inputs exceed the scratch space.
pub fn disk(directory: &Path, needs: Needs, inputs: u64) -> Result<(), Failure> {
    let bytes = |disk: &rustix::fs::StatVfs, blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let disk = rustix::fs::statvfs(directory);
    let disk =
        disk.map(|disk| Disk { total: bytes(&disk, disk.f_blocks), free: bytes(&disk, disk.f_bavail) });
    // A disk that does not tell is tried.
    disk.map_or(Ok(()), |disk| disk.fits(needs.scratch_bytes, inputs))
}

/// A disk's bytes.
#[derive(Clone, Copy)]
struct Disk {
    total: u64,
    free: u64,
}

impl Disk {
    /// The scratch space is a limit, of which most trainings use little: only a disk that can never have it is not fit for it.
    fn fits(self, scratch: u64, inputs: u64) -> Result<(), Failure> {
        let size = words::size;
        if scratch > 0 && inputs > scratch {
            let (inputs, scratch) = (size(inputs), size(scratch));
            let message =
                format!("the inputs have {inputs}, and the scratch space {scratch}; raise spec.scratch");
            return Err(Failure::terminal(Reason::OutOfDisk, message));
        }
        if scratch > self.total {
            let (total, scratch) = (size(self.total), size(scratch));
            let message = format!(
                "the disk has {total}, and the scratch space {scratch}; lower spec.scratch, or choose nodes with larger \
                 disks in a PodProfile"
            );
            return Err(Failure::preflight(Check::Disk, message));
        }
        let needed = inputs.saturating_add(SPARE);
        if needed > self.free {
            let (free, needed) = (size(self.free), size(needed));
            let message =
                format!("the disk has {free} free, and the work needs {needed} at least; free some there");
            return Err(Failure::preflight(Check::Disk, message));
        }
        Ok(())
    }
}

/// What a container shows of its GPUs.
#[derive(Debug)]
struct Gpus {
    /// What `nvidia-smi -L` says; none if the image has no such program and the runtime adds none.
    listing: Option<Result<String, String>>,
    /// Whether the driver is loaded.
    has_driver: bool,
    /// Whether the container has a device of a GPU.
    has_device: bool,
}

/// Whether this container has working GPUs.
///
/// # Errors
/// What is missing or broken, and what to do.
pub async fn gpus() -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(GPU_PROGRAMS.map(PathBuf::from));
    let program = directories.map(|directory| directory.join("nvidia-smi")).find(|program| program.is_file());
    let listing = match program {
        Some(program) => Some(listed(&program, GPU_LIMIT).await),
        None => None,
    };
    let has_driver = Path::new("/proc/driver/nvidia/version").exists();
    judge(&Gpus { listing, has_driver, has_device: has_device(Path::new("/dev")) })
}

/// The decision about the GPUs. How many there are does not count: parts of one and shares of one are resources too.
fn judge(seen: &Gpus) -> Result<(), String> {
    let what = match seen {
        Gpus { listing: Some(Ok(text)), .. } if text.lines().any(|line| line.starts_with("GPU ")) => {
            return Ok(());
        }
        Gpus { listing: Some(Ok(_)), .. } => "nvidia-smi -L lists no GPU".to_owned(),
        Gpus { listing: Some(Err(why)), .. } => format!("nvidia-smi -L {why}"),
        Gpus { listing: None, has_driver: false, .. } => {
            "the NVIDIA driver is not loaded: there is no /proc/driver/nvidia/version".to_owned()
        }
        Gpus { listing: None, has_device: false, .. } => {
            "the container has no /dev/nvidia0 or other GPU; does the NVIDIA container runtime start it?"
                .to_owned()
        }
        Gpus { listing: None, .. } => return Ok(()),
    };
    Err(format!("no working GPU: {what}; repair the driver of the node, or cordon the node"))
}

fn has_device(directory: &Path) -> bool {
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_gpu))
}

/// What `nvidia-smi -L` prints, or how it fails.
async fn listed(program: &Path, limit: Duration) -> Result<String, String> {
    let told = |error: io::Error| format!("cannot be started: {error}");
    let mut command = Command::new(program);
    command.arg("-L").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    let (stdout, stderr) = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
    let ended = async {
        let printed = tokio::join!(text(stdout), text(stderr));
        loop {
            match child.try_wait() {
                Ok(None) => sleep(GPU_LOOK).await,
                Ok(Some(status)) => break Ok((status, printed)),
                Err(error) => break Err(told(error)),
            }
        }
    };
    let Ok(ended) = timeout(limit, ended).await else {
        // A driver that hangs may keep it for longer.
        let _gone = child.kill();
        return Err(format!("does not end within {} s", limit.as_secs()));
    };
    let (status, (stdout, stderr)) = ended?;
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("ended with {status}: {}", last_words(&(stdout + &stderr), GPU_WORDS_MAX)))
}

/// The beginning of what a program prints.
async fn text(from: Option<OwnedFd>) -> String {
    let mut text = Vec::new();
    if let Some(from) = from.and_then(|from| pipe::Receiver::from_owned_fd(from).ok()) {
        // What was read before an error counts.
        let _broken = from.take(GPU_OUTPUT_MAX).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn disk_is_fit_when_it_has_room_for_the_inputs() {
        let unfit = Some((Reason::PreflightFailed, true));
        let rows = [
            ("as much as needed", 100, 40, SPARE + 40, None),
            ("less than the inputs and some more", 100, 40, SPARE + 39, unfit),
            ("less than the scratch space in all", 2 * SPARE + 100, 40, SPARE + 40, unfit),
            ("a task of an earlier release", 0, 40, SPARE + 40, None),
            ("inputs beyond the scratch space", 100, 101, 2 * SPARE, Some((Reason::OutOfDisk, false))),
        ];
        for (situation, scratch, inputs, free, want) in rows {
            let failure = Disk { total: 2 * SPARE, free }.fits(scratch, inputs).err();
            assert_eq!(failure.map(|failure| (failure.reason, failure.retryable)), want, "{situation}");
        }
        let needs = Needs { scratch_bytes: u64::MAX };
        let failure = disk(&env::temp_dir(), needs, 0).unwrap_err();
        assert_eq!(failure.preflight, Some(Check::Disk), "{}", failure.message);
        assert!(failure.message.contains("lower spec.scratch"), "{}", failure.message);
    }

    #[test]
    fn gpu_works_when_its_program_or_its_files_say_so() {
        let list = "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\n";
        let smi = |text: &str| Some(Ok(text.to_owned()));
        let failed = Some(Err("ended with exit status: 9: no driver".to_owned()));
        let rows = [
            ("the program lists one", smi(list), false, false, ""),
            ("it lists none", smi("No devices found.\n"), true, true, "lists no GPU"),
            ("it fails", failed, true, true, "nvidia-smi -L ended with exit status: 9: no driver"),
            ("no program, driver and device", None, true, true, ""),
            ("no program, no driver", None, false, true, "/proc/driver/nvidia/version"),
            ("no program, no device", None, true, false, "/dev/nvidia0"),
        ];
        for (situation, listing, has_driver, has_device, want) in rows {
            let words = judge(&Gpus { listing, has_driver, has_device }).err().unwrap_or_default();
            assert_eq!(words.is_empty(), want.is_empty(), "{situation}: {words}");
            assert!(words.contains(want), "{situation}: {words}");
        }
    }

    #[test]
    fn devices_of_gpus_have_a_number() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["nvidiactl", "nvidia-uvm", "nvidia", "nvidia0x"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        assert!(!has_device(directory.path()));
        fs::write(directory.path().join("nvidia10"), "").unwrap();
        assert!(has_device(directory.path()));
        assert!(!has_device(&directory.path().join("absent")));
    }

    #[tokio::test]
    async fn program_is_quoted_or_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let program = |script: &str| {
            let path = directory.path().join("nvidia-smi");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(200));
        let listing = listed(&program("echo \"GPU 0: $1\""), long).await;
        assert_eq!(listing.unwrap(), "GPU 0: -L\n");
        let failed = listed(&program("echo no driver >&2; exit 9"), long).await.unwrap_err();
        assert_eq!(failed, "ended with exit status: 9: no driver");
        let hung = listed(&program("exec tail -f /dev/null"), short).await.unwrap_err();
        assert_eq!(hung, "does not end within 0 s");
        let absent = listed(&directory.path().join("absent"), long).await.unwrap_err();
        assert!(absent.starts_with("cannot be started: "), "{absent}");
    }
}
