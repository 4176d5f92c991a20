//! The model: every possible next step, and its result.

use crate::{
    cluster::{Cluster, Node, Server, deliver, owner},
    oracle::{self, Stands, stands},
    shared::{Memo, Shared},
    stage::{self, STAGES, Shape, Stage},
};
use mlop_api::{
    features::{FeatureSnapshot, FeatureView},
    labels,
    status::IntentStatus,
};
use mlop_core::{
    intent::{self, Observed},
    plan::Plan,
    resource::InputObject,
};
use serde_json::{Value, json};
use stateright::{Model, Property};
use std::sync::Arc;

/// A chain that needs more steps to come to rest never does. The longest takes a few dozen.
const STEPS_MAX: usize = 1_000;

/// Actions of users, and failures, within a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NewData,
    BrokenData,
    Edit,
    Pin,
    Suspend,
    Recreate,
    Failure,
    HoldUp,
}

/// A decision. A wrong one on purpose shows that the search finds it.
pub type Decide = fn(Observed<Stage>) -> Plan<IntentStatus>;

pub fn faithful(observed: Observed<Stage>) -> Plan<IntentStatus> {
    intent::plan(&observed, stage::now())
}

/// Where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The objects were just created.
    Fresh,
    /// Everything is made from the first version of the source.
    Settled,
    /// Everything is made from the second version, after the first.
    Updated,
    /// As `Settled`, and the first stage's run for the second version is held up.
    HeldUp,
}

/// A scope of the search.
pub struct Chain {
    pub shape: Shape,
    pub start: Start,
    /// Number and kinds of the events.
    pub events: u8,
    pub kinds: &'static [Event],
    /// The stages that they may affect.
    pub targets: &'static [usize],
    pub decide: Decide,
    /// Whether inputs are read from the API server before a run is created.
    pub checks: bool,
    pub known: Known,
}

/// Memoized results.
#[derive(Default)]
pub struct Known {
    pub server: Server,
    pub plans: Memo<Arc<Plan<IntentStatus>>>,
    pub views: Memo<Shared<FeatureView>>,
    pub runs: Memo<Shared<FeatureSnapshot>>,
    pub rests: Memo<bool>,
}

/// Where a reconcile ends early: the operator dies, or a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    AfterChildren,
    AfterStatus,
}

/// One step. Stages and runs are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A cache follows.
    Deliver(usize, usize),
    /// A controller sees the edit of its own object.
    See(usize),
    /// The garbage collector removes runs whose owner is gone.
    Collect(usize),
    /// The user creates the deleted object again.
    Recreate(usize),
    Reconcile(usize),
    /// A reconcile that ends after some of its writes.
    CutReconcile(usize, Cut),
    Finish(usize, usize),
    NewData(u8),
    BrokenData,
    MendedData,
    Edit(usize),
    Pin(usize, usize),
    Unpin(usize),
    Suspend(usize),
    Delete(usize),
    Fail(usize, usize),
    HoldUp(usize, usize),
    Retry(usize),
}

impl Action {
    /// Whether a user or a failure causes it.
    fn is_event(self) -> bool {
        use Action::*;
        !matches!(
            self,
            Deliver(..) | See(_) | Collect(_) | Recreate(_) | Reconcile(_) | CutReconcile(..) | Finish(..)
        )
    }
}

impl Chain {
    pub fn new(shape: Shape, start: Start, events: u8, kinds: &'static [Event]) -> Self {
        Self {
            shape,
            start,
            events,
            kinds,
            targets: &[0, 1, 2, 3],
            decide: faithful,
            checks: true,
            known: Known::default(),
        }
    }

    /// Number of different decisions.
    pub fn decisions(&self) -> usize {
        self.known.plans.len()
    }

    pub fn inputs(&self, cluster: &Cluster, stage: usize) -> Vec<Option<Shared<InputObject>>> {
        let names = self.shape.inputs(stage).iter();
        names.map(|name| self.known.server.input(cluster, name)).collect()
    }

    pub fn plan(&self, node: &Node) -> Option<Arc<Plan<IntentStatus>>> {
        let seen = node.seen.as_ref()?;
        let arguments = (seen, &node.caches, &node.runs);
        Some(
            self.known
                .plans
                .get(arguments, || Arc::new((self.decide)(stage::observed(seen, &node.caches, &node.runs)))),
        )
    }

    /// Steps that happen by themselves sooner or later in the real system.
    fn steps(&self, cluster: &Cluster) -> Vec<Action> {
        let mut all = Vec::new();
        for (stage, node) in cluster.stages.iter().enumerate() {
            let late = |(input, live): &(usize, &Option<_>)| node.caches[*input] != **live;
            let inputs = self.inputs(cluster, stage);
            all.extend(
                inputs.iter().enumerate().filter(late).map(|(input, _)| Action::Deliver(stage, input)),
            );
            all.extend((node.seen != node.live).then_some(Action::See(stage)));
            let orphaned = node.runs.iter().any(|run| owner(run) != node.uid());
            all.extend(orphaned.then_some(Action::Collect(stage)));
            all.extend(node.live.is_none().then_some(Action::Recreate(stage)));
        }
        for (stage, node) in cluster.stages.iter().enumerate() {
            all.extend(node.awake.then_some(Action::Reconcile(stage)));
        }
        for (stage, node) in cluster.stages.iter().enumerate() {
            let open = node.runs.iter().enumerate().filter(|(_, run)| is_open(run));
            all.extend(open.map(|(run, _)| Action::Finish(stage, run)));
        }
        all
    }

    fn events(&self, cluster: &Cluster) -> Vec<Action> {
        let source = &cluster.source;
        let other = [source.version % 3 + 1, (source.version + 1) % 3 + 1];
        let data = if source.failing { Action::MendedData } else { Action::BrokenData };
        let mut all: Vec<_> = other.map(|version| (Event::NewData, Action::NewData(version))).into();
        all.push((Event::BrokenData, data));
        for stage in self.targets.iter().copied() {
            let node = &cluster.stages[stage];
            let Some(view) = &node.live else { continue };
            all.extend([(Event::Edit, Action::Edit(stage)), (Event::Suspend, Action::Suspend(stage))]);
            all.push((Event::Recreate, Action::Delete(stage)));
            all.extend(view.spec.pin.is_some().then_some((Event::Pin, Action::Unpin(stage))));
            for (run, object) in node.runs.iter().enumerate() {
                match stands(object) {
                    Stands::Succeeded if view.spec.pin.is_none() => {
                        all.push((Event::Pin, Action::Pin(stage, run)));
                    }
                    Stands::Succeeded => {}
                    Stands::Dead => all.push((Event::Failure, Action::Retry(stage))),
                    Stands::HeldUp => all.push((Event::Failure, Action::Fail(stage, run))),
                    Stands::Open => {
                        all.push((Event::Failure, Action::Fail(stage, run)));
                        all.push((Event::HoldUp, Action::HoldUp(stage, run)));
                    }
                }
            }
        }
        all.retain(|(event, _)| self.kinds.contains(event));
        all.into_iter().map(|(_, action)| action).collect()
    }

    fn step(&self, cluster: &mut Cluster, action: Action) {
        let server = &self.known.server;
        let shape = self.shape;
        match action {
            Action::Deliver(stage, input) => {
                let live = server.input(cluster, shape.inputs(stage)[input]);
                deliver(&mut cluster.stages[stage], input, live);
            }
            Action::See(stage) => {
                let node = &mut cluster.stages[stage];
                node.seen.clone_from(&node.live);
                node.awake = true;
            }
            Action::Collect(stage) => {
                let node = &mut cluster.stages[stage];
                let uid = node.uid().map(str::to_owned);
                node.runs.retain(|run| owner(run) == uid.as_deref());
                node.awake = true;
            }
            Action::Recreate(stage) => {
                cluster.stages[stage].born += 1;
                let view = stage::view(shape, stage, cluster.stages[stage].born);
                server.write(shape, cluster, stage, Some(view));
            }
            Action::Reconcile(stage) => self.reconcile(cluster, stage, None),
            Action::CutReconcile(stage, cut) => self.reconcile(cluster, stage, Some(cut)),
            Action::Finish(stage, run) => self.end(cluster, stage, run, "True"),
            Action::Fail(stage, run) => self.end(cluster, stage, run, "False"),
            Action::HoldUp(stage, run) => self.end(cluster, stage, run, "Unknown"),
            Action::NewData(version) => server.change_source(shape, cluster, |source| {
                source.version = version;
                source.revision += 1;
            }),
            Action::BrokenData | Action::MendedData => {
                server.change_source(shape, cluster, |source| source.failing = !source.failing);
            }
            Action::Delete(stage) => server.write(shape, cluster, stage, None),
            Action::Edit(stage) => self.edit(cluster, stage, |view| {
                let sql = if view["spec"]["sql"] == "1" { "2" } else { "1" };
                view["spec"]["sql"] = sql.into();
            }),
            Action::Pin(stage, run) => {
                let name = cluster.stages[stage].runs[run].metadata.name.clone();
                self.edit(cluster, stage, |view| view["spec"]["pin"] = json!(name));
            }
            Action::Unpin(stage) => self.edit(cluster, stage, |view| view["spec"]["pin"] = Value::Null),
            Action::Suspend(stage) => self.edit(cluster, stage, |view| {
                view["spec"]["suspend"] = json!(view["spec"]["suspend"] != true);
            }),
            Action::Retry(stage) => self.annotate(cluster, stage),
        }
    }

    fn edit(&self, cluster: &mut Cluster, stage: usize, change: impl FnOnce(&mut Value)) {
        let Some(live) = &cluster.stages[stage].live else { return };
        let mut view = live.json().clone();
        change(&mut view);
        view["metadata"]["generation"] = json!(live.metadata.generation.map(|generation| generation + 1));
        self.known.server.write(self.shape, cluster, stage, Some(view));
    }

    fn annotate(&self, cluster: &mut Cluster, stage: usize) {
        let Some(live) = &cluster.stages[stage].live else { return };
        let mut view = live.json().clone();
        view["metadata"]["annotations"] = json!({labels::RETRY_REQUESTED_AT: "now"});
        self.known.server.write(self.shape, cluster, stage, Some(view));
    }

    /// The status that the run's own controller reports.
    fn end(&self, cluster: &mut Cluster, stage: usize, run: usize, succeeded: &str) {
        let run = cluster.stages[stage].runs[run].clone();
        let status = cluster.stages[stage].live.as_ref().and_then(|live| live.status.as_ref());
        let published =
            status.and_then(|status| status.artifact.as_ref()).map_or(0, |artifact| artifact.revision);
        let at = stage::ended_at(published);
        let ended = self.known.runs.get((&run, succeeded, at), || {
            let digest = stage::output(stage, &run.spec.content.sql, oracle::digests(&run));
            let output = (succeeded == "True").then(|| {
                json!({"digest": digest, "store": "files", "uri": "s3://files", "mediaType": "table"})
            });
            let reason = match succeeded {
                "True" => "Succeeded",
                "False" => "UserError",
                _ => "Retrying",
            };
            let mut json = run.json().clone();
            json["status"] = json!({"attempts": 1, "output": output, "finishedAt": at, "conditions": [{
                "type": "Succeeded", "status": succeeded, "reason": reason, "message": "m",
                "observedGeneration": run.metadata.generation, "lastTransitionTime": run.metadata.creation_timestamp,
            }]});
            Shared::of(&json)
        });
        cluster.stages[stage].put(ended);
    }

    fn next(&self, cluster: &Cluster, action: Action) -> Option<Cluster> {
        let mut next = cluster.clone();
        self.step(&mut next, action);
        // A reconcile without changes stays without changes until one of its inputs changes.
        for stage in 0..STAGES.len() {
            let node = &next.stages[stage];
            let quiet = node.awake && self.plan(node).is_none_or(|plan| plan.is_quiet());
            next.stages[stage].awake = node.awake && !quiet;
        }
        (next != *cluster).then_some(next)
    }

    /// The next step that happens by itself, if one is left.
    fn settling(&self, cluster: &Cluster) -> Option<Cluster> {
        self.steps(cluster).into_iter().find_map(|action| self.next(cluster, action))
    }

    /// The state in which `cluster` comes to rest when nothing interferes.
    ///
    /// # Errors
    /// When it never comes to rest, or the rest is wrong.
    pub fn settle(&self, cluster: &Cluster) -> Result<Cluster, String> {
        let mut here = cluster.clone();
        for _ in 0..STEPS_MAX {
            match self.settling(&here) {
                Some(next) => here = next,
                None => return self.rest(&here).map(|()| here),
            }
        }
        Err("it never comes to rest".to_owned())
    }

    fn rest(&self, cluster: &Cluster) -> Result<(), String> {
        let inputs: Vec<_> = (0..STAGES.len()).map(|stage| self.inputs(cluster, stage)).collect();
        let live = inputs.iter().map(|all| all.iter().map(|input| input.as_deref()).collect());
        oracle::rest(cluster, &live.collect::<Vec<Vec<Option<&InputObject>>>>())
    }

    /// Whether it comes to a correct rest. All states on the way share the answer.
    pub fn converges(&self, cluster: &Cluster) -> bool {
        let mut here = cluster.clone();
        let mut way = Vec::new();
        let right = loop {
            if let Some(right) = self.known.rests.find(&here) {
                break right;
            }
            let next = self.settling(&here);
            let done = next.is_none().then(|| self.rest(&here).is_ok());
            way.push(here);
            match next {
                Some(next) if way.len() < STEPS_MAX => here = next,
                _ => break done.unwrap_or(false),
            }
        };
        for state in way {
            self.known.rests.get(&state, || right);
        }
        right
    }
}

fn is_open(run: &FeatureSnapshot) -> bool {
    matches!(stands(run), Stands::Open | Stands::HeldUp)
}

impl Model for Chain {
    type State = Cluster;
    type Action = Action;

    fn init_states(&self) -> Vec<Cluster> {
        let fresh = self.known.server.fresh(self.shape, self.events);
        let healthy = Self::new(self.shape, Start::Fresh, 0, &[]);
        let settled = |from: &Cluster| healthy.settle(from).expect("an undisturbed chain comes to rest");
        let then = |from: &Cluster, actions: &[Action]| {
            actions
                .iter()
                .fold(from.clone(), |at, action| healthy.next(&at, *action).expect("it is possible"))
        };
        let newer = |from: &Cluster| then(from, &[Action::NewData(2)]);
        let begin = match self.start {
            Start::Fresh => fresh,
            Start::Settled => settled(&fresh),
            Start::Updated => settled(&newer(&settled(&fresh))),
            Start::HeldUp => {
                let started = then(&newer(&settled(&fresh)), &[Action::Deliver(0, 0), Action::Reconcile(0)]);
                let open = started.stages[0].runs.iter().position(|run| is_open(run));
                then(&started, &[Action::HoldUp(0, open.expect("it was started"))])
            }
        };
        vec![begin]
    }

    fn actions(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        if cluster.broken.is_some() {
            return;
        }
        actions.extend(self.steps(cluster));
        for (stage, node) in cluster.stages.iter().enumerate() {
            let Some(plan) = self.plan(node).filter(|_| node.awake) else { continue };
            let children = !plan.creates.is_empty() || !plan.applies.is_empty();
            let deletions = !plan.deletes.is_empty();
            let status = plan.status.is_some();
            let cuts = [
                (children && (deletions || status), Cut::AfterChildren),
                (deletions && status, Cut::AfterStatus),
            ];
            actions.extend(
                cuts.iter().filter(|(cut, _)| *cut).map(|(_, cut)| Action::CutReconcile(stage, *cut)),
            );
        }
        if cluster.events > 0 {
            actions.extend(self.events(cluster));
        }
    }

    fn next_state(&self, cluster: &Cluster, action: Action) -> Option<Cluster> {
        let mut next = self.next(cluster, action)?;
        next.events -= u8::from(action.is_event());
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties()
    }
}
