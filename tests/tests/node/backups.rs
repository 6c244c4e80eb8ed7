//! Backups with real restic and real PostgreSQL in real pods.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use interlock_cluster::{Node, NodeOptions, POOL, Tool, Tools, interlock, postgres, restic};
use interlock_tests::{
    Installation, Options, Stage, World, eventually,
    stage::policy_of,
    world::{SOON, binary},
};
use serde_json::{Value, json};

const VOLUMES: usize = 6;
const PASSWORD: &str = "a-long-password";
/// For a pod with three images, on a busy machine.
const RUN: Duration = Duration::from_mins(3);

fn world() -> Option<World> {
    if let Err(reason) = Node::check_possible() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let node = NodeOptions { volumes: VOLUMES, ..NodeOptions::default() };
    let world = World::up(&Installation { name: "node-backup", node: Some(node), ..Installation::default() });
    let node = world.node().unwrap();
    for image in [interlock("interlock:test", &binary()), restic(), postgres()] {
        image.unwrap().import(node).unwrap();
    }
    Some(world)
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

fn repository(name: &str, secret: &str, more: Value) -> Value {
    let volume = json!({"persistentVolumeClaim": "vault"});
    let mut spec = json!({"restic": {"volume": volume, "secretRef": {"name": secret}}, "retryLock": "5s"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    own("BackupRepository", name, spec)
}

fn policy(name: &str, repository: &str, source: Value) -> Value {
    own(
        "BackupPolicy",
        name,
        json!({"repositoryRef": {"name": repository}, "source": source, "retention": {"keepLast": 2}, "objectives": {"rpo": "1h"}}),
    )
}

fn files() -> Value {
    json!({"files": {"persistentVolumeClaim": "data"}})
}

fn command(script: &str) -> Value {
    json!({"command": {"image": "postgres:15", "command": ["sh", "-c", script]}})
}

/// A namespace with volumes, a vault and a database.
struct Scene<'w> {
    world: &'w World,
    stage: Stage<'w>,
}

impl<'w> Scene<'w> {
    fn set(world: &'w World) -> Self {
        let database = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "database"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "database"}}, "template": {
                "metadata": {"labels": {"app": "database"}},
                "spec": {
                    "containers": [{"name": "main", "image": "postgres:15", "ports": [{"containerPort": 5432}],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "readinessProbe": {"exec": {"command": ["psql", "-c", "select 1"]}, "periodSeconds": 1}}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "securityContext": {"fsGroup": 70},
                },
            }},
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "database"},
            "spec": {"selector": {"app": "database"}, "ports": [{"port": 5432}]},
        });
        let objects = vec![
            claim("data"),
            claim("vault"),
            secret("vault", json!({"RESTIC_PASSWORD": PASSWORD})),
            secret("wrong", json!({"RESTIC_PASSWORD": "another-password"})),
            secret("database", json!({"username": "postgres", "password": "unused"})),
            repository(
                "vault",
                "vault",
                json!({"prune": {"schedule": "* * * * *"}, "check": {"schedule": "*/2 * * * *", "readDataSubset": "1/1"}}),
            ),
            repository("locked-out", "wrong", json!({"initialize": false})),
            policy("slow", "vault", command("sleep 300")),
            policy("half", "vault", command("echo half; exit 7")),
            policy("locked-out", "locked-out", files()),
            database,
            service,
        ];
        let stage = Stage::set(world, "backup", Options { objects, policy: policy_of(1, "sre"), ..Options::default() });
        let scene = Self { world, stage };
        // Kubernetes gives no group to folders of a node.
        for index in 0..VOLUMES {
            let folder = world.node().unwrap().volume(index);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        scene
    }

    /// Where the volume of a claim lies on this machine.
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

    /// `interlock backup run`: whether it succeeded, and what it said.
    fn run(&self, policy: &str, more: &[&str]) -> (bool, String) {
        let arguments = [&["backup", "run", policy, "-n", &self.stage.namespace, "--timeout", "3m"], more].concat();
        self.world.interlock_status("alice", &arguments)
    }

    fn restic(&self, arguments: &[&str]) -> String {
        let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
        let mut command = Command::new(tools.path(Tool::Restic));
        command.args(arguments).arg("--no-lock").env("RESTIC_PASSWORD", PASSWORD);
        let output = command.env("RESTIC_REPOSITORY", self.volume("vault")).arg("--no-cache").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn snapshots(&self) -> Vec<String> {
        let found: Vec<Value> = serde_json::from_str(&self.restic(&["snapshots", "--json"])).unwrap();
        found.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    fn status(&self, what: &str) -> Value {
        self.stage.get(what)["status"].clone()
    }

    fn newest(&self, policy: &str) -> Value {
        let all = self.stage.get("backups");
        let of = all["items"].as_array().unwrap().iter().filter(|run| run["spec"]["policyRef"]["name"] == policy);
        of.max_by_key(|run| run["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()).unwrap().clone()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn files_and_databases_are_backed_up_by_real_pods_and_only_what_is_whole_counts() {
    let Some(world) = world() else { return };
    let scene = Scene::set(&world);
    let data = scene.volume("data");
    write(&data, "accounts", "1000");

    // A policy is changed like everything else of the System.
    let wanted = policy("files", "vault", files());
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
    assert!(scene.snapshots().contains(&first));
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
    assert!(scene.newest("half")["status"]["point"].is_null());
    let (well, told) = scene.run("locked-out", &[]);
    assert!(!well && told.contains("does not open with RESTIC_PASSWORD"), "{told}");

    restored(&scene, &data);
    database(&scene);
    killed(&scene);
    kept_up(&scene);
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
    let name = told.split("changerequest/").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
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
}

/// A dump holds every row, and what comes back can be played.
fn database(scene: &Scene<'_>) {
    let psql = |query: &str| {
        let namespace = scene.stage.namespace.as_str();
        let arguments = ["-n", namespace, "exec", "deploy/database", "--", "psql", "-At", "-c", query];
        scene.world.kubectl(interlock_cluster::ADMIN, &arguments, "")
    };
    eventually(RUN, || match psql("create table if not exists accounts (id int primary key, owner text)") {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    });
    // The node has no DNS.
    let host = scene.stage.get("services/database")["spec"]["clusterIP"].clone();
    let source = json!({"postgres": {"host": host, "secretRef": {"name": "database"}, "sslMode": "Disable"}});
    let change = scene.stage.propose("alice", "protect-database", vec![policy("database", "vault", source)]);
    change.approve(&["bob"]);
    change.wait("Succeeded");
    let (well, told) = psql("insert into accounts select n, 'owner ' || n from generate_series(1, 500) n");
    assert!(well, "{told}");
    let (well, told) = scene.run("database", &[]);
    assert!(well, "{told}");
    let point = scene.newest("database")["status"]["point"].clone();
    assert_eq!(point["postgresVersion"], 15, "{point:#}");
    let dump = scene.restic(&["dump", point["snapshotId"].as_str().unwrap(), "/dump.sql"]);
    assert!(dump.contains("CREATE ROLE postgres") && dump.contains("owner 500"), "{}", &dump[..dump.len().min(2_000)]);
}

/// B8: a pod that is killed is a failure that is told, and the next run passes the lock that it left.
fn killed(scene: &Scene<'_>) {
    let (well, told) = scene.run("slow", &["--no-wait"]);
    assert!(well, "{told}");
    let name = scene.newest("slow")["metadata"]["name"].as_str().unwrap().to_owned();
    let pods = format!("pods?labelSelector=batch.kubernetes.io/job-name={name}");
    let container = eventually(RUN, || {
        let found = scene.stage.get(&pods)["items"][0].clone();
        let tool = found["status"]["initContainerStatuses"].as_array().cloned().unwrap_or_default();
        let mut running = tool.iter().filter(|one| one["name"] == "tool" && one["state"]["running"].is_object());
        let id = running.next().and_then(|one| one["containerID"].as_str().map(ToOwned::to_owned));
        id.ok_or_else(|| format!("{:#}", found["status"]))
    });
    let node = scene.world.node().unwrap();
    node.ctr(&["tasks", "kill", "--signal", "SIGKILL", container.trim_start_matches("containerd://")]).unwrap();
    let status = eventually(RUN, || {
        let status = scene.status(&format!("backups/{name}"));
        if status["phase"] == "Failed" { Ok(status) } else { Err(format!("{status:#}")) }
    });
    assert!(status["message"].as_str().unwrap().len() > 20, "{status:#}");
    fs::remove_file(scene.volume("data").join("secret")).unwrap();
    let (well, told) = scene.run("files", &[]);
    assert!(well, "{told}");
}

/// B13: the repository is checked and pruned by itself; of the files' points two stay.
fn kept_up(scene: &Scene<'_>) {
    let (well, told) = scene.run("files", &["--full"]);
    assert!(well, "{told}");
    let status = eventually(RUN + RUN, || {
        let status = scene.status("backuprepositories/vault");
        let pruned = status["lastPrune"]["forgotten"].as_u64().is_some();
        let points = scene.status("backuppolicies/files")["points"].as_u64();
        if pruned && points == Some(2) && status["lastCheck"]["outcome"] == "Succeeded" {
            Ok(status)
        } else {
            Err(format!("{points:?} {status:#}"))
        }
    });
    assert_eq!(status["conditions"][1]["status"], "True", "{status:#}");
    let good = scene.status("backuppolicies/files")["lastGood"]["snapshotId"].as_str().unwrap().to_owned();
    assert!(scene.snapshots().contains(&good), "the newest good point is there");
}
