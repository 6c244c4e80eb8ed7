//! The objects of a System, read in the name of its executor and copied as manifests by a pod that has no token.

use std::{fs, path::Path};

use interlock_tests::{
    eventually,
    vault::{Scene, policy},
    world::SOON,
};
use serde_json::{Value, json};

/// What the Secret `rare` holds, and nothing else anywhere.
pub(super) const RARE: &str = "o7Vq-2mZx-W5pd-9LtR-never-in-the-clear";

/// What people made is copied, without what the cluster adds to it; Secrets only if asked; what cannot be read fails the run.
pub(super) fn copied(scene: &Scene<'_>) {
    let objects = |source: Value| json!({"objects": source});
    let leases = json!({"add": [{"group": "coordination.k8s.io", "kind": "Lease"}]});
    scene.agreed(
        "protect-manifests",
        vec![
            policy("manifests", "second", objects(json!({})), &json!({})),
            policy("with-secrets", "second", objects(json!({"includeSecrets": true})), &json!({})),
            policy("with-leases", "second", objects(leases), &json!({})),
        ],
    );
    let namespace = scene.stage.namespace.as_str();

    let (snapshot, files) = point(scene, "manifests");
    for wanted in [
        format!("BackupPolicy_interlock.dev_{namespace}_files.json"),
        format!("PersistentVolumeClaim_{namespace}_data.json"),
        format!("Service_{namespace}_database.json"),
    ] {
        assert!(files.iter().any(|file| file.ends_with(&wanted)), "{wanted} is not among {files:#?}");
    }
    for made in ["/Secret_", "/Pod_", "/ReplicaSet_"] {
        assert!(!files.iter().any(|file| file.contains(made)), "{made} is among {files:#?}");
    }
    let deployment = manifest(scene, &snapshot, &files, &format!("Deployment_apps_{namespace}_database.json"));
    let live = scene.stage.get("deployments/database");
    assert_eq!(deployment["spec"], live["spec"]);
    assert!(deployment["status"].is_null() && deployment["metadata"]["resourceVersion"].is_null(), "{deployment:#}");

    let (snapshot, files) = point(scene, "with-secrets");
    let copy = manifest(scene, &snapshot, &files, &format!("Secret_{namespace}_rare.json"));
    let live = scene.stage.get("secrets/rare");
    assert_eq!(copy["data"], live["data"]);
    let vault = scene.volume("vault");
    assert!(holds(&vault, br#""kdf":"scrypt""#), "a key is plain JSON, so what is in the clear is found");
    for clear in [RARE, live["data"]["token"].as_str().unwrap()] {
        assert!(!holds(&vault, clear.as_bytes()), "{clear} is in the clear");
    }

    let (well, told) = scene.run("with-leases", &[]);
    assert!(!well && told.contains("may not read coordination.k8s.io/Lease in namespace"), "{told}");
    assert_eq!(scene.newest("with-leases")["status"]["reason"], "Forbidden");

    // What carried them to the pods is gone.
    eventually(SOON, || {
        let secrets = scene.stage.get("secrets");
        let left: Vec<_> = secrets["items"].as_array().unwrap().iter().filter(|secret| is_of_a_run(secret)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{} Secrets with manifests are left", left.len())) }
    });
}

/// Whether a file below the folder holds these bytes. What a prune takes away meanwhile holds nothing.
fn holds(folder: &Path, wanted: &[u8]) -> bool {
    let mut paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.any(|path| match fs::read(&path) {
        Ok(bytes) => bytes.windows(wanted.len()).any(|part| part == wanted),
        Err(_) => path.is_dir() && holds(&path, wanted),
    })
}

fn is_of_a_run(secret: &Value) -> bool {
    secret["type"] == "interlock.dev/backup-objects"
}

/// A run that succeeds: its snapshot, and the files in it.
fn point(scene: &Scene<'_>, policy: &str) -> (String, Vec<String>) {
    let snapshot = scene.backup(policy, &[])["point"]["snapshotId"].as_str().unwrap().to_owned();
    let listed = scene.restic("/second", &["ls", &snapshot]);
    (snapshot, listed.lines().map(ToOwned::to_owned).collect())
}

fn manifest(scene: &Scene<'_>, snapshot: &str, files: &[String], name: &str) -> Value {
    let path = files.iter().find(|file| file.ends_with(name)).unwrap_or_else(|| panic!("no {name} in {files:#?}"));
    serde_json::from_str(&scene.restic("/second", &["dump", snapshot, path])).unwrap()
}
