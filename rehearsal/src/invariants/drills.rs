//! Restore drills: T0 stays, a pass has its proofs, real data is not started before the sandbox was found isolated, and no
//! sandbox holds a credential.

use interlock_core::{
    backup::pods::RUN_LABEL,
    drill::{fault, names, objects::SANDBOX_COMPONENT},
};
use interlock_crds::{CleanupState, DrillRun, DrillVerdict, GROUP, ProbeResult, ValidationVerdict};
use serde_json::Value;

use super::Watchdog;
use crate::{cluster::Audit, world::World};

fn run(object: Option<&Value>) -> Option<DrillRun> {
    serde_json::from_value(object?.clone()).ok()
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(name)?.as_str()
}

/// Once it is there, neither T0 nor what was pinned, nor the verdict, changes.
pub(super) fn what_was_noted_stays(_: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "DrillRun" {
        return Ok(());
    }
    let (Some(old), Some(new)) = (run(audit.old.as_deref()), run(audit.new.as_deref())) else { return Ok(()) };
    let (old, new) = (old.status.unwrap_or_default(), new.status.unwrap_or_default());
    let name = &audit.id.name;
    if old.t0.is_some() && old.t0 != new.t0 {
        return Err(format!("T0 of {name} was {:?} and is {:?}", old.t0, new.t0));
    }
    if old.t0.is_some() && old.pinned != new.pinned {
        return Err(format!("what {name} was pinned to was changed"));
    }
    if old.phase.is_terminal() && (old.phase, old.verdict, &old.reason) != (new.phase, new.verdict, &new.reason) {
        return Err(format!("{name} ended {:?} and is now {:?}", old.verdict, new.verdict));
    }
    Ok(())
}

/// A pass rests on a sandbox that was isolated, on data that was restored, and on every critical validation.
pub(super) fn a_pass_has_its_proofs(_: &mut Watchdog, _: &World, audit: &Audit) -> Result<(), String> {
    if audit.id.kind != "DrillRun" {
        return Ok(());
    }
    let Some(run) = run(audit.new.as_deref()) else { return Ok(()) };
    let damaged = fault::of_run(&run).is_some();
    let status = run.status.unwrap_or_default();
    if status.verdict != Some(DrillVerdict::Passed) {
        return Ok(());
    }
    let lacks = |what: &str| Err(format!("{} passed without {what}", audit.id.name));
    let isolation = status.isolation.as_ref();
    if isolation
        .is_none_or(|found| found.outside != Some(ProbeResult::Connected) || found.inside != Some(ProbeResult::Blocked))
    {
        return lacks("isolation");
    }
    let asked = status.pinned.as_ref().and_then(|pinned| pinned.spec["validations"].as_array().cloned());
    let asked = asked.unwrap_or_default();
    let critical = asked.iter().filter(|validation| validation["critical"] != false);
    let mut count = 0;
    for validation in critical {
        count += 1;
        let named = |record: &&interlock_crds::ValidationRecord| validation["name"] == record.name.as_str();
        let record = status.validations.iter().find(named);
        if record.is_none_or(|record| record.verdict != ValidationVerdict::Passed) {
            return lacks(&format!("validation {}", validation["name"]));
        }
    }
    if count == 0 {
        return lacks("any validation");
    }
    if status.sandbox.as_ref().is_none_or(|sandbox| sandbox.manifest_digest.is_none()) {
        return lacks("restored data");
    }
    if damaged {
        return lacks("being whole: a fault was injected");
    }
    Ok(())
}

/// No pod that sees restored data runs an application before the probes said that it is alone, and none has a Secret.
pub(super) fn sandboxes_are_safe(_: &mut Watchdog, world: &World, audit: &Audit) -> Result<(), String> {
    let Some(pod) = audit.new.as_deref().filter(|_| audit.id.kind == "Pod" && audit.old.is_none()) else {
        return Ok(());
    };
    let namespace = audit.id.namespace.as_deref().unwrap_or_default();
    let Some(sandbox) = world.object("", "Namespace", "", namespace) else { return Ok(()) };
    if label(&sandbox, "app.kubernetes.io/component") != Some(SANDBOX_COMPONENT) {
        return Ok(());
    }
    let text = pod.pointer("/spec").map(ToString::to_string).unwrap_or_default();
    for word in ["secretRef", "secretKeyRef", "secretName", "serviceAccountToken"] {
        if text.contains(word) {
            return Err(format!("pod {} of sandbox {namespace} has {word}", audit.id.name));
        }
    }
    let component = label(pod, "app.kubernetes.io/component").unwrap_or_default();
    if !matches!(component, "drill-application" | "drill-dependency" | "drill-validation" | "drill-fault") {
        return Ok(());
    }
    let uid = label(pod, RUN_LABEL).unwrap_or_default();
    let runs = world.objects(GROUP, "DrillRun");
    let own = runs.iter().filter_map(|object| run(Some(object))).find(|run| run.metadata.uid.as_deref() == Some(uid));
    let isolated = own.and_then(|run| run.status?.isolation).is_some_and(|found| {
        found.outside == Some(ProbeResult::Connected) && found.inside == Some(ProbeResult::Blocked)
    });
    if isolated { Ok(()) } else { Err(format!("pod {} was made before the sandbox was found isolated", audit.id.name)) }
}

/// A run that has not ended, or is not cleaned up.
pub(super) fn under_way(world: &World) -> Option<String> {
    let runs = world.objects(GROUP, "DrillRun").into_iter().filter_map(|object| run(Some(&object)));
    let done = |run: &DrillRun| {
        let status = run.status.as_ref();
        status.is_some_and(|status| status.phase.is_terminal() && status.cleanup.state == CleanupState::Done)
    };
    let mut open = runs.filter(|run| !done(run));
    open.next().map(|run| format!("{} has not ended: {:?}", run.metadata.name.unwrap_or_default(), run.status))
}

/// What is left of a run: its sandbox.
pub(super) fn leftover(world: &World) -> Option<String> {
    let namespaces = world.objects("", "Namespace");
    let of_drills =
        |object: &&std::sync::Arc<Value>| label(object, "app.kubernetes.io/component") == Some(SANDBOX_COMPONENT);
    namespaces.iter().find(of_drills).map(|object| format!("sandbox {} is left", object["metadata"]["name"]))
}

/// Whether the executor made, or removed, something that a drill announced in the namespace of its repository.
pub(super) fn is_of_a_drill(world: &World, audit: &Audit) -> bool {
    let Some(object) = audit.new.as_deref().or(audit.old.as_deref()) else { return false };
    let owner = |field: &str| object.pointer(&format!("/metadata/ownerReferences/0/{field}")).and_then(Value::as_str);
    let (Some("DrillRun"), Some(name), Some(uid)) = (owner("kind"), owner("name"), owner("uid")) else { return false };
    let namespace = audit.id.namespace.as_deref().unwrap_or_default();
    let Some(of) = world.object(GROUP, "DrillRun", namespace, name) else { return false };
    let is_own = of.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid);
    is_own
        && match audit.id.kind.as_str() {
            "PersistentVolumeClaim" => audit.id.name == names::claim(name),
            "Job" => audit.id.name == names::restore_job(name),
            "ConfigMap" => audit.id.name == names::certificate(name),
            _ => false,
        }
}
