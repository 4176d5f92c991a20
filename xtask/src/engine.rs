//! Docker or Podman, where one of them answers.
use std::process::Command;

use crate::process;

/// A container engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
}

impl Engine {
    /// The engine that answers; Docker first.
    pub fn running() -> Option<Self> {
        [Self::Docker, Self::Podman].into_iter().find(|engine| {
            process::found(engine.program())
                && process::run(Command::new(engine.program()).arg("info")).is_ok()
        })
    }

    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}
