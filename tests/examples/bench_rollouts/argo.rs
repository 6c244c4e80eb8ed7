//! The same releases by Argo Rollouts: a Rollout each, whose image is changed.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use interlock_cluster::{ADMIN, Audit, Cluster, ClusterOptions, Tool, Tools, argo_rollouts};
use interlock_tests::{Api, audit::Event, eventually, world::api};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    ALONE, THREADS,
    figures::{self, Figures},
    in_parallel, names,
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

pub fn measure(count: usize) -> Figures {
    let options = ClusterOptions::ephemeral("bench-argo").with_audit(Audit::Metadata);
    let cluster = Cluster::up(&options).expect("a cluster");
    let admin = api(&cluster.kubeconfig(ADMIN));
    define(&admin);
    let controller = start(&cluster);
    let (names, log) = (names(count), cluster.audit_log().expect("an audit log"));
    in_parallel(&names, |name| {
        admin.post(ROLLOUTS, &rollout(name)).expect("a Rollout");
    });
    for name in &names {
        healthy(&admin, name, "web:1.0.0");
    }
    let (start, begun, cpu) = (Timestamp::now(), Instant::now(), figures::usage(controller.0.id()).0);
    in_parallel(&names, |name| release(&admin, name, "web:2.0.0"));
    for name in &names {
        healthy(&admin, name, "web:2.0.0");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (until, peak_mib) = figures::usage(controller.0.id());
    let (written, reads) = figures::count(&log, start, is_theirs);
    let idle = figures::idle(&log, is_theirs);
    let alone = |name: &String| {
        let from = Timestamp::now();
        release(&admin, name, "web:3.0.0");
        healthy(&admin, name, "web:3.0.0");
        figures::reaction(&log, from, name, is_theirs)
    };
    let reactions = names.iter().take(ALONE).flat_map(alone).collect();
    Figures { seconds, cpu: until - cpu, peak_mib, written, reads, idle, reaction: figures::percentiles(reactions) }
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

fn start(cluster: &Cluster) -> Controller {
    let program = Tools::ensure_these(&[Tool::ArgoRollouts]).expect("Argo Rollouts");
    let free =
        || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port();
    let log = fs::File::create(cluster.directory().join("argo.log")).expect("a log");
    let child = Command::new(program.path(Tool::ArgoRollouts))
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
            "strategy": {"canary": {"steps": [{"setWeight": 20}, {"setWeight": 35}, {"setWeight": 50}]}},
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
