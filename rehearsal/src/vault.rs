//! The repositories of a simulated cluster, and what the runner's pods do to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interlock_core::{
    backup::{
        heartbeat::NONCE_DIGITS,
        plan::{PLAN_VARIABLE, RunnerPlan},
        result::{HeartbeatRead, RunResult, RunnerOperation, RunnerStage, SnapshotResult},
    },
    object::Digest,
};
use interlock_sim::workloads::Program;
use jiff::Timestamp;
use serde_json::Value;

/// What is wrong with the runs of a policy or repository.
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
}

/// A repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Its id.
    pub id: String,
    /// Times of its snapshots, by id.
    pub snapshots: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Default)]
struct Content {
    repositories: BTreeMap<String, Repository>,
    /// By namespace and the beginning of a Job's name; the first that fits.
    troubles: Vec<(String, String, Trouble)>,
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

    /// From now on Jobs whose names begin so have this trouble; none: no more.
    pub fn trouble(&self, namespace: &str, job: &str, trouble: Option<Trouble>) {
        let mut content = self.lock();
        content.troubles.retain(|(of, name, _)| (of.as_str(), name.as_str()) != (namespace, job));
        content.troubles.extend(trouble.map(|trouble| (namespace.to_owned(), job.to_owned(), trouble)));
    }
}

impl Program for Vault {
    fn end(&self, pod: &Value, at: Timestamp) -> Vec<(String, String)> {
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
        let address = format!("{namespace} {}", plan.repository);
        let result = run(&mut content.repositories, &address, &plan, trouble.as_ref(), began);
        result.encode().map(|message| vec![("report".to_owned(), message)]).unwrap_or_default()
    }
}

fn plan_of(pod: &Value) -> Option<RunnerPlan> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    let mut variables = containers.iter().filter_map(|container| container.get("env")?.as_array()).flatten();
    let plan = variables.find(|variable| variable.get("name").and_then(Value::as_str) == Some(PLAN_VARIABLE))?;
    serde_json::from_str(plan.get("value")?.as_str()?).ok()
}

fn id_of(text: &str) -> String {
    Digest::of_bytes(text.as_bytes()).to_string().chars().skip("sha256:".len()).collect()
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
            // One record a second, as if a writer had written since ever.
            result.heartbeat = plan.heartbeat.as_ref().map(|_| HeartbeatRead {
                seq: began.as_second(),
                time: began,
                nonce: id_of(&began.to_string()).chars().take(NONCE_DIGITS).collect(),
                read_at: Some(began),
            });
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
        RunnerOperation::Prune => {
            let before = repository.snapshots.len();
            repository.snapshots.retain(|id, _| !plan.forget.contains(id));
            result.forgotten = (before - repository.snapshots.len()) as u64;
        }
        _ => {}
    }
    result
}
