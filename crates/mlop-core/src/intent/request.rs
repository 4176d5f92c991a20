//! Requests for a run: the annotation by which a user asks for one now.

use super::{
    Intent, Observed,
    step::{Publication, Step},
};
use crate::condition::truncated;
use kube::ResourceExt;
use mlop_api::labels;

/// Longest request that is remembered, in bytes.
const REQUEST_BYTES_MAX: usize = 256;

/// The user's request for a run, if it has not been answered: no run was made for it, and none had to be.
pub(super) fn open_request<I: Intent>(observed: &Observed<I>) -> Option<String> {
    let request = request(observed)?;
    let answered = observed.status().and_then(|status| status.answered_request.as_ref());
    (answered != Some(&request) && !has_run(observed)).then_some(request)
}

/// The user's last request for a run, cut to the length that is remembered.
pub(super) fn request<I: Intent>(observed: &Observed<I>) -> Option<String> {
    Some(truncated(observed.annotation(labels::RUN_REQUESTED_AT)?, REQUEST_BYTES_MAX))
}

/// Whether a run was made for the request.
fn has_run<I: Intent>(observed: &Observed<I>) -> bool {
    let request = observed.annotation(labels::RUN_REQUESTED_AT);
    observed
        .runs
        .iter()
        .any(|run| run.annotations().get(labels::RUN_REQUESTED_AT).map(String::as_str) == request)
}

/// Why a request for a run finds nothing to do; none while a run may still answer it.
pub(super) fn nothing_to_do<I: Intent>(observed: &Observed<I>, step: &Step<I>) -> Option<String> {
    let artifact = observed.status().and_then(|status| status.artifact.as_ref());
    let result = match step {
        Step::Publish(Publication { run, .. }) => run.name_any(),
        Step::Current => artifact?.run.clone(),
        Step::Dead { run, .. } => {
            return Some(format!(
                "nothing to do: {} has failed for these inputs; set the annotation {} to try again",
                run.name_any(),
                labels::RETRY_REQUESTED_AT
            ));
        }
        Step::Rejected { run, .. } => {
            return Some(format!(
                "nothing to do: the gates refuse {}, the result for these inputs; edit the gates, or wait for other inputs",
                run.name_any()
            ));
        }
        _ => return None,
    };
    Some(match I::flow(&observed.object).pin() {
        Some(_) => format!("nothing to do: spec.pin names {result}; remove it to follow the inputs"),
        None => format!(
            "nothing to do: {result} is the result for these inputs; change the spec to run once more, such as \
             `seed` of a TrainingJob"
        ),
    })
}
