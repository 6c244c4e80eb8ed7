//! Writes that may still arrive after the release turned round.
//!
//! A write is announced before it is sent, and carries the uid and resourceVersion of then. If a process dies, or loses
//! its lease, after sending and before seeing the answer, the write may be stored much later. On the new way it must not:
//! an update is made to conflict by touching the object, a creation is waited out.

use interlock_crds::{Form, Hold, JournalEntry, OperationKind, RolloutPhase, WavePhase, WaveRecord};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{derive, live, pass::Pass};
use crate::{change::run::IN_FLIGHT, object::ObjectId, port::Precondition};

impl Pass<'_> {
    /// Turns round: what was announced so far belongs to the earlier way.
    pub fn turn(&mut self) {
        let announced = std::mem::take(&mut self.status.journal);
        let late: Vec<_> = announced.into_iter().filter(|entry| self.may_arrive(entry)).collect();
        self.status.unsettled.extend(late);
        self.status.unsettled.truncate(64);
        self.status.epoch += 1;
        self.end_hold();
    }

    /// Ends a hold. The time in it is counted, and does not count against the deadline of the step.
    pub fn end_hold(&mut self) -> Option<Hold> {
        let hold = self.status.hold.take()?;
        let held = self.count_held(hold.since.0);
        if let Some(step) = &mut self.status.step {
            step.progress_at = Time(step.progress_at.0.checked_add(held).unwrap_or(step.progress_at.0));
        }
        Some(hold)
    }

    /// Leaves the rest to which it came. While it was Failed it was held: it waited for a person.
    pub fn leave_rest(&mut self) {
        let since = self.status.finished_at.take();
        if let Some(since) = since.filter(|_| self.status.phase == RolloutPhase::Failed) {
            self.count_held(since.0);
        }
    }

    fn count_held(&mut self, since: Timestamp) -> SignedDuration {
        let held = self.now.duration_since(since);
        self.status.held_seconds = self.status.held_seconds.saturating_add(held.as_secs());
        held
    }

    /// Goes back, for a reason.
    pub fn turn_back(&mut self, cause: &str) {
        self.turn();
        self.status.cause = Some(crate::change::decide::bounded(cause, 1024));
        self.phase(RolloutPhase::Aborting);
        self.status.step = None;
        self.step();
        self.status.fully = false;
        let begun = |record: &&mut WaveRecord| !matches!(record.phase, WavePhase::Waiting | WavePhase::Returned);
        for record in self.status.waves.iter_mut().filter(begun) {
            record.phase = WavePhase::Returning;
        }
    }

    fn found(&self, entry: &JournalEntry) -> Option<&Value> {
        let (group, version) = entry.api_version.rsplit_once('/').unwrap_or(("", &entry.api_version));
        let id = ObjectId {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: entry.kind.clone(),
            namespace: Some(entry.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: entry.name.clone(),
        };
        self.facts.live.get(&id)
    }

    /// Whether the write was not seen and could still be stored.
    fn may_arrive(&self, entry: &JournalEntry) -> bool {
        let found = self.found(entry);
        if entry.operation == OperationKind::Create {
            let end = entry.at.0.checked_add(IN_FLIGHT).unwrap_or(self.now);
            return found.is_none() && self.now < end;
        }
        found.is_some_and(|found| {
            let found = Precondition::of(found);
            found.uid.as_deref() == Some(&entry.uid)
                && found.resource_version.as_deref() == Some(&entry.resource_version)
        })
    }

    /// Settles what can be settled now. True when an update is still open: nothing else may be written then.
    pub fn settle(&mut self) -> bool {
        let open: Vec<_> = self.status.unsettled.clone().into_iter().filter(|entry| self.may_arrive(entry)).collect();
        for entry in open.iter().filter(|entry| entry.operation != OperationKind::Create) {
            if let Some(found) = self.found(entry).cloned().filter(|found| !live::is_deleting(found)) {
                let object = derive::touched(&found, Some(self.status.epoch));
                self.write(Form::Touched, Some(self.status.epoch), "", Some(&found), object);
            }
        }
        if self.status.unsettled.len() != open.len() {
            self.status.unsettled = open;
        }
        if self.has_planned() {
            self.say("a write that was under way is being made void");
        }
        self.has_planned()
    }

    /// Whether a creation may still arrive; then it has not ended yet.
    pub fn awaits_creation(&mut self) -> bool {
        let ends: Vec<_> = self.status.unsettled.iter().filter_map(|e| e.at.0.checked_add(IN_FLIGHT).ok()).collect();
        for end in &ends {
            self.wake(*end);
        }
        !ends.is_empty()
    }

    /// Ends in this phase.
    pub fn finish(&mut self, phase: RolloutPhase) {
        self.phase(phase);
        self.status.finished_at = Some(Time(self.now));
        self.status.step = None;
        self.end_hold();
        self.status.asked = None;
        self.status.journal.clear();
        self.status.unsettled.clear();
    }
}
