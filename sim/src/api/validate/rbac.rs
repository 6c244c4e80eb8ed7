//! Roles and their bindings.

use serde_json::Value;

use super::super::error::Cause;
use super::check::{Causes, list, required, text, unsupported};

/// A Role or a ClusterRole.
pub(super) fn role(causes: &mut Causes, object: &Value) {
    for (index, rule) in list(object, "rules").iter().enumerate() {
        let place = format!("rules[{index}]");
        if list(rule, "verbs").is_empty() {
            required(causes, format!("{place}.verbs"));
        }
        if !list(rule, "nonResourceURLs").is_empty() {
            continue;
        }
        for (name, what) in [("apiGroups", "api group"), ("resources", "resource")] {
            if list(rule, name).is_empty() {
                let detail = format!("Required value: resource rules must supply at least one {what}");
                causes.push(Cause::new(format!("{place}.{name}"), detail));
            }
        }
    }
    if object.get("aggregationRule").is_some_and(|rule| list(rule, "clusterRoleSelectors").is_empty()) {
        let detail = "Required value: at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.push(Cause::new("aggregationRule.clusterRoleSelectors", detail));
    }
}

/// A RoleBinding or a ClusterRoleBinding.
pub(super) fn binding(causes: &mut Causes, object: &Value) {
    let none = Value::Null;
    let role = object.get("roleRef").unwrap_or(&none);
    let is_wide = object.get("kind").is_some_and(|kind| kind == "ClusterRoleBinding");
    let kinds: &[&str] = if is_wide { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        unsupported(causes, "roleRef.kind", text(role, "kind"), kinds);
    }
    if text(role, "name").is_empty() {
        required(causes, "roleRef.name");
    }
    for (index, subject) in list(object, "subjects").iter().enumerate() {
        let place = format!("subjects[{index}]");
        if text(subject, "name").is_empty() {
            required(causes, format!("{place}.name"));
        }
        let kind = text(subject, "kind");
        if !["ServiceAccount", "User", "Group"].contains(&kind) {
            unsupported(causes, format!("{place}.kind"), kind, &["ServiceAccount", "User", "Group"]);
        }
        if is_wide && kind == "ServiceAccount" && text(subject, "namespace").is_empty() {
            required(causes, format!("{place}.namespace"));
        }
    }
}
