//! B8, B9, B10, B16: what the end of a pod means.

use interlock_crds::{BackupPhase, MaintenanceOperation};
use serde_json::{Value, json};

use super::at;
use crate::backup::{
    outcome::{Expected, Outcome, PodEnd, Reason, judge, of_maintenance},
    result::{MAX_RESULT_BYTES, ResultError, RunResult, RunnerOperation, RunnerStage, SnapshotResult},
};

const EXPECTED: Expected<'_> =
    Expected { run: "run-1", policy_uid: "policy-1", repository_id: Some("repo-1"), allow_empty: false };

pub fn good() -> RunResult {
    RunResult {
        stage: RunnerStage::Done,
        exit_code: Some(0),
        repository_id: Some("repo-1".into()),
        snapshot: Some(SnapshotResult {
            wal: None,
            id: "0123456789abcdef".into(),
            parent: Some("fedcba".into()),
            time: at("2026-11-23T02:00:07Z"),
            host: "policy-1".into(),
            files: 12,
            bytes: 3_456,
            added_bytes: 78,
            recoverable_until: None,
            postgres_version: None,
        }),
        ..RunResult::new("run-1", RunnerOperation::Backup)
    }
}

fn said(message: Option<String>) -> Outcome {
    judge(&PodEnd { message, ..PodEnd::default() }, &EXPECTED).0
}

fn with(change: impl FnOnce(&mut RunResult)) -> Outcome {
    let mut result = good();
    change(&mut result);
    said(Some(result.encode().unwrap()))
}

/// Name, expected outcome, and what is different from a good result.
type Case = (&'static str, BackupPhase, Reason, fn(&mut RunResult));

#[test]
fn only_one_path_is_a_success() {
    assert_eq!(with(|_| ()).phase, BackupPhase::Succeeded);
    let cases: [Case; 17] = [
        ("b9 partial", BackupPhase::PartiallyFailed, Reason::Incomplete, |r| r.exit_code = Some(3)),
        ("b9 nothing read", BackupPhase::Failed, Reason::SourceUnreadable, |r| {
            (r.exit_code, r.snapshot) = (Some(3), None);
        }),
        ("b9 empty", BackupPhase::Failed, Reason::EmptySource, |r| r.snapshot.as_mut().unwrap().files = 0),
        ("b9 errors with 0", BackupPhase::PartiallyFailed, Reason::Incomplete, |r| r.error_count = 2),
        ("b10 dump", BackupPhase::Failed, Reason::SourceFailed, |r| r.source_exit_code = Some(1)),
        ("b10 dump and restic", BackupPhase::Failed, Reason::SourceFailed, |r| {
            (r.source_exit_code, r.exit_code) = (Some(1), Some(1));
        }),
        ("b16 none", BackupPhase::Failed, Reason::RepositoryMissing, |r| r.exit_code = Some(10)),
        ("locked", BackupPhase::Failed, Reason::RepositoryLocked, |r| r.exit_code = Some(11)),
        ("b16 password", BackupPhase::Failed, Reason::WrongPassword, |r| r.exit_code = Some(12)),
        ("b16 bucket", BackupPhase::Failed, Reason::RepositoryUnreachable, |r| {
            (r.exit_code, r.stage) = (Some(1), RunnerStage::Open);
        }),
        ("b16 another", BackupPhase::Failed, Reason::RepositoryReplaced, |r| r.repository_id = Some("repo-2".into())),
        ("disk full", BackupPhase::Failed, Reason::ToolFailed, |r| {
            (r.exit_code, r.stage) = (Some(1), RunnerStage::Work);
        }),
        ("unknown", BackupPhase::Failed, Reason::ToolFailed, |r| {
            (r.exit_code, r.stage) = (Some(77), RunnerStage::Work);
        }),
        ("signal", BackupPhase::Failed, Reason::ToolKilled, |r| (r.exit_code, r.signal) = (None, Some(9))),
        ("never run", BackupPhase::Failed, Reason::ToolFailed, |r| r.exit_code = None),
        ("lies", BackupPhase::Failed, Reason::NotReadBack, |r| r.snapshot = None),
        ("foreign", BackupPhase::Failed, Reason::ForeignSnapshot, |r| {
            r.snapshot.as_mut().unwrap().host = "pod-7".into();
        }),
    ];
    for (name, phase, reason, change) in cases {
        let outcome = with(change);
        assert_eq!((outcome.phase, outcome.reason), (phase, reason), "{name}: {}", outcome.message);
        assert!(outcome.message.len() > 20, "{name}");
    }
    let read_back = with(|r| r.stage = RunnerStage::ReadBack);
    assert_eq!(read_back.reason, Reason::NotReadBack);
}

#[test]
fn b16_a_repository_that_disappeared_is_told_from_one_that_never_was() {
    let mut result = good();
    (result.exit_code, result.snapshot, result.repository_id) = (Some(10), None, None);
    let end = PodEnd { message: result.encode().ok(), ..PodEnd::default() };
    let (gone, _) = judge(&end, &EXPECTED);
    let (never, _) = judge(&end, &Expected { repository_id: None, ..EXPECTED });
    assert!(gone.message.contains("makes no new one"), "{}", gone.message);
    assert!(never.message.contains("initialize"), "{}", never.message);
}

#[test]
fn a_prune_whose_credentials_may_not_delete_says_what_was_answered_and_which_may() {
    let mut result = RunResult::new("prune-1", RunnerOperation::Prune);
    (result.stage, result.exit_code) = (RunnerStage::Work, Some(3));
    let answer = "Remove(<snapshot/4f2a>) failed: unexpected HTTP response (403): 403 Forbidden";
    result.errors = ["failed to remove one or more snapshots", answer, "unable to remove"].map(str::to_owned).to_vec();
    let end = PodEnd { message: result.encode().ok(), ..PodEnd::default() };
    let (outcome, _) = of_maintenance(&end, "prune-1", MaintenanceOperation::Prune, None, None);
    assert_eq!((outcome.phase, outcome.reason), (BackupPhase::Failed, Reason::NotRemoved));
    for part in [answer, "maintenanceSecretRef", "maintenanceUrl if the one at url removes for nobody"] {
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
    let (there, _) = of_maintenance(&end, "prune-1", MaintenanceOperation::Prune, None, Some(ELSEWHERE));
    assert!(!there.message.contains("maintenanceUrl"), "it is set already: {}", there.message);
}

const ELSEWHERE: &str = "rest:https://full.bank.example/teller/";

#[test]
fn what_is_found_at_a_wrong_maintenance_url_is_not_told_as_if_recovery_points_were_lost() {
    let ended = |exit_code, id: Option<&str>, elsewhere| {
        let mut result = RunResult::new("prune-1", RunnerOperation::Prune);
        (result.stage, result.exit_code) = (RunnerStage::Open, Some(exit_code));
        result.repository_id = id.map(str::to_owned);
        let end = PodEnd { message: result.encode().ok(), ..PodEnd::default() };
        let outcome = of_maintenance(&end, "prune-1", MaintenanceOperation::Prune, Some("repo-1"), elsewhere).0;
        (outcome.reason, outcome.message)
    };
    for (exit_code, id, reason) in
        [(10, None, Reason::RepositoryMissing), (0, Some("repo-2"), Reason::RepositoryReplaced)]
    {
        let (found, message) = ended(exit_code, id, Some(ELSEWHERE));
        assert_eq!(found, reason, "{message}");
        assert!(message.contains("at restic.maintenanceUrl") && message.ends_with(ELSEWHERE), "{message}");
        assert!(!message.contains("recovery points"), "{message}");
        let (found, message) = ended(exit_code, id, None);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains("recovery points") && !message.contains("maintenanceUrl"), "{message}");
    }
}

#[test]
fn b8_a_lock_that_a_run_of_interlock_left_is_told_from_anybody_elses() {
    let locked = |host: &str| {
        let mut result = good();
        (result.exit_code, result.stage, result.snapshot) = (Some(11), RunnerStage::Work, None);
        let error = "unable to create lock in backend: repository is already locked exclusively by PID 13 on";
        result.errors = vec!["something before".into(), format!("{error} {host} by nobody (UID 65532, GID 65532)")];
        let outcome = said(result.encode().ok());
        assert_eq!(outcome.reason, Reason::RepositoryLocked);
        outcome.message
    };
    for pod in [
        "vault-prune-0a1b2c3d-x7k2p",
        "teller-20261123-0200-0a1b2c-x7k2p",
        "teller-db-now-zz9qd-x7k2p",
        "teller-monthly-2611230200-restore-x7k2p",
        "restore-teller-back-20261123020000-x7k2p",
    ] {
        let own = locked(pod);
        assert!(own.starts_with(&format!("the repository is locked by pod {pod}, a run of Interlock")), "{own}");
        assert!(own.contains("31 minutes") && own.contains("restic unlock --remove-all"), "{own}");
    }
    for host in ["laptop", "ops-server-x7k2p", "vault-prune-later-x7k2p", "cron-20261123020000-x7k2p", "x7k2p"] {
        let other = locked(host);
        assert!(other.contains(&format!("on host {host}, by its name no pod of Interlock")), "{other}");
    }
    let unknown = with(|r| (r.exit_code, r.snapshot) = (Some(11), None));
    let told = ["on a host that it does not name", "a lock that nobody renews, 31 minutes after this run"];
    assert!(told.into_iter().all(|text| unknown.message.contains(text)), "{}", unknown.message);
}

#[test]
fn b8_silence_is_never_a_success() {
    let silent = |change: fn(&mut PodEnd)| {
        let mut end = PodEnd::default();
        change(&mut end);
        judge(&end, &EXPECTED).0
    };
    assert_eq!(silent(|_| ()).reason, Reason::NoResult);
    assert_eq!(silent(|end| end.message = Some("  ".into())).reason, Reason::NoResult);
    assert_eq!(silent(|end| end.out_of_memory = true).reason, Reason::OutOfMemory);
    assert_eq!(silent(|end| end.reason = Some("Evicted".into())).reason, Reason::Evicted);
    assert_eq!(silent(|end| end.reason = Some("NodeLost".into())).reason, Reason::NodeLost);
    let waiting = silent(|end| end.waiting = Some("persistentvolumeclaim \"data\" is not bound".into()));
    assert_eq!(waiting.reason, Reason::NeverStarted);
    assert!(waiting.message.contains("not bound"));
    let stuck = silent(|end| (end.waiting, end.begun) = (Some("container tool: ErrImagePull".into()), true));
    assert_eq!(stuck.reason, Reason::NoResult);
    assert!(stuck.message.contains("its next container cannot run: container tool"), "{}", stuck.message);

    let whole = good().encode().unwrap();
    for length in 1..whole.len() {
        let outcome = said(Some(whole[..length].to_owned()));
        assert_eq!((outcome.phase, outcome.reason), (BackupPhase::Failed, Reason::BadResult), "{length}");
    }
    let mut of_another = good();
    of_another.run = "run-2".into();
    assert_eq!(said(of_another.encode().ok()).reason, Reason::BadResult);
    let mut newer: Value = serde_json::from_str(&whole).unwrap();
    newer["version"] = json!(2);
    newer["operation"] = json!("SomethingNew");
    assert!(said(Some(newer.to_string())).message.contains("version 2"));
    assert_eq!(said(Some("Error: fatal".into())).reason, Reason::BadResult);
}

#[test]
fn a_result_fits_into_a_termination_message() {
    let mut result = good();
    result.error_count = 5_000;
    result.errors = (0..500).map(|n| format!("open /data/文件{n}: permission denied {}", "x".repeat(300))).collect();
    let text = result.encode().unwrap();
    assert!(text.len() <= MAX_RESULT_BYTES && text.len() > MAX_RESULT_BYTES - 700, "{}", text.len());
    let read = RunResult::decode(Some(&text), "run-1").unwrap();
    assert_eq!(read.error_count, 5_000);
    assert!(!read.errors.is_empty());
    for length in 1..200 {
        result.errors = vec!["x".repeat(length); 500];
        assert!(result.encode().unwrap().len() <= MAX_RESULT_BYTES, "{length}");
    }
    assert!(matches!(RunResult::decode(Some(&text[..text.len() - 9]), "run-1"), Err(ResultError::Truncated(_))));
    assert!(matches!(RunResult::decode(Some("Error"), "run-1"), Err(ResultError::Malformed(_))));
    result.repository_id = Some("x".repeat(5_000));
    assert!(matches!(result.encode(), Err(ResultError::Truncated(_))));
}
