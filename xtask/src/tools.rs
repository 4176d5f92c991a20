//! The programs of the cluster, built from pinned sources. Each is built again only when its own sources change.
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cache::{self, Inputs};
use crate::progress::{Outcome, note};
use crate::{build, paths, process};

/// A program in a Go module of `e2e/cluster/tools`.
pub struct GoTool {
    pub name: &'static str,
    module: &'static str,
    package: &'static str,
    /// The dependency whose version it reports, and the variables that hold it.
    version: Option<(&'static str, &'static [&'static str])>,
}

/// The linker drops debug information anyway. Its generation is a seventh of the time of the compiler.
const NO_DEBUG_INFO: &str = "-gcflags=all=-dwarf=false";

const KUBERNETES: Option<(&str, &[&str])> =
    Some(("k8s.io/kubernetes", &["k8s.io/component-base/version.git", "k8s.io/client-go/pkg/version.git"]));

/// etcd and every Kubernetes component in one binary.
pub const KUBE_ALL: GoTool = GoTool { name: "kube-all", module: "k8s", package: ".", version: KUBERNETES };
pub const KUBECTL: GoTool =
    GoTool { name: "kubectl", module: "k8s", package: "k8s.io/kubernetes/cmd/kubectl", version: KUBERNETES };
/// Sets up the nodes of kind.
pub const KUBEADM: GoTool =
    GoTool { name: "kubeadm", module: "k8s", package: "k8s.io/kubernetes/cmd/kubeadm", version: KUBERNETES };
/// The pod network of kind nodes that are composed here.
pub const POD_NETWORK: GoTool =
    GoTool { name: "podnetwork", module: "k8s", package: "./podnetwork", version: None };
/// The commands of crictl that kind calls on such nodes.
pub const CRICTL: GoTool = GoTool { name: "crictl", module: "k8s", package: "./crictl", version: None };
pub const KIND: GoTool = GoTool { name: "kind", module: "kind", package: "sigs.k8s.io/kind", version: None };
pub const COREDNS: GoTool = GoTool { name: "coredns", module: "k8s", package: "./coredns", version: None };
pub const LOCAL_PATH: GoTool = GoTool {
    name: "local-path-provisioner",
    module: "k8s",
    package: "github.com/rancher/local-path-provisioner",
    version: None,
};
pub const HELM: GoTool = GoTool {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    version: Some(("helm.sh/helm/v3", &["helm.sh/helm/v3/internal/version."])),
};
pub const MINIO: GoTool =
    GoTool { name: "minio", module: "minio", package: "github.com/minio/minio", version: None };
/// Checks objects against schemas.
pub const KUBECONFORM: GoTool = GoTool {
    name: "kubeconform",
    module: "kubeconform",
    package: "github.com/yannh/kubeconform/cmd/kubeconform",
    version: None,
};
/// Judges objects by policies of OPA Gatekeeper.
pub const GATOR: GoTool = GoTool {
    name: "gator",
    module: "gatekeeper",
    package: "github.com/open-policy-agent/gatekeeper/v3/cmd/gator",
    version: None,
};
/// Judges objects as Flux and Argo CD do.
pub const HEALTH: GoTool = GoTool { name: "health", module: "health", package: ".", version: None };

/// Flux's controllers: they fetch the sources of objects, and apply them.
pub const SOURCE_CONTROLLER: GoTool = GoTool {
    name: "source-controller",
    module: FLUX,
    package: "github.com/fluxcd/source-controller",
    version: None,
};
pub const KUSTOMIZE_CONTROLLER: GoTool = GoTool {
    name: "kustomize-controller",
    module: FLUX,
    package: "github.com/fluxcd/kustomize-controller",
    version: None,
};
const FLUX: &str = "flux";

/// Metrics of objects.
pub const KUBE_STATE_METRICS: GoTool = GoTool {
    name: "kube-state-metrics",
    module: "kube-state-metrics",
    package: "k8s.io/kube-state-metrics/v2",
    version: None,
};
/// Takes and shows spans. Its module has no pages for browsers: they are built with another tool.
pub const JAEGER: GoTool = GoTool {
    name: "jaeger",
    module: "jaeger",
    package: "github.com/jaegertracing/jaeger/cmd/all-in-one",
    version: None,
};
/// Keeps logs; it takes them through Loki's push API.
pub const VICTORIA_LOGS: GoTool = GoTool {
    name: "victoria-logs",
    module: "victorialogs",
    package: "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",
    version: None,
};

/// A built program.
pub struct Program {
    /// Digest of its inputs.
    pub key: String,
    pub path: PathBuf,
}

/// Makes all `tools` available under `paths::bin`.
pub fn provide(tools: &[&GoTool]) -> Result<Outcome> {
    let mut outcome = Outcome::Present;
    for tool in tools {
        if build(tool)?.1 {
            outcome = Outcome::Done;
        }
    }
    Ok(outcome)
}

/// The program of `tool`, built when it is missing, and whether it was built now.
pub fn build(tool: &GoTool) -> Result<(Program, bool)> {
    let module = directory(tool.module);
    let flags = link_flags(tool, &module)?;
    let go = process::output(Command::new("go").args(["env", "GOVERSION"]).current_dir(&module))?;
    let mut inputs = Inputs::new(&format!("{go} {} {NO_DEBUG_INFO} {flags}", tool.package));
    inputs.directory(&module)?;
    let key = inputs.key();
    let path = paths::built()?.join("tools").join(format!("{}-{key}", tool.name));
    let built = cache::entry(&path, |part| {
        note(&format!("building {} from Go modules", tool.name));
        let mut command = Command::new("go");
        command
            .args(["build", "-trimpath", "-buildvcs=false", NO_DEBUG_INFO, "-ldflags", &flags, "-o"])
            .arg(part)
            .arg(tool.package);
        process::run(command.env("CGO_ENABLED", "0").current_dir(&module))
    })?;
    link(tool.name, &path)?;
    Ok((Program { key, path }, built))
}

fn link_flags(tool: &GoTool, module: &Path) -> Result<String> {
    let mut flags = "-s -w".to_owned();
    let Some((dependency, prefixes)) = tool.version else { return Ok(flags) };
    let version = pinned(module, dependency)?;
    for prefix in prefixes {
        if prefix.ends_with("git") {
            let mut parts = version.trim_start_matches('v').split('.');
            let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            flags +=
                &format!(" -X {prefix}Version={version} -X {prefix}Major={major} -X {prefix}Minor={minor}");
        } else {
            flags += &format!(" -X {prefix}version={version}");
        }
    }
    Ok(flags)
}

/// The version of Kubernetes that is built.
pub fn kubernetes_version() -> Result<String> {
    pinned(&directory("k8s"), "k8s.io/kubernetes")
}

/// The directory of the sources of `dependency`, at the version that the Go module `module` requires.
pub fn sources(module: &str, dependency: &str) -> Result<PathBuf> {
    let mut download = Command::new("go");
    download.args(["mod", "download", "-json", dependency]).current_dir(directory(module));
    let described: Value = serde_json::from_str(&process::output(&mut download)?)?;
    let sources = described.get("Dir").and_then(Value::as_str);
    Ok(sources.with_context(|| format!("`go mod download` names no directory of {dependency}"))?.into())
}

/// Makes Flux's controllers available, and names the directories of their custom resource definitions.
pub fn flux() -> Result<Vec<PathBuf>> {
    let controllers = [&SOURCE_CONTROLLER, &KUSTOMIZE_CONTROLLER];
    provide(&controllers)?;
    let definitions = |tool: &&GoTool| Ok(sources(tool.module, tool.package)?.join("config/crd/bases"));
    controllers.iter().map(definitions).collect()
}

fn directory(module: &str) -> PathBuf {
    paths::repository().join("e2e/cluster/tools").join(module)
}

/// The version of `dependency` that the module's `go.mod` requires.
fn pinned(module: &Path, dependency: &str) -> Result<String> {
    let path = module.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let version = text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(dependency)).then(|| words.next()).flatten()
    });
    Ok(version.with_context(|| format!("{} does not require {dependency}", path.display()))?.to_owned())
}

/// A program from its crate: name and version. It is built without optimization and runs for seconds.
pub fn cargo_tool((name, version): (&str, &str)) -> Result<PathBuf> {
    let root = paths::cache()?.join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let mut install = build::shared("install")?;
        install.args(["--quiet", "--locked", "--debug", name, "--version", version]);
        install.args(["--no-default-features", "--root"]).arg(&root).env("CARGO_PROFILE_DEV_DEBUG", "false");
        process::echo(&mut install, |_| ())?;
    }
    Ok(program)
}

/// Starts a program of an unpacked package, whose files in `/usr/share` only it sees.
const UNPACKED: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$0/usr/share" /usr/share && exec "$0/usr/bin/@PROGRAM@" "$@"' "@ROOT@" "$@"
"#;

/// Makes `program` of a Debian package available under `paths::bin`, without installing the package, and says whether it was
/// unpacked now. The program finds its files in `/usr/share` as if the package were installed, which takes root. On other
/// systems it has to be on the `PATH`.
pub fn debian(package: &str, program: &str) -> Result<bool> {
    if !process::found("apt-get") {
        ensure!(process::found(program), "`{program}` is not on the PATH: install {package}");
        return Ok(false);
    }
    // The name of the file, with the version, and its digest.
    let file = || process::output(Command::new("apt-get").args(["download", "--print-uris", package]));
    let file = match file() {
        Ok(file) if !file.trim().is_empty() => file,
        // The lists of packages are missing or old.
        _ => {
            process::run(Command::new("apt-get").args(["update", "-q"]))?;
            file()?
        }
    };
    let mut inputs = Inputs::new(UNPACKED);
    inputs.text(&file);
    let path = paths::built()?.join("tools").join(format!("{program}-{}", inputs.key()));
    let unpacked = cache::entry(&path, |part| {
        fs::create_dir_all(part).with_context(|| format!("cannot create {}", part.display()))?;
        let mut download = Command::new("apt-get");
        process::run(
            download.args(["download", "-q", "-o", "APT::Sandbox::User=root", package]).current_dir(part),
        )?;
        for archive in cache::files(part)? {
            process::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(part))?;
            fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
        }
        let start = part.join("start");
        fs::write(&start, start_script(&path, program))
            .and_then(|()| fs::set_permissions(&start, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", start.display()))
    })?;
    link(program, &path.join("start"))?;
    Ok(unpacked)
}

/// The script that starts `program` of the package in `root`.
fn start_script(root: &Path, program: &str) -> String {
    UNPACKED.replace("@ROOT@", &root.display().to_string()).replace("@PROGRAM@", program)
}

/// The process that holds a pod's namespaces, from its C source.
pub fn pause() -> Result<Program> {
    let source = paths::repository().join("e2e/cluster/local/pause.c");
    let mut inputs = Inputs::new("cc -Os -static -s");
    inputs.file(&source)?;
    let key = inputs.key();
    let path = paths::built()?.join("tools").join(format!("pause-{key}"));
    cache::entry(&path, |part| {
        process::run(Command::new("cc").args(["-Os", "-static", "-s", "-o"]).arg(part).arg(&source))
    })?;
    Ok(Program { key, path })
}

fn link(name: &str, target: &Path) -> Result<()> {
    let bin = paths::bin()?;
    fs::create_dir_all(&bin)?;
    let link = bin.join(name);
    if fs::read_link(&link).is_ok_and(|current| current == target) {
        return Ok(());
    }
    // By rename, so that there is no moment without it.
    let new = bin.join(format!(".{name}"));
    fs::remove_file(&new).ok();
    symlink(target, &new)
        .and_then(|()| fs::rename(&new, &link))
        .with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_script_names_the_program_of_the_package() {
        let script = start_script(Path::new("/cache/a b"), "prometheus");
        assert!(script.contains(r#"exec "$0/usr/bin/prometheus" "$@"' "/cache/a b" "$@""#), "{script}");
    }
}
