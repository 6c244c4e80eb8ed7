//! A whole PostgreSQL server, received all the time and brought back to any moment, in real pods.

use interlock_cluster::{POOL, PodNetwork};
use interlock_tests::{
    eventually,
    vault::{RUN, Scene, claim, database, named, outcome, own, policy, repository},
    world::condition,
};
use serde_json::{Value, json};

use super::{VOLUMES, world};

/// The user of the server, to whom what comes back belongs.
const POSTGRES: i64 = 70;

fn pod() -> Value {
    json!({"runAsUser": POSTGRES, "runAsGroup": POSTGRES, "fsGroup": POSTGRES})
}

#[test]
fn a_server_comes_back_at_any_moment_and_its_log_is_received_whatever_happens_to_the_receiver() {
    let Some((world, _turn)) = world("node-moments", PodNetwork::Enforced) else { return };
    let mut objects = vec![claim("spool"), repository("vault", "", "vault", &json!({"pod": pod()}))];
    objects.extend(database(&["-c", "max_slot_wal_keep_size=256MB"]));
    let scene = Scene::set(&world, "moments", VOLUMES, objects);
    scene.ask("database", "create table postings (what text)");
    protect(&scene);
    let post = |what: &str| scene.ask("database", &format!("insert into postings values ('{what}')"));
    post("before");
    let base = scene.backup("ledger", &["--full"]);
    assert!(base["point"]["wal"].is_object() && base["point"]["files"].as_i64().unwrap() > 500, "{base:#}");
    post("kept");
    let moment = scene.ask(
        "database",
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from pg_sleep(1.2)",
    );
    scene.ask("database", "select pg_sleep(1.2)");
    post("wrong");
    let log = scene.backup("ledger", &[]);
    let until =
        |status: &Value| status["point"]["recoverableUntil"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(until(&log) > moment.parse().unwrap(), "{log:#}");
    restored(&scene, &moment);
    drilled(&scene);
    receiver_is_killed(&scene, until(&log));
}

/// A policy whose receiver is ready.
fn protect(scene: &Scene<'_>) {
    let source = json!({"postgres": {
        "host": scene.database(), "secretRef": {"name": "database"}, "sslMode": "Disable", "mode": "Physical",
        "image": "postgres:15", "wal": {"persistentVolumeClaim": "spool", "slot": "interlock_ledger"},
    }});
    let more = json!({"retention": {"keepWithin": "14d"}, "pod": pod()});
    scene.agreed("protect", vec![policy("ledger", "vault", source, &more)]);
    received(scene);
}

fn received(scene: &Scene<'_>) {
    eventually(RUN, || {
        let policy = scene.stage.get("backuppolicies/ledger");
        let is = condition(&policy, "WalReceived").is_some_and(|condition| condition["status"] == "True");
        if is { Ok(()) } else { Err(format!("{:#}", policy["status"])) }
    });
}

/// `interlock restore --at`, and a server on what came back: what was wrong is not in it, and it takes writes.
fn restored(scene: &Scene<'_>, moment: &str) {
    let arguments = [
        "restore",
        "ledger",
        "-n",
        &scene.stage.namespace,
        "--at",
        moment,
        "--to-claim",
        "back",
        "--storage-class",
        POOL,
        "--size",
        "100Mi",
        "--reason",
        "before the wrong posting",
        "--yes",
    ];
    let told = scene.world.interlock("alice", &arguments);
    let name = named(&told, "changerequest");
    let change = scene.stage.change_of(&scene.stage.get(&format!("changerequests/{name}")));
    change.approve(&["bob"]);
    eventually(RUN, || {
        let status = change.status();
        if status["phase"] == "Succeeded" { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let labels = json!({"app": "recovered"});
    let server = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "recovered"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "containers": [{"name": "main", "image": "postgres:15", "env": [{"name": "PGDATA", "value": "/back/base/pgdata"}],
                    "volumeMounts": [{"name": "back", "mountPath": "/back"}],
                    "readinessProbe": {"exec": {"command": ["psql", "-c", "select 1"]}, "periodSeconds": 1}}],
                "volumes": [{"name": "back", "persistentVolumeClaim": {"claimName": "back"}}],
                "securityContext": {"runAsUser": POSTGRES, "runAsGroup": POSTGRES},
            },
        }},
    });
    scene.agreed("serve-again", vec![server]);
    eventually(RUN, || match scene.psql("recovered", "select pg_is_in_recovery()") {
        Ok(answer) if answer == "f" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let rows = scene.ask("recovered", "select string_agg(what, ' ' order by what) from postings");
    assert_eq!(rows, "before kept");
    scene.ask("recovered", "insert into postings values ('it takes writes')");
}

/// A drill recovers the same copy in a sandbox, to its end, and asks the server there.
fn drilled(scene: &Scene<'_>) {
    let validations = json!([
        {"name": "postings", "sql": {"database": "postgres", "query": "select count(*) from postings", "expect": "result == 3.0"}},
        {"name": "recovered", "sql": {"database": "postgres", "query": "select not pg_is_in_recovery()", "expect": "result"}},
    ]);
    let target = json!({"service": format!("database.{}", scene.stage.namespace), "port": 5432});
    let sandbox = json!({
        "isolationTarget": target, "storageClassName": POOL, "volumeSize": "100Mi", "pod": pod(),
        "application": {"postgres": {"runAsUser": POSTGRES, "image": "postgres:15"}},
    });
    let drill = json!({"policyRef": {"name": "ledger"}, "validations": validations, "sandbox": sandbox});
    scene.agreed("drill", vec![own("RestoreDrill", "ledger", drill)]);
    let status = scene.run_drill("ledger", &[]);
    assert_eq!(outcome(&status), ("Passed", "Complete"), "{status:#}");
    assert!(status["chosen"]["baseId"].is_string(), "base and log together: {status:#}");
    scene.nothing_is_left();
}

/// What was written while the receiver was away is fetched when it is back, and the chain goes on.
fn receiver_is_killed(scene: &Scene<'_>, before: jiff::Timestamp) {
    let pods = scene.stage.get("pods")["items"].as_array().cloned().unwrap();
    let receiver =
        pods.iter().find(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("ledger-wal")));
    let container = receiver.unwrap()["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let container = container.trim_start_matches("containerd://");
    scene.world.node().unwrap().ctr(&["tasks", "kill", "--signal", "SIGKILL", container]).unwrap();
    scene.ask("database", "insert into postings values ('meanwhile')");
    received(scene);
    let log = eventually(RUN, || {
        let (well, told) = scene.run("ledger", &[]);
        if well { Ok(scene.newest("ledger")["status"].clone()) } else { Err(told) }
    });
    let until: jiff::Timestamp = log["point"]["recoverableUntil"].as_str().unwrap().parse().unwrap();
    assert!(until > before, "{log:#}");
}
