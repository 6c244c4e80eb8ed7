//! Carrying a change out, one step at a time.
//!
//! [`next`] is a pure function of the sealed plan, the journal and what was read of the live objects. The body around it
//! does what it says and calls it again. The journal states a step before it is taken, with the uid and resourceVersion
//! that the write will require; so a second controller, or one that lost its lease, fails on a conflict instead of acting
//! twice, and after a crash the live object tells whether the write took place.

use std::collections::BTreeMap;

use interlock_crds::{ChangePhase, OnFailure, OperationKind, Overrun, RunDirection, RunRecord, StepState, Verb};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{
    EPOCH_ANNOTATION, FIELD_MANAGER,
    before::{BeforeState, Entry},
    decide::bounded,
    facts::Command,
    same_at,
};
use crate::{
    object::{
        Health, ObjectId, Path, Segment, apply_partial, diff, get, health, rank, restore_paths, strip_server_fields,
    },
    port::{PortError, Precondition},
};

/// A write that was sent may arrive so long after it was given up: the client's time limit, and some.
pub const IN_FLIGHT: SignedDuration = SignedDuration::from_secs(15);
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

struct Pass<'f, 'a> {
    facts: &'f RunFacts<'a>,
    run: RunRecord,
    now: Timestamp,
}

/// What is known of an object that a step was journalled for.
enum Seen {
    /// The write has not taken place and still can.
    Unwritten,
    /// It has.
    Written,
    /// The object changed since it was journalled, but not where the change writes.
    Moved,
    /// The write cannot or must not be made.
    Blocked(String),
}

impl<'a> Pass<'_, 'a> {
    fn forward(&mut self) -> Step {
        if self.facts.phase == ChangePhase::Paused {
            return self.paused();
        }
        if let Some(cause) = self.abort_cause() {
            return self.turn_back(&cause);
        }
        if let Some(step) = self.held() {
            return step;
        }
        let mut unhealthy: Vec<(usize, String)> = Vec::new();
        for index in 0..self.plan_len() {
            let Some(state) = self.state(index) else {
                break;
            };
            if matches!(state, StepState::Done) || self.operation(index) == Some(OperationKind::RunJob) {
                continue;
            }
            if let Some((first, why)) = unhealthy.first()
                && self.rank(index) != self.rank(*first)
            {
                let (first, why) = (*first, why.clone());
                return self.wait_for(first, &why, &unhealthy);
            }
            let Some(live) = self.facts.looked.get(&index) else {
                return Step::Look(index);
            };
            match self.object(index, state, live.as_ref()) {
                Progress::Step(step) => return step,
                Progress::Healthy => {}
                Progress::Unhealthy(why) => unhealthy.push((index, why)),
            }
        }
        match unhealthy.first().cloned() {
            Some((first, why)) => self.wait_for(first, &why, &unhealthy),
            None => Step::Finish(
                Box::new(self.run.clone()),
                ChangePhase::Succeeded,
                "carried out; every object is healthy".to_owned(),
            ),
        }
    }

    fn object(&mut self, index: usize, state: StepState, live: Option<&Value>) -> Progress {
        match state {
            StepState::Waiting => Progress::Step(self.intend(index, live)),
            StepState::Intended => match self.seen(index, live) {
                Seen::Written => {
                    self.written(index, live);
                    self.healthy(index, live)
                }
                Seen::Unwritten => Progress::Step(self.write(index, live)),
                Seen::Moved => Progress::Step(self.intend(index, live)),
                Seen::Blocked(why) => {
                    let why = self.describe(index, &why);
                    Progress::Step(self.fail(index, StepState::Waiting, &why))
                }
            },
            _ => self.healthy(index, live),
        }
    }

    /// Journals the step with the object as it is now.
    fn intend(&mut self, index: usize, live: Option<&Value>) -> Step {
        let precondition = live.map(Precondition::of).unwrap_or_default();
        let entry = self.entry(index);
        if let (Some(entry), Some(live)) = (entry, live)
            && entry.operation == OperationKind::Update
            && let Some(change) = entry.changes.iter().filter(|c| !is_order(&c.path)).find(|c| {
                !same_at(&entry.id.group_kind(), &c.path, get(live, &c.path), c.before.as_ref())
                    && !same_at(&entry.id.group_kind(), &c.path, get(live, &c.path), c.after.as_ref())
            })
        {
            let why = self.describe(index, &format!("somebody changed {} since the change started", change.path));
            return self.fail(index, StepState::Waiting, &why);
        }
        let message = self.describe(index, "is being written");
        if let Some(object) = self.run.objects.get_mut(index) {
            object.state = StepState::Intended;
            object.uid = precondition.uid.unwrap_or_default();
            object.resource_version = precondition.resource_version.unwrap_or_default();
            object.message.clear();
        }
        self.run.step_started_at = Some(Time(self.now));
        self.record(ChangePhase::Running, message)
    }

    fn seen(&self, index: usize, live: Option<&Value>) -> Seen {
        let (Some(entry), Some(journal)) = (self.entry(index), self.run.objects.get(index)) else {
            return Seen::Blocked("is not part of the plan".to_owned());
        };
        let Some(live) = live else {
            return match entry.operation {
                OperationKind::Create | OperationKind::RunJob => Seen::Unwritten,
                OperationKind::Delete => Seen::Written,
                OperationKind::Update => Seen::Blocked("was deleted by somebody else".to_owned()),
            };
        };
        let found = Precondition::of(live);
        let same_uid = found.uid.as_deref() == Some(journal.uid.as_str());
        let unchanged = found.resource_version.as_deref() == Some(journal.resource_version.as_str());
        match entry.operation {
            OperationKind::Create | OperationKind::RunJob if is_as_created(entry, live) || is_interlocks(live) => {
                Seen::Written
            }
            OperationKind::Create | OperationKind::RunJob => {
                Seen::Blocked("was created by somebody else meanwhile".to_owned())
            }
            _ if !same_uid => Seen::Blocked("was deleted and made again by somebody else".to_owned()),
            OperationKind::Delete if is_deleting(live) => Seen::Written,
            OperationKind::Update if is_as_updated(entry, live) => Seen::Written,
            _ if unchanged => Seen::Unwritten,
            _ => Seen::Moved,
        }
    }

    fn write(&self, index: usize, live: Option<&Value>) -> Step {
        let precondition = live.map(Precondition::of).unwrap_or_default();
        let manifest = || self.entry(index).and_then(|e| e.manifest.clone()).unwrap_or(Value::Null);
        let part = self.entry(index).filter(|entry| entry.patch);
        let write = match (self.operation(index), part) {
            (Some(OperationKind::Update), Some(part)) => {
                Write::Patch(apply_partial(&part.id.group_kind(), live, &manifest()))
            }
            (Some(OperationKind::Update), None) => Write::Apply(manifest(), precondition),
            (Some(OperationKind::Delete), _) => Write::Delete(precondition),
            _ => Write::Create(manifest()),
        };
        Step::Write(index, write)
    }

    fn written(&mut self, index: usize, live: Option<&Value>) {
        self.run.step_started_at = Some(Time(self.now));
        self.set(index, StepState::Written, "");
        // Of what was created the uid is known only now; going back deletes that object and no other of its name.
        if let (Some(object), Some(uid)) = (self.run.objects.get_mut(index), live.and_then(|l| Precondition::of(l).uid))
        {
            object.uid = uid;
        }
    }

    fn healthy(&mut self, index: usize, live: Option<&Value>) -> Progress {
        let deleting = self.operation(index) == Some(OperationKind::Delete);
        let state = match live {
            None if deleting => Health::Healthy,
            Some(_) if deleting => Health::Progressing("is being deleted".to_owned()),
            None => Health::Failed("was deleted by somebody else".to_owned()),
            Some(live) => health(live),
        };
        match state {
            Health::Healthy => {
                self.set(index, StepState::Done, "");
                Progress::Healthy
            }
            Health::Failed(why) => {
                let why = self.describe(index, &why);
                Progress::Step(self.fail(index, StepState::Failed, &why))
            }
            Health::Progressing(why) if self.late() => {
                let limit = self.facts.deadline.as_secs();
                let why = self.describe(index, &format!("was not healthy within {limit} s: {why}"));
                Progress::Step(self.fail(index, StepState::Failed, &why))
            }
            Health::Progressing(why) => {
                let why = self.describe(index, &why);
                if let Some(object) = self.run.objects.get_mut(index) {
                    object.message = bounded(&why, 1024);
                }
                Progress::Unhealthy(why)
            }
        }
    }

    /// The step failed. `state` is Waiting if nothing was written to the object, so that nothing must be put back.
    fn fail(&mut self, index: usize, state: StepState, why: &str) -> Step {
        self.set(index, state, why);
        self.run.cause = Some(bounded(why, 1024));
        match self.facts.on_failure {
            OnFailure::Rollback => self.turn_back(why),
            OnFailure::Pause => {
                self.run.step_started_at = Some(Time(self.now));
                self.record(
                    ChangePhase::Paused,
                    format!("{why}; it waits for `interlock rollback` (go back) or `interlock resume` (try again)"),
                )
            }
        }
    }

    fn paused(&mut self) -> Step {
        let since = self.run.step_started_at.as_ref().map_or(self.run.started_at.0, |t| t.0);
        let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
        if let Some(command) = self.latest(&[Verb::Rollback, Verb::Abort, Verb::Withdraw]) {
            return self.turn_back(&by(command));
        }
        if let Some(command) = self.latest(&[Verb::Resume]).filter(|c| c.created >= since) {
            let message = by(command);
            self.run.cause = None;
            for object in &mut self.run.objects {
                if object.state == StepState::Failed {
                    object.state = StepState::Written;
                }
                object.message.clear();
            }
            self.run.step_started_at = Some(Time(self.now));
            return self.record(ChangePhase::Running, message);
        }
        let cause = self.run.cause.clone().unwrap_or_default();
        self.wait(
            ChangePhase::Paused,
            format!("{cause}; it waits for `interlock rollback` (go back) or `interlock resume` (try again)"),
            Vec::new(),
            None,
        )
    }

    fn abort_cause(&self) -> Option<String> {
        if let Some(command) = self.latest(&[Verb::Abort, Verb::Rollback, Verb::Withdraw]) {
            return Some(by(command));
        }
        (self.facts.overrun == Some(Overrun::Rollback))
            .then(|| "its window closed, and the calendar says to go back (overrun: Rollback)".to_owned())
    }

    /// Whether somebody or the calendar holds it between two steps. A step that was begun is finished first.
    fn held(&mut self) -> Option<Step> {
        let between = !self.run.objects.iter().any(|o| matches!(o.state, StepState::Intended | StepState::Written));
        let unfinished =
            self.run.objects.iter().any(|o| o.state == StepState::Waiting && o.operation != OperationKind::RunJob);
        if !between || !unfinished {
            return None;
        }
        if let Some(command) = self.latest(&[Verb::Pause, Verb::Resume]).filter(|c| c.verb == Verb::Pause) {
            let message = format!("{}; it goes on with `interlock resume`", by(command));
            return Some(self.wait(ChangePhase::Running, message, Vec::new(), None));
        }
        (self.facts.overrun == Some(Overrun::Pause)).then(|| {
            let message = "its window closed; it goes on when one is open again (overrun: Pause)".to_owned();
            self.wait(ChangePhase::Running, message, Vec::new(), None)
        })
    }

    /// The newest command of these verbs. One that was given just before the start, and not seen then, counts too.
    fn latest(&self, verbs: &[Verb]) -> Option<&'a Command> {
        self.facts.commands.iter().filter(|c| verbs.contains(&c.verb)).max_by_key(|c| (c.created, c.name.as_str()))
    }

    fn turn_back(&mut self, cause: &str) -> Step {
        self.run.direction = RunDirection::Back;
        self.run.epoch += 1;
        self.run.cause = Some(bounded(cause, 1024));
        self.run.step_started_at = Some(Time(self.now));
        self.record(ChangePhase::Running, format!("going back: {cause}"))
    }

    fn back(&mut self) -> Step {
        for index in (0..self.plan_len()).rev() {
            let Some(state) = self.state(index) else {
                continue;
            };
            if self.operation(index) == Some(OperationKind::RunJob) {
                continue;
            }
            if matches!(state, StepState::Waiting | StepState::Reverted | StepState::RevertFailed) {
                continue;
            }
            let Some(live) = self.facts.looked.get(&index) else {
                return Step::Look(index);
            };
            if let Some(step) = self.revert(index, state, live.as_ref()) {
                return step;
            }
        }
        self.contingency()
    }

    /// Puts one object back. None when it is as before.
    fn revert(&mut self, index: usize, state: StepState, live: Option<&Value>) -> Option<Step> {
        let operation = self.operation(index)?;
        let in_flight = state == StepState::Intended
            && match operation {
                OperationKind::Create => live.is_none(),
                OperationKind::Delete => live.is_some_and(|l| !is_deleting(l)),
                OperationKind::Update | OperationKind::RunJob => false,
            };
        if in_flight {
            // The creation or deletion may still be on its way: wait until it cannot be any more.
            let sent = self.run.step_started_at.as_ref().map_or(self.now, |t| t.0);
            let settled = sent.checked_add(IN_FLIGHT).unwrap_or(self.now);
            if settled > self.now {
                let left = settled.duration_since(self.now);
                let message = self.describe(index, "may still be reached by a write on its way; looking again");
                return Some(self.wait(
                    ChangePhase::Running,
                    message,
                    self.id(index).into_iter().collect(),
                    Some(left),
                ));
            }
            self.set(index, StepState::Reverted, "");
            return None;
        }
        match self.reversal(index, live) {
            Reversal::Done => self.reverted(index, live),
            Reversal::Wait(why) => {
                let message = self.describe(index, &why);
                let objects = self.id(index).into_iter().collect();
                Some(self.wait(ChangePhase::Running, message, objects, Some(SignedDuration::from_secs(60))))
            }
            Reversal::Impossible(why) => {
                let why = self.describe(index, &why);
                self.set(index, StepState::RevertFailed, &why);
                None
            }
            Reversal::Write(write) => {
                let found = live.map(Precondition::of).unwrap_or_default();
                let journal = self.run.objects.get(index)?;
                let journalled = state == StepState::Reverting
                    && journal.uid == found.uid.clone().unwrap_or_default()
                    && journal.resource_version == found.resource_version.clone().unwrap_or_default();
                if journalled {
                    return Some(Step::Write(index, write));
                }
                let message = self.describe(index, "is being put back");
                if let Some(object) = self.run.objects.get_mut(index) {
                    object.state = StepState::Reverting;
                    object.uid = found.uid.unwrap_or_default();
                    object.resource_version = found.resource_version.unwrap_or_default();
                }
                Some(self.record(ChangePhase::Running, message))
            }
        }
    }

    fn reversal(&self, index: usize, live: Option<&Value>) -> Reversal {
        let Some(entry) = self.entry(index) else {
            return Reversal::Impossible("is not part of the plan".to_owned());
        };
        let journal = self.run.objects.get(index);
        match (entry.operation, live) {
            (OperationKind::Create, None) => Reversal::Done,
            (OperationKind::Create, Some(live)) if is_deleting(live) => Reversal::Wait("is being deleted".to_owned()),
            (OperationKind::Create, Some(live)) if !self.made_here(index, entry, live) => Reversal::Done,
            (OperationKind::Create, Some(live)) => Reversal::Write(Write::Delete(Precondition::of(live))),
            (OperationKind::Update, None) => {
                Reversal::Impossible("was deleted by somebody else and cannot be put back".to_owned())
            }
            (OperationKind::Update, Some(live)) => {
                let (restored, _) = restore_paths(&entry.id.group_kind(), live, &entry.changes);
                let differs = !diff(&entry.id.group_kind(), &plain(live), &plain(&restored)).is_empty();
                let epoch = live.pointer("/metadata/annotations").is_some_and(|a| a.get(EPOCH_ANNOTATION).is_some());
                // A write that was journalled and is not to be seen may still arrive: touching the object makes it conflict.
                let late_write = journal.is_some_and(|j| {
                    let unseen =
                        j.state == StepState::Intended || (j.state == StepState::Reverting && !differs && !epoch);
                    unseen && Precondition::of(live).resource_version.as_deref() == Some(j.resource_version.as_str())
                });
                match () {
                    () if late_write => Reversal::Write(Write::Replace(touched(restored, Some(self.run.epoch)))),
                    () if differs || epoch => Reversal::Write(Write::Replace(touched(restored, None))),
                    () => Reversal::Done,
                }
            }
            (OperationKind::Delete, Some(live)) if is_deleting(live) => {
                Reversal::Wait("is still being deleted".to_owned())
            }
            (OperationKind::Delete, Some(_)) => Reversal::Done,
            (OperationKind::Delete, None) => {
                Reversal::Write(Write::Create(entry.before.clone().unwrap_or(Value::Null)))
            }
            (OperationKind::RunJob, _) => Reversal::Done,
        }
    }

    /// Whether this run created the object that has the name now.
    fn made_here(&self, index: usize, entry: &Entry, live: &Value) -> bool {
        match self.run.objects.get(index).map(|journal| journal.uid.as_str()) {
            Some(uid) if !uid.is_empty() => Precondition::of(live).uid.as_deref() == Some(uid),
            _ => is_as_created(entry, live) || is_interlocks(live),
        }
    }

    /// The object is as before; it may still have to become healthy, which is waited for, but not for ever.
    fn reverted(&mut self, index: usize, live: Option<&Value>) -> Option<Step> {
        let state = live.map_or(Health::Healthy, health);
        match state {
            Health::Progressing(why) if !self.late() => {
                let message = self.describe(index, &format!("is put back; {why}"));
                let left = self.time_left();
                Some(self.wait(ChangePhase::Running, message, self.id(index).into_iter().collect(), Some(left)))
            }
            Health::Healthy => {
                self.set(index, StepState::Reverted, "");
                None
            }
            Health::Progressing(why) | Health::Failed(why) => {
                self.set(index, StepState::Reverted, &format!("put back, but not healthy: {why}"));
                None
            }
        }
    }

    fn contingency(&mut self) -> Step {
        let jobs: Vec<_> = (0..self.plan_len()).filter(|i| self.operation(*i) == Some(OperationKind::RunJob)).collect();
        for index in jobs {
            let Some(state) = self.state(index) else {
                continue;
            };
            if matches!(state, StepState::Done | StepState::Failed) {
                continue;
            }
            let Some(live) = self.facts.looked.get(&index) else {
                return Step::Look(index);
            };
            match (state, self.seen(index, live.as_ref())) {
                (StepState::Waiting, Seen::Unwritten) => return self.intend(index, None),
                (_, Seen::Unwritten) => return self.write(index, None),
                (_, Seen::Blocked(why)) => {
                    let why = self.describe(index, &why);
                    self.set(index, StepState::Failed, &why);
                }
                (_, Seen::Written | Seen::Moved) => match live.as_ref().map_or(Health::Healthy, health) {
                    Health::Healthy => self.set(index, StepState::Done, ""),
                    Health::Failed(why) => {
                        let why = self.describe(index, &why);
                        self.set(index, StepState::Failed, &why);
                    }
                    Health::Progressing(why) if self.late() => {
                        let why = self.describe(index, &format!("did not complete in time: {why}"));
                        self.set(index, StepState::Failed, &why);
                    }
                    Health::Progressing(why) => {
                        let message = self.describe(index, &why);
                        let left = self.time_left();
                        return self.wait(
                            ChangePhase::Running,
                            message,
                            self.id(index).into_iter().collect(),
                            Some(left),
                        );
                    }
                },
            }
        }
        self.end()
    }

    fn end(&self) -> Step {
        let broken: Vec<_> = self
            .run
            .objects
            .iter()
            .filter(|o| {
                matches!(o.state, StepState::RevertFailed)
                    || (o.operation == OperationKind::RunJob && o.state == StepState::Failed)
            })
            .map(|o| o.message.as_str())
            .collect();
        let cause = self.run.cause.clone().unwrap_or_default();
        if broken.is_empty() {
            return Step::Finish(
                Box::new(self.run.clone()),
                ChangePhase::RolledBack,
                format!("everything is as before: {cause}"),
            );
        }
        Step::Finish(
            Box::new(self.run.clone()),
            ChangePhase::Failed,
            format!(
                "could not go back completely ({}): {cause}; the before-state is kept, put these objects right by a new change",
                broken.join("; ")
            ),
        )
    }

    fn wait_for(&mut self, first: usize, why: &str, unhealthy: &[(usize, String)]) -> Step {
        let objects = unhealthy.iter().filter_map(|(i, _)| self.id(*i)).collect();
        let left = self.time_left();
        let message = if unhealthy.len() > 1 {
            format!("{why} (and {} more objects)", unhealthy.len() - 1)
        } else {
            why.to_owned()
        };
        let _ = first;
        self.wait(ChangePhase::Running, message, objects, Some(left))
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
        self.entry(index).map(|e| (e.operation == OperationKind::Delete, rank(&e.id.group_kind())))
    }

    fn describe(&self, index: usize, what: &str) -> String {
        self.id(index).map_or_else(|| what.to_owned(), |id| format!("{id} {what}"))
    }
}

enum Progress {
    Step(Step),
    Healthy,
    Unhealthy(String),
}

enum Reversal {
    Done,
    Write(Write),
    Wait(String),
    Impossible(String),
}

fn by(command: &Command) -> String {
    let why = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
    format!("{:?} by {}{why}", command.verb, command.actor)
}

fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    strip_server_fields(&mut object);
    object
}

/// Every value that the manifest states stands in the live object as the dry run showed it.
fn is_as_created(entry: &Entry, live: &Value) -> bool {
    let (Some(manifest), Some(expected)) = (&entry.manifest, &entry.expected) else {
        return false;
    };
    let kind = entry.id.group_kind();
    crate::object::stated_paths(&kind, manifest)
        .iter()
        .all(|(path, _)| same_at(&kind, path, get(live, path), get(expected, path)))
}

/// Interlock created the object, although somebody may have changed it since.
fn is_interlocks(live: &Value) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries
        .is_some_and(|entries| entries.iter().any(|e| e.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)))
}

/// Every path that the change writes has its new value.
fn is_as_updated(entry: &Entry, live: &Value) -> bool {
    let kind = entry.id.group_kind();
    let (orders, values): (Vec<_>, Vec<_>) = entry.changes.iter().partition(|change| is_order(&change.path));
    if !values.iter().all(|change| same_at(&kind, &change.path, get(live, &change.path), change.after.as_ref())) {
        return false;
    }
    if orders.is_empty() {
        return true;
    }
    let left = diff(&kind, &plain(live), entry.expected.as_ref().unwrap_or(&Value::Null));
    orders.iter().all(|order| !left.iter().any(|change| change.path == order.path))
}

/// Whether a path means the order of a list, which has no value of its own in the object.
fn is_order(path: &Path) -> bool {
    matches!(path.last(), Some(Segment::Order))
}

/// The object with Interlock's mark of this epoch, or without any.
fn touched(mut object: Value, epoch: Option<i64>) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    match epoch {
        Some(epoch) => {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            if let Some(map) = annotations.as_object_mut() {
                map.insert(EPOCH_ANNOTATION.to_owned(), Value::String(epoch.to_string()));
            }
        }
        None => {
            if let Some(map) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                map.remove(EPOCH_ANNOTATION);
                if map.is_empty() {
                    metadata.remove("annotations");
                }
            }
        }
    }
    object
}
