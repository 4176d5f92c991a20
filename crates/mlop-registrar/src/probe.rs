//! Whether a server answers and accepts us.

use crate::{mlflow::Mlflow, transport::Transport};
use mlop_api::result::{Failure, ResultDocument};

/// A name that no registered model has. The server must look into its database to say so.
const NOBODY: &str = "mlop.probe";

/// Asks the server a question that it can only answer if it is an MLflow with a working database, and accepts our login
/// and the name by which we call it.
///
/// # Errors
/// [`TrackingUnreachable`](mlop_api::Reason::TrackingUnreachable), retryable, when the server does not answer;
/// [`TrackingDenied`](mlop_api::Reason::TrackingDenied) when it refuses the login;
/// [`TrackingRefused`](mlop_api::Reason::TrackingRefused) with its words when it refuses otherwise.
pub async fn probe<T: Transport>(mlflow: &Mlflow<T>) -> Result<ResultDocument, Failure> {
    let _none = mlflow.registered_model(NOBODY).await?;
    Ok(ResultDocument { summary: Some("MLflow answers".to_owned()), ..ResultDocument::default() })
}
