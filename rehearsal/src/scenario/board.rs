//! What is remembered of each change while it is played: phases, gates, votes.

use std::collections::BTreeMap;

use interlock_crds::{ChangePhase, GateState, GateStatus, StepState, VoteState};
use jiff::Timestamp;
use serde::Serialize;

/// How long a gate held a change back for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Name of the gate.
    pub gate: String,
    /// Its reason.
    pub reason: String,
    /// How long, all spans together.
    pub seconds: i64,
    /// In how many spans.
    pub spans: u32,
}

/// A gate as last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GateSeen {
    pub state: GateState,
    pub reason: String,
    pub message: String,
}

impl GateSeen {
    /// Whether a person learns something from the gate as it is now. Messages of gates that wait for time differ by the
    /// day only; those that count votes and other changes say how far they are. While something else is missing, each
    /// night's window is no news either.
    pub fn is_news(&self, now: &GateStatus, waits_for_more: bool) -> bool {
        if now.name == "Window" && waits_for_more && now.reason != "Frozen" {
            return false;
        }
        let counts = matches!(now.name.as_str(), "Approval" | "Evidence" | "Dependency");
        self.state != now.state || self.reason != now.reason || (counts && self.message != now.message)
    }
}

/// A gate that holds a change back, since when.
#[derive(Clone, Debug)]
struct Since {
    reason: String,
    at: Timestamp,
}

/// What is remembered of a change.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub uid: String,
    pub phases: Vec<(Timestamp, ChangePhase)>,
    pub gates: BTreeMap<String, GateSeen>,
    pub votes: BTreeMap<String, VoteState>,
    pub objects: BTreeMap<String, StepState>,
    pub message: String,
    since: BTreeMap<String, Since>,
    held: Vec<Held>,
}

impl Seen {
    /// Nothing is known of the change of this uid.
    pub fn of(uid: &str) -> Self {
        Self { uid: uid.to_owned(), ..Self::default() }
    }

    pub fn phase(&self) -> Option<ChangePhase> {
        self.phases.last().map(|(_, phase)| *phase)
    }

    /// Remembers a gate, and how long it held the change back.
    pub fn remember(&mut self, gate: &GateStatus, at: Timestamp) {
        let holds = gate.enforced && gate.state != GateState::Open;
        let goes_on = self.since.get(&gate.name).is_some_and(|since| holds && since.reason == gate.reason);
        if !goes_on {
            self.release(&gate.name, at);
            if holds {
                self.since.insert(gate.name.clone(), Since { reason: gate.reason.clone(), at });
            }
        }
        let seen = GateSeen { state: gate.state, reason: gate.reason.clone(), message: gate.message.clone() };
        self.gates.insert(gate.name.clone(), seen);
    }

    /// The gate holds it back no longer.
    fn release(&mut self, gate: &str, at: Timestamp) {
        let Some(since) = self.since.remove(gate) else { return };
        let seconds = at.duration_since(since.at).as_secs();
        match self.held.iter_mut().find(|held| held.gate == gate && held.reason == since.reason) {
            Some(held) => {
                held.seconds += seconds;
                held.spans += 1;
            }
            None => self.held.push(Held { gate: gate.to_owned(), reason: since.reason, seconds, spans: 1 }),
        }
    }

    /// Whatever still holds the change back does so no longer: it has ended.
    pub fn release_all(&mut self, at: Timestamp) {
        let gates: Vec<_> = self.since.keys().cloned().collect();
        for gate in gates {
            self.release(&gate, at);
        }
    }

    /// What held the change back until now, the longest first; moments are left out.
    pub fn held_until(&self, now: Timestamp) -> Vec<Held> {
        let mut whole = self.clone();
        whole.release_all(now);
        whole.held.retain(|held| held.seconds > 0);
        whole.held.sort_by(|a, b| b.seconds.cmp(&a.seconds).then_with(|| a.gate.cmp(&b.gate)));
        whole.held
    }
}

/// Every change by `namespace/name`.
pub(super) type Board = BTreeMap<String, Seen>;
