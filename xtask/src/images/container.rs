//! Images from a Containerfile in `e2e/images`: Python programs and servers of other projects.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::archive::{Archive, reference};
use crate::cache::Inputs;
use crate::cluster::local;
use crate::engine::Engine;
use crate::progress::note;
use crate::{buildah, paths, process};

/// An image whose files are in `e2e/images/<name>`.
pub struct Container {
    pub name: &'static str,
    base: Base,
}

/// The build argument `BASE`.
enum Base {
    /// An image of a registry, or, where there is none, a root filesystem of these Debian packages.
    System { registry: &'static str, packages: &'static str },
    /// Another of these images.
    Container(&'static Container),
}

/// The libraries that load and save models, as one layer of several images.
static PYTHON: Container = Container {
    name: "python",
    base: Base::System {
        registry: "docker.io/library/python:3.11-slim-bookworm",
        packages: "python3,python3-venv,ca-certificates",
    },
};

/// Images that are large, and needed by one suite of tests: they are built when they are named.
pub static BY_NAME: [Container; 2] = [
    Container {
        name: "pytorch",
        base: Base::System {
            registry: "docker.io/library/debian:bookworm-slim",
            packages: "python3-torch,python3-venv,ca-certificates",
        },
    },
    Container {
        name: "openbao",
        base: Base::System {
            registry: "docker.io/library/python:3.11-slim-bookworm",
            packages: "python3,python3-venv,ca-certificates",
        },
    },
];

/// The other images from Containerfiles, bases aside.
pub static ALL: [Container; 4] = [
    Container { name: "trainer", base: Base::Container(&PYTHON) },
    Container { name: "mlserver", base: Base::Container(&PYTHON) },
    Container { name: "mlflow", base: Base::Container(&PYTHON) },
    Container {
        name: "redis",
        base: Base::System { registry: "docker.io/library/redis:7.0-bookworm", packages: "redis-server" },
    },
];

/// The program that builds Containerfiles.
pub enum Builder {
    /// Docker or Podman, with bases from a registry.
    Engine(Engine),
    /// Buildah, with bases from Debian packages: no daemon and no registry.
    Buildah,
}

impl Builder {
    /// Buildah where its packages can be installed: no registry is needed then, and every cluster of this machine gets
    /// the same images.
    pub fn of_this_machine() -> Result<Self> {
        if local::can_install() {
            return Ok(Self::Buildah);
        }
        Engine::running().map(Self::Engine).context("neither Docker nor Podman answers")
    }

    /// The archive of `container`, built when it is missing, and whether it was.
    pub fn build(&self, container: &Container) -> Result<(Archive, bool)> {
        Archive::build(container.name, self.inputs(container)?, |part| {
            let tag = self.image(container)?;
            self.save(&tag, part)
        })
    }

    fn inputs(&self, container: &Container) -> Result<Inputs> {
        let mut inputs = match &container.base {
            Base::System { registry, packages } => match self {
                Self::Engine(_) => Inputs::new(registry),
                Self::Buildah => Inputs::new(&buildah::recipe(packages)),
            },
            Base::Container(base) => self.inputs(base)?,
        };
        inputs.directory(&directory(container))?;
        Ok(inputs)
    }

    /// Builds `container` after its base, and returns its tag.
    fn image(&self, container: &Container) -> Result<String> {
        let base = match &container.base {
            Base::System { registry, packages } => match self {
                Self::Engine(_) => (*registry).to_owned(),
                Self::Buildah => buildah::debian(packages)?,
            },
            Base::Container(base) => self.image(base)?,
        };
        let tag = reference(container.name);
        note(&format!("building {tag}"));
        let mut command = match self {
            Self::Engine(engine) => {
                let mut command = Command::new(engine.program());
                command.arg("build");
                command
            }
            Self::Buildah => {
                let mut command = buildah::build()?;
                command.arg("--layers");
                command
            }
        };
        let directory = directory(container);
        command.arg(format!("--build-arg=BASE={base}")).args(["--tag", &tag, "--file"]);
        process::run(command.arg(directory.join("Containerfile")).arg(&directory))?;
        Ok(tag)
    }

    fn save(&self, tag: &str, archive: &Path) -> Result<()> {
        let archive = archive.display();
        match self {
            Self::Engine(engine) => process::run(Command::new(engine.program()).args([
                "save",
                "--output",
                &archive.to_string(),
                tag,
            ])),
            Self::Buildah => process::run(buildah::command()?.args([
                "push",
                tag,
                &format!("docker-archive:{archive}:{tag}"),
            ])),
        }
    }
}

fn directory(container: &Container) -> PathBuf {
    paths::repository().join("e2e/images").join(container.name)
}
