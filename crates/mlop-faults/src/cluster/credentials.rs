//! The Secrets of a namespace, and the keys that external systems accept.

use super::needs;
use k8s_openapi::api::core::v1::Pod;
use mlop_api::{Reason, result::Failure, task::Work};
use std::collections::BTreeMap;

/// The Secrets of the pipeline, and the beginning of the address that each opens.
const ISSUED: [(&str, &str); 5] = [
    ("files-keys", "tables"),
    ("lake-keys", "arrivals"),
    ("models-keys", "trees"),
    ("redis-password", "redis:6379"),
    ("tracking-token", "http://tracking."),
];

/// A key of one external system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    address: &'static str,
    number: u32,
}

/// The Secrets of a namespace, and the keys that external systems accept.
pub struct Credentials {
    /// The key in each Secret.
    secrets: BTreeMap<&'static str, Key>,
    /// The number of the key that each address accepts. Others accept anybody.
    accepted: BTreeMap<&'static str, u32>,
}

impl Default for Credentials {
    fn default() -> Self {
        let mut credentials = Self { secrets: BTreeMap::new(), accepted: BTreeMap::new() };
        credentials.issue_all();
        credentials
    }
}

impl Credentials {
    /// Puts the accepted key into every Secret. Missing Secrets are created.
    pub fn issue_all(&mut self) {
        for (secret, address) in ISSUED {
            let number = *self.accepted.entry(address).or_insert(1);
            self.secrets.insert(secret, Key { address, number });
        }
    }

    /// Names of all Secrets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ISSUED.into_iter().map(|(secret, _)| secret)
    }

    /// A user deletes a Secret.
    pub fn delete(&mut self, secret: &str) {
        self.secrets.remove(secret);
    }

    /// The external system of a Secret accepts only a new key from now on. The Secret still holds the old one.
    pub fn rotate(&mut self, secret: &str) {
        let issued = ISSUED.into_iter().find(|(name, _)| *name == secret);
        if let Some(number) = issued.and_then(|(_, address)| self.accepted.get_mut(address)) {
            *number += 1;
        }
    }

    /// Checks that the Secrets that a pod mounts open all that its work needs.
    ///
    /// # Errors
    /// The Secret that is missing, or the refusal of an external system.
    pub fn check(&self, pod: &Pod, work: &Work) -> Result<(), Failure> {
        needs::stores(work).iter().try_for_each(|store| {
            let volume = store.credentials.then(|| format!("store-{}", store.name));
            self.open(pod, volume.as_deref(), &store.bucket, Failure::terminal(Reason::StoreDenied, "denied"))
        })?;
        if let Some(redis) = needs::redis(work) {
            let denied = Failure::transient(Reason::OnlineStoreUnreachable, "wrong password");
            self.open(pod, redis.password.then_some("redis"), &redis.address, denied)?;
        }
        if let Some((address, has_key)) = needs::tracking(work) {
            let denied = Failure::terminal(Reason::TrackingRefused, "wrong token");
            self.open(pod, has_key.then_some("tracking"), address, denied)?;
        }
        Ok(())
    }

    /// Checks that the Secret in `volume` opens `address`.
    fn open(&self, pod: &Pod, volume: Option<&str>, address: &str, denied: Failure) -> Result<(), Failure> {
        let secret = volume.and_then(|volume| secret_in(pod, volume));
        let key = secret.as_deref().map(|secret| {
            let missing = || Failure::terminal(Reason::SecretMissing, format!("Secret {secret} is missing"));
            self.secrets.get(secret).ok_or_else(missing)
        });
        let key = key.transpose()?;
        match self.accepted.iter().find(|(beginning, _)| address.starts_with(**beginning)) {
            Some((beginning, number)) => {
                let is_open = key.is_some_and(|key| key.address == *beginning && key.number == *number);
                if is_open { Ok(()) } else { Err(denied) }
            }
            None => Ok(()),
        }
    }
}

/// The Secret that a volume of a pod projects.
fn secret_in(pod: &Pod, volume: &str) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_deref().unwrap_or_default();
    let projected = volumes.iter().find(|candidate| candidate.name == volume)?.projected.as_ref()?;
    projected.sources.iter().flatten().find_map(|source| Some(source.secret.as_ref()?.name.clone()))
}
