//! What a stored object must be like: names, required fields, what may not change. Of built-in kinds only the usual
//! mistakes are noticed.

mod check;
mod containers;
mod immutable;
mod jobs;
mod metadata;
mod pods;
mod rbac;
mod scaling;
mod selectors;
mod services;
mod storage;
mod workloads;

use serde_json::Value;

use super::error::{ApiError, Cause};
use super::registry::KindInfo;
use super::{meta, schema};

/// Mistakes after which rules are not looked at.
const BLOCKING: [&str; 5] =
    ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"];

/// Refuses a new object.
///
/// # Errors
/// 422.
pub(super) fn created(info: &KindInfo, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    metadata::names(info, new, &mut causes);
    content(info, None, new, &mut causes);
    if info.is("batch", "Job") {
        jobs::own_selector(&mut causes, new);
    }
    refuse(info, new, &causes)
}

/// Refuses an update.
///
/// # Errors
/// 422.
pub(super) fn updated(info: &KindInfo, old: &Value, new: &Value) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if meta::is_terminating(old) {
        let before = meta::finalizers(old);
        let added: Vec<String> = meta::finalizers(new).into_iter().filter(|name| !before.contains(name)).collect();
        if !added.is_empty() {
            let shown: Vec<String> = added.iter().map(|name| format!("\"{name}\"")).collect();
            let detail = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers \
                 []string{{{}}}",
                shown.join(", ")
            );
            causes.push(Cause::new("metadata.finalizers", detail));
        }
    }
    if let Some(asked) = meta::text(new, "deletionTimestamp").filter(|_| !meta::is_terminating(old)) {
        let detail = format!("Invalid value: \"{asked}\": field is immutable");
        causes.push(Cause::new("metadata.deletionTimestamp", detail));
    }
    content(info, Some(old), new, &mut causes);
    immutable::check(info, old, new, &mut causes);
    refuse(info, new, &causes)
}

fn refuse(info: &KindInfo, new: &Value, causes: &[Cause]) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&info.group_kind(), meta::name(new), causes))
}

fn content(info: &KindInfo, old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    metadata::check(info, new, causes);
    if let Some(schema) = &info.schema {
        let found = schema::validate(schema, new, old);
        let is_readable = !found.iter().any(|cause| BLOCKING.contains(&cause.reason()));
        causes.extend(found);
        if is_readable {
            causes.extend(schema::refused(schema, new, old));
        } else if info.has_rules {
            let detail = "Invalid value: null: some validation rules were not checked because the object was invalid; \
                          correct the existing errors to complete validation";
            causes.push(Cause::new("<nil>", detail));
        }
    } else {
        built_in(info, new, causes);
    }
}

fn built_in(info: &KindInfo, object: &Value, causes: &mut Vec<Cause>) {
    match (info.group.as_str(), info.kind.as_str()) {
        ("", "ConfigMap" | "Secret") => storage::data(causes, info, object),
        ("", "Pod") => pods::spec(causes, object.get("spec"), "spec"),
        ("", "Service") => services::service(causes, object),
        ("", "PersistentVolumeClaim") => storage::claim(causes, object),
        ("", "ResourceQuota") => storage::quota(causes, object),
        ("apps", "ControllerRevision") => check::not_negative(causes, "", object, &["revision"]),
        ("apps", _) => workloads::check(causes, info, object),
        ("batch", "Job") => jobs::job(causes, object),
        ("batch", "CronJob") => jobs::cron_job(causes, object),
        ("autoscaling", _) => scaling::autoscaler(causes, object),
        ("policy", "PodDisruptionBudget") => scaling::budget(causes, object),
        ("networking.k8s.io", "NetworkPolicy") => services::network_policy(causes, object),
        ("networking.k8s.io", "Ingress") => services::ingress(causes, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::role(causes, object),
        ("rbac.authorization.k8s.io", _) => rbac::binding(causes, object),
        ("coordination.k8s.io", "Lease") => {
            let found = object.pointer("/spec/leaseDurationSeconds");
            if let Some(found) = found.filter(|found| found.as_i64().is_some_and(|seconds| seconds <= 0)) {
                check::invalid(causes, "spec.leaseDurationSeconds", found, "must be greater than 0");
            }
        }
        _ => {}
    }
}
