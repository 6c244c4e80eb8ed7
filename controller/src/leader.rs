//! Who may write: a Lease held by one controller at a time, and the epoch that fences the others.
//!
//! [`LeaseMachine`] decides and is pure: instants and answers go in, requests come out. [`campaign`] carries them out.
//! As in client-go, a foreign lease counts as expired when *this* process has not seen it change for its duration, so
//! that clocks of different machines are never compared. The holder counts from *before* it sent a renewal and gives
//! up [`LeaseMachine::margin`] early; so two leaders at once would need clocks that differ in speed by more than that.
//!
//! Holding the lease is no fence by itself, because a process can stall between its check and its write. Each term has
//! its own epoch ([`LeaderHandle::epoch`], the lease's `leaseTransitions`), which writes record.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::{Notify, watch};

use crate::clock::Clock;

/// The namespace of the lease unless an option says otherwise.
pub const NAMESPACE: &str = "interlock-system";
/// The name of the lease.
pub const NAME: &str = "interlock-controller";

/// What a candidate is told.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Unique for each process: see [`unique_identity`].
    pub identity: String,
    /// How long a lease holds without a renewal. 30 s by default; tests use 3 s.
    pub duration: Duration,
}

impl LeaseOptions {
    /// The default duration.
    pub fn new(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), duration: Duration::from_secs(30) }
    }
}

/// `base` and eight random hexadecimal digits: a restarted process must not take its predecessor's lease for its own.
pub fn unique_identity(base: &str) -> String {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0u8; 4];
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        // Without randomness the process id still differs between two processes of one machine.
        bytes = std::process::id().to_be_bytes();
    }
    format!("{base}-{:08x}", u32::from_be_bytes(bytes))
}

/// The part of a Lease that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; none when it was released.
    pub holder: Option<String>,
    /// How often it changed hands.
    pub transitions: u64,
    /// For how long the holder claims it after each renewal.
    pub duration: Duration,
    /// When this term began; informative.
    pub acquired: Timestamp,
    /// Changes with each renewal; only compared for equality.
    pub renewed: Timestamp,
    /// Precondition of the next write; empty for a lease that is to be created.
    pub resource_version: String,
}

impl LeaseRecord {
    /// What a Lease says.
    pub fn of(lease: Lease) -> Self {
        let spec = lease.spec.unwrap_or_default();
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            transitions: u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0),
            duration: Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(1)).unwrap_or(1)),
            acquired: spec.acquire_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            renewed: spec.renew_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            resource_version: lease.metadata.resource_version.unwrap_or_default(),
        }
    }

    /// The Lease of this name that says it.
    pub fn lease(&self, name: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: Some(self.resource_version.clone()).filter(|version| !version.is_empty()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone().unwrap_or_default()),
                lease_transitions: Some(i32::try_from(self.transitions).unwrap_or(i32::MAX)),
                lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX).max(1)),
                acquire_time: Some(MicroTime(self.acquired)),
                renew_time: Some(MicroTime(self.renewed)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Why a request to the lease store brought no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else wrote meanwhile.
    #[error("somebody else wrote the lease meanwhile")]
    Conflict,
    /// No answer in time, or a refusal. The write may have taken effect.
    #[error("{0}")]
    Unavailable(String),
}

/// Where the lease lies.
pub trait LeaseStore: Send + Sync + 'static {
    /// The lease as the server has it, not from a cache.
    fn read(&self) -> impl Future<Output = Result<Option<LeaseRecord>, LeaseError>> + Send;
    /// Creates the lease; a conflict if it exists.
    fn create(&self, record: &LeaseRecord) -> impl Future<Output = Result<LeaseRecord, LeaseError>> + Send;
    /// Replaces the lease if its `resource_version` is still the given one.
    fn replace(&self, record: &LeaseRecord) -> impl Future<Output = Result<LeaseRecord, LeaseError>> + Send;
}

/// What a candidate does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Nothing before this instant.
    Wait(Instant),
    /// Read the lease.
    Read,
    /// Create the lease.
    Create(LeaseRecord),
    /// Replace the lease.
    Replace(LeaseRecord),
}

#[derive(Clone, Debug)]
struct Seen {
    record: LeaseRecord,
    /// When this process first saw the record in this form, on its own clock.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    epoch: u64,
    until: Instant,
}

/// The decisions of one candidate, without clock or network.
#[derive(Debug)]
pub struct LeaseMachine {
    identity: String,
    duration: Duration,
    seen: Option<Seen>,
    /// Whether what was seen may be out of date, so that a read must come first.
    read_first: bool,
    term: Option<Term>,
    next: Option<Instant>,
    /// The epoch must be above this one: a write of it was seen.
    floor: u64,
}

impl LeaseMachine {
    /// A candidate that knows nothing.
    pub fn new(options: &LeaseOptions) -> Self {
        Self {
            identity: options.identity.clone(),
            // The lease states whole seconds, and the others wait for what it states.
            duration: Duration::from_secs(options.duration.as_secs().max(1)),
            seen: None,
            read_first: true,
            term: None,
            next: None,
            floor: 0,
        }
    }

    /// How often a holder renews and a candidate looks.
    pub fn period(&self) -> Duration {
        self.duration / 3
    }

    /// How soon a failed request is repeated.
    pub fn retry(&self) -> Duration {
        self.duration / 15
    }

    /// How long a request may take.
    pub fn request_timeout(&self) -> Duration {
        self.duration / 6
    }

    /// How much earlier than the others could take over the holder stops.
    pub fn margin(&self) -> Duration {
        self.duration / 6
    }

    /// For how long a renewal keeps the leadership.
    fn claim(&self) -> Duration {
        self.duration.saturating_sub(self.margin())
    }

    /// The epoch of the present term and the instant at which it ends unless renewed; none when not leading.
    pub fn leading(&self, now: Instant) -> Option<(u64, Instant)> {
        self.term.filter(|term| now < term.until && term.epoch > self.floor).map(|term| (term.epoch, term.until))
    }

    /// The holder as last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().and_then(|seen| seen.record.holder.as_deref())
    }

    /// A write of this epoch was seen. Were it not below the own one (somebody deleted the lease, so that counting
    /// began anew), the own term does not count until it has a higher epoch.
    pub fn raise_above(&mut self, epoch: u64, now: Instant) {
        if epoch <= self.floor {
            return;
        }
        self.floor = epoch;
        if self.term.is_some_and(|term| term.epoch <= epoch) {
            self.next = Some(now);
        }
    }

    /// What to do at `now`. `wall` is written into the lease for people; nothing is decided by it.
    pub fn step(&mut self, now: Instant, wall: Option<Timestamp>) -> LeaseStep {
        if let Some(next) = self.next.filter(|next| now < *next) {
            return LeaseStep::Wait(next);
        }
        if self.read_first {
            return LeaseStep::Read;
        }
        let Some(seen) = &self.seen else {
            let began = wall.unwrap_or(Timestamp::UNIX_EPOCH);
            return LeaseStep::Create(LeaseRecord {
                holder: Some(self.identity.clone()),
                transitions: self.floor + 1,
                duration: self.duration,
                acquired: began,
                renewed: began,
                resource_version: String::new(),
            });
        };
        let mut record = seen.record.clone();
        // A renewal must change the object even when the clock is unknown or stands still: an unchanged PUT is no
        // write, and the others would see an expired lease.
        let stepped = record.renewed.checked_add(Duration::from_millis(1)).unwrap_or(record.renewed);
        record.renewed = wall.map_or(stepped, |wall| wall.max(stepped));
        record.duration = self.duration;
        if record.holder.as_deref() == Some(self.identity.as_str()) && self.leading(now).is_some() {
            return LeaseStep::Replace(record);
        }
        let expires = seen.since + record_duration(&seen.record);
        let free = record.holder.as_deref().is_none_or(|holder| holder.is_empty() || holder == self.identity);
        if !free && now < expires {
            let wake = expires.min(now + self.period());
            self.next = Some(wake);
            self.read_first = true;
            return LeaseStep::Wait(wake);
        }
        // Each term has its own epoch, also a second one of the same process.
        record.transitions = record.transitions.max(self.floor).saturating_add(1);
        record.holder = Some(self.identity.clone());
        record.acquired = record.renewed;
        LeaseStep::Replace(record)
    }

    /// The answer to [`LeaseStep::Read`].
    pub fn read(&mut self, now: Instant, answer: Result<Option<LeaseRecord>, LeaseError>) {
        match answer {
            Ok(record) => {
                self.read_first = false;
                self.next = None;
                self.see(record, now);
            }
            Err(_) => self.next = Some(now + self.retry()),
        }
    }

    /// The answer to [`LeaseStep::Create`] or [`LeaseStep::Replace`], which was sent at `sent`.
    pub fn written(&mut self, sent: Instant, now: Instant, answer: Result<LeaseRecord, LeaseError>) {
        match answer {
            Ok(record) => {
                // Counted from before the request was sent: the others count from when they saw its result.
                self.term = Some(Term { epoch: record.transitions, until: sent + self.claim() });
                self.next = Some(sent + self.period());
                self.see(Some(record), now);
            }
            Err(LeaseError::Conflict) => {
                self.read_first = true;
                self.next = Some(now);
            }
            Err(LeaseError::Unavailable(_)) => {
                self.read_first = true;
                self.next = Some(now + self.retry());
            }
        }
    }

    /// The lease given back, if it is held: the others need not wait for its end.
    pub fn release(&mut self, now: Instant) -> Option<LeaseRecord> {
        let held = self.leading(now).is_some();
        self.term = None;
        let seen = self.seen.as_ref().filter(|_| held)?;
        let mut record = seen.record.clone();
        record.holder = None;
        record.renewed = record.renewed.checked_add(Duration::from_millis(1)).unwrap_or(record.renewed);
        Some(record)
    }

    fn see(&mut self, record: Option<LeaseRecord>, now: Instant) {
        let Some(record) = record else {
            self.seen = None;
            self.term = None;
            return;
        };
        if record.holder.as_deref() != Some(self.identity.as_str()) {
            self.term = None;
        }
        let unchanged = self.seen.as_ref().filter(|seen| {
            seen.record.holder == record.holder
                && seen.record.transitions == record.transitions
                && seen.record.renewed == record.renewed
        });
        let since = unchanged.map_or(now, |seen| seen.since);
        self.seen = Some(Seen { record, since });
    }
}

/// What the holder claims, within reason: a lease that somebody edited must not lock everybody out for ever.
fn record_duration(record: &LeaseRecord) -> Duration {
    record.duration.clamp(Duration::from_secs(1), Duration::from_hours(1))
}

/// What this process is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderState {
    /// Somebody else leads, or nobody.
    Standby {
        /// Who holds the lease, as last seen.
        holder: Option<String>,
    },
    /// This process leads.
    Leading {
        /// The fencing number of this term.
        epoch: u64,
    },
    /// The campaign has ended and does not begin again.
    Released,
}

#[derive(Debug)]
struct Shared {
    /// Epoch and end of the present term on the monotonic clock.
    term: Mutex<Option<(u64, Instant)>>,
    floor: AtomicU64,
    /// Somebody asked since the last term was published, and was told that nobody leads here.
    missed: AtomicBool,
    state: watch::Sender<LeaderState>,
    releasing: watch::Sender<bool>,
    wake: Notify,
}

/// Tells whether this process leads. Clones share it.
#[derive(Clone, Debug)]
pub struct LeaderHandle {
    shared: Arc<Shared>,
}

impl LeaderHandle {
    fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                term: Mutex::new(None),
                floor: AtomicU64::new(0),
                missed: AtomicBool::new(false),
                state: watch::Sender::new(LeaderState::Standby { holder: None }),
                releasing: watch::Sender::new(false),
                wake: Notify::new(),
            }),
        }
    }

    /// A handle of a process that always leads, for tests and for tools that work without a lease.
    pub fn always(epoch: u64) -> Self {
        let handle = Self::new();
        // A century on the monotonic clock.
        *handle.term() = Instant::now().checked_add(Duration::from_hours(876_600)).map(|until| (epoch, until));
        handle.shared.state.send_replace(LeaderState::Leading { epoch });
        handle
    }

    /// Whether the lease is held now, by the monotonic clock. To be asked before each write.
    pub fn is_leader_now(&self) -> bool {
        let leads = self.epoch().is_some();
        if !leads {
            self.shared.missed.store(true, Ordering::Release);
        }
        leads
    }

    /// The fencing number of the present term; none when not leading.
    pub fn epoch(&self) -> Option<u64> {
        let (epoch, until) = (*self.term())?;
        (Instant::now() < until && epoch > self.shared.floor.load(Ordering::Acquire)).then_some(epoch)
    }

    /// The state and its changes. It can lag: [`Self::is_leader_now`] is exact.
    pub fn state(&self) -> watch::Receiver<LeaderState> {
        self.shared.state.subscribe()
    }

    /// A write of this epoch was seen in the cluster. If it is not below the own one, this process stops leading until
    /// it holds a higher one.
    pub fn raise_above(&self, epoch: u64) {
        if self.shared.floor.fetch_max(epoch, Ordering::AcqRel) < epoch {
            self.shared.wake.notify_one();
        }
    }

    /// Ends the campaign and gives the lease back, so that another takes over at once. To be called when no write is
    /// under way any more. Returns when the lease is released or that failed.
    pub async fn release(&self) {
        self.shared.releasing.send_replace(true);
        let mut state = self.state();
        // An error means that the campaign is gone, which is as good.
        let _ = state.wait_for(|state| *state == LeaderState::Released).await;
    }

    fn term(&self) -> MutexGuard<'_, Option<(u64, Instant)>> {
        self.shared.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, machine: &LeaseMachine) {
        let leading = machine.leading(Instant::now());
        *self.term() = leading;
        let state = match leading {
            Some((epoch, _)) => LeaderState::Leading { epoch },
            None => LeaderState::Standby { holder: machine.holder().map(ToOwned::to_owned) },
        };
        // A renewal that came late: what was not done meanwhile would not be done again if nobody were told.
        let missed = leading.is_some() && self.shared.missed.swap(false, Ordering::AcqRel);
        self.shared.state.send_if_modified(|current| {
            if *current == state {
                return missed;
            }
            match &state {
                LeaderState::Leading { epoch } => tracing::info!(epoch, "this process leads"),
                LeaderState::Standby { holder } => {
                    tracing::info!(holder = holder.as_deref().unwrap_or("nobody"), "this process does not lead");
                }
                LeaderState::Released => {}
            }
            *current = state;
            true
        });
    }
}

/// Runs for the lease until [`LeaderHandle::release`] is called. The returned future must be spawned.
pub fn campaign<S: LeaseStore>(
    store: S,
    options: &LeaseOptions,
    clock: Clock,
) -> (LeaderHandle, impl Future<Output = ()> + Send + use<S>) {
    let handle = LeaderHandle::new();
    let machine = LeaseMachine::new(options);
    (handle.clone(), run(store, machine, clock, handle))
}

async fn run<S: LeaseStore>(store: S, mut machine: LeaseMachine, clock: Clock, handle: LeaderHandle) {
    let mut releasing = handle.shared.releasing.subscribe();
    loop {
        if *releasing.borrow_and_update() {
            break;
        }
        machine.raise_above(handle.shared.floor.load(Ordering::Acquire), Instant::now());
        let sent = Instant::now();
        let limit = machine.request_timeout();
        match machine.step(sent, clock.now()) {
            LeaseStep::Wait(until) => {
                // The end of a term is a change of state that nothing else would announce.
                let ends = machine.leading(sent).map_or(until, |(_, ends)| ends.min(until));
                tokio::select! {
                    () = tokio::time::sleep_until(ends.into()) => {}
                    () = handle.shared.wake.notified() => {}
                    _ = releasing.changed() => {}
                }
            }
            LeaseStep::Read => {
                let answer = within(limit, store.read()).await;
                report("read", answer.as_ref().err());
                machine.read(Instant::now(), answer);
            }
            LeaseStep::Create(record) => {
                let answer = within(limit, store.create(&record)).await;
                report("create", answer.as_ref().err());
                machine.written(sent, Instant::now(), answer);
            }
            LeaseStep::Replace(record) => {
                let answer = within(limit, store.replace(&record)).await;
                report("renew", answer.as_ref().err());
                machine.written(sent, Instant::now(), answer);
            }
        }
        handle.publish(&machine);
    }
    let record = machine.release(Instant::now());
    *handle.term() = None;
    if let Some(record) = record {
        let answer = within(machine.request_timeout(), store.replace(&record)).await;
        report("release", answer.as_ref().err());
    }
    handle.shared.state.send_replace(LeaderState::Released);
}

async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, LeaseError>> + Send,
) -> Result<T, LeaseError> {
    tokio::time::timeout(limit, request)
        .await
        .unwrap_or_else(|_| Err(LeaseError::Unavailable(format!("no answer within {limit:?}"))))
}

fn report(what: &str, error: Option<&LeaseError>) {
    if let Some(error) = error {
        tracing::warn!(request = what, reason = %error, "the lease could not be served");
    }
}

/// The lease of a real cluster.
#[derive(Clone)]
pub struct KubeLeaseStore {
    api: Api<Lease>,
    name: String,
}

impl KubeLeaseStore {
    /// The client must not retry by itself: see [`crate::kube_port::client`].
    pub fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    fn lease(&self, record: &LeaseRecord) -> Lease {
        record.lease(&self.name)
    }
}

fn refused(error: &kube::Error) -> LeaseError {
    match error {
        kube::Error::Api(status) if status.code == 409 => LeaseError::Conflict,
        // A lease that was deleted meanwhile is read again and created.
        kube::Error::Api(status) if status.code == 404 => LeaseError::Conflict,
        kube::Error::Api(status) => LeaseError::Unavailable(status.message.clone()),
        other => LeaseError::Unavailable(other.to_string()),
    }
}

impl LeaseStore for KubeLeaseStore {
    async fn read(&self) -> Result<Option<LeaseRecord>, LeaseError> {
        match self.api.get_opt(&self.name).await {
            Ok(lease) => Ok(lease.map(LeaseRecord::of)),
            Err(error) => Err(refused(&error)),
        }
    }

    async fn create(&self, wanted: &LeaseRecord) -> Result<LeaseRecord, LeaseError> {
        match self.api.create(&PostParams::default(), &self.lease(wanted)).await {
            Ok(lease) => Ok(LeaseRecord::of(lease)),
            // A namespace that does not exist is no conflict that reading again would resolve.
            Err(kube::Error::Api(status)) if status.code == 404 => Err(LeaseError::Unavailable(status.message.clone())),
            Err(error) => Err(refused(&error)),
        }
    }

    async fn replace(&self, wanted: &LeaseRecord) -> Result<LeaseRecord, LeaseError> {
        match self.api.replace(&self.name, &PostParams::default(), &self.lease(wanted)).await {
            Ok(lease) => Ok(LeaseRecord::of(lease)),
            Err(error) => Err(refused(&error)),
        }
    }
}

#[cfg(test)]
mod tests;
