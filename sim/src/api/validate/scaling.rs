//! HorizontalPodAutoscalers and PodDisruptionBudgets.

use serde_json::{Value, json};

use super::super::error::Cause;
use super::check::{Causes, count_or_share, invalid, list, number, one_of, required, text};
use super::selectors;

/// A HorizontalPodAutoscaler.
pub(super) fn autoscaler(causes: &mut Causes, object: &Value) {
    let none = Value::Null;
    let spec = object.get("spec").unwrap_or(&none);
    let target = spec.get("scaleTargetRef").unwrap_or(&none);
    for name in ["kind", "name"] {
        if text(target, name).is_empty() {
            required(causes, format!("spec.scaleTargetRef.{name}"));
        }
    }
    if text(target, "apiVersion").is_empty() {
        let why = "apiVersion must specify API group";
        invalid(causes, "spec.scaleTargetRef.apiVersion", &json!(""), why);
    }
    let (least, most) = (number(spec, "minReplicas").unwrap_or(1), number(spec, "maxReplicas").unwrap_or(0));
    if most < 1 {
        required(causes, "spec.maxReplicas");
    }
    if most < least {
        let why = "must be greater than or equal to `minReplicas`";
        invalid(causes, "spec.maxReplicas", &json!(most), why);
    }
    if least < 0 {
        invalid(causes, "spec.minReplicas", &json!(least), "must be greater than or equal to 0");
    }
    let metrics = list(spec, "metrics");
    if least == 0 && !metrics.iter().any(|metric| ["Object", "External"].contains(&text(metric, "type"))) {
        let detail =
            "Forbidden: must specify at least one Object or External metric to support scaling to zero replicas";
        causes.push(Cause::new("spec.metrics", detail));
    }
    for (index, metric) in metrics.iter().enumerate() {
        let kind = text(metric, "type");
        let source = kind.get(..1).map(str::to_lowercase).unwrap_or_default() + kind.get(1..).unwrap_or_default();
        if metric.get(&source).is_none() {
            let detail = "Required value: must populate information for the given metric source";
            causes.push(Cause::new(format!("spec.metrics[{index}].{source}"), detail));
        }
    }
}

/// A PodDisruptionBudget.
pub(super) fn budget(causes: &mut Causes, object: &Value) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    let part = |name: &str| spec.get(name).cloned().unwrap_or_default();
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        // The server shows its own structure.
        let detail = format!(
            "Invalid value: {{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\
             \"UnhealthyPodEvictionPolicy\":{}}}: minAvailable and maxUnavailable cannot be both set",
            part("minAvailable"),
            part("selector"),
            part("maxUnavailable"),
            part("unhealthyPodEvictionPolicy")
        );
        causes.push(Cause::new("spec", detail));
    }
    for name in ["minAvailable", "maxUnavailable"] {
        count_or_share(causes, &format!("spec.{name}"), spec.get(name));
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of(causes, "spec.unhealthyPodEvictionPolicy", text(spec, "unhealthyPodEvictionPolicy"), &policies);
    selectors::selector(causes, "spec.selector", spec.get("selector"));
}
