//! A run as text.

use interlock_crds::{
    CleanupState, DrillRun, DrillRunStatus, DrillSegment, MeasuredRpo, MeasuredRto, ValidationRecord, ValidationVerdict,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{phase, status_of};
use crate::{
    backup::size,
    rollout::span,
    ui::{Ui, fitted, padded},
};

/// Columns of the bars that show what took how long.
const BAR: usize = 36;
const LABEL: usize = 15;

/// Everything about a run, a line each.
pub(super) fn whole(run: &DrillRun, now: Timestamp, ui: Ui) -> Vec<String> {
    let status = status_of(run);
    let mut lines = head(run, &status, ui);
    lines.extend(point(&status));
    lines.extend(times(&status, now, ui));
    lines.extend(validations(&status.validations, ui));
    lines.extend(after(run, &status, ui));
    lines
}

/// What is told of a run that goes on: where it stands, and each validation that ended.
pub(super) fn news(run: &DrillRun) -> Vec<String> {
    let status = status_of(run);
    let own = format!("{:?}: {}", status.phase, message(&status));
    let ended = status.validations.iter().filter(|record| record.verdict != ValidationVerdict::Pending);
    std::iter::once(own).chain(ended.map(|record| format!("  {}", said(record)))).collect()
}

fn line(label: &str, text: &str) -> String {
    fitted(&format!("  {}{text}", padded(label, LABEL)), LABEL + 2)
}

fn message(status: &DrillRunStatus) -> String {
    status.message.clone().unwrap_or_else(|| "it waits for the controller".to_owned())
}

fn head(run: &DrillRun, status: &DrillRunStatus, ui: Ui) -> Vec<String> {
    let reason = status.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let because = match (&run.spec.slot, &run.spec.requester) {
        (Some(slot), _) => format!("{:?} for the slot {}", run.spec.trigger, slot.0),
        (None, Some(requester)) => format!("asked for by {requester}"),
        (None, None) => format!("{:?}", run.spec.trigger),
    };
    let mut lines = vec![
        fitted(&format!("{}  {}{reason}", ui.strong(&run.name_any()), phase(status.phase, ui)), 2),
        fitted(&format!("  {}", message(status)), 2),
        line("drill", &format!("{}, {because}", run.spec.drill_ref.name)),
    ];
    if let Some(fault) = interlock_core::drill::fault::of_run(run) {
        let at = fault.path.map(|path| format!(" at {path}")).unwrap_or_default();
        let text =
            format!("{:?}{at}: this run cannot pass; it proves something if it fails because of it", fault.fault);
        lines.push(ui.warn(&line("fault", &text)));
    }
    lines
}

fn point(status: &DrillRunStatus) -> Vec<String> {
    let Some(chosen) = &status.chosen else { return Vec::new() };
    let what = format!(
        "{} ({:?}): data of {}, {} files, {}",
        chosen.backup,
        chosen.strategy,
        chosen.data_time.0,
        chosen.files,
        size(chosen.bytes)
    );
    vec![line("restores", &what)]
}

/// Parts of the recovery time below each other, each where it lies in the whole.
fn times(status: &DrillRunStatus, now: Timestamp, ui: Ui) -> Vec<String> {
    let Some(t0) = status.t0.as_ref().map(|t0| t0.0) else { return Vec::new() };
    let running = if status.phase.is_terminal() { status.finished_at.as_ref().map_or(now, |at| at.0) } else { now };
    let end = |segment: &DrillSegment| segment.finished_at.as_ref().map_or(running, |at| at.0);
    let whole = status.segments.iter().map(end).max().unwrap_or(running).duration_since(t0).as_secs().max(1);
    let mut lines = Vec::new();
    for segment in &status.segments {
        let from = segment.started_at.0.duration_since(t0).as_secs();
        let until = end(segment).duration_since(t0).as_secs().max(from);
        let bar = bar(from, until, whole);
        let name = format!("{:?}", segment.name).to_lowercase();
        let took = span(SignedDuration::from_secs(until - from));
        let (bar, took) = match segment.finished_at {
            Some(_) => (ui.good(&bar), took),
            None if status.phase.is_terminal() => (ui.bad(&bar), format!("{took}, not ended")),
            None => (ui.warn(&bar), format!("{took} so far")),
        };
        lines.push(format!("  {}{bar} {took}", padded(&name, LABEL)));
    }
    if let Some(rto) = &status.rto {
        lines.push(line("recovery time", &recovery_time(rto, ui)));
    }
    if let Some(rpo) = &status.rpo {
        lines.push(line("recovery point", &recovery_point(rpo, ui)));
    }
    lines
}

/// A bar from one second to another one of so many, at least one column wide.
fn bar(from: i64, until: i64, whole: i64) -> String {
    let column = |second: i64| (second.clamp(0, whole) as usize * BAR) / whole.max(1) as usize;
    let begin = column(from).min(BAR - 1);
    let end = column(until).max(begin + 1);
    format!("{}{}{}", " ".repeat(begin), "█".repeat(end - begin), " ".repeat(BAR - end))
}

fn judged(met: Option<bool>, objective: Option<i64>, ui: Ui) -> String {
    let objective = objective.map(|seconds| format!(", objective {}", span(SignedDuration::from_secs(seconds))));
    let met = match met {
        Some(true) => format!(", {}", ui.good("met")),
        Some(false) => format!(", {}", ui.bad("not met")),
        None => ", not judged".to_owned(),
    };
    objective.unwrap_or_default() + &met
}

fn recovery_time(rto: &MeasuredRto, ui: Ui) -> String {
    format!("{}{}", span(SignedDuration::from_secs(rto.seconds)), judged(rto.met, rto.objective_seconds, ui))
}

fn recovery_point(rpo: &MeasuredRpo, ui: Ui) -> String {
    let of = |seconds: i64| span(SignedDuration::from_secs(seconds));
    let lag = rpo.capture_lag_seconds.map(|lag| {
        let met = rpo.capture_lag_met.map(|met| if met { ", met" } else { ", not met" }).unwrap_or_default();
        format!("; the data was {} old when it was captured{met}", of(lag))
    });
    format!(
        "{} lost, between {} and {}{}{}",
        of(rpo.seconds),
        of(rpo.at_least_seconds),
        of(rpo.at_most_seconds),
        judged(rpo.met, rpo.objective_seconds, ui),
        lag.unwrap_or_default()
    )
}

fn validations(records: &[ValidationRecord], ui: Ui) -> Vec<String> {
    let row = |record: &ValidationRecord| {
        let sign = match record.verdict {
            ValidationVerdict::Passed => ui.good("✔"),
            ValidationVerdict::Pending => ui.dim("·"),
            ValidationVerdict::Skipped if !record.critical => ui.dim("-"),
            _ => ui.bad("✘"),
        };
        fitted(&format!("  {sign} {}", said(record)), 4)
    };
    let title = (!records.is_empty()).then(|| ui.strong("validations"));
    title.into_iter().chain(records.iter().map(row)).collect()
}

/// A validation in words.
fn said(record: &ValidationRecord) -> String {
    let critical = if record.critical { "" } else { " (not critical)" };
    let result = record.number.map(|number| number.to_string()).or(record.boolean.map(|boolean| boolean.to_string()));
    let result = result.map(|result| format!(", result {result}")).unwrap_or_default();
    let took = match (&record.started_at, &record.finished_at) {
        (Some(from), Some(until)) => format!(", {}", span(until.0.duration_since(from.0))),
        _ => String::new(),
    };
    let message = record.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{}{critical} {:?}{result}{took}{message}", record.name, record.verdict)
}

/// Isolation, cleanup and certificate.
fn after(run: &DrillRun, status: &DrillRunStatus, ui: Ui) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(isolation) = &status.isolation {
        let found = |result: Option<interlock_crds::ProbeResult>| {
            result.map_or_else(|| "not known yet".to_owned(), |result| format!("{result:?}"))
        };
        let (outside, inside) = (found(isolation.outside), found(isolation.inside));
        lines.push(line("isolation", &format!("{}: {outside} from outside, {inside} from inside", isolation.target)));
    }
    let cleanup = &status.cleanup;
    if status.phase.is_terminal() || cleanup.state != CleanupState::Pending {
        let due = cleanup.due_at.as_ref().filter(|_| cleanup.state == CleanupState::Pending);
        let due = due.map(|due| format!(", not before {}", due.0)).unwrap_or_default();
        let said = cleanup.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        let state = format!("{:?}", cleanup.state);
        let state = match cleanup.state {
            CleanupState::Done => ui.good(&state),
            CleanupState::Failed => ui.bad(&state),
            _ => state,
        };
        lines.push(line("cleanup", &format!("{state}{due}{said}")));
    }
    if let Some(certificate) = &status.certificate {
        lines.push(line(
            "certificate",
            &format!("ConfigMap {}, sealed by {}", certificate.config_map, certificate.key_id),
        ));
        let namespace = run.namespace().unwrap_or_default();
        lines.push(ui.dim(&format!(
            "  kubectl get configmap {} -n {namespace} -o jsonpath='{{.data.certificate\\.html}}'",
            certificate.config_map
        )));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ui::Color;

    fn run() -> DrillRun {
        let at = |time: &str| format!("2026-11-23T{time}Z");
        serde_json::from_value(json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "DrillRun",
            "metadata": {"name": "teller-now-x7", "namespace": "bank"},
            "spec": {"drillRef": {"name": "teller"}, "trigger": "Manual", "requester": "alice"},
            "status": {
                "phase": "Failed", "verdict": "Failed", "reason": "ValidationFailed", "message": "validation accounts failed",
                "t0": at("02:00:00"), "finishedAt": at("02:08:20"),
                "chosen": {
                    "backup": "nightly-1", "uid": "u", "snapshotId": "5f", "dataTime": at("01:00:00"), "strategy": "Latest",
                    "files": 12, "bytes": 2048,
                },
                "segments": [
                    {"name": "Queue", "startedAt": at("02:00:00"), "finishedAt": at("02:00:50")},
                    {"name": "Restore", "startedAt": at("02:00:50"), "finishedAt": at("02:05:00")},
                    {"name": "Validate", "startedAt": at("02:05:00")},
                ],
                "rpo": {"seconds": 70, "atLeastSeconds": 38, "atMostSeconds": 102, "objectiveSeconds": 3600, "met": true, "captureLagSeconds": 5},
                "validations": [
                    {"name": "accounts", "critical": true, "verdict": "Failed", "queryDigest": "sha256:1", "number": 3.0, "message": "result > 5 does not hold"},
                    {"name": "page", "critical": false, "verdict": "Skipped", "queryDigest": "sha256:2"},
                ],
                "isolation": {"target": "10.0.0.9:8443", "outside": "Connected", "inside": "Blocked"},
                "cleanup": {"state": "Failed", "message": "left: Namespace/x"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_run_is_told_with_its_times_what_was_lost_and_what_is_left() {
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let text = whole(&run(), now, Ui::new(Color::Never)).join("\n");
        let on_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in [
            "teller-now-x7 Failed (ValidationFailed)",
            "teller, asked for by alice",
            "nightly-1 (Latest): data of 2026-11-23T01:00:00Z, 12 files, 2.0 KiB",
            "1m 10s lost, between 38s and 1m 42s, objective 1h, met",
            "✘ accounts Failed, result 3: result > 5 does not hold",
            "- page (not critical) Skipped",
            "10.0.0.9:8443: Connected from outside, Blocked from inside",
            "cleanup Failed: left: Namespace/x",
            "3m 20s, not ended",
        ] {
            assert!(on_one_line.contains(said), "{said}\n{text}");
        }
        let news = news(&run());
        assert_eq!((news.len(), news[0].as_str()), (3, "Failed: validation accounts failed"));
    }

    #[test]
    fn bars_lie_behind_each_other_and_are_seen_however_short_they_are() {
        assert_eq!(bar(0, 50, 100).trim_end(), "█".repeat(18));
        assert_eq!(bar(50, 100, 100), format!("{}{}", " ".repeat(18), "█".repeat(18)));
        for (from, until) in [(0, 0), (100, 100), (99, 100)] {
            let bar = bar(from, until, 100);
            assert_eq!((bar.chars().count(), bar.contains('█')), (BAR, true), "{from} to {until}");
        }
    }
}
