//! Watching: objects in, index up to date, keys of changes to look at again out.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use interlock_core::admission::webhooks;
use interlock_crds as crds;
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Namespace};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    index::{BackupKey, Index, key_of},
    shutdown::Shutdown,
};

/// Where woken keys go: changes by `namespace/name`, and a word when governors changed.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Keys of changes.
    pub changes: mpsc::UnboundedSender<String>,
    /// Keys of Rollouts.
    pub rollouts: mpsc::UnboundedSender<String>,
    /// Backups, as [`BackupKey::waiter`] writes them.
    pub backups: mpsc::UnboundedSender<String>,
    /// `system/NAME`, `persons`, `policies`, `calendars`, `webhooks`.
    pub governors: mpsc::UnboundedSender<String>,
}

/// What is to be looked at again after something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Keys of changes.
    pub changes: BTreeSet<String>,
    /// Keys of Rollouts.
    pub rollouts: BTreeSet<String>,
    /// Policies, repositories and runs of backups.
    pub backups: BTreeSet<BackupKey>,
    /// A key of governors.
    pub governor: Option<String>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// It was stored, as this.
    Stored(&'a Value),
    /// The object of this `namespace/name` is gone.
    Deleted(&'a str),
}

/// Tells the index what happened to an object of this kind, for a cluster that is watched by other means than [`spawn`].
/// None for a kind that the index does not keep, and for an object that cannot be read.
pub fn feed(index: &mut Index, kind: &str, told: Told<'_>) -> Option<Woken> {
    fn feed_as<K: Indexed>(index: &mut Index, told: Told<'_>) -> Option<Woken> {
        Some(match told {
            Told::Stored(object) => {
                let object: K = serde_json::from_value(object.clone()).ok()?;
                let key = key_of(object.meta());
                Woken {
                    changes: object.stored(index),
                    rollouts: index.take_woken_rollouts(),
                    backups: index.take_woken_backups(),
                    governor: K::governor(&key),
                }
            }
            Told::Deleted(key) => {
                let changes = K::deleted(index, key);
                let (rollouts, backups) = (index.take_woken_rollouts(), index.take_woken_backups());
                Woken { changes, rollouts, backups, governor: K::gone(key) }
            }
        })
    }
    match kind {
        "ChangeRequest" => feed_as::<crds::ChangeRequest>(index, told),
        "Approval" => feed_as::<crds::Approval>(index, told),
        "Evidence" => feed_as::<crds::Evidence>(index, told),
        "Action" => feed_as::<crds::Action>(index, told),
        "System" => feed_as::<crds::System>(index, told),
        "Person" => feed_as::<crds::Person>(index, told),
        "ChangePolicy" => feed_as::<crds::ChangePolicy>(index, told),
        "Calendar" => feed_as::<crds::Calendar>(index, told),
        "RolloutPlan" => feed_as::<crds::RolloutPlan>(index, told),
        "Rollout" => feed_as::<crds::Rollout>(index, told),
        "BackupPolicy" => feed_as::<crds::BackupPolicy>(index, told),
        "BackupRepository" => feed_as::<crds::BackupRepository>(index, told),
        "Backup" => feed_as::<crds::Backup>(index, told),
        "RestoreDrill" => feed_as::<crds::RestoreDrill>(index, told),
        "DrillRun" => feed_as::<crds::DrillRun>(index, told),
        "Namespace" => feed_as::<Namespace>(index, told),
        _ => None,
    }
}

/// The governors that whoever begins to lead looks at: those of every System, and of everything else at once.
pub fn all_governors(index: &Index) -> impl Iterator<Item = String> {
    let systems: Vec<_> = index.systems().map(|s| format!("system/{}", s.resolved.name)).collect();
    systems.into_iter().chain(["persons", "policies", "plans", "calendars", "sweep", WEBHOOKS].map(ToOwned::to_owned))
}

/// The governor of what Systems name in the webhook configuration.
const WEBHOOKS: &str = "webhooks";

/// Looks at the webhook configuration again when somebody edits it. Its content is not kept: the pass reads it live.
pub fn spawn_webhooks(client: &Client, index: &Arc<RwLock<Index>>, wake: &Wake, shutdown: &Shutdown) {
    let name = webhooks::NAME;
    let api: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let (index, wake, shutdown) = (Arc::clone(index), wake.clone(), shutdown.clone());
    tokio::spawn(async move {
        let mut events = pin!(watcher(api, config).default_backoff());
        loop {
            let event = tokio::select! {
                () = shutdown.triggered() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)) => {
                    let systems: Vec<_> = {
                        let index = index.read().unwrap_or_else(PoisonError::into_inner);
                        let naming = index.systems().filter(|s| !webhooks::named(&s.spec).is_empty());
                        naming.map(|s| format!("system/{}", s.resolved.name)).collect()
                    };
                    for key in systems.into_iter().chain([WEBHOOKS.to_owned()]) {
                        let _ = wake.governors.send(key);
                    }
                }
                Some(Ok(Event::Init | Event::InitApply(_))) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "the watch of the webhook configuration broke and is taken up again");
                }
                None => return,
            }
        }
    });
}

/// A kind that the index keeps.
trait Indexed: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Puts the object into the index; the changes to look at again.
    fn stored(&self, index: &mut Index) -> BTreeSet<String>;
    /// Takes the object of this key out of the index.
    fn deleted(index: &mut Index, key: &str) -> BTreeSet<String>;
    /// What governors to look at again.
    fn governor(key: &str) -> Option<String>;
    /// What governors to look at again when an object is gone.
    fn gone(key: &str) -> Option<String> {
        Self::governor(key)
    }
}

macro_rules! indexed {
    ($kind:ty, $stored:ident, $deleted:ident, $governor:expr) => {
        impl Indexed for $kind {
            fn stored(&self, index: &mut Index) -> BTreeSet<String> {
                index.$stored(self)
            }
            fn deleted(index: &mut Index, key: &str) -> BTreeSet<String> {
                index.$deleted(key)
            }
            fn governor(key: &str) -> Option<String> {
                let governor: fn(&str) -> Option<String> = $governor;
                governor(key)
            }
        }
    };
}

impl Indexed for crds::ChangeRequest {
    fn stored(&self, index: &mut Index) -> BTreeSet<String> {
        index.change_stored(self)
    }
    fn deleted(index: &mut Index, key: &str) -> BTreeSet<String> {
        index.change_deleted(key)
    }
    fn governor(_: &str) -> Option<String> {
        None
    }
    fn gone(_: &str) -> Option<String> {
        Some("garbage".to_owned())
    }
}

indexed!(crds::Approval, approval_stored, approval_deleted, |_| None);
indexed!(crds::Evidence, evidence_stored, evidence_deleted, |_| None);
indexed!(crds::Action, action_stored, action_deleted, |_| None);
indexed!(crds::System, system_stored, system_deleted, |key| Some(format!("system/{key}")));
indexed!(crds::Person, person_stored, person_deleted, |_| Some("persons".to_owned()));
indexed!(crds::ChangePolicy, policy_stored, policy_deleted, |_| Some("policies".to_owned()));
indexed!(crds::RolloutPlan, rollout_plan_stored, rollout_plan_deleted, |key| Some(format!("plan/{key}")));
indexed!(crds::Rollout, rollout_stored, rollout_deleted, |_| None);
indexed!(crds::BackupPolicy, backup_policy_stored, backup_policy_deleted, |_| None);
indexed!(crds::BackupRepository, backup_repository_stored, backup_repository_deleted, |_| None);
indexed!(crds::Backup, backup_stored, backup_deleted, |_| None);
indexed!(crds::RestoreDrill, restore_drill_stored, restore_drill_deleted, |_| None);
indexed!(crds::DrillRun, drill_run_stored, drill_run_deleted, |_| None);
indexed!(crds::Calendar, calendar_stored, calendar_deleted, |_| Some("calendars".to_owned()));

impl Indexed for Namespace {
    fn stored(&self, index: &mut Index) -> BTreeSet<String> {
        index.namespace_stored(self);
        BTreeSet::new()
    }
    fn deleted(index: &mut Index, key: &str) -> BTreeSet<String> {
        index.namespace_deleted(key);
        BTreeSet::new()
    }
    fn governor(key: &str) -> Option<String> {
        Some(format!("namespace/{key}"))
    }
}

/// Watches everything that the index keeps. The receiver turns true when the whole present state was seen once.
pub fn spawn(client: &Client, index: &Arc<RwLock<Index>>, wake: &Wake, shutdown: &Shutdown) -> watch::Receiver<usize> {
    let (done, synced) = watch::channel(0);
    let done = Arc::new(done);
    macro_rules! each {
        ($($kind:ty),*) => { $(
            let feeder = Feeder { index: Arc::clone(index), wake: wake.clone(), done: Arc::clone(&done), known: HashSet::new(), listed: HashSet::new(), counted: false };
            tokio::spawn(feeder.run::<$kind>(Api::all(client.clone()), shutdown.clone()));
        )* };
    }
    each!(
        crds::ChangeRequest,
        crds::Approval,
        crds::Evidence,
        crds::Action,
        crds::System,
        crds::Person,
        crds::ChangePolicy,
        crds::Calendar,
        crds::RolloutPlan,
        crds::Rollout,
        crds::BackupPolicy,
        crds::BackupRepository,
        crds::Backup,
        crds::RestoreDrill,
        crds::DrillRun,
        Namespace
    );
    synced
}

/// How many kinds [`spawn`] watches.
pub const KINDS: usize = 16;

struct Feeder {
    index: Arc<RwLock<Index>>,
    wake: Wake,
    done: Arc<watch::Sender<usize>>,
    known: HashSet<String>,
    listed: HashSet<String>,
    counted: bool,
}

impl Feeder {
    async fn run<K: Indexed>(mut self, api: Api<K>, shutdown: Shutdown) {
        let config = watcher::Config::default().streaming_lists();
        let mut events = pin!(watcher(api, config).default_backoff());
        loop {
            let event = tokio::select! {
                () = shutdown.triggered() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.take(event),
                Some(Err(error)) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "the watch broke and is taken up again");
                }
                None => return,
            }
        }
    }

    fn take<K: Indexed>(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                self.listed.insert(key_of(object.meta()));
                self.stored(&object);
            }
            Event::InitDone => {
                let gone: Vec<_> = self.known.difference(&self.listed).cloned().collect();
                for key in gone {
                    self.deleted::<K>(&key);
                }
                self.listed = HashSet::new();
                if !self.counted {
                    self.counted = true;
                    self.done.send_modify(|count| *count += 1);
                }
            }
            Event::Apply(object) => self.stored(&object),
            Event::Delete(object) => self.deleted::<K>(&key_of(object.meta())),
        }
    }

    fn stored<K: Indexed>(&mut self, object: &K) {
        let key = key_of(object.meta());
        let woken = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let changes = object.stored(&mut index);
            let (rollouts, backups) = (index.take_woken_rollouts(), index.take_woken_backups());
            Woken { changes, rollouts, backups, governor: K::governor(&key) }
        };
        self.tell(woken);
        self.known.insert(key);
    }

    fn deleted<K: Indexed>(&mut self, key: &str) {
        self.known.remove(key);
        let woken = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let changes = K::deleted(&mut index, key);
            let (rollouts, backups) = (index.take_woken_rollouts(), index.take_woken_backups());
            Woken { changes, rollouts, backups, governor: K::gone(key) }
        };
        self.tell(woken);
    }

    fn tell(&self, woken: Woken) {
        // A closed channel means that the process is ending.
        for change in woken.changes {
            let _ = self.wake.changes.send(change);
        }
        for rollout in woken.rollouts {
            let _ = self.wake.rollouts.send(rollout);
        }
        for backup in woken.backups {
            let _ = self.wake.backups.send(backup.waiter());
        }
        if let Some(governor) = woken.governor {
            if governor.starts_with("system/") {
                let _ = self.wake.governors.send(WEBHOOKS.to_owned());
            }
            let _ = self.wake.governors.send(governor);
        }
    }
}
