//! The state: the objects of the API server, and the caches of each controller.

use crate::{
    oracle::Rule,
    shared::{Memo, Shared},
    stage::{self, SOURCE, STAGES, Shape},
};
use mlop_api::features::{FeatureSnapshot, FeatureView};
use mlop_core::{inputs, resource::InputObject};
use serde_json::Value;

/// Everything at one moment.
#[derive(Clone, Debug, Hash, PartialEq)]
pub struct Cluster {
    pub source: Source,
    pub stages: Vec<Node>,
    /// Number of events that are left.
    pub events: u8,
    /// The first rule that a step broke. No step follows it.
    pub broken: Option<Rule>,
}

#[derive(Clone, Debug, Hash, PartialEq)]
pub struct Source {
    pub version: u8,
    pub revision: u8,
    pub failing: bool,
}

/// One stage: its object, its runs, and the caches of its controller.
#[derive(Clone, Debug, Hash, PartialEq)]
pub struct Node {
    /// Number of objects that have had the name.
    pub born: u8,
    pub live: Option<Shared<FeatureView>>,
    /// The object in the cache of its controller: its status is current, its spec may be one edit late.
    pub seen: Option<Shared<FeatureView>>,
    /// The inputs in the cache of the controller, each at most one change late.
    pub caches: Vec<Option<Shared<InputObject>>>,
    /// Sorted by name.
    pub runs: Vec<Shared<FeatureSnapshot>>,
    /// Whether the object is enqueued.
    pub awake: bool,
}

impl Node {
    pub fn uid(&self) -> Option<&str> {
        self.live.as_ref()?.metadata.uid.as_deref()
    }

    pub fn run(&self, name: &str) -> Option<&Shared<FeatureSnapshot>> {
        self.runs.iter().find(|run| run.metadata.name.as_deref() == Some(name))
    }

    /// Adds a run, or replaces the one of its name.
    pub fn put(&mut self, run: Shared<FeatureSnapshot>) {
        self.runs.retain(|known| known.metadata.name != run.metadata.name);
        self.runs.push(run);
        self.runs.sort_by_key(|run| run.metadata.name.clone());
        self.awake = true;
    }
}

/// The uid of the owner of a run.
pub fn owner(run: &FeatureSnapshot) -> Option<&str> {
    Some(run.metadata.owner_references.as_ref()?.first()?.uid.as_str())
}

/// Writes into a [`Cluster`] and notifies its watchers. Each cache follows in order, at most one change late.
#[derive(Default)]
pub struct Server {
    pub projections: Memo<Shared<InputObject>>,
}

impl Server {
    pub fn fresh(&self, shape: Shape, events: u8) -> Cluster {
        let source = Source { version: 1, revision: 1, failing: false };
        let stages = (0..STAGES.len()).map(|index| {
            let view = Shared::of(&stage::view(shape, index, 1));
            Node {
                born: 1,
                live: Some(Shared::clone(&view)),
                seen: Some(view),
                caches: vec![None; shape.inputs(index).len()],
                runs: Vec::new(),
                awake: true,
            }
        });
        let mut cluster = Cluster { stages: stages.collect(), source, events, broken: None };
        for name in [SOURCE, "a", "b", "c"] {
            let live = self.input(&cluster, name);
            for (consumer, input) in shape.consumers(name) {
                cluster.stages[consumer].caches[input].clone_from(&live);
            }
        }
        cluster
    }

    /// An object as its consumers read it.
    pub fn input(&self, cluster: &Cluster, name: &str) -> Option<Shared<InputObject>> {
        if name == SOURCE {
            let Source { version, revision, failing } = cluster.source;
            let key = (version, revision, failing);
            return Some(
                self.projections.get(key, || Shared::of(&stage::source(version, revision, failing))),
            );
        }
        let index = STAGES.iter().position(|stage| *stage == name)?;
        let live = cluster.stages[index].live.as_ref()?;
        Some(self.projections.get(live, || Shared::of(live.json())))
    }

    /// Changes the source.
    pub fn change_source(&self, shape: Shape, cluster: &mut Cluster, change: impl FnOnce(&mut Source)) {
        let before = self.input(cluster, SOURCE);
        change(&mut cluster.source);
        self.announce(shape, cluster, SOURCE, before);
    }

    /// Writes an object as a user: its controller sees it later.
    pub fn write(&self, shape: Shape, cluster: &mut Cluster, stage: usize, object: Option<Value>) {
        let before = self.input(cluster, STAGES[stage]);
        let node = &mut cluster.stages[stage];
        if node.seen != node.live {
            node.seen.clone_from(&node.live);
            node.awake = true;
        }
        node.live = object.map(|object| Shared::of(&object));
        self.announce(shape, cluster, STAGES[stage], before);
    }

    /// Writes an object as its controller: the answer is in its cache.
    pub fn write_through(
        &self,
        shape: Shape,
        cluster: &mut Cluster,
        stage: usize,
        object: Shared<FeatureView>,
    ) {
        let before = self.input(cluster, STAGES[stage]);
        let node = &mut cluster.stages[stage];
        node.live = Some(object);
        node.seen.clone_from(&node.live);
        node.awake = true;
        self.announce(shape, cluster, STAGES[stage], before);
    }

    fn announce(&self, shape: Shape, cluster: &mut Cluster, name: &str, before: Option<Shared<InputObject>>) {
        if self.input(cluster, name) == before {
            return;
        }
        for (consumer, input) in shape.consumers(name) {
            deliver(&mut cluster.stages[consumer], input, before.clone());
        }
    }
}

/// A cache follows. The real signal decides whether the controller enqueues its object.
pub fn deliver(node: &mut Node, input: usize, object: Option<Shared<InputObject>>) {
    let cache = &mut node.caches[input];
    let same = match (&*cache, &object) {
        (Some(before), Some(after)) => inputs::signal(before) == inputs::signal(after),
        (before, after) => before.is_none() && after.is_none(),
    };
    node.awake |= !same;
    *cache = object;
}
