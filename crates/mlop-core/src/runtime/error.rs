//! Why a pass did not end as planned, by consequence.

use mlop_api::Reason;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is gone or another one: nothing to do any more.
    #[error("{0} is gone")]
    Gone(String),
    /// An input changed between decision and action: decide again.
    #[error("{0}; deciding again")]
    Outdated(String),
    /// A child's name is taken. Its deletion, or a later try, helps.
    #[error("{message}")]
    Blocked { reason: Reason, message: String, stalled: bool },
    /// The API server refuses what we want to create.
    #[error("{message}")]
    Refused { reason: Reason, message: String },
    /// A request failed.
    #[error("cannot {verb}: {source}")]
    Api {
        verb: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The pass took too long or panicked.
    #[error("{message}")]
    Pass { reason: Reason, message: String },
}

impl Error {
    pub fn api(verb: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { verb: verb.into(), source: Box::new(source) }
    }

    /// Whether the API server could not be reached or had no capacity: then no other request would succeed either.
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

    /// Whether a condition with this reason may come from [`report`](Self::report).
    pub fn reports(reason: &str) -> bool {
        let all = [
            Reason::ApiError,
            Reason::Panicked,
            Reason::NameConflict,
            Reason::WaitingForDeletion,
            Reason::QuotaExceeded,
            Reason::PodRefused,
        ];
        all.iter().any(|known| known.as_str() == reason)
    }

    /// What the status says about it, and whether only a change by someone helps.
    pub fn report(&self) -> Option<(Reason, bool)> {
        match self {
            Self::Gone(_) | Self::Outdated(_) => None,
            Self::Blocked { reason, stalled, .. } => Some((*reason, *stalled)),
            Self::Refused { reason, .. } => Some((*reason, false)),
            Self::Api { .. } => Some((Reason::ApiError, false)),
            Self::Pass { reason, .. } => Some((*reason, *reason == Reason::Panicked)),
        }
    }
}
