//! Why a reconcile did not end as planned, by consequence.

use crate::{Blocked, condition, runtime::client::ANSWER_TIMEOUT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::watcher;
use mlop_api::{Reason, contract::condition_type};
use tower::timeout::error::Elapsed;

/// The failure of a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is gone, or leadership is lost: nothing is left to do.
    #[error("{0} is gone")]
    Gone(String),
    /// An object changed between decision and write: decide again.
    #[error("{0}; deciding again")]
    Outdated(String),
    /// The name of a child is taken.
    #[error("{}", .0.message)]
    Blocked(Blocked),
    /// The API server refuses a child.
    #[error("{message}")]
    Refused { reason: Reason, message: String },
    /// A request failed.
    #[error("cannot {verb}: {}", words(source))]
    Api {
        verb: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The reconcile took too long or panicked.
    #[error("{message}")]
    Reconcile { reason: Reason, message: String },
}

impl Error {
    /// The failure of a request. `verb` completes "cannot ...".
    pub fn api(verb: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { verb: verb.into(), source: Box::new(source) }
    }

    /// Whether the API server could not be reached or had no capacity. Other requests would fail, too.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => matches!(status.code, 429 | 503 | 504),
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => false,
                _ => true,
            },
            _ => false,
        }
    }

    /// Whether a request got no answer at all.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_timeout(source))
    }

    /// Whether `conditions` say that work goes on or stands still for a reason that [`report`](Self::report) gives.
    pub(crate) fn is_shown_in(conditions: &[Condition]) -> bool {
        let kinds = [condition_type::RECONCILING, condition_type::STALLED].into_iter();
        kinds.filter_map(|kind| condition::get(conditions, kind)).any(|c| Self::reports(&c.reason))
    }

    /// Whether a condition with this reason may come from [`report`](Self::report).
    pub(crate) fn reports(reason: &str) -> bool {
        let all = [
            Reason::ApiError,
            Reason::Panicked,
            Reason::NameConflict,
            Reason::WaitingForDeletion,
            Reason::QuotaExceeded,
            Reason::PodRefused,
            Reason::ChildRefused,
        ];
        all.iter().any(|known| known.as_str() == reason)
    }

    /// The reason that the status reports, and whether only a change by a user helps.
    pub fn report(&self) -> Option<(Reason, bool)> {
        match self {
            Self::Gone(_) | Self::Outdated(_) => None,
            Self::Blocked(blocked) => Some((blocked.reason, blocked.stalled)),
            Self::Refused { reason, .. } => Some((*reason, false)),
            Self::Api { .. } => Some((Reason::ApiError, false)),
            Self::Reconcile { reason, .. } => Some((*reason, *reason == Reason::Panicked)),
        }
    }

    /// The state of an object whose reconciles have failed `failures` times in a row, the last time with this error.
    pub(crate) fn problem(&self, failures: u32) -> Option<Blocked> {
        let (reason, stalled) = self.report()?;
        Some(match self {
            Self::Api { .. } => Blocked::repeated(failures, reason, self.to_string()),
            _ if stalled => Blocked::stalled(reason, self.to_string()),
            _ => Blocked::waiting(reason, self.to_string()),
        })
    }
}

fn is_timeout(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(source) if source.is::<Elapsed>())
}

/// Why a watch or its list has failed.
pub(super) fn watch_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// The words of the API server, or of the problem that is at the root. The client adds the names of its own types.
pub(super) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        silent if is_timeout(silent) => {
            format!("no answer within {} s; an admission webhook may be silent", ANSWER_TIMEOUT.as_secs())
        }
        kube::Error::Service(source) => {
            let chain =
                std::iter::successors(Some(source.as_ref() as &dyn std::error::Error), |e| e.source());
            chain.last().map(ToString::to_string).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Forecast, ForecastRun, ForecastRunSpec, ForecastSpec, object};
    use kube::{ResourceExt, core::Status};
    use mlop_api::labels;
    use serde_json::json;

    #[test]
    fn failed_watch_is_told_without_names_of_types() {
        let status =
            || Box::new(Status { code: 403, message: "pods is forbidden".into(), ..Status::default() });
        let errors = [
            watcher::Error::InitialListFailed(kube::Error::Api(status())),
            watcher::Error::WatchError(status()),
        ];
        for error in errors {
            assert_eq!(watch_words(&error), "pods is forbidden");
        }
    }

    #[test]
    fn failed_request_is_reported_without_names_of_types() {
        let status = Status { code: 500, message: "etcd is slow".into(), ..Status::default() };
        let silence = || kube::Error::Service(Box::new(Elapsed::new()));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let rows = [
            (kube::Error::Api(Box::new(status)), "cannot create Pod a: etcd is slow", false),
            (
                silence(),
                "cannot create Pod a: no answer within 12 s; an admission webhook may be silent",
                true,
            ),
            (kube::Error::Service(Box::new(refused)), "cannot create Pod a: connection refused", false),
        ];
        for (source, want, is_silence) in rows {
            let error = Error::api("create Pod a", source);
            assert_eq!((error.to_string().as_str(), error.is_silence()), (want, is_silence));
        }
    }

    #[test]
    fn refused_child_is_a_problem_and_one_failed_request_is_none() {
        let refused = || Error::Refused { reason: Reason::QuotaExceeded, message: "exceeded quota".into() };
        let unreadable = || serde_json::from_str::<u8>("x").unwrap_err();
        let api = || Error::api("create", kube::Error::SerdeError(unreadable()));
        let rows = [
            ("a quota refuses a pod", refused(), 1, Some("QuotaExceeded")),
            ("one request has failed", api(), 1, None),
            ("requests go on failing", api(), 3, Some("ApiError")),
            ("the object is gone", Error::Gone("it".into()), 9, None),
        ];
        let forecast: Forecast = object("delay", &json!(ForecastSpec::default()));
        for (situation, error, failures, want) in rows {
            let cause = error.problem(failures).and_then(|problem| problem.cause_at(&forecast));
            assert_eq!(cause.as_ref().map(|cause| cause.reason.as_str()), want, "{situation}");
        }
        let mut run: ForecastRun = object("delay-1", &json!(ForecastRunSpec::default()));
        run.labels_mut().insert(labels::INTENT.into(), "delay".into());
        run.labels_mut().insert(labels::INTENT_KIND.into(), "Forecast".into());
        let cause = refused().problem(1).and_then(|problem| problem.cause_at(&run)).unwrap();
        assert_eq!((cause.kind.as_str(), cause.name.as_str()), ("Forecast", "delay"));
    }
}
