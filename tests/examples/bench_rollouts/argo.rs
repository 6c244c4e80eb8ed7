//! The same releases by Argo Rollouts: a Rollout each, whose image is changed.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use interlock_cluster::{ADMIN, Audit, Cluster, ClusterOptions, Tool, Tools, argo_rollouts};
use interlock_tests::{Api, audit::Event, eventually, world::api};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    ALONE, THREADS,
    figures::{self, Answer, Figures},
    in_parallel, names, steps,
};

const LIMIT: Duration = Duration::from_mins(40);
const ROLLOUTS: &str = "/apis/argoproj.io/v1alpha1/namespaces/default/rollouts";

/// Ends with this value.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The controller's program, built if it is not there yet.
pub fn program() -> Result<PathBuf, String> {
    let chain = |error: &dyn std::error::Error| format!("{error}: {:?}", error.source());
    argo_rollouts().map_err(|error| chain(&error))?;
    let tools = Tools::ensure_these(&[Tool::ArgoRollouts]).map_err(|error| chain(&error))?;
    Ok(tools.path(Tool::ArgoRollouts).to_owned())
}

pub fn measure(program: &Path, count: usize) -> Figures {
    let options = ClusterOptions::ephemeral("bench-argo").with_audit(Audit::Metadata);
    let cluster = Cluster::up(&options).expect("a cluster");
    let admin = api(&cluster.kubeconfig(ADMIN));
    define(&admin);
    let controller = start(&cluster, program);
    let process = controller.0.id();
    let (names, log) = (names(count), cluster.audit_log().expect("an audit log"));
    in_parallel(&names, |name| {
        admin.post(ROLLOUTS, &rollout(name)).expect("a Rollout");
    });
    for name in &names {
        healthy(&admin, name, "web:1.0.0");
    }
    println!("Argo Rollouts: {count} workloads are ready");
    let (start, begun, cpu_before) = (Timestamp::now(), Instant::now(), figures::usage(process).0);
    in_parallel(&names, |name| release(&admin, name, "web:2.0.0"));
    for name in &names {
        healthy(&admin, name, "web:2.0.0");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, peak_mib) = figures::usage(process);
    let requests = figures::requests(&log, start, is_theirs);
    let crowded = figures::percentiles(figures::reactions(&log, start, Answer::Replicas, is_theirs));
    let spread = figures::spread(&log, start, is_theirs);
    println!("Argo Rollouts: {count} releases in {seconds:.1} s");
    let idle = figures::idle(&log, is_theirs);
    let start = Timestamp::now();
    for name in names.iter().take(ALONE) {
        release(&admin, name, "web:3.0.0");
        healthy(&admin, name, "web:3.0.0");
    }
    let alone = figures::percentiles(figures::reactions(&log, start, Answer::Replicas, is_theirs));
    // What it needed to make the workloads is no part of a release.
    Figures { seconds, spread, cpu: cpu - cpu_before, cpu_before: 0.0, peak_mib, requests, alone, crowded, idle }
}

fn is_theirs(event: &Event) -> bool {
    event.0["userAgent"].as_str().is_some_and(|agent| agent.starts_with("rollouts-controller"))
}

fn define(admin: &Api) {
    for file in fs::read_dir(argo_rollouts().expect("the definitions")).expect("a folder").flatten() {
        let text = fs::read_to_string(file.path()).expect("a definition");
        let object: Value = serde_saphyr::from_str(&text).expect("a definition");
        if object["kind"] == "CustomResourceDefinition" {
            admin.create(&object).expect("a definition");
        }
    }
    eventually(Duration::from_mins(1), || admin.get(ROLLOUTS).map_err(|refusal| refusal.to_string()));
}

fn start(cluster: &Cluster, program: &Path) -> Controller {
    let free =
        || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port();
    let log = fs::File::create(cluster.directory().join("argo.log")).expect("a log");
    let child = Command::new(program)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig(ADMIN))
        // Without limits of its own, as ours.
        .args(["--qps", "10000", "--burst", "10000", "--rollout-threads", &THREADS.to_string()])
        .args(["--leader-elect=false", "--loglevel", "warn"])
        .args(["--metricsPort", &free().to_string(), "--healthzPort", &free().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("Argo Rollouts");
    Controller(child)
}

fn rollout(name: &str) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "web:1.0.0"}]},
            },
            "progressDeadlineSeconds": 1_800,
            "strategy": {"canary": {"steps": steps()}},
        },
    })
}

fn release(admin: &Api, name: &str, image: &str) {
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
    admin.merge(&format!("{ROLLOUTS}/{name}"), &template).expect("a new version");
}

fn healthy(admin: &Api, name: &str, image: &str) {
    eventually(LIMIT, || {
        let found = admin.get(&format!("{ROLLOUTS}/{name}")).map_err(|refusal| refusal.to_string())?;
        let status = &found["status"];
        let seen = status["observedGeneration"].as_str().and_then(|text| text.parse::<i64>().ok());
        let is_whole = found["spec"]["template"]["spec"]["containers"][0]["image"] == image
            && seen == found["metadata"]["generation"].as_i64()
            && status["phase"] == "Healthy"
            && status["stableRS"] == status["currentPodHash"]
            && status["readyReplicas"] == 3;
        if is_whole { Ok(()) } else { Err(format!("{name} is {}: {}", status["phase"], status["message"])) }
    });
}
