//! Drills that pass, and damage that they find.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use interlock_cluster::{PodNetwork, Tool, Tools};
use interlock_tests::{
    eventually,
    vault::{PASSWORD, Scene, outcome, policy, repository, segments, write},
    world::SOON,
};
use serde_json::json;

use super::{set, world};

#[test]
fn what_is_backed_up_comes_back_in_a_sandbox_that_is_cut_off_and_damage_is_found() {
    let Some((world, _turn)) = world("node-drill", PodNetwork::Enforced) else { return };
    let scene = set(&world);
    let data = scene.data_with_a_heartbeat();
    write(&data, "accounts", "1000");
    let point = scene.backup("files", &[]);
    assert!(point["heartbeat"]["seq"].as_i64().is_some_and(|seq| seq > 0), "{point:#}");
    files(&scene);
    corrupt(&scene);
    sql(&scene);
}

/// D4, D5, D6, D9, D10: files and heartbeat come back; measured; the certificate holds.
fn files(scene: &Scene<'_>) {
    let validations = json!([
        {"name": "every file", "files": {"verifyAll": true, "minimumFiles": 2}},
        {"name": "heartbeat", "heartbeat": {}},
        {"name": "accounts", "command": {"image": "postgres:15", "command": ["sh", "-c", "grep 1000 /restored/accounts"]}},
        {"name": "not there", "critical": false, "command": {"image": "postgres:15", "command": ["sh", "-c", "exit 3"]}},
    ]);
    let objectives = json!({"rto": "10m", "rpo": "1h"});
    scene.drill("files", "files", &json!({"validations": validations, "objectives": objectives}));
    let status = scene.run_drill("files", &[]);
    assert_eq!(outcome(&status), ("Passed", "Complete"), "{status:#}");
    assert_eq!(
        (&status["isolation"]["outside"], &status["isolation"]["inside"]),
        (&json!("Connected"), &json!("Blocked"))
    );
    let verdicts: Vec<_> =
        status["validations"].as_array().unwrap().iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["Passed", "Passed", "Passed", "Failed"], "{status:#}");
    let total: i64 = segments(&status).iter().map(|(_, seconds)| seconds).sum();
    assert_eq!(status["rto"]["seconds"], total, "the segments are the whole: {status:#}");
    assert_eq!((&status["rto"]["met"], &status["rpo"]["met"]), (&json!(true), &json!(true)), "{status:#}");
    scene.nothing_is_left();
    let noted = status["certificate"]["configMap"].as_str().unwrap();
    let map = scene.stage.get(&format!("configmaps/{noted}"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.json");
    fs::write(&file, map["data"]["certificate.json"].as_str().unwrap()).unwrap();
    let keys = scene.world.admin().get("/api/v1/namespaces/interlock-system/configmaps/interlock-seal-public").unwrap();
    let key = folder.path().join("key");
    fs::write(&key, keys["data"].as_object().unwrap().values().next().unwrap().as_str().unwrap()).unwrap();
    let verify = |file: &Path| {
        let arguments = ["drill", "verify", file.to_str().unwrap(), "--trust", key.to_str().unwrap()];
        scene.world.interlock_status("alice", &arguments)
    };
    let (well, told) = verify(&file);
    assert!(well && told.contains("Passed"), "{told}");
    let text = fs::read_to_string(&file).unwrap().replacen("Passed", "passed", 1);
    fs::write(&file, text).unwrap();
    assert!(!verify(&file).0, "a changed byte is found");

    // D16: a heartbeat that is set back in the restored copy is noticed.
    let status = scene.run_drill("files", &["--fault", "tamper-heartbeat"]);
    assert_eq!(outcome(&status), ("Failed", "StaleData"), "{status:#}");
    scene.nothing_is_left();
}

/// D1: a byte of a pack is flipped, and the restore finds it; the point is no longer the last good one.
fn corrupt(scene: &Scene<'_>) {
    let vault = scene.volume("vault");
    let packs = Command::new("find").arg(vault.join("data")).args(["-type", "f"]).output().unwrap();
    for pack in String::from_utf8(packs.stdout).unwrap().lines() {
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::set_permissions(pack, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    let status = scene.run_drill("files", &[]);
    assert_eq!(outcome(&status), ("Failed", "DataCorrupt"), "{status:#}");
    scene.nothing_is_left();
    eventually(SOON, || {
        let policy = scene.stage.get("backuppolicies/files")["status"].clone();
        if policy["lastGood"].is_null() { Ok(()) } else { Err(format!("{policy:#}")) }
    });
    fs::remove_dir_all(vault.join("data")).unwrap();
    for folder in fs::read_dir(&vault).unwrap().flatten() {
        let _ = fs::remove_dir_all(folder.path());
        let _ = fs::remove_file(folder.path());
    }
    // B16: a repository that is gone is never made anew by itself: another one takes its place.
    let (well, told) = scene.run("files", &[]);
    assert!(!well && told.contains("there is no repository at the address any more"), "{told}");
    assert!(!vault.join("config").exists(), "and none is made there");
    let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
    let made = Command::new(tools.path(Tool::Restic))
        .args(["init", "--no-cache"])
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_REPOSITORY", vault.join("second"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    Command::new("chmod").args(["-R", "a+rwX"]).arg(&vault).status().unwrap();
}

/// A dump is loaded into a server in the sandbox, and asked; a query that does not hold fails the drill.
fn sql(scene: &Scene<'_>) {
    scene.ask("database", "create table if not exists accounts (id int primary key, owner text)");
    scene.ask("database", "insert into accounts select n, 'owner ' || n from generate_series(1, 500) n");
    let source = json!({"postgres": {
        "host": scene.database(), "secretRef": {"name": "database"}, "sslMode": "Disable", "databases": ["postgres"],
    }});
    // Whoever restores must be able to read what was backed up to a folder of the node: one user does both.
    let pod = json!({"runAsUser": 70, "runAsGroup": 70, "fsGroup": 70});
    let second = repository("second", "/second", "vault", &json!({"pod": pod}));
    let database = policy("database", "second", source, &json!({"retention": {"keepLast": 3}, "pod": pod}));
    scene.agreed("protect-database", vec![second, database]);
    scene.backup("database", &[]);
    let postgres = json!({"postgres": {"runAsUser": 70}});
    let rows = |expect: &str| json!([{"name": "rows", "sql": {"database": "postgres", "query": "select count(*) from accounts", "expect": expect}}]);
    let of = |expect: &str| json!({"validations": rows(expect), "sandbox": {"application": postgres, "pod": pod}});
    scene.drill("database", "database", &of("result == 500.0"));
    let status = scene.run_drill("database", &[]);
    assert_eq!(outcome(&status), ("Passed", "Complete"), "{status:#}");
    assert_eq!(status["validations"][0]["number"], 500.0, "{status:#}");
    scene.nothing_is_left();
    // D8.
    scene.drill("too-many", "database", &of("result > 500.0"));
    let status = scene.run_drill("too-many", &[]);
    assert_eq!(outcome(&status), ("Failed", "ValidationFailed"), "{status:#}");
    scene.nothing_is_left();
}

/// D9: where nothing enforces NetworkPolicies, the application is never started on real data.
#[test]
fn d9_on_a_network_that_enforces_nothing_the_application_is_never_started() {
    let Some((world, _turn)) = world("node-drill-open", PodNetwork::Unenforced) else { return };
    let scene = set(&world);
    write(&scene.volume("data"), "accounts", "1000");
    scene.backup("files", &[]);
    let application = json!({"podTemplate": {"spec": {"containers": [{"name": "app", "image": "postgres:15"}]}}});
    let validations = json!([{"name": "every file", "files": {}}]);
    scene.drill("files", "files", &json!({"validations": validations, "sandbox": {"application": application}}));
    let status = scene.run_drill("files", &[]);
    assert_eq!(outcome(&status), ("Failed", "IsolationNotEnforced"), "{status:#}");
    let jobs = status["jobs"].as_array().unwrap();
    assert!(!jobs.iter().any(|job| job["name"] == "application"), "{jobs:#?}");
    scene.nothing_is_left();
}
