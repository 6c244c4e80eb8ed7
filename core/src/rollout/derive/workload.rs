//! Deployments of a release.

use serde_json::{Value, json};

use super::{config, map_at, remove_key, set_text};
use crate::{
    object::{Change, GroupKind, Path, diff, get, restore_paths, same, strip_server_fields},
    rollout::{CANARY_TRACK, CONFIG_ANNOTATION, ROLLOUT_LABEL, TRACK_LABEL, facts::TargetFacts},
};

/// Name of the second Deployment.
pub fn canary_name(workload: &str) -> String {
    format!("{workload}-canary")
}

/// The second Deployment: the wanted one under another name, with the track label in selector and pods, so many
/// replicas, and the copies of the change's ConfigMaps and Secrets. It takes none of the workload's own labels,
/// annotations, owners or finalizers, so that no other tool counts it as its own.
pub fn canary_deployment(target: &TargetFacts, rollout_uid: &str, replicas: u32) -> Value {
    let mut object = target.wanted.clone();
    strip_server_fields(&mut object);
    let text = |pointer: &str| target.wanted.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let metadata = json!({
        "name": canary_name(text("/metadata/name")),
        "namespace": text("/metadata/namespace"),
        "labels": { ROLLOUT_LABEL: rollout_uid, TRACK_LABEL: CANARY_TRACK },
    });
    if let Some(fields) = object.as_object_mut() {
        fields.insert("metadata".to_owned(), metadata);
    }
    if let Some(spec) = map_at(&mut object, "spec") {
        spec.insert("replicas".to_owned(), json!(replicas));
        spec.remove("paused");
    }
    set_text(&mut object, &["spec", "selector", "matchLabels"], TRACK_LABEL, CANARY_TRACK);
    set_text(&mut object, &["spec", "template", "metadata", "labels"], TRACK_LABEL, CANARY_TRACK);
    if let Some(template) = object.pointer_mut("/spec/template") {
        config::use_copies(template, &target.configs, rollout_uid);
    }
    object
}

/// The live second Deployment with another number of replicas.
pub fn scaled(live: &Value, replicas: u32) -> Value {
    let mut object = super::touched(live, None);
    if let Some(spec) = map_at(&mut object, "spec") {
        spec.insert("replicas".to_owned(), json!(replicas));
    }
    object
}

/// What the change does to the workload.
pub fn changes(target: &TargetFacts) -> &[Change] {
    target.changes.get_or_init(|| difference(target))
}

fn difference(target: &TargetFacts) -> Vec<Change> {
    let Ok(kind) = GroupKind::of(&target.before) else { return Vec::new() };
    let plain = |object: &Value| {
        let mut object = object.clone();
        strip_server_fields(&mut object);
        remove_key(&mut object, "/metadata", "annotations", REVISION_ANNOTATION);
        object
    };
    diff(&kind, &plain(&target.before), &plain(&target.wanted))
}

/// Annotation that the Deployment controller writes.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

/// Whether the change gives the workload's pods another template or another configuration: only then is there
/// anything to release gradually.
pub fn touches_pods(target: &TargetFacts) -> bool {
    let template = Path::of_keys(["spec", "template"]);
    changes(target).iter().any(|change| change.path.segments().starts_with(template.segments()))
        || config::uses_any(&target.wanted, &target.configs)
}

/// Which version a live workload states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one before.
    Old,
    /// The approved one.
    New,
    /// Neither: somebody else wrote it.
    Other,
}

/// Which version a live workload states. The number of replicas is no part of a version, nor is `updateStrategy`, which a
/// release in batches writes itself.
pub fn version(live: &Value, target: &TargetFacts) -> Version {
    let Ok(kind) = GroupKind::of(live) else { return Version::Other };
    let all = changes(target);
    let strategy = Path::of_keys(["spec", "updateStrategy"]);
    let is_version = |change: &Change| {
        !is_replicas(change) && !is_order(change) && !change.path.segments().starts_with(strategy.segments())
    };
    let counted: Vec<_> = all.iter().filter(|change| is_version(change)).collect();
    let is = |side: fn(&Change) -> Option<&Value>| {
        counted.iter().all(|c| same(crate::object::Shape::at(&kind, &c.path), get(live, &c.path), side(c)))
    };
    let marked = config_mark(live);
    let mark = config::mark(&target.wanted, &target.configs);
    if is(|c| c.after.as_ref()) && (mark.is_none() || mark.as_deref() == marked) {
        return Version::New;
    }
    if is(|c| c.before.as_ref()) && marked == config_mark(&target.before) { Version::Old } else { Version::Other }
}

/// What the pods of a workload say of the configuration with which they were started.
pub fn config_mark(workload: &Value) -> Option<&str> {
    workload.pointer("/spec/template/metadata/annotations")?.get(CONFIG_ANNOTATION)?.as_str()
}

fn is_order(change: &Change) -> bool {
    matches!(change.path.last(), Some(crate::object::Segment::Order))
}

/// Whether a change is one of the number of replicas.
pub fn is_replicas(change: &Change) -> bool {
    change.path == Path::of_keys(["spec", "replicas"])
}

/// The live workload with the new version. What the change does not touch stays.
pub fn promoted(live: &Value, target: &TargetFacts) -> Value {
    let Ok(kind) = GroupKind::of(live) else { return live.clone() };
    let turned = |c: &Change| Change { path: c.path.clone(), before: c.after.clone(), after: c.before.clone() };
    let forward: Vec<_> = changes(target).iter().map(turned).collect();
    let (mut object, _) = restore_paths(&kind, &super::touched(live, None), &forward);
    if let Some(mark) = config::mark(&target.wanted, &target.configs) {
        set_text(&mut object, &["spec", "template", "metadata", "annotations"], CONFIG_ANNOTATION, &mark);
    }
    object
}

/// The live workload with the old version. Replicas go back only if they are still what the change wrote: whoever
/// scaled it meanwhile meant it.
pub fn restored(live: &Value, target: &TargetFacts) -> Value {
    let Ok(kind) = GroupKind::of(live) else { return live.clone() };
    let stays = |c: &&Change| !is_replicas(c) || get(live, &c.path) == c.after.as_ref();
    let back: Vec<_> = changes(target).iter().filter(stays).cloned().collect();
    let (mut object, _) = restore_paths(&kind, &super::touched(live, None), &back);
    match config_mark(&target.before).map(ToOwned::to_owned) {
        Some(mark) => {
            set_text(&mut object, &["spec", "template", "metadata", "annotations"], CONFIG_ANNOTATION, &mark);
        }
        None => remove_key(&mut object, "/spec/template/metadata", "annotations", CONFIG_ANNOTATION),
    }
    object
}
