//! The versions that requests go to at the moment. They follow a file.

use crate::{
    metrics::{Metrics, VersionCounters},
    share::Share,
};
use mlop_api::routes::{Backend, Routes};
use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::io::AsyncReadExt;

/// Time between two looks at the file. A kubelet replaces it by renaming, which no watch of one file sees.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A version that requests go to.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub address: String,
    pub counters: VersionCounters,
}

/// The versions under one file.
#[derive(Debug)]
struct Lanes {
    routes: Routes,
    stable: Lane,
    canary: Option<(Lane, u8)>,
}

/// The versions under the last readable file.
pub(crate) struct Choice {
    lanes: RwLock<Option<Arc<Lanes>>>,
    share: Share,
    pub metrics: Metrics,
}

/// The version of a request, and the one that gets it if the first cannot be reached.
pub(crate) struct Chosen {
    pub first: Lane,
    pub instead: Option<Lane>,
}

impl Choice {
    pub(crate) fn new() -> Self {
        Self { lanes: RwLock::default(), share: Share::default(), metrics: Metrics::new() }
    }

    fn lanes(&self) -> Option<Arc<Lanes>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_known(&self) -> bool {
        self.lanes().is_some()
    }

    /// The version of the next request; none while there are no routes.
    ///
    /// The stable version is never replaced by the new one, which would get more than its share.
    pub(crate) fn next(&self) -> Option<Chosen> {
        let lanes = self.lanes()?;
        let stable = lanes.stable.clone();
        Some(match &lanes.canary {
            Some((canary, weight)) if self.share.is_canary(*weight) => {
                Chosen { first: canary.clone(), instead: Some(stable) }
            }
            _ => Chosen { first: stable, instead: None },
        })
    }

    /// Takes `routes` over. Versions that are not among them are forgotten.
    pub(crate) fn set(&self, routes: Routes) {
        let lane = |backend: &Backend| Lane {
            address: backend.address.clone(),
            counters: self.metrics.version(&backend.version),
        };
        let before = self.lanes();
        if before.as_ref().is_some_and(|before| before.routes == routes) {
            return;
        }
        let kept = versions(&routes);
        let stable = lane(&routes.stable);
        let canary = routes.canary.as_ref().map(|canary| (lane(&canary.backend), canary.weight));
        let gone = before.iter().flat_map(|before| versions(&before.routes));
        for version in gone.filter(|version| !kept.contains(version)) {
            self.metrics.forget(&version);
        }
        tracing::info!(?routes, "the routes have changed");
        let lanes = Lanes { routes, stable, canary };
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(lanes));
    }

    /// Follows the file at `path` until the process ends. One that cannot be read changes nothing.
    pub(crate) async fn follow(&self, path: &Path) {
        let mut reported = None;
        loop {
            match read(path).await {
                Ok(routes) => {
                    reported = None;
                    self.set(routes);
                }
                Err(error) => {
                    if reported.as_ref() != Some(&error) {
                        tracing::warn!(path = %path.display(), error, "the routes cannot be read: the last ones stay");
                    }
                    reported = Some(error);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn versions(routes: &Routes) -> Vec<String> {
    let canary = routes.canary.as_ref().map(|canary| &canary.backend);
    [&routes.stable].into_iter().chain(canary).map(|backend| backend.version.clone()).collect()
}

/// Reads the routes in a file.
async fn read(path: &Path) -> Result<Routes, String> {
    let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).await.map_err(|error| error.to_string())?;
    let routes: Routes = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match &routes.canary {
        Some(canary) if canary.weight > 100 => {
            Err(format!("canary.weight is {}, more than 100", canary.weight))
        }
        _ => Ok(routes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::routes::Canary;

    fn backend(version: &str) -> Backend {
        Backend { address: format!("{version}:8080"), version: version.to_owned() }
    }

    fn routes(canary: Option<(&str, u8)>) -> Routes {
        let canary = canary.map(|(version, weight)| Canary { backend: backend(version), weight });
        Routes { stable: backend("s"), canary }
    }

    /// The addresses that the next hundred requests go to first, with their numbers.
    fn firsts(choice: &Choice) -> (usize, usize) {
        let chosen: Vec<_> = (0..100).map(|_| choice.next().unwrap()).collect();
        let canary = chosen.iter().filter(|chosen| chosen.first.address.starts_with('c')).count();
        let instead = chosen.iter().filter(|chosen| chosen.instead.is_some()).count();
        assert_eq!(instead, canary, "only the new version is replaced by the other");
        (canary, chosen.len() - canary)
    }

    #[test]
    fn requests_follow_the_routes() {
        let choice = Choice::new();
        assert!(choice.next().is_none(), "no routes yet");
        choice.set(routes(None));
        assert_eq!(firsts(&choice), (0, 100));
        choice.set(routes(Some(("c", 100))));
        assert_eq!(firsts(&choice), (100, 0));
        choice.set(routes(Some(("c", 0))));
        assert_eq!(firsts(&choice), (0, 100));
    }

    #[test]
    fn version_that_is_not_routed_to_is_forgotten() {
        let choice = Choice::new();
        choice.set(routes(Some(("c1", 10))));
        choice.set(routes(Some(("c2", 10))));
        let text = choice.metrics.text().unwrap();
        assert!(text.contains("\"s\"") && text.contains("\"c2\"") && !text.contains("\"c1\""), "{text}");
    }

    #[tokio::test]
    async fn file_is_read_only_if_it_has_routes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.json");
        let good = serde_json::to_string(&routes(Some(("c", 10)))).unwrap();
        for (text, is_good) in
            [(good.as_str(), true), ("", false), ("{}", false), (&good.replace(":10", ":101"), false)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).await.is_ok(), is_good, "{text}");
        }
        assert!(read(&dir.path().join("missing")).await.is_err());
    }
}
