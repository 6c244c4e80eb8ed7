//! A cluster with a real node, and what the tests do with it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use interlock_cluster::{ADMIN, Cluster, ClusterOptions, Node, NodeOptions, PodNetwork};

pub const LIMIT: &str = "--timeout=120s";

pub struct World {
    pub cluster: Cluster,
    pub node: Node,
}

impl World {
    pub fn start(prefix: &str, network: PodNetwork) -> Option<Self> {
        if let Err(reason) = Node::check_possible() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let mut cluster = Cluster::up(&ClusterOptions::ephemeral(prefix).with_real_node()).unwrap();
        let began = Instant::now();
        let node = Node::start(&mut cluster, &NodeOptions { network, ..NodeOptions::default() }).unwrap();
        eprintln!("the node is ready after {:.1} s", began.elapsed().as_secs_f32());
        interlock_cluster::busybox().unwrap().import(&node).unwrap();
        Some(Self { cluster, node })
    }

    pub fn kubectl(&self, line: &str) -> Result<String, String> {
        self.run(&line.split(' ').collect::<Vec<_>>(), "")
    }

    pub fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.cluster.kubectl(ADMIN);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    pub fn apply(&self, yaml: &str) {
        self.run(&["apply", "-f", "-"], yaml).unwrap();
    }

    /// A pod of this image that runs the shell script, with the lines added to its specification.
    pub fn pod(&self, kind: Kind, name: &str, image: &str, script: &str, more: &str) {
        let namespace = name.split_once('/').map_or("default", |(namespace, _)| namespace);
        let name = name.rsplit('/').next().unwrap();
        let script = serde_json::to_string(script).unwrap();
        let policy = if kind == Kind::Job { "Never" } else { "Always" };
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}},
spec: {{restartPolicy: {policy}, terminationGracePeriodSeconds: 1, containers: [{{name: c, image: '{image}',
imagePullPolicy: Never, command: [sh, -c, {script}] {more}}}"
        ));
        let condition = if kind == Kind::Job { "jsonpath={.status.phase}=Succeeded" } else { "condition=Ready" };
        let wait = format!("wait --namespace {namespace} --for={condition} pod/{name} {LIMIT}");
        self.kubectl(&wait).unwrap_or_else(|reason| {
            let about = self.kubectl(&format!("describe --namespace {namespace} pod/{name}"));
            let log = self.kubectl(&format!("logs --namespace {namespace} {name}"));
            panic!("{reason}\n{}\n{log:?}", about.unwrap());
        });
    }

    pub fn exec(&self, pod: &str, script: &str) -> Result<String, String> {
        let (namespace, pod) = pod.split_once('/').unwrap_or(("default", pod));
        self.run(&["exec", "--namespace", namespace, pod, "--", "sh", "-c", script], "")
    }

    pub fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(2);
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end.
    Job,
    /// Becomes ready.
    Server,
}

/// What closes a pod's specification without volumes.
pub const PLAIN: &str = "}]}";

/// Every process whose command line names the cluster's folder, or that is in a mount namespace in which it is used.
pub fn named(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let of_folder = |entry: &fs::DirEntry| {
        let read = |file: &str| {
            let content = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&content).into_owned()
        };
        read("cmdline").contains(&folder) || read("mountinfo").contains(&folder)
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbered = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    numbered.filter(of_folder).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

pub fn cgroups(name: &str) -> Vec<String> {
    let controllers = fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let all = controllers.chain([Path::new("/sys/fs/cgroup").to_owned()]);
    all.map(|path| path.join(name)).filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}
