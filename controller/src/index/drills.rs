//! Restore drills and their runs, by the questions that their passes, and gates, ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use interlock_core::{
    change::facts::SystemFacts,
    drill::{
        proof::{self, DrillProof, PolicyProof, Proof},
        run, status,
    },
};
use interlock_crds::{self as crds, CleanupState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    BackupKey, ChangeKey, Index,
    backups::{beside, in_namespace},
    key_of,
};

/// What is kept of drills.
#[derive(Debug, Default)]
pub(super) struct Drills {
    by_key: BTreeMap<String, Arc<crds::RestoreDrill>>,
    runs: BTreeMap<String, Arc<crds::DrillRun>>,
    /// Keys of drills by that of their policy.
    of_policy: HashMap<String, BTreeSet<String>>,
    /// Keys of runs by that of their drill.
    of_drill: HashMap<String, BTreeSet<String>>,
    key_of_uid: HashMap<String, String>,
    /// Runs that have not let go of their repository, by its key.
    at_repository: HashMap<String, BTreeSet<String>>,
    /// Namespaces that are sandboxes, with their own uid and that of their run.
    sandboxes: BTreeMap<String, (String, String)>,
}

impl Index {
    /// A RestoreDrill was stored.
    pub fn restore_drill_stored(&mut self, object: &crds::RestoreDrill) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        self.forget_drill(&key);
        let policy = beside(&key, &object.spec.policy_ref.name);
        self.drills.of_policy.entry(policy).or_default().insert(key.clone());
        let known = self.drills.by_key.insert(key.clone(), Arc::new(object.clone()));
        let spec = |drill: &crds::RestoreDrill| drill.metadata.generation;
        if known.as_ref().is_none_or(|known| spec(known) != spec(object)) {
            self.wake_drill(&key);
        }
        self.backups.woken.insert(BackupKey::Drill(key.clone()));
        // What a gate looks at.
        let proof = |drill: &crds::RestoreDrill| {
            let results = drill.status.as_ref().map(status::recorded).unwrap_or_default();
            let due = (drill.spec.schedule.clone(), drill.spec.time_zone.clone());
            (drill.spec.policy_ref.clone(), due, results.passed, results.failed)
        };
        if known.is_some_and(|known| proof(&known) == proof(object)) {
            return BTreeSet::new();
        }
        self.proof_changed(&key)
    }

    /// A RestoreDrill was deleted.
    pub fn restore_drill_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        self.forget_drill(key);
        self.drills.by_key.remove(key);
        self.backups.woken.insert(BackupKey::Drill(key.to_owned()));
        let runs = self.drills.of_drill.get(key).into_iter().flatten().cloned();
        self.backups.woken.extend(runs.map(BackupKey::DrillRun));
        self.proof_changed(key)
    }

    /// What the drills of the System of this one prove is another matter now: who waits for that.
    pub(super) fn proof_changed(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        let changes = self.changes_beside(key);
        let running = changes.iter().filter_map(|change| self.live(change)).filter(|live| live.running);
        for uid in running.map(|live| live.request.uid.clone()).collect::<Vec<_>>() {
            self.wake_rollouts(&uid);
        }
        changes
    }

    fn forget_drill(&mut self, key: &str) {
        if let Some(known) = self.drills.by_key.get(key) {
            let policy = beside(key, &known.spec.policy_ref.name);
            super::remove_from(&mut self.drills.of_policy, &policy, key);
        }
    }

    /// A DrillRun was stored.
    pub fn drill_run_stored(&mut self, object: &crds::DrillRun) -> BTreeSet<ChangeKey> {
        let key = key_of(&object.metadata);
        self.forget_drill_run(&key);
        let mut run = object.clone();
        run.metadata.managed_fields = None;
        let drill = beside(&key, &run.spec.drill_ref.name);
        self.drills.of_drill.entry(drill.clone()).or_default().insert(key.clone());
        if let Some(uid) = &run.metadata.uid {
            self.drills.key_of_uid.insert(uid.clone(), key.clone());
        }
        if let Some(repository) = repository_of(&key, &run) {
            if holds_on(&run) {
                self.drills.at_repository.entry(repository.clone()).or_default().insert(key.clone());
            }
            self.backups.woken.insert(BackupKey::Repository(repository));
        }
        self.backups.woken.extend([BackupKey::DrillRun(key.clone()), BackupKey::Drill(drill)]);
        self.drills.runs.insert(key, Arc::new(run));
        BTreeSet::new()
    }

    /// A DrillRun was deleted.
    pub fn drill_run_deleted(&mut self, key: &str) -> BTreeSet<ChangeKey> {
        if let Some(run) = self.forget_drill_run(key) {
            self.backups.woken.extend(repository_of(key, &run).map(BackupKey::Repository));
            self.backups.woken.insert(BackupKey::Drill(beside(key, &run.spec.drill_ref.name)));
        }
        // Whoever takes finalizers away leaves something behind.
        self.backups.woken.extend([BackupKey::DrillRun(key.to_owned()), BackupKey::DrillOrphans]);
        BTreeSet::new()
    }

    fn forget_drill_run(&mut self, key: &str) -> Option<Arc<crds::DrillRun>> {
        let run = self.drills.runs.remove(key)?;
        super::remove_from(&mut self.drills.of_drill, &beside(key, &run.spec.drill_ref.name), key);
        if let Some(repository) = repository_of(key, &run) {
            super::remove_from(&mut self.drills.at_repository, &repository, key);
        }
        self.drills.key_of_uid.remove(run.metadata.uid.as_deref().unwrap_or_default());
        Some(run)
    }

    /// A namespace was stored that may be a sandbox.
    pub(super) fn sandbox_stored(&mut self, namespace: &k8s_openapi::api::core::v1::Namespace) {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        let component = labels.get("app.kubernetes.io/component").map(String::as_str);
        match labels.get(interlock_core::backup::pods::RUN_LABEL) {
            Some(run) if component == Some(interlock_core::drill::objects::SANDBOX_COMPONENT) => {
                let uid = namespace.metadata.uid.clone().unwrap_or_default();
                let entry = (uid, run.clone());
                let is_news = self.drills.sandboxes.insert(name, entry.clone()).as_ref() != Some(&entry);
                // Made by a run that somebody deleted meanwhile.
                if is_news && !self.drills.key_of_uid.contains_key(run) {
                    self.backups.woken.insert(BackupKey::DrillOrphans);
                }
            }
            _ => drop(self.drills.sandboxes.remove(&name)),
        }
    }

    /// A namespace is gone.
    pub(super) fn sandbox_deleted(&mut self, name: &str) {
        self.drills.sandboxes.remove(name);
    }

    /// Sandboxes whose run is not known, with their uid and that of their run.
    pub fn orphaned_sandboxes(&self) -> Vec<(String, String, String)> {
        let all = self.drills.sandboxes.iter();
        let orphans = all.filter(|(_, (_, run))| !self.drills.key_of_uid.contains_key(run));
        orphans.map(|(name, (uid, run))| (name.clone(), uid.clone(), run.clone())).collect()
    }

    pub(super) fn wake_drills_of_policy(&mut self, policy: &str) {
        for drill in self.drills.of_policy.get(policy).cloned().unwrap_or_default() {
            self.wake_drill(&drill);
        }
    }

    pub(super) fn wake_drills_in(&mut self, namespace: &str) {
        for drill in in_namespace(&self.drills.by_key, namespace) {
            self.wake_drill(&drill);
        }
    }

    /// A drill, and its runs that have not ended.
    fn wake_drill(&mut self, drill: &str) {
        let runs = self.drills.of_drill.get(drill).into_iter().flatten();
        let active = runs.filter(|run| self.drills.runs.get(*run).is_some_and(|run| is_active(run))).cloned();
        self.backups.woken.extend(active.map(BackupKey::DrillRun));
        self.backups.woken.insert(BackupKey::Drill(drill.to_owned()));
    }

    pub(super) fn wake_drills_at_repository(&mut self, repository: &str) {
        let runs = self.drills.at_repository.get(repository).into_iter().flatten().cloned();
        self.backups.woken.extend(runs.map(BackupKey::DrillRun));
        for policy in self.policies_of_repository(repository) {
            self.wake_drills_of_policy(&key_of(&policy.metadata));
        }
    }

    pub(super) fn wake_drill_run_of_uid(&mut self, uid: &str) {
        self.backups.woken.extend(self.drills.key_of_uid.get(uid).cloned().map(BackupKey::DrillRun));
    }

    /// Every drill, every run that is not over, and the orphans.
    pub(super) fn all_drills(&self) -> BTreeSet<BackupKey> {
        let drills = self.drills.by_key.keys().cloned().map(BackupKey::Drill);
        let runs = self.drills.runs.iter().filter(|(_, run)| !is_over(run));
        drills.chain(runs.map(|(key, _)| BackupKey::DrillRun(key.clone()))).chain([BackupKey::DrillOrphans]).collect()
    }

    /// The RestoreDrill of this key.
    pub fn restore_drill(&self, key: &str) -> Option<Arc<crds::RestoreDrill>> {
        self.drills.by_key.get(key).cloned()
    }

    /// The DrillRun of this key.
    pub fn drill_run(&self, key: &str) -> Option<Arc<crds::DrillRun>> {
        self.drills.runs.get(key).cloned()
    }

    /// The runs of a drill.
    pub fn runs_of_drill(&self, drill: &str) -> Vec<Arc<crds::DrillRun>> {
        let keys = self.drills.of_drill.get(drill).into_iter().flatten();
        keys.filter_map(|key| self.drill_run(key)).collect()
    }

    /// Runs of drills that wait for a repository or have not let go of it.
    pub fn drills_at_repository(&self, repository: &str) -> Vec<Arc<crds::DrillRun>> {
        let keys = self.drills.at_repository.get(repository).into_iter().flatten();
        keys.filter_map(|key| self.drill_run(key)).collect()
    }

    /// Ids of the snapshots that drills in the namespace of a policy need until their verdict: a drill may have gone over to
    /// another policy, or be gone, since its run was admitted.
    pub fn held_by_drills(&self, policy: &str) -> BTreeSet<String> {
        let namespace = policy.split_once('/').map_or("", |(namespace, _)| namespace);
        let keys = in_namespace(&self.drills.runs, namespace);
        run::holds(keys.iter().filter_map(|key| self.drills.runs.get(key)).map(Arc::as_ref))
    }

    /// What the drills of a System prove.
    pub fn restore_proof(&self, system: &SystemFacts) -> Proof {
        let mut policies: Vec<(String, Arc<crds::BackupPolicy>, Vec<Arc<crds::RestoreDrill>>)> = Vec::new();
        for namespace in &system.spec.namespaces {
            for key in self.policies_in(namespace) {
                let Some(policy) = self.backup_policy(&key) else { continue };
                let drills = self.drills.of_policy.get(&key).into_iter().flatten();
                let drills = drills.filter_map(|drill| self.restore_drill(drill)).collect();
                policies.push((key, policy, drills));
            }
        }
        let proofs: Vec<_> = policies
            .iter()
            .map(|(key, policy, drills)| {
                let last_good = self.last_good(key);
                let drills = drills.iter().map(|drill| drill_proof(drill)).collect();
                PolicyProof::new(key, &policy.spec, created_at(&policy.metadata), last_good.as_ref(), drills)
            })
            .collect();
        proof::proof(&proofs)
    }

    /// Changes that wait in the System of the namespace of `key`.
    fn changes_beside(&self, key: &str) -> BTreeSet<ChangeKey> {
        let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
        self.system_of(namespace).map(|system| self.changes_of_system(&system.resolved.name)).unwrap_or_default()
    }
}

fn drill_proof(drill: &crds::RestoreDrill) -> DrillProof<'_> {
    let results = drill.status.as_ref().map(status::recorded).unwrap_or_default();
    let name = drill.metadata.name.as_deref().unwrap_or_default();
    DrillProof::new(name, &drill.spec, created_at(&drill.metadata), results)
}

/// When an object was made. What is not known was long ago, so that what is owed since then is owed.
fn created_at(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0)
}

/// Whether its verdict has not fallen.
pub(crate) fn is_active(run: &crds::DrillRun) -> bool {
    !run.status.as_ref().is_some_and(|status| status.phase.is_terminal())
}

/// Whether nothing more is to be done for it.
pub(crate) fn is_over(run: &crds::DrillRun) -> bool {
    let kept = run.metadata.finalizers.iter().flatten().any(|f| f == interlock_core::drill::objects::FINALIZER);
    let done = run
        .status
        .as_ref()
        .is_some_and(|status| status.phase.is_terminal() && status.cleanup.state == CleanupState::Done);
    !kept && done
}

/// Whether it waits for its repository, or has not let go of it.
fn holds_on(run: &crds::DrillRun) -> bool {
    let status = run.status.as_ref();
    status.is_none_or(|status| status.repository_released_at.is_none() && (is_active(run) || !status.jobs.is_empty()))
}

/// The key of the repository that a run is pinned to.
fn repository_of(key: &str, run: &crds::DrillRun) -> Option<String> {
    let pinned = run.status.as_ref()?.pinned.as_ref()?;
    Some(beside(key, &pinned.repository))
}
