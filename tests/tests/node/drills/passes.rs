//! Drills that pass, and damage that they find.

use std::{
    collections::BTreeSet,
    fs, iter,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use interlock_cluster::{PodNetwork, Tool, Tools};
use interlock_tests::{
    eventually,
    vault::{PASSWORD, Scene, named, outcome, policy, repository, segments, write},
    world::SOON,
};
use serde_json::{Value, json};

use super::{set, world};

#[test]
fn what_is_backed_up_comes_back_in_a_sandbox_that_is_cut_off_and_damage_is_found() {
    let Some((world, _turn)) = world("node-drill", PodNetwork::Enforced) else { return };
    let scene = set(&world);
    let data = scene.data_with_a_heartbeat();
    write(&data, "accounts", "1000");
    let first = scene.backup("files", &[]);
    assert!(first["heartbeat"]["seq"].as_i64().is_some_and(|seq| seq > 0), "{first:#}");
    files(&scene, &first["point"]);
    let packs = scene.packs();
    write(&data, "ledger", noise(100_000));
    let second = scene.backup("files", &[]);
    newer(&scene, &second["point"]);
    corrupt(&scene, &packs, &first["point"]);
    b16_what_is_gone_is_told_and_not_made_anew(&scene);
    sql(&scene);
    b15_a_restart_changes_no_number(&scene);
}

/// Bytes that nothing makes fewer.
fn noise(count: usize) -> Vec<u8> {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    iter::successors(Some(1_u64), next).map(|state| state.to_be_bytes()[0]).take(count).collect()
}

/// What serves the file of the folder at the port, once `begin` is done.
fn server(port: u16, begin: &str, folder: &str, file: &str) -> Value {
    json!({"spec": {
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsUser": 65_532},
        "containers": [{
            "name": "main", "image": "postgres:15",
            "command": ["sh", "-c", format!("{begin} && exec httpd -f -p {port} -h {folder}")],
            "readinessProbe": {
                "exec": {"command": ["wget", "-q", "-O", "/dev/null", format!("http://127.0.0.1:{port}/{file}")]},
                "periodSeconds": 1, "timeoutSeconds": 5,
            },
            "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
        }],
    }})
}

/// An application on the files that needs one dependency, which needs another. Each finds the one before by its name, at once.
fn application() -> Value {
    let fetch = |from: &str, to: &str| format!("until wget -q -O {to} http://{from}/rates; do sleep 1; done");
    let own = "mkdir /tmp/www";
    let rates = server(8081, &format!("{own} && echo 7 > /tmp/www/rates"), "/tmp/www", "rates");
    let branch = format!("{own} && {}", fetch("rates:8081", "/tmp/www/rates"));
    let branch = server(8082, &branch, "/tmp/www", "rates");
    let mut application = server(8080, &fetch("branch:8082", "/tmp/rates"), "/www", "accounts");
    application["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "restored", "mountPath": "/www"}]);
    json!({
        "dependencies": [
            {"name": "rates", "ports": [8081], "podTemplate": rates},
            {"name": "branch", "ports": [8082], "podTemplate": branch},
        ],
        "application": {"podTemplate": application},
    })
}

/// D5, D6, D9, D10: files and heartbeat come back, to an application that serves them and to what it needs; measured; the
/// certificate holds.
fn files(scene: &Scene<'_>, point: &Value) {
    let look = "grep 1000 /restored/accounts && wget -q -O - http://branch:8082/rates | grep 7";
    let validations = json!([
        {"name": "every file", "files": {"verifyAll": true, "minimumFiles": 2}},
        {"name": "heartbeat", "heartbeat": {}},
        {"name": "accounts", "command": {"image": "postgres:15", "command": ["sh", "-c", look]}},
        {"name": "served", "http": {"port": 8080, "path": "/accounts", "expectText": "1000"}},
        {"name": "not there", "critical": false, "command": {"image": "postgres:15", "command": ["sh", "-c", "exit 3"]}},
    ]);
    let objectives = json!({"rto": "10m", "rpo": "1h"});
    let drill = json!({"validations": validations, "objectives": objectives, "sandbox": application()});
    scene.drill("files", "files", &drill);
    let (code, told) = drill_command(scene, &["run", "files", "--watch"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("Passed (Complete)") && told.contains("✔ every file Passed"), "{told}");
    let run = named(&told, "drillrun");
    let status = scene.drilled(&run);
    told_afterwards(scene, &run);
    assert_eq!(outcome(&status), ("Passed", "Complete"), "{status:#}");
    assert_eq!(status["chosen"]["snapshotId"], point["snapshotId"], "{status:#}");
    assert_eq!(
        (&status["isolation"]["outside"], &status["isolation"]["inside"]),
        (&json!("Connected"), &json!("Blocked"))
    );
    let verdicts: Vec<_> =
        status["validations"].as_array().unwrap().iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["Passed", "Passed", "Passed", "Passed", "Failed"], "{status:#}");
    let made = status["jobs"].as_array().unwrap().iter().filter_map(|job| job["name"].as_str());
    let served: Vec<_> = made.filter(|name| name.starts_with("dependency") || *name == "application").collect();
    assert_eq!(served, ["dependency-0", "dependency-1", "application"], "{status:#}");
    let total: i64 = segments(&status).iter().map(|(_, seconds)| seconds).sum();
    assert_eq!(status["rto"]["seconds"], total, "the segments are the whole: {status:#}");
    assert_eq!((&status["rto"]["met"], &status["rpo"]["met"]), (&json!(true), &json!(true)), "{status:#}");
    scene.nothing_is_left();
    scene.is_wiped(&status);
    let noted = status["certificate"]["configMap"].as_str().unwrap();
    let map = scene.stage.get(&format!("configmaps/{noted}"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.json");
    fs::write(&file, map["data"]["certificate.json"].as_str().unwrap()).unwrap();
    let keys = scene.world.admin().get("/api/v1/namespaces/interlock-system/configmaps/interlock-seal-public").unwrap();
    let key = folder.path().join("key");
    fs::write(&key, keys["data"].as_object().unwrap().values().next().unwrap().as_str().unwrap()).unwrap();
    images(&status, &fs::read_to_string(&file).unwrap());
    let verify = |file: &Path| {
        let arguments = ["drill", "verify", file.to_str().unwrap(), "--trust", key.to_str().unwrap()];
        scene.world.interlock_status("alice", &arguments)
    };
    let (well, told) = verify(&file);
    assert!(well && told.contains("Passed"), "{told}");
    let text = fs::read_to_string(&file).unwrap().replacen("Passed", "passed", 1);
    fs::write(&file, text).unwrap();
    assert!(!verify(&file).0, "a changed byte is found");
}

/// `interlock drill` in the namespace of the scene, as alice: its exit code, and what it told.
fn drill_command(scene: &Scene<'_>, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["drill"][..], arguments, &["-n", &scene.stage.namespace]].concat();
    scene.world.interlock_code("alice", &arguments)
}

/// What `drill status` and `drill list` tell of a drill and of its only run, which passed.
fn told_afterwards(scene: &Scene<'_>, run: &str) {
    let (code, told) = drill_command(scene, &["status", "files"]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(code, Some(0), "{told}");
    let passed = format!("{run} Passed (Complete)");
    for said in [
        passed.as_str(),
        "files, asked for by alice",
        "Connected from outside, Blocked from inside",
        "cleanup Done: nothing is left",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let rows = |arguments: &[&str], begin: &[&str]| {
        eventually(SOON, || {
            let (code, told) = drill_command(scene, arguments);
            let begins = |line: &str| line.split_whitespace().take(begin.len()).eq(begin.iter().copied());
            if code == Some(0) && told.lines().any(begins) { Ok(()) } else { Err(format!("{code:?}: {told}")) }
        });
    };
    // The drill learns of its run a little later.
    rows(&["list"], &["files", "Proven", "files"]);
    rows(&["list", "files"], &[run, "Passed", "Complete"]);
}

/// D18: what ran is recorded with its digest, and the certificate says the same.
fn images(status: &Value, certificate: &str) {
    let images = status["images"].as_array().unwrap();
    for container in ["install", "restore", "report", "probe", "main"] {
        let image = images.iter().find(|image| image["container"] == container);
        let digest = image.and_then(|image| image["imageId"].as_str()).unwrap_or_default();
        assert!(digest.contains("sha256:"), "{container}: {images:#?}");
    }
    let certificate: Value = serde_json::from_str(certificate).unwrap();
    assert_eq!(certificate["certificate"]["evidence"]["images"], status["images"], "{certificate:#}");
}

/// D4 and D16: each run takes the newest point anew, and a heartbeat that is set back in the restored copy is noticed.
fn newer(scene: &Scene<'_>, point: &Value) {
    let status = scene.run_drill("files", &["--fault", "tamper-heartbeat"]);
    assert_eq!(outcome(&status), ("Failed", "StaleData"), "{status:#}");
    assert_eq!(status["chosen"]["snapshotId"], point["snapshotId"], "{status:#}");
    scene.nothing_is_left();
}

/// D1: a byte is flipped in a pack that the newest point alone has. restic's own check passes, as it reads no data; the restore
/// finds it, and the point `before` is the last good one again.
fn corrupt(scene: &Scene<'_>, packs: &BTreeSet<PathBuf>, before: &Value) {
    let now = scene.packs();
    let pack = now.difference(packs).max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::set_permissions(pack, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(pack, bytes).unwrap();
    scene.restic("", &["check"]);
    let status = scene.run_drill("files", &[]);
    assert_eq!(outcome(&status), ("Failed", "DataCorrupt"), "{status:#}");
    scene.nothing_is_left();
    eventually(SOON, || {
        let policy = scene.status("backuppolicies/files");
        let falls_back = policy["lastGood"]["snapshotId"] == before["snapshotId"];
        if falls_back { Ok(()) } else { Err(format!("{policy:#}")) }
    });
    let bad = scene.status(&format!("backups/{}", status["chosen"]["backup"].as_str().unwrap()));
    assert_eq!(bad["verified"]["verdict"], "Corrupt", "{bad:#}");
}

/// Where a repository was, none is made: that it is gone is told, and what was there before is still known.
fn b16_what_is_gone_is_told_and_not_made_anew(scene: &Scene<'_>) {
    let vault = scene.volume("vault");
    for entry in fs::read_dir(&vault).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let made = scene.status("backuprepositories/vault")["lastInitialize"].clone();
    let (well, told) = scene.run("files", &[]);
    assert!(!well, "{told}");
    let run = scene.newest("files")["status"].clone();
    assert_eq!(outcome(&run), ("Failed", "RepositoryMissing"), "{run:#}");
    assert!(run["message"].as_str().unwrap().contains("Interlock makes no new one"), "{run:#}");
    let status = eventually(SOON, || {
        let status = scene.status("backuprepositories/vault");
        if status["phase"] == "Unreachable" { Ok(status) } else { Err(format!("{status:#}")) }
    });
    assert_eq!((&status["lastInitialize"], &status["active"]), (&made, &Value::Null), "{status:#}");
    assert!(scene.status("backuppolicies/files")["lastGood"].is_object());
    assert!(!vault.join("config").exists() && !vault.join("keys").exists());

    // Another one takes its place beside it.
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
    let holds = scene.drill_of("database", "database", &of("result == 500.0"));
    let fails = scene.drill_of("too-many", "database", &of("result > 500.0"));
    scene.agreed("drill-database", vec![holds, fails]);
    let runs = ["database", "too-many"].map(|drill| scene.ask_for_drill(drill, &[]));
    let [holds, fails] = runs.map(|run| scene.drilled(&run));
    assert_eq!(outcome(&holds), ("Passed", "Complete"), "{holds:#}");
    assert_eq!(holds["validations"][0]["number"], 500.0, "{holds:#}");
    // D8.
    assert_eq!(outcome(&fails), ("Failed", "ValidationFailed"), "{fails:#}");
    let (code, told) = drill_command(scene, &["status", "too-many"]);
    assert!(code == Some(5) && told.contains("Failed (ValidationFailed)"), "{code:?}: {told}");
    scene.nothing_is_left();
}

/// What metrics tell of policies, repositories and drills comes from objects: a controller that is killed knows it again.
fn b15_a_restart_changes_no_number(scene: &Scene<'_>) {
    let shown = || -> BTreeSet<String> {
        let page = scene.world.http("/metrics").unwrap_or_default();
        let is_told = |line: &&str| line.starts_with("interlock_backup_") || line.starts_with("interlock_drill_");
        page.lines().filter(is_told).map(ToOwned::to_owned).collect()
    };
    // The newest of all that is to be known.
    let last = format!("interlock_drill_failed{{namespace=\"{}\",name=\"too-many\"}} 1", scene.stage.namespace);
    let before = eventually(SOON, || {
        let shown = shown();
        if shown.contains(&last) { Ok(shown) } else { Err(format!("no {last}: {shown:#?}")) }
    });
    let all = [
        "backup_exposed_since_timestamp",
        "backup_last_success_timestamp",
        "backup_last_duration",
        "backup_consecutive_failures",
        "drill_last_passed_timestamp",
        "drill_rto",
    ];
    for name in all {
        assert!(before.iter().any(|line| line.starts_with(&format!("interlock_{name}"))), "{name}: {before:#?}");
    }
    scene.world.kill_controller();
    scene.world.start_controller();
    eventually(SOON, || {
        let after = shown();
        let differs: Vec<_> = before.symmetric_difference(&after).collect();
        if differs.is_empty() { Ok(()) } else { Err(format!("{differs:#?}")) }
    });
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
    let isolation = &status["isolation"];
    assert_eq!((&isolation["outside"], &isolation["inside"]), (&json!("Connected"), &json!("Connected")), "{status:#}");
    let jobs: Vec<_> = status["jobs"].as_array().unwrap().iter().filter_map(|job| job["name"].as_str()).collect();
    let starts = |name: &&str| *name == "application" || name.starts_with("validation");
    assert!(jobs.contains(&"probe") && !jobs.iter().any(starts), "{jobs:?}");
    scene.nothing_is_left();
}
