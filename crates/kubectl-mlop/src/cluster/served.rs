//! Requests to servers: a model, and the online features.

use super::{
    Cluster,
    forward::{Forward, ServiceUrl},
};
use crate::{
    columns::Column,
    online,
    predict::{self, Body, Metadata},
    snapshot::{Object, Snapshot},
};
use anyhow::Result;
use serde_json::Value;

/// The answer of a model server.
#[derive(Clone, Debug)]
pub struct Prediction {
    pub answer: Value,
    /// Columns of a file that are not inputs of the model.
    pub left_out: Vec<String>,
}

impl Cluster {
    /// The metadata of the model that a ModelDeployment serves.
    ///
    /// # Errors
    /// It does not serve, or the user may not forward ports.
    pub async fn model_metadata(&self, deployment: &Object) -> Result<Metadata> {
        let url = ServiceUrl::parse(predict::address(deployment)?)?;
        metadata(&mut self.forward(&url).await?, &url).await
    }

    /// Asks a ModelDeployment for a prediction.
    ///
    /// # Errors
    /// The body does not fit the model, the server refuses it, or as [`model_metadata`](Self::model_metadata).
    pub async fn predict(&self, deployment: &Object, body: Body) -> Result<Prediction> {
        let url = ServiceUrl::parse(predict::address(deployment)?)?;
        let mut server = self.forward(&url).await?;
        let (request, left_out) = if let Body::Request(request) = body {
            (request, Vec::new())
        } else {
            body.into_request(&metadata(&mut server, &url).await?)?
        };
        let answer = server.post(&url.path, request.to_string()).await?;
        Ok(Prediction { answer: predict::read(answer.status, &answer.body)?, left_out })
    }

    /// Asks for features of a FeatureView, for all of them if none are named.
    ///
    /// # Errors
    /// The view is not online, or the API refuses the request.
    pub async fn online_features(
        &self,
        snapshot: &Snapshot,
        view: &Object,
        entities: &[Column],
        features: &[String],
    ) -> Result<online::Answer> {
        let url = ServiceUrl::parse(online::address(snapshot, view)?)?;
        let names = online::names_request(view, entities)?;
        let mut server = self.forward(&url).await?;
        let mut features = features.to_vec();
        if features.is_empty() {
            let answer = server.post(online::PATH, names.to_string()).await?;
            features = online::names(answer.status, &answer.body)?;
        }
        let request = online::request(view, entities, &features)?;
        let answer = server.post(online::PATH, request.to_string()).await?;
        online::read(answer.status, &answer.body)
    }
}

async fn metadata(server: &mut Forward, url: &ServiceUrl) -> Result<Metadata> {
    let answer = server.get(predict::metadata_path(&url.path)?).await?;
    predict::read(answer.status, &answer.body)
}
