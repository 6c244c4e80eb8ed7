//! Containers of a Pod or a template.

use std::collections::BTreeSet;

use interlock_core::object::Quantity;
use serde_json::Value;

use super::super::error::Cause;
use super::check::{Causes, duplicate, invalid, list, one_of, port, required, text};
use super::metadata;

/// The containers of a list; their names are collected.
pub(super) fn check(causes: &mut Causes, spec: &Value, field: &str, name: &str, names: &mut BTreeSet<String>) {
    let volumes: BTreeSet<&str> = list(spec, "volumes").iter().map(|volume| text(volume, "name")).collect();
    for (index, container) in list(spec, name).iter().enumerate() {
        let place = format!("{field}.{name}[{index}]");
        match text(container, "name") {
            "" => required(causes, format!("{place}.name")),
            name => {
                metadata::label_name(causes, &format!("{place}.name"), name);
                if !names.insert(name.to_owned()) {
                    duplicate(causes, format!("{place}.name"), &Value::from(name));
                }
            }
        }
        if text(container, "image").is_empty() {
            required(causes, format!("{place}.image"));
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        one_of(causes, format!("{place}.imagePullPolicy"), text(container, "imagePullPolicy"), &policies);
        ports(causes, container, &place);
        environment(causes, container, &place);
        resources(causes, container.get("resources"), &format!("{place}.resources"));
        for (number, mount) in list(container, "volumeMounts").iter().enumerate() {
            let place = format!("{place}.volumeMounts[{number}]");
            if !volumes.contains(text(mount, "name")) {
                causes.push(Cause::new(format!("{place}.name"), format!("Not found: \"{}\"", text(mount, "name"))));
            }
            if text(mount, "mountPath").is_empty() {
                required(causes, format!("{place}.mountPath"));
            }
        }
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if let Some(found) = container.get(name) {
                probe(causes, found, &format!("{place}.{name}"));
            }
        }
    }
}

fn ports(causes: &mut Causes, container: &Value, place: &str) {
    let mut names = BTreeSet::new();
    for (index, found) in list(container, "ports").iter().enumerate() {
        let place = format!("{place}.ports[{index}]");
        let name = text(found, "name");
        if !name.is_empty() {
            port_name(causes, &format!("{place}.name"), name);
            if !names.insert(name) {
                duplicate(causes, format!("{place}.name"), &Value::from(name));
            }
        }
        match found.get("containerPort").and_then(Value::as_i64) {
            None | Some(0) => required(causes, format!("{place}.containerPort")),
            _ => port(causes, format!("{place}.containerPort"), found.get("containerPort")),
        }
        one_of(causes, format!("{place}.protocol"), text(found, "protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// The name of a port, by which others find it.
pub(super) fn port_name(causes: &mut Causes, field: &str, name: &str) {
    let is_letter = |c: char| c.is_ascii_lowercase();
    let mut say = |is_wrong: bool, why: &str| {
        if is_wrong {
            invalid(causes, field, &Value::from(name), why);
        }
    };
    say(name.len() > 15, "must be no more than 15 characters");
    let odd = !name.chars().all(|c| is_letter(c) || c.is_ascii_digit() || c == '-');
    say(odd, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    say(!odd && !name.chars().any(is_letter), "must contain at least one letter (a-z)");
    say(name.contains("--"), "must not contain consecutive hyphens");
    say(name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen");
}

fn environment(causes: &mut Causes, container: &Value, place: &str) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let place = format!("{place}.env[{index}]");
        if text(variable, "name").is_empty() {
            required(causes, format!("{place}.name"));
        }
        if variable.get("valueFrom").is_some() && !text(variable, "value").is_empty() {
            let why = "may not be specified when `value` is not empty";
            invalid(causes, format!("{place}.valueFrom"), &Value::from(""), why);
        }
    }
}

fn resources(causes: &mut Causes, resources: Option<&Value>, place: &str) {
    let of = |kind: &str| {
        let listed =
            resources.and_then(|resources| resources.get(kind)).and_then(Value::as_object).into_iter().flatten();
        listed.filter_map(|(name, amount)| Some((name, amount, Quantity::of(amount)?))).collect::<Vec<_>>()
    };
    let (limits, requests) = (of("limits"), of("requests"));
    for (kind, listed) in [("limits", &limits), ("requests", &requests)] {
        for (name, amount, _) in listed.iter().filter(|(_, amount, _)| is_negative(amount)) {
            invalid(causes, format!("{place}.{kind}[{name}]"), amount, "must be greater than or equal to 0");
        }
    }
    for (name, amount, requested) in &requests {
        let limit = limits.iter().find(|(other, _, _)| other == name);
        if let Some((_, shown, _)) = limit.filter(|(_, _, limit)| requested > limit) {
            let limit = shown.as_str().unwrap_or_default();
            let why = format!("must be less than or equal to {name} limit of {limit}");
            invalid(causes, format!("{place}.requests"), amount, &why);
        }
    }
}

/// Whether an amount is below nought.
pub(super) fn is_negative(amount: &Value) -> bool {
    amount.as_str().is_some_and(|amount| amount.starts_with('-'))
}

fn probe(causes: &mut Causes, probe: &Value, place: &str) {
    if !["exec", "httpGet", "tcpSocket", "grpc"].iter().any(|handler| probe.get(handler).is_some()) {
        causes.push(Cause::new(place, "Required value: must specify a handler type"));
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(found) = probe.get(handler) {
            port(causes, format!("{place}.{handler}.port"), found.get("port"));
        }
    }
}
