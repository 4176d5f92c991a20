//! A node image of kind that needs no image registry, from Debian packages and Go modules.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::archive::{Archive, Entry, Image};
use crate::cache::{self, Inputs};
use crate::cluster::{addons, local};
use crate::progress::{Outcome, note};
use crate::tools::{
    self, COREDNS, CRICTL, GoTool, KUBE_ALL, KUBEADM, KUBECTL, LOCAL_PATH, POD_NETWORK, Program,
};
use crate::{buildah, paths, process};

/// What kind installs in its base image, with Debian's containerd, runc and CNI plugins.
const PACKAGES: &str = "systemd,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,\
                        e2fsprogs,bash,ca-certificates,curl,jq,procps,containerd,runc,containernetworking-plugins";
/// Programs of the node.
const PROGRAMS: [&GoTool; 4] = [&KUBE_ALL, &KUBEADM, &KUBECTL, &CRICTL];
/// The parts of the control plane, and kube-proxy, are links to one program.
const COMPONENTS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd"];
/// The packet filter of kube-proxy and of the pod network.
const NFT: &str = "/usr/sbin/nft";

/// Settings of kubeadm for such nodes: either version of cgroups, no CAP_SYS_RESOURCE, and `nft` instead of `iptables` in
/// the image of kube-proxy.
pub(super) const SETTINGS: [&str; 2] = [
    "{kind: KubeletConfiguration, failCgroupV1: false, oomScoreAdj: 0}",
    "{kind: KubeProxyConfiguration, mode: nftables, oomScoreAdj: 0}",
];

/// The name of the image, built when it is missing.
pub(super) fn provide() -> Result<(String, Outcome)> {
    let parts = Parts::build()?;
    let base = buildah::debian(PACKAGES)?;
    let key = parts.key(&base)?;
    let tag = format!("mlop.local/kind-node:{key}");
    let marker = paths::built()?.join("images").join(format!("kind-node-{key}"));
    if !buildah::has(&tag)? {
        cache::remove(&marker)?;
    }
    let built = cache::entry(&marker, |part| {
        note("composing the node image");
        let directory = part.with_extension("directory");
        cache::remove(&directory)?;
        parts.copy_to(&directory)?;
        let mut build = buildah::build()?;
        build.arg(format!("--build-arg=BASE={base}")).args(["--quiet", "--tag", &tag]);
        process::run(build.arg(&directory))?;
        cache::remove(&directory)?;
        fs::write(part, &tag).with_context(|| format!("cannot write {}", part.display()))
    })?;
    cache::keep_only(&marker)?;
    Ok((tag, if built { Outcome::Done } else { Outcome::Present }))
}

/// Everything in the image besides Debian's packages.
struct Parts {
    /// The version of Kubernetes.
    version: String,
    programs: Vec<(&'static str, Program)>,
    images: Vec<Archive>,
    /// kind's files for its base image.
    files: PathBuf,
}

impl Parts {
    fn build() -> Result<Self> {
        local::install(&["nftables", "busybox-static", "buildah", "mmdebstrap"])?;
        let version = tools::kubernetes_version()?;
        let files = tools::sources("kind", "sigs.k8s.io/kind")?.join("images/base/files");
        let mut programs = Vec::new();
        for tool in PROGRAMS {
            programs.push((tool.name, tools::build(tool)?.0));
        }
        let images = images(&version, &files)?;
        Ok(Self { version, programs, images, files })
    }

    fn key(&self, base: &str) -> Result<String> {
        let mut inputs = Inputs::new(base);
        inputs.text(&self.version);
        self.programs.iter().for_each(|(_, program)| inputs.text(&program.key));
        self.images.iter().for_each(|image| inputs.text(&image.key));
        inputs.directory(&self.files)?;
        inputs.directory(&recipe())?;
        inputs.text(&storage()?);
        Ok(inputs.key())
    }

    /// Makes the directory that the Containerfile describes.
    fn copy_to(&self, directory: &Path) -> Result<()> {
        for name in ["files", "programs", "images", "manifests"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        for path in cache::files(&self.files)? {
            let name = path.strip_prefix(&self.files)?;
            if !name.starts_with("LICENSES") {
                copy(&path, &directory.join("files").join(name))?;
            }
        }
        for (name, program) in &self.programs {
            copy(&program.path, &directory.join("programs").join(name))?;
        }
        for image in &self.images {
            copy(&image.path, &directory.join("images").join(format!("{}.tar", image.name)))?;
        }
        for (from, to) in [
            ("Containerfile", "Containerfile"),
            ("setup.sh", "setup.sh"),
            ("default-cni.yaml", "manifests/default-cni.yaml"),
        ] {
            copy(&recipe().join(from), &directory.join(to))?;
        }
        fs::write(directory.join("manifests/default-storage.yaml"), storage()?)?;
        fs::write(directory.join("version"), &self.version)?;
        Ok(())
    }
}

/// The images of all pods that kubeadm and kind start, under the names that these give them.
fn images(version: &str, files: &Path) -> Result<Vec<Archive>> {
    let mut kubeadm = Command::new(&tools::build(&KUBEADM)?.0.path);
    let listed =
        process::output(kubeadm.args(["config", "images", "list", "--kubernetes-version", version]))?;
    let (coredns, rest): (Vec<_>, Vec<_>) =
        listed.lines().map(str::to_owned).partition(|name| name.contains("/coredns:"));
    let (mut pause, kubernetes): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|name| name.contains("/pause:"));
    let settings = fs::read_to_string(files.join("etc/containerd/config.toml"))?;
    pause.push(sandbox_image(&settings).context("kind's configuration of containerd has no sandbox_image")?);
    pause.dedup();
    ensure!(
        kubernetes.len() == COMPONENTS.len() && coredns.len() == 1,
        "kubeadm needs other images than this task makes: {listed}"
    );
    Ok(vec![
        filter("node-kubernetes", kubernetes, &KUBE_ALL, &COMPONENTS)?,
        filter("podnetwork", vec![crate::archive::reference("podnetwork")], &POD_NETWORK, &[])?,
        addons::named("node-coredns", coredns, &tools::build(&COREDNS)?.0, "")?,
        addons::named("node-pause", pause, &tools::pause()?, "65535:65535")?,
        addons::program("local-path-provisioner", &tools::build(&LOCAL_PATH)?.0, "")?,
        addons::busybox()?,
    ])
}

/// An image of a program, under other names too, that runs `nft`.
fn filter(name: &str, names: Vec<String>, tool: &GoTool, links: &[&str]) -> Result<Archive> {
    let (program, _) = tools::build(tool)?;
    let path = format!("/usr/local/bin/{}", tool.name);
    let mut inputs = Inputs::new(&program.key);
    inputs.text(&names.join(" "));
    let mut entries = vec![Entry::File { source: program.path, path: path.clone() }];
    for link in links {
        entries.push(Entry::Link { path: format!("/usr/local/bin/{link}"), target: tool.name.to_owned() });
    }
    for file in with_libraries(NFT)? {
        inputs.file(Path::new(&file))?;
        entries.push(Entry::File { source: file.clone().into(), path: file });
    }
    entries.push(Entry::Scratch { path: "/tmp".to_owned() });
    Archive::provide(name, inputs, &Image { names, entries, entrypoint: path, user: "" })
}

/// A program of this machine, and the libraries that it loads.
fn with_libraries(program: &str) -> Result<Vec<String>> {
    let list = process::output(Command::new("ldd").arg(program))?;
    Ok(std::iter::once(program).chain(libraries(&list)).map(str::to_owned).collect())
}

/// The paths that `ldd` prints.
fn libraries(list: &str) -> Vec<&str> {
    list.split_whitespace().filter(|word| word.starts_with('/')).collect()
}

/// The image of a pod's first container.
fn sandbox_image(settings: &str) -> Option<String> {
    let value = settings.lines().find_map(|line| line.trim().strip_prefix("sandbox_image = "))?;
    Some(value.trim_matches('"').to_owned())
}

/// The storage of the local cluster, at a place of the node.
fn storage() -> Result<String> {
    let path = paths::repository().join("e2e/cluster/local/manifests/storage.yaml");
    let manifest = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(manifest.replace("@STATE@", "/var/local-path-provisioner"))
}

fn recipe() -> PathBuf {
    paths::repository().join("e2e/cluster/kind/node")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_list_of_ldd() {
        let list = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibnftables.so.1 => /lib/libnftables.so.1 (0x7f0)\n\t/lib64/ld.so.2 (0x7f1)\n";
        assert_eq!(libraries(list), ["/lib/libnftables.so.1", "/lib64/ld.so.2"]);
    }

    #[test]
    fn sandbox_image_is_read_from_the_settings() {
        assert_eq!(sandbox_image("[x]\n  sandbox_image = \"a.b/pause:3\"\n").as_deref(), Some("a.b/pause:3"));
        assert_eq!(sandbox_image("# sandbox_image\n"), None);
    }
}
