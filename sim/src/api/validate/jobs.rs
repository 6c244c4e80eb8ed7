//! Jobs and CronJobs.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::super::error::Cause;
use super::check::{Causes, invalid, not_negative, one_of, required, text};
use super::pods;

const ENDING: [&str; 2] = ["OnFailure", "Never"];

/// A Job; a selector of its own is for those who say that they manage it.
pub(super) fn job(causes: &mut Causes, object: &Value) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    let counts = ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"];
    not_negative(causes, "spec", spec, &counts);
    if text(spec, "completionMode") == "Indexed" && spec.get("completions").is_none() {
        let detail = "Required value: when completion mode is Indexed";
        causes.push(Cause::new("spec.completions", detail));
    }
    pods::template(causes, spec.get("template"), "spec.template", &ENDING);
    let labels = spec.pointer("/template/metadata/labels");
    if !super::super::select::label_selector_matches(spec.get("selector"), labels) {
        super::selectors::mismatch(causes, labels);
    }
}

/// A new Job selects its own pods, or says that it does not.
pub(super) fn own_selector(causes: &mut Causes, object: &Value) {
    let is_manual = object.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true);
    let uid = super::super::meta::uid(object);
    let generated = serde_json::json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    if let Some(selector) = object.pointer("/spec/selector").filter(|found| !is_manual && **found != generated) {
        invalid(causes, "spec.selector", selector, "`selector` not auto-generated");
    }
}

/// A CronJob.
pub(super) fn cron_job(causes: &mut Causes, object: &Value) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    match text(spec, "schedule") {
        "" => required(causes, "spec.schedule"),
        schedule => {
            if let Some(why) = unreadable(schedule) {
                invalid(causes, "spec.schedule", &Value::from(schedule), &why);
            }
        }
    }
    if let Some(zone) = spec.get("timeZone").and_then(Value::as_str)
        && TimeZone::get(zone).is_err()
    {
        invalid(causes, "spec.timeZone", &Value::from(zone), &format!("unknown time zone {zone}"));
    }
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(causes, "spec.concurrencyPolicy", text(spec, "concurrencyPolicy"), &policies);
    let counts = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    not_negative(causes, "spec", spec, &counts);
    if let Some(of_job) = spec.pointer("/jobTemplate/spec") {
        let counts = ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"];
        not_negative(causes, "spec.jobTemplate.spec", of_job, &counts);
    }
    pods::template(causes, spec.pointer("/jobTemplate/spec/template"), "spec.jobTemplate.spec.template", &ENDING);
    let name = super::super::meta::name(object);
    if name.len() > 52 {
        invalid(causes, "metadata.name", &Value::from(name), "must be no more than 52 characters");
    }
}

/// Why a schedule cannot be read, if so. The fields themselves are not looked at.
fn unreadable(schedule: &str) -> Option<String> {
    if schedule.contains("TZ=") {
        return Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if schedule.starts_with('@') {
        return None;
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let count = fields.len();
    (count != 5).then(|| format!("expected exactly 5 fields, found {count}: [{}]", fields.join(" ")))
}
