//! One run of a controller: the controller's own code on the simulated cluster, polled by the scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::task::{Context as TaskContext, Poll, Waker};

use interlock_controller::{
    admission::judge::Webhook,
    backup,
    change::{self, Context, Keys, Outcome},
    governors,
    index::{BackupKey, Index},
    rollout,
    seen::{self, Seen},
    watch::{self, Told},
};
use interlock_core::{object::GroupKind, seal::KeyRing};
use interlock_sim::api::{Api, Event, EventType, meta};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    cluster::{Cluster, ProcessId, Shared},
    due::Due,
    lease::Candidate,
    port::{CONTROLLER, SimPort},
    reread::Reread,
};

/// The kinds that a controller watches.
pub const WATCHED: [(&str, &str); 16] = [
    (interlock_crds::GROUP, "ChangeRequest"),
    (interlock_crds::GROUP, "Approval"),
    (interlock_crds::GROUP, "Evidence"),
    (interlock_crds::GROUP, "Action"),
    (interlock_crds::GROUP, "System"),
    (interlock_crds::GROUP, "Person"),
    (interlock_crds::GROUP, "ChangePolicy"),
    (interlock_crds::GROUP, "Calendar"),
    (interlock_crds::GROUP, "RolloutPlan"),
    (interlock_crds::GROUP, "Rollout"),
    (interlock_crds::GROUP, "BackupPolicy"),
    (interlock_crds::GROUP, "BackupRepository"),
    (interlock_crds::GROUP, "Backup"),
    (interlock_crds::GROUP, "RestoreDrill"),
    (interlock_crds::GROUP, "DrillRun"),
    ("", "Namespace"),
];
static GROUP_KINDS: LazyLock<[GroupKind; WATCHED.len()]> =
    LazyLock::new(|| WATCHED.map(|(group, kind)| GroupKind::new(group, kind)));
/// Passes at the same time.
const AT_ONCE: usize = 4;
/// First and longest wait after failures in a row.
const BACKOFF: (SignedDuration, SignedDuration) = (SignedDuration::from_millis(200), SignedDuration::from_secs(30));

/// What a pass is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A change, `namespace/name`.
    Change(String),
    /// A Rollout, `namespace/name`.
    Rollout(String),
    /// A policy, repository or run of backups.
    Backup(BackupKey),
    /// A key of the governors.
    Governor(String),
}

enum Again {
    WhenWoken,
    At(Timestamp),
    Reread(Reread),
    Backoff,
}

type Pass = Pin<Box<dyn Future<Output = Again> + Send>>;

/// One run of a controller.
pub struct Process {
    /// Which run.
    pub id: ProcessId,
    /// Its webhooks.
    pub webhook: Arc<Webhook<SimPort>>,
    /// Its part in the race for the lease.
    pub candidate: Candidate,
    /// Whether it is stopped for a while, as by a debugger or a node that hangs.
    pub is_paused: bool,
    context: Arc<Context<SimPort>>,
    index: Arc<RwLock<Index>>,
    seen: BTreeMap<&'static str, u64>,
    known: BTreeMap<&'static str, BTreeSet<String>>,
    interests_seen: u64,
    woken: BTreeSet<Key>,
    woken_while_running: BTreeSet<Key>,
    due: Due<Key>,
    rereads: BTreeMap<Key, Reread>,
    failures: BTreeMap<Key, u32>,
    passes: BTreeMap<Key, Pass>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("id", &self.id).field("woken", &self.woken).finish_non_exhaustive()
    }
}

impl Process {
    /// A process that has just been started and knows nothing.
    pub fn start(id: ProcessId, shared: &Shared, keys: Keys, cluster: &str) -> Self {
        let mut ring = KeyRing::default();
        ring.insert(keys.seal.public());
        let index = Arc::new(RwLock::new(Index::new(ring)));
        shared.lock().begin(id);
        let port = SimPort::new(shared.clone(), id);
        let context = Arc::new(Context::new(port, Arc::clone(&index), keys, cluster.to_owned()));
        Self {
            id,
            webhook: Arc::new(Webhook::new(Arc::clone(&context), CONTROLLER.to_owned())),
            candidate: Candidate::new(id),
            is_paused: false,
            context,
            index,
            seen: BTreeMap::new(),
            known: BTreeMap::new(),
            interests_seen: shared.lock().api.resource_version(),
            woken: BTreeSet::new(),
            woken_while_running: BTreeSet::new(),
            due: Due::default(),
            rereads: BTreeMap::new(),
            failures: BTreeMap::new(),
            passes: BTreeMap::new(),
        }
    }

    /// Whether it has listed every kind once: only then it serves and leads.
    pub fn is_synced(&self) -> bool {
        self.seen.len() == WATCHED.len()
    }

    /// Whether a pass of it has an answer to look at.
    pub fn has_answers(&self, cluster: &Cluster) -> bool {
        !self.passes.is_empty() && cluster.has_answers(self.id, self.candidate.waits_for())
    }

    /// It begins to lead: everything is looked at once.
    pub fn leads(&mut self) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        self.woken.extend(index.all_live().into_iter().map(Key::Change));
        self.woken.extend(index.all_rollouts().into_iter().map(Key::Rollout));
        self.woken.extend(index.all_backups().into_iter().map(Key::Backup));
        self.woken.extend(watch::all_governors(&index).map(Key::Governor));
    }

    /// Kinds about which the server has something to tell.
    pub fn untold(&mut self, api: &Api) -> Vec<&'static str> {
        let newest = api.resource_version();
        let mut untold = Vec::new();
        for (group_kind, (_, kind)) in GROUP_KINDS.iter().zip(WATCHED) {
            let Some(seen) = self.seen.get_mut(kind).filter(|seen| **seen < newest) else {
                untold.extend((!self.seen.contains_key(kind)).then_some(kind));
                continue;
            };
            // The next look begins where this one ended: at what is to be told, or, if that is nothing, here.
            match api.events_since(*seen, Some(group_kind)).map(|mut events| events.next()) {
                Ok(None) => *seen = newest,
                Ok(Some(event)) => {
                    *seen = event.rv - 1;
                    untold.push(kind);
                }
                Err(_) => untold.push(kind),
            }
        }
        untold
    }

    /// The resourceVersion up to which nothing in the server's log is news to it.
    pub fn has_read_to(&self) -> u64 {
        self.seen.values().copied().min().unwrap_or(self.interests_seen).min(self.interests_seen)
    }

    /// Tells of the next event of a kind, or lists it anew. `again` leaves the cursor where it is, as a watch that repeats.
    pub fn deliver(&mut self, api: &Api, kind: &'static str, again: bool) {
        let Some(group_kind) = GROUP_KINDS.iter().find(|group_kind| group_kind.kind == kind) else { return };
        let next = self
            .seen
            .get(kind)
            .and_then(|seen| api.events_since(*seen, Some(group_kind)).ok().map(|mut events| events.next().cloned()));
        match next {
            None => self.list(api, kind, group_kind),
            Some(None) => {}
            Some(Some(event)) => {
                match event.change {
                    EventType::Added | EventType::Modified => self.stored(kind, &event.object),
                    EventType::Deleted => self.deleted(kind, &key_of(&event.object)),
                }
                if !again {
                    self.seen.insert(kind, event.rv);
                }
            }
        }
    }

    /// Lists a kind anew, as after a watch that broke.
    pub fn relist(&mut self, kind: &'static str) {
        self.seen.remove(kind);
    }

    fn list(&mut self, api: &Api, kind: &'static str, group_kind: &GroupKind) {
        let mut gone = self.known.get(kind).cloned().unwrap_or_default();
        for object in api.glance(group_kind, None) {
            gone.remove(&key_of(&object));
            self.stored(kind, &object);
        }
        for key in gone {
            self.deleted(kind, &key);
        }
        self.seen.insert(kind, api.resource_version());
    }

    fn stored(&mut self, kind: &'static str, object: &Value) {
        self.known.entry(kind).or_default().insert(key_of(object));
        self.feed(kind, Told::Stored(object));
    }

    fn deleted(&mut self, kind: &'static str, key: &str) {
        self.known.entry(kind).or_default().remove(key);
        self.feed(kind, Told::Deleted(key));
    }

    fn feed(&mut self, kind: &str, told: Told<'_>) {
        let woken = watch::feed(&mut self.index.write().unwrap_or_else(PoisonError::into_inner), kind, told);
        let Some(woken) = woken else { return };
        for change in woken.changes {
            self.wake(Key::Change(change));
        }
        for rollout in woken.rollouts {
            self.wake(Key::Rollout(rollout));
        }
        for backup in woken.backups {
            self.wake(Key::Backup(backup));
        }
        if let Some(governor) = woken.governor {
            self.wake(Key::Governor(governor));
        }
    }

    fn wake(&mut self, key: Key) {
        if self.passes.contains_key(&key) {
            self.woken_while_running.insert(key);
        } else {
            self.woken.insert(key);
        }
    }

    /// Whether an object in which a change is interested changed since it was looked.
    pub fn has_news(&mut self, shared: &Shared) -> bool {
        let cluster = shared.lock();
        if cluster.api.resource_version() == self.interests_seen {
            return false;
        }
        let Some(belief) = cluster.beliefs.get(&self.id) else { return false };
        let is_wanted = |event: &Event| {
            let wanted = |key: &String| belief.interests.values().any(|objects| objects.contains(key));
            !belief.interests.is_empty() && seen::awaited_keys(&event.object).iter().any(wanted)
        };
        let news = cluster
            .api
            .events_since(self.interests_seen, None)
            .ok()
            .and_then(|mut events| events.find(|event| is_wanted(event)));
        self.interests_seen = news.map_or_else(|| cluster.api.resource_version(), |event| event.rv - 1);
        news.is_some()
    }

    /// Wakes the changes that are interested in what changed.
    pub fn hear(&mut self, shared: &Shared) {
        let mut cluster = shared.lock();
        let Cluster { api, beliefs, .. } = &mut *cluster;
        let Some(belief) = beliefs.get_mut(&self.id) else { return };
        let mut changed = BTreeSet::new();
        match api.events_since(self.interests_seen, None) {
            Ok(events) => {
                for event in events {
                    let is_news = match event.change {
                        EventType::Added | EventType::Modified => belief.told.stored(&event.object),
                        EventType::Deleted => belief.told.gone(&event.object),
                    };
                    if is_news {
                        changed.extend(seen::awaited_keys(&event.object));
                    }
                }
            }
            // The log does not reach back so far: a watch would list anew.
            Err(_) => belief.told = Seen::default(),
        }
        let waiters: Vec<_> = belief
            .interests
            .iter()
            .filter(|(_, objects)| objects.iter().any(|object| changed.contains(object)))
            .map(|(waiter, _)| waiter.clone())
            .collect();
        self.interests_seen = api.resource_version();
        drop(cluster);
        for waiter in waiters {
            self.wake(match (rollout::key_of_waiter(&waiter), BackupKey::of_waiter(&waiter)) {
                (Some(rollout), _) => Key::Rollout(rollout.to_owned()),
                (None, Some(backup)) => Key::Backup(backup),
                (None, None) => Key::Change(waiter),
            });
        }
    }

    /// How many keys a pass may begin with.
    pub fn ready(&self) -> usize {
        if self.passes.len() >= AT_ONCE || !self.is_synced() { 0 } else { self.woken.len() }
    }

    /// One of those keys.
    pub fn ready_at(&self, position: usize) -> Option<Key> {
        self.woken.iter().nth(position).cloned()
    }

    /// When something is due although nothing happens.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.next()
    }

    /// What is due now is looked at.
    pub fn come_due(&mut self, now: Timestamp) {
        while let Some(key) = self.due.take(now) {
            self.wake(key);
        }
    }

    /// The server's clock was set. What is due is due by the process's own clock, which was not.
    pub fn clock_was_set(&mut self, by: SignedDuration) {
        self.due.shift(by);
        self.rereads.values_mut().for_each(|reread| reread.shift(by));
    }

    /// Puts off what would only read again what is as it was; see [`Reread::due`].
    pub fn put_off_rereads(&mut self, newest: Option<u64>, now: Timestamp) {
        for (key, reread) in &self.rereads {
            match reread.due(newest, now) {
                Some(at) => self.due.insert(key.clone(), at),
                None => self.due.remove(key),
            }
        }
    }

    /// Begins a pass. `version` is the server's.
    pub fn begin(&mut self, key: &Key, now: Timestamp, version: u64) {
        self.woken.remove(key);
        self.due.remove(key);
        self.rereads.remove(key);
        let (context, index) = (Arc::clone(&self.context), Arc::clone(&self.index));
        let pass: Pass = match key.clone() {
            Key::Change(key) => {
                Box::pin(async move { came_to(&change::reconcile(&context, &key).await, now, version) })
            }
            Key::Rollout(key) => {
                Box::pin(async move { came_to(&rollout::reconcile(&context, &key).await, now, version) })
            }
            Key::Backup(key) => {
                Box::pin(async move { came_to(&backup::reconcile(&context, &key).await, now, version) })
            }
            Key::Governor(key) => Box::pin(async move {
                match governors::reconcile(&context.port, &index, &key).await {
                    Ok(None) => Again::WhenWoken,
                    Ok(Some(at)) => Again::At(at),
                    Err(_) => Again::Backoff,
                }
            }),
        };
        self.passes.insert(key.clone(), pass);
        self.poll(key, now);
    }

    /// Whether a pass is under way.
    pub fn is_busy(&self) -> bool {
        !self.passes.is_empty()
    }

    /// Lets every pass go on as far as it can.
    pub fn poll_all(&mut self, now: Timestamp) {
        let keys: Vec<_> = self.passes.keys().cloned().collect();
        for key in keys {
            self.poll(&key, now);
        }
    }

    fn poll(&mut self, key: &Key, now: Timestamp) {
        let Some(pass) = self.passes.get_mut(key) else { return };
        if let Poll::Ready(again) = pass.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            self.passes.remove(key);
            self.ended(key, &again, now);
        }
    }

    fn ended(&mut self, key: &Key, again: &Again, now: Timestamp) {
        if !matches!(again, Again::Backoff) {
            self.failures.remove(key);
        }
        match again {
            Again::WhenWoken => {}
            Again::At(at) => self.due.insert(key.clone(), a_little_after(*at, now)),
            Again::Reread(reread) => {
                let until = reread.until.map(|until| a_little_after(until, now));
                let reread = Reread { again: a_little_after(reread.again, now), until, ..*reread };
                self.due.insert(key.clone(), until.map_or(reread.again, |until| until.min(reread.again)));
                self.rereads.insert(key.clone(), reread);
            }
            Again::Backoff => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                let wait = BACKOFF.0.saturating_mul(1 << (*failures - 1).min(10)).min(BACKOFF.1);
                self.due.insert(key.clone(), now.checked_add(wait).unwrap_or(now));
            }
        }
        if self.woken_while_running.remove(key) && !matches!(again, Again::Backoff) {
            self.woken.insert(key.clone());
        }
    }
}

/// What follows from a pass that began at `begun`, when the server stood at `version`.
fn came_to(outcome: &Outcome, begun: Timestamp, version: u64) -> Again {
    match outcome {
        Outcome::Wait(None) => Again::WhenWoken,
        Outcome::Wait(Some(at)) => Again::At(*at),
        Outcome::Reread { again, until } => {
            let every = again.duration_since(begun);
            Again::Reread(Reread { seen: version, again: *again, every, until: *until })
        }
        Outcome::Retry(_) => Again::Backoff,
    }
}

/// A little late rather than early: at the instant itself the answer has changed.
fn a_little_after(at: Timestamp, now: Timestamp) -> Timestamp {
    at.max(now).checked_add(SignedDuration::from_millis(20)).unwrap_or(at)
}

fn key_of(object: &Value) -> String {
    match meta::namespace(object) {
        "" => meta::name(object).to_owned(),
        namespace => format!("{namespace}/{}", meta::name(object)),
    }
}
