//! Restore drills with real restic and real PostgreSQL in real pods, whose isolation is proved by real attempts to connect.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use interlock_cluster::{Node, NodeOptions, POOL, PodNetwork, Tool, Tools, interlock, postgres, restic};
use interlock_tests::{
    Installation, Options, Stage, World, eventually,
    stage::policy_of,
    world::{SOON, binary},
};
use serde_json::{Value, json};

const VOLUMES: usize = 8;
const PASSWORD: &str = "a-long-password";
/// For a drill of a dozen pods, on a busy machine.
const DRILL: Duration = Duration::from_mins(6);

/// A drill measures time: one node at a time is enough for the machine.
static TURN: Mutex<()> = Mutex::new(());

fn world(network: PodNetwork) -> Option<(World, MutexGuard<'static, ()>)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(reason) = Node::check_possible() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let node = NodeOptions { volumes: VOLUMES, network, ..NodeOptions::default() };
    let name = if network == PodNetwork::Enforced { "node-drill" } else { "node-drill-open" };
    let world = World::up(&Installation { name, node: Some(node), ..Installation::default() });
    let node = world.node().unwrap();
    for image in [interlock("interlock:test", &binary()), restic(), postgres()] {
        image.unwrap().import(node).unwrap();
    }
    Some((world, turn))
}

fn own(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": POOL, "resources": {"requests": {"storage": "100Mi"}},
        },
    })
}

fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

/// A database whose pod is also what the probes dial.
fn database() -> [Value; 2] {
    let labels = json!({"app": "database"});
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "database"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "main", "image": "postgres:15", "ports": [{"containerPort": 5432}],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "readinessProbe": {"exec": {"command": ["psql", "-c", "select 1"]}, "periodSeconds": 1}}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "securityContext": {"fsGroup": 70},
                },
            }},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "database"},
            "spec": {"selector": labels, "ports": [{"port": 5432}]},
        }),
    ]
}

/// A namespace with a vault, files, and a database.
struct Scene<'w> {
    world: &'w World,
    stage: Stage<'w>,
}

impl<'w> Scene<'w> {
    fn set(world: &'w World) -> Self {
        let volume = json!({"persistentVolumeClaim": "vault"});
        let mut objects = vec![
            claim("data"),
            claim("vault"),
            secret("vault", json!({"RESTIC_PASSWORD": PASSWORD})),
            secret("database", json!({"username": "postgres", "password": "unused"})),
            own(
                "BackupRepository",
                "vault",
                json!({"restic": {"volume": volume, "secretRef": {"name": "vault"}}, "retryLock": "5s"}),
            ),
            own(
                "BackupPolicy",
                "files",
                json!({
                    "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
                    "retention": {"keepLast": 9}, "heartbeat": {"interval": "2s", "file": "/beat"},
                }),
            ),
        ];
        objects.extend(database());
        let stage = Stage::set(world, "drill", Options { objects, policy: policy_of(1, "sre"), ..Options::default() });
        // Kubernetes gives no group to folders of a node.
        for index in 0..VOLUMES {
            let folder = world.node().unwrap().volume(index);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        Self { world, stage }
    }

    fn volume(&self, claim: &str) -> PathBuf {
        let volume = eventually(SOON, || {
            let found = self.stage.get(&format!("persistentvolumeclaims/{claim}"));
            let name = found["spec"]["volumeName"].as_str().map(ToOwned::to_owned);
            name.filter(|_| found["status"]["phase"] == "Bound").ok_or_else(|| format!("{:#}", found["status"]))
        });
        let volume = self.world.admin().get(&format!("/api/v1/persistentvolumes/{volume}")).unwrap();
        let path = volume.pointer("/spec/hostPath/path").or_else(|| volume.pointer("/spec/local/path"));
        PathBuf::from(path.and_then(Value::as_str).unwrap())
    }

    fn backup(&self, policy: &str) -> Value {
        let arguments = ["backup", "run", policy, "-n", &self.stage.namespace, "--timeout", "3m"];
        let (well, told) = self.world.interlock_status("alice", &arguments);
        assert!(well, "{told}");
        let all = self.stage.get("backups");
        let of = all["items"].as_array().unwrap().iter().filter(|run| run["spec"]["policyRef"]["name"] == policy);
        of.max_by_key(|run| run["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()).unwrap()["status"]
            .clone()
    }

    /// A drill of a policy, made by a change like everything else of the System.
    fn drill(&self, name: &str, policy: &str, more: Value) {
        let target = json!({"service": format!("database.{}", self.stage.namespace), "port": 5432});
        let mut sandbox = json!({"isolationTarget": target, "storageClassName": POOL, "volumeSize": "100Mi"});
        sandbox.as_object_mut().unwrap().extend(more["sandbox"].as_object().cloned().unwrap_or_default());
        let mut spec = json!({"policyRef": {"name": policy}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec["sandbox"] = sandbox;
        let change = self.stage.propose("alice", &format!("drill-{name}"), vec![own("RestoreDrill", name, spec)]);
        change.approve(&["bob"]);
        change.wait("Succeeded");
    }

    /// `interlock drill run`, and the run's status once nothing is left of it.
    fn run(&self, drill: &str, more: &[&str]) -> Value {
        let before = self.runs(drill);
        let arguments = [&["drill", "run", drill, "-n", &self.stage.namespace], more].concat();
        let (well, told) = self.world.interlock_status("alice", &arguments);
        assert!(well, "{told}");
        eventually(DRILL, || {
            let new = self
                .runs(drill)
                .into_iter()
                .find(|run| !before.iter().any(|old| old["metadata"]["uid"] == run["metadata"]["uid"]));
            let run = new.ok_or_else(|| told.clone())?;
            if run["status"]["cleanup"]["state"] == "Done" {
                Ok(run["status"].clone())
            } else {
                Err(format!("{run:#}"))
            }
        })
    }

    fn runs(&self, drill: &str) -> Vec<Value> {
        let all = self.stage.get("drillruns")["items"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|run| run["spec"]["drillRef"]["name"] == drill).collect()
    }

    /// D10: nothing is left anywhere.
    fn nothing_is_left(&self) {
        for path in ["/api/v1/namespaces", "/api/v1/persistentvolumes", "/api/v1/pods", "/apis/batch/v1/jobs"] {
            let query = format!("{path}?labelSelector=interlock.dev/drill-run");
            eventually(SOON, || {
                let found = self.world.admin().get(&query).unwrap();
                match found["items"].as_array().filter(|items| !items.is_empty()) {
                    None => Ok(()),
                    Some(items) => Err(format!("{query}: {:#}", items[0]["metadata"])),
                }
            });
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
}

fn ended(status: &Value) -> (&str, &str) {
    (status["phase"].as_str().unwrap_or_default(), status["reason"].as_str().unwrap_or_default())
}

#[test]
fn what_is_backed_up_comes_back_in_a_sandbox_that_is_cut_off_and_damage_is_found() {
    let Some((world, _turn)) = world(PodNetwork::Enforced) else { return };
    let scene = Scene::set(&world);
    let data = scene.volume("data");
    write(&data, "accounts", "1000");
    eventually(DRILL, || if data.join("beat").exists() { Ok(()) } else { Err("no heartbeat is written".into()) });
    let point = scene.backup("files");
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
    scene.drill("files", "files", json!({"validations": validations, "objectives": objectives}));
    let status = scene.run("files", &[]);
    assert_eq!(ended(&status), ("Passed", "Complete"), "{status:#}");
    assert_eq!(
        (&status["isolation"]["outside"], &status["isolation"]["inside"]),
        (&json!("Connected"), &json!("Blocked"))
    );
    let verdicts: Vec<_> =
        status["validations"].as_array().unwrap().iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["Passed", "Passed", "Passed", "Failed"], "{status:#}");
    let seconds = |segment: &Value| {
        let at = |field: &str| segment[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        at("finishedAt").duration_since(at("startedAt")).as_secs()
    };
    let total: i64 = status["segments"].as_array().unwrap().iter().map(seconds).sum();
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
    let status = scene.run("files", &["--fault", "tamper-heartbeat"]);
    assert_eq!(ended(&status), ("Failed", "StaleData"), "{status:#}");
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
    let status = scene.run("files", &[]);
    assert_eq!(ended(&status), ("Failed", "DataCorrupt"), "{status:#}");
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
    // A repository that is gone is never made anew by itself: another one takes its place.
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
    let psql = |query: &str| {
        let namespace = scene.stage.namespace.as_str();
        let arguments = ["-n", namespace, "exec", "deploy/database", "--", "psql", "-At", "-c", query];
        scene.world.kubectl(interlock_cluster::ADMIN, &arguments, "")
    };
    eventually(DRILL, || match psql("create table if not exists accounts (id int primary key, owner text)") {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    });
    let (well, told) = psql("insert into accounts select n, 'owner ' || n from generate_series(1, 500) n");
    assert!(well, "{told}");
    // The node has no DNS.
    let host = scene.stage.get("services/database")["spec"]["clusterIP"].clone();
    let source = json!({"postgres": {"host": host, "secretRef": {"name": "database"}, "sslMode": "Disable", "databases": ["postgres"]}});
    let volume = json!({"persistentVolumeClaim": "vault", "path": "/second"});
    // Whoever restores must be able to read what was backed up to a folder of the node: one user does both.
    let pod = json!({"runAsUser": 70, "runAsGroup": 70, "fsGroup": 70});
    let restic = json!({"volume": volume, "secretRef": {"name": "vault"}});
    let second = own("BackupRepository", "second", json!({"restic": restic, "retryLock": "5s", "pod": pod}));
    let policy = own(
        "BackupPolicy",
        "database",
        json!({"repositoryRef": {"name": "second"}, "source": source, "retention": {"keepLast": 3}, "pod": pod}),
    );
    let change = scene.stage.propose("alice", "protect-database", vec![second, policy]);
    change.approve(&["bob"]);
    change.wait("Succeeded");
    scene.backup("database");
    let postgres = json!({"postgres": {"runAsUser": 70}});
    let rows = |expect: &str| json!([{"name": "rows", "sql": {"database": "postgres", "query": "select count(*) from accounts", "expect": expect}}]);
    let of = |expect: &str| json!({"validations": rows(expect), "sandbox": {"application": postgres, "pod": pod}});
    scene.drill("database", "database", of("result == 500.0"));
    let status = scene.run("database", &[]);
    assert_eq!(ended(&status), ("Passed", "Complete"), "{status:#}");
    assert_eq!(status["validations"][0]["number"], 500.0, "{status:#}");
    scene.nothing_is_left();
    // D8.
    scene.drill("too-many", "database", of("result > 500.0"));
    let status = scene.run("too-many", &[]);
    assert_eq!(ended(&status), ("Failed", "ValidationFailed"), "{status:#}");
    scene.nothing_is_left();
}

/// D9: where nothing enforces NetworkPolicies, the application is never started on real data.
#[test]
fn d9_on_a_network_that_enforces_nothing_the_application_is_never_started() {
    let Some((world, _turn)) = world(PodNetwork::Unenforced) else { return };
    let scene = Scene::set(&world);
    write(&scene.volume("data"), "accounts", "1000");
    scene.backup("files");
    let application = json!({"podTemplate": {"spec": {"containers": [{"name": "app", "image": "postgres:15"}]}}});
    let validations = json!([{"name": "every file", "files": {}}]);
    scene.drill("files", "files", json!({"validations": validations, "sandbox": {"application": application}}));
    let status = scene.run("files", &[]);
    assert_eq!(ended(&status), ("Failed", "IsolationNotEnforced"), "{status:#}");
    let jobs = status["jobs"].as_array().unwrap();
    assert!(!jobs.iter().any(|job| job["name"] == "application"), "{jobs:#?}");
    scene.nothing_is_left();
}
