//! Brings real clusters up. The first run on a machine also builds the control plane, which takes ten minutes.

// The lint's own exception covers test functions, not the helpers they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use interlock_cluster::{
    ADMIN, Audit, Cluster, ClusterError, ClusterOptions, ClusterSource, Component, ProcessId, StateError, USERS,
};

const LIMIT: Duration = Duration::from_mins(1);
/// Set for the process that [`hold_a_cluster`] runs in.
const HOLDER: &str = "INTERLOCK_TEST_HOLDER";

fn kubectl(cluster: &Cluster, user: &str, line: &str) -> String {
    let output = cluster.kubectl(user).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "kubectl {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn eventually_prints(cluster: &Cluster, line: &str, expected: &str) {
    eventually(&format!("`{line}` to print {expected}"), || kubectl(cluster, ADMIN, line) == expected);
}

/// Pids of the processes whose command line names the folder: what a cluster left behind, however it was started.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let names_folder = |entry: &fs::DirEntry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&folder)
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter(names_folder).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn assert_nothing_is_left(folder: &Path, processes: &[ProcessId]) {
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert_eq!(processes_of(folder), Vec::<String>::new());
    let siblings = fs::read_dir(folder.parent().unwrap()).unwrap().filter_map(Result::ok);
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let left: Vec<_> = siblings.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn live_processes(cluster: &Cluster) -> Vec<ProcessId> {
    let processes: Vec<_> = cluster.processes().into_iter().filter_map(|(_, process)| process).collect();
    assert_eq!(processes.len(), Component::ALL.len());
    assert!(processes.iter().all(|process| process.is_alive()));
    processes
}

#[test]
fn a_cluster_serves_its_users_and_runs_their_workloads() {
    let options = ClusterOptions::ephemeral("workloads").with_audit(Audit::Metadata);
    let cluster = Cluster::up(&options).unwrap();
    let (folder, processes) = (cluster.directory().to_owned(), live_processes(&cluster));
    assert_eq!(kubectl(&cluster, ADMIN, "get --raw=/readyz"), "ok");
    users_are_who_they_are(&cluster);
    workloads_behave_as_their_images_say(&cluster);
    a_service_account_token_is_accepted(&cluster);
    the_audit_log_names_the_caller(&cluster);
    let again = Cluster::up(&options);
    assert!(matches!(again, Err(ClusterError::State(StateError::AlreadyUp(_)))), "{again:?}");
    cluster.down().unwrap();
    assert_nothing_is_left(&folder, &processes);
}

fn users_are_who_they_are(cluster: &Cluster) {
    for user in USERS {
        let who: serde_json::Value = serde_json::from_str(&kubectl(cluster, user.name, "auth whoami -o json")).unwrap();
        assert_eq!(who["status"]["userInfo"]["username"], user.name);
        let mut groups = user.groups.to_vec();
        groups.push("system:authenticated");
        assert_eq!(who["status"]["userInfo"]["groups"], serde_json::json!(groups));
    }
    let refused = cluster.kubectl("alice").args(["get", "pods"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Forbidden"), "{refused:?}");
}

fn workloads_behave_as_their_images_say(cluster: &Cluster) {
    let ready = |name: &str| format!("get deployment {name} -o jsonpath={{.status.readyReplicas}}");
    let pods = |app: &str, field: &str| format!("get pods -l app={app} -o jsonpath={{.items[*]{field}}}");
    let phase = ".status.containerStatuses[0].state.waiting.reason";
    // The registry's port must not be taken for a tag.
    kubectl(cluster, ADMIN, "create deployment good --image=registry:5000/broken/good:1.2 --replicas=3");
    kubectl(cluster, ADMIN, "create deployment bad --image=registry:5000/good:1.3-broken --replicas=1");
    kubectl(cluster, ADMIN, "create deployment crashing --image=good:crash --replicas=1");
    kubectl(cluster, ADMIN, "create deployment absent --image=good:missing --replicas=1");
    kubectl(cluster, ADMIN, "create job done --image=good:1");
    kubectl(cluster, ADMIN, "create job failed --image=good:fail");
    kubectl(cluster, ADMIN, "create job hanging --image=good:hang");
    eventually_prints(cluster, &ready("good"), "3");
    eventually_prints(cluster, &pods("bad", ".status.phase"), "Running");
    eventually_prints(cluster, &pods("crashing", phase), "CrashLoopBackOff");
    eventually_prints(cluster, &pods("absent", phase), "ImagePullBackOff");
    eventually_prints(cluster, "get job done -o jsonpath={.status.succeeded}", "1");
    eventually_prints(cluster, "get job failed -o jsonpath={.status.failed}", "1");
    eventually("a second restart", || {
        kubectl(cluster, ADMIN, &pods("crashing", ".status.containerStatuses[0].restartCount")).parse::<u32>().unwrap()
            > 1
    });
    // By now every other pod has long been through its life.
    assert_eq!(kubectl(cluster, ADMIN, &ready("bad")), "");
    assert_eq!(kubectl(cluster, ADMIN, "get job hanging -o jsonpath={.status.active}"), "1");

    kubectl(cluster, ADMIN, "label pods -l app=good interlock.dev/test-behaviour=broken");
    eventually_prints(cluster, &ready("good"), "");
    kubectl(cluster, ADMIN, "label pods -l app=good interlock.dev/test-behaviour-");
    eventually_prints(cluster, &ready("good"), "3");
    kubectl(cluster, ADMIN, "delete deployment good --cascade=foreground --timeout=60s");
    assert_eq!(kubectl(cluster, ADMIN, &pods("good", ".metadata.name")), "", "the garbage collector does not run");
}

fn a_service_account_token_is_accepted(cluster: &Cluster) {
    let token = kubectl(cluster, ADMIN, "create token default");
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "review"},
        "spec": {"token": token},
    });
    let file = cluster.directory().join("token-review.json");
    fs::write(&file, review.to_string()).unwrap();
    let name = "-o jsonpath={.status.user.username}";
    let accepted = kubectl(cluster, ADMIN, &format!("create -f {} {name}", file.display()));
    assert_eq!(accepted, "system:serviceaccount:default:default");
}

fn the_audit_log_names_the_caller(cluster: &Cluster) {
    let log = fs::read_to_string(cluster.audit_log().unwrap()).unwrap();
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        *calls.entry(event["user"]["username"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for caller in ["mallory", "system:kube-scheduler", "system:serviceaccount:kube-system:deployment-controller"] {
        assert!(calls.contains_key(caller), "{calls:?}");
    }
}

#[test]
fn a_killed_component_comes_back_with_the_clusters_data() {
    let mut cluster = Cluster::up(&ClusterOptions::ephemeral("restart")).unwrap();
    kubectl(&cluster, ADMIN, "create namespace kept");
    for component in [Component::Etcd, Component::KubeApiserver] {
        let before = cluster.process(component).unwrap();
        cluster.kill(component).unwrap();
        assert!(!before.is_alive());
        cluster.start(component).unwrap();
        assert_ne!(cluster.process(component).unwrap(), before);
        assert_eq!(kubectl(&cluster, ADMIN, "get namespace kept -o name"), "namespace/kept");
    }
    let (folder, processes) = (cluster.directory().to_owned(), live_processes(&cluster));
    drop(cluster);
    assert_nothing_is_left(&folder, &processes);
}

#[test]
fn a_port_that_stays_taken_is_reported_with_the_components_own_words() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let argument = format!("--secure-port={}", taken.local_addr().unwrap().port());
    let options = ClusterOptions { apiserver_arguments: vec![argument], ..ClusterOptions::ephemeral("taken") };
    match Cluster::up(&options) {
        Err(ClusterError::Ended { component: Component::KubeApiserver, log, .. }) => {
            assert!(log.contains("address already in use"), "{log}");
        }
        outcome => panic!("{outcome:?}"),
    }
    let sibling = Cluster::up(&ClusterOptions::persistent("Not A Name"));
    assert!(matches!(sibling, Err(ClusterError::State(StateError::Name(_)))), "{sibling:?}");
    assert!(matches!(Cluster::attach(&options.name), Err(ClusterError::State(StateError::Absent(_)))));
}

#[test]
fn a_persistent_cluster_can_be_attached_to_and_adopted() {
    let name = format!("persistent-{}", std::process::id());
    let first = Cluster::up(&ClusterOptions::persistent(name.clone())).unwrap();
    let processes = live_processes(&first);
    drop(first);
    let attached = Cluster::attach(&name).unwrap();
    assert_eq!(live_processes(&attached), processes);

    let source = ClusterSource::Existing(attached.admin_kubeconfig());
    let adopted = Cluster::up(&ClusterOptions { source, ..ClusterOptions::ephemeral("adopted") }).unwrap();
    let groups = kubectl(&adopted, "frank", "auth whoami -o jsonpath={.status.userInfo.groups}");
    assert_eq!(groups, r#"["incident-commander","sre","system:authenticated"]"#);
    assert!(!adopted.is_simulated());
    adopted.down().unwrap();

    assert_eq!(live_processes(&attached), processes, "the adopted cluster was stopped");
    let folder = attached.directory().to_owned();
    attached.down().unwrap();
    assert_nothing_is_left(&folder, &processes);
    assert!(matches!(Cluster::attach(&name), Err(ClusterError::State(StateError::Absent(_)))));
}

#[test]
fn an_ephemeral_cluster_does_not_survive_its_killed_owner() {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "hold_a_cluster", "--ignored", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let folder = lines.find_map(|line| line.unwrap().strip_prefix("holding ").map(PathBuf::from)).unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let processes = live_processes(&Cluster::attach(&name).unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the watchdog to take the cluster down", || {
        processes.iter().all(|process| !process.is_alive()) && processes_of(&folder).is_empty()
    });
    assert_nothing_is_left(&folder, &processes);
}

/// Not a test of its own: the process that `an_ephemeral_cluster_does_not_survive_its_killed_owner` kills.
#[test]
#[ignore = "run by another test"]
fn hold_a_cluster() {
    if env::var_os(HOLDER).is_none() {
        return;
    }
    let cluster = Cluster::up(&ClusterOptions::ephemeral("held")).unwrap();
    println!("holding {}", cluster.directory().display());
    thread::sleep(Duration::from_mins(10));
}
