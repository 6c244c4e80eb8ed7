//! B8, B13, B16: the upkeep of a repository.

use interlock_crds::{
    BackupRepositorySpec, BackupRepositoryStatus, MaintenanceOperation, MaintenanceOutcome, RepositoryPhase,
};
use jiff::Timestamp;
use serde_json::json;

use super::{at, repository_spec};
use crate::backup::{
    maintenance::{self, MaintenanceDecision, MaintenanceFacts, MaintenanceStep, SeenByRuns},
    outcome::PodEnd,
    result::{RunResult, RunnerOperation, RunnerStage},
    run::{JobEnd, JobFact, JobState, RepositoryFact},
};

/// A repository that lives through decisions.
struct Repository {
    spec: BackupRepositorySpec,
    status: BackupRepositoryStatus,
    runs: SeenByRuns,
    job: JobFact,
    held: bool,
    settled: bool,
    problems: Vec<String>,
}

impl Repository {
    fn new() -> Self {
        Self {
            spec: repository_spec(|_| ()),
            status: BackupRepositoryStatus::default(),
            runs: SeenByRuns::default(),
            job: JobFact::Absent,
            held: false,
            settled: true,
            problems: Vec::new(),
        }
    }

    fn made() -> Self {
        let status = BackupRepositoryStatus { repository_id: Some("id".into()), ..BackupRepositoryStatus::default() };
        Self { status, ..Self::new() }
    }

    /// Decides and records.
    fn pass(&mut self, now: Timestamp) -> MaintenanceDecision {
        let decision = maintenance::decide(&MaintenanceFacts {
            name: "vault",
            uid: "uid-1",
            generation: 1,
            created_at: at("2026-11-01T00:00:00Z"),
            spec: &self.spec,
            status: &self.status,
            problems: &self.problems,
            claim: if self.held { RepositoryFact::Held } else { RepositoryFact::Unknown },
            job: &self.job,
            settled: self.settled,
            runs: &self.runs,
            now,
        });
        self.status = decision.status.clone();
        decision
    }

    /// The operation that is active ends with this.
    fn ends(&mut self, now: Timestamp, exit_code: i32) -> MaintenanceDecision {
        let active = self.status.active.clone().unwrap();
        let operation = match active.operation {
            MaintenanceOperation::Initialize => RunnerOperation::Initialize,
            MaintenanceOperation::Check => RunnerOperation::Check,
            MaintenanceOperation::Prune => RunnerOperation::Prune,
            MaintenanceOperation::RotateKey => RunnerOperation::RotateKey,
            MaintenanceOperation::Unlock => RunnerOperation::Unlock,
        };
        let mut result = RunResult::new(&active.name, operation);
        result.exit_code = Some(exit_code);
        result.repository_id = Some("id".into());
        result.stage = if exit_code == 0 { RunnerStage::Done } else { RunnerStage::Work };
        let end = JobEnd {
            deadline_exceeded: false,
            at: now,
            pod: PodEnd { message: Some(result.encode().unwrap()), ..PodEnd::default() },
        };
        self.job = JobFact::Ours(JobState {
            uid: "job".into(),
            created_at: now,
            deadline_seconds: None,
            ended: Some(end),
            has_pod: true,
            waiting: None,
            log_tail: None,
        });
        let decision = self.pass(now);
        if self.settled {
            (self.job, self.held) = (JobFact::Absent, false);
        }
        decision
    }

    fn active(&self) -> Option<MaintenanceOperation> {
        self.status.active.as_ref().map(|active| active.operation)
    }
}

#[test]
fn it_is_made_first_alone_and_once() {
    let mut vault = Repository::new();
    let now = at("2026-11-01T00:00:10Z");
    assert!(maintenance::keeps_runs_out(&vault.spec, &vault.status, &[]).is_some());
    let first = vault.pass(now);
    assert!(matches!(first.step, MaintenanceStep::Claim(_)), "noted, then claimed: {first:?}");
    assert_eq!(vault.active(), Some(MaintenanceOperation::Initialize));
    assert_eq!(vault.pass(now), vault.pass(now), "deciding again changes nothing");
    vault.held = true;
    assert_eq!(vault.pass(now).step, MaintenanceStep::CreateJob);
    let ended = vault.ends(now, 0);
    assert_eq!(ended.ended.unwrap().outcome, Some(MaintenanceOutcome::Succeeded));
    assert_eq!((vault.active(), vault.status.phase), (None, RepositoryPhase::Ready));
    assert_eq!(maintenance::keeps_runs_out(&vault.spec, &vault.status, &[]), None);
    // It disappears from the status, but was seen.
    vault.status.repository_id = None;
    assert_eq!(vault.pass(now).step, MaintenanceStep::Nothing, "never made again");
}

#[test]
fn what_cannot_be_made_is_tried_again_and_says_why() {
    let mut vault = Repository::new();
    let now = at("2026-11-01T00:00:10Z");
    vault.pass(now);
    vault.held = true;
    vault.pass(now);
    let ended = vault.ends(now, 12);
    assert_eq!((vault.active(), vault.status.phase), (None, RepositoryPhase::Unreachable));
    assert!(vault.status.message.as_ref().unwrap().contains("RESTIC_PASSWORD"), "{:?}", vault.status.message);
    assert_eq!(ended.wake_at, Some(at("2026-11-01T00:05:10Z")));
    vault.pass(at("2026-11-01T00:05:10Z"));
    assert_eq!(vault.active(), Some(MaintenanceOperation::Initialize));
}

#[test]
fn b13_one_operation_at_a_time_prune_before_check_and_of_passed_slots_one() {
    let mut vault = Repository::made();
    // Prune was due on December 1st at 05:00, checks each Sunday at 03:00.
    let now = at("2026-12-06T12:00:00Z");
    vault.pass(now);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Prune));
    let name = vault.status.active.clone().unwrap().name;
    assert!(name.len() <= 63 && name.starts_with("vault-prune-"), "{name}");
    vault.held = true;
    assert_eq!(vault.pass(now).step, MaintenanceStep::CreateJob);
    vault.settled = false;
    assert_eq!(vault.ends(now, 0).step, MaintenanceStep::Settle, "what it forgot is noted first");
    assert_eq!(vault.active(), Some(MaintenanceOperation::Prune));
    vault.settled = true;
    vault.ends(now, 0);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Check));
    vault.held = true;
    vault.pass(now);
    let ended = vault.ends(now, 0);
    assert_eq!(vault.active(), None, "five Sundays passed, one check is made");
    assert_eq!(vault.status.last_check.as_ref().unwrap().part.as_deref(), Some("1/12"));
    assert_eq!((vault.status.next_part, ended.wake_at), (Some(2), Some(at("2026-12-13T03:00:00Z"))));
}

#[test]
fn b8_a_stale_lock_goes_after_half_an_hour_and_what_it_stopped_is_done_then() {
    let mut vault = Repository::made();
    let now = at("2026-12-01T05:00:00Z");
    vault.spec.check = None;
    vault.pass(now);
    vault.held = true;
    vault.pass(now);
    let ended = vault.ends(now, 11);
    assert_eq!(ended.ended.unwrap().reason.as_deref(), Some("RepositoryLocked"));
    assert_eq!((vault.active(), ended.wake_at), (None, Some(at("2026-12-01T05:31:00Z"))));
    let later = at("2026-12-01T05:31:00Z");
    vault.pass(later);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Unlock));
    vault.held = true;
    vault.pass(later);
    vault.ends(later, 0);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Prune), "it is done then, for the same slot");
    assert_eq!(vault.status.active.as_ref().unwrap().slot.as_ref().unwrap().0, now);
    vault.held = true;
    vault.pass(later);
    vault.ends(later, 0);
    assert_eq!(vault.active(), None);
}

#[test]
fn b8_a_run_that_found_it_locked_is_reason_enough_once() {
    let mut vault = Repository::made();
    vault.spec.check = None;
    vault.spec.prune = None;
    // Others that find it every ten minutes do not put it off.
    let found = ["02:00", "02:10", "02:20", "02:30"].map(|time| at(&format!("2026-11-10T{time}:00Z")));
    vault.runs.locked = found.into();
    assert_eq!(vault.pass(at("2026-11-10T02:30:59Z")).wake_at, Some(at("2026-11-10T02:31:00Z")));
    let now = at("2026-11-10T02:31:00Z");
    vault.pass(now);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Unlock));
    vault.held = true;
    vault.pass(now);
    vault.ends(now, 0);
    assert_eq!((vault.active(), vault.pass(at("2026-11-11T00:00:00Z")).wake_at), (None, None));
}

#[test]
fn b8_a_lock_that_an_exchange_of_the_key_found_goes_before_it_is_tried_again() {
    let mut vault = Repository::made();
    (vault.spec.check, vault.spec.prune) = (None, None);
    vault.spec.restic.new_key_secret_ref = serde_json::from_value(json!({"name": "next"})).unwrap();
    let now = at("2026-11-02T00:00:00Z");
    vault.pass(now);
    vault.held = true;
    vault.pass(now);
    assert_eq!(vault.ends(now, 11).wake_at, Some(at("2026-11-02T00:31:00Z")));
    let later = at("2026-11-02T00:31:00Z");
    vault.pass(later);
    assert_eq!(vault.active(), Some(MaintenanceOperation::Unlock));
    vault.held = true;
    vault.pass(later);
    vault.ends(later, 0);
    assert_eq!(vault.active(), Some(MaintenanceOperation::RotateKey));
    vault.held = true;
    vault.pass(later);
    vault.ends(later, 0);
    assert_eq!(vault.active(), None);
}

#[test]
fn damage_is_told_until_a_check_passes() {
    let mut vault = Repository::made();
    vault.spec.prune = None;
    let now = at("2026-11-08T03:00:00Z");
    vault.pass(now);
    vault.held = true;
    vault.pass(now);
    vault.ends(now, 1);
    assert_eq!(vault.status.phase, RepositoryPhase::Damaged);
    let ready = vault.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Damaged"));
    let now = at("2026-11-15T03:00:00Z");
    vault.pass(now);
    vault.held = true;
    vault.pass(now);
    vault.ends(now, 0);
    assert_eq!(vault.status.phase, RepositoryPhase::Ready);
}

#[test]
fn a_key_is_exchanged_once_for_a_spec_and_nothing_begins_while_suspended_or_invalid() {
    let mut vault = Repository::made();
    (vault.spec.check, vault.spec.prune) = (None, None);
    vault.spec.restic.new_key_secret_ref = serde_json::from_value(json!({"name": "next"})).unwrap();
    let now = at("2026-11-02T00:00:00Z");
    vault.spec.suspend = true;
    assert_eq!(vault.pass(now).step, MaintenanceStep::Nothing);
    vault.spec.suspend = false;
    vault.problems = vec!["timeZone: unknown".into()];
    assert_eq!((vault.pass(now).step, vault.status.phase), (MaintenanceStep::Nothing, RepositoryPhase::Invalid));
    vault.problems.clear();
    vault.pass(now);
    assert_eq!(vault.active(), Some(MaintenanceOperation::RotateKey));
    vault.held = true;
    vault.pass(now);
    vault.ends(now, 0);
    assert_eq!(vault.active(), None);
    let rotated = vault.status.conditions.iter().find(|condition| condition.type_ == "KeyRotated").unwrap();
    assert_eq!(rotated.status, "True", "{rotated:?}");
    assert!(rotated.message.contains("if it was another, was taken away"), "both may have the same: {rotated:?}");
    assert_eq!(vault.pass(at("2026-12-02T00:00:00Z")).step, MaintenanceStep::Nothing);
}

#[test]
fn a_job_that_somebody_deleted_or_that_is_not_ours_fails_it_and_the_next_slot_comes() {
    for job in [JobFact::Foreign, JobFact::Refused("quota".into())] {
        let mut vault = Repository::made();
        vault.spec.check = None;
        let now = at("2026-12-01T05:00:00Z");
        vault.pass(now);
        vault.held = true;
        vault.pass(now);
        vault.job = job;
        let ended = vault.pass(now).ended.unwrap();
        assert_eq!(ended.outcome, Some(MaintenanceOutcome::Failed), "{ended:?}");
        assert_eq!(vault.active(), None);
    }
}
