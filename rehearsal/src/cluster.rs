//! The cluster that every task shares: the simulated API server, the calls on their way to it, and who holds the lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interlock_core::{
    admission::User,
    object::ObjectId,
    port::{Note, PortError},
};
use interlock_sim::api::{Api, Write};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// One run of a controller. A process that is started again is another one.
pub type ProcessId = u32;
/// One call.
pub type CallId = u64;

/// What somebody asks of the API server.
#[derive(Clone, Debug)]
pub enum Request {
    /// One object.
    Get(User, ObjectId),
    /// Objects of a kind (group, version, kind), in a namespace or in all.
    List(User, (String, String, String), Option<String>),
    /// A write.
    Write(Box<Write>),
}

impl Request {
    /// Whether it may change something.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Write(_))
    }
}

/// What the API server answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The object, or what was stored.
    Object(Arc<Value>),
    /// A list.
    List(Vec<Arc<Value>>),
}

/// Where a call stands.
#[derive(Clone, Debug)]
pub enum CallState {
    /// On its way to the server.
    Sent,
    /// A webhook is being asked.
    Judged,
    /// Answered; the caller has not looked yet.
    Answered(Result<Answer, PortError>),
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Call {
    /// The process that waits for the answer; none for people.
    pub caller: Option<ProcessId>,
    /// What is asked.
    pub request: Request,
    /// When it was sent.
    pub sent: Timestamp,
    /// Where it stands.
    pub state: CallState,
    /// Whether nobody waits for the answer any more.
    pub is_abandoned: bool,
}

/// What a process believes about itself.
#[derive(Clone, Debug, Default)]
pub struct Belief {
    /// Until when it may write, by its own reckoning.
    pub leads_until: Option<Timestamp>,
    /// How far its reckoning of the server's time is off.
    pub skew: SignedDuration,
    /// Which objects wake which of its changes.
    pub interests: BTreeMap<String, BTreeSet<String>>,
}

/// A write that was stored, as the server's audit log has it.
#[derive(Clone, Debug)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: String,
    /// Which object.
    pub id: ObjectId,
    /// `status`; none for the object itself.
    pub subresource: Option<String>,
    /// What it was; none if it was created.
    pub old: Option<Arc<Value>>,
    /// What it became; none if it was deleted at once.
    pub new: Option<Arc<Value>>,
}

/// What was told to people.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// `namespace/name` of what it is about.
    pub about: String,
    /// What.
    pub note: Note,
}

/// Everything that tasks share.
#[derive(Debug)]
pub struct Cluster {
    /// The API server.
    pub api: Api,
    /// Calls on their way.
    pub calls: BTreeMap<CallId, Call>,
    /// What the processes believe.
    pub beliefs: BTreeMap<ProcessId, Belief>,
    /// Writes that were stored since somebody looked.
    pub audits: Vec<Audit>,
    /// What was told since somebody looked.
    pub told: Vec<Told>,
    /// Calls that were made, by process kind: a silent controller makes none.
    pub made: u64,
    next: CallId,
}

/// The cluster, as tasks hold it.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Cluster>>);

impl Shared {
    /// A cluster with nothing in it.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Cluster {
            api: Api::new(start),
            calls: BTreeMap::new(),
            beliefs: BTreeMap::new(),
            audits: Vec::new(),
            told: Vec::new(),
            made: 0,
            next: 0,
        })))
    }

    /// The cluster; everything runs on one thread, so nobody ever waits.
    pub fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Sends a call on its way.
    pub fn send(&mut self, caller: Option<ProcessId>, request: Request) -> CallId {
        self.next += 1;
        self.made += u64::from(caller.is_some());
        let call = Call { caller, request, sent: self.api.now(), state: CallState::Sent, is_abandoned: false };
        self.calls.insert(self.next, call);
        self.next
    }

    /// Takes the answer of a call, if there is one.
    pub fn take_answer(&mut self, id: CallId) -> Option<Result<Answer, PortError>> {
        if !matches!(self.calls.get(&id)?.state, CallState::Answered(_)) {
            return None;
        }
        match self.calls.remove(&id)?.state {
            CallState::Answered(answer) => Some(answer),
            CallState::Sent | CallState::Judged => None,
        }
    }

    /// Answers a call. Of an abandoned one nothing is kept.
    pub fn answer(&mut self, id: CallId, answer: Result<Answer, PortError>) {
        match self.calls.get_mut(&id) {
            Some(call) if !call.is_abandoned => call.state = CallState::Answered(answer),
            _ => {
                self.calls.remove(&id);
            }
        }
    }

    /// Nobody waits for the answer any more. A write that was sent may still arrive.
    pub fn abandon(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.state {
            CallState::Sent | CallState::Judged if call.request.is_write() => call.is_abandoned = true,
            _ => {
                self.calls.remove(&id);
            }
        }
    }
}
