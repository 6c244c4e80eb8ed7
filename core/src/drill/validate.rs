//! What a schema cannot refuse in a drill: schedules that never occur, conditions that cannot hold, templates that reach further
//! than the sandbox, objectives that nothing measures.

use std::collections::BTreeSet;

use interlock_crds::{
    BackupPolicySpec, DrillSandbox, DrillValidation, Duration, Fault, RestoreDrillSpec, SelectionStrategy,
};

use super::{expect::condition, schedule, template};
use crate::calendar::time_zone;

/// The name under which validations and dependencies reach the application.
pub const APPLICATION_HOST: &str = "application";
/// Longest part of a run: three days.
const LONGEST_PART: i64 = 3 * 86_400;

/// What is wrong with a drill, as sentences; empty if it can be used.
pub fn problems(spec: &RestoreDrillSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Err(error) = time_zone(&spec.time_zone) {
        wrong.push(format!("timeZone: {error}"));
    } else if let Err(error) = schedule::compile(spec) {
        wrong.push(error);
    }
    wrong.extend(length("startWithin", spec.start_within, 60, 31 * 86_400));
    let timeouts = &spec.timeouts;
    for (name, given) in [
        ("queue", timeouts.queue),
        ("restore", timeouts.restore),
        ("start", timeouts.start),
        ("validate", timeouts.validate),
        ("cleanup", timeouts.cleanup),
    ] {
        wrong.extend(length(&format!("timeouts.{name}"), given, 10, LONGEST_PART));
    }
    let mut names = BTreeSet::new();
    for validation in &spec.validations {
        if !names.insert(&validation.name) {
            wrong.push(format!("two validations are named {}; give each its own name", validation.name));
        }
        wrong.extend(of_validation(spec, validation));
    }
    if !spec.validations.iter().any(|validation| validation.critical) {
        wrong.push("no validation is critical: the drill would pass whatever came back".into());
    }
    let asks_heartbeat = spec.validations.iter().any(|validation| validation.heartbeat.is_some());
    let objectives = spec.objectives.clone().unwrap_or_default();
    if !asks_heartbeat && (objectives.rpo.is_some() || objectives.capture_lag.is_some()) {
        wrong.push(
            "objectives.rpo and captureLag are measured by the heartbeat: add a validation with heartbeat: {}".into(),
        );
    }
    if let Some(fault) = &spec.fault_injection {
        match fault.fault {
            Fault::TamperHeartbeat if !asks_heartbeat => {
                wrong.push(
                    "fault TamperHeartbeat can only be noticed by a validation with heartbeat: {}; add one".into(),
                );
            }
            Fault::Delay if objectives.rto.is_none() => {
                wrong.push("fault Delay can only be noticed with objectives.rto; set it".into());
            }
            _ => {}
        }
        wrong.extend(fault.path.as_deref().and_then(|path| climbs("faultInjection.path", path)));
    }
    if spec.selection.strategy == SelectionStrategy::ById && spec.schedule.is_some() {
        wrong.push("selection ById names one recovery point: leave out schedule".into());
    }
    sandbox(&mut wrong, &spec.sandbox);
    wrong
}

/// What is wrong with how a drill and its policy fit together.
pub fn references(spec: &RestoreDrillSpec, policy: Option<&BackupPolicySpec>) -> Vec<String> {
    let Some(policy) = policy else {
        return vec![format!("BackupPolicy {} does not exist in this namespace", spec.policy_ref.name)];
    };
    let mut wrong = Vec::new();
    let asks_heartbeat = spec.validations.iter().any(|validation| validation.heartbeat.is_some());
    if asks_heartbeat && policy.heartbeat.is_none() {
        wrong.push("a validation asks for the heartbeat, and the policy has none; give the policy a heartbeat".into());
    }
    let serves = spec.sandbox.application.as_ref().is_some_and(|application| application.postgres.is_some());
    if serves && policy.source.postgres.is_none() {
        wrong.push("application.postgres needs a policy with source.postgres; give application.podTemplate".into());
    }
    let in_table = policy.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.table.is_some());
    if asks_heartbeat && in_table && !serves {
        wrong.push("the heartbeat is a table, and nothing serves it: give application.postgres".into());
    }
    wrong
}

/// What people should know about a drill that can be used.
pub fn warnings(spec: &RestoreDrillSpec) -> Vec<String> {
    let mut told = Vec::new();
    if spec.schedule.is_none() && spec.selection.strategy != SelectionStrategy::ById {
        told.push("the drill has no schedule: it runs only when a person asks, and is never overdue".to_owned());
    }
    if spec.objectives.as_ref().is_none_or(|objectives| objectives.rto.is_none()) {
        told.push("objectives.rto is not set: recovery time is measured and not judged".to_owned());
    }
    if spec.fault_injection.is_some() {
        told.push("faultInjection is set: every run is one with a fault and never counts as passed".to_owned());
    }
    told
}

fn of_validation(spec: &RestoreDrillSpec, validation: &DrillValidation) -> Vec<String> {
    let name = format!("validation {}", validation.name);
    let mut wrong: Vec<_> =
        length(&format!("{name}: timeout"), validation.timeout, 1, LONGEST_PART).into_iter().collect();
    if validation.timeout > spec.timeouts.validate {
        wrong.push(format!("{name}: timeout is longer than timeouts.validate, which all validations have together"));
    }
    let application = spec.sandbox.application.as_ref();
    if let Some(sql) = &validation.sql {
        if let Err(error) = condition(&sql.expect) {
            wrong.push(format!("{name}: expect: {error}"));
        }
        if application.is_none_or(|application| application.postgres.is_none()) {
            wrong.push(format!("{name}: sql needs application.postgres, which serves the restored data"));
        }
    }
    if validation.http.is_some() && application.is_none() {
        wrong.push(format!("{name}: http needs an application"));
    }
    if validation.heartbeat.is_some() && !validation.critical {
        wrong.push(format!("{name}: a heartbeat validation is always critical, as lost data is; leave out critical"));
    }
    for digest in validation.files.iter().flat_map(|files| &files.digests) {
        wrong.extend(climbs(&format!("{name}: path"), &digest.path));
    }
    wrong
}

fn sandbox(wrong: &mut Vec<String>, sandbox: &DrillSandbox) {
    let mut names = BTreeSet::from([APPLICATION_HOST]);
    for dependency in &sandbox.dependencies {
        if !names.insert(&dependency.name) {
            wrong.push(format!(
                "dependency {}: the name is taken; give each its own, other than {APPLICATION_HOST}",
                dependency.name
            ));
        }
        wrong.extend(template::problems(&format!("dependency {}", dependency.name), &dependency.pod_template));
    }
    if let Some(pod) = sandbox.application.as_ref().and_then(|application| application.pod_template.as_ref()) {
        wrong.extend(template::problems("application", pod));
    }
}

fn climbs(name: &str, path: &str) -> Option<String> {
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    climbs.then(|| format!("{name} {path} leaves the restored data; write a path without . and .."))
}

fn length(name: &str, given: Duration, least: i64, most: i64) -> Option<String> {
    let fits = (least..=most).contains(&given.seconds());
    let (least, most) = (Duration::from_seconds(least), Duration::from_seconds(most));
    (!fits).then(|| format!("{name} is {given}; write one from {least} to {most}"))
}
