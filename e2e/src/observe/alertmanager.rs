//! What Alertmanager has received.

use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The API of an Alertmanager.
pub struct Alertmanager {
    base: String,
}

/// An alert that fires.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Alertmanager {
    pub(super) fn new(address: &str) -> Self {
        Self { base: format!("http://{address}") }
    }

    /// The alerts of this name that fire now.
    ///
    /// # Errors
    /// Alertmanager does not answer.
    pub async fn firing(&self, name: &str) -> Result<Vec<Alert>> {
        let url = format!("{}/api/v2/alerts?active=true", self.base);
        let alerts: Vec<Alert> = reqwest::get(url).await?.error_for_status()?.json().await?;
        Ok(alerts
            .into_iter()
            .filter(|alert| alert.labels.get("alertname").is_some_and(|it| it == name))
            .collect())
    }
}
