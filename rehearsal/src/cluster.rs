//! The cluster that every task shares: the simulated API server, the calls on their way to it, and who holds the lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use interlock_controller::{clock::Clock, seen::Seen};
use interlock_core::{
    admission::User,
    object::ObjectId,
    port::{Note, PortError},
};
use interlock_sim::api::{Api, Write};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::metrics::Metrics;

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

    /// The kind of the one object that it reads.
    fn gets(&self) -> Option<&str> {
        match self {
            Self::Get(_, id) => Some(&id.kind),
            Self::List(..) | Self::Write(_) => None,
        }
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
    /// When it was sent, by the monotonic clock.
    pub sent: Instant,
    /// Where it stands.
    pub state: CallState,
    /// Whether nobody waits for the answer any more.
    pub is_abandoned: bool,
    /// It lies somewhere on its way until then.
    pub held_until: Option<Instant>,
}

/// What a process believes about itself.
#[derive(Clone, Debug)]
pub struct Belief {
    /// Until when it may write, by the clock of the leases.
    pub leads_until: Option<Instant>,
    /// Somebody asked since it was last made known that it leads, and was told that it does not.
    pub was_turned_away: bool,
    /// The server's time, as it reckons it from the answers it got.
    pub clock: Clock,
    /// How far its reckoning is off beyond that.
    pub skew: SignedDuration,
    /// Which objects wake which of its changes.
    pub interests: BTreeMap<String, BTreeSet<String>>,
    /// What it was told of them.
    pub told: Seen,
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
    /// Names of what was told once.
    pub told_once: BTreeSet<String>,
    /// What analyses measure.
    pub metrics: Metrics,
    /// Calls that controllers made, beside those for the lease: a silent controller makes none.
    pub made: u64,
    /// Reads of one object among them, by its kind.
    pub gets: BTreeMap<String, u64>,
    begun: Instant,
    /// How long the monotonic clock has run.
    ran: Duration,
    /// How long of it nothing happened but renewals of the lease, which are then not played one by one.
    rested: Duration,
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
            told_once: BTreeSet::new(),
            metrics: Metrics::default(),
            made: 0,
            gets: BTreeMap::new(),
            // Only differences are ever looked at.
            begun: Instant::now(),
            ran: Duration::ZERO,
            rested: Duration::ZERO,
            next: 0,
        })))
    }

    /// The cluster; everything runs on one thread, so nobody ever waits.
    pub fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// The monotonic clock, which all processes share: they may only compare what they read of it themselves.
    pub fn instant(&self) -> Instant {
        self.begun + self.ran
    }

    /// The clock of the leases: it stands still while nothing would happen but renewals.
    pub fn lease_instant(&self) -> Instant {
        self.begun + self.ran.saturating_sub(self.rested)
    }

    /// Time passes. When it `rests`, leases are renewed meanwhile, and every process hears the server's time.
    pub fn pass(&mut self, to: Timestamp, rests: bool) {
        let passed = Duration::try_from(self.api.now().duration_until(to)).unwrap_or_default();
        self.api.set_time(to);
        self.ran += passed;
        if rests {
            self.rested += passed;
            let processes: Vec<_> = self.beliefs.keys().copied().collect();
            for process in processes {
                self.heard(process, self.instant());
            }
        }
    }

    /// A process hears the server's time, as the answer to what it sent then.
    pub fn heard(&self, process: ProcessId, sent: Instant) {
        let Some(belief) = self.beliefs.get(&process) else { return };
        let header = self.api.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        belief.clock.observe(&header, sent, self.instant());
    }

    /// A new process.
    pub fn begin(&mut self, process: ProcessId) {
        let clock = Clock::starting_at(self.instant());
        let belief = Belief {
            leads_until: None,
            was_turned_away: false,
            clock,
            skew: SignedDuration::ZERO,
            interests: BTreeMap::new(),
            told: Seen::default(),
        };
        self.beliefs.insert(process, belief);
    }

    /// Sends a call on its way.
    pub fn send(&mut self, caller: Option<ProcessId>, request: Request) -> CallId {
        self.next += 1;
        self.made += u64::from(caller.is_some());
        if let Some(kind) = request.gets().filter(|_| caller.is_some()) {
            *self.gets.entry(kind.to_owned()).or_default() += 1;
        }
        let call = Call {
            caller,
            request,
            sent: self.instant(),
            state: CallState::Sent,
            is_abandoned: false,
            held_until: None,
        };
        self.calls.insert(self.next, call);
        self.next
    }

    /// Whether a call was answered and nobody has looked yet.
    pub fn is_answered(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| matches!(call.state, CallState::Answered(_)))
    }

    /// Whether a process has an answer to look at, beside that of a certain call.
    pub fn has_answers(&self, process: ProcessId, beside: Option<CallId>) -> bool {
        self.calls.iter().any(|(id, call)| {
            call.caller == Some(process) && Some(*id) != beside && matches!(call.state, CallState::Answered(_))
        })
    }

    /// When the oldest call was sent that is not answered and not held.
    pub fn oldest_under_way(&self) -> Option<Instant> {
        let under_way = |call: &&Call| !matches!(call.state, CallState::Answered(_)) && call.held_until.is_none();
        self.calls.values().filter(under_way).map(|call| call.sent).min()
    }

    /// When the next call that is held comes free.
    pub fn next_free(&self) -> Option<Instant> {
        self.calls.values().filter_map(|call| call.held_until).min()
    }

    /// Calls that were held come free.
    pub fn free_calls(&mut self) {
        let now = self.instant();
        self.calls.values_mut().for_each(|call| call.held_until = call.held_until.filter(|until| *until > now));
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
        if let Some((process, sent)) = self.calls.get(&id).and_then(|call| Some((call.caller?, call.sent))) {
            self.heard(process, sent);
        }
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
