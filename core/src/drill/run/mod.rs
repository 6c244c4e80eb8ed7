//! One run, from its object to its verdict and its cleanup: what to do next, and what is recorded before it is done.
//!
//! Admit (T0), wait for the repository, make volume and sandbox, restore, hand the volume over, probe the isolation, start the
//! application, validate, judge; then clean up, which is a fact of its own. Each write is announced in the status before it is
//! made and has a deterministic name, so that a second controller, or the same one after a crash, finds out from the objects
//! where the run is. Whatever cannot be known is waited for, until the time of its part is over.

mod admitting;
mod cleanup;
mod facts;
mod pods;
mod restoring;
mod starting;
mod validating;

pub use facts::{
    Access, ClaimState, DrillDecision, DrillFact, DrillFacts, DrillWrite, Ended, JobState, PodState, SandboxState,
    Seen, VolumeState,
};

use interlock_crds::{
    BackupPolicy, BackupPolicySpec, BackupRepository, CleanupState, DrillPhase, DrillRun, DrillRunSpec, DrillRunStatus,
    JobRef, PinnedDrill, RestoreDrill, RestoreDrillSpec,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    earlier, names, plus,
    reason::{Ending, Reason},
    select, whole_seconds,
};
use crate::{
    mutants::{self, Mutant},
    object::Digest,
};

/// Decides what follows for one run. Total and deterministic; deciding again on the recorded result records nothing new.
pub fn decide(facts: &DrillFacts<'_>) -> DrillDecision {
    let mut status = facts.status.clone();
    status.observed_generation = Some(facts.generation);
    let mut pass = Pass { facts, status, writes: Vec::new(), wake_at: None, look_again: None, release: false };
    pass.step();
    pass.status.next_transition = pass.wake_at.map(Time);
    let shuffle = pass.shuffle();
    let wake_at = earlier(pass.wake_at, pass.look_again);
    DrillDecision { status: pass.status, writes: pass.writes, shuffle, wake_at, release: pass.release }
}

/// Ids of the snapshots that runs need: retention must not forget them. A run needs its point, and the base of it, until its
/// verdict has fallen.
pub fn holds<'a>(runs: impl IntoIterator<Item = &'a DrillRun>) -> std::collections::BTreeSet<String> {
    let statuses = runs.into_iter().filter_map(|run| run.status.as_ref());
    let needed = statuses
        .filter(|status| !status.phase.is_terminal() && !mutants::is(Mutant::ForgetWhatDrillsNeed))
        .filter_map(|status| status.chosen.as_ref());
    needed.flat_map(|chosen| chosen.base_id.iter().cloned().chain([chosen.snapshot_id.clone()])).collect()
}

/// The specs that a run carries out, believed only if they have the digests that were pinned.
pub fn pinned(status: &DrillRunStatus) -> Result<(RestoreDrillSpec, BackupPolicySpec), Ending> {
    let broken = |what: &str| {
        Ending::failed(
            Reason::RecordBroken,
            format!(
                "the {what} that was recorded at admission is not what its digest says: the status was changed by somebody else than Interlock"
            ),
        )
    };
    let pinned = status.pinned.as_ref().ok_or_else(|| broken("drill"))?;
    let has =
        |value: &serde_json::Value, digest: &str| Digest::of_canonical(value).is_ok_and(|computed| computed == *digest);
    if !has(&pinned.spec, &pinned.spec_digest) {
        return Err(broken("drill"));
    }
    if !has(&pinned.policy_spec, &pinned.policy_digest) {
        return Err(broken("policy"));
    }
    let drill = serde_json::from_value(pinned.spec.clone()).map_err(|_| broken("drill"))?;
    let policy = serde_json::from_value(pinned.policy_spec.clone()).map_err(|_| broken("policy"))?;
    Ok((drill, policy))
}

/// The specs that a run carries out: those that were pinned, with its own selection and fault.
pub fn carried_out(
    spec: &DrillRunSpec,
    status: &DrillRunStatus,
) -> Result<(RestoreDrillSpec, BackupPolicySpec), Ending> {
    let (mut drill, policy) = pinned(status)?;
    drill.selection = spec.selection.clone().unwrap_or(drill.selection);
    drill.fault_injection = spec.fault_injection.clone().or(drill.fault_injection);
    Ok((drill, policy))
}

/// What a run is pinned to: a drill, its policy and its repository as they are.
pub fn pin(drill: &RestoreDrill, policy: &BackupPolicy, repository: &BackupRepository) -> PinnedDrill {
    let written = |spec: serde_json::Result<serde_json::Value>| spec.unwrap_or_default();
    let digest = |value: &serde_json::Value| Digest::of_canonical(value).map(|d| d.to_string()).unwrap_or_default();
    let (spec, policy_spec) = (written(serde_json::to_value(&drill.spec)), written(serde_json::to_value(&policy.spec)));
    PinnedDrill {
        drill_uid: drill.metadata.uid.clone().unwrap_or_default(),
        generation: drill.metadata.generation.unwrap_or_default(),
        spec_digest: digest(&spec),
        spec,
        policy_uid: policy.metadata.uid.clone().unwrap_or_default(),
        policy_digest: digest(&policy_spec),
        policy_spec,
        repository: repository.metadata.name.clone().unwrap_or_default(),
        repository_uid: repository.metadata.uid.clone().unwrap_or_default(),
    }
}

struct Pass<'a> {
    facts: &'a DrillFacts<'a>,
    status: DrillRunStatus,
    writes: Vec<DrillWrite>,
    wake_at: Option<Timestamp>,
    look_again: Option<Timestamp>,
    release: bool,
}

impl Pass<'_> {
    fn step(&mut self) {
        if self.status.phase.is_terminal() {
            return self.at_rest();
        }
        if let Err(ending) = self.active() {
            self.end(&ending);
            self.at_rest();
        }
    }

    fn active(&mut self) -> Result<(), Ending> {
        if self.facts.deleting {
            return Err(Ending::failed(Reason::Deleted, "the run was deleted before its verdict fell"));
        }
        if self.status.phase == DrillPhase::Pending && !self.admit()? {
            return Ok(());
        }
        if mutants::is(Mutant::ReadT0Anew) {
            self.status.t0 = Some(Time(whole_seconds(self.facts.now)));
        }
        let (drill, policy) = carried_out(self.facts.spec, &self.status)?;
        let plan = Plan { drill, policy };
        // Each part goes on to the next one when it is done, so that one decision takes a run as far as it can go.
        while self.part(&plan)? {}
        if matches!(
            self.status.phase,
            DrillPhase::HandingOver | DrillPhase::Probing | DrillPhase::Starting | DrillPhase::Validating
        ) {
            // Backups and pruning need not wait for the rest.
            self.let_go();
        }
        Ok(())
    }

    /// Carries out the present part; whether it is done and the next one is there.
    fn part(&mut self, plan: &Plan) -> Result<bool, Ending> {
        if self.status.phase > DrillPhase::Provisioning {
            self.sandbox_is_there()?;
        }
        match self.status.phase {
            DrillPhase::Queued => self.queued(plan),
            DrillPhase::Provisioning => self.provisioning(plan),
            DrillPhase::Restoring => self.restoring(plan),
            DrillPhase::HandingOver => self.handing_over(plan),
            DrillPhase::Probing => self.probing(plan),
            DrillPhase::Starting => self.starting(plan),
            DrillPhase::Validating => self.validating(plan),
            _ => Ok(false),
        }
    }

    /// The drill is told what was drawn until the verdict falls, so that a crash in between loses nothing.
    fn shuffle(&self) -> Option<interlock_crds::ShuffleState> {
        let chosen = self.status.chosen.as_ref().filter(|_| !self.status.phase.is_terminal())?;
        let tier = chosen.tier.as_ref()?;
        let state = select::remember(self.facts.shuffle, &chosen.backup, tier, self.status.seed?);
        (state != *self.facts.shuffle).then_some(state)
    }

    /// The verdict falls, once.
    fn end(&mut self, ending: &Ending) {
        if self.status.phase.is_terminal() {
            return;
        }
        if self.status.phase > DrillPhase::Queued {
            // What was made goes by names of its own, also if somebody took its record away.
            self.status.sandbox.get_or_insert_with(|| restoring::sandbox_record(self.facts));
        }
        self.status.phase = ending.phase;
        self.status.verdict = ending.verdict();
        self.status.reason = Some(ending.reason.name());
        self.say(ending.message.clone());
        self.status.finished_at = Some(Time(whole_seconds(self.facts.now)));
        (self.wake_at, self.look_again) = (None, None);
        self.writes.clear();
        let stays = pinned(&self.status).ok().and_then(|(drill, _)| match ending.phase {
            DrillPhase::Passed => drill.cleanup.after,
            _ => drill.cleanup.after_failure.or(drill.cleanup.after),
        });
        let due = plus(self.facts.now, stays.unwrap_or(interlock_crds::Duration::from_seconds(0)).signed());
        self.status.cleanup.state = CleanupState::Pending;
        self.status.cleanup.due_at = Some(Time(whole_seconds(due)));
        self.status.evidence_digest = super::verdict::evidence_digest(&self.status);
    }

    fn go_on(&mut self, phase: DrillPhase, message: impl Into<String>) {
        self.status.phase = phase;
        self.say(message);
    }

    fn say(&mut self, message: impl Into<String>) {
        self.status.message = Some(message.into().chars().take(2_048).collect());
    }

    fn t0(&self) -> Timestamp {
        self.status.t0.as_ref().map_or(self.facts.now, |t0| t0.0)
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = earlier(self.wake_at, Some(at));
    }

    /// The record of something that was announced under this name.
    fn announced(&self, name: &str) -> Option<&JobRef> {
        self.status.jobs.iter().find(|job| job.name == name)
    }

    fn announce(&mut self, name: &str) {
        if self.announced(name).is_none() {
            self.status.jobs.push(JobRef { name: name.to_owned(), uid: None });
        }
    }

    fn note_uid(&mut self, name: &str, uid: &str) {
        self.announce(name);
        if let Some(job) = self.status.jobs.iter_mut().find(|job| job.name == name) {
            job.uid.get_or_insert_with(|| uid.to_owned());
        }
    }

    fn restore_job_name(&self) -> String {
        names::restore_job(self.facts.name)
    }
}

/// What the run carries out.
struct Plan {
    drill: RestoreDrillSpec,
    policy: BackupPolicySpec,
}
