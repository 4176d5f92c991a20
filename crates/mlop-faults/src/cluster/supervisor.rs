//! The owner of the processes and of the API server: it carries out the commands of the injector.

use super::{
    external::ExternalSystems,
    objects::{self, NAMESPACE},
    processes::{OPERATORS, Operator, Processes, SYSTEM_NAMESPACE},
};
use crate::{
    inject::{Command, Injector},
    timing::{OUTAGE, RECREATION},
};
use k8s_openapi::api::coordination::v1::Lease;
use mlop_api::{dataset::Dataset, kinds};
use mlop_sim::{Sim, Snapshot};
use serde_json::Value;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// The least distance to the backup that is restored.
const BACKUP_EVERY: Duration = Duration::from_secs(10);

pub struct Supervisor {
    pub sim: Sim,
    pub injector: Arc<Injector>,
    pub processes: Arc<Processes>,
    pub external: Arc<Mutex<ExternalSystems>>,
    pub backups: VecDeque<Snapshot>,
}

impl Supervisor {
    /// Carries out commands until the injector is gone.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, makes_backups: bool) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                () = sleep(BACKUP_EVERY), if makes_backups => self.back_up(),
            }
        }
    }

    fn back_up(&mut self) {
        self.backups.push_back(self.sim.snapshot());
        if self.backups.len() > 2 {
            self.backups.pop_front();
        }
    }

    fn carry_out(&mut self, command: Command) {
        let processes = || Arc::clone(&self.processes);
        match command {
            Command::Crash(name) => {
                named(&name).for_each(|operator| drop(tokio::spawn(processes().restart(operator))));
            }
            Command::AllCrash => {
                OPERATORS.iter().for_each(|operator| drop(tokio::spawn(processes().restart(operator))));
            }
            Command::SecondLeader(name) => {
                named(&name).for_each(|operator| drop(tokio::spawn(processes().run_second(operator))));
            }
            Command::Terminate(name) => {
                named(&name).for_each(|operator| drop(tokio::spawn(processes().terminate(operator))));
            }
            Command::TakeLease(name) => {
                let _ = self.sim.edit::<Lease>(SYSTEM_NAMESPACE, &name, |lease| {
                    lease.spec.get_or_insert_default().holder_identity = Some("somebody".to_owned());
                });
                self.injector.note_lost_lease(&name);
            }
            Command::Clock(name, seconds) => {
                let processes = processes();
                processes.set_clock(&name, seconds);
                tokio::spawn(async move {
                    sleep(OUTAGE).await;
                    processes.set_clock(&name, 0);
                });
            }
            Command::RemoveType(plural) => self.remove_type(&plural),
            Command::EndNamespace => drop(self.sim.terminate_namespace(NAMESPACE)),
            Command::Restore => {
                if let Some(backup) = self.backups.pop_front() {
                    self.injector.note_restore();
                    self.restore(&backup);
                }
            }
            Command::RecreateInput => self.recreate_input(),
            Command::Recreate(object) => self.recreate(&object),
            Command::FlapSource => self.flap_source(),
        }
    }

    /// Restores a backup. Those who need the types and objects that it lacks create them again.
    fn restore(&self, backup: &Snapshot) {
        let id = |object: &Value| (object["kind"].to_string(), object["metadata"]["name"].to_string());
        let before = objects::list(&self.sim);
        self.sim.restore(backup);
        let kept: BTreeSet<_> = objects::list(&self.sim).iter().map(id).collect();
        for object in before.into_iter().filter(|object| !kept.contains(&id(object))) {
            self.injector.recreate_later(object, OUTAGE + RECREATION);
        }
        let sim = self.sim.clone();
        tokio::spawn(async move {
            sleep(OUTAGE).await;
            for crd in kinds::all() {
                // Most exist.
                let _ = sim.register_crd(&crd);
            }
        });
    }

    fn recreate_input(&self) {
        let Some(object) = objects::list_kind(&self.sim, "Dataset").into_iter().next() else { return };
        if self.sim.delete::<Dataset>(NAMESPACE, "flights").is_ok() {
            self.injector.recreate_later(object, RECREATION);
        }
    }

    fn recreate(&self, object: &Value) {
        if !self.injector.is_recreating() {
            return;
        }
        // Another user may have been faster, or the namespace is gone with all its objects.
        if let Err(error) = objects::create(&self.sim, objects::manifest_of(object))
            && !error.contains("already exists")
            && !error.contains("namespaces")
        {
            self.processes.add_failure(format!("the user could not recreate the object: {error}"));
        }
    }

    /// Removes a custom kind with its objects. A built-in kind stands for TrainingJobs.
    fn remove_type(&self, plural: &str) {
        let crds = kinds::all();
        let crd = crds.iter().find(|crd| crd.spec.names.plural == plural);
        let Some(crd) = crd.or(crds.iter().find(|crd| crd.spec.names.plural == "trainingjobs")) else {
            return;
        };
        let lost = objects::list_kind(&self.sim, &crd.spec.names.kind);
        if self.sim.remove_crd(&crd.spec.names.plural, &crd.spec.group).is_err() {
            return;
        }
        for object in lost {
            self.injector.recreate_later(object, OUTAGE + Duration::from_secs(1));
        }
        let (sim, crd) = (self.sim.clone(), crd.clone());
        tokio::spawn(async move {
            sleep(OUTAGE).await;
            // It exists already if it was removed twice.
            let _ = sim.register_crd(&crd);
        });
    }

    fn flap_source(&self) {
        const MISTAKE: &str = " with a mistake";
        let external = Arc::clone(&self.external);
        let before = {
            let mut external = external.lock().unwrap_or_else(PoisonError::into_inner);
            let before = external.bucket.clone();
            external.bucket = format!("{before}{MISTAKE}");
            external.flapped = true;
            before
        };
        objects::refresh(&self.sim, "flapping");
        let sim = self.sim.clone();
        tokio::spawn(async move {
            sleep(OUTAGE).await;
            {
                let mut external = external.lock().unwrap_or_else(PoisonError::into_inner);
                if external.bucket.ends_with(MISTAKE) {
                    external.bucket = before;
                }
            }
            objects::refresh(&sim, "flapped");
        });
    }
}

fn named(name: &str) -> impl Iterator<Item = &'static Operator> + '_ {
    OPERATORS.iter().filter(move |operator| operator.name == name)
}
