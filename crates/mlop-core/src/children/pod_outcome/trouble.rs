//! The last ends of containers that the kubelet starts again.

use super::containers::{hold_up, statuses, terminated};
use crate::resource::PodView;
use k8s_openapi::api::core::v1::ContainerStatus;
use mlop_api::{Reason, result::ResultDocument, text::last_words};

/// Longest quotation of a container's last lines, in bytes.
const WORDS_MAX: usize = 400;

/// What keeps a pod that should not end from being ready: a container that cannot start, or that ends again and again.
/// The message has the container's last words.
pub fn trouble(pod: &PodView) -> Option<(Reason, String)> {
    hold_up(pod).or_else(|| statuses(pod).find_map(last_end))
}

/// The last end of a container that the kubelet starts again and again in a pod that should run once: an injected sidecar.
pub(super) fn crash_loop(pod: &PodView) -> Option<(Reason, String)> {
    statuses(pod).filter(|status| status.restart_count > 0).find_map(last_end)
}

/// The last end of a container that has not stayed up since.
fn last_end(status: &ContainerStatus) -> Option<(Reason, String)> {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let now = terminated(status).filter(|state| state.exit_code != 0);
    let state = now.or_else(|| last.filter(|_| !status.ready && status.restart_count > 0))?;
    let name = &status.name;
    if state.reason.as_deref() == Some("OOMKilled") {
        let message =
            format!("container {name} used more memory than its limit: raise memory in its resources");
        return Some((Reason::OutOfMemory, message));
    }
    let words = state.message.as_deref().unwrap_or_default().trim();
    // Our own containers leave a result.
    if let Some(failure) = ResultDocument::from_message(words).ok().and_then(|result| result.error) {
        return Some((failure.reason, failure.message));
    }
    let mut words = last_words(words, WORDS_MAX);
    if words.is_empty() {
        // The kubelet keeps the last lines of a program that has reported an error only.
        words = format!("`kubectl logs --previous -c {name}` of its pod has its last lines");
    }
    // Without the number of restarts: it would make each of them another cause, with an Event of its own.
    let message = format!("container {name} ended with exit code {}: {words}", state.exit_code);
    Some((Reason::WorkerFailed, message))
}
