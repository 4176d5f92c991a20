//! `TrainingQueue`: its reservations, the answers to its runs, and its status.
//!
//! A decision is written into the status of the queue first, over the version that was read, and carried out afterwards. So
//! no decision is made without those before it, even if an answer of the API server is lost, a cache lags,
//! or two processes lead. What is in the status counts until the run is seen to ask for nothing more, or to be gone.

use crate::decide::{Amounts, Decision, Situation, Waiting, decide};
use jiff::Timestamp;
use kube::ResourceExt;
use mlop_api::{
    Quantity, Reason,
    contract::condition_type,
    queue::{
        Admission, QueueHead, QueueRequest, QueueStatus, QueueUsage, RESERVATIONS_MAX, Reservation,
        ResourceAmount, TrainingQueue, WAITING_MAX, WaitingRun,
    },
};
use mlop_core::{
    Cache, Context, Error, Index, Key, Plan, Reconciler,
    condition::{self, ConditionStatus, Conditions},
    plan::Apply,
    resource::{ApiKind, NamespaceView, QueuedRun},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most runs that one reconcile admits, and most answers that it writes: a reconcile has seconds. The next one follows at
/// once.
const BATCH: usize = 100;
/// Longest summary, in bytes.
const SUMMARY_BYTES_MAX: usize = 256;

pub struct TrainingQueueReconciler {
    /// By the queues that they concern.
    pub runs: Index<QueuedRun>,
    pub by_key: Arc<Cache<QueuedRun>>,
    pub namespaces: Arc<Cache<NamespaceView>>,
}

pub struct Observed {
    pub object: Arc<TrainingQueue>,
    /// The runs that concern the queue.
    pub runs: Vec<Arc<QueuedRun>>,
    /// The labels of their namespaces; none of a namespace that no cache has seen.
    pub labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Reconciler for TrainingQueueReconciler {
    type Resource = TrainingQueue;
    type Status = QueueStatus;
    type Observed = Observed;

    const DECIDES_IN_STATUS: bool = true;

    async fn observe(&self, cx: &Context, object: Arc<TrainingQueue>) -> Result<Observed, Error> {
        let mut runs = self.runs.everywhere(&object.name_any());
        let known: BTreeSet<_> = runs.iter().filter_map(|run| run.uid()).collect();
        let reservations = object.status.iter().flat_map(|status| &status.reservations);
        for reservation in reservations.filter(|reservation| !known.contains(&reservation.uid)) {
            runs.extend(self.read(cx, reservation).await?);
        }
        let namespaces: BTreeSet<String> = runs.iter().filter_map(|run| run.namespace()).collect();
        let labels = namespaces.into_iter().filter_map(|namespace| {
            let found = self.namespaces.get(&Key::new("", &namespace))?;
            Some((namespace, found.labels().clone()))
        });
        Ok(Observed { labels: labels.collect(), runs, object })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<QueueStatus> {
        let object = observed.object.as_ref();
        if object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let books = Books::new(observed);
        let before = object.status.clone().unwrap_or_default();
        let head = before.head.as_ref().map(|head| (id(&head.waiting), head.since));
        let decision = decide(Situation {
            quota: object.spec.resources.iter().map(|resource| resource.quota.billionths()).collect(),
            held: books.held(object),
            waiting: books.waiting(object),
            places: BATCH.min(RESERVATIONS_MAX.saturating_sub(books.reservations.len())),
            head,
            now,
        });
        let mut applies = books.answers(&before, &object.name_any());
        applies.extend(books.withdrawals(&decision));
        applies.truncate(BATCH);
        let status = books.status(object, &decision, now);
        Plan { applies, ..Plan::idle().with_status(status, Some(&before)) }
    }
}

impl TrainingQueueReconciler {
    /// The run of a reservation, which no cache has for this queue: from another one, or from the API server. It may be gone,
    /// or a cache may lag.
    async fn read(&self, cx: &Context, reservation: &Reservation) -> Result<Option<Arc<QueuedRun>>, Error> {
        let is_same = |run: &QueuedRun| run.metadata.uid.as_ref() == Some(&reservation.uid);
        let cached = self.by_key.get(&Key::new(&reservation.namespace, &reservation.run));
        if let Some(run) = cached.filter(|run| is_same(run)) {
            return Ok(Some(run));
        }
        let verb = format!("read TrainingRun {}", reservation.run);
        let api = cx.api(&ApiKind::of::<QueuedRun>(), &reservation.namespace);
        let read = api.get_opt(&reservation.run).await.map_err(|error| Error::api(verb.clone(), error))?;
        let read = read.and_then(|run| serde_json::to_value(run).ok());
        let run: Option<QueuedRun> = read
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| Error::api(verb, kube::Error::SerdeError(error)))?;
        Ok(run.filter(is_same).map(Arc::new))
    }
}

/// What the runs are to the queue.
struct Books<'a> {
    /// What is reserved, before the decision.
    reservations: Vec<Reservation>,
    /// The runs by uid.
    runs: BTreeMap<&'a str, &'a QueuedRun>,
    /// Those that ask and have no reservation.
    asking: Vec<(&'a QueuedRun, &'a QueueRequest)>,
    /// Those that can never be admitted, and why.
    refused: Vec<(&'a QueuedRun, &'a QueueRequest, String)>,
}

impl<'a> Books<'a> {
    fn new(observed: &'a Observed) -> Self {
        let object = observed.object.as_ref();
        let name = object.name_any();
        let uid = |run: &'a QueuedRun| run.metadata.uid.as_deref().unwrap_or_default();
        let runs: BTreeMap<&str, &QueuedRun> =
            observed.runs.iter().map(AsRef::as_ref).map(|run| (uid(run), run)).collect();
        let known = object.status.iter().flat_map(|status| &status.reservations);
        let kept =
            known.filter(|kept| runs.get(kept.uid.as_str()).is_some_and(|run| holds(run, kept, &name)));
        let mut books =
            Self { reservations: kept.cloned().collect(), asking: Vec::new(), refused: Vec::new(), runs };
        let reserved: BTreeSet<String> = books.reservations.iter().map(|kept| kept.uid.clone()).collect();
        for run in books.runs.values().copied().filter(|run| !reserved.contains(uid(run))) {
            let Some(request) = run.status.queued.as_ref().filter(|request| request.queue == name) else {
                continue;
            };
            let answer = run.status.admission.as_ref().filter(|answer| answer.answers(request));
            if let Some(at) = answer.and_then(|answer| answer.at) {
                // The queue was made again, or restored, since it has admitted the run.
                books.reservations.push(reservation(run, request, at));
            } else if run.metadata.deletion_timestamp.is_some() || !is_known(object, run, &observed.labels) {
                // It asks for nothing more, or nobody can tell yet whether it may.
            } else if let Some(why) = refusal(object, run, request, &observed.labels) {
                books.refused.push((run, request, why));
            } else {
                books.asking.push((run, request));
            }
        }
        books
    }

    fn held(&self, object: &TrainingQueue) -> Vec<(&str, Amounts)> {
        let held = |kept: &'_ Reservation| amounts(object, &kept.resources);
        self.reservations.iter().map(|kept| (kept.namespace.as_str(), held(kept))).collect()
    }

    fn waiting(&self, object: &TrainingQueue) -> Vec<Waiting<'a>> {
        let waiting = self.asking.iter().map(|(run, request)| Waiting {
            id: run_id(run),
            priority: run.spec.queue.as_ref().map_or(0, |queue| queue.priority),
            since: request.since,
            amounts: amounts(object, &request.resources),
        });
        waiting.collect()
    }

    /// The answers to runs that have not got them: to those whose reservation is written down, and to those that are refused.
    fn answers(&self, before: &QueueStatus, queue: &str) -> Vec<Apply> {
        let written: BTreeSet<&str> = before.reservations.iter().map(|kept| kept.uid.as_str()).collect();
        let admitted = self.reservations.iter().filter(|kept| written.contains(kept.uid.as_str()));
        let admitted = admitted.filter_map(|kept| {
            let run = self.runs.get(kept.uid.as_str())?;
            let is_asking = run.status.queued.as_ref() == Some(&kept.request(queue));
            is_asking.then(|| (*run, kept.admission(queue), "the queue admits it"))
        });
        let refused = self.refused.iter().map(|(run, request, why)| {
            let QueueRequest { queue, since, resources } = (*request).clone();
            let answer = Admission { queue, since, resources, at: None, refused: Some(why.clone()) };
            (*run, answer, "the queue can never admit it")
        });
        let open = admitted.chain(refused).filter(|(run, answer, _)| {
            run.metadata.deletion_timestamp.is_none() && run.status.admission.as_ref() != Some(answer)
        });
        open.map(|(run, answer, why)| answered(run, Some(&answer), why)).collect()
    }

    /// Takes back the refusals of runs that now wait.
    fn withdrawals(&self, decision: &Decision<'_>) -> Vec<Apply> {
        let waiting: BTreeSet<_> = decision.waiting.iter().map(|waiting| waiting.id).collect();
        let refused = self.asking.iter().filter(|(run, request)| {
            let answer = run.status.admission.as_ref();
            answer.is_some_and(|answer| answer.answers(request)) && waiting.contains(&run_id(run))
        });
        refused.map(|(run, _)| answered(run, None, "the queue may admit it now")).collect()
    }

    /// The status after the decision.
    fn status(&self, object: &TrainingQueue, decision: &Decision<'_>, now: Timestamp) -> QueueStatus {
        let mut reservations = self.reservations.clone();
        let asking: BTreeMap<_, _> = self.asking.iter().map(|asking| (run_id(asking.0), asking)).collect();
        let admitted = decision.admitted.iter().filter_map(|run| asking.get(&run.id));
        reservations.extend(admitted.map(|(run, request)| reservation(run, request, now.into())));
        reservations.sort_by(|a, b| (a.at, &a.namespace, &a.run).cmp(&(b.at, &b.namespace, &b.run)));
        reservations.truncate(RESERVATIONS_MAX);
        let generation = object.metadata.generation.unwrap_or_default();
        let mut conditions =
            object.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let mut all = Conditions::new(&mut conditions, generation, now);
        all.set(condition_type::READY, ConditionStatus::True, Reason::Ready, "the queue admits runs");
        all.settled();
        let waiting = |(namespace, run): (&str, &str)| WaitingRun {
            namespace: namespace.to_owned(),
            run: run.to_owned(),
        };
        let usage = usage(object, &reservations);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (admitted, pending) = (count(reservations.len()), count(decision.waiting.len()));
        QueueStatus {
            observed_generation: Some(generation),
            summary: Some(summary(admitted, pending, &usage)),
            usage,
            admitted,
            pending,
            reservations,
            waiting: decision.waiting.iter().take(WAITING_MAX).map(|run| waiting(run.id)).collect(),
            head: decision.head.map(|(id, since)| QueueHead { waiting: waiting(id), since }),
            headline: object.status.as_ref().and_then(|status| status.headline.clone()),
            conditions,
        }
    }
}

/// Whether the run of a reservation still counts: a state of it that is older than the reservation says nothing, and pods of
/// a run that is being deleted may still be there.
fn holds(run: &QueuedRun, kept: &Reservation, queue: &str) -> bool {
    let version = |text: &str| text.parse::<u64>().unwrap_or_default();
    let is_older = run.resource_version().is_some_and(|seen| version(&seen) < version(&kept.version));
    is_older || run.status.queued.as_ref() == Some(&kept.request(queue))
}

fn reservation(run: &QueuedRun, request: &QueueRequest, at: mlop_api::Time) -> Reservation {
    Reservation {
        namespace: run.namespace().unwrap_or_default(),
        run: run.name_any(),
        uid: run.uid().unwrap_or_default(),
        version: run.resource_version().unwrap_or_default(),
        since: request.since,
        at,
        resources: request.resources.clone(),
    }
}

/// Whether the labels of the run's namespace are known, if the queue selects namespaces.
fn is_known(
    object: &TrainingQueue,
    run: &QueuedRun,
    labels: &BTreeMap<String, BTreeMap<String, String>>,
) -> bool {
    object.spec.namespaces.is_none()
        || run.metadata.namespace.as_ref().is_some_and(|name| labels.contains_key(name))
}

/// Why the queue can never admit a run, and what to do; none if it can.
fn refusal(
    object: &TrainingQueue,
    run: &QueuedRun,
    request: &QueueRequest,
    labels: &BTreeMap<String, BTreeMap<String, String>>,
) -> Option<String> {
    let (queue, namespace) = (object.name_any(), run.namespace().unwrap_or_default());
    if let (Some(selector), Some(labels)) = (&object.spec.namespaces, labels.get(&namespace))
        && !selector.selects(labels)
    {
        return Some(format!(
            "TrainingQueue {queue} does not select the namespace {namespace}: name another queue in spec.queue, or ask the \
             platform team to label the namespace as spec.namespaces of the queue says"
        ));
    }
    let asked = amounts(object, &request.resources);
    let too_much =
        object.spec.resources.iter().zip(asked).find(|(shared, asked)| *asked > shared.quota.billionths());
    too_much.map(|(shared, asked)| {
        format!(
            "it needs {} {}, and the whole quota of TrainingQueue {queue} is {}: lower spec.resources or \
             spec.workers.replicas, or name another queue in spec.queue",
            Quantity::of_billionths(asked),
            shared.name,
            shared.quota
        )
    })
}

/// The answer to a run, or none.
fn answered(run: &QueuedRun, answer: Option<&Admission>, why: &str) -> Apply {
    let status = answer.map_or_else(|| json!({}), |answer| json!({"admission": answer}));
    let kind = ApiKind::of::<QueuedRun>();
    let metadata = json!({"name": run.name_any(), "namespace": run.namespace(), "uid": run.uid()});
    let object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": metadata,
        "status": status,
    });
    Apply { kind, object, why: why.to_owned() }
}

fn id(waiting: &WaitingRun) -> (&str, &str) {
    (&waiting.namespace, &waiting.run)
}

fn run_id(run: &QueuedRun) -> (&str, &str) {
    let meta = &run.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Amounts of the queue's resources in `resources`.
fn amounts(object: &TrainingQueue, resources: &[ResourceAmount]) -> Amounts {
    let amount = |name: &str| {
        resources.iter().find(|amount| amount.name == name).map_or(0, |amount| amount.quantity.billionths())
    };
    object.spec.resources.iter().map(|shared| amount(&shared.name)).collect()
}

fn usage(object: &TrainingQueue, reservations: &[Reservation]) -> Vec<QueueUsage> {
    let mut used: Amounts = vec![0; object.spec.resources.len()];
    for kept in reservations {
        for (sum, more) in used.iter_mut().zip(amounts(object, &kept.resources)) {
            *sum = sum.saturating_add(more);
        }
    }
    let usage = object.spec.resources.iter().zip(used).map(|(shared, used)| QueueUsage {
        name: shared.name.clone(),
        used: Quantity::of_billionths(used),
        quota: shared.quota.clone(),
    });
    usage.collect()
}

fn summary(admitted: u32, pending: u32, usage: &[QueueUsage]) -> String {
    let used = usage.iter().map(|QueueUsage { name, used, quota }| format!("{used} of {quota} {name}"));
    let words = format!("{admitted} admitted, {pending} waiting; {}", used.collect::<Vec<_>>().join(", "));
    condition::truncated(&words, SUMMARY_BYTES_MAX)
}
