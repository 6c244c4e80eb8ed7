//! Each way in which a restore disappoints, on real parts: its reason is told, and nothing is left.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use interlock_cluster::{PodNetwork, restic_behind};
use interlock_core::drill::names;
use interlock_tests::{
    eventually,
    vault::{DRILL, Scene, instant, outcome, policy, repository, segments, with, write},
    world::{SOON, condition},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{set, world};

#[test]
fn what_does_not_come_back_in_time_or_at_all_fails_with_its_reason() {
    let Some((world, _turn)) = world("node-drill-fails", PodNetwork::Enforced) else { return };
    for (name, script) in [
        ("restic:lies", r#"case "$*" in *restore*) exit 0;; esac"#),
        ("restic:fails", r#"case "$*" in *restore*) restic.real "$@"; exit 1;; esac"#),
        ("restic:slow", r#"case "$*" in *check*) sleep 25;; *restore*) sleep 8;; esac"#),
    ] {
        restic_behind(name, script).unwrap().import(world.node().unwrap()).unwrap();
    }
    let scene = set(&world);
    write(&scene.data_with_a_heartbeat(), "accounts", "1000");
    scene.backup("files", &[]);
    beside_each_other(&scene);
    queue_and_crashes(&scene);
    nobody_knows_it_any_more(&scene);
    dead_writer(&scene);
}

fn files() -> Value {
    json!([{"name": "every file", "files": {"verifyAll": true}}])
}

fn sleeping(seconds: u32) -> Value {
    json!({"image": "postgres:15", "command": ["sleep", seconds.to_string()]})
}

/// D2, D3, D5, D8, D10, D11: drills of one repository at once, as nothing but locks keeps them apart.
fn beside_each_other(scene: &Scene<'_>) {
    let source = json!({"files": {"persistentVolumeClaim": "data"}});
    let by = |image: &str| json!({"validations": files(), "sandbox": {"pod": {"image": image}}});
    let alive = json!({"validations": [{"name": "every file", "files": {}}, {"name": "heartbeat", "heartbeat": {}}]});
    let strict = with(alive.clone(), &json!({"objectives": {"rpo": "1s"}}));
    let hangs = json!({"validations": [{"name": "hangs", "timeout": "5s", "command": sleeping(600)}]});
    let no = json!({"image": "postgres:15", "command": ["sh", "-c", "exit 1"]});
    let refuses = json!({"validations": [{"name": "refuses", "command": no}]});
    let absent = "127.0.0.1:1/nothing:1";
    let cannot = json!({"validations": [
        {"name": "no image", "timeout": "1s", "command": {"image": absent, "command": ["true"]}},
        {"name": "no program", "command": {"image": "postgres:15", "command": ["/no/such/program"]}},
    ]});
    let late = json!({
        "validations": [
            {"name": "late", "timeout": "15s", "command": sleeping(600)},
            {"name": "never begun", "timeout": "15s", "files": {}},
        ],
        "timeouts": {"validate": "15s"},
    });
    scene.agreed(
        "drills",
        vec![
            policy("never", "vault", source, &json!({})),
            scene.drill_of("never", "never", &json!({"validations": files()})),
            // What has to be overwritten is by then, on a busy machine too.
            scene.drill_of("held", "files", &json!({"validations": files(), "timeouts": {"cleanup": "90s"}})),
            scene.drill_of("lies", "files", &by("restic:lies")),
            scene.drill_of("fails", "files", &by("restic:fails")),
            scene.drill_of("strict", "files", &strict),
            scene.drill_of("hangs", "files", &hangs),
            scene.drill_of("refuses", "files", &refuses),
            scene.drill_of("cannot", "files", &cannot),
            scene.drill_of("late", "files", &late),
            scene.drill_of("alive", "files", &alive),
        ],
    );
    let held = scene.ask_for_drill("held", &[]);
    let sandbox = hold_back(scene, &held);
    let drills = ["cannot", "never", "lies", "fails", "strict", "refuses", "hangs", "late", "alive"];
    let runs = drills.map(|drill| scene.ask_for_drill(drill, &[]));
    cleanup_fails_and_goes_on(scene, &held, &sandbox);
    let [cannot, never, lies, fails, strict, refuses, hangs, late, alive] = runs.map(|run| scene.drilled(&run));
    assert_eq!(outcome(&alive), ("Passed", "Complete"), "{alive:#}");
    // D2: nothing to restore, and nothing restored although restic ends with 0.
    assert_eq!(outcome(&never), ("Failed", "NoRecoveryPoint"), "{never:#}");
    assert_eq!(outcome(&lies), ("Failed", "EmptyRestore"), "{lies:#}");
    // D3: what a wrapper would swallow.
    assert_eq!(outcome(&fails), ("Failed", "RestoreFailed"), "{fails:#}");
    // D5: it came back, and the newest record in it is that much older than T0.
    assert_eq!(outcome(&strict), ("Failed", "RPOExceeded"), "{strict:#}");
    let lost = instant(&strict["t0"]).duration_since(instant(&strict["heartbeat"]["time"]));
    let measured = strict["rpo"]["seconds"].as_i64().unwrap();
    assert!((measured - lost.as_secs()).abs() <= 1, "{measured} s, {lost}");
    let at = |field: &str| strict["rpo"][field].as_i64().unwrap();
    assert!(at("atLeastSeconds") <= measured && measured <= at("atMostSeconds"), "{strict:#}");
    // D8: a critical one that says no.
    assert_eq!(outcome(&refuses), ("Failed", "ValidationFailed"), "{refuses:#}");
    assert_eq!(refuses["message"], "critical validation refuses: the command ended with 1", "{refuses:#}");
    // D8: one that takes longer than it may.
    assert_eq!(outcome(&hangs), ("Failed", "TimedOut"), "{hangs:#}");
    // D8: one that cannot be started, and says why; neither is taken for a slow one.
    assert_eq!(outcome(&cannot), ("Failed", "ValidationError"), "{cannot:#}");
    let [image, program] = [0, 1].map(|index| &cannot["validations"][index]);
    assert_eq!((&image["verdict"], &program["verdict"]), (&json!("Error"), &json!("Error")), "{cannot:#}");
    let why = image["message"].as_str().unwrap();
    assert!(why.contains("could not be started") && why.contains(absent), "{cannot:#}");
    // D11: the window of all closes: what runs has timed out, what was not begun is skipped.
    assert_eq!(outcome(&late), ("Failed", "TimedOut"), "{late:#}");
    let verdicts = [0, 1].map(|index| late["validations"][index]["verdict"].as_str().unwrap());
    assert_eq!(verdicts, ["TimedOut", "Skipped"], "{late:#}");
    let started = late["segments"].as_array().unwrap().iter().find(|segment| segment["name"] == "Start");
    let begun = instant(&started.unwrap()["finishedAt"]);
    let closed = instant(&late["validations"][0]["finishedAt"]);
    assert_eq!(closed.duration_since(begun), SignedDuration::from_secs(15), "{late:#}");
    scene.nothing_is_left();
}

/// Keeps the sandbox of a run from going, as a controller of somebody else would; its name.
fn hold_back(scene: &Scene<'_>, run: &str) -> String {
    let sandbox = eventually(DRILL, || {
        let sandbox = scene.status(&format!("drillruns/{run}"))["sandbox"].clone();
        let made = sandbox["namespaceUid"].is_string();
        if made { Ok(sandbox["namespace"].as_str().unwrap().to_owned()) } else { Err(format!("{run}: {sandbox:#}")) }
    });
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    scene.world.admin().merge(&format!("/api/v1/namespaces/{sandbox}"), &held).unwrap();
    sandbox
}

/// D10: what cannot be removed is told, and removed when that is possible; the verdict stays.
fn cleanup_fails_and_goes_on(scene: &Scene<'_>, run: &str, sandbox: &str) {
    let path = format!("drillruns/{run}");
    let failed = eventually(DRILL, || {
        let status = scene.status(&path);
        if status["cleanup"]["state"] == "Failed" { Ok(status) } else { Err(format!("{run}: {status:#}")) }
    });
    assert_eq!(outcome(&failed), ("Passed", "Complete"), "{failed:#}");
    let left = json!(format!("Namespace/{sandbox}"));
    assert!(failed["cleanup"]["leftovers"].as_array().unwrap().contains(&left), "{failed:#}");
    let told = failed["cleanup"]["message"].as_str().unwrap();
    assert!(told.starts_with("not done within 90 s, and tried on; left: ") && told.contains(sandbox), "{told}");
    eventually(SOON, || {
        let drill = scene.stage.get("restoredrills/held");
        let is_told = condition(&drill, "CleanupFailed").is_some_and(|condition| condition["status"] == "True");
        if is_told { Ok(()) } else { Err(format!("{:#}", drill["status"])) }
    });
    let let_go = json!({"metadata": {"finalizers": null}});
    scene.world.admin().merge(&format!("/api/v1/namespaces/{sandbox}"), &let_go).unwrap();
    let done = scene.drilled(run);
    for field in ["phase", "verdict", "reason", "finishedAt", "evidenceDigest", "certificate"] {
        assert_eq!(done[field], failed[field], "{field} stays: {done:#}");
    }
    let told = condition(&scene.stage.get(&path), "CleanupFailed").unwrap()["status"].clone();
    assert_eq!(told, "False", "{done:#}");
}

/// D10: whose record somebody took away with everything that keeps it, of that nothing is left either.
fn nobody_knows_it_any_more(scene: &Scene<'_>) {
    scene.drill("lost", "files", &json!({"validations": files(), "sandbox": {"pod": {"image": "restic:slow"}}}));
    let run = scene.ask_for_drill("lost", &[]);
    // It restores for some seconds: before that its volume is not the sandbox's.
    eventually(DRILL, || scene.running(&format!("{run}-restore"), "restore"));
    let path = scene.stage.path(&format!("drillruns/{run}"));
    let admin = scene.world.admin();
    scene.world.unguarded(|| {
        admin.merge(&path, &json!({"metadata": {"finalizers": null}})).unwrap();
        admin.delete(&path).unwrap();
    });
    let of_run = format!("/api/v1/namespaces?labelSelector=interlock.dev/drill-run={run}");
    let sandboxes = admin.get(&of_run).unwrap();
    assert_eq!(sandboxes["items"].as_array().unwrap().len(), 1, "nothing but Interlock removes it: {sandboxes:#}");
    scene.world.start_controller();
    scene.nothing_is_left();
}

/// D6 and D10: recovery time begins with the person who asks, not when the repository is free; a controller that dies in every
/// part of the drill changes nothing of it.
fn queue_and_crashes(scene: &Scene<'_>) {
    let source = json!({"files": {"persistentVolumeClaim": "data"}});
    let checked = json!({"pod": {"image": "restic:slow"}, "check": {"schedule": "* * * * *"}});
    let slow =
        json!({"validations": files(), "objectives": {"rto": "10m"}, "sandbox": {"pod": {"image": "restic:slow"}}});
    scene.agreed(
        "busy",
        vec![
            repository("busy", "/busy", "vault", &checked),
            policy("queued", "busy", source, &json!({"pod": {"image": "restic:1"}})),
            scene.drill_of("queued", "queued", &slow),
            scene.drill_of("taken", "queued", &json!({"validations": files()})),
        ],
    );
    scene.backup("queued", &[]);
    let before = scene.status("backuprepositories/busy")["lastCheck"]["name"].clone();
    eventually(DRILL, || {
        let status = scene.status("backuprepositories/busy");
        let new = status["lastCheck"]["name"] != before || status["active"]["name"] != before;
        if status["phase"] == "Checking" && new { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let run = scene.ask_for_drill("queued", &[]);
    let (taken, sandbox) = taken_before(scene);
    let mut seen = BTreeSet::new();
    let mut t0 = None::<Timestamp>;
    let end = eventually(DRILL, || {
        let status = scene.status(&format!("drillruns/{run}"));
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        if status["cleanup"]["state"] == "Done" {
            return Ok(status);
        }
        if status["t0"].is_string() {
            let now = instant(&status["t0"]);
            assert_eq!(*t0.get_or_insert(now), now, "T0 never moves");
            if seen.insert(phase) {
                scene.world.kill_controller();
                scene.world.start_controller();
            }
        }
        Err(format!("{status:#}"))
    });
    assert_eq!(outcome(&end), ("Passed", "Complete"), "{end:#}");
    assert!(seen.contains("Queued") && seen.contains("Restoring") && seen.len() >= 4, "{seen:?}");
    let parts = segments(&end);
    let (first, queued) = parts.first().unwrap();
    assert!(first == "Queue" && *queued >= 5, "{parts:?}");
    assert_eq!(end["rto"]["seconds"], parts.iter().map(|(_, seconds)| seconds).sum::<i64>(), "{parts:?}");
    let passed = instant(&end["validations"][0]["finishedAt"]);
    assert_eq!(passed.duration_since(t0.unwrap()).as_secs(), end["rto"]["seconds"].as_i64().unwrap(), "{parts:?}");
    is_left_alone(scene, &taken, &sandbox);
    scene.nothing_is_left();
}

/// A run that waits for its repository, and the namespace of somebody who knows the name of its sandbox and was faster.
fn taken_before(scene: &Scene<'_>) -> (String, String) {
    let run = scene.ask_for_drill("taken", &[]);
    let uid = scene.stage.get(&format!("drillruns/{run}"))["metadata"]["uid"].clone();
    let sandbox = names::sandbox(&run, uid.as_str().unwrap());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": sandbox}});
    scene.world.admin().create(&namespace).unwrap();
    (run, sandbox)
}

/// D9: nothing is restored beside a namespace that was there before, and it stays as it is.
fn is_left_alone(scene: &Scene<'_>, run: &str, sandbox: &str) {
    let taken = scene.drilled(run);
    assert_eq!(outcome(&taken), ("Failed", "NameTaken"), "{taken:#}");
    let told = format!("namespace {sandbox} exists and is not of this run; a drill restores into a fresh one only");
    assert_eq!(taken["message"], told, "{taken:#}");
    assert!(taken["chosen"].is_object() && taken["jobs"].is_null(), "a point, and no Job for it: {taken:#}");
    let path = format!("/api/v1/namespaces/{sandbox}");
    let found = scene.world.admin().get(&path).unwrap();
    assert!(found["metadata"]["deletionTimestamp"].is_null(), "{found:#}");
    let policies = format!("/apis/networking.k8s.io/v1/namespaces/{sandbox}/networkpolicies");
    let made = scene.world.admin().get(&policies).unwrap();
    assert_eq!(made["items"], json!([]), "nothing was made in it");
    scene.world.admin().delete(&path).unwrap();
}

/// D4 and D7: whose writer was dead when it was copied, of that nothing can be said, and what somebody set ahead in the source is
/// not believed; neither takes the place of the pass before.
fn dead_writer(scene: &Scene<'_>) {
    let passed = eventually(SOON, || {
        let passed = scene.status("restoredrills/alive")["lastPassed"].clone();
        if passed.is_object() { Ok(passed) } else { Err("it is not noted".to_owned()) }
    });
    let data = scene.volume("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    eventually(SOON, || {
        let age = fs::metadata(data.join("beat")).unwrap().modified().unwrap().elapsed().unwrap();
        if age > Duration::from_secs(8) { Ok(()) } else { Err(format!("{age:?}")) }
    });
    scene.backup("files", &[]);
    let dead = scene.ask_for_drill("alive", &[]);
    // The next point is made while this one is restored.
    eventually(SOON, || {
        let status = scene.status(&format!("drillruns/{dead}"));
        if status["chosen"].is_object() { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let seq = set_ahead(&data.join("beat"));
    let point = scene.backup("files", &[]);
    assert_eq!(point["heartbeat"]["seq"], seq, "nobody else writes: {point:#}");
    let ahead = scene.ask_for_drill("alive", &[]);
    let [dead, late] = [&dead, &ahead].map(|run| scene.drilled(run));
    assert_eq!(outcome(&dead), ("Inconclusive", "HeartbeatDead"), "{dead:#}");
    assert_eq!(outcome(&late), ("Failed", "HeartbeatAhead"), "{late:#}");
    assert_eq!(late["chosen"]["snapshotId"], point["point"]["snapshotId"], "{late:#}");
    let told = late["message"].as_str().unwrap();
    assert!(told.starts_with(&format!("heartbeat number {seq} in the source says ")), "{told}");
    eventually(SOON, || {
        let status = scene.status("restoredrills/alive");
        if status["lastFailed"]["run"] == ahead { Ok(()) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(scene.status("restoredrills/alive")["lastPassed"], passed, "neither is a pass");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Writes the next heartbeat, of a time that has not come; its number.
fn set_ahead(file: &Path) -> i64 {
    let mut beat: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let seq = beat["seq"].as_i64().unwrap() + 1;
    let time = instant(&beat["time"]) + SignedDuration::from_hours(1);
    beat["seq"] = json!(seq);
    beat["time"] = json!(time.to_string());
    fs::write(file, beat.to_string()).unwrap();
    seq
}
