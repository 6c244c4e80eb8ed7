//! Claims are bound at once, to a volume that is made for them or that they name. What becomes of the volume when its claim
//! goes says its reclaim policy; one that is kept for another claim (`claimRef` without uid) is bound to that.

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
    if let Some(known) = api.get_arc(&volumes(), "", &volume) {
        let of = |field: &str| read::text(&known, &format!("/spec/claimRef/{field}"));
        let is_kept = (of("namespace"), of("name")) == (meta::namespace(&claim), meta::name(&claim));
        if !is_kept || ![meta::uid(&claim), ""].contains(&of("uid")) {
            // Another claim has it, or nobody kept it for this one.
            return Ok(None);
        }
        writes::patch(api, BINDER, &known, json!({"spec": {"claimRef": {"uid": meta::uid(&claim)}}}))?;
    }
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
    if let Some(volume) = api.get_arc(&volumes(), "", &volume) {
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

fn volumes() -> GroupKind {
    GroupKind::new("", "PersistentVolume")
}

/// The claim is gone; what becomes of its volume says the volume.
pub(super) fn release(api: &mut Api, claim: &Value) -> Result<(), ApiError> {
    let name = read::text(claim, "/spec/volumeName");
    match api.get_arc(&volumes(), "", name) {
        Some(volume) if read::text(&volume, "/spec/claimRef/uid") == meta::uid(claim) => {
            writes::put_status(api, BINDER, &volume, json!({"phase": "Released"}))?;
            reconcile_volume(api, &read::key(&volume)).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// One look at a volume: a released one goes if its policy says so, and one that is kept for a claim is bound to it.
pub(super) fn reconcile_volume(api: &mut Api, key: &Key) -> Result<Option<Timestamp>, ApiError> {
    let Some(volume) = writes::live(api, key).filter(|volume| read::text(volume, "/status/phase") != "Bound") else {
        return Ok(None);
    };
    let of = |field: &str| read::text(&volume, &format!("/spec/claimRef/{field}")).to_owned();
    if of("uid").is_empty() {
        writes::put_status(api, BINDER, &volume, json!({"phase": "Available"}))?;
        let claim =
            Key { kind: GroupKind::new("", "PersistentVolumeClaim"), namespace: of("namespace"), name: of("name") };
        return if claim.name.is_empty() { Ok(None) } else { reconcile(api, &claim) };
    }
    if read::text(&volume, "/status/phase") == "Released"
        && read::text(&volume, "/spec/persistentVolumeReclaimPolicy") == "Delete"
    {
        api.delete_as_system(BINDER, &volume)?;
    }
    Ok(None)
}
