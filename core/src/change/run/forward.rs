//! Writing what the change states, rank by rank.

use interlock_crds::{ChangePhase, ObjectStatus, OnFailure, OperationKind, Overrun, StepState, Verb};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    Pass, Step, Write, by,
    live::{is_as_created, is_as_updated, is_deleting, is_interlocks, is_order},
};
use crate::{
    change::{decide::bounded, facts::Command, gradual, same_at},
    mutants::{self, Mutant},
    object::{Health, apply_partial, get, health},
    port::Precondition,
    say::first_of,
};

/// What is known of an object that a step was journalled for.
pub(super) enum Seen {
    /// The write has not taken place and still can.
    Unwritten,
    /// It has.
    Written,
    /// The object changed since it was journalled, but not where the change writes.
    Moved,
    /// The write cannot or must not be made.
    Blocked(String),
}

pub(super) enum Progress {
    Step(Step),
    Healthy,
    Unhealthy(String),
}

impl<'a> Pass<'_, 'a> {
    pub(super) fn forward(&mut self) -> Step {
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
        let too_early = mutants::is(Mutant::EndTooEarly) && self.plan_len() > 1;
        for index in 0..self.plan_len() - usize::from(too_early) {
            let Some(state) = self.state(index) else {
                break;
            };
            if matches!(state, StepState::Done)
                || self.operation(index) == Some(OperationKind::RunJob)
                || self.is_gradual(index)
            {
                continue;
            }
            if let Some((first, why)) = unhealthy.first()
                && self.rank(index) != self.rank(*first)
            {
                return self.wait_for(why, &unhealthy);
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
        match unhealthy.first() {
            Some((_, why)) => self.wait_for(why, &unhealthy),
            None => Step::Finish(Box::new(self.run.clone()), ChangePhase::Succeeded, self.carried_out()),
        }
    }

    /// What came of the change, with what the waves of its plan went on without.
    fn carried_out(&self) -> String {
        let missed =
            (0..self.plan_len()).filter(|i| self.is_gradual(*i) && self.state(*i) == Some(StepState::Reverted));
        let missed: Vec<_> = missed.filter_map(|index| self.id(index)).collect();
        if missed.is_empty() {
            return "carried out; every object is healthy".to_owned();
        }
        format!(
            "carried out, but for {}: they went back and are as before, which the plan tolerates; every other object \
             is healthy. Propose a new change for what is missing",
            first_of(&missed)
        )
    }

    pub(super) fn object(&mut self, index: usize, state: StepState, live: Option<&Value>) -> Progress {
        match state {
            StepState::Waiting => Progress::Step(self.intend_together(index)),
            StepState::Intended => match self.seen(index, live) {
                Seen::Written => {
                    self.written(index, live);
                    self.healthy(index, live)
                }
                Seen::Unwritten => {
                    let kept_out = self.kept_out(index);
                    Progress::Step(kept_out.unwrap_or_else(|| self.write(index, live)))
                }
                Seen::Moved => Progress::Step(self.intend(index, live)),
                Seen::Blocked(why) => {
                    let why = self.describe(index, &why);
                    Progress::Step(self.fail(index, StepState::Waiting, &why))
                }
            },
            _ => self.healthy(index, live),
        }
    }

    /// Journals the step, and with it the others of the same rank: one record, not one for each object.
    pub(super) fn intend_together(&mut self, first: usize) -> Step {
        let together: Vec<_> = (first..self.plan_len())
            .filter(|i| self.rank(*i) == self.rank(first) && !self.is_gradual(*i))
            .filter(|i| self.state(*i) == Some(StepState::Waiting) && self.operation(*i) != Some(OperationKind::RunJob))
            .collect();
        if let Some(unread) = together.iter().find(|i| !self.facts.looked.contains_key(i)) {
            return Step::Look(*unread);
        }
        let live = |index: &usize| self.facts.looked.get(index).and_then(Option::as_ref);
        if let Some((blocked, why)) = together.iter().find_map(|i| Some((*i, self.changed_since(*i, live(i))?))) {
            return self.fail(blocked, StepState::Waiting, &why);
        }
        for index in &together {
            self.journal(*index, StepState::Intended, live(index));
        }
        let message = match together.len() {
            0 | 1 => self.describe(first, "is being written"),
            more => self.describe(first, &format!("and {} more objects are being written", more - 1)),
        };
        self.run.step_started_at = Some(Time(self.now));
        self.record(ChangePhase::Running, message)
    }

    /// Journals the step with the object as it is now.
    pub(super) fn intend(&mut self, index: usize, live: Option<&Value>) -> Step {
        if let Some(why) = self.changed_since(index, live) {
            return self.fail(index, StepState::Waiting, &why);
        }
        self.journal(index, StepState::Intended, live);
        self.run.step_started_at = Some(Time(self.now));
        self.record(ChangePhase::Running, self.describe(index, "is being written"))
    }

    /// What somebody else did, since the change started, to values that it will write.
    pub(super) fn changed_since(&self, index: usize, live: Option<&Value>) -> Option<String> {
        let (entry, live) = (self.entry(index)?, live?);
        let kind = entry.id.group_kind();
        let change = entry
            .changes
            .iter()
            .filter(|c| entry.operation == OperationKind::Update && !is_order(&c.path))
            .find(|c| {
                let found = get(live, &c.path);
                !same_at(&kind, &c.path, found, c.before.as_ref()) && !same_at(&kind, &c.path, found, c.after.as_ref())
            })?;
        Some(self.describe(index, &format!("somebody changed {} since the change started", change.path)))
    }

    pub(super) fn seen(&self, index: usize, live: Option<&Value>) -> Seen {
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

    pub(super) fn write(&self, index: usize, live: Option<&Value>) -> Step {
        let blind = mutants::is(Mutant::RetryBlindly);
        let precondition = live.filter(|_| !blind).map(Precondition::of).unwrap_or_default();
        let manifest = || self.entry(index).and_then(|e| e.manifest.clone()).unwrap_or(Value::Null);
        let part = self.entry(index).filter(|entry| entry.patch);
        let write = match (self.operation(index), part) {
            (Some(OperationKind::Update), Some(part)) => {
                let mut whole = apply_partial(&part.id.group_kind(), live, &manifest());
                if let Some(metadata) = whole.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| blind) {
                    metadata.remove("resourceVersion");
                }
                Write::Patch(whole)
            }
            (Some(OperationKind::Update), None) => Write::Apply(manifest(), precondition),
            (Some(OperationKind::Delete), _) => Write::Delete(precondition),
            _ => Write::Create(manifest()),
        };
        Step::Write(index, write)
    }

    pub(super) fn written(&mut self, index: usize, live: Option<&Value>) {
        self.run.step_started_at = Some(Time(self.now));
        self.set(index, StepState::Written, "");
        // Of what was created the uid is known only now; going back deletes that object and no other of its name.
        if let (Some(object), Some(uid)) = (self.run.objects.get_mut(index), live.and_then(|l| Precondition::of(l).uid))
        {
            object.uid = uid;
        }
    }

    pub(super) fn healthy(&mut self, index: usize, live: Option<&Value>) -> Progress {
        let deleting = self.operation(index) == Some(OperationKind::Delete);
        let state = match live {
            None if deleting => Health::Healthy,
            Some(_) if deleting => Health::Progressing("is being deleted".to_owned()),
            None => Health::Failed("was deleted by somebody else".to_owned()),
            Some(live) if self.is_rollout(index) => gradual::progress(live),
            Some(live) => health(live),
        };
        match state {
            Health::Healthy => {
                if self.is_rollout(index) {
                    self.set_gradual(StepState::Waiting, StepState::Done);
                    for missed in live.map(|live| gradual::missed(live, self.facts.before)).unwrap_or_default() {
                        self.set(missed, StepState::Reverted, "went back, and its wave went on without it");
                    }
                }
                self.set(index, StepState::Done, "");
                Progress::Healthy
            }
            Health::Failed(why) => {
                let why = self.describe(index, &why);
                if self.is_rollout(index) && self.cannot_be_tried_again(live) {
                    self.set(index, StepState::Failed, &why);
                    return Progress::Step(self.turn_back(&why));
                }
                Progress::Step(self.fail(index, StepState::Failed, &why))
            }
            // A Rollout has deadlines of its own.
            Health::Progressing(why) if self.late() && !self.is_rollout(index) => {
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
    pub(super) fn fail(&mut self, index: usize, state: StepState, why: &str) -> Step {
        self.release_unsent();
        for kept_out in self.not_let_in() {
            self.release_kept_out(kept_out);
        }
        self.set(index, state, why);
        self.run.cause = Some(bounded(why, 1024));
        match self.facts.on_failure {
            OnFailure::Rollback => self.turn_back(why),
            OnFailure::Pause => {
                self.run.step_started_at = Some(Time(self.now));
                self.record(ChangePhase::Paused, self.asks(why))
            }
        }
    }

    /// A failure and what a person can do about it.
    fn asks(&self, why: &str) -> String {
        if self.failed_release().is_some() {
            return format!(
                "{why}; it waits for `interlock rollout retry` (try again), `interlock rollout promote --full` (again, \
                 without what waits or measures) or `interlock rollback` (go back and end)"
            );
        }
        format!("{why}; it waits for `interlock rollback` (go back) or `interlock resume` (try again)")
    }

    /// The Rollout that went back or failed, and is waited for to be tried again.
    fn failed_release(&self) -> Option<usize> {
        (0..self.plan_len()).find(|index| self.is_rollout(*index) && self.state(*index) == Some(StepState::Failed))
    }

    /// Whether nobody can try a Rollout again: it is gone or going, or a newer change takes the place of what it took back.
    fn cannot_be_tried_again(&self, live: Option<&Value>) -> bool {
        live.is_none_or(is_deleting) || (self.facts.superseded_by.is_some() && live.is_some_and(gradual::has_returned))
    }

    pub(super) fn paused(&mut self) -> Step {
        let since = self.run.step_started_at.as_ref().map_or(self.run.started_at.0, |t| t.0);
        let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
        if let Some(command) = self.latest(&[Verb::Rollback, Verb::Abort, Verb::Withdraw]) {
            return self.turn_back(&by(command));
        }
        if let Some(index) = self.failed_release() {
            return self.paused_for_release(index);
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
        let message = self.asks(&self.run.cause.clone().unwrap_or_default());
        self.wait(ChangePhase::Paused, message, Vec::new(), None)
    }

    /// Its Rollout went back or failed. Whoever tries again, by a command on the Rollout or by resuming the change, is obeyed by
    /// the Rollout; the change follows it.
    fn paused_for_release(&mut self, index: usize) -> Step {
        let Some(live) = self.facts.looked.get(&index) else { return Step::Look(index) };
        if live.as_ref().is_some_and(gradual::runs_again) {
            self.run.cause = None;
            self.set(index, StepState::Written, "");
            self.run.step_started_at = Some(Time(self.now));
            return self.record(ChangePhase::Running, self.describe(index, "is tried again"));
        }
        // It may have gone back since it failed.
        let why = match live.as_ref().map(gradual::progress) {
            None => Some("was deleted by somebody else".to_owned()),
            Some(Health::Failed(why)) => Some(why),
            Some(Health::Progressing(_) | Health::Healthy) => None,
        };
        if let Some(why) = why {
            let why = self.describe(index, &why);
            if self.cannot_be_tried_again(live.as_ref()) {
                return self.turn_back(&why);
            }
            self.run.cause = Some(bounded(&why, 1024));
        }
        let message = self.asks(&self.run.cause.clone().unwrap_or_default());
        self.wait(ChangePhase::Paused, message, Vec::new(), None)
    }

    pub(super) fn abort_cause(&self) -> Option<String> {
        if let Some(command) = self.latest(&[Verb::Abort, Verb::Rollback, Verb::Withdraw]) {
            return Some(by(command));
        }
        (self.facts.overrun == Some(Overrun::Rollback))
            .then(|| "its window closed, and the calendar says to go back (overrun: Rollback)".to_owned())
    }

    /// Whether somebody or the calendar holds it between two steps. A step that was begun is finished first; one that its
    /// repository has not let in was not begun, and asks no longer while it is held.
    pub(super) fn held(&mut self) -> Option<Step> {
        let message = match self.latest(&[Verb::Pause, Verb::Resume]).filter(|c| c.verb == Verb::Pause) {
            Some(command) => format!("{}; it goes on with `interlock resume`", by(command)),
            None if self.facts.overrun == Some(Overrun::Pause) => {
                "its window closed; it goes on when one is open again (overrun: Pause)".to_owned()
            }
            None => return None,
        };
        let not_let_in = self.not_let_in();
        let begun = |(index, o): (usize, &ObjectStatus)| {
            matches!(o.state, StepState::Intended | StepState::Written) && !not_let_in.contains(&index)
        };
        if self.run.objects.iter().enumerate().any(begun) {
            return None;
        }
        if let Some(unread) = not_let_in.iter().find(|index| !self.facts.looked.contains_key(index)) {
            return Some(Step::Look(*unread));
        }
        if !not_let_in.iter().all(|index| self.is_absent(*index)) {
            return None;
        }
        for index in not_let_in {
            self.release_kept_out(index);
        }
        let unfinished =
            self.run.objects.iter().any(|o| o.state == StepState::Waiting && o.operation != OperationKind::RunJob);
        unfinished.then(|| self.wait(ChangePhase::Running, message, Vec::new(), None))
    }

    /// Steps that were journalled and that their repository has not let in.
    fn not_let_in(&self) -> Vec<usize> {
        let kept_out = self.facts.kept_out.keys().copied();
        kept_out.filter(|index| self.state(*index) == Some(StepState::Intended)).collect()
    }

    fn is_absent(&self, index: usize) -> bool {
        self.facts.looked.get(&index).is_some_and(Option::is_none)
    }

    /// A step that its repository has not let in is as if it had not been journalled, if it was seen not to be there.
    fn release_kept_out(&mut self, index: usize) {
        if self.is_absent(index) {
            self.journal(index, StepState::Waiting, None);
        }
    }

    /// The newest command of these verbs. One that was given just before the start, and not seen then, counts too.
    pub(super) fn latest(&self, verbs: &[Verb]) -> Option<&'a Command> {
        self.facts.commands.iter().filter(|c| verbs.contains(&c.verb)).max_by_key(|c| (c.created, c.name.as_str()))
    }

    pub(super) fn wait_for(&mut self, why: &str, unhealthy: &[(usize, String)]) -> Step {
        // Every change of a Rollout's phase wakes its change anyway.
        let timed: Vec<_> = unhealthy.iter().map(|(i, _)| *i).filter(|i| !self.is_rollout(*i)).collect();
        let objects = timed.iter().filter_map(|i| self.id(*i)).collect();
        let left = (!timed.is_empty()).then(|| self.time_left());
        let message = if unhealthy.len() > 1 {
            format!("{why} (and {} more objects)", unhealthy.len() - 1)
        } else {
            why.to_owned()
        };
        self.wait(ChangePhase::Running, message, objects, left)
    }
}
