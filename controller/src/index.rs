//! What the controller knows without asking: every Interlock object, indexed for the questions that decisions ask.
//!
//! Synchronous and pure: watch events go in, keys of changes to look at again come out. Changes that have ended keep a few
//! words; their votes and commands are dropped.
//!
//! **Architecture Invariant:** nothing here calls the cluster, and nothing here decides. A denial may come from it;
//! starting a change, or letting a governed write pass, reads live.

mod backups;
pub(crate) mod drills;
mod endings;
mod restores;
mod rollouts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use interlock_core::{
    calendar::Calendar,
    change::{
        Content, Problem, calendar_spec,
        digest::Resolved,
        facts::{CalendarFacts, Command, EvidenceFacts, PolicyFacts, RequestFacts, RunningChange, SystemFacts, Vote},
        gates, gradual, sealed,
    },
    object::ObjectId,
    people::{People, PersonFacts, PersonName},
    seal::KeyRing,
};
use interlock_crds as crds;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Namespace,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};

use backups::Backups;
use drills::Drills;
use endings::Endings;
use restores::Restores;
use rollouts::Rollouts;

pub use backups::{BackupKey, RunsSummary};
pub(crate) use backups::{beside, validity};
pub use rollouts::RolloutKey;

/// `namespace/name` of a ChangeRequest.
pub type ChangeKey = String;

/// Whether the condition Valid holds, and its message; none if it says nothing of the present spec.
type Told = Option<(bool, String)>;

/// A change as the index keeps it.
#[derive(Clone, Debug)]
pub enum ChangeEntry {
    /// It has not ended.
    Live(Arc<LiveChange>),
    /// It has; only this is kept.
    Ended {
        /// Uid.
        uid: String,
        /// Its final phase.
        phase: crds::ChangePhase,
        /// Where its before-state lies.
        before: Option<(String, u32)>,
    },
}

/// A before-state whose change is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Uid of the change.
    pub uid: String,
    /// Digest of the before-state.
    pub digest: String,
    /// Number of its chunks.
    pub chunks: u32,
}

/// A change that has not ended.
#[derive(Debug)]
pub struct LiveChange {
    /// The request.
    pub request: RequestFacts,
    /// resourceVersion of the object.
    pub resource_version: String,
    /// Its content, or what is wrong with it.
    pub content: Arc<Result<Content, Vec<Problem>>>,
    /// Whether Interlock has begun to carry it out.
    pub running: bool,
}

/// A compiled calendar, or why it cannot be compiled.
#[derive(Clone, Debug)]
pub struct CalendarEntry {
    /// Which object.
    pub resolved: Resolved,
    /// What it states.
    pub spec: crds::CalendarSpec,
    /// The compiled form.
    pub compiled: Result<Calendar, String>,
}

/// What the index keeps of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Uid.
    pub uid: String,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Value of the enrolment label.
    pub system_label: Option<String>,
    /// Value of the mode label.
    pub mode_label: Option<String>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Index {
    keys: KeyRing,
    systems: BTreeMap<String, Arc<SystemFacts>>,
    claims: BTreeMap<String, String>,
    contested: BTreeMap<String, BTreeSet<String>>,
    dependants: HashMap<String, BTreeSet<String>>,
    policies: BTreeMap<String, Arc<PolicyFacts>>,
    calendars: BTreeMap<String, Arc<CalendarEntry>>,
    people: Arc<People>,
    person_valid: HashMap<String, bool>,
    policy_told: HashMap<String, Told>,
    namespaces: HashMap<String, NamespaceEntry>,
    changes: HashMap<ChangeKey, ChangeEntry>,
    key_of_uid: HashMap<String, ChangeKey>,
    live_by_namespace: HashMap<String, BTreeSet<ChangeKey>>,
    live_by_object: HashMap<String, BTreeSet<ChangeKey>>,
    live_by_digest: HashMap<String, BTreeSet<ChangeKey>>,
    running: BTreeSet<ChangeKey>,
    waiters_on: HashMap<ChangeKey, BTreeSet<ChangeKey>>,
    votes: HashMap<String, BTreeMap<String, Vote>>,
    vote_target: HashMap<String, String>,
    commands: HashMap<String, BTreeMap<String, Command>>,
    command_target: HashMap<String, String>,
    evidence: HashMap<String, BTreeMap<String, EvidenceFacts>>,
    evidence_subject: HashMap<String, String>,
    endings: HashMap<String, Endings>,
    garbage: Vec<Garbage>,
    unsent: BTreeSet<ChangeKey>,
    rollouts: Rollouts,
    backups: Backups,
    drills: Drills,
    restores: Restores,
}

/// `namespace/name` of an object.
pub fn key_of(meta: &ObjectMeta) -> String {
    match &meta.namespace {
        Some(namespace) => format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default()),
        None => meta.name.clone().unwrap_or_default(),
    }
}

fn resolved(meta: &ObjectMeta) -> Resolved {
    Resolved {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
    }
}

/// The facts of a ChangeRequest object; seals are checked against `keys`. Where something is known of the request, a seal
/// that was checked is not checked again.
fn facts_since(keys: &KeyRing, object: &crds::ChangeRequest, known: Option<&RequestFacts>) -> RequestFacts {
    let meta = &object.metadata;
    let status = object.status.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    let sealed = match known.filter(|known| known.uid == uid) {
        Some(known) => sealed::records_since(keys, &uid, (&known.status, known.sealed), &status),
        None => sealed::records(keys, &uid, &status),
    };
    RequestFacts {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid,
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0),
        deleting: meta.deletion_timestamp.is_some(),
        spec: Arc::new(object.spec.clone()),
        sealed,
        status,
    }
}

/// The content of a request; it is read again only when the server counts another generation.
fn content_of(request: &RequestFacts, known: Option<&LiveChange>) -> Arc<Result<Content, Vec<Problem>>> {
    let same = |known: &&LiveChange| known.request.uid == request.uid && known.request.generation == request.generation;
    known
        .filter(same)
        .map_or_else(|| Arc::new(Content::parse(&request.spec, &request.namespace)), |known| Arc::clone(&known.content))
}

impl Index {
    /// An empty index that recognises seals of `keys`.
    pub fn new(keys: KeyRing) -> Self {
        Self { keys, ..Self::default() }
    }

    /// The public keys of this installation.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    // Events. Each returns the changes to look at again.

    /// A ChangeRequest was stored.
    pub fn change_stored(&mut self, object: &crds::ChangeRequest) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        let known = self.live(&key);
        let request = facts_since(&self.keys, object, known.as_ref().map(|known| &known.request));
        // The watch may still tell of what was before a write that this process has learnt of already.
        let incoming = object.metadata.resource_version.as_deref().unwrap_or_default();
        if known.as_ref().is_some_and(|k| k.request.uid == request.uid && is_older(incoming, &k.resource_version)) {
            return BTreeSet::new();
        }
        let way = |request: &RequestFacts| (request.is_running(), request.run().map(|run| run.direction));
        if known.as_ref().is_none_or(|known| way(&known.request) != way(&request)) {
            self.wake_rollouts(&request.uid);
        }
        let was = known.clone().filter(|live| live.running);
        self.forget_live(&key);
        let finish = request.finished().map(|f| (f.phase, f.at.0));
        let mut wake = std::mem::take(&mut self.unsent);
        if let Some((phase, at)) = finish {
            self.ended(&key, &request, phase, at);
            wake.extend(self.waiters_on.get(&key).into_iter().flatten().cloned());
            wake.extend(known.is_some().then(|| key.clone()));
        } else {
            let content = content_of(&request, known.as_deref());
            let is_ready = gradual::is_ready(&request);
            let became_ready = is_ready && known.as_ref().is_none_or(|known| !gradual::is_ready(&known.request));
            let resource_version = object.metadata.resource_version.clone().unwrap_or_default();
            self.remember_live(&key, request, resource_version, content);
            wake.insert(key.clone());
            if became_ready {
                wake.extend(self.wake_superseded(&key));
            }
        }
        let is = self.live(&key).filter(|live| live.running);
        if let Some(turned) = was.as_ref().xor(is.as_ref()) {
            wake.extend(self.neighbours(turned));
        }
        wake
    }

    /// A ChangeRequest was stored by this process itself. The changes to look at again are told with the next event.
    ///
    /// The answer to a write may come late: what has ended or is gone by then stays so.
    pub fn change_learnt(&mut self, object: &crds::ChangeRequest) {
        let known = self.live(&key_of(&object.metadata));
        if known.is_none_or(|known| Some(&known.request.uid) != object.metadata.uid.as_ref()) {
            return;
        }
        let woken = self.change_stored(object);
        self.unsent.extend(woken);
    }

    fn ended(&mut self, key: &str, request: &RequestFacts, phase: crds::ChangePhase, at: Timestamp) {
        self.votes.remove(&request.uid);
        self.commands.remove(&request.uid);
        self.key_of_uid.insert(request.uid.clone(), key.to_owned());
        let before = request.status.run.as_ref().map(|run| (run.before_digest.clone(), run.before_chunks));
        self.changes.insert(key.to_owned(), ChangeEntry::Ended { uid: request.uid.clone(), phase, before });
        let failed = matches!(phase, crds::ChangePhase::Failed | crds::ChangePhase::RolledBack);
        if failed || phase == crds::ChangePhase::Succeeded {
            self.endings.entry(request.namespace.clone()).or_default().insert(key, at, failed);
        }
    }

    /// A request that was just read, with what is known of it already.
    pub fn read(&self, object: &crds::ChangeRequest) -> LiveChange {
        let known = self.live(&key_of(&object.metadata));
        let request = facts_since(&self.keys, object, known.as_ref().map(|known| &known.request));
        LiveChange {
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            content: content_of(&request, known.as_deref()),
            running: request.is_running(),
            request,
        }
    }

    fn remember_live(
        &mut self,
        key: &str,
        request: RequestFacts,
        resource_version: String,
        content: Arc<Result<Content, Vec<Problem>>>,
    ) {
        let running = request.is_running();
        if let Ok(content) = &*content {
            for object in &content.objects {
                self.live_by_object.entry(object.id.key()).or_default().insert(key.to_owned());
            }
            self.live_by_digest.entry(content.digest.to_string()).or_default().insert(key.to_owned());
            for artifact in content.artifact_digests().into_iter().flatten() {
                self.live_by_digest.entry(artifact).or_default().insert(key.to_owned());
            }
            self.remember_restores(key, content);
        }
        for dependency in &request.spec.depends_on {
            let on = dependency_key(&request.namespace, dependency);
            self.waiters_on.entry(on).or_default().insert(key.to_owned());
        }
        self.live_by_namespace.entry(request.namespace.clone()).or_default().insert(key.to_owned());
        self.key_of_uid.insert(request.uid.clone(), key.to_owned());
        if running {
            self.running.insert(key.to_owned());
        }
        let live = LiveChange { request, resource_version, content, running };
        self.changes.insert(key.to_owned(), ChangeEntry::Live(Arc::new(live)));
    }

    /// Wakes the Rollouts of running changes that write an object of this one: it may take their place. Such changes are to be
    /// looked at too, as one may wait for a person after its Rollout went back.
    fn wake_superseded(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(live) = self.live(key) else { return BTreeSet::new() };
        let objects = live.content.as_ref().as_ref().map(|content| content.objects.as_slice()).unwrap_or_default();
        let others = objects.iter().filter_map(|object| self.live_by_object.get(&object.id.key())).flatten();
        let running = others.filter(|other| *other != key && self.running.contains(*other));
        let running: BTreeSet<_> = running.cloned().collect();
        let uids: Vec<_> = running.iter().filter_map(|other| Some(self.live(other)?.request.uid.clone())).collect();
        for uid in uids {
            self.wake_rollouts(&uid);
        }
        running
    }

    fn forget_live(&mut self, key: &str) {
        self.running.remove(key);
        let Some(ChangeEntry::Live(live)) = self.changes.remove(key) else { return };
        if let Ok(content) = &*live.content {
            for object in &content.objects {
                remove_from(&mut self.live_by_object, &object.id.key(), key);
            }
            remove_from(&mut self.live_by_digest, &content.digest.to_string(), key);
            for artifact in content.artifact_digests().into_iter().flatten() {
                remove_from(&mut self.live_by_digest, &artifact, key);
            }
            self.forget_restores(key, content);
        }
        for dependency in &live.request.spec.depends_on {
            remove_from(&mut self.waiters_on, &dependency_key(&live.request.namespace, dependency), key);
        }
        remove_from(&mut self.live_by_namespace, &live.request.namespace, key);
    }

    /// A ChangeRequest was deleted.
    pub fn change_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let live = self.live(key);
        let (uid, before) = match self.changes.get(key) {
            Some(ChangeEntry::Live(live)) => {
                let run = live.request.status.run.as_ref();
                (live.request.uid.clone(), run.map(|run| (run.before_digest.clone(), run.before_chunks)))
            }
            Some(ChangeEntry::Ended { uid, before, .. }) => (uid.clone(), before.clone()),
            None => return BTreeSet::new(),
        };
        self.garbage.extend(before.map(|(digest, chunks)| Garbage { uid: uid.clone(), digest, chunks }));
        self.forget_live(key);
        self.changes.remove(key);
        self.key_of_uid.remove(&uid);
        self.votes.remove(&uid);
        self.commands.remove(&uid);
        let mut wake: BTreeSet<_> = self.waiters_on.get(key).into_iter().flatten().cloned().collect();
        wake.insert(key.to_owned());
        if let Some(live) = live.filter(|live| live.running) {
            wake.extend(self.neighbours(&live));
        }
        wake
    }

    /// Changes whose Collision gate may have changed because `change` started or ended.
    fn neighbours(&self, change: &LiveChange) -> BTreeSet<ChangeKey> {
        let mut wake = BTreeSet::new();
        for object in change.content.iter().flat_map(|c| &c.objects) {
            wake.extend(self.live_by_object.get(&object.id.key()).into_iter().flatten().cloned());
        }
        if let Some(system) = self.claims.get(&change.request.namespace) {
            let dependants = self.dependants.get(system).into_iter().flatten();
            for dependant in dependants.filter(|dependant| self.heeds_dependencies(dependant)) {
                wake.extend(self.changes_of_system(dependant));
            }
        }
        wake
    }

    /// An Approval was stored.
    pub fn approval_stored(&mut self, object: &crds::Approval) -> BTreeSet<ChangeKey> {
        let uid = object.spec.change_request_uid.clone();
        let key = key_of(&object.metadata);
        if self.is_ended(&uid) {
            return BTreeSet::new();
        }
        let vote = sealed::vote(&self.keys, object);
        self.vote_target.insert(key.clone(), uid.clone());
        self.votes.entry(uid.clone()).or_default().insert(key, vote);
        self.wake_rollouts(&uid);
        self.key_of_uid.get(&uid).cloned().into_iter().collect()
    }

    /// An Approval was deleted.
    pub fn approval_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(uid) = self.vote_target.remove(key) else { return BTreeSet::new() };
        if let Some(votes) = self.votes.get_mut(&uid) {
            votes.remove(key);
        }
        self.wake_rollouts(&uid);
        self.key_of_uid.get(&uid).cloned().into_iter().collect()
    }

    /// An Action was stored.
    pub fn action_stored(&mut self, object: &crds::Action) -> BTreeSet<ChangeKey> {
        let uid = object.spec.target.uid.clone();
        let key = key_of(&object.metadata);
        if self.is_ended(&uid) {
            return BTreeSet::new();
        }
        let command = sealed::command(&self.keys, object);
        self.command_target.insert(key.clone(), uid.clone());
        self.commands.entry(uid.clone()).or_default().insert(key, command);
        self.wake_rollouts(&uid);
        self.key_of_uid.get(&uid).cloned().into_iter().collect()
    }

    /// An Action was deleted.
    pub fn action_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(uid) = self.command_target.remove(key) else { return BTreeSet::new() };
        if let Some(commands) = self.commands.get_mut(&uid) {
            commands.remove(key);
        }
        self.key_of_uid.get(&uid).cloned().into_iter().collect()
    }

    /// Evidence was stored.
    pub fn evidence_stored(&mut self, object: &crds::Evidence) -> BTreeSet<ChangeKey> {
        let facts = sealed::evidence(&self.keys, object);
        let subject = facts.content_digest.clone().or_else(|| facts.artifact_digest.clone()).unwrap_or_default();
        let key = key_of(&object.metadata);
        self.evidence_subject.insert(key.clone(), subject.clone());
        self.evidence.entry(subject.clone()).or_default().insert(key, facts);
        self.live_by_digest.get(&subject).cloned().unwrap_or_default()
    }

    /// Evidence was deleted.
    pub fn evidence_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let Some(subject) = self.evidence_subject.remove(key) else { return BTreeSet::new() };
        if let Some(evidence) = self.evidence.get_mut(&subject) {
            evidence.remove(key);
            if evidence.is_empty() {
                self.evidence.remove(&subject);
            }
        }
        self.live_by_digest.get(&subject).cloned().unwrap_or_default()
    }

    /// A Person was stored.
    pub fn person_stored(&mut self, object: &crds::Person) -> BTreeSet<ChangeKey> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let facts = PersonFacts::of(&name, &object.spec);
        let status = object.status.as_ref().filter(|s| s.observed_generation == object.metadata.generation);
        match status.and_then(|s| s.conditions.iter().find(|c| c.type_ == "Valid")) {
            Some(condition) => self.person_valid.insert(name, condition.status == "True"),
            None => self.person_valid.remove(&name),
        };
        if self.people.get(&facts.name) == Some(&facts) {
            return BTreeSet::new();
        }
        Arc::make_mut(&mut self.people).insert(facts);
        // Whose signatures count may be another matter now.
        self.wake_running_rollouts();
        self.all_live()
    }

    /// A Person was deleted.
    pub fn person_deleted(&mut self, name: &str) -> BTreeSet<ChangeKey> {
        self.person_valid.remove(name);
        Arc::make_mut(&mut self.people).remove(&PersonName(name.to_owned()));
        self.wake_running_rollouts();
        self.all_live()
    }

    /// A System was stored.
    pub fn system_stored(&mut self, object: &crds::System) -> BTreeSet<ChangeKey> {
        let facts = SystemFacts { resolved: resolved(&object.metadata), spec: object.spec.clone() };
        let name = facts.resolved.name.clone();
        if self.systems.get(&name).is_some_and(|known| **known == facts) {
            return BTreeSet::new();
        }
        let mut wake = self.changes_of_system(&name);
        let namespaces = facts.spec.namespaces.clone();
        let known = self.systems.insert(name.clone(), Arc::new(facts));
        self.reclaim();
        wake.extend(self.changes_of_system(&name));
        let before = known.iter().flat_map(|known| &known.spec.namespaces);
        for namespace in before.chain(&namespaces).collect::<BTreeSet<_>>() {
            self.wake_backups_in(namespace);
        }
        wake
    }

    /// A System was deleted.
    pub fn system_deleted(&mut self, name: &str) -> BTreeSet<ChangeKey> {
        let wake = self.changes_of_system(name);
        let known = self.systems.remove(name);
        self.reclaim();
        for namespace in known.iter().flat_map(|known| &known.spec.namespaces) {
            self.wake_backups_in(namespace);
        }
        wake
    }

    /// Computes again which System claims which namespace. Systems are few, and seldom change.
    fn reclaim(&mut self) {
        self.claims.clear();
        self.contested.clear();
        self.dependants.clear();
        for (name, system) in &self.systems {
            for namespace in &system.spec.namespaces {
                match self.claims.get(namespace) {
                    // The elder keeps it; which that is does not depend on the order of events.
                    Some(other) => {
                        let both = BTreeSet::from([other.clone(), name.clone()]);
                        self.contested.entry(namespace.clone()).or_default().extend(both);
                    }
                    None => {
                        self.claims.insert(namespace.clone(), name.clone());
                    }
                }
            }
            for on in &system.spec.depends_on {
                self.dependants.entry(on.clone()).or_default().insert(name.clone());
            }
        }
    }

    /// A ChangePolicy was stored.
    pub fn policy_stored(&mut self, object: &crds::ChangePolicy) -> BTreeSet<ChangeKey> {
        let facts = PolicyFacts { resolved: resolved(&object.metadata), spec: object.spec.clone() };
        let name = facts.resolved.name.clone();
        let status = object.status.as_ref().map(|status| (status.observed_generation, status.conditions.as_slice()));
        self.policy_told.insert(name.clone(), told(&object.metadata, status));
        if self.policies.get(&name).is_some_and(|known| **known == facts) {
            return BTreeSet::new();
        }
        self.policies.insert(name.clone(), Arc::new(facts));
        // Steps of a release wait for gates of the policy.
        self.wake_running_rollouts();
        self.changes_of_policy(&name)
    }

    /// A ChangePolicy was deleted.
    pub fn policy_deleted(&mut self, name: &str) -> BTreeSet<ChangeKey> {
        let wake = self.changes_of_policy(name);
        self.policies.remove(name);
        self.policy_told.remove(name);
        self.wake_running_rollouts();
        wake
    }

    /// A Calendar was stored.
    pub fn calendar_stored(&mut self, object: &crds::Calendar) -> BTreeSet<ChangeKey> {
        let resolved = resolved(&object.metadata);
        if self.calendars.get(&resolved.name).is_some_and(|known| known.resolved == resolved) {
            return BTreeSet::new();
        }
        let compiled = Calendar::compile(&calendar_spec(&object.spec)).map_err(|error| error.to_string());
        let entry = CalendarEntry { resolved: resolved.clone(), spec: object.spec.clone(), compiled };
        self.calendars.insert(resolved.name.clone(), Arc::new(entry));
        // A window may be open now that was closed, and a wave may have a calendar of its own.
        self.wake_running_rollouts();
        self.changes_of_calendar(&resolved.name)
    }

    /// A Calendar was deleted.
    pub fn calendar_deleted(&mut self, name: &str) -> BTreeSet<ChangeKey> {
        self.calendars.remove(name);
        self.wake_running_rollouts();
        self.changes_of_calendar(name)
    }

    /// A Namespace was stored. Returns whether anything changed that the index keeps.
    pub fn namespace_stored(&mut self, object: &Namespace) -> bool {
        let labels = object.metadata.labels.as_ref();
        let label = |name: &str| labels.and_then(|l| l.get(name)).cloned();
        let entry = NamespaceEntry {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            terminating: object.metadata.deletion_timestamp.is_some(),
            system_label: label(interlock_core::change::SYSTEM_LABEL),
            mode_label: label(interlock_core::change::MODE_LABEL),
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        self.sandbox_stored(object);
        self.namespaces.insert(name, entry.clone()).as_ref() != Some(&entry)
    }

    /// A Namespace was deleted.
    pub fn namespace_deleted(&mut self, name: &str) {
        self.sandbox_deleted(name);
        self.namespaces.remove(name);
    }

    /// Before-states whose changes are gone, once.
    pub fn take_garbage(&mut self) -> Vec<Garbage> {
        std::mem::take(&mut self.garbage)
    }

    // Questions.

    /// The change of this key.
    pub fn change(&self, key: &str) -> Option<&ChangeEntry> {
        self.changes.get(key)
    }

    /// The change of this key, if it has not ended.
    pub fn live(&self, key: &str) -> Option<Arc<LiveChange>> {
        match self.changes.get(key)? {
            ChangeEntry::Live(live) => Some(Arc::clone(live)),
            ChangeEntry::Ended { .. } => None,
        }
    }

    /// The System that lists `namespace`.
    pub fn system_of(&self, namespace: &str) -> Option<Arc<SystemFacts>> {
        self.systems.get(self.claims.get(namespace)?).cloned()
    }

    /// A System by name.
    pub fn system(&self, name: &str) -> Option<Arc<SystemFacts>> {
        self.systems.get(name).cloned()
    }

    /// Namespaces that carry the enrolment label of `system`.
    pub fn labelled(&self, system: &str) -> Vec<String> {
        self.namespaces
            .iter()
            .filter(|(_, n)| n.system_label.as_deref() == Some(system))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What the status of a Person says about its validity.
    pub fn person_valid(&self, name: &str) -> Option<bool> {
        self.person_valid.get(name).copied()
    }

    /// What the status of a ChangePolicy says about its validity.
    pub fn policy_told(&self, name: &str) -> Option<&(bool, String)> {
        self.policy_told.get(name)?.as_ref()
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<PolicyFacts>> {
        self.policies.values()
    }

    /// Every calendar.
    pub fn calendars(&self) -> impl Iterator<Item = &Arc<CalendarEntry>> {
        self.calendars.values()
    }

    /// Every System.
    pub fn systems(&self) -> impl Iterator<Item = &Arc<SystemFacts>> {
        self.systems.values()
    }

    /// Which System claims which namespace.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// Systems that claim the same namespace.
    pub fn contested(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.contested
    }

    /// A policy by name.
    pub fn policy(&self, name: &str) -> Option<Arc<PolicyFacts>> {
        self.policies.get(name).cloned()
    }

    /// A calendar by name.
    pub fn calendar(&self, name: &str) -> Option<Arc<CalendarEntry>> {
        self.calendars.get(name).cloned()
    }

    /// Who is who.
    pub fn people(&self) -> Arc<People> {
        Arc::clone(&self.people)
    }

    /// What is known of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceEntry> {
        self.namespaces.get(name)
    }

    /// Votes that name the request.
    pub fn votes(&self, uid: &str) -> Vec<Vote> {
        self.votes.get(uid).map(|v| v.values().cloned().collect()).unwrap_or_default()
    }

    /// Commands that name the request.
    pub fn commands(&self, uid: &str) -> Vec<Command> {
        self.commands.get(uid).map(|c| c.values().cloned().collect()).unwrap_or_default()
    }

    /// Evidence about the content or its artifacts.
    pub fn evidence(&self, content: &Content) -> Vec<EvidenceFacts> {
        let about =
            |digest: &str| self.evidence.get(digest).into_iter().flat_map(|e| e.values().cloned()).collect::<Vec<_>>();
        let mut all = about(&content.digest.to_string());
        for artifact in content.artifact_digests().into_iter().flatten() {
            all.extend(about(&artifact));
        }
        all
    }

    /// Systems that depend on `system`.
    pub fn dependants(&self, system: &str) -> BTreeSet<String> {
        self.dependants.get(system).cloned().unwrap_or_default()
    }

    /// Failed and all endings in the namespaces of the System in the last 30 days.
    pub fn history(&self, system: &SystemFacts, now: Timestamp) -> (u32, u32) {
        let counts = system.spec.namespaces.iter().filter_map(|n| self.endings.get(n)).map(|e| e.count(now));
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }

    /// The state of the calendar that the policy demands for a change of this type.
    pub fn calendar_facts(
        &self,
        policy: Option<&PolicyFacts>,
        type_: crds::ChangeType,
        now: Timestamp,
    ) -> CalendarFacts {
        let Some(name) = policy.and_then(|p| gates::calendar_name(&p.spec, type_)) else { return CalendarFacts::None };
        self.calendar_named(name, now)
    }

    /// A calendar by its name.
    pub fn calendar_named(&self, name: &str, now: Timestamp) -> CalendarFacts {
        match self.calendars.get(name).map(|entry| (entry, &entry.compiled)) {
            None => CalendarFacts::Broken { name: name.to_owned(), why: "it does not exist".to_owned() },
            Some((_, Err(why))) => CalendarFacts::Broken { name: name.to_owned(), why: why.clone() },
            Some((entry, Ok(calendar))) => CalendarFacts::of(entry.resolved.clone(), &entry.spec, calendar, now),
        }
    }

    /// Running changes that stand in the way of `key`.
    pub fn running_beside(&self, key: &str, content: &Content, system: &SystemFacts) -> Vec<RunningChange> {
        let mut found = BTreeMap::<&ChangeKey, RunningChange>::new();
        let in_the_way = |other: &ChangeKey, shared: Option<ObjectId>| RunningChange {
            key: other.clone(),
            system: other.split_once('/').and_then(|(ns, _)| self.claims.get(ns)).cloned().unwrap_or_default(),
            dependency: shared.is_none(),
            shared,
        };
        for object in &content.objects {
            let others = self.live_by_object.get(&object.id.key()).into_iter().flatten();
            for other in others.filter(|other| *other != key && self.running.contains(*other)) {
                found.entry(other).or_insert_with(|| in_the_way(other, Some(object.id.clone())));
            }
        }
        for needed in system.spec.depends_on.iter().filter_map(|name| self.systems.get(name)) {
            for other in self.running_in_namespaces(needed).filter(|other| *other != key) {
                found.entry(other).or_insert_with(|| in_the_way(other, None));
            }
        }
        found.into_values().collect()
    }

    /// Keys of running changes in the namespaces of `system`.
    pub fn running_in(&self, system: &SystemFacts) -> Vec<ChangeKey> {
        self.running_in_namespaces(system).cloned().collect()
    }

    fn running_in_namespaces<'a>(&'a self, system: &'a SystemFacts) -> impl Iterator<Item = &'a ChangeKey> {
        system.spec.namespaces.iter().flat_map(|namespace| {
            let first = format!("{namespace}/");
            self.running.range(first.clone()..).take_while(move |key| key.starts_with(&first))
        })
    }

    /// Every running change.
    pub fn running(&self) -> &BTreeSet<ChangeKey> {
        &self.running
    }

    /// Changes that contain the object and have not ended.
    pub fn changes_with(&self, object: &str) -> Vec<Arc<LiveChange>> {
        self.live_by_object.get(object).into_iter().flatten().filter_map(|key| self.live(key)).collect()
    }

    /// The key of the change with this uid.
    pub fn key_of_uid(&self, uid: &str) -> Option<&ChangeKey> {
        self.key_of_uid.get(uid)
    }

    /// Whether a change that `key` waits for waits, directly or not, for `key`.
    pub fn depends_in_turn(&self, key: &str, on: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![on.to_owned()];
        while let Some(next) = open.pop() {
            if next == key {
                return true;
            }
            if !seen.insert(next.clone()) {
                continue;
            }
            if let Some(ChangeEntry::Live(live)) = self.changes.get(&next) {
                open.extend(live.request.spec.depends_on.iter().map(|d| dependency_key(&live.request.namespace, d)));
            }
        }
        false
    }

    /// Every change that has not ended.
    pub fn all_live(&self) -> BTreeSet<ChangeKey> {
        self.live_by_namespace.values().flatten().cloned().collect()
    }

    fn changes_of_system(&self, name: &str) -> BTreeSet<ChangeKey> {
        let Some(system) = self.systems.get(name) else { return BTreeSet::new() };
        system.spec.namespaces.iter().filter_map(|n| self.live_by_namespace.get(n)).flatten().cloned().collect()
    }

    /// Whether changes of the System wait while one runs in a System that it depends on.
    fn heeds_dependencies(&self, system: &str) -> bool {
        let policy = self.systems.get(system).and_then(|s| self.policies.get(&s.spec.policy_ref.name));
        let types = [crds::ChangeType::Normal, crds::ChangeType::Standard, crds::ChangeType::Emergency];
        policy.is_some_and(|policy| {
            types
                .into_iter()
                .filter_map(|t| gates::demands(&policy.spec, t))
                .any(|demands| demands.gates.collision.as_ref().is_some_and(|collision| collision.include_dependencies))
        })
    }

    fn changes_of_policy(&self, name: &str) -> BTreeSet<ChangeKey> {
        let systems = self.systems.iter().filter(|(_, s)| s.spec.policy_ref.name == name).map(|(n, _)| n);
        systems.flat_map(|system| self.changes_of_system(system)).collect()
    }

    fn changes_of_calendar(&self, name: &str) -> BTreeSet<ChangeKey> {
        let types = [crds::ChangeType::Normal, crds::ChangeType::Standard, crds::ChangeType::Emergency];
        self.policies
            .values()
            .filter(|p| types.iter().any(|t| gates::calendar_name(&p.spec, *t) == Some(name)))
            .flat_map(|p| self.changes_of_policy(&p.resolved.name))
            .collect()
    }

    fn is_ended(&self, uid: &str) -> bool {
        let entry = self.key_of_uid.get(uid).and_then(|key| self.changes.get(key));
        matches!(entry, Some(ChangeEntry::Ended { uid: ended, .. }) if ended == uid)
    }

    /// How many changes stand in which phase, for metrics.
    pub fn phases(&self) -> BTreeMap<crds::ChangePhase, usize> {
        let mut count = BTreeMap::new();
        for entry in self.changes.values() {
            let phase = match entry {
                ChangeEntry::Live(live) => live.request.status.phase,
                ChangeEntry::Ended { phase, .. } => *phase,
            };
            *count.entry(phase).or_default() += 1;
        }
        count
    }
}

/// Whether a resourceVersion is older than another; they are compared as the numbers that they are since Kubernetes 1.35.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}

/// `namespace/name` of a change that another in `namespace` depends on.
pub fn dependency_key(namespace: &str, on: &crds::DependsOn) -> ChangeKey {
    format!("{}/{}", on.namespace.as_deref().unwrap_or(namespace), on.name)
}

fn remove_from(map: &mut HashMap<String, BTreeSet<ChangeKey>>, at: &str, key: &str) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

fn told(meta: &ObjectMeta, status: Option<(Option<i64>, &[Condition])>) -> Told {
    let (observed, conditions) = status?;
    let valid = conditions.iter().find(|condition| condition.type_ == "Valid")?;
    (observed == meta.generation).then(|| (valid.status == "True", valid.message.clone()))
}
