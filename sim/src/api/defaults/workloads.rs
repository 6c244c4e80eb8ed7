//! Workloads of `apps` and `batch`.

use serde_json::{Value, json};

use super::super::registry::KindInfo;
use super::{each, pods, unset, within};

/// Counts the templates of a DaemonSet.
pub(in crate::api) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn fill(info: &KindInfo, object: &mut Value) {
    if info.kind == "Job" {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let (Some(labels), Some(metadata)) = (labels, super::super::meta::of_mut(object)) {
            metadata.entry("labels").or_insert(labels);
        }
    }
    if info.kind == "DaemonSet"
        && let Some(metadata) = super::super::meta::of_mut(object)
    {
        // The server's own form has a field for it, which shows as an annotation.
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        unset(annotations, TEMPLATE_GENERATION, || json!("0"));
    }
    within(object, "spec", |spec| match info.kind.as_str() {
        "Deployment" => fill_deployment(spec),
        "ReplicaSet" => unset(spec, "replicas", || json!(1)),
        "StatefulSet" => fill_stateful_set(spec),
        "DaemonSet" => fill_daemon_set(spec),
        "Job" => fill_job(spec),
        "CronJob" => fill_cron_job(spec),
        _ => {}
    });
    if ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"].contains(&info.kind.as_str()) {
        within(object, "spec", |spec| {
            unset(spec, "template", || json!({}));
            within(spec, "template", |template| {
                unset(template, "metadata", || json!({}));
                unset(template, "spec", || json!({"containers": null}));
            });
        });
    }
    let template = if info.kind == "CronJob" { "/spec/jobTemplate/spec/template/spec" } else { "/spec/template/spec" };
    if info.kind != "ControllerRevision"
        && let Some(spec) = object.pointer_mut(template)
    {
        pods::fill(spec);
    }
}

fn fill_deployment(spec: &mut Value) {
    unset(spec, "replicas", || json!(1));
    unset(spec, "strategy", || json!({}));
    within(spec, "strategy", |strategy| {
        unset(strategy, "type", || json!("RollingUpdate"));
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            unset(strategy, "rollingUpdate", || json!({}));
            within(strategy, "rollingUpdate", |rolling| {
                unset(rolling, "maxUnavailable", || json!("25%"));
                unset(rolling, "maxSurge", || json!("25%"));
            });
        }
    });
    unset(spec, "revisionHistoryLimit", || json!(10));
    unset(spec, "progressDeadlineSeconds", || json!(600));
}

fn fill_stateful_set(spec: &mut Value) {
    unset(spec, "serviceName", || json!(""));
    unset(spec, "podManagementPolicy", || json!("OrderedReady"));
    unset(spec, "updateStrategy", || json!({}));
    within(spec, "updateStrategy", |strategy| {
        unset(strategy, "type", || json!("RollingUpdate"));
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            unset(strategy, "rollingUpdate", || json!({}));
            within(strategy, "rollingUpdate", |rolling| {
                unset(rolling, "partition", || json!(0));
                unset(rolling, "maxUnavailable", || json!(1));
            });
        }
    });
    unset(spec, "replicas", || json!(1));
    unset(spec, "revisionHistoryLimit", || json!(10));
    unset(spec, "persistentVolumeClaimRetentionPolicy", || json!({}));
    within(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
        unset(policy, "whenDeleted", || json!("Retain"));
        unset(policy, "whenScaled", || json!("Retain"));
    });
    each(spec, "volumeClaimTemplates", |claim| {
        unset(claim, "apiVersion", || json!("v1"));
        unset(claim, "kind", || json!("PersistentVolumeClaim"));
        within(claim, "spec", |spec| unset(spec, "volumeMode", || json!("Filesystem")));
        unset(claim, "status", || json!({}));
        within(claim, "status", |status| unset(status, "phase", || json!("Pending")));
    });
}

fn fill_daemon_set(spec: &mut Value) {
    unset(spec, "updateStrategy", || json!({}));
    within(spec, "updateStrategy", |strategy| {
        unset(strategy, "type", || json!("RollingUpdate"));
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
            unset(strategy, "rollingUpdate", || json!({}));
            within(strategy, "rollingUpdate", |rolling| {
                unset(rolling, "maxUnavailable", || json!(1));
                unset(rolling, "maxSurge", || json!(0));
            });
        }
    });
    unset(spec, "revisionHistoryLimit", || json!(10));
}

fn fill_job(spec: &mut Value) {
    if spec.get("parallelism").is_none() {
        unset(spec, "completions", || json!(1));
    }
    unset(spec, "parallelism", || json!(1));
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    unset(spec, "backoffLimit", || json!(if per_index { i32::MAX } else { 6 }));
    unset(spec, "completionMode", || json!("NonIndexed"));
    unset(spec, "suspend", || json!(false));
    unset(spec, "manualSelector", || json!(false));
    unset(spec, "template", || json!({}));
    within(spec, "template", |template| unset(template, "metadata", || json!({})));
    let has_policy = spec.get("podFailurePolicy").is_some();
    within(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |condition| unset(condition, "status", || json!("True")));
        });
    });
    unset(spec, "podReplacementPolicy", || json!(if has_policy { "Failed" } else { "TerminatingOrFailed" }));
}

fn fill_cron_job(spec: &mut Value) {
    unset(spec, "concurrencyPolicy", || json!("Allow"));
    unset(spec, "suspend", || json!(false));
    unset(spec, "successfulJobsHistoryLimit", || json!(3));
    unset(spec, "failedJobsHistoryLimit", || json!(1));
    within(spec, "jobTemplate", |template| {
        unset(template, "metadata", || json!({}));
        within(template, "spec", |spec| {
            within(spec, "template", |template| unset(template, "metadata", || json!({})));
        });
    });
}
