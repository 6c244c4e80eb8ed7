//! Acting: the steps of a run. What is done is decided by the core; here it is only done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interlock_core::{
    backup::restore,
    change::{
        FIELD_MANAGER,
        before::BeforeState,
        decide::authorised,
        facts::Command,
        gates, gradual, restores,
        run::{self, RunFacts, Step, Write},
    },
    object::Health,
    port::{DryRun, Identity, Note, Port, PortError},
};
use interlock_crds::{ChangePhase, ChangeRequestStatus, ObjectStatus, RunDirection, RunRecord, StepState, Supersede};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{Context, Observed, Outcome, finish, observe, prepare::Ready, record, store};
use crate::claims;

/// Field manager of what going back writes.
const ROLLBACK_MANAGER: &str = "interlock-rollback";
/// Steps in one pass: each object takes at most a handful.
const MAX_STEPS: usize = 4_000;
/// Conflicts on one object in one pass before it is left for a later one.
const MAX_CONFLICTS: usize = 8;

/// Starts a run. The journal of its first step and the sealed record are one write: the compare-and-swap into Running.
pub async fn start<P: Port>(
    context: &Context<P>,
    key: &str,
    observed: &mut Observed,
    status: ChangeRequestStatus,
    ready: Ready,
    now: Timestamp,
) -> Result<Outcome, PortError> {
    tracing::info!(
        change = key,
        digest = ready.run.change_digest,
        objects = ready.before.entries.len(),
        "every gate is open: the change starts"
    );
    let note = Note {
        warning: false,
        reason: "Started".to_owned(),
        action: "Start".to_owned(),
        message: format!(
            "every gate is open; {} objects are written as {}",
            ready.before.entries.len(),
            ready.run.executor
        ),
    };
    let looked = ready.live.into_iter().enumerate().collect();
    let reference = observed.reference();
    let mut pass = Running {
        context,
        key,
        observed,
        status,
        run: ready.run,
        phase: ChangePhase::Running,
        before: Arc::new(ready.before),
        looked,
        unsent: BTreeSet::new(),
        is_stored: true,
        recorded: false,
        votes_stand: false,
    };
    pass.status.phase = ChangePhase::Running;
    pass.status.waiting_for = None;
    let outcome = pass.steps(now).await;
    context.port.note(&reference, &note).await;
    outcome
}

/// Goes on with a run that was started before.
pub async fn go_on<P: Port>(
    context: &Context<P>,
    key: &str,
    observed: &mut Observed,
    status: ChangeRequestStatus,
    now: Timestamp,
) -> Result<Outcome, PortError> {
    let Some(run) = status.run.clone() else {
        return Ok(Outcome::Retry("the run has no record".to_owned()));
    };
    let is_release = |before: &Arc<BeforeState>| {
        (0..before.entries.len()).any(|position| told_release(context, before, &run, position).is_some())
    };
    let recent = store::recent_plan(context, &run, now).filter(is_release);
    let is_stored = recent.is_none();
    let before = match recent {
        Some(recent) => recent,
        None => match store::stored_plan(context, &observed.request.uid, &run).await {
            Ok(before) => before,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return without_plan(context, observed, status, &run, &error, now).await,
        },
    };
    let phase = status.phase;
    let begun = run.direction == RunDirection::Back
        || run.objects.iter().any(|o| !matches!(o.state, StepState::Waiting | StepState::Intended));
    let mut pass = Running {
        context,
        key,
        observed,
        status,
        run,
        phase,
        before,
        looked: BTreeMap::new(),
        unsent: BTreeSet::new(),
        is_stored,
        recorded: true,
        // Once something was written, the votes had been seen to stand.
        votes_stand: begun,
    };
    pass.steps(now).await
}

/// The before-state is gone or spoilt: a person must know, and decide.
async fn without_plan<P: Port>(
    context: &Context<P>,
    observed: &mut Observed,
    mut status: ChangeRequestStatus,
    run: &RunRecord,
    error: &PortError,
    now: Timestamp,
) -> Result<Outcome, PortError> {
    let commands = counting(context, observed, now);
    match run::without_plan(run, status.phase, &commands, &error.to_string()) {
        Step::Finish(_, phase, message) => {
            finish(context, observed, status, phase, &message, now).await?;
            Ok(Outcome::Wait(None))
        }
        Step::Wait { message, .. } => {
            status.message = Some(interlock_core::change::decide::bounded(&message, 2048));
            record::status(context, observed, status).await?;
            Ok(Outcome::Retry(message))
        }
        Step::Look(_) | Step::Record(..) | Step::Write(..) => Ok(Outcome::Retry(error.to_string())),
    }
}

/// Commands by people who may give them.
fn counting<P: Port>(context: &Context<P>, observed: &Observed, now: Timestamp) -> Vec<Command> {
    let facts = observed.facts(context);
    observed.commands.iter().filter(|c| authorised(&facts, c, now)).cloned().collect()
}

struct Running<'c, P> {
    context: &'c Context<P>,
    key: &'c str,
    observed: &'c mut Observed,
    status: ChangeRequestStatus,
    run: RunRecord,
    phase: ChangePhase,
    before: Arc<BeforeState>,
    looked: BTreeMap<usize, Option<Value>>,
    /// Steps that this pass journalled and did not take yet.
    unsent: BTreeSet<usize>,
    /// Whether the before-state was seen to be stored in this pass: nothing is written before it was.
    is_stored: bool,
    /// Whether the sealed record stands in the cluster: no write is made before it does.
    recorded: bool,
    /// Whether the votes of the record were seen to be there after it stood in the cluster. From then on admission
    /// lets nobody withdraw one; before, somebody may have done so between the count and the record.
    votes_stand: bool,
}

impl<P: Port> Running<'_, P> {
    async fn steps(&mut self, started: Timestamp) -> Result<Outcome, PortError> {
        let mut conflicts = 0;
        let commands = counting(self.context, self.observed, started);
        let kept_out = self.kept_out().await?;
        let newer = self.newer();
        for _ in 0..MAX_STEPS {
            let now = self.context.port.now().unwrap_or(started);
            if !self.context.port.may_write() {
                return Ok(Outcome::Wait(None));
            }
            let facts = RunFacts {
                run: &self.run,
                phase: self.phase,
                before: &self.before,
                looked: &self.looked,
                unsent: &self.unsent,
                kept_out: &kept_out,
                commands: &commands,
                overrun: self.observed.calendar.overrun(),
                calendar_change: self.observed.calendar.valid_until(),
                on_failure: self.observed.request.spec.contingency.on_failure,
                deadline: self.observed.request.spec.progress_deadline.signed(),
                superseded_by: newer.as_deref(),
            };
            let step = run::next(&facts, now);
            tracing::debug!(change = self.key, step = ?brief(&step), "next step");
            match step {
                Step::Look(index) => self.look(index).await?,
                Step::Record(run, phase, message) => self.record(*run, phase, &message).await?,
                Step::Write(..) if !self.is_stored => {
                    match store::stored_plan(self.context, &self.observed.request.uid, &self.run).await {
                        Ok(before) => (self.before, self.is_stored) = (before, true),
                        Err(error) if error.is_transient() => return Err(error),
                        Err(error) => {
                            let status = self.status.clone();
                            return without_plan(self.context, self.observed, status, &self.run, &error, now).await;
                        }
                    }
                }
                Step::Write(index, write) => {
                    if let Err(error) = self.write(index, &write).await {
                        self.looked.remove(&index);
                        match error {
                            PortError::Conflict(_) | PortError::AlreadyExists(_) if conflicts < MAX_CONFLICTS => {
                                conflicts += 1;
                            }
                            error if error.is_transient() => return Err(error),
                            error => {
                                if let Some(outcome) = self.refused(index, &error, &commands, now).await? {
                                    return Ok(outcome);
                                }
                            }
                        }
                    }
                }
                Step::Wait { run, phase, message, objects, until } => {
                    if self.context.watch(self.key, &objects) {
                        // What changed between the read and the watch would wake nobody: read once more.
                        self.run = *run;
                        self.looked.clear();
                        continue;
                    }
                    self.wait(*run, phase, &message, until).await?;
                    return Ok(Outcome::Wait(until));
                }
                Step::Finish(run, phase, message) => {
                    self.run = *run;
                    self.status.run = Some(self.run.clone());
                    finish(self.context, self.observed, self.status.clone(), phase, &message, now).await?;
                    return Ok(Outcome::Wait(None));
                }
            }
        }
        Ok(Outcome::Retry("the run did not settle in one pass".to_owned()))
    }

    /// Restores that are still to begin and that their repository has not let in, by position, and why.
    async fn kept_out(&self) -> Result<BTreeMap<usize, String>, PortError> {
        let mut kept_out = BTreeMap::new();
        if self.run.direction != RunDirection::Forward {
            return Ok(kept_out);
        }
        for (index, (entry, step)) in self.before.entries.iter().zip(&self.run.objects).enumerate() {
            let is_ahead = matches!(step.state, StepState::Waiting | StepState::Intended);
            let job = entry.manifest.as_ref().filter(|_| entry.id.kind == "Job" && is_ahead);
            let Some(reads) = job.and_then(restore::reads) else { continue };
            // Who holds another System's repository is not told here.
            let own = self.context.ask(|index| index.namespaces_beside(&reads.repository));
            if !own.contains(&self.observed.request.namespace) {
                kept_out.insert(index, restores::foreign(&reads));
                continue;
            }
            let repository = self.context.ask(|index| index.backup_repository(&reads.repository));
            let held = match repository.and_then(|repository| repository.metadata.uid.clone()) {
                Some(uid) => claims::read(&self.context.port, &uid).await.map(|held| Some(held.holders)),
                None => Ok(None),
            };
            let why = match held {
                Ok(holders) => restores::kept_out(&self.observed.request.uid, &reads, holders.as_deref()),
                // A change that cannot go on can still go back.
                Err(PortError::Invalid(why)) => Some(why),
                Err(error) => return Err(error),
            };
            kept_out.extend(why.map(|why| (index, why)));
        }
        Ok(kept_out)
    }

    /// The newer change that takes the place of this one, if its plan gives way to one.
    fn newer(&self) -> Option<String> {
        self.before.rollout_plan.as_ref().filter(|plan| plan.supersede == Supersede::Restart)?;
        let workloads = self.before.entries.iter().filter(|entry| entry.gradual).map(|entry| entry.id.clone());
        self.context.ask(|index| index.newer(workloads, &self.observed.request))
    }

    async fn look(&mut self, index: usize) -> Result<(), PortError> {
        let Some(entry) = self.before.entries.get(index) else { return Ok(()) };
        if let Some(told) = told_release(self.context, &self.before, &self.run, index) {
            self.looked.insert(index, Some(told));
            return Ok(());
        }
        let live = match self.context.port.live_get(&Identity::Controller, &entry.id).await {
            // A kind that an earlier step defines may not be known yet.
            Err(PortError::UnknownKind { .. }) => None,
            other => other?,
        };
        self.looked.insert(index, live);
        Ok(())
    }

    async fn record(&mut self, run: RunRecord, phase: ChangePhase, message: &str) -> Result<(), PortError> {
        if run.direction != self.run.direction || phase != self.phase {
            tracing::info!(change = self.key, ?phase, direction = ?run.direction, message, "the change turns");
            let goes_on = phase == ChangePhase::Running && run.direction == RunDirection::Forward;
            let reason = match phase {
                ChangePhase::Paused => "Paused",
                _ if goes_on => "GoesOn",
                _ => "GoingBack",
            };
            let note = Note {
                warning: !goes_on,
                reason: reason.to_owned(),
                action: "Run".to_owned(),
                message: message.to_owned(),
            };
            self.context.port.note(&self.observed.reference(), &note).await;
        }
        self.store(run, phase, message, None).await
    }

    async fn wait(
        &mut self,
        run: RunRecord,
        phase: ChangePhase,
        message: &str,
        until: Option<Timestamp>,
    ) -> Result<(), PortError> {
        // The due time moves with every pass; only a message or a journal that differs is worth a write.
        let until = until.filter(|_| self.status.message.as_deref() != Some(message)).or(self
            .status
            .next_transition
            .as_ref()
            .map(|t| t.0));
        self.store(run, phase, message, until).await
    }

    async fn store(
        &mut self,
        run: RunRecord,
        phase: ChangePhase,
        message: &str,
        until: Option<Timestamp>,
    ) -> Result<(), PortError> {
        let is_new = |(index, new): &(usize, &ObjectStatus)| {
            new.state == StepState::Intended && self.run.objects.get(*index) != Some(*new)
        };
        let intended: Vec<_> = run.objects.iter().enumerate().filter(is_new).map(|(index, _)| index).collect();
        self.run = run;
        self.phase = phase;
        self.status.phase = phase;
        self.status.run = Some(self.run.clone());
        self.status.message = Some(interlock_core::change::decide::bounded(message, 2048));
        self.status.next_transition = until.map(Time);
        if self.recorded {
            record::status(self.context, self.observed, self.status.clone()).await?;
            self.unsent.extend(intended);
            return Ok(());
        }
        // Two changes of one object, both found alone, would both start: one after the other, each looks again.
        let _one_at_a_time = self.context.starting.lock().await;
        if let Some(other) = self.collision() {
            return Err(PortError::Conflict(format!("change {other} started first")));
        }
        if let Some(stored) = record::status(self.context, self.observed, self.status.clone()).await? {
            self.context.learn(stored);
        }
        self.recorded = true;
        self.unsent.extend(intended);
        Ok(())
    }

    /// The running change that stands in the way now.
    fn collision(&mut self) -> Option<String> {
        let observed = &mut *self.observed;
        let (content, system) = (observed.content.as_ref().as_ref().ok()?, observed.system.as_deref()?);
        observed.running = self.context.ask(|index| index.running_beside(self.key, content, system));
        let facts = self.observed.facts(self.context);
        let demands = gates::demands(&facts.policy?.spec, facts.request.spec.type_)?;
        let held = gates::collision(&demands, &facts).is_some_and(|gate| gate.holds());
        held.then(|| self.observed.running.first().map(|other| other.key.clone())).flatten()
    }

    async fn write(&mut self, index: usize, write: &Write) -> Result<(), PortError> {
        if !self.recorded {
            return Err(PortError::Unavailable("the run was not recorded before its first write".to_owned()));
        }
        if !self.votes_stand {
            if let Some(gone) = observe::withdrawn(self.context, &self.observed.request, &self.run.votes).await? {
                return Err(PortError::Forbidden(format!("a vote ({gone}) was withdrawn as the change started")));
            }
            self.votes_stand = true;
        }
        let Some(entry) = self.before.entries.get(index) else { return Ok(()) };
        // A Rollout is a record of Interlock's own.
        let identity =
            if entry.is_rollout() { Identity::Controller } else { Identity::Impersonate(self.run.executor.clone()) };
        let port = &self.context.port;
        tracing::info!(change = self.key, object = %entry.id, write = verb(write), executor = self.run.executor, "writing");
        self.unsent.remove(&index);
        let stored = match write {
            Write::Create(object) => Some(port.create(&identity, FIELD_MANAGER, object, DryRun::No).await?),
            Write::Apply(object, precondition) => {
                Some(port.apply(&identity, FIELD_MANAGER, object, precondition, DryRun::No).await?)
            }
            Write::Patch(object) => Some(port.replace(&identity, FIELD_MANAGER, object, DryRun::No).await?),
            Write::Replace(object) => Some(port.replace(&identity, ROLLBACK_MANAGER, object, DryRun::No).await?),
            Write::Delete(precondition) => {
                port.delete(&identity, &entry.id, precondition, false, DryRun::No).await?;
                None
            }
        };
        match stored {
            Some(object) => {
                self.looked.insert(index, Some(object));
            }
            None => {
                self.looked.remove(&index);
            }
        }
        Ok(())
    }

    async fn refused(
        &mut self,
        index: usize,
        error: &PortError,
        commands: &[Command],
        now: Timestamp,
    ) -> Result<Option<Outcome>, PortError> {
        tracing::warn!(change = self.key, %error, "a write was refused");
        let step = {
            let facts = RunFacts {
                run: &self.run,
                phase: self.phase,
                before: &self.before,
                looked: &self.looked,
                unsent: &self.unsent,
                kept_out: &BTreeMap::new(),
                commands,
                overrun: None,
                calendar_change: None,
                on_failure: self.observed.request.spec.contingency.on_failure,
                deadline: self.observed.request.spec.progress_deadline.signed(),
                superseded_by: None,
            };
            run::refused(&facts, index, error, now)
        };
        match step {
            Step::Record(run, phase, message) => {
                self.record(*run, phase, &message).await?;
                Ok(None)
            }
            Step::Wait { run, phase, message, until, .. } => {
                self.wait(*run, phase, &message, until).await?;
                Ok(Some(Outcome::Wait(until.or_else(|| now.checked_add(SignedDuration::from_secs(5)).ok()))))
            }
            Step::Look(_) | Step::Write(..) | Step::Finish(..) => Ok(None),
        }
    }
}

/// The Rollout of a step as it was told, if it was written before and goes on: then there is nothing to do but to wait for it,
/// and what it comes to is told. That it has succeeded is believed as well, since nothing leads from there as long as the change
/// goes forward, so that it cannot be behind. Whatever follows from another end, follows from a read.
fn told_release<P: Port>(
    context: &Context<P>,
    before: &BeforeState,
    run: &RunRecord,
    position: usize,
) -> Option<Value> {
    let entry = before.entries.get(position).filter(|entry| entry.is_rollout())?;
    let journal = run.objects.get(position).filter(|journal| journal.state == StepState::Written)?;
    if run.direction != RunDirection::Forward {
        return None;
    }
    let key = format!("{}/{}", entry.id.namespace.as_deref().unwrap_or_default(), entry.id.name);
    let told = context.ask(|index| index.rollout(&key))?;
    let told = told.metadata.uid.as_deref().filter(|uid| *uid == journal.uid).and(serde_json::to_value(&*told).ok())?;
    (!matches!(gradual::progress(&told), Health::Failed(_))).then_some(told)
}

const fn verb(write: &Write) -> &'static str {
    match write {
        Write::Create(_) => "create",
        Write::Apply(..) => "apply",
        Write::Patch(_) => "patch",
        Write::Replace(_) => "replace",
        Write::Delete(_) => "delete",
    }
}

/// A step without the objects in it: they may be large, and may hold Secrets.
fn brief(step: &Step) -> String {
    match step {
        Step::Look(index) => format!("look at {index}"),
        Step::Record(_, phase, message) => format!("record {phase:?}: {message}"),
        Step::Write(index, write) => format!("{} {index}", verb(write)),
        Step::Wait { message, .. } => format!("wait: {message}"),
        Step::Finish(_, phase, _) => format!("finish {phase:?}"),
    }
}
