//! Container images without a container engine: a docker-archive of one layer, the same bytes for the same input.
//! containerd, Docker, Podman and kind read it.
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cache::{self, Inputs};
use crate::paths;

/// A file of the layer. Paths are absolute; parent directories are added.
pub enum Entry {
    /// A file of this machine, readable and executable for all.
    File { source: PathBuf, path: String },
    /// An empty directory that everybody may write to.
    Scratch { path: String },
    /// A symbolic link.
    Link { path: String, target: String },
}

/// An image that starts `entrypoint`, built from nothing.
pub struct Image {
    /// Names with tags. Their first part has a dot, so that every runtime takes it for a registry and leaves it as it is.
    pub names: Vec<String>,
    pub entries: Vec<Entry>,
    pub entrypoint: String,
    /// `uid:gid`; numeric, so that `runAsNonRoot` can be checked.
    pub user: &'static str,
}

/// An image archive on the disk.
pub struct Archive {
    /// Short name, without registry and tag.
    pub name: String,
    /// Digest of its inputs.
    pub key: String,
    pub path: PathBuf,
}

impl Archive {
    /// The archive of `image`, written when it is missing. `inputs` determine the contents of the files.
    pub fn provide(name: &str, mut inputs: Inputs, image: &Image) -> Result<Self> {
        inputs.text(&config(image, "").to_string());
        Self::build(name, inputs, |part| write(image, part)).map(|(archive, _)| archive)
    }

    /// The archive that `build` writes when it is missing, and whether it did. Older ones of this name are removed.
    pub fn build(
        name: &str,
        inputs: Inputs,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(Self, bool)> {
        let key = inputs.key();
        let path = paths::built()?.join("images").join(format!("{name}-{key}.tar"));
        let built = cache::entry(&path, build)?;
        cache::keep_only(&path)?;
        Ok((Self { name: name.to_owned(), key, path }, built))
    }
}

/// The name under which pods use an image.
pub fn reference(name: &str) -> String {
    format!("mlop.local/{name}:dev")
}

/// Writes `image` to the file `path`.
fn write(image: &Image, path: &Path) -> Result<()> {
    let layer = path.with_extension("layer");
    let digest = write_layer(&image.entries, &layer)?;
    let config = config(image, &digest).to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{digest}/layer.tar");
    let manifest =
        json!([{"Config": config_name, "RepoTags": image.names, "Layers": [layer_name]}]).to_string();

    let mut archive = Builder::new(create(path)?);
    append(&mut archive, &layer_name, fs::metadata(&layer)?.len(), &mut open(&layer)?)?;
    append(&mut archive, &config_name, config.len() as u64, &mut config.as_bytes())?;
    append(&mut archive, "manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    archive.into_inner()?.flush()?;
    fs::remove_file(layer).context("cannot remove the layer")
}

fn config(image: &Image, layer: &str) -> serde_json::Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": [image.entrypoint],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "User": image.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}],
    })
}

/// Writes the tar of the files and returns its digest.
fn write_layer(entries: &[Entry], path: &Path) -> Result<String> {
    let mut tar = Builder::new(Hashing { inner: create(path)?, hash: Sha256::new() });
    let mut directories = BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::File { source, path } => {
                parents(&mut tar, &mut directories, path)?;
                let size =
                    fs::metadata(source).with_context(|| format!("no file {}", source.display()))?.len();
                append(&mut tar, relative(path), size, &mut open(source)?)?;
            }
            Entry::Scratch { path } => {
                parents(&mut tar, &mut directories, path)?;
                directory(&mut tar, path, 0o1777)?;
            }
            Entry::Link { path, target } => {
                parents(&mut tar, &mut directories, path)?;
                let mut header = header(EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, relative(path), target)?;
            }
        }
    }
    let mut hashing = tar.into_inner()?;
    hashing.flush()?;
    Ok(hex::encode(hashing.hash.finalize()))
}

fn parents<W: Write>(tar: &mut Builder<W>, made: &mut BTreeSet<String>, path: &str) -> Result<()> {
    for (end, _) in path.match_indices('/').skip(1) {
        let parent = path.get(..end).unwrap_or_default();
        if made.insert(parent.to_owned()) {
            directory(tar, parent, 0o755)?;
        }
    }
    Ok(())
}

fn directory<W: Write>(tar: &mut Builder<W>, path: &str, mode: u32) -> Result<()> {
    let mut header = header(EntryType::Directory, mode, 0);
    Ok(tar.append_data(&mut header, format!("{}/", relative(path)), io::empty())?)
}

fn append<W: Write>(tar: &mut Builder<W>, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
    let mut header = header(EntryType::Regular, 0o755, size);
    tar.append_data(&mut header, path, content).with_context(|| format!("cannot archive {path}"))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn create(path: &Path) -> Result<io::BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(io::BufWriter::with_capacity(1 << 20, file))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(source: &Path) -> Image {
        Image {
            names: vec!["mlop.local/tool:dev".into()],
            entries: vec![
                Entry::File { source: source.to_owned(), path: "/usr/bin/tool".into() },
                Entry::Link { path: "/usr/bin/alias".into(), target: "tool".into() },
                Entry::Scratch { path: "/tmp".into() },
            ],
            entrypoint: "/usr/bin/tool".into(),
            user: "65532:65532",
        }
    }

    #[test]
    fn archive_is_reproducible_and_its_manifest_complete() {
        let directory = std::env::temp_dir().join(format!("xtask-archive-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (source, one, two) =
            (directory.join("tool"), directory.join("one.tar"), directory.join("two.tar"));
        fs::write(&source, "program").unwrap();
        write(&image(&source), &one).unwrap();
        write(&image(&source), &two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());

        let mut parts = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(File::open(&one).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            parts.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&parts[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let layer = &parts[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(
            config["rootfs"]["diff_ids"][0].as_str().unwrap(),
            format!("sha256:{}", hex::encode(Sha256::digest(layer)))
        );

        let mut layer = tar::Archive::new(layer.as_slice());
        let paths =
            layer.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned());
        assert_eq!(paths.collect::<Vec<_>>(), ["usr/", "usr/bin/", "usr/bin/tool", "usr/bin/alias", "tmp/"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
