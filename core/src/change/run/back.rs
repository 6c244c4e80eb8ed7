//! Putting back what was written, in the opposite order; then the contingency Jobs.

use interlock_crds::{ChangePhase, OperationKind, StepState};
use jiff::SignedDuration;
use serde_json::Value;

use super::{
    IN_FLIGHT, Pass, Step, Write,
    forward::Seen,
    live::{is_as_created, is_deleting, is_interlocks, plain, touched},
};
use crate::{
    change::{EPOCH_ANNOTATION, before::Entry, gradual},
    mutants::{self, Mutant},
    object::{Health, diff, health, restore_paths},
    port::Precondition,
};

/// How far one object is on its way back.
pub(super) enum Back {
    Done,
    Step(Step),
    Wait(String, SignedDuration),
}

pub(super) enum Reversal {
    Done,
    Write(Write),
    Wait(String),
    Impossible(String),
}

impl Pass<'_, '_> {
    pub(super) fn back(&mut self) -> Step {
        let mut pending: Vec<(usize, String, SignedDuration)> = Vec::new();
        for index in (0..self.plan_len()).rev() {
            if !self.goes_back(index) {
                continue;
            }
            if pending.first().is_some_and(|(first, ..)| self.rank(index) != self.rank(*first)) {
                break;
            }
            let Some(live) = self.facts.looked.get(&index) else {
                return Step::Look(index);
            };
            match self.revert(index, live.as_ref()) {
                Back::Done => {}
                Back::Step(step) => return step,
                Back::Wait(why, left) => pending.push((index, self.describe(index, &why), left)),
            }
        }
        let Some((_, why, _)) = pending.first() else {
            return self.contingency();
        };
        let message = match pending.len() {
            1 => why.clone(),
            more => format!("{why} (and {} more objects)", more - 1),
        };
        let objects = pending.iter().filter(|(i, ..)| !self.is_rollout(*i)).filter_map(|(i, ..)| self.id(*i)).collect();
        let left = pending.iter().map(|(.., left)| *left).min();
        self.wait(ChangePhase::Running, message, objects, left)
    }

    /// Whether the object was, or may have been, written and is not put back yet.
    pub(super) fn goes_back(&self, index: usize) -> bool {
        let forgotten = mutants::is(Mutant::ForgetOneOnTheWayBack) && index == 0;
        !forgotten
            && !self.is_gradual(index)
            && self.operation(index).is_some_and(|operation| operation != OperationKind::RunJob)
            && !matches!(
                self.state(index),
                None | Some(StepState::Waiting | StepState::Reverted | StepState::RevertFailed)
            )
    }

    /// Puts one object back.
    pub(super) fn revert(&mut self, index: usize, live: Option<&Value>) -> Back {
        if let Some(left) = self.in_flight(index, live) {
            if left.is_positive() {
                return Back::Wait("may still be reached by a write on its way; looking again".to_owned(), left);
            }
            self.set(index, StepState::Reverted, "");
            return Back::Done;
        }
        if self.is_rollout(index) {
            return self.return_rollout(index, live);
        }
        match self.reversal(index, live) {
            Reversal::Done => self.reverted(index, live),
            Reversal::Wait(why) => Back::Wait(why, SignedDuration::from_secs(60)),
            Reversal::Impossible(why) => {
                let why = self.describe(index, &why);
                self.set(index, StepState::RevertFailed, &why);
                Back::Done
            }
            Reversal::Write(write) if self.is_journalled_back(index, live) => Back::Step(Step::Write(index, write)),
            Reversal::Write(_) => Back::Step(self.journal_back(index)),
        }
    }

    /// The Rollout puts back what it wrote; nothing that was written before it is touched until then. It is kept: it tells
    /// what happened.
    fn return_rollout(&mut self, index: usize, live: Option<&Value>) -> Back {
        match live {
            // Its finalizer let it go: everything of it is as before.
            None => {}
            Some(live) if gradual::has_returned(live) => {}
            Some(_) => return Back::Wait("goes back".to_owned(), SignedDuration::from_secs(60)),
        }
        self.set(index, StepState::Reverted, "");
        self.set_gradual(StepState::Done, StepState::Reverted);
        Back::Done
    }

    /// How long a creation or deletion that was journalled and is not to be seen may still be on its way.
    pub(super) fn in_flight(&self, index: usize, live: Option<&Value>) -> Option<SignedDuration> {
        let unseen = match self.operation(index)? {
            OperationKind::Create => live.is_none(),
            OperationKind::Delete => live.is_some_and(|l| !is_deleting(l)),
            OperationKind::Update | OperationKind::RunJob => false,
        };
        (self.state(index)? == StepState::Intended && unseen).then(|| {
            let sent = self.run.step_started_at.as_ref().map_or(self.now, |t| t.0);
            sent.checked_add(IN_FLIGHT).unwrap_or(self.now).duration_since(self.now)
        })
    }

    pub(super) fn is_journalled_back(&self, index: usize, live: Option<&Value>) -> bool {
        let found = live.map(Precondition::of).unwrap_or_default();
        self.run.objects.get(index).is_some_and(|journal| {
            journal.state == StepState::Reverting
                && journal.uid == found.uid.unwrap_or_default()
                && journal.resource_version == found.resource_version.unwrap_or_default()
        })
    }

    /// Journals that the object is being put back, and with it the others of the same rank that will be written.
    pub(super) fn journal_back(&mut self, first: usize) -> Step {
        let together: Vec<_> = (0..=first)
            .rev()
            .filter(|i| {
                self.rank(*i) == self.rank(first)
                    && self.goes_back(*i)
                    && !self.is_rollout(*i)
                    && self.state(*i) != Some(StepState::Reverting)
            })
            .chain([first])
            .collect();
        if let Some(unread) = together.iter().find(|i| !self.facts.looked.contains_key(i)) {
            return Step::Look(*unread);
        }
        let mut count = 0;
        for index in together {
            let live = self.facts.looked.get(&index).and_then(Option::as_ref);
            let writes =
                self.in_flight(index, live).is_none() && matches!(self.reversal(index, live), Reversal::Write(_));
            if writes && !self.is_journalled_back(index, live) {
                self.journal(index, StepState::Reverting, live);
                count += 1;
            }
        }
        let message = match count {
            0 | 1 => self.describe(first, "is being put back"),
            more => self.describe(first, &format!("and {} more objects are being put back", more - 1)),
        };
        self.record(ChangePhase::Running, message)
    }

    pub(super) fn reversal(&self, index: usize, live: Option<&Value>) -> Reversal {
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
    pub(super) fn made_here(&self, index: usize, entry: &Entry, live: &Value) -> bool {
        match self.run.objects.get(index).map(|journal| journal.uid.as_str()) {
            Some(uid) if !uid.is_empty() => Precondition::of(live).uid.as_deref() == Some(uid),
            _ => is_as_created(entry, live) || is_interlocks(live),
        }
    }

    /// The object is as before; it may still have to become healthy, which is waited for, but not for ever.
    pub(super) fn reverted(&mut self, index: usize, live: Option<&Value>) -> Back {
        match live.map_or(Health::Healthy, health) {
            Health::Progressing(why) if !self.late() => Back::Wait(format!("is put back; {why}"), self.time_left()),
            Health::Healthy => {
                self.set(index, StepState::Reverted, "");
                Back::Done
            }
            Health::Progressing(why) | Health::Failed(why) => {
                self.set(index, StepState::Reverted, &format!("put back, but not healthy: {why}"));
                Back::Done
            }
        }
    }

    pub(super) fn contingency(&mut self) -> Step {
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

    pub(super) fn end(&self) -> Step {
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
}
