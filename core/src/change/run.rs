//! Carrying a change out, one step at a time.
//!
//! [`next`] is a pure function of the sealed plan, the journal and what was read of the live objects. The body around it
//! does what it says and calls it again. The journal states a step before it is taken, with the uid and resourceVersion
//! that the write will require; so a second controller, or one that lost its lease, fails on a conflict instead of acting
//! twice, and after a crash the live object tells whether the write took place.

mod back;
mod forward;
mod live;

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{ChangePhase, OnFailure, OperationKind, Overrun, RunDirection, RunRecord, StepState, Verb};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    before::{BeforeState, Entry},
    decide::bounded,
    facts::Command,
    gradual,
};
use crate::{
    object::{ObjectId, rank},
    port::{PortError, Precondition},
};

/// A write that was sent may arrive so long after it was given up: the client's time limit, and some.
pub const IN_FLIGHT: SignedDuration = SignedDuration::from_secs(15);
/// Who waits for a repository looks again after so long, should nobody tell.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// A rollback that is refused is tried again after so long.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What [`next`] looks at.
#[derive(Clone, Debug)]
pub struct RunFacts<'a> {
    /// The journal, as recorded or as the earlier steps of this pass left it.
    pub run: &'a RunRecord,
    /// Running or Paused.
    pub phase: ChangePhase,
    /// The sealed plan.
    pub before: &'a BeforeState,
    /// What was read in this pass, by position.
    pub looked: &'a BTreeMap<usize, Option<Value>>,
    /// Steps that were journalled in this pass and whose write was not sent: nothing of them can be on its way.
    pub unsent: &'a BTreeSet<usize>,
    /// Restores that their repository has not let in yet, by position, and why.
    pub kept_out: &'a BTreeMap<usize, String>,
    /// Commands that count, with their times.
    pub commands: &'a [Command],
    /// What the calendar says about a change that still runs.
    pub overrun: Option<Overrun>,
    /// When that may change although nothing but time does.
    pub calendar_change: Option<Timestamp>,
    /// What the request says about failure.
    pub on_failure: OnFailure,
    /// How long an object may take to become healthy.
    pub deadline: SignedDuration,
    /// The newer change that takes the place of this one once its Rollout has gone back, if there is one.
    pub superseded_by: Option<&'a str>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read the object at this position and call again.
    Look(usize),
    /// Record this journal (and phase), then call again.
    Record(Box<RunRecord>, ChangePhase, String),
    /// Make this write, then call again with what it returned as what was read.
    Write(usize, Write),
    /// Record this journal if it differs; nothing more to do until one of the objects changes or the time comes.
    Wait {
        /// The journal.
        run: Box<RunRecord>,
        /// Running or Paused.
        phase: ChangePhase,
        /// What is waited for.
        message: String,
        /// Objects whose change ends the wait.
        objects: Vec<ObjectId>,
        /// When to look again at the latest.
        until: Option<Timestamp>,
    },
    /// Record this journal and end.
    Finish(Box<RunRecord>, ChangePhase, String),
}

/// A write to one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create it.
    Create(Value),
    /// Apply to it.
    Apply(Value, Precondition),
    /// Replace it by its merge with the part that the change states.
    Patch(Value),
    /// Replace it by what it was.
    Replace(Value),
    /// Delete it.
    Delete(Precondition),
}

/// Decides the next step.
pub fn next(facts: &RunFacts<'_>, now: Timestamp) -> Step {
    let mut pass = Pass { facts, run: facts.run.clone(), now };
    match pass.run.direction {
        RunDirection::Forward => pass.forward(),
        RunDirection::Back => pass.back(),
    }
}

/// What follows from a write that the server refused.
pub fn refused(facts: &RunFacts<'_>, index: usize, error: &PortError, now: Timestamp) -> Step {
    let mut pass = Pass { facts, run: facts.run.clone(), now };
    let message = pass.describe(index, &error.to_string());
    match pass.run.direction {
        // What the server refused it did not store: there is nothing to put back, and trying again means writing again.
        RunDirection::Forward => pass.fail(index, StepState::Waiting, &message),
        RunDirection::Back if pass.late() => {
            let job = facts.before.entries.get(index).is_some_and(|e| e.operation == OperationKind::RunJob);
            pass.set(index, if job { StepState::Failed } else { StepState::RevertFailed }, &message);
            pass.record(ChangePhase::Running, message)
        }
        RunDirection::Back => {
            if let Some(entry) = pass.run.objects.get_mut(index) {
                entry.message = bounded(&message, 1024);
            }
            pass.wait(ChangePhase::Running, format!("{message}; tried again"), Vec::new(), Some(RETRY))
        }
    }
}

/// What follows when the sealed plan cannot be had any more: nothing can be written, nor put back.
pub fn without_plan(run: &RunRecord, phase: ChangePhase, commands: &[Command], why: &str) -> Step {
    let given_up = commands
        .iter()
        .filter(|c| matches!(c.verb, Verb::Abort | Verb::Rollback | Verb::Withdraw))
        .max_by_key(|c| (c.created, c.name.as_str()));
    let run = Box::new(run.clone());
    match given_up {
        Some(command) => Step::Finish(
            run,
            ChangePhase::Failed,
            format!("{}; what it wrote stays, because {why}; put these objects right by a new change", by(command)),
        ),
        None => Step::Wait {
            run,
            phase,
            message: format!("it can go neither on nor back: {why}; or give it up with `interlock abort`"),
            objects: Vec::new(),
            until: None,
        },
    }
}

struct Pass<'f, 'a> {
    facts: &'f RunFacts<'a>,
    run: RunRecord,
    now: Timestamp,
}

impl<'a> Pass<'_, 'a> {
    fn turn_back(&mut self, cause: &str) -> Step {
        self.release_unsent();
        self.run.direction = RunDirection::Back;
        self.run.epoch += 1;
        self.run.cause = Some(bounded(cause, 1024));
        self.run.step_started_at = Some(Time(self.now));
        self.record(ChangePhase::Running, format!("going back: {cause}"))
    }

    /// A restore is not begun before its repository has let it in.
    fn kept_out(&mut self, index: usize) -> Option<Step> {
        let why = self.facts.kept_out.get(&index)?;
        let message = self.describe(index, &format!("is not made yet: {why}"));
        Some(self.wait(ChangePhase::Running, message, Vec::new(), Some(LOOK_AGAIN)))
    }

    /// Notes what a write will require of the object.
    fn journal(&mut self, index: usize, state: StepState, live: Option<&Value>) {
        let found = live.map(Precondition::of).unwrap_or_default();
        if let Some(object) = self.run.objects.get_mut(index) {
            object.state = state;
            object.uid = found.uid.unwrap_or_default();
            object.resource_version = found.resource_version.unwrap_or_default();
            object.message.clear();
        }
    }

    /// Steps that were journalled and surely not taken are as if they had not been journalled.
    fn release_unsent(&mut self) {
        for index in self.facts.unsent {
            if self.state(*index) == Some(StepState::Intended) {
                self.journal(*index, StepState::Waiting, None);
            }
        }
    }

    fn wait(
        &mut self,
        phase: ChangePhase,
        message: String,
        objects: Vec<ObjectId>,
        left: Option<SignedDuration>,
    ) -> Step {
        let calendar = self.facts.calendar_change.filter(|_| self.run.direction == RunDirection::Forward);
        let until = [left.and_then(|l| self.now.checked_add(l).ok()), calendar].into_iter().flatten().min();
        Step::Wait { run: Box::new(self.run.clone()), phase, message, objects, until }
    }

    fn record(&self, phase: ChangePhase, message: String) -> Step {
        Step::Record(Box::new(self.run.clone()), phase, message)
    }

    fn time_left(&self) -> SignedDuration {
        let started = self.run.step_started_at.as_ref().map_or(self.now, |t| t.0);
        let end = started.checked_add(self.facts.deadline).unwrap_or(Timestamp::MAX);
        end.duration_since(self.now).max(SignedDuration::from_millis(100))
    }

    fn late(&self) -> bool {
        let started = self.run.step_started_at.as_ref().map_or(self.now, |t| t.0);
        self.now.duration_since(started) >= self.facts.deadline
    }

    fn set(&mut self, index: usize, state: StepState, message: &str) {
        if let Some(object) = self.run.objects.get_mut(index) {
            object.state = state;
            object.message = bounded(message, 1024);
        }
    }

    fn plan_len(&self) -> usize {
        self.facts.before.entries.len().min(self.run.objects.len())
    }

    fn entry(&self, index: usize) -> Option<&'a Entry> {
        self.facts.before.entries.get(index)
    }

    fn id(&self, index: usize) -> Option<ObjectId> {
        self.entry(index).map(|e| e.id.clone())
    }

    fn operation(&self, index: usize) -> Option<OperationKind> {
        self.entry(index).map(|e| e.operation)
    }

    fn state(&self, index: usize) -> Option<StepState> {
        self.run.objects.get(index).map(|o| o.state)
    }

    fn rank(&self, index: usize) -> Option<(bool, crate::object::Rank)> {
        self.entry(index).map(|e| (e.operation == OperationKind::Delete, rank(&gradual::ordered_as(e))))
    }

    /// Whether the Rollout writes it, not the run.
    fn is_gradual(&self, index: usize) -> bool {
        self.entry(index).is_some_and(|entry| entry.gradual)
    }

    fn is_rollout(&self, index: usize) -> bool {
        self.entry(index).is_some_and(Entry::is_rollout)
    }

    /// Notes what the Rollout did to what it carries out.
    fn set_gradual(&mut self, from: StepState, to: StepState) {
        for index in (0..self.plan_len()).filter(|i| self.is_gradual(*i)).collect::<Vec<_>>() {
            if self.state(index) == Some(from) {
                self.set(index, to, "");
            }
        }
    }

    fn describe(&self, index: usize, what: &str) -> String {
        self.id(index).map_or_else(|| what.to_owned(), |id| format!("{id} {what}"))
    }
}

fn by(command: &Command) -> String {
    let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
    format!("{:?} by {}{why}", command.verb, command.actor)
}
