//! The pods of a StatefulSet and their claims.

use serde_json::{Value, json};

use super::super::pods::{self, Name};
use super::super::revisions::{self, Revisions};
use super::super::{read, writes};
use super::NAME;
use crate::api::{Api, ApiError, meta};

/// The number at the end of the pod's name.
pub(super) fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    meta::name(pod).strip_prefix(meta::name(set))?.strip_prefix('-')?.parse().ok()
}

/// Makes the claims and the pod of an ordinal.
pub(super) fn create(
    api: &mut Api,
    set: &Value,
    ordinal: i64,
    revision: &str,
    revisions: &Revisions,
) -> Result<(), ApiError> {
    let name = format!("{}-{ordinal}", meta::name(set));
    let mut volumes = Vec::new();
    for template in read::list(set, "/spec/volumeClaimTemplates") {
        let claim = claim(set, template, &name);
        volumes.push(json!({
            "name": meta::name(template),
            "persistentVolumeClaim": {"claimName": meta::name(&claim)},
        }));
        writes::ensure(api, NAME, claim)?;
    }
    let index = ordinal.to_string();
    let labels = [
        ("apps.kubernetes.io/pod-index", index.as_str()),
        ("statefulset.kubernetes.io/pod-name", name.as_str()),
        (revisions::LABEL, revision),
    ];
    let mut template = revisions.template(revision).cloned().unwrap_or_default();
    if let Some(spec) = template.pointer_mut("/spec") {
        let own = read::list(spec, "/volumes").iter();
        volumes.extend(
            own.filter(|own| !volumes.iter().any(|claimed| claimed["name"] == own["name"]))
                .cloned()
                .collect::<Vec<_>>(),
        );
        writes::set(spec, "volumes", json!(volumes));
        writes::set(spec, "hostname", json!(name));
        if let Some(service) = set.pointer("/spec/serviceName") {
            writes::set(spec, "subdomain", service.clone());
        }
    }
    writes::create(api, NAME, pods::from_template(set, &template, Name::Exactly(&name), &labels)).map(drop)
}

fn claim(set: &Value, template: &Value, pod: &str) -> Value {
    let mut labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    let selected = set.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    for (label, value) in selected.into_iter().flatten() {
        writes::set(&mut labels, label, value.clone());
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": format!("{}-{pod}", meta::name(template)),
            "namespace": meta::namespace(set),
            "labels": labels,
            "annotations": template.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({})),
        },
        "spec": template.get("spec").cloned().unwrap_or_default(),
    })
}
