//! The keys of a Secret that the operator mounted as files. The mount is optional, so that a worker can name a missing key.

use mlop_api::{
    Reason,
    result::{Failure, UNNAMED_SECRET},
};
use std::{io, path::PathBuf};

/// A Secret as a directory with a file for each key.
#[derive(Clone, Debug)]
pub struct MountedSecret {
    /// The connection that names it, for messages: `ObjectStore raw`.
    owner: String,
    directory: PathBuf,
}

impl MountedSecret {
    /// The Secret of `owner` that is mounted at `directory`.
    pub fn new(owner: String, directory: PathBuf) -> Self {
        Self { owner, directory }
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// [`Reason::SecretMissing`] when it is missing, empty, or has white space at its ends.
    pub fn required(&self, key: &str) -> Result<String, Failure> {
        self.optional(key)?.ok_or_else(|| self.unusable(&format!("has no key {key}, or does not exist")))
    }

    /// The value of a key that may be missing.
    ///
    /// # Errors
    /// [`Reason::SecretMissing`] when it has white space at its ends or cannot be a part of a header.
    pub fn optional(&self, key: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.text(key)?.filter(|value| !value.is_empty()) else { return Ok(None) };
        let flaw = if value.ends_with('\n') {
            "ends with a line end"
        } else if value.trim() != value {
            "has white space at its ends"
        } else if value.chars().any(char::is_control) {
            "has a control character"
        } else {
            return Ok(Some(value));
        };
        let advice = "store the value alone, for example with printf '%s'";
        Err(self.unusable(&format!("has a key {key} that {flaw}; {advice}")))
    }

    /// The text of a key as it is.
    ///
    /// # Errors
    /// [`Reason::SecretMissing`] when it cannot be read or is not text.
    pub fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        match std::fs::read_to_string(self.directory.join(key)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable(&format!("has no usable key {key}: {error}"))),
        }
    }

    /// The failure of a Secret that `flaw` makes unusable.
    pub fn unusable(&self, flaw: &str) -> Failure {
        Failure::terminal(Reason::SecretMissing, format!("{}: {UNNAMED_SECRET} {flaw}", self.owner))
    }
}
