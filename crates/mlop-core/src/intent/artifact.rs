//! The artifact: how a run's result becomes the version that others use.

use super::{
    Intent, history,
    late_result::LateResult,
    revision::Revision,
    status::Draft,
    step::{Findings, Publication},
};
use crate::{
    Blocked,
    condition::ConditionStatus,
    inputs::{self, ReadyInput},
    run::RunResource,
};
use kube::{ResourceExt, core::object::HasStatus};
use mlop_api::{
    Artifact, Reason,
    contract::{InputRecord, condition_type},
    status::Output,
};

impl<I: Intent> Draft<'_, I> {
    /// Publishes a late result. One that the present spec would not make is valid for no generation.
    pub(super) fn publish_late(&mut self, late: LateResult<I>) {
        self.publish(late.publication, None);
        if let Some(artifact) = self.status.artifact.as_mut().filter(|_| !late.of_this_spec) {
            artifact.generation = None;
        }
    }

    /// Makes the run's result the artifact. An equal digest keeps its revision and time, unless it is activated again.
    /// Its parents are `inputs`, or the run's own.
    pub(super) fn publish(&mut self, publication: Publication<I>, inputs: Option<&[ReadyInput]>) {
        let Publication { run, verdict, revision, activation, registered } = publication;
        if let Some(verdict) = verdict {
            history::record_verdict(&mut self.status, verdict);
        }
        if activation.is_some() {
            self.status.activation = activation;
        }
        let Some(output) = run.status().and_then(|status| status.output.clone()) else { return };
        let lineage = run.lineage();
        let before = self.status.artifact.take();
        let is_new_digest = before.as_ref().is_none_or(|artifact| artifact.digest != output.digest);
        let is_new_run = before.as_ref().is_none_or(|artifact| artifact.run != run.name_any());
        let artifact = self.artifact(before, &output, run.as_ref(), revision, inputs);
        let message = format!(
            "revision {} is in use: {} ({})",
            artifact.revision,
            output.summary.as_deref().unwrap_or_default(),
            artifact.digest
        );
        self.status.artifact = Some(artifact);
        self.status.summary = output.summary;
        self.status.notes = output.notes;
        self.status.metrics = output.metrics;
        self.status.registered = registered.or(output.registered);
        self.status.dead_letters.retain(|dead| dead.input_digest != lineage.input_digest);
        if is_new_run {
            history::remember(&mut self.status, run.as_ref(), Reason::Succeeded);
        }
        if is_new_digest || revision.is_some() {
            self.publish_event(false, Reason::Ready, &message);
        }
    }

    fn artifact(
        &self,
        before: Option<Artifact>,
        output: &Output,
        run: &I::Run,
        revision: Option<Revision>,
        inputs: Option<&[ReadyInput]>,
    ) -> Artifact {
        let lineage = run.lineage();
        let last = before.as_ref().and_then(|artifact| Revision::new(artifact.revision));
        let same = before.filter(|artifact| artifact.digest == output.digest);
        let number = revision.map(Revision::get).or(same.as_ref().map(|artifact| artifact.revision));
        let produced_at = same.filter(|_| revision.is_none()).map(|artifact| artifact.produced_at);
        Artifact {
            digest: output.digest.clone(),
            store: output.store.clone(),
            uri: output.uri.clone(),
            media_type: output.media_type.clone(),
            revision: number.unwrap_or_else(|| Revision::after(last).get()),
            schema_digest: output.schema_digest.clone(),
            generation: Some(self.observed.generation()),
            input_digest: lineage.input_digest.clone(),
            run: run.name_any(),
            inputs: inputs
                .map_or_else(|| lineage.inputs.iter().map(|input| input.record.clone()).collect(), records),
            ancestors: lineage.ancestors.clone(),
            produced_at: produced_at.unwrap_or_else(|| self.now.into()),
        }
    }

    /// Reports that the artifact is the result of the present spec and inputs.
    pub(super) fn report_current(&mut self, findings: &Findings) {
        let generation = self.observed.generation();
        if let Some(artifact) = &mut self.status.artifact {
            artifact.generation = Some(generation);
            if let Some(inputs) = &findings.inputs {
                artifact.inputs = records(inputs);
                artifact.ancestors = inputs::renewed_ancestors(&artifact.ancestors, inputs);
            }
        }
        self.set_ready(ConditionStatus::Unknown, Reason::Pending, "");
        match self.observed.profile.check() {
            Ok(()) => self.conditions().settled(),
            // The artifact needs no pod. Whatever comes next does.
            Err(Blocked { reason, message, stalled: false, .. }) => {
                self.conditions().reconciling(reason, &message)
            }
            Err(Blocked { reason, message, stalled: true, .. }) => {
                self.conditions().stalled(reason, &message)
            }
        }
        self.status.cause = None;
        if I::flow(&self.observed.object).pin().is_some() {
            let message = "spec.pin names the run in use";
            self.set(condition_type::UP_TO_DATE, ConditionStatus::True, Reason::Pinned, message);
        } else if let Some(upstream) = &findings.upstream {
            let text = self.path(upstream);
            self.status.cause = Some(upstream.cause.clone());
            self.set(condition_type::UP_TO_DATE, upstream.status(), upstream.reason(), &text);
        } else {
            let message = "made from the newest inputs";
            self.set(condition_type::UP_TO_DATE, ConditionStatus::True, Reason::UpToDate, message);
        }
    }
}

fn records(inputs: &[ReadyInput]) -> Vec<InputRecord> {
    inputs.iter().map(|input| input.input.record.clone()).collect()
}
