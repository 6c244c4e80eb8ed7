//! The repositories of a simulated cluster, and what the runner's pods do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interlock_core::{
    backup::{
        heartbeat::NONCE_DIGITS,
        plan::{PLAN_VARIABLE, RunnerPlan},
        result::{HeartbeatRead, RunResult, RunnerOperation, RunnerStage, SnapshotResult},
    },
    drill::{
        self,
        plan::{DrillPlan, DrillWork},
        report::{DrillReport, RestoredReport},
    },
    object::Digest,
};
use interlock_crds::ProbeResult;
use interlock_sim::workloads::Program;
use jiff::Timestamp;
use serde_json::Value;

/// What is wrong with the runs of a policy or repository, or with the pods of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// restic ends with this code at the stage of opening.
    Opens(i32),
    /// Some files cannot be read.
    Partial,
    /// The source has no files.
    Empty,
    /// The pod leaves no message.
    Silent,
    /// The pod of a run or of upkeep does its work and leaves no message.
    BreaksOff,
    /// The restore tool ends with this code and these words.
    Restores(i32, String),
    /// The restore tool says that all is well, and restored nothing.
    Lies,
    /// The network of the cluster enforces no policies.
    Unenforced,
    /// A validation does not hold, or finds an older heartbeat.
    Wrong,
}

/// A repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Its id.
    pub id: String,
    /// Times of its snapshots, by id.
    pub snapshots: BTreeMap<String, Timestamp>,
    /// Names of Secrets whose key was taken away.
    pub closed: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Content {
    repositories: BTreeMap<String, Repository>,
    /// By namespace and the beginning of a Job's name; the first that fits.
    troubles: Vec<(String, String, Trouble)>,
    /// By run of a drill: when the data was copied that it restored.
    restored: BTreeMap<String, Timestamp>,
}

impl Content {
    /// Where the repository lies that a plan means: what removes may be told another address of one that is known.
    fn place(&self, namespace: &str, plan: &RunnerPlan) -> String {
        let (here, id) = (format!("{namespace} "), plan.repository_id.as_deref());
        let stated = format!("{here}{}", plan.repository);
        if self.repositories.contains_key(&stated) {
            return stated;
        }
        let mut known = self.repositories.iter().filter(|(place, _)| place.starts_with(&here));
        known.find(|(_, repository)| Some(repository.id.as_str()) == id).map_or(stated, |(place, _)| place.clone())
    }
}

/// All repositories.
#[derive(Clone, Debug, Default)]
pub struct Vault(Arc<Mutex<Content>>);

impl Vault {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository at an address, seen from a namespace.
    pub fn repository(&self, namespace: &str, address: &str) -> Option<Repository> {
        self.lock().repositories.get(&format!("{namespace} {address}")).cloned()
    }

    /// Somebody empties the place of a repository.
    pub fn remove(&self, namespace: &str, address: &str) {
        self.lock().repositories.remove(&format!("{namespace} {address}"));
    }

    /// What the last container of a drill's pod says.
    fn drill(&self, pod: &Value, plan: &DrillPlan) -> Vec<(String, String)> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let mut content = self.lock();
        // Sandboxes have names that nobody knows beforehand: `*` is every namespace.
        let trouble =
            content.troubles.iter().find(|(of, begins, _)| (of == namespace || of == "*") && name.starts_with(begins));
        let trouble = trouble.map(|(.., trouble)| trouble.clone());
        if trouble == Some(Trouble::Silent) {
            return Vec::new();
        }
        let address = |repository: &str| format!("{namespace} {repository}");
        let repository = match &plan.work {
            DrillWork::Restore { repository, .. } => content.repositories.get(&address(repository)).cloned(),
            _ => None,
        };
        let inside = namespace != interlock_core::change::INTERLOCK_NAMESPACE;
        let copied = content.restored.get(&plan.run).copied();
        let report = report(plan, repository.as_ref(), copied, trouble.as_ref(), inside);
        let snapshot = report.restored.as_ref().map(|restored| &restored.snapshot_id);
        let copied = repository.as_ref().zip(snapshot).and_then(|(known, id)| known.snapshots.get(id).copied());
        if let Some(at) = copied {
            content.restored.insert(plan.run.clone(), at);
        }
        let Ok(message) = serde_json::to_string(&report) else { return Vec::new() };
        SPEAKERS.iter().map(|name| ((*name).to_owned(), message.clone())).collect()
    }

    /// From now on Jobs whose names begin so have this trouble; none: no more.
    pub fn trouble(&self, namespace: &str, job: &str, trouble: Option<Trouble>) {
        let mut content = self.lock();
        content.troubles.retain(|(of, name, _)| (of.as_str(), name.as_str()) != (namespace, job));
        content.troubles.extend(trouble.map(|trouble| (namespace.to_owned(), job.to_owned(), trouble)));
    }
}

/// Names of the containers of drills that leave a message: the last one of each pod.
const SPEAKERS: [&str; 5] = ["report", "probe", "fault", "validate", "wipe"];

impl Program for Vault {
    fn serves(&self, pod: &Value) -> bool {
        drill_plan(pod).is_some_and(|plan| matches!(plan.work, DrillWork::Serve { .. }))
            || component(pod).is_some_and(|component| matches!(component, "drill-application" | "drill-dependency"))
    }

    fn end(&self, pod: &Value, at: Timestamp) -> Vec<(String, String)> {
        if let Some(plan) = drill_plan(pod) {
            return self.drill(pod, &plan);
        }
        let Some(plan) = plan_of(pod) else { return Vec::new() };
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let job = pod.pointer("/metadata/labels").and_then(|labels| labels.get("batch.kubernetes.io/job-name"));
        let job = job.and_then(Value::as_str).unwrap_or_default();
        let mut content = self.lock();
        let trouble = content.troubles.iter().find(|(of, name, _)| of == namespace && job.starts_with(name));
        let trouble = trouble.map(|(.., trouble)| trouble.clone());
        if trouble == Some(Trouble::Silent) {
            return Vec::new();
        }
        let began = text("/status/startTime").parse().unwrap_or(at);
        let address = content.place(namespace, &plan);
        let rotates = plan.operation == RunnerOperation::RotateKey;
        let own = secret(pod, "repository-secret");
        let closed = content.repositories.get(&address).is_some_and(|known| known.closed.contains(own));
        let trouble = if closed && !rotates { Some(Trouble::Opens(12)) } else { trouble };
        let result = run(&mut content.repositories, &address, &plan, trouble.as_ref(), began);
        if trouble == Some(Trouble::BreaksOff) {
            return Vec::new();
        }
        if let Some(repository) = content.repositories.get_mut(&address)
            && rotates
            && result.stage == RunnerStage::Done
        {
            repository.closed.insert(own.to_owned());
            repository.closed.remove(secret(pod, "new-key-secret"));
        }
        result.encode().map(|message| vec![("report".to_owned(), message)]).unwrap_or_default()
    }
}

fn plan_of(pod: &Value) -> Option<RunnerPlan> {
    serde_json::from_str(variable(pod, PLAN_VARIABLE)?).ok()
}

fn drill_plan(pod: &Value) -> Option<DrillPlan> {
    serde_json::from_str(variable(pod, drill::plan::PLAN_VARIABLE)?).ok()
}

fn component(pod: &Value) -> Option<&str> {
    pod.pointer("/metadata/labels")?.get("app.kubernetes.io/component")?.as_str()
}

fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let mut variables = containers.iter().filter_map(|container| container.get("env")?.as_array()).flatten();
    variables.find(|variable| variable.get("name").and_then(Value::as_str) == Some(name))?.get("value")?.as_str()
}

/// The Secret that a pod mounts as this volume.
fn secret<'a>(pod: &'a Value, volume: &str) -> &'a str {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let mut volumes = volumes.into_iter().flatten();
    let found = volumes.find(|known| known.get("name").and_then(Value::as_str) == Some(volume));
    found.and_then(|known| known.pointer("/secret/secretName")?.as_str()).unwrap_or_default()
}

fn id_of(text: &str) -> String {
    Digest::of_bytes(text.as_bytes()).to_string().chars().skip("sha256:".len()).collect()
}

/// What the pod of a drill found, with files that are as many as every backup has.
fn report(
    plan: &DrillPlan,
    repository: Option<&Repository>,
    copied: Option<Timestamp>,
    trouble: Option<&Trouble>,
    inside: bool,
) -> DrillReport {
    let mut report = DrillReport { exit_code: Some(0), stage: RunnerStage::Done, ..DrillReport::new(&plan.run) };
    match &plan.work {
        DrillWork::Restore { snapshots, .. } => {
            let Some(repository) = repository else {
                return DrillReport { exit_code: Some(10), stage: RunnerStage::Open, ..report };
            };
            report.repository_id = Some(repository.id.clone());
            let snapshot = snapshots.last().cloned().unwrap_or_default();
            match trouble {
                Some(Trouble::Opens(code)) => {
                    return DrillReport { exit_code: Some(*code), stage: RunnerStage::Open, ..report };
                }
                Some(Trouble::Restores(code, words)) => {
                    report.errors = vec![words.clone()];
                    return DrillReport { exit_code: Some(*code), stage: RunnerStage::Work, error_count: 1, ..report };
                }
                _ if !repository.snapshots.contains_key(&snapshot) => {
                    report.errors = vec!["no matching ID found".to_owned()];
                    return DrillReport { exit_code: Some(1), stage: RunnerStage::Work, error_count: 1, ..report };
                }
                _ => {}
            }
            let files = if trouble == Some(&Trouble::Lies) { 0 } else { 10 };
            report.restored = Some(RestoredReport {
                manifest_digest: id_of(&snapshot),
                snapshot_id: snapshot,
                files,
                bytes: files * 100,
                verified: true,
            });
        }
        DrillWork::Probe { .. } => {
            let blocked = inside && trouble != Some(&Trouble::Unenforced);
            report.probe = Some(if blocked { ProbeResult::Blocked } else { ProbeResult::Connected });
        }
        DrillWork::Validate { validation, .. } => {
            let wrong = trouble == Some(&Trouble::Wrong);
            if validation.sql.is_some() {
                report.number = Some(if wrong { 0.0 } else { 1_500.0 });
            } else if validation.heartbeat.is_some() {
                report.heartbeat = copied.map(heart_at).map(|heart| {
                    let seq = if wrong { heart.seq - 1_000 } else { heart.seq };
                    HeartbeatRead { seq, ..heart }
                });
            } else if validation.command.is_some() {
                report.exit_code = Some(i32::from(wrong));
            } else {
                report.matches = Some(!wrong);
            }
        }
        DrillWork::Fault { .. } | DrillWork::Serve { .. } | DrillWork::Wipe => {}
    }
    report
}

/// One record a second, as if a writer had written since ever.
fn heart_at(time: Timestamp) -> HeartbeatRead {
    let nonce = id_of(&time.to_string()).chars().take(NONCE_DIGITS).collect();
    HeartbeatRead { seq: time.as_second(), time, nonce, read_at: Some(time) }
}

fn run(
    repositories: &mut BTreeMap<String, Repository>,
    address: &str,
    plan: &RunnerPlan,
    trouble: Option<&Trouble>,
    began: Timestamp,
) -> RunResult {
    let mut result =
        RunResult { exit_code: Some(0), stage: RunnerStage::Done, ..RunResult::new(&plan.run, plan.operation) };
    let refused = |mut result: RunResult, code: i32| {
        (result.exit_code, result.stage) = (Some(code), RunnerStage::Open);
        result
    };
    if let Some(Trouble::Opens(code)) = trouble {
        return refused(result, *code);
    }
    if plan.operation == RunnerOperation::Initialize {
        let fresh = || Repository { id: id_of(address), ..Repository::default() };
        repositories.entry(address.to_owned()).or_insert_with(fresh);
    }
    let Some(repository) = repositories.get_mut(address) else { return refused(result, 10) };
    result.repository_id = Some(repository.id.clone());
    match plan.operation {
        RunnerOperation::Backup => {
            let files = if trouble == Some(&Trouble::Empty) { 0 } else { 10 };
            if trouble == Some(&Trouble::Partial) {
                (result.exit_code, result.error_count) = (Some(3), 2);
            }
            result.heartbeat = plan.heartbeat.as_ref().map(|_| heart_at(began));
            let id = id_of(&plan.run);
            repository.snapshots.insert(id.clone(), began);
            result.snapshot = Some(SnapshotResult {
                wal: None,
                id,
                parent: plan.parent.clone(),
                time: began,
                host: plan.host.clone().unwrap_or_default(),
                files,
                bytes: files * 100,
                added_bytes: files,
                recoverable_until: None,
                postgres_version: None,
            });
        }
        RunnerOperation::Restore => {
            let snapshot = plan.restore.as_ref().map(|restore| &restore.snapshot);
            if !snapshot.is_some_and(|id| repository.snapshots.contains_key(id)) {
                result.errors = vec!["no matching ID found".to_owned()];
                (result.exit_code, result.stage, result.error_count) = (Some(1), RunnerStage::Work, 1);
            }
        }
        RunnerOperation::Prune => {
            let before = repository.snapshots.len();
            repository.snapshots.retain(|id, _| !plan.forget.contains(id));
            result.forgotten = (before - repository.snapshots.len()) as u64;
        }
        _ => {}
    }
    result
}
