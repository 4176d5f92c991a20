use std::{env, path::PathBuf};

/// The directories that the containers of a training share.
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

    /// A directory per input.
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

    /// Where the command reports its progress.
    pub fn progress(&self) -> PathBuf {
        self.root.join("progress.jsonl")
    }

    /// The code files; the command's working directory. Without code it does not exist.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn hyperparameters(&self) -> PathBuf {
        self.root.join("hyperparameters.json")
    }

    /// Directory of what launcher and agent need for each other.
    pub fn private(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Written when the attempt's first container starts: its time of change counts.
    pub fn started(&self) -> PathBuf {
        self.private().join("started")
    }

    /// Where a checkpoint is put together before it appears.
    pub fn restoring(&self) -> PathBuf {
        self.private().join("restoring")
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
