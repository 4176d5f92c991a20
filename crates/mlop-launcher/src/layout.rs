use std::{env, path::PathBuf};

/// The folders that the containers of a training share.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `MLOP_ROOT`, or `/mlop`.
    pub fn from_environment() -> Self {
        Self::below(env::var_os("MLOP_ROOT").map_or_else(|| "/mlop".into(), PathBuf::from))
    }

    pub fn below(root: PathBuf) -> Self {
        Self { root }
    }

    /// A folder per input.
    pub fn inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    /// Where the command leaves the artifact.
    pub fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// Where the command leaves and finds checkpoints.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// The code files; the command's working directory.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn hyperparameters(&self) -> PathBuf {
        self.root.join("hyperparameters.json")
    }

    /// Folder of what launcher and agent need for each other.
    pub fn private(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the agent listens.
    pub fn socket(&self) -> PathBuf {
        self.private().join("agent.sock")
    }

    /// Exists when an earlier attempt has recorded its result: there is nothing to run.
    pub fn finished(&self) -> PathBuf {
        self.private().join("finished")
    }
}
