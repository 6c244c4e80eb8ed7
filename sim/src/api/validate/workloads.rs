//! Deployments, ReplicaSets, StatefulSets and DaemonSets.

use serde_json::Value;

use super::super::error::Cause;
use super::super::registry::KindInfo;
use super::check::{Causes, count_or_share, invalid, not_negative, number, one_of, text};
use super::{pods, selectors};

pub(super) fn check(causes: &mut Causes, info: &KindInfo, object: &Value) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    not_negative(causes, "spec", spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"]);
    selectors::of_workload(causes, object, &info.kind);
    pods::template(causes, spec.get("template"), "spec.template", &["Always"]);
    // The pods of a Deployment are those of a ReplicaSet.
    let of_pods = if info.kind == "Deployment" { "ReplicaSet" } else { &info.kind };
    pods::no_deadline(causes, object, of_pods);
    match info.kind.as_str() {
        "Deployment" => deployment(causes, spec),
        "StatefulSet" => stateful_set(causes, spec),
        "DaemonSet" => daemon_set(causes, spec),
        _ => {}
    }
}

/// Whether a bound lets nothing happen.
fn is_nothing(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value == 0 || value == "0%")
}

fn deployment(causes: &mut Causes, spec: &Value) {
    let ready = number(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = number(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        let why = "must be greater than minReadySeconds";
        invalid(causes, "spec.progressDeadlineSeconds", &Value::from(deadline), why);
    }
    let Some(strategy) = spec.get("strategy") else {
        return;
    };
    let rolling = strategy.get("rollingUpdate");
    let bound = |name: &str| rolling.and_then(|rolling| rolling.get(name));
    let (surge, unavailable) = (bound("maxSurge"), bound("maxUnavailable"));
    match text(strategy, "type") {
        "Recreate" if rolling.is_some() => {
            let detail = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::new("spec.strategy.rollingUpdate", detail));
        }
        "RollingUpdate" => {
            const UNAVAILABLE: &str = "spec.strategy.rollingUpdate.maxUnavailable";
            count_or_share(causes, UNAVAILABLE, unavailable);
            count_or_share(causes, "spec.strategy.rollingUpdate.maxSurge", surge);
            if let (true, true, Some(zero)) = (is_nothing(surge), is_nothing(unavailable), unavailable) {
                invalid(causes, UNAVAILABLE, zero, "may not be 0 when `maxSurge` is 0");
            }
            let share = unavailable.and_then(Value::as_str).and_then(|share| share.strip_suffix('%'));
            if let (Some(found), true) = (unavailable, share.and_then(|share| share.parse().ok()).unwrap_or(0) > 100) {
                invalid(causes, UNAVAILABLE, found, "must not be greater than 100%");
            }
        }
        "Recreate" => {}
        other => {
            // The server shows its own structure.
            let shown = match (surge, unavailable) {
                (Some(surge), Some(unavailable)) => {
                    format!("{{\"MaxUnavailable\":{unavailable},\"MaxSurge\":{surge}}}")
                }
                _ => "null".to_owned(),
            };
            let detail = format!(
                "Unsupported value: {{\"Type\":\"{other}\",\"RollingUpdate\":{shown}}}: supported values: \"Recreate\", \
                 \"RollingUpdate\""
            );
            causes.push(Cause::new("spec.strategy", detail));
        }
    }
}

fn stateful_set(causes: &mut Causes, spec: &Value) {
    let strategy = spec.pointer("/updateStrategy/type").and_then(Value::as_str).unwrap_or_default();
    if !["RollingUpdate", "OnDelete"].contains(&strategy) {
        let detail = format!(
            "Invalid value: {{\"Type\":\"{strategy}\",\"RollingUpdate\":null}}: must be 'RollingUpdate' or 'OnDelete'"
        );
        causes.push(Cause::new("spec.updateStrategy", detail));
    }
    one_of(causes, "spec.podManagementPolicy", text(spec, "podManagementPolicy"), &["OrderedReady", "Parallel"]);
    if let Some(policy) = spec.get("persistentVolumeClaimRetentionPolicy") {
        for name in ["whenDeleted", "whenScaled"] {
            let field = format!("spec.persistentVolumeClaimRetentionPolicy.{name}");
            one_of(causes, field, text(policy, name), &["Retain", "Delete"]);
        }
    }
}

fn daemon_set(causes: &mut Causes, spec: &Value) {
    const ROLLING: &str = "spec.updateStrategy.rollingUpdate";
    let bound = |name: &str| spec.pointer(&format!("/updateStrategy/rollingUpdate/{name}"));
    let (surge, unavailable) = (bound("maxSurge"), bound("maxUnavailable"));
    if is_nothing(surge) && is_nothing(unavailable) {
        let detail = "Required value: cannot be 0 when maxSurge is 0";
        causes.push(Cause::new(format!("{ROLLING}.maxUnavailable"), detail));
    } else if let Some(surge) = surge.filter(|surge| !is_nothing(Some(surge)) && !is_nothing(unavailable)) {
        invalid(causes, format!("{ROLLING}.maxSurge"), surge, "may not be set when maxUnavailable is non-zero");
    }
}
