//! The last container: reads back what was stored, and alone writes the result.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use interlock_core::backup::{
    plan::RunnerPlan,
    result::{RunResult, RunnerOperation, RunnerStage, SnapshotResult},
    wal::Segment,
};
use serde_json::Value;

use super::{Place, note, plan, redact::Secrets, restic::Restic, tool};

/// Where the kubelet reads the message of a container that ended.
pub(super) const MESSAGE_PATH: &str = "/dev/termination-log";

/// Reads back and tells. The exit code says whether all is well, for whoever looks at the Job.
pub(super) async fn execute(place: &Place) -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut result = note::find(place).filter(|result| result.run == plan.run).unwrap_or_else(|| {
        let mut none = RunResult::new(&plan.run, plan.operation);
        none.errors.push("the tool left no word of how it ended".to_owned());
        none
    });
    if plan.operation == RunnerOperation::Backup && matches!(result.exit_code, Some(0 | 3)) {
        read_back(place, &plan, &tool::secrets(place), &mut result).await;
    }
    let message = match result.encode() {
        Ok(message) => message,
        Err(error) => {
            eprintln!("error: the result cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{message}");
    if let Err(error) = fs::write(place.at(MESSAGE_PATH), &message) {
        eprintln!("error: {MESSAGE_PATH} cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    if result.exit_code == Some(0) && result.stage == RunnerStage::Done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The snapshot as it stands in the repository: its record, and every name in it.
async fn read_back(place: &Place, plan: &RunnerPlan, secrets: &Secrets, result: &mut RunResult) {
    let Some(told) = result.snapshot.take() else {
        return result.errors.push("restic told no snapshot".to_owned());
    };
    result.stage = RunnerStage::ReadBack;
    let restic = Restic::new(place, plan, secrets);
    let (mut files, mut bytes, mut record) = (0_u64, 0_u64, None);
    let mut segments = BTreeSet::new();
    let wal = told.wal.clone();
    let segment_bytes = wal.as_ref().and_then(|wal| u64::try_from(wal.segment_bytes).ok()).unwrap_or_default();
    let listed = restic
        .run_with(&["ls", "--json", "--no-lock", &told.id], |line| {
            let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default();
            match (text("message_type"), text("type")) {
                ("snapshot", _) => record = Some(line.clone()),
                ("node", "file") => {
                    files += 1;
                    segments.extend(Segment::parse(text("name"), segment_bytes).map(|segment| segment.number));
                    bytes += line.get("size").and_then(Value::as_u64).unwrap_or_default();
                }
                _ => {}
            }
        })
        .await;
    if !listed.is_good() {
        result.errors.extend(listed.errors);
        // What restic reported stands; that it cannot be read is what matters.
        return result.snapshot = Some(told);
    }
    let Some(record) = record else {
        return result.errors.push("restic ended well, but listed no snapshot".to_owned());
    };
    let missing = wal
        .as_ref()
        .and_then(Segment::of_range)
        .and_then(|(from, to)| (from.number..=to.number).find(|number| !segments.contains(number)));
    if let Some(missing) = missing {
        result.errors.push(format!("segment number {missing} of the write-ahead log is not in the snapshot"));
        return result.snapshot = Some(told);
    }
    let text = |field: &str| record.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
    let time = text("time").and_then(|time| time.parse().ok());
    let (Some(id), Some(time)) = (text("id"), time) else {
        return result.errors.push("the record of the snapshot cannot be read".to_owned());
    };
    result.snapshot = Some(SnapshotResult {
        id,
        time,
        parent: text("parent"),
        host: text("hostname").unwrap_or_default(),
        files,
        bytes,
        ..told
    });
    result.stage = RunnerStage::Done;
}
