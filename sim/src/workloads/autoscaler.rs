//! The controller of HorizontalPodAutoscalers: as many replicas as a behaviour says that the metrics ask for.
//!
//! Left out: metrics themselves, and stabilisation windows.

use std::sync::Arc;

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, Effect, Subject};
use super::conditions::{self, Condition, truth};
use super::{read, writes};
use crate::api::{Api, ApiError, Key, meta};

const NAME: &str = "horizontal-pod-autoscaler";
const TARGET: &str = "/spec/scaleTargetRef";

/// The kind.
pub(super) fn kind() -> GroupKind {
    GroupKind::new("autoscaling", "HorizontalPodAutoscaler")
}

/// Whether the autoscaler is about an object.
pub(super) fn is_about(autoscaler: &Value, target: &Key) -> bool {
    let reference = |field: &str| read::text(autoscaler, &format!("{TARGET}/{field}"));
    reference("kind") == target.kind.kind && reference("name") == target.name
}

/// One look at an autoscaler.
pub(super) fn reconcile(api: &mut Api, key: &Key, behaviours: &[Behaviour]) -> Result<Option<Timestamp>, ApiError> {
    let Some(autoscaler) = writes::live(api, key) else {
        return Ok(None);
    };
    let Some(target) = target_of(api, &autoscaler) else {
        let unable = Condition {
            kind: "AbleToScale",
            status: "False",
            reason: "FailedGetScale",
            message: "the HPA controller was unable to get the target's current scale: not found",
        };
        return report(api, &autoscaler, (0, 0), &[unable]).map(|()| None);
    };
    let current = read::replicas(&target);
    if current == 0 {
        let off = Condition {
            kind: "ScalingActive",
            status: "False",
            reason: "ScalingDisabled",
            message: "scaling is disabled since the replica count of the target is zero",
        };
        return report(api, &autoscaler, (0, 0), &[able(), off]).map(|()| None);
    }
    let subject = Subject { namespace: &key.namespace, workload: meta::name(&target), images: Vec::new() };
    let asked = subject.ask(behaviours, |effect| match effect {
        Effect::WantsReplicas(replicas) => Some(*replicas),
        _ => None,
    });
    let (least, most) =
        (read::number(&autoscaler, "/spec/minReplicas").unwrap_or(1), read::count(&autoscaler, "/spec/maxReplicas"));
    let asked = asked.unwrap_or(current);
    let wanted = asked.min(most).max(least);
    let active = Condition {
        kind: "ScalingActive",
        status: "True",
        reason: "ValidMetricFound",
        message: "the HPA was able to successfully calculate a replica count from the metrics",
    };
    let (reason, message) = match wanted.cmp(&asked) {
        std::cmp::Ordering::Less => {
            ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
        }
        std::cmp::Ordering::Equal => ("DesiredWithinRange", "the desired count is within the acceptable range"),
        std::cmp::Ordering::Greater => {
            ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
        }
    };
    let limited = Condition { kind: "ScalingLimited", status: truth(wanted != asked), reason, message };
    if wanted != current {
        writes::patch(api, NAME, &target, json!({"spec": {"replicas": wanted}}))?;
    }
    report(api, &autoscaler, (current, wanted), &[able(), active, limited]).map(|()| None)
}

const fn able() -> Condition<'static> {
    Condition {
        kind: "AbleToScale",
        status: "True",
        reason: "ReadyForNewScale",
        message: "recommended size matches current size",
    }
}

fn target_of(api: &Api, autoscaler: &Value) -> Option<Arc<Value>> {
    let (group, _) = read::text(autoscaler, &format!("{TARGET}/apiVersion")).rsplit_once('/').unwrap_or_default();
    let kind = GroupKind::new(group, read::text(autoscaler, &format!("{TARGET}/kind")));
    let name = read::text(autoscaler, &format!("{TARGET}/name"));
    api.get_arc(&kind, meta::namespace(autoscaler), name).filter(|target| !meta::is_terminating(target))
}

fn report(
    api: &mut Api,
    autoscaler: &Value,
    (current, wanted): (i64, i64),
    told: &[Condition<'_>],
) -> Result<(), ApiError> {
    let now = api.now();
    let mut found = read::list(autoscaler, "/status/conditions").to_vec();
    found.retain(|old| told.iter().any(|new| new.kind == read::text(old, "/type")));
    for condition in told {
        conditions::put(&mut found, condition, json!({}), now);
    }
    let mut status = json!({
        "currentMetrics": null,
        "observedGeneration": read::count(autoscaler, "/metadata/generation"),
        "desiredReplicas": wanted,
        "conditions": found,
    });
    writes::set_count(&mut status, "currentReplicas", current);
    let is_scaled = wanted != current;
    let last = autoscaler.pointer("/status/lastScaleTime").cloned();
    if let Some(last) = if is_scaled { Some(json!(read::shown(now))) } else { last } {
        writes::set(&mut status, "lastScaleTime", last);
    }
    writes::put_status(api, NAME, autoscaler, status)
}
