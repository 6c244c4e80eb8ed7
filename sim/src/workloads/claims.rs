//! Claims are bound at once, to a volume that is made for them and goes with them.

use interlock_core::object::GroupKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{read, writes};
use crate::api::{Api, ApiError, Key, meta};

const BINDER: &str = "persistent-volume-binder";

/// One look at a claim.
pub(super) fn reconcile(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(claim) = writes::live(api, key).filter(|claim| read::text(claim, "/status/phase") != "Bound") else {
        return resize(api, key);
    };
    let volume = match read::text(&claim, "/spec/volumeName") {
        "" => format!("pvc-{}", meta::uid(&claim)),
        stated => stated.to_owned(),
    };
    let capacity = capacity_of(&claim);
    writes::ensure(api, BINDER, volume_of(&claim, &volume))?;
    let annotations = json!({
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    });
    let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}});
    let claim = writes::patch(api, BINDER, &claim, patch)?;
    let status = json!({
        "phase": "Bound",
        "accessModes": claim.pointer("/spec/accessModes"),
        "capacity": {"storage": capacity},
    });
    writes::put_status(api, BINDER, &claim, status)?;
    let kind = GroupKind::new("", "PersistentVolume");
    if let Some(volume) = api.get_arc(&kind, "", &volume) {
        writes::put_status(api, BINDER, &volume, json!({"phase": "Bound"}))?;
    }
    Ok(None)
}

/// A bound claim that asks for more has it at once.
fn resize(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(claim) = writes::live(api, key) else {
        return Ok(None);
    };
    let mut status = claim.get("status").cloned().unwrap_or_else(|| json!({}));
    writes::set(&mut status, "capacity", json!({"storage": capacity_of(&claim)}));
    writes::put_status(api, "volume-expand", &claim, status).map(|()| None)
}

fn capacity_of(claim: &Value) -> Value {
    claim.pointer("/spec/resources/requests/storage").cloned().unwrap_or_else(|| json!("1Gi"))
}

fn volume_of(claim: &Value, name: &str) -> Value {
    let class = read::text(claim, "/spec/storageClassName");
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": claim.pointer("/spec/accessModes"),
            "capacity": {"storage": capacity_of(claim)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": meta::name(claim),
                "namespace": meta::namespace(claim),
                "uid": meta::uid(claim),
            },
            "csi": {"driver": PROVISIONER, "volumeHandle": name},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": class,
        },
    })
}

const PROVISIONER: &str = "csi.sim.interlock.dev";

/// The claim is gone, and with it the volume that was made for it.
pub(super) fn release(api: &mut Api, claim: &Value) -> Result<(), ApiError> {
    let name = read::text(claim, "/spec/volumeName");
    match api.get_arc(&GroupKind::new("", "PersistentVolume"), "", name) {
        Some(volume) if read::text(&volume, "/spec/claimRef/uid") == meta::uid(claim) => {
            writes::put_status(api, BINDER, &volume, json!({"phase": "Released"}))?;
            api.delete_as_system(BINDER, &volume)
        }
        _ => Ok(()),
    }
}
