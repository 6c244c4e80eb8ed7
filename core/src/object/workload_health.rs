//! The health of what runs pods.

use serde_json::Value;

use super::health::{Condition, Health, Observed};

pub(super) fn deployment(object: Observed<'_>) -> Health {
    let progressing = object.condition("Progressing");
    if let Some(late) = progressing.as_ref().filter(|condition| condition.reason == "ProgressDeadlineExceeded") {
        return Health::failed(format!("it did not progress in time: {}", late.why()));
    }
    let wanted = object.replicas();
    let updated = object.count("/status/updatedReplicas");
    let available = object.count("/status/availableReplicas");
    let all = object.count("/status/replicas");
    let is_paused = object.0.pointer("/spec/paused") == Some(&Value::Bool(true));
    let message = if updated < wanted && is_paused {
        format!("it is paused with {updated} of {wanted} pods of the new version")
    } else if updated < wanted {
        format!("{updated} of {wanted} pods of the new version exist")
    } else if all > updated {
        format!("{} pods of older versions still exist", all.saturating_sub(updated))
    } else if all > wanted {
        format!("{} pods more than {wanted} still exist", all.saturating_sub(wanted))
    } else if available < wanted {
        format!("{available} of {wanted} pods of the new version are available")
    } else if object.count("/status/readyReplicas") < wanted {
        format!("{} of {wanted} pods are ready", object.count("/status/readyReplicas"))
    } else {
        return deployment_conditions(object, progressing.as_ref(), is_paused);
    };
    Health::Progressing(message)
}

/// The counts are right; the conditions say whether they are about the newest version.
fn deployment_conditions(object: Observed<'_>, progressing: Option<&Condition<'_>>, is_paused: bool) -> Health {
    // The largest deadline means none, and then the controller keeps no Progressing condition.
    let has_deadline = object.number("/spec/progressDeadlineSeconds") != Some(i64::from(i32::MAX));
    let is_done =
        progressing.is_some_and(|condition| condition.is_true() && condition.reason == "NewReplicaSetAvailable");
    if has_deadline && !is_paused && !is_done {
        return Health::progressing("its new ReplicaSet is not reported as available yet");
    }
    match object.condition("Available") {
        Some(available) if available.is_true() => Health::Healthy,
        Some(available) => Health::progressing(format!("it is not available: {}", available.why())),
        None => Health::progressing("it is not reported as available yet"),
    }
}

pub(super) fn stateful_set(object: Observed<'_>) -> Health {
    if object.text("/spec/updateStrategy/type") == "OnDelete" {
        // New pods come only when a person deletes old ones: there is nothing to wait for.
        return Health::Healthy;
    }
    let wanted = object.replicas();
    let (all, ready) = (object.count("/status/replicas"), object.count("/status/readyReplicas"));
    let partition = object.count("/spec/updateStrategy/rollingUpdate/partition").max(0);
    let (to_update, updated) = (wanted.saturating_sub(partition).max(0), object.count("/status/updatedReplicas"));
    let message = if all < wanted {
        format!("{all} of {wanted} pods exist")
    } else if ready < wanted {
        format!("{ready} of {wanted} pods are ready")
    } else if all > wanted {
        format!("{} pods more than {wanted} still exist", all.saturating_sub(wanted))
    } else if updated < to_update {
        format!("{updated} of {to_update} pods have the new version")
    } else if partition == 0 && object.text("/status/currentRevision") != object.text("/status/updateRevision") {
        format!("revision {} is not current yet", object.text("/status/updateRevision"))
    } else {
        return Health::Healthy;
    };
    Health::Progressing(message)
}

pub(super) fn daemon_set(object: Observed<'_>) -> Health {
    let Some(wanted) = object.number("/status/desiredNumberScheduled") else {
        return Health::progressing("the number of its nodes is not known yet");
    };
    let is_on_delete = object.text("/spec/updateStrategy/type") == "OnDelete";
    let counts = [
        ("/status/currentNumberScheduled", "are scheduled", false),
        ("/status/updatedNumberScheduled", "have the new version", is_on_delete),
        ("/status/numberAvailable", "are available", false),
        ("/status/numberReady", "are ready", false),
    ];
    let lacking = counts.into_iter().find(|(count, _, skip)| !skip && object.count(count) < wanted);
    lacking.map_or(Health::Healthy, |(count, are, _)| {
        Health::Progressing(format!("{} of {wanted} pods {are}", object.count(count)))
    })
}

pub(super) fn replica_set(object: Observed<'_>) -> Health {
    if let Some(failure) = object.condition("ReplicaFailure").filter(Condition::is_true) {
        return Health::progressing(format!("pods cannot be made: {}", failure.why()));
    }
    let wanted = object.replicas();
    let counts = [
        ("/status/fullyLabeledReplicas", "exist"),
        ("/status/availableReplicas", "are available"),
        ("/status/readyReplicas", "are ready"),
    ];
    if let Some((count, are)) = counts.into_iter().find(|(count, _)| object.count(count) < wanted) {
        return Health::Progressing(format!("{} of {wanted} pods {are}", object.count(count)));
    }
    let surplus = object.count("/status/replicas").saturating_sub(wanted);
    if surplus > 0 {
        return Health::Progressing(format!("{surplus} pods more than {wanted} still exist"));
    }
    Health::Healthy
}

pub(super) fn job(object: Observed<'_>) -> Health {
    let is = |kind: &str| object.condition(kind).filter(Condition::is_true);
    if let Some(failed) = is("Failed").or_else(|| is("FailureTarget")) {
        return Health::failed(format!("it failed: {}", failed.why()));
    }
    if is("Complete").is_some() {
        return Health::Healthy;
    }
    if object.0.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        // Whoever suspended it asked for exactly this.
        return Health::Healthy;
    }
    if is("SuccessCriteriaMet").is_some() {
        return Health::progressing("it has succeeded and ends its remaining pods");
    }
    let (done, active) = (object.count("/status/succeeded"), object.count("/status/active"));
    let wanted = object.number("/spec/completions").or(object.number("/spec/parallelism")).unwrap_or(1);
    Health::Progressing(format!("{done} of {wanted} pods have completed, {active} are running"))
}

pub(super) fn pod(object: Observed<'_>) -> Health {
    if let Some(name) = crashing_container(object) {
        return Health::failed(format!("container {name} crashes again and again (CrashLoopBackOff)"));
    }
    match object.text("/status/phase") {
        "Succeeded" => Health::Healthy,
        "Failed" => Health::failed(match (object.text("/status/reason"), object.text("/status/message")) {
            ("", "") => "it failed".to_owned(),
            (reason, message) => format!("it failed: {reason} {message}").trim_end().to_owned(),
        }),
        "Running" => match object.condition("Ready") {
            Some(ready) if ready.is_true() => Health::Healthy,
            Some(ready) => Health::progressing(format!("it runs but is not ready: {}", ready.why())),
            None => Health::progressing("it runs but is not ready"),
        },
        _ => match object.condition("PodScheduled").filter(Condition::is_false) {
            Some(waiting) => Health::progressing(format!("it has no node: {}", waiting.why())),
            None => Health::progressing("it has not started yet"),
        },
    }
}

fn crashing_container(object: Observed<'_>) -> Option<&str> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|list| object.0.pointer(list)?.as_array())
        .flatten()
        .map(Observed)
        .find(|container| container.text("/state/waiting/reason") == "CrashLoopBackOff")
        .map(|container| container.text("/name"))
}
