//! Policies, repositories and runs of backups, by the questions that their passes ask.
//!
//! However many runs a policy has, what is asked of them costs a look into an ordered map: the newest good point, the newest
//! proven one, the newest run that ended, those that are active.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use interlock_core::backup::{
    exposure::{Standing, good_point, is_expired, is_proven, standing},
    maintenance::SeenByRuns,
};
use interlock_crds::{self as crds, BackupMode, BackupPhase, LastRun, PointRef};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Index, key_of};

/// What a pass over backups is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackupKey {
    /// A BackupPolicy, `namespace/name`.
    Policy(String),
    /// A Backup, `namespace/name`.
    Run(String),
    /// A BackupRepository, `namespace/name`.
    Repository(String),
    /// A RestoreDrill, `namespace/name`.
    Drill(String),
    /// A DrillRun, `namespace/name`.
    DrillRun(String),
    /// What no drill knows of any more.
    DrillOrphans,
}

impl BackupKey {
    /// As it is written where waiters and queues want a text: no namespace has a colon in its name.
    pub fn waiter(&self) -> String {
        match self {
            Self::Policy(key) => format!("backup-policy:{key}"),
            Self::Run(key) => format!("backup:{key}"),
            Self::Repository(key) => format!("backup-repository:{key}"),
            Self::Drill(key) => format!("drill:{key}"),
            Self::DrillRun(key) => format!("drill-run:{key}"),
            Self::DrillOrphans => "drill-orphans:".to_owned(),
        }
    }

    /// Reads what [`Self::waiter`] wrote.
    pub fn of_waiter(waiter: &str) -> Option<Self> {
        let (kind, key) = waiter.split_once(':')?;
        match kind {
            "backup-policy" => Some(Self::Policy(key.to_owned())),
            "backup" => Some(Self::Run(key.to_owned())),
            "backup-repository" => Some(Self::Repository(key.to_owned())),
            "drill" => Some(Self::Drill(key.to_owned())),
            "drill-run" => Some(Self::DrillRun(key.to_owned())),
            "drill-orphans" => Some(Self::DrillOrphans),
            _ => None,
        }
    }
}

/// A moment and the name of a run: runs in the order of time.
type Moment = (Timestamp, String);

/// The runs of one policy.
#[derive(Debug, Default)]
struct Runs {
    /// Names of all.
    names: BTreeSet<String>,
    /// Those that have not ended.
    active: BTreeSet<String>,
    /// Those that have, by when.
    ended: BTreeMap<Moment, LastRun>,
    /// Of those the ones that left no recovery point, or whose point was forgotten.
    pointless: BTreeSet<Moment>,
    /// Of those the ones that succeeded.
    succeeded: BTreeSet<Moment>,
    /// Points by the time of their data that are good by themselves, whatever their base is worth.
    good: BTreeMap<Moment, Good>,
    /// Of those the ones for which everything was read.
    full: BTreeSet<Moment>,
    /// Of those the ones that drills have proved.
    proven: BTreeSet<Moment>,
    /// Snapshots on which nothing that counts is based: drills found them bad, or a prune may have removed them.
    unsound: BTreeSet<String>,
    /// How many recovery points there are, good or not.
    points: usize,
}

/// A point that is good by itself.
#[derive(Debug)]
struct Good {
    point: PointRef,
    base: Option<String>,
}

/// What the runs of a policy come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunsSummary {
    /// The run that has not ended; the oldest if there are several.
    pub active: Option<String>,
    /// The newest run that ended.
    pub last_run: Option<LastRun>,
    /// How many seconds it took, from when its Job was made.
    pub last_run_seconds: Option<i64>,
    /// How many runs in a row did not succeed.
    pub consecutive_failures: u32,
    /// When a run last succeeded.
    pub last_success: Option<Timestamp>,
    /// The newest good point.
    pub last_good: Option<PointRef>,
    /// The newest proven point.
    pub last_proven: Option<PointRef>,
    /// The newest good point for which everything was read.
    pub last_full: Option<PointRef>,
    /// How many recovery points there are.
    pub points: u32,
    /// Records of runs without a recovery point that are too many, the oldest first.
    pub surplus: Vec<String>,
    /// The newest run that ended whose Job is no longer kept.
    pub old_job: Option<String>,
}

/// So many records of runs without a recovery point are kept for each policy.
const KEPT_RECORDS: usize = 20;
/// Jobs of so many runs that ended are kept for each policy, for whoever reads their logs.
const KEPT_JOBS: usize = 5;

/// What is kept of backups.
#[derive(Debug, Default)]
pub(super) struct Backups {
    policies: BTreeMap<String, Arc<crds::BackupPolicy>>,
    repositories: BTreeMap<String, Arc<crds::BackupRepository>>,
    runs: BTreeMap<String, Arc<crds::Backup>>,
    /// Keys of policies by that of their repository.
    policies_of_repository: HashMap<String, BTreeSet<String>>,
    /// By `namespace/name` of the policy and its uid: another policy of the name has nothing to do with earlier runs.
    of_policy: HashMap<String, Runs>,
    /// Where in `of_policy` each run is, by its key.
    place_of: HashMap<String, String>,
    /// Runs that have not let go of their repository, by its key.
    at_repository: HashMap<String, BTreeSet<String>>,
    key_of_uid: HashMap<String, String>,
    /// By uid of the repository.
    seen: HashMap<String, SeenByRuns>,
    pub(super) woken: BTreeSet<BackupKey>,
}

impl Index {
    /// A BackupPolicy was stored.
    pub fn backup_policy_stored(&mut self, object: &crds::BackupPolicy) -> BTreeSet<String> {
        let key = key_of(&object.metadata);
        let repository = beside(&key, &object.spec.repository_ref.name);
        if let Some(known) = self.backups.policies.get(&key) {
            let before = beside(&key, &known.spec.repository_ref.name);
            super::remove_from(&mut self.backups.policies_of_repository, &before, &key);
        }
        self.backups.policies_of_repository.entry(repository.clone()).or_default().insert(key.clone());
        let known = self.backups.policies.insert(key.clone(), Arc::new(object.clone()));
        // A slot that is due asks the run that it replaces to end.
        let slots = |policy: &crds::BackupPolicy| policy.status.as_ref().map(|status| status.schedules.clone());
        let means =
            |policy: &crds::BackupPolicy| (policy.metadata.generation, validity(policy).cloned(), slots(policy));
        if known.as_ref().is_none_or(|known| means(known) != means(object)) {
            self.wake_drills_of_policy(&key);
            self.wake_active(&key);
            self.backups.woken.insert(BackupKey::Repository(repository));
        }
        // What a gate looks at.
        let is_same = known.is_some_and(|known| rpo(&known) == rpo(object));
        let woken = if is_same { BTreeSet::new() } else { self.proof_changed(&key) };
        self.backups.woken.insert(BackupKey::Policy(key));
        woken
    }

    /// A BackupPolicy was deleted.
    pub fn backup_policy_deleted(&mut self, key: &str) -> BTreeSet<String> {
        if let Some(known) = self.backups.policies.remove(key) {
            let repository = beside(key, &known.spec.repository_ref.name);
            super::remove_from(&mut self.backups.policies_of_repository, &repository, key);
        }
        self.wake_active(key);
        self.wake_drills_of_policy(key);
        self.backups.woken.insert(BackupKey::Policy(key.to_owned()));
        self.proof_changed(key)
    }

    /// A BackupRepository was stored.
    pub fn backup_repository_stored(&mut self, object: &crds::BackupRepository) -> BTreeSet<String> {
        let key = key_of(&object.metadata);
        let known = self.backups.repositories.insert(key.clone(), Arc::new(object.clone()));
        let condition = |repository: &crds::BackupRepository| {
            let status = repository.status.clone().unwrap_or_default();
            (repository.metadata.generation, status.phase, status.repository_id)
        };
        if known.as_ref().is_none_or(|known| condition(known) != condition(object)) {
            for policy in self.backups.policies_of_repository.get(&key).cloned().unwrap_or_default() {
                self.wake_active(&policy);
                self.backups.woken.insert(BackupKey::Policy(policy));
            }
            self.wake_drills_at_repository(&key);
        }
        let holders = |repository: &crds::BackupRepository| {
            repository.status.as_ref().map(|status| status.holders.clone()).unwrap_or_default()
        };
        // Whoever was let in goes on.
        let before: BTreeSet<_> = known.iter().flat_map(|known| holders(known)).map(|holder| holder.uid).collect();
        let let_in: Vec<_> = holders(object).into_iter().filter(|holder| !before.contains(&holder.uid)).collect();
        for holder in &let_in {
            self.backups.woken.extend(self.backups.key_of_uid.get(&holder.uid).cloned().map(BackupKey::Run));
            self.wake_drill_run_of_uid(&holder.uid);
        }
        let changes = if let_in.is_empty() { BTreeSet::new() } else { self.changes_at_repository(&key) };
        self.backups.woken.insert(BackupKey::Repository(key));
        changes
    }

    /// A BackupRepository was deleted.
    pub fn backup_repository_deleted(&mut self, key: &str) -> BTreeSet<String> {
        let known = self.backups.repositories.remove(key);
        self.backups.seen.remove(known.and_then(|known| known.metadata.uid.clone()).unwrap_or_default().as_str());
        let policies = self.backups.policies_of_repository.get(key).into_iter().flatten().cloned();
        self.backups.woken.extend(policies.map(BackupKey::Policy));
        let waiting = self.backups.at_repository.get(key).into_iter().flatten().cloned();
        self.backups.woken.extend(waiting.map(BackupKey::Run));
        self.wake_drills_at_repository(key);
        self.backups.woken.insert(BackupKey::Repository(key.to_owned()));
        BTreeSet::new()
    }

    /// A Backup was stored.
    pub fn backup_stored(&mut self, object: &crds::Backup) -> BTreeSet<String> {
        let key = key_of(&object.metadata);
        let run = slim(object);
        let name = run.metadata.name.clone().unwrap_or_default();
        let policy = beside(&key, &run.spec.policy_ref.name);
        let before = self.last_good(&policy);
        self.forget_run(&key);
        let place = self.place(&policy, &run);
        self.backups.of_policy.entry(place.clone()).or_default().take(&name, &run);
        self.backups.place_of.insert(key.clone(), place);
        if let Some(uid) = &run.metadata.uid {
            self.backups.key_of_uid.insert(uid.clone(), key.clone());
        }
        if let Some(repository) = repository_of(&key, &run) {
            if is_at_repository(&run) {
                self.backups.at_repository.entry(repository.clone()).or_default().insert(key.clone());
            }
            let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref());
            if let Some(uid) = pinned.map(|pinned| pinned.repository_uid.clone()) {
                self.backups.seen.entry(uid).or_default().learn(&run);
            }
            self.backups.woken.insert(BackupKey::Repository(repository));
        }
        self.backups.woken.insert(BackupKey::Policy(policy.clone()));
        self.backups.woken.insert(BackupKey::Run(key.clone()));
        self.backups.runs.insert(key, Arc::new(run));
        self.exposure_changed(&policy, before.as_ref())
    }

    /// A Backup was deleted.
    pub fn backup_deleted(&mut self, key: &str) -> BTreeSet<String> {
        self.backups.woken.insert(BackupKey::Run(key.to_owned()));
        let Some(policy) = self.backup(key).map(|run| beside(key, &run.spec.policy_ref.name)) else {
            return BTreeSet::new();
        };
        let before = self.last_good(&policy);
        if let Some(run) = self.forget_run(key) {
            self.backups.woken.extend(repository_of(key, &run).map(BackupKey::Repository));
        }
        self.backups.woken.insert(BackupKey::Policy(policy.clone()));
        self.exposure_changed(&policy, before.as_ref())
    }

    /// The newest good point of a policy was `before`: who waits for another one.
    fn exposure_changed(&mut self, policy: &str, before: Option<&PointRef>) -> BTreeSet<String> {
        let has_objective = self.backups.policies.get(policy).is_some_and(|known| rpo(known).is_some());
        if has_objective && self.last_good(policy).as_ref() != before {
            return self.proof_changed(policy);
        }
        BTreeSet::new()
    }

    fn forget_run(&mut self, key: &str) -> Option<Arc<crds::Backup>> {
        let run = self.backups.runs.remove(key)?;
        if let Some(place) = self.backups.place_of.remove(key)
            && let Some(runs) = self.backups.of_policy.get_mut(&place)
        {
            runs.leave(run.metadata.name.as_deref().unwrap_or_default(), &run);
            if runs.names.is_empty() {
                self.backups.of_policy.remove(&place);
            }
        }
        if let Some(repository) = repository_of(key, &run) {
            super::remove_from(&mut self.backups.at_repository, &repository, key);
        }
        self.backups.key_of_uid.remove(run.metadata.uid.as_deref().unwrap_or_default());
        Some(run)
    }

    /// Where the runs of the policy `namespace/name`, as it is now, are kept.
    fn place_now(&self, policy: &str) -> String {
        let uid = self.backups.policies.get(policy).and_then(|policy| policy.metadata.uid.as_deref());
        format!("{policy} {}", uid.unwrap_or_default())
    }

    /// Where a run of the policy `namespace/name` is kept: with those of the policy that it was made for.
    fn place(&self, policy: &str, run: &crds::Backup) -> String {
        let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref()).map(|pinned| &pinned.policy_uid);
        match pinned.or(run.spec.policy_uid.as_ref()) {
            Some(uid) => format!("{policy} {uid}"),
            None => self.place_now(policy),
        }
    }

    fn wake_active(&mut self, policy: &str) {
        // Runs that name no uid and were asked for before the policy was known are kept apart.
        for place in BTreeSet::from([self.place_now(policy), format!("{policy} ")]) {
            let active = self.backups.of_policy.get(&place).into_iter().flat_map(|runs| &runs.active);
            self.backups.woken.extend(active.map(|name| BackupKey::Run(beside(policy, name))));
        }
    }

    /// Another System lists the namespace now, or has another executor.
    pub(super) fn wake_backups_in(&mut self, namespace: &str) {
        for policy in self.policies_in(namespace) {
            self.wake_active(&policy);
            self.backups.woken.insert(BackupKey::Policy(policy));
        }
        let repositories = in_namespace(&self.backups.repositories, namespace).into_iter();
        self.backups.woken.extend(repositories.map(BackupKey::Repository));
        self.wake_drills_in(namespace);
    }

    /// What is to be looked at again since this was asked last.
    pub fn take_woken_backups(&mut self) -> BTreeSet<BackupKey> {
        std::mem::take(&mut self.backups.woken)
    }

    /// Every policy and repository, and every run that has not let go of everything.
    pub fn all_backups(&self) -> BTreeSet<BackupKey> {
        let runs = self.backups.runs.iter().filter(|(_, run)| is_at_repository(run));
        let runs = runs.map(|(key, _)| BackupKey::Run(key.clone()));
        let policies = self.backups.policies.keys().cloned().map(BackupKey::Policy);
        let repositories = self.backups.repositories.keys().cloned().map(BackupKey::Repository);
        runs.chain(policies).chain(repositories).chain(self.all_drills()).collect()
    }

    /// The BackupPolicy of this key.
    pub fn backup_policy(&self, key: &str) -> Option<Arc<crds::BackupPolicy>> {
        self.backups.policies.get(key).cloned()
    }

    /// The BackupRepository of this key.
    pub fn backup_repository(&self, key: &str) -> Option<Arc<crds::BackupRepository>> {
        self.backups.repositories.get(key).cloned()
    }

    /// The Backup of this key.
    pub fn backup(&self, key: &str) -> Option<Arc<crds::Backup>> {
        self.backups.runs.get(key).cloned()
    }

    /// The Backup of this uid.
    pub fn backup_of_uid(&self, uid: &str) -> Option<Arc<crds::Backup>> {
        self.backups.runs.get(self.backups.key_of_uid.get(uid)?).cloned()
    }

    /// What the runs of a policy come to.
    pub fn backup_runs(&self, policy: &str) -> RunsSummary {
        let mut summary = self.backups.of_policy.get(&self.place_now(policy)).map(Runs::summary).unwrap_or_default();
        let last = summary.last_run.as_ref().and_then(|last| self.backup(&beside(policy, &last.name)));
        summary.last_run_seconds = last.and_then(|run| took(&run));
        summary
    }

    /// The newest good point of a policy.
    pub fn last_good(&self, policy: &str) -> Option<PointRef> {
        self.backups.of_policy.get(&self.place_now(policy)).and_then(Runs::last_good)
    }

    /// The runs of a policy: for what looks at all of them, such as retention and the choice of a drill.
    pub fn backups_of(&self, policy: &str) -> Vec<Arc<crds::Backup>> {
        let names = self.backups.of_policy.get(&self.place_now(policy)).into_iter().flat_map(|runs| &runs.names);
        names.filter_map(|name| self.backup(&beside(policy, name))).collect()
    }

    /// Names of the runs whose recovery point is there and cannot be restored without that of this one.
    pub fn needing(&self, key: &str) -> Vec<String> {
        // A run that has not ended adds to the base that it is pinned to.
        let base = |run: &crds::Backup| {
            let status = run.status.as_ref()?;
            let adds_to = status.pinned.as_ref().filter(|_| !status.phase.is_terminal());
            let point = status.point.as_ref().filter(|_| standing(run).is_some());
            point.map_or_else(|| adds_to?.base_id.clone(), |point| point.base_id.clone())
        };
        let snapshot = self.backup(key).and_then(|run| Some(run.status.as_ref()?.point.as_ref()?.snapshot_id.clone()));
        let runs = self.backups.place_of.get(key).and_then(|place| self.backups.of_policy.get(place));
        let (Some(snapshot), Some(runs)) = (snapshot, runs) else { return Vec::new() };
        let needs = |run: &crds::Backup| base(run).as_ref() == Some(&snapshot);
        let names = runs.names.iter();
        names.filter(|name| self.backup(&beside(key, name)).is_some_and(|run| needs(&run))).cloned().collect()
    }

    /// Keys of the policies of a namespace.
    pub(super) fn policies_in(&self, namespace: &str) -> Vec<String> {
        in_namespace(&self.backups.policies, namespace)
    }

    /// Policies that put their backups into a repository.
    pub fn policies_of_repository(&self, repository: &str) -> Vec<Arc<crds::BackupPolicy>> {
        let keys = self.backups.policies_of_repository.get(repository).into_iter().flatten();
        keys.filter_map(|key| self.backup_policy(key)).collect()
    }

    /// Runs that wait for a repository or hold it.
    pub fn runs_at_repository(&self, repository: &str) -> Vec<Arc<crds::Backup>> {
        let keys = self.backups.at_repository.get(repository).into_iter().flatten();
        keys.filter_map(|key| self.backup(key)).collect()
    }

    /// What runs found out about a repository.
    pub fn seen_by_runs(&self, repository: &str) -> SeenByRuns {
        let known = self.backups.repositories.get(repository);
        let uid = known.and_then(|known| known.metadata.uid.as_ref());
        let mut seen = uid.and_then(|uid| self.backups.seen.get(uid)).cloned().unwrap_or_default();
        let policies = self.backups.policies_of_repository.get(repository).into_iter().flatten();
        let points: usize = policies
            .filter_map(|policy| self.backups.of_policy.get(&self.place_now(policy)))
            .map(|runs| runs.points)
            .sum();
        seen.points = u32::try_from(points).unwrap_or(u32::MAX);
        let status = known.and_then(|known| known.status.as_ref());
        if seen.id.is_none() && status.is_none_or(|status| status.repository_id.is_none()) {
            seen.id = self.id_in_points(repository);
        }
        seen
    }

    /// restic's id of the repository in which the newest point of its policies lies. A BackupRepository that was deleted and is
    /// made again is of another uid, and yet no fresh start: the points are in what was there before.
    fn id_in_points(&self, repository: &str) -> Option<String> {
        let (_, name) = repository.split_once('/')?;
        let policies = self.backups.policies_of_repository.get(repository).into_iter().flatten();
        let points = policies.flat_map(|policy| self.backups_of(policy)).filter_map(|run| {
            standing(&run)?;
            let status = run.status.as_ref()?;
            let pinned = status.pinned.as_ref().filter(|pinned| pinned.repository == name)?;
            Some((status.point.as_ref()?.data_time.0, pinned.repository_id.clone()?))
        });
        points.max().map(|(_, id)| id)
    }
}

impl Runs {
    fn take(&mut self, name: &str, run: &crds::Backup) {
        self.names.insert(name.to_owned());
        let status = run.status.as_ref();
        let phase = status.map(|status| status.phase).unwrap_or_default();
        if !phase.is_terminal() {
            self.active.insert(name.to_owned());
        }
        if let Some((moment, last)) = ended(name, run) {
            if phase == BackupPhase::Succeeded {
                self.succeeded.insert(moment.clone());
            }
            if standing(run).is_none() && !is_at_repository(run) {
                self.pointless.insert(moment.clone());
            }
            self.ended.insert(moment, last);
        }
        self.points += usize::from(standing(run).is_some());
        if let Some(point) = good_point(run) {
            let moment = (point.data_time.0, name.to_owned());
            if is_proven(run) {
                self.proven.insert(moment.clone());
            }
            if run.spec.mode == BackupMode::Full {
                self.full.insert(moment.clone());
            }
            let base = status.and_then(|status| status.point.as_ref()?.base_id.clone());
            self.good.insert(moment, Good { point, base });
        }
        self.unsound.extend(unsound(run).map(ToOwned::to_owned));
    }

    fn leave(&mut self, name: &str, run: &crds::Backup) {
        self.names.remove(name);
        self.active.remove(name);
        if let Some((moment, _)) = ended(name, run) {
            self.ended.remove(&moment);
            self.succeeded.remove(&moment);
            self.pointless.remove(&moment);
        }
        self.points -= usize::from(standing(run).is_some());
        if let Some(point) = good_point(run) {
            let moment = (point.data_time.0, name.to_owned());
            self.good.remove(&moment);
            self.full.remove(&moment);
            self.proven.remove(&moment);
        }
        if let Some(snapshot) = unsound(run) {
            self.unsound.remove(snapshot);
        }
    }

    fn surplus(&self) -> Vec<String> {
        let count = self.pointless.len().saturating_sub(KEPT_RECORDS);
        self.pointless.iter().take(count.min(KEPT_RECORDS)).map(|(_, name)| name.clone()).collect()
    }

    /// Only what follows on an unsound base is passed over.
    fn last_good(&self) -> Option<PointRef> {
        self.good.values().rev().find(|good| self.counts(good)).map(|good| good.point.clone())
    }

    fn counts(&self, good: &Good) -> bool {
        good.base.as_ref().is_none_or(|base| !self.unsound.contains(base))
    }

    fn summary(&self) -> RunsSummary {
        let failures = self.ended.values().rev().take_while(|run| run.phase != BackupPhase::Succeeded);
        let failures = failures.filter(|run| matches!(run.phase, BackupPhase::Failed | BackupPhase::PartiallyFailed));
        let point = |good: &Good| good.point.clone();
        let mut proven = self.proven.iter().rev().filter_map(|at| self.good.get(at));
        RunsSummary {
            active: self.active.first().cloned(),
            last_run: self.ended.values().next_back().cloned(),
            last_run_seconds: None,
            consecutive_failures: u32::try_from(failures.count()).unwrap_or(u32::MAX),
            last_success: self.succeeded.last().map(|(at, _)| *at),
            last_good: self.last_good(),
            last_proven: proven.find(|good| self.counts(good)).map(point),
            last_full: self.full.last().and_then(|at| self.good.get(at)).map(point),
            points: u32::try_from(self.points).unwrap_or(u32::MAX),
            surplus: self.surplus(),
            old_job: self.ended.keys().rev().nth(KEPT_JOBS).map(|(_, name)| name.clone()),
        }
    }
}

/// The snapshot of a run, if a drill found it bad or a prune may have removed it.
fn unsound(run: &crds::Backup) -> Option<&str> {
    let is_unsound = standing(run) == Some(Standing::Corrupt) || is_expired(run);
    run.status.as_ref()?.point.as_ref().filter(|_| is_unsound).map(|point| point.snapshot_id.as_str())
}

fn ended(name: &str, run: &crds::Backup) -> Option<(Moment, LastRun)> {
    let status = run.status.as_ref().filter(|status| status.phase.is_terminal())?;
    let finished_at = status.finished_at.clone()?;
    let last = LastRun {
        name: name.to_owned(),
        phase: status.phase,
        reason: status.reason.clone(),
        finished_at: finished_at.clone(),
    };
    Some(((finished_at.0, name.to_owned()), last))
}

/// How many seconds a run took; none if it never had a Job.
fn took(run: &crds::Backup) -> Option<i64> {
    let status = run.status.as_ref()?;
    let (started, finished) = (status.started_at.as_ref()?, status.finished_at.as_ref()?);
    Some(finished.0.duration_since(started.0).as_secs().max(0))
}

/// Whether a run waits for its repository, holds it, or has not let go of it.
fn is_at_repository(run: &crds::Backup) -> bool {
    let kept = run.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == crate::backup::FINALIZER);
    kept || !run.status.as_ref().is_some_and(|status| status.phase.is_terminal())
}

/// The key of the repository that a run works with.
fn repository_of(key: &str, run: &crds::Backup) -> Option<String> {
    let pinned = run.status.as_ref().and_then(|status| status.pinned.as_ref()).map(|pinned| &pinned.repository);
    let name = pinned.or(run.spec.repository_ref.as_ref().map(|named| &named.name))?;
    Some(beside(key, name))
}

/// How old the data of a policy may be.
fn rpo(policy: &crds::BackupPolicy) -> Option<crds::Duration> {
    policy.spec.objectives.as_ref()?.rpo
}

/// What a policy's own pass found out about whether it can be used.
pub(crate) fn validity(policy: &crds::BackupPolicy) -> Option<&Condition> {
    policy.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == "Valid")
}

/// The keys of what is in a namespace.
pub(super) fn in_namespace<T>(all: &BTreeMap<String, T>, namespace: &str) -> Vec<String> {
    let prefix = format!("{namespace}/");
    let keys = all.range(prefix.clone()..).map(|(key, _)| key);
    keys.take_while(|key| key.starts_with(&prefix)).cloned().collect()
}

/// The key of the object `name` in the namespace of `key`.
pub(crate) fn beside(key: &str, name: &str) -> String {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    format!("{namespace}/{name}")
}

/// What is kept of a run: not its log, and not who wrote which of its fields.
fn slim(run: &crds::Backup) -> crds::Backup {
    let mut run = run.clone();
    run.metadata.managed_fields = None;
    if let Some(status) = &mut run.status {
        status.log_tail = None;
    }
    run
}
