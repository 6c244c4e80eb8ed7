//! A look at what was stored, in another namespace of the System and through that namespace's own credentials. That one lets no
//! pod in that is not restricted.

use std::{fs, path::Path};

use interlock_cluster::POOL;
use interlock_tests::{
    Stage, eventually,
    vault::{PASSWORD, RUN, Scene, claim, named, policy, repository, secret},
};
use serde_json::{Value, json};

/// The class of the volume that two namespaces have.
const SHARED: &str = "shared";

/// The newest good point of the first namespace's policy comes back there, byte by byte.
pub(super) fn restored_elsewhere(scene: &Scene<'_>, data: &Path) {
    let there = beside(scene);
    let known = scene.status("backuprepositories/vault")["repositoryId"].clone();
    eventually(RUN, || {
        let status = there.status("backuprepositories/vault");
        if status["repositoryId"] == known { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let (from, to) = (scene.stage.namespace.as_str(), there.stage.namespace.as_str());
    let arguments = [
        "restore",
        "files",
        "-n",
        from,
        "--to-claim",
        "looked-at",
        "--to-namespace",
        to,
        "--storage-class",
        POOL,
        "--size",
        "100Mi",
        "--reason",
        "auditors look at it",
        "--yes",
    ];
    let (well, told) = scene.world.interlock_status("alice", &arguments);
    assert!(well && told.contains(&format!("through BackupRepository vault of namespace {to}")), "{told}");
    let request = scene.stage.get(&format!("changerequests/{}", named(&told, "changerequest")));
    let change = scene.stage.change_of(&request);
    assert!(!there.stage.exists("persistentvolumeclaims/looked-at"), "nothing before it is agreed");
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let back = there.volume("looked-at");
    for file in ["accounts", "ledger"] {
        assert_eq!(fs::read(back.join(file)).unwrap(), fs::read(data.join(file)).unwrap());
    }
    assert!(!back.join("secret").exists(), "of the newest good point, not of the run after it");

    // Pods of backups are restricted like those of restores; others are refused.
    let plain = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"},
        "spec": {"containers": [{"name": "main", "image": "restic:1"}]},
    });
    let refusal = scene.world.admin().create(&there.stage.placed(plain)).unwrap_err();
    assert!(refusal.message.contains("violates PodSecurity"), "{refusal}");
    let files = json!({"files": {"persistentVolumeClaim": "looked-at"}});
    there.agreed("protect-there", vec![policy("looked-at", "vault", files, &json!({}))]);
    there.backup("looked-at", &[]);
}

/// A second namespace of the System, with a repository of its own on the same vault.
fn beside<'w>(scene: &Scene<'w>) -> Scene<'w> {
    let (first, admin) = (&scene.stage, scene.world.admin());
    let there = Stage { world: scene.world, namespace: format!("{}-audit", first.namespace) };
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let metadata = json!({"name": there.namespace, "labels": restricted});
    admin.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).unwrap();
    // Claims lie in namespaces, so the volume has a second name for the second one.
    let volume = format!("{}-vault", there.namespace);
    admin
        .create(&json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": "100Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": SHARED,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": scene.volume("vault"), "type": "Directory"},
            },
        }))
        .unwrap();
    let mut vault = claim("vault");
    vault["spec"]["storageClassName"] = json!(SHARED);
    vault["spec"]["volumeName"] = json!(volume);
    let credentials = secret("vault", json!({"RESTIC_PASSWORD": PASSWORD}));
    // What the executor may write in the first namespace it may write here.
    let rights = scene.world.executor_rbac(&first.namespace, "executor").into_iter();
    let rights = rights.filter(|right| right["metadata"]["name"] == "executor").map(|mut right| {
        right["metadata"]["namespace"] = Value::Null;
        right
    });
    // Of what the first namespace does with the vault this one knows only restic's locks.
    let patient = json!({"retryLock": "1m"});
    let own = [vault, credentials, repository("vault", "", "vault", &patient)];
    for object in rights.chain(own) {
        admin.create(&there.placed(object)).unwrap();
    }
    let system = format!("/apis/interlock.dev/v1alpha1/systems/{}", first.namespace);
    admin.merge(&system, &json!({"spec": {"namespaces": [first.namespace, there.namespace]}})).unwrap();
    Scene { world: scene.world, stage: there }
}
