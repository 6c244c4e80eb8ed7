//! What a release may write beside what its change states.

use interlock_core::object::{ObjectId, Path, get, stated_paths};
use interlock_crds::{ChangeRequest, Rollout};
use interlock_sim::api::meta;
use serde_json::{Value, json};

use super::{deployments, is_releases, of_change, own_services, shares_of, text};
use crate::{
    cluster::Audit,
    invariants::{Watchdog, read::plain},
    world::World,
};

/// Whether a write is one that a release of a running change may make beside what that change states: the second
/// Deployment with its pods, copies of its configuration, Services of the shares, the share of a route, the version that
/// a Service selects, the floor of an autoscaler, the way in which pods are replaced, and a Job of the plan.
pub(in crate::invariants) fn is_derived(dog: &Watchdog, world: &World, audit: &Audit) -> bool {
    dog.running_changes().any(|start| {
        let change = &start.change;
        let second = deployments(change).any(|(id, manifest)| {
            super::canary_of(&id).same_object(&audit.id)
                && audit.new.as_deref().is_none_or(|new| meta::is_terminating(new) || has_pods_of(new, manifest, &id))
        });
        second
            || is_copy(world, change, audit)
            || of_change(world, change).iter().any(|rollout| is_of_release(rollout, audit))
    })
}

fn is_of_release(rollout: &Rollout, audit: &Audit) -> bool {
    let (old, new) = (audit.old.as_deref(), audit.new.as_deref());
    let target = |id: &ObjectId| {
        rollout.spec.targets.iter().any(|target| {
            format!("{:?}", target.kind) == id.kind
                && target.name == id.name
                && Some(&target.namespace) == id.namespace.as_ref()
        })
    };
    let named = |names: Vec<String>| names.contains(&audit.id.name);
    match (audit.id.kind.as_str(), old, new) {
        ("Service", _, _) if named(shares_of(rollout)) => old.or(new).is_some_and(is_releases),
        ("Service", Some(old), Some(new)) if named(own_services(rollout)) => {
            same_without(old, new, &["spec", "selector", "pod-template-hash"])
        }
        ("HTTPRoute", Some(old), Some(new)) => own_services(rollout).iter().any(|own| differs_in_share(old, new, own)),
        ("HorizontalPodAutoscaler", Some(old), Some(new)) => same_without(old, new, &["spec", "minReplicas"]),
        ("StatefulSet" | "DaemonSet", Some(old), Some(new)) => {
            target(&audit.id) && same_without(old, new, &["spec", "updateStrategy"])
        }
        ("Pod", Some(old), _) => {
            let owners = old.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
            let mut owners = owners.map(|owner| ObjectId {
                kind: text(owner, "/kind").to_owned(),
                name: text(owner, "/name").to_owned(),
                ..audit.id.clone()
            });
            new.is_none_or(meta::is_terminating) && owners.any(|owner| target(&owner))
        }
        ("Job", None, Some(new)) => is_releases(new) && is_planned_job(rollout, &audit.id, new),
        _ => false,
    }
}

/// Whether a plan states this Job, as a step or as a measurement.
fn is_planned_job(rollout: &Rollout, id: &ObjectId, job: &Value) -> bool {
    let plan = serde_json::to_value(&rollout.spec.plan).unwrap_or_default();
    let list = |pointer: &str| plan.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let all = ["/canary/steps", "/blueGreen/steps", "/batches/steps", "/analyses"].into_iter().flat_map(list);
    all.filter_map(|one| one.pointer("/job/spec").cloned()).any(|spec| {
        let stated = stated_paths(&id.group_kind(), &json!({ "spec": spec }));
        !stated.is_empty() && stated.iter().all(|(path, value)| get(job, path) == Some(value))
    })
}

/// The object with one field left out, and the mark of an epoch, which makes late writes conflict.
fn without(object: &Value, path: &[&str]) -> Option<Value> {
    let mut object = plain(Some(object))?;
    let (field, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(&mut object, |at, key| at.get_mut(*key));
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(*field);
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_some_and(|all| {
            all.remove(interlock_core::change::EPOCH_ANNOTATION);
            all.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    Some(object)
}

fn same_without(old: &Value, new: &Value, path: &[&str]) -> bool {
    without(old, path) == without(new, path)
}

/// Whether two forms of a route differ in nothing but who takes the share of `own`: other backends, filters, matches and
/// all the rest of the route stay.
fn differs_in_share(old: &Value, new: &Value, own: &str) -> bool {
    let merged = |route: &Value| {
        let mut route = without(route, &["spec", "none"])?;
        let (stable, canary) = (format!("{own}-stable"), format!("{own}-canary"));
        let rules = route.pointer_mut("/spec/rules")?.as_array_mut()?;
        let refs = |rule: &Value| rule.get("backendRefs").and_then(Value::as_array).cloned().unwrap_or_default();
        // A rule that leads to the new version alone is one for its headers.
        rules.retain(|rule| refs(rule).is_empty() || refs(rule).iter().any(|r| text(r, "/name") != canary));
        for rule in rules.iter_mut() {
            let mut left = refs(rule);
            left.retain(|reference| text(reference, "/name") != canary);
            for reference in left.iter_mut().filter(|r| [own, &stable].contains(&text(r, "/name"))) {
                if let Some(fields) = reference.as_object_mut() {
                    fields.insert("name".to_owned(), Value::from(own));
                    fields.remove("weight");
                }
            }
            let Some(fields) = rule.as_object_mut() else { continue };
            fields.insert("backendRefs".to_owned(), Value::Array(left));
            let filters = fields.get_mut("filters").and_then(Value::as_array_mut);
            let is_empty = filters.is_some_and(|all| {
                all.retain(|filter| text(filter, "/requestMirror/backendRef/name") != canary);
                all.is_empty()
            });
            if is_empty {
                fields.remove("filters");
            }
        }
        Some(route)
    };
    merged(old).is_some() && merged(old) == merged(new)
}

/// Fields of a container that name configuration, of which the new version may read a copy.
const READS: [&str; 4] = ["configMapKeyRef", "configMapRef", "secretKeyRef", "secretRef"];

pub(super) fn has_pods_of(object: &Value, manifest: &Value, id: &ObjectId) -> bool {
    let pods = Path::of_keys(["spec", "template", "spec", "containers"]);
    let stated = stated_paths(&id.group_kind(), manifest);
    let mut stated = stated.iter().filter(|(path, _)| path.is_within(&pods)).peekable();
    let reads = |path: &Path| {
        let path = path.to_string();
        READS.iter().any(|read| path.trim_end_matches("/name").ends_with(&format!("/{read}")))
    };
    stated.peek().is_some()
        && stated.all(|(path, value)| is_as_stated(get(object, path).unwrap_or(&Value::Null), value, reads(path)))
}

/// Whether a value is what is stated, but for names of configuration (`reads`), which may be those of copies.
fn is_as_stated(value: &Value, stated: &Value, reads: bool) -> bool {
    match (value, stated) {
        (Value::Object(value), Value::Object(stated)) => {
            value.len() == stated.len()
                && stated.iter().all(|(key, stated)| {
                    let reads = reads && key == "name" || READS.contains(&key.as_str());
                    value.get(key).is_some_and(|value| is_as_stated(value, stated, reads))
                })
        }
        (Value::Array(value), Value::Array(stated)) => {
            value.len() == stated.len()
                && value.iter().zip(stated).all(|(value, stated)| is_as_stated(value, stated, false))
        }
        (Value::String(value), Value::String(stated)) if reads => {
            value.strip_prefix(stated).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        }
        _ => value == stated,
    }
}

/// A copy, under a name of its own, of a ConfigMap that the change states or of a Secret that it stages.
fn is_copy(world: &World, change: &ChangeRequest, audit: &Audit) -> bool {
    if !matches!(audit.id.kind.as_str(), "ConfigMap" | "Secret") {
        return false;
    }
    let Some(new) = audit.new.as_deref() else { return audit.old.as_deref().is_some_and(is_releases) };
    let is_of = |name: &str| audit.id.name.starts_with(&format!("{name}-"));
    let has_data_of = |object: &Value| object.get("data") == new.get("data");
    let mut manifests = change.spec.content.manifests.iter().flatten();
    let is_stated = manifests.any(|manifest| {
        ObjectId::of(manifest).is_ok_and(|id| id.kind == audit.id.kind && is_of(&id.name)) && has_data_of(manifest)
    });
    let namespace = change.metadata.namespace.as_deref().unwrap_or_default();
    let mut staged = change.spec.content.secret_refs.iter().filter(|reference| is_of(&reference.target));
    let is_staged = staged.any(|reference| {
        let values = world.object("", "Secret", namespace, &reference.name);
        audit.id.kind == "Secret" && values.is_some_and(|values| has_data_of(&values))
    });
    is_releases(new) && (is_stated || is_staged)
}

/// The workload as it counts for what a change states: how its pods are replaced meanwhile is the release's.
pub(in crate::invariants) fn beside_strategy(id: &ObjectId, object: Option<&Value>) -> Option<Value> {
    let mut object = object?.clone();
    if matches!(id.kind.as_str(), "StatefulSet" | "DaemonSet")
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("updateStrategy");
    }
    Some(object)
}
