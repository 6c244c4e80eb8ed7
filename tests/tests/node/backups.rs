//! Backups with real restic and real PostgreSQL in real pods.

mod dumps;
mod elsewhere;
mod halfway;
mod manifests;
mod privileges;
mod told;
mod troubles;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use interlock_cluster::{NodeOptions, POOL, SMALL, rest_server};
use interlock_tests::{
    eventually,
    vault::{self, RUN, Scene, claim, database, named, policy, repository, secret, write},
    world::SOON,
};
use serde_json::{Value, json};

/// One for each claim.
const VOLUMES: usize = 8;
/// The volume that is as small as it says.
const SMALL_VOLUME: usize = 7;

fn files() -> Value {
    json!({"files": {"persistentVolumeClaim": "data"}})
}

fn command(script: &str) -> Value {
    json!({"command": {"image": "postgres:15", "command": ["sh", "-c", script]}})
}

/// What of a policy's points stays.
fn kept() -> Value {
    json!({"retention": {"keepLast": 2}, "objectives": {"rpo": "1h"}})
}

/// When the vault is checked and pruned.
fn upkeep() -> Value {
    json!({"prune": {"schedule": "* * * * *"}, "check": {"schedule": "*/2 * * * *", "readDataSubset": "1/1"}})
}

fn objects() -> Vec<Value> {
    let short = json!({"deadline": "1m"});
    let mut small = claim("small");
    small["spec"]["storageClassName"] = json!(SMALL);
    let mut unbound = claim("unbound");
    unbound["spec"]["storageClassName"] = json!("nobody-provides-it");
    let mut full = repository("full", "", "vault", &json!({}));
    full["spec"]["restic"]["volume"] = json!({"persistentVolumeClaim": "small"});
    let mut objects = vec![
        small,
        unbound,
        claim("empty"),
        claim("private"),
        secret("rare", json!({"token": manifests::RARE})),
        secret("beats", json!({"username": "beater", "password": "unused"})),
        secret("wrong", json!({"RESTIC_PASSWORD": "another-password"})),
        repository("vault", "", "vault", &upkeep()),
        repository("locked-out", "", "wrong", &json!({"initialize": false})),
        repository("second", "/second", "vault", &json!({})),
        repository("third", "/third", "vault", &json!({})),
        full,
        policy("slow", "vault", command("sleep 300"), &kept()),
        policy("half", "vault", command("echo half; exit 7"), &kept()),
        policy("locked-out", "locked-out", files(), &kept()),
        policy("unbound", "second", json!({"files": {"persistentVolumeClaim": "unbound"}}), &short),
        policy("empty", "second", json!({"files": {"persistentVolumeClaim": "empty"}}), &json!({})),
    ];
    objects.extend(database(&[]));
    objects.extend(privileges::server());
    objects
}

#[test]
fn files_and_databases_are_backed_up_by_real_pods_and_only_what_is_whole_counts() {
    let _turn = crate::turn();
    let node = NodeOptions { volumes: VOLUMES, small: Some((SMALL_VOLUME, "16m")), ..NodeOptions::default() };
    let Some(world) = vault::world("node-backup", node) else { return };
    rest_server().unwrap().import(world.node().unwrap()).unwrap();
    let scene = Scene::set(&world, "backup", VOLUMES, objects());
    let data = scene.volume("data");
    write(&data, "accounts", "1000");

    // A policy is changed like everything else of the System.
    let wanted = policy("files", "vault", files(), &kept());
    let refusal = scene.stage.user("alice").create(&scene.stage.placed(wanted.clone())).unwrap_err();
    assert_eq!(refusal.code, 403, "{refusal}");
    let change = scene.stage.propose("alice", "protect-files", vec![wanted]);
    change.approve(&["bob"]);
    change.wait("Succeeded");
    eventually(RUN, || {
        let status = scene.status("backuprepositories/vault");
        if status["repositoryId"].is_string() { Ok(()) } else { Err(format!("{status:#}")) }
    });

    // A whole copy, and one that builds on it.
    let (well, told) = scene.run("files", &[]);
    assert!(well && told.contains("Succeeded"), "{told}");
    let first = scene.newest("files")["status"]["point"]["snapshotId"].as_str().unwrap().to_owned();
    assert!(scene.snapshots("").contains(&first));
    write(&data, "ledger", "2000");
    let (well, told) = scene.run("files", &[]);
    assert!(well, "{told}");
    let second = scene.newest("files")["status"].clone();
    assert_eq!((&second["point"]["parent"], &second["point"]["files"]), (&json!(first), &json!(2)), "{second:#}");
    let good = eventually(SOON, || {
        let good = scene.status("backuppolicies/files")["lastGood"].clone();
        let is_newest = good["snapshotId"] == second["point"]["snapshotId"];
        if is_newest { Ok(good) } else { Err(format!("{good:#}")) }
    });

    // B9: what cannot be read makes no good point.
    write(&data, "secret", "3000");
    fs::set_permissions(data.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let (well, told) = scene.run("files", &[]);
    assert!(!well && told.contains("PartiallyFailed") && told.contains("1 files could not be read"), "{told}");
    eventually(SOON, || {
        let status = scene.status("backuppolicies/files");
        if status["lastRun"]["phase"] == "PartiallyFailed" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(scene.status("backuppolicies/files")["lastGood"], good, "it stays the newest good point");

    // B10 and B16.
    let (well, told) = scene.run("half", &[]);
    assert!(!well && told.contains("ended with 7"), "{told}");
    let half = scene.newest("half")["status"].clone();
    let log = half["logTail"].as_str().unwrap_or_default();
    assert!(half["point"].is_null() && log.contains("ended in stage"), "{half:#}");
    let (well, told) = scene.run("locked-out", &[]);
    assert!(!well && told.contains("does not open with RESTIC_PASSWORD"), "{told}");

    restored(&scene, &data);
    elsewhere::restored_elsewhere(&scene, &data);
    dumps::dumped(&scene);
    // What one waits for the others need not.
    thread::scope(|scope| {
        scope.spawn(|| manifests::copied(&scene));
        scope.spawn(|| told::told(&scene, &good));
        dumps::broken_off(&scene);
    });
    halfway::killed(&scene);
    halfway::pruned_halfway(&scene);
    // Each waits for slots of schedules, of other repositories.
    thread::scope(|scope| {
        scope.spawn(|| halfway::kept_up(&scene));
        scope.spawn(|| privileges::read_all(&scene));
        troubles::troubled(&scene);
    });
}

/// The newest good point comes back to a new volume, once that was agreed; the one that was not whole is not taken.
fn restored(scene: &Scene<'_>, data: &Path) {
    let namespace = scene.stage.namespace.as_str();
    let arguments = [
        "restore",
        "files",
        "-n",
        namespace,
        "--to-claim",
        "restored",
        "--storage-class",
        POOL,
        "--size",
        "100Mi",
        "--reason",
        "the branch asks for it",
        "--yes",
    ];
    let (well, told) = scene.world.interlock_status("alice", &arguments);
    assert!(well && told.contains("2 files"), "{told}");
    let name = named(&told, "changerequest");
    let change = scene.stage.change_of(&scene.stage.get(&format!("changerequests/{name}")));
    assert!(!scene.stage.exists("persistentvolumeclaims/restored"), "nothing before it is agreed");
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let back = scene.volume("restored");
    for file in ["accounts", "ledger"] {
        assert_eq!(fs::read(back.join(file)).unwrap(), fs::read(data.join(file)).unwrap());
    }
    assert!(!back.join("secret").exists());
    restored_over(scene, &back);
}

/// Over what a claim holds: a dry run makes nothing, nobody does it unasked, and once it was agreed the files are as they were.
fn restored_over(scene: &Scene<'_>, held: &Path) {
    let well = fs::read(held.join("accounts")).unwrap();
    fs::write(held.join("accounts"), "spoilt").unwrap();
    fs::write(held.join("newer"), "stays").unwrap();
    let namespace = scene.stage.namespace.as_str();
    let restore = |more: &str| {
        let arguments = ["restore", "files", "-n", namespace, "--over", "restored", "--reason", "it is spoilt", more];
        let (well, told) = scene.world.interlock_status("alice", &arguments);
        assert!(well && told.contains("what the claim restored holds"), "{told}");
        told
    };
    let count = |what: &str| scene.stage.get(what)["items"].as_array().unwrap().len();
    let jobs = "jobs?labelSelector=app.kubernetes.io/component=restore";
    let before = (count("changerequests"), count(jobs));
    assert!(restore("--dry-run").contains("nothing is created"));
    assert_eq!((count("changerequests"), count(jobs)), before);

    let name = named(&restore("--yes"), "changerequest");
    let request = scene.stage.get(&format!("changerequests/{name}"));
    let refusal = scene.stage.user("alice").create(&request["spec"]["content"]["manifests"][0]).unwrap_err();
    assert_eq!(refusal.code, 403, "{refusal}");
    assert_eq!((count(jobs), fs::read_to_string(held.join("accounts")).unwrap()), (before.1, "spoilt".to_owned()));
    let change = scene.stage.change_of(&request);
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(fs::read(held.join("accounts")).unwrap(), well);
    assert_eq!(fs::read_to_string(held.join("newer")).unwrap(), "stays", "what the point does not hold is left alone");
}
