//! Label selectors, and whether they select what they are for.

use serde_json::Value;

use super::super::error::Cause;
use super::super::select::label_selector_matches;
use super::check::{Causes, invalid, list, required, text};
use super::metadata;

/// A `LabelSelector` at a place. Says whether it can be used.
pub(super) fn selector(causes: &mut Causes, field: &str, selector: Option<&Value>) -> bool {
    let before = causes.len();
    let Some(selector) = selector else {
        return true;
    };
    metadata::labels(selector.get("matchLabels"), &format!("{field}.matchLabels"), causes);
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let place = format!("{field}.matchExpressions[{index}]");
        let has_values = !list(expression, "values").is_empty();
        match text(expression, "operator") {
            "In" | "NotIn" if !has_values => causes.push(Cause::new(
                format!("{place}.values"),
                "Required value: must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if has_values => causes.push(Cause::new(
                format!("{place}.values"),
                "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => invalid(causes, format!("{place}.operator"), &Value::from(other), "not a valid selector operator"),
        }
    }
    causes.len() == before
}

/// The selector of a workload: it is there, says something, and selects the pods of the template.
pub(super) fn of_workload(causes: &mut Causes, object: &Value, kind: &str) {
    let found = object.pointer("/spec/selector").filter(|selector| !selector.is_null());
    let labels = object.pointer("/spec/template/metadata/labels");
    let Some(selector) = found else {
        required(causes, "spec.selector");
        return mismatch(causes, labels);
    };
    if !self::selector(causes, "spec.selector", found) {
        invalid(causes, "spec.selector", selector, "invalid label selector");
    } else if selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none() {
        let why = format!("empty selector is invalid for {}", kind.to_lowercase());
        invalid(causes, "spec.selector", selector, &why);
    } else if !label_selector_matches(found, labels) {
        mismatch(causes, labels);
    }
}

pub(super) fn mismatch(causes: &mut Causes, labels: Option<&Value>) {
    let shown = labels.cloned().unwrap_or(Value::Null);
    invalid(causes, "spec.template.metadata.labels", &shown, "`selector` does not match template `labels`");
}
