//! From what happened to what is told: only what a person learns something from.

use std::collections::{BTreeMap, BTreeSet};

use interlock_core::object::ObjectId;
use interlock_crds::{ChangeRequest, ChangeRequestStatus, GROUP, GateState, RunDirection, StepState, VoteState};
use interlock_sim::api::meta;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    board::{Board, Seen},
    cast::Cast,
    recoveries, releases,
    report::{Entry, EntryKind, Refusal},
    words::{difference, named, refusal},
};
use crate::{
    cluster::{Audit, Told},
    port::CONTROLLER,
    world::{Happening, key_of},
};

/// Tells, and remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    pub board: Board,
    pub refusals: Vec<Refusal>,
    pub cast: Cast,
    executors: BTreeSet<String>,
}

impl Narrator {
    pub fn new(cast: Cast) -> Self {
        Self { cast, ..Self::default() }
    }

    /// Reads what happened, in the order in which it did.
    pub fn tell(&mut self, happening: &Happening) -> Vec<Entry> {
        match happening {
            Happening::Stored(audit) => self.stored(audit),
            Happening::Told(told) => self.told(told),
            Happening::Act { at, what, came } => {
                vec![self.act(*at, what, came.as_ref().err().map(ToString::to_string))]
            }
            Happening::Fault { at, what } => vec![Entry::new(*at, EntryKind::Fault, what.clone())],
        }
    }

    fn act(&mut self, at: Timestamp, what: &str, error: Option<String>) -> Entry {
        let what = self.cast.with_names(what);
        let Some(error) = error else { return Entry::new(at, EntryKind::Done, what) };
        let (by, why) = refusal(&error);
        let why = self.cast.with_names(&why);
        let text = format!("{what}: refused ({by}): {why}");
        self.refusals.push(Refusal { at, what, by, why });
        Entry::new(at, EntryKind::Refused, text)
    }

    fn told(&self, told: &Told) -> Vec<Entry> {
        // Phases and gates are told from the status itself.
        if told.note.reason != "GoingBack" && told.note.reason != "Paused" {
            return Vec::new();
        }
        let text = format!("{}: {}", told.about, self.cast.with_names(&told.note.message));
        vec![Entry::new(told.at, EntryKind::Event, text).about(&told.about)]
    }

    fn stored(&mut self, audit: &Audit) -> Vec<Entry> {
        if audit.id.group == GROUP && audit.id.kind == "System" {
            self.executors.extend(audit.new.as_deref().and_then(executor));
        }
        if audit.id.group == GROUP && audit.id.kind == "ChangeRequest" {
            return self.change(audit);
        }
        if audit.id.group == GROUP && audit.id.kind == "Rollout" {
            let entries = audit.new.as_deref().map(|new| releases::told(audit.at, audit.old.as_deref(), new));
            return entries.unwrap_or_default().into_iter().map(|entry| self.cast.in_entry(entry)).collect();
        }
        if audit.id.group == GROUP
            && let Some(new) = audit.new.as_deref()
        {
            let entries = recoveries::told(&audit.id.kind, audit.at, audit.old.as_deref(), new);
            if !entries.is_empty() {
                return entries;
            }
        }
        if recoveries::is_of_one(audit.new.as_deref().or(audit.old.as_deref())) {
            return Vec::new();
        }
        if audit.user == CONTROLLER && audit.id.kind == "Secret" && audit.old.is_none() {
            let text = format!("the state before the change is stored in {}", named(&audit.id));
            return vec![Entry::new(audit.at, EntryKind::Written, text)];
        }
        if self.executors.contains(&audit.user) && audit.subresource.is_none() {
            return self.written(audit).into_iter().collect();
        }
        Vec::new()
    }

    /// Systems that were there before the start.
    pub fn know_systems<'a>(&mut self, systems: impl IntoIterator<Item = &'a Value>) {
        self.executors.extend(systems.into_iter().filter_map(executor));
    }

    fn written(&self, audit: &Audit) -> Option<Entry> {
        let who = self.cast.called(&audit.user);
        let what = named(&audit.id);
        let text = match (&audit.old, &audit.new) {
            (None, _) => format!("{who} creates {what}"),
            (_, None) => format!("{who} deletes {what}"),
            // What has finalizers, or is deleted after what it owns, goes later by itself.
            (Some(old), Some(new)) if !is_going(old) && is_going(new) => format!("{who} deletes {what}"),
            (Some(old), Some(new)) => {
                let words = difference(&audit.id, old, new);
                if words.is_empty() {
                    return None;
                }
                format!("{who} writes {what}: {}", words.join(", "))
            }
        };
        Some(Entry::new(audit.at, EntryKind::Written, text))
    }

    fn change(&mut self, audit: &Audit) -> Vec<Entry> {
        let Some(new) = audit.new.as_deref() else {
            let key = key(&audit.id);
            self.board.remove(&key);
            return vec![Entry::new(audit.at, EntryKind::Event, format!("{key} is deleted")).about(&key)];
        };
        let Ok(request) = serde_json::from_value::<ChangeRequest>(new.clone()) else { return Vec::new() };
        let Some(status) = request.status else { return Vec::new() };
        let key = key_of(new);
        let seen = self.board.entry(key.clone()).or_default();
        if seen.uid != meta::uid(new) {
            *seen = Seen::of(meta::uid(new));
        }
        let mut entries = votes(seen, &key, audit.at, &status, &self.cast);
        entries.extend(gates(seen, &key, audit.at, &status));
        entries.extend(steps(seen, &key, audit.at, &status));
        entries.extend(phase(seen, &key, audit.at, &status));
        entries.into_iter().map(|entry| self.cast.in_entry(entry)).collect()
    }
}

fn is_going(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

fn executor(system: &Value) -> Option<String> {
    let account = system.pointer("/spec/executor/serviceAccount")?;
    let text = |field: &str| account.get(field).and_then(Value::as_str);
    Some(format!("system:serviceaccount:{}:{}", text("namespace")?, text("name")?))
}

fn key(id: &ObjectId) -> String {
    format!("{}/{}", id.namespace.as_deref().unwrap_or_default(), id.name)
}

fn phase(seen: &mut Seen, key: &str, at: Timestamp, status: &ChangeRequestStatus) -> Option<Entry> {
    seen.message = status.message.clone().unwrap_or_default();
    if seen.phase() == Some(status.phase) {
        return None;
    }
    seen.phases.push((at, status.phase));
    if status.phase.is_terminal() {
        seen.release_all(at);
    }
    let ends = status.phase.is_terminal() || status.phase.is_active();
    let said = status.message.as_deref().filter(|message| ends && !message.is_empty());
    let waits = status.waiting_for.as_deref().filter(|_| !ends);
    let more = said.map(ToOwned::to_owned).or_else(|| waits.map(|gates| format!("waits for {gates}")));
    let text = format!("{key} is {:?}{}", status.phase, more.map_or_else(String::new, |more| format!(": {more}")));
    let mut entry = Entry::new(at, EntryKind::Phase, text).about(key);
    entry.phase = Some(status.phase);
    Some(entry)
}

fn gates(seen: &mut Seen, key: &str, at: Timestamp, status: &ChangeRequestStatus) -> Vec<Entry> {
    let mut entries = Vec::new();
    let holding = |name: &str| {
        status.gates.iter().any(|gate| gate.name != name && gate.enforced && gate.state != GateState::Open)
    };
    let all: Vec<_> = status.gates.iter().map(|gate| (gate.name.clone(), gate.state == GateState::Open)).collect();
    for gate in &status.gates {
        let before = seen.gates.get(&gate.name).cloned();
        seen.remember(gate, at);
        let news = match &before {
            // At first sight only what is missing is worth a line.
            None => gate.state != GateState::Open,
            Some(before) => before.is_news(gate, holding(&gate.name)),
        };
        if !news {
            continue;
        }
        let (kind, word) = match gate.state {
            GateState::Open => (EntryKind::Opened, "opens"),
            GateState::Closed | GateState::Unknown if before.as_ref().is_some_and(|b| b.state == GateState::Open) => {
                (EntryKind::Closed, "closes again")
            }
            GateState::Closed | GateState::Unknown => (EntryKind::Closed, "is closed"),
        };
        let warns = if gate.enforced { "" } else { " (only warns)" };
        let text = format!("{key}: gate {} {word}{warns}: {}", gate.name, gate.message);
        let mut entry = Entry::new(at, kind, text).about(key);
        entry.gate = Some(gate.name.clone());
        entry.gates.clone_from(&all);
        entries.push(entry);
    }
    entries
}

fn votes(seen: &mut Seen, key: &str, at: Timestamp, status: &ChangeRequestStatus, cast: &Cast) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut now = BTreeMap::new();
    for vote in &status.votes {
        let before = seen.votes.get(&vote.approval).copied();
        now.insert(vote.approval.clone(), vote.state);
        let counts = matches!(vote.state, VoteState::Approves | VoteState::Rejects);
        if before == Some(vote.state) || (before.is_none() && counts) {
            continue;
        }
        let state = format!("{:?}", vote.state).to_lowercase();
        let why = if vote.why.is_empty() { String::new() } else { format!(": {}", vote.why) };
        let text = format!("{key}: the vote of {} is {state}{why}", cast.person(&vote.person));
        entries.push(Entry::new(at, EntryKind::Vote, text).about(key));
    }
    if !now.is_empty() {
        seen.votes = now;
    }
    entries
}

/// Objects that failed, or went back.
fn steps(seen: &mut Seen, key: &str, at: Timestamp, status: &ChangeRequestStatus) -> Vec<Entry> {
    let Some(run) = &status.run else { return Vec::new() };
    let mut entries = Vec::new();
    for object in &run.objects {
        let name = format!("{} {}", object.kind, object.name);
        let before = seen.objects.insert(name.clone(), object.state);
        let word = match object.state {
            // Going back says why.
            StepState::Failed if run.direction == RunDirection::Forward => "failed",
            StepState::RevertFailed => "could not be put back",
            StepState::Reverted => "is as before",
            StepState::Done if run.direction == RunDirection::Forward => "is done",
            _ => continue,
        };
        if before == Some(object.state) {
            continue;
        }
        let why = if object.message.is_empty() { String::new() } else { format!(": {}", object.message) };
        let kind = if matches!(object.state, StepState::Done | StepState::Reverted) {
            EntryKind::Written
        } else {
            EntryKind::Event
        };
        entries.push(Entry::new(at, kind, format!("{key}: {name} {word}{why}")).about(key));
    }
    entries
}
