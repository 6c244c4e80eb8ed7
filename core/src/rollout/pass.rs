//! One pass of deciding: what is recorded, what is planned, what is awaited.

use interlock_crds::{
    BatchStrategy, BlueGreenStrategy, CanaryStrategy, Form, JournalEntry, OperationKind, RolloutPhase, RolloutPlanSpec,
    RolloutStatus, RolloutStep, StepRecord, Wave,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    decide::AnalysisRun,
    facts::{RefusedWrite, RolloutFacts},
};
use crate::{change::decide::bounded, object::ObjectId, port::Precondition};

/// A write that may be made now. Writes of one decision may be made in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedWrite {
    /// Which object.
    pub id: ObjectId,
    /// Create, Update (a replace of the whole object) or Delete.
    pub operation: OperationKind,
    /// What it becomes.
    pub form: Form,
    /// The number of the form.
    pub number: Option<i64>,
    /// The hash of the form.
    pub hash: String,
    /// The whole object; none for a deletion.
    pub object: Option<Value>,
    /// What the live object must be; empty for a creation.
    pub precondition: Precondition,
    /// Whether a deletion waits for what depends on the object.
    pub foreground: bool,
}

/// How a plan carries a change out.
#[derive(Clone, Copy, Debug)]
pub enum Strategy<'a> {
    /// A second Deployment and a growing share.
    Canary(&'a CanaryStrategy),
    /// A second Deployment and one switch.
    BlueGreen(&'a BlueGreenStrategy),
    /// In place.
    Batches(&'a BatchStrategy),
    /// Several releases.
    Waves(&'a [Wave]),
}

impl<'a> Strategy<'a> {
    /// The strategy of a plan; none if it states none.
    pub fn of(plan: &'a RolloutPlanSpec) -> Option<Self> {
        let canary = plan.canary.as_ref().map(Self::Canary);
        canary
            .or(plan.blue_green.as_ref().map(Self::BlueGreen))
            .or(plan.batches.as_ref().map(Self::Batches))
            .or(plan.waves.as_deref().map(Self::Waves))
    }

    /// Its steps.
    pub fn steps(self) -> &'a [RolloutStep] {
        match self {
            Self::Canary(canary) => &canary.steps,
            Self::BlueGreen(blue_green) => &blue_green.steps,
            Self::Batches(batches) => &batches.steps,
            Self::Waves(_) => &[],
        }
    }
}

/// Whether what is asked for is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is.
    There,
    /// It is not; `measure` grows with progress.
    Waiting { message: String, measure: i64 },
}

impl Reach {
    pub fn waiting(message: impl Into<String>, measure: impl Into<i64>) -> Self {
        Self::Waiting { message: message.into(), measure: measure.into() }
    }
}

pub(super) struct Pass<'a> {
    pub facts: &'a RolloutFacts<'a>,
    pub status: RolloutStatus,
    pub now: Timestamp,
    pub writes: Vec<PlannedWrite>,
    pub analyses: Vec<AnalysisRun>,
    pub wakes: Vec<Timestamp>,
    pub reasons: Vec<String>,
    pub completed: Vec<u32>,
    /// What it needs to go on and is not there.
    pub lacking: Option<String>,
}

impl<'a> Pass<'a> {
    pub fn new(facts: &'a RolloutFacts<'a>, now: Timestamp) -> Self {
        Self {
            facts,
            status: facts.status.clone(),
            now,
            writes: Vec::new(),
            analyses: Vec::new(),
            wakes: Vec::new(),
            reasons: Vec::new(),
            completed: Vec::new(),
            lacking: None,
        }
    }

    pub fn say(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !message.is_empty() && !self.reasons.contains(&message) {
            self.reasons.push(message);
        }
    }

    /// Notes what it needs and is not there; the same for a person.
    pub fn lacks(&mut self, what: String) -> String {
        self.lacking.get_or_insert_with(|| what.clone());
        what
    }

    pub fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wakes.push(at);
        }
    }

    /// Plans that `live` (or nothing) becomes `object`, unless it is that already.
    pub fn write(&mut self, form: Form, number: Option<i64>, hash: &str, live: Option<&Value>, object: Value) {
        if live == Some(&object) {
            return;
        }
        let Ok(id) = ObjectId::of(&object) else { return };
        self.writes.push(PlannedWrite {
            id,
            operation: if live.is_some() { OperationKind::Update } else { OperationKind::Create },
            form,
            number,
            hash: hash.to_owned(),
            object: Some(object),
            precondition: live.map(Precondition::of).unwrap_or_default(),
            foreground: false,
        });
    }

    /// Plans that `live` is deleted, unless it is being so already.
    pub fn delete(&mut self, form: Form, live: &Value, foreground: bool) {
        let Ok(id) = ObjectId::of(live) else { return };
        if super::live::is_deleting(live) {
            return;
        }
        self.writes.push(PlannedWrite {
            id,
            operation: OperationKind::Delete,
            form,
            number: None,
            hash: String::new(),
            object: None,
            precondition: Precondition::of(live),
            foreground,
        });
    }

    /// The planned write that was refused when it was last tried.
    pub fn refused(&self) -> Option<&'a RefusedWrite> {
        self.facts.refused.filter(|refused| self.writes.iter().any(|write| refused.is_of(write)))
    }

    pub fn has_planned(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Announces what is planned.
    pub fn journal(&mut self) {
        if !self.writes.is_empty() {
            journal(&mut self.status, &mut self.writes, self.now);
        }
    }

    /// The record of the current step, begun now if it has none.
    pub fn step(&mut self) -> &mut StepRecord {
        let now = Time(self.now);
        self.status.step.get_or_insert_with(|| StepRecord {
            started_at: now.clone(),
            progress_at: now,
            progress: 0,
            tries: 0,
            before: None,
        })
    }

    /// Notes how far it got and says whether it has been without progress for too long.
    pub fn is_late(&mut self, measure: i64) -> bool {
        let (now, limit) = (self.now, self.facts.spec.plan.progress_deadline.signed());
        let step = self.step();
        // A step that was complete before is not late for what it lost just now.
        if measure > step.progress || step.progress == COMPLETE {
            step.progress = measure;
            step.progress_at = Time(now);
        }
        let Ok(end) = step.progress_at.0.checked_add(limit) else { return false };
        self.wake(end);
        end <= now
    }

    /// Notes that nothing is awaited from the cluster.
    pub fn complete(&mut self) {
        self.step().progress = COMPLETE;
    }

    /// The current step is complete: the next one begins.
    pub fn complete_step(&mut self) {
        self.completed.push(self.status.current_step);
        self.go_to(self.status.current_step + 1);
    }

    /// Begins the step at `position`.
    pub fn go_to(&mut self, position: u32) {
        self.status.current_step = position;
        self.status.step = None;
        self.step();
    }

    pub fn phase(&mut self, phase: RolloutPhase) {
        self.status.phase = phase;
    }

    pub fn message(&self) -> Option<String> {
        (!self.reasons.is_empty()).then(|| bounded(&self.reasons.join("; "), 2048))
    }
}

/// `progress` of a step that waits for nothing in the cluster.
const COMPLETE: i64 = i64::MAX;
/// Most writes of one decision.
const MAX_WRITES: usize = 32;

/// Announces writes: an entry that stands already keeps its time.
pub(super) fn journal(status: &mut RolloutStatus, writes: &mut Vec<PlannedWrite>, now: Timestamp) {
    // The rest follows in the next decision: the journal is bounded.
    writes.truncate(MAX_WRITES);
    let entries = writes.iter().map(|write| {
        let mut entry = entry(write, now);
        let known = status.journal.iter().find(|known| {
            entry.at = known.at.clone();
            **known == entry
        });
        if known.is_none() {
            entry.at = Time(now);
        }
        entry
    });
    status.journal = entries.collect();
}

fn entry(write: &PlannedWrite, now: Timestamp) -> JournalEntry {
    JournalEntry {
        api_version: write.id.api_version(),
        kind: write.id.kind.clone(),
        namespace: write.id.namespace.clone().unwrap_or_default(),
        name: write.id.name.clone(),
        operation: write.operation,
        form: write.form,
        number: write.number,
        hash: write.hash.clone(),
        uid: write.precondition.uid.clone().unwrap_or_default(),
        resource_version: write.precondition.resource_version.clone().unwrap_or_default(),
        at: Time(now),
    }
}
