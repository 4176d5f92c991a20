//! Leader election: a pure step and a small loop around it.
//!
//! Followers keep warm caches; only reconciles and writes ask for leadership. Losing the lease returns the process to
//! standby. Exiting instead would end in a crash loop.
//!
//! The lease is also the one object that is read and written regularly without a cache, so it shows when caches must be
//! invalidated. Its resource versions only grow, unless the API server was restored from a backup: cached objects may then
//! never have existed. After an outage of the API server, watch connections may wait for lost packets.

use super::{context::Clock, error::words};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{Api, Client, api::PostParams};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// How long a lease is valid after its last renewal.
pub const DURATION: Duration = Duration::from_secs(15);
/// Time between renewals.
pub const RENEW: Duration = Duration::from_secs(5);
/// A leader stops this long after it requested its last successful renewal, before another process may take the lease.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between polls of a follower, and after a failed request.
const POLL: Duration = Duration::from_secs(2);
/// Failures for this long may have broken watches: packets of their connections may be lost. A shorter one breaks none.
const OUTAGE: Duration = Duration::from_secs(10);
/// A request that takes longer counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// The next step of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write its own name into the lease.
    Acquire,
    /// Write a new renewal time.
    Renew,
    /// Another process holds it.
    Wait,
}

/// Decides from the lease and from the time since *this* process first saw its renewal. Other clocks do not count.
pub fn step(lease: Option<&LeaseSpec>, me: &str, unchanged_for: Duration) -> Step {
    let holder = lease.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder == me {
        Step::Renew
    } else if holder.is_empty() || unchanged_for >= DURATION {
        Step::Acquire
    } else {
        Step::Wait
    }
}

/// Since when this process leads; none if it does not.
pub type Leading = Option<Instant>;

/// A process that wants to lead.
pub struct Candidate {
    pub client: Client,
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// The object that the lease goes with, so that an uninstall leaves none.
    pub owner: Option<OwnerReference>,
    /// Name of this process.
    pub me: String,
    pub clock: Clock,
    /// Counts orders to list everything again.
    pub relist: watch::Sender<u64>,
}

/// Holds the lease as long as possible and reports it through `leading`. Ends when `stop` turns true, and releases the
/// lease.
pub async fn elect(candidate: Candidate, leading: watch::Sender<Leading>, mut stop: watch::Receiver<bool>) {
    let Candidate { client, namespace, name, owner, me, clock, relist } = candidate;
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let mut seen = Seen::default();
    let mut renewed = Instant::now();
    let mut away: Option<Instant> = None;
    loop {
        let (asked, deadline) = (Instant::now(), renewed + RENEW_DEADLINE);
        let patience = if leading.borrow().is_some() { deadline - asked } else { REQUEST_TIMEOUT };
        let wanted = ObjectMeta {
            name: Some(name.clone()),
            owner_references: owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let request = hold(&api, wanted, &me, &clock, &mut seen);
        let (held, next) = match tokio::time::timeout(patience.min(REQUEST_TIMEOUT), request).await {
            Ok(Ok(held)) => {
                let was_away = away.take().is_some_and(|since| since.elapsed() >= OUTAGE);
                if std::mem::take(&mut seen.was_restored) || was_away {
                    tracing::warn!(
                        lease = name,
                        "the API server was unreachable or restored: listing everything again"
                    );
                    relist.send_modify(|times| *times += 1);
                }
                renewed = asked;
                (held, if held { asked + RENEW } else { Instant::now() + POLL })
            }
            failed => {
                away.get_or_insert(asked);
                let why = match failed {
                    Ok(Err(error)) => words(&error),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(lease = name, why, "cannot reach the lease");
                let again = Instant::now() + POLL;
                let held = leading.borrow().is_some() && Instant::now() < deadline;
                (held, if held { again.min(deadline) } else { again })
            }
        };
        let is_new = leading.send_if_modified(|since| {
            let is_new = since.is_some() != held;
            if is_new {
                *since = held.then(Instant::now);
            }
            is_new
        });
        if is_new {
            tracing::info!(lease = name, leading = held, "leadership changed");
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(next) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    if leading.borrow().is_some() {
        leading.send_replace(None);
        release(&api, &name, &me).await;
    }
}

/// Knowledge of this process about the lease.
#[derive(Default)]
struct Seen {
    /// The newest renewal, and when *this* process first saw it.
    renewal: Option<(Option<MicroTime>, Instant)>,
    /// The highest resource version.
    version: u64,
    /// A resource version has gone down.
    was_restored: bool,
}

impl Seen {
    fn version(&mut self, meta: &ObjectMeta) {
        let version =
            meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(self.version);
        self.was_restored |= version < self.version;
        self.version = version;
    }
}

async fn hold(
    api: &Api<Lease>,
    wanted: ObjectMeta,
    me: &str,
    clock: &Clock,
    seen: &mut Seen,
) -> Result<bool, kube::Error> {
    let name = wanted.name.clone().unwrap_or_default();
    let Some(mut lease) = api.get_opt(&name).await? else {
        let lease = Lease { metadata: wanted, spec: Some(claim(None, me, clock())) };
        return match api.create(&PostParams::default(), &lease).await {
            Ok(lease) => {
                seen.version(&lease.metadata);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        };
    };
    seen.version(&lease.metadata);
    let renewal = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let since = match &seen.renewal {
        Some((known, since)) if *known == renewal => *since,
        _ => seen.renewal.insert((renewal, Instant::now())).1,
    };
    if step(lease.spec.as_ref(), me, since.elapsed()) == Step::Wait {
        return Ok(false);
    }
    lease.spec = Some(claim(lease.spec.as_ref(), me, clock()));
    if wanted.owner_references.is_some() {
        lease.metadata.owner_references = wanted.owner_references;
    }
    // The resource version makes this a compare-and-swap: only one of two claimants succeeds.
    match api.replace(&name, &PostParams::default(), &lease).await {
        Ok(lease) => {
            seen.version(&lease.metadata);
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

fn claim(before: Option<&LeaseSpec>, me: &str, now: Timestamp) -> LeaseSpec {
    let same = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(me);
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if same {
            before.and_then(|spec| spec.acquire_time.clone())
        } else {
            Some(MicroTime(now))
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
        ..Default::default()
    }
}

async fn release(api: &Api<Lease>, name: &str, me: &str) {
    let Ok(Some(mut lease)) = api.get_opt(name).await else { return };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(me)) else {
        return;
    };
    spec.holder_identity = None;
    if let Err(error) = api.replace(name, &PostParams::default(), &lease).await {
        tracing::warn!(error = words(&error), lease = name, "cannot release the lease; it expires by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};
    use tower::BoxError;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec { holder_identity: Some(holder.into()), ..Default::default() }
    }

    #[test]
    fn lower_version_means_a_restored_server() {
        let meta =
            |version: &str| ObjectMeta { resource_version: Some(version.into()), ..Default::default() };
        let mut seen = Seen::default();
        seen.version(&meta("9"));
        seen.version(&meta("10"));
        assert!(!seen.was_restored);
        seen.version(&meta("7"));
        assert!(seen.was_restored);
    }

    /// Gives the prepared answers, then none.
    async fn answer(answers: Arc<Mutex<Vec<(u16, Value)>>>) -> Result<http::Response<Body>, BoxError> {
        let next = answers.lock().unwrap().pop();
        let Some((status, body)) = next else { return std::future::pending().await };
        Ok(http::Response::builder().status(status).body(Body::from(body.to_string().into_bytes()))?)
    }

    fn candidate(client: Client, relist: watch::Sender<u64>) -> Candidate {
        let clock: Clock = Arc::new(|| Timestamp::UNIX_EPOCH);
        let (namespace, name, me) = ("ns".into(), "mlop-test".into(), "a".into());
        Candidate { client, namespace, name, owner: None, me, clock, relist }
    }

    #[tokio::test(start_paused = true)]
    async fn leader_stops_before_another_may_follow() {
        let lease = json!({"metadata": {"name": "mlop-test", "namespace": "ns", "resourceVersion": "1"}});
        let missing = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
        let answers = Arc::new(Mutex::new(vec![(201, lease), (404, missing)]));
        let service = tower::service_fn(move |_: http::Request<Body>| answer(Arc::clone(&answers)));
        let (leading, mut is_leading) = watch::channel(None);
        let (_stop, stopping) = watch::channel(false);
        let candidate = candidate(Client::new(service, "ns"), watch::channel(0).0);
        let begin = Instant::now();
        let election = tokio::spawn(elect(candidate, leading, stopping));
        is_leading.wait_for(Leading::is_some).await.unwrap();
        is_leading.wait_for(Leading::is_none).await.unwrap();
        assert!(
            begin.elapsed() < DURATION - REQUEST_TIMEOUT,
            "{:?} leaves no time for requests on their way",
            begin.elapsed()
        );
        election.abort();
    }

    /// Times that everything is listed again after the lease could not be reached `failures` times in a row.
    async fn relists_after(failures: usize) -> u64 {
        let lease = json!({"metadata": {"name": "mlop-test", "namespace": "ns", "resourceVersion": "1"}});
        let failed = json!({"kind": "Status", "status": "Failure", "reason": "InternalError", "code": 500});
        let begin = [(200, lease.clone()), (200, lease.clone())];
        let mut answers =
            Vec::from_iter(begin.clone().into_iter().chain(vec![(500, failed); failures]).chain(begin));
        answers.reverse();
        let answers = Arc::new(Mutex::new(answers));
        let service = tower::service_fn({
            let answers = Arc::clone(&answers);
            move |_: http::Request<Body>| answer(Arc::clone(&answers))
        });
        let (relist, relisted) = watch::channel(0);
        let (stop, stopping) = watch::channel(false);
        let candidate = candidate(Client::new(service, "ns"), relist);
        let election = tokio::spawn(elect(candidate, watch::channel(None).0, stopping));
        while !answers.lock().unwrap().is_empty() {
            tokio::time::sleep(RENEW).await;
        }
        drop(stop);
        let times = *relisted.borrow();
        election.abort();
        times
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_lasting_outage_lists_everything_again() {
        for (failures, times) in [(0, 0), (1, 0), (3, 0), (8, 1)] {
            assert_eq!(relists_after(failures).await, times, "after {failures} failed requests");
        }
    }

    #[test]
    fn lease_changes_hands_only_when_free_or_expired() {
        let fresh = Duration::from_secs(1);
        assert_eq!(step(None, "a", fresh), Step::Acquire);
        assert_eq!(step(Some(&held_by("")), "a", fresh), Step::Acquire);
        assert_eq!(step(Some(&held_by("a")), "a", fresh), Step::Renew);
        assert_eq!(step(Some(&held_by("b")), "a", fresh), Step::Wait);
        assert_eq!(step(Some(&held_by("b")), "a", DURATION), Step::Acquire);
    }
}
