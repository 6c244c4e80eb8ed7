//! A namespace with volumes, a vault and a database, on a real node.

mod drills;

pub use drills::{DRILL, instant, outcome, segments};

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use interlock_cluster::{Node, NodeOptions, POOL, Tool, Tools, interlock, postgres, restic};
use serde_json::{Value, json};

use crate::{
    Installation, Options, Stage, World, eventually,
    stage::policy_of,
    world::{SOON, binary},
};

/// What opens the vault.
pub const PASSWORD: &str = "a-long-password";
/// For a pod with three images, on a busy machine.
pub const RUN: Duration = Duration::from_mins(3);

/// A cluster with one real node and the images of backups; none, with a line that says so, where there can be none.
pub fn world(name: &'static str, options: NodeOptions) -> Option<World> {
    if let Err(reason) = Node::check_possible() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let world = World::up(&Installation { name, node: Some(options), ..Installation::default() });
    let node = world.node().unwrap();
    for image in [interlock("interlock:test", &binary()), restic(), postgres()] {
        image.unwrap().import(node).unwrap();
    }
    Some(world)
}

pub fn own(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": POOL, "resources": {"requests": {"storage": "100Mi"}},
        },
    })
}

pub fn secret(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

/// A repository in a folder of the claim `vault`, opened with `secret`.
pub fn repository(name: &str, folder: &str, secret: &str, more: &Value) -> Value {
    let mut volume = json!({"persistentVolumeClaim": "vault"});
    if !folder.is_empty() {
        volume["path"] = json!(folder);
    }
    own(
        "BackupRepository",
        name,
        with(json!({"restic": {"volume": volume, "secretRef": {"name": secret}}, "retryLock": "5s"}), more),
    )
}

pub fn policy(name: &str, repository: &str, source: Value, more: &Value) -> Value {
    let spec = json!({"repositoryRef": {"name": repository}, "source": source, "retention": {"keepLast": 9}});
    own("BackupPolicy", name, with(spec, more))
}

/// The fields of the second beside, or instead of, those of the first.
pub fn with(mut value: Value, more: &Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

/// A PostgreSQL server with these further arguments, and its Service.
pub fn database(arguments: &[&str]) -> [Value; 2] {
    let labels = json!({"app": "database"});
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "database"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "main", "image": "postgres:15", "args": arguments,
                        "ports": [{"containerPort": 5432}], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "readinessProbe": {
                            "exec": {"command": ["psql", "-c", "select 1"]}, "periodSeconds": 1, "timeoutSeconds": 5,
                        }}],
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

/// Claims `data` and `vault`, the vault's password, credentials of the database, and whatever else a test needs.
pub struct Scene<'w> {
    pub world: &'w World,
    pub stage: Stage<'w>,
}

impl<'w> Scene<'w> {
    pub fn set(world: &'w World, name: &str, volumes: usize, more: Vec<Value>) -> Self {
        let mut objects = vec![
            claim("data"),
            claim("vault"),
            secret("vault", json!({"RESTIC_PASSWORD": PASSWORD})),
            secret("database", json!({"username": "postgres", "password": "unused"})),
        ];
        objects.extend(more);
        let stage = Stage::set(world, name, Options { objects, policy: policy_of(1, "sre"), ..Options::default() });
        // Kubernetes gives no group to folders of a node.
        for index in 0..volumes {
            let folder = world.node().unwrap().volume(index);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        Self { world, stage }
    }

    /// Where the volume of a claim lies on this machine.
    pub fn volume(&self, claim: &str) -> PathBuf {
        let volume = eventually(SOON, || {
            let found = self.stage.get(&format!("persistentvolumeclaims/{claim}"));
            let name = found["spec"]["volumeName"].as_str().map(ToOwned::to_owned);
            name.filter(|_| found["status"]["phase"] == "Bound").ok_or_else(|| format!("{:#}", found["status"]))
        });
        let volume = self.world.admin().get(&format!("/api/v1/persistentvolumes/{volume}")).unwrap();
        let path = volume.pointer("/spec/hostPath/path").or_else(|| volume.pointer("/spec/local/path"));
        PathBuf::from(path.and_then(Value::as_str).unwrap())
    }

    /// A change that alice asks for and bob agrees to.
    pub fn agreed(&self, name: &str, objects: Vec<Value>) {
        let change = self.stage.propose("alice", name, objects);
        change.approve(&["bob"]);
        change.wait("Succeeded");
    }

    /// `interlock backup run`: whether it succeeded, and what it said.
    pub fn run(&self, policy: &str, more: &[&str]) -> (bool, String) {
        let arguments = [&["backup", "run", policy, "-n", &self.stage.namespace, "--timeout", "3m"], more].concat();
        self.world.interlock_status("alice", &arguments)
    }

    /// A run that succeeds; its status.
    pub fn backup(&self, policy: &str, more: &[&str]) -> Value {
        let (well, told) = self.run(policy, more);
        assert!(well, "{policy}: {told}");
        self.newest(policy)["status"].clone()
    }

    /// A run that is asked for and not waited for; its name.
    pub fn begin(&self, policy: &str) -> String {
        let (well, told) = self.run(policy, &["--no-wait"]);
        assert!(well, "{policy}: {told}");
        named(&told, "backup")
    }

    /// Waits until the run has ended; its status.
    pub fn ended(&self, run: &str) -> Value {
        eventually(RUN, || {
            let status = self.status(&format!("backups/{run}"));
            if has_ended(&status) { Ok(status) } else { Err(format!("{run}: {status:#}")) }
        })
    }

    pub fn status(&self, what: &str) -> Value {
        self.stage.get(what)["status"].clone()
    }

    pub fn newest(&self, policy: &str) -> Value {
        let all = self.stage.get("backups");
        let of = all["items"].as_array().unwrap().iter().filter(|run| run["spec"]["policyRef"]["name"] == policy);
        of.max_by_key(|run| run["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()).unwrap().clone()
    }

    /// The id of the container `name` that runs in the pod of a Job.
    pub fn running(&self, job: &str, name: &str) -> Result<String, String> {
        let found =
            self.stage.get(&format!("pods?labelSelector=batch.kubernetes.io/job-name={job}"))["items"][0].clone();
        let containers = ["initContainerStatuses", "containerStatuses"].map(|field| found["status"][field].clone());
        let mut all = containers.iter().filter_map(Value::as_array).flatten();
        let one = all.find(|one| one["name"] == name && one["state"]["running"].is_object());
        let id = one.and_then(|one| one["containerID"].as_str());
        id.map(|id| id.trim_start_matches("containerd://").to_owned()).ok_or_else(|| format!("{:#}", found["status"]))
    }

    /// restic of this machine on a repository in the vault, without its locks.
    pub fn restic(&self, folder: &str, arguments: &[&str]) -> String {
        let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
        let mut command = Command::new(tools.path(Tool::Restic));
        command.args(arguments).args(["--no-lock", "--no-cache"]).env("RESTIC_PASSWORD", PASSWORD);
        let place = self.volume("vault").join(folder.trim_start_matches('/'));
        let output = command.env("RESTIC_REPOSITORY", place).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn snapshots(&self, folder: &str) -> Vec<String> {
        let found: Vec<Value> = serde_json::from_str(&self.restic(folder, &["snapshots", "--json"])).unwrap();
        found.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The packs of the repository at the top of the vault.
    pub fn packs(&self) -> BTreeSet<PathBuf> {
        let folders = fs::read_dir(self.volume("vault").join("data")).unwrap().map(|entry| entry.unwrap().path());
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
    }

    /// psql in a pod of the Deployment.
    pub fn psql(&self, deployment: &str, query: &str) -> Result<String, String> {
        let pod = format!("deploy/{deployment}");
        let arguments = ["-n", &self.stage.namespace, "exec", &pod, "--", "psql", "-At", "-c", query];
        match self.world.kubectl(interlock_cluster::ADMIN, &arguments, "") {
            (true, said) => Ok(said.trim().to_owned()),
            (false, why) => Err(why),
        }
    }

    /// The same, once the server answers.
    pub fn ask(&self, deployment: &str, query: &str) -> String {
        eventually(RUN, || self.psql(deployment, query))
    }

    /// Address of the database: the node has no name server.
    pub fn database(&self) -> Value {
        self.stage.get("services/database")["spec"]["clusterIP"].clone()
    }
}

/// Whether the run with this status has ended.
pub fn has_ended(status: &Value) -> bool {
    let phase = status["phase"].as_str().unwrap_or_default();
    ["Succeeded", "PartiallyFailed", "Failed", "Skipped"].contains(&phase)
}

/// The name in what a command said it made: `KIND/NAME was asked for`.
pub fn named(told: &str, kind: &str) -> String {
    let name = told.split(&format!("{kind}/")).nth(1).and_then(|rest| rest.split_whitespace().next());
    name.unwrap_or_else(|| panic!("no {kind} is named: {told}")).to_owned()
}

/// A file that everybody may read.
pub fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.join(name), content).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
}
