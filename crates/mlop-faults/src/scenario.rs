//! What users do while things go wrong.

use crate::{
    oracle,
    users::{self, Deed},
    world::{NS, World},
};
use k8s_openapi::api::core::v1::Namespace;
use mlop_api::{
    contract::condition_type,
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    registry::{Model, ModelVersion, TrackingServer},
    training::{TrainingJob, TrainingRun},
};
use mlop_core::condition;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

pub const PIPELINE: &str = include_str!("pipeline.yaml");
/// How long a goal may take, faults included: outages and back-off of some minutes are no failure.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// After this time users say again what they want.
const INSISTENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scenario {
    /// The pipeline is applied and becomes a served model; new data becomes a second one.
    NewData,
    /// After that the model is pinned to the earlier version, and released.
    Pin,
    /// The pipeline is applied, becomes a served model, and is deleted.
    Deletion,
    /// The pipeline is applied, users change their minds for a minute, and then want what they wanted first, with new
    /// data.
    Restless,
}

impl Scenario {
    pub const ALL: [Self; 4] = [Self::NewData, Self::Pin, Self::Deletion, Self::Restless];

    /// Plays the users until the last goal is met. Restless ones want the `digests` of a run without faults, if there was
    /// one already.
    ///
    /// # Errors
    /// The goal that was not met in time.
    pub async fn play(self, world: &World, users: &[Deed], digests: Option<&Value>) -> Result<(), String> {
        world.apply(PIPELINE);
        if self == Self::Restless {
            users::play(world, users).await;
            let current = |world: &World| {
                is_served(world, None)
                    && digests.map_or_else(|| oracle::is_current(world), |all| *all == oracle::digests(world))
            };
            return insist(world, "the latest wish is served", users::ask, current).await;
        }
        served(world, "1").await?;
        if self == Self::Deletion {
            return delete(world).await;
        }
        insist(
            world,
            "version 2 is served",
            |world, _| world.arrive("february"),
            |w| is_served(w, Some("2")),
        )
        .await?;
        if self == Self::Pin {
            let earlier = world.sim.list::<ModelVersion>().into_iter().find_map(|version| {
                let registered = version.status.as_ref()?.output.as_ref()?.registered.as_ref()?;
                (registered.version == "1").then(|| version.metadata.name.clone()).flatten()
            });
            let earlier = match earlier {
                Some(earlier) => earlier,
                // A backup from before it was made does not have it.
                None if world.injector.ledger().was_restored() => return Ok(()),
                None => return Err("goal: the first ModelVersion is kept".to_owned()),
            };
            let repeat = |world: &World, _| pin(world, Some(earlier.clone()));
            insist(world, "version 1 is served again", repeat, |world| is_served(world, Some("1"))).await?;
            let repeat = |world: &World, _| pin(world, None);
            insist(world, "version 2 is served again", repeat, |world| is_served(world, Some("2"))).await?;
        }
        Ok(())
    }

    /// Plays the users until somebody deletes the namespace; then it must get empty. What is not in the cluster is not
    /// cleaned up: no pod can start any more that would do it.
    ///
    /// # Errors
    /// The goal that was not met in time.
    pub async fn play_until_the_namespace_ends(
        self,
        world: &World,
        users: &[Deed],
        digests: &Value,
    ) -> Result<(), String> {
        let ends = |world: &World| {
            let namespaces = world.sim.list::<Namespace>();
            let ours = namespaces.iter().find(|namespace| namespace.metadata.name.as_deref() == Some(NS));
            ours.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
        };
        tokio::select! {
            // The fault may strike after the last goal, or never.
            played = self.play(world, users, Some(digests)) => if !ends(world) { return played },
            _ = world.within(PATIENCE * 2, ends) => {}
        }
        world.outside().pointers.clear();
        goal(world, "the namespace is gone", |world| {
            !world.sim.list::<Namespace>().iter().any(|ns| ns.metadata.name.as_deref() == Some(NS))
        })
        .await
    }

    /// Whether users refer to objects of this kind by name: whoever deletes one makes the scenario meaningless.
    pub fn needs(self, plural: &str) -> bool {
        self == Self::Pin && matches!(plural, "models" | "modelversions")
    }

    /// The oracle of an end state that does not need to be compared.
    pub fn leaves_nothing(self) -> bool {
        self == Self::Deletion
    }
}

fn pin(world: &World, run: Option<String>) {
    // Whoever deletes it meanwhile creates it anew as it was then; the goal shows whether the pin is in effect.
    let _ = world.sim.edit::<Model>(NS, "delay", |model| model.spec.pin = run);
}

async fn served(world: &World, version: &str) -> Result<(), String> {
    goal(world, &format!("version {version} is served"), |world| is_served(world, Some(version))).await
}

/// Whether the newest result is served, and is this version.
fn is_served(world: &World, version: Option<&str>) -> bool {
    let Some(deployment) = world.sim.get::<ModelDeployment>(NS, "delay") else { return false };
    let status = deployment.status.unwrap_or_default();
    condition::is_true(&status.conditions, condition_type::READY)
        && condition::is_true(&status.conditions, condition_type::UP_TO_DATE)
        && status.serving.is_some_and(|serving| {
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
            let (wanted, found) = (number(version), number(serving.version.as_deref()));
            // What was there for a moment may have become a version too.
            wanted.is_none() || found == wanted || (world.outside().flapped && found > wanted)
        })
}

/// Says what is wanted, and again whenever it has not come after a while: somebody may have undone it.
async fn insist(
    world: &World,
    what: &str,
    wish: impl Fn(&World, u32),
    holds: impl Fn(&World) -> bool,
) -> Result<(), String> {
    for time in 0..PATIENCE.as_secs() / INSISTENCE.as_secs() {
        wish(world, u32::try_from(time).unwrap_or_default());
        if world.within(INSISTENCE, &holds).await {
            return Ok(());
        }
    }
    Err(format!("stable reconciliation: not within {} s: {what}", PATIENCE.as_secs()))
}

async fn goal(world: &World, what: &str, holds: impl Fn(&World) -> bool) -> Result<(), String> {
    if world.within(PATIENCE, holds).await {
        return Ok(());
    }
    Err(format!("stable reconciliation: not within {} s: {what}", PATIENCE.as_secs()))
}

async fn delete(world: &World) -> Result<(), String> {
    let sim = &world.sim;
    world.injector.let_go();
    // Some may be deleted already, and a restored server brings back what was.
    let all = |world: &World, _| {
        for name in ["flights", "routes", "delay", "files", "features", "mlflow"] {
            let _ = world.sim.delete::<ModelDeployment>(NS, name);
            let _ = world.sim.delete::<Model>(NS, name);
            let _ = world.sim.delete::<TrainingJob>(NS, name);
            let _ = world.sim.delete::<FeatureView>(NS, name);
            let _ = world.sim.delete::<Dataset>(NS, name);
        }
    };
    let gone =
        insist(world, "nothing of the pipeline is left", all, |world| leftovers(world).is_empty()).await;
    gone.map_err(|error| format!("{error}: {}", leftovers(world).join(", ")))?;
    let _ = sim.delete::<FeatureStore>(NS, "features");
    let _ = sim.delete::<TrackingServer>(NS, "mlflow");
    let _ = sim.delete::<ObjectStore>(NS, "files");
    goal(world, "no connection is left", |world| {
        leftovers(world).is_empty()
            && world.sim.count::<FeatureStore>() + world.sim.count::<ObjectStore>() == 0
            && world.sim.count::<k8s_openapi::api::core::v1::Pod>() == 0
    })
    .await
}

/// What should have gone with the pipeline.
pub fn leftovers(world: &World) -> Vec<String> {
    let sim = &world.sim;
    let counts = [
        ("Dataset", sim.count::<Dataset>()),
        ("DatasetVersion", sim.count::<DatasetVersion>()),
        ("FeatureView", sim.count::<FeatureView>()),
        ("FeatureSnapshot", sim.count::<FeatureSnapshot>()),
        ("TrainingJob", sim.count::<TrainingJob>()),
        ("TrainingRun", sim.count::<TrainingRun>()),
        ("Model", sim.count::<Model>()),
        ("ModelVersion", sim.count::<ModelVersion>()),
        ("ModelDeployment", sim.count::<ModelDeployment>()),
        ("Job", sim.count::<k8s_openapi::api::batch::v1::Job>()),
        ("Deployment of a model", deployments(world)),
    ];
    let mut left: Vec<_> =
        counts.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
    left.extend(world.outside().pointers.keys().filter(|name| name.starts_with("view ")).cloned());
    left
}

fn deployments(world: &World) -> usize {
    let all = world.sim.list::<k8s_openapi::api::apps::v1::Deployment>();
    all.iter()
        .filter(|deployment| deployment.metadata.name.as_deref().is_some_and(|name| name.ends_with("-mdep")))
        .count()
}
