//! Where things are: the namespace of each manifest, and of the request that carries them.

use std::collections::BTreeSet;

use interlock_core::{
    change::{INTERLOCK_NAMESPACE, OPERATION_ANNOTATION, content::GOVERNING_KINDS},
    object::ObjectId,
};
use serde_json::{Map, Value, json};

use super::api::Kinds;
use crate::error::CliError;

/// What the manifests are for, by the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// As each manifest says.
    AsWritten,
    /// Each is a part of its object.
    Patch,
    /// Each object is to be gone.
    Delete,
}

/// Fills in missing namespaces and gives the namespace of the request.
///
/// A missing one is `given` (by `-n`), else the only one that the manifests name, else `default`. The request goes to the
/// given one, else to the first that a manifest names; requests of governing kinds go to Interlock's.
pub fn place(manifests: &mut [Value], kinds: &Kinds, given: Option<&str>, default: &str) -> Result<String, CliError> {
    let mut ids = Vec::with_capacity(manifests.len());
    for manifest in manifests.iter() {
        ids.push(ObjectId::of(manifest).map_err(|error| CliError::Usage(error.to_string()))?);
    }
    let named: BTreeSet<&str> = ids.iter().filter_map(|id| id.namespace.as_deref()).collect();
    let only = (named.len() < 2).then(|| named.first().copied().unwrap_or(default));
    let fill = given.or(only).map(str::to_owned);
    for (manifest, id) in manifests.iter_mut().zip(&ids) {
        match (kinds.of(id).map(|resource| resource.namespaced), &id.namespace) {
            (Some(false), Some(namespace)) => {
                return Err(CliError::Usage(format!(
                    "{id}: this kind has no namespaces; remove metadata.namespace ({namespace})"
                )));
            }
            (Some(true), None) => {
                let namespace = fill.as_ref().ok_or_else(|| {
                    CliError::Usage(format!(
                        "{id} names no namespace, and the others name several; write metadata.namespace or give -n"
                    ))
                })?;
                set(manifest, &["metadata", "namespace"], json!(namespace));
            }
            _ => {}
        }
    }
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let placed = manifests.iter().find_map(|m| m.pointer("/metadata/namespace").and_then(Value::as_str));
    let governing =
        ids.iter().any(|id| id.group == interlock_crds::GROUP && GOVERNING_KINDS.contains(&id.kind.as_str()));
    Ok(placed.unwrap_or(if governing { INTERLOCK_NAMESPACE } else { default }).to_owned())
}

/// Says in each manifest what it is for.
pub fn operate(manifests: &mut [Value], operation: Operation) -> Result<(), CliError> {
    for manifest in manifests {
        match operation {
            Operation::AsWritten => {}
            Operation::Patch => annotate(manifest, "Patch"),
            Operation::Delete => annotate(manifest, "Delete"),
        }
        if is_delete(manifest) {
            // A deletion states which object, and nothing of what is in it: it may be a Secret.
            let id = ObjectId::of(manifest).map_err(|error| CliError::Usage(error.to_string()))?;
            *manifest = json!({"apiVersion": id.api_version(), "kind": id.kind, "metadata": {"name": id.name}});
            if let Some(namespace) = id.namespace {
                set(manifest, &["metadata", "namespace"], json!(namespace));
            }
            annotate(manifest, "Delete");
        }
    }
    Ok(())
}

/// What the manifest says that it is for.
pub fn operation_of(manifest: &Value) -> Option<&str> {
    manifest.get("metadata")?.get("annotations")?.get(OPERATION_ANNOTATION)?.as_str()
}

fn is_delete(manifest: &Value) -> bool {
    operation_of(manifest) == Some("Delete")
}

fn annotate(manifest: &mut Value, operation: &str) {
    set(manifest, &["metadata", "annotations", OPERATION_ANNOTATION], json!(operation));
}

/// Writes a field; what is no object on the way becomes one.
fn set(value: &mut Value, path: &[&str], to: Value) {
    let Some((name, rest)) = path.split_first() else {
        *value = to;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Some(fields) = value.as_object_mut() {
        set(fields.entry(*name).or_insert(Value::Null), rest, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Kinds {
        let mut kinds = Kinds::default();
        let of =
            |name: &str, kind: &str, namespaced: bool| json!({"name": name, "kind": kind, "namespaced": namespaced});
        kinds.learn(
            "",
            "v1",
            &json!({"resources": [of("configmaps", "ConfigMap", true), of("namespaces", "Namespace", false)]}),
        );
        kinds.learn("interlock.dev", "v1alpha1", &json!({"resources": [of("calendars", "Calendar", false)]}));
        kinds
    }

    fn config(namespace: Option<&str>) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}})
    }

    fn placed(manifests: &mut [Value], given: Option<&str>) -> Result<String, CliError> {
        place(manifests, &kinds(), given, "default")
    }

    #[test]
    fn a_missing_namespace_is_the_given_one_or_the_only_one() {
        let mut manifests = [config(None), config(Some("shop"))];
        assert_eq!(placed(&mut manifests, None).unwrap(), "shop");
        assert_eq!(manifests[0], config(Some("shop")));
        let mut manifests = [config(None), config(Some("shop"))];
        assert_eq!(placed(&mut manifests, Some("mine")).unwrap(), "mine");
        assert_eq!(manifests, [config(Some("mine")), config(Some("shop"))]);
        let mut manifests = [config(None)];
        assert_eq!(placed(&mut manifests, None).unwrap(), "default");
        assert!(matches!(
            placed(&mut [config(None), config(Some("a")), config(Some("b"))], None),
            Err(CliError::Usage(_))
        ));
        assert_eq!(placed(&mut [config(Some("b")), config(Some("a"))], None).unwrap(), "b");
    }

    #[test]
    fn kinds_without_namespaces_get_none_and_governing_kinds_go_to_interlock() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
        let mut manifests = [namespace.clone()];
        assert_eq!(placed(&mut manifests, None).unwrap(), "default");
        assert_eq!(manifests, [namespace]);
        let mut wrong = [json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "namespace": "y"}})];
        assert!(matches!(placed(&mut wrong, None), Err(CliError::Usage(_))));
        let mut calendar =
            [json!({"apiVersion": "interlock.dev/v1alpha1", "kind": "Calendar", "metadata": {"name": "x"}})];
        assert_eq!(placed(&mut calendar, None).unwrap(), INTERLOCK_NAMESPACE);
    }

    #[test]
    fn a_deletion_states_only_which_object() {
        let mut manifests = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b", "labels": {}}, "data": {"x": "canary"}}),
        ];
        operate(&mut manifests, Operation::Delete).unwrap();
        assert_eq!(
            manifests[0],
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b", "annotations": {OPERATION_ANNOTATION: "Delete"}}})
        );
        let mut patched =
            [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": null}})];
        operate(&mut patched, Operation::Patch).unwrap();
        assert_eq!(operation_of(&patched[0]), Some("Patch"));
    }
}
