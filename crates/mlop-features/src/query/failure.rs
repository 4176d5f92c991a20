//! What the engine's errors mean for a run.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use mlop_api::{Reason, result::Failure};

/// A query that cannot be planned cannot be run by trying again.
pub fn planning_failed(error: DataFusionError) -> Failure {
    Failure::terminal(Reason::QueryInvalid, format!("spec.sql: {}", error.strip_backtrace()))
}

/// Tells a query that cannot work on these tables, or not in this memory, from a machine that failed.
pub fn execution_failed(error: DataFusionError) -> Failure {
    let message = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Failure::terminal(
            Reason::OutOfMemory,
            format!("spec.sql needs more memory than spec.resources.memory leaves it: {message}"),
        ),
        DataFusionError::Execution(_) => planning_failed(error),
        DataFusionError::ArrowError(arrow, _) if is_of_the_data(arrow) => planning_failed(error),
        _ => Failure::transient(Reason::WorkerFailed, format!("running spec.sql: {message}")),
    }
}

fn is_of_the_data(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::ParseError(_)
            | ArrowError::InvalidArgumentError(_)
    )
}
