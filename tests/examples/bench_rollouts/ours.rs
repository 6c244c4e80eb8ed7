//! The releases by Interlock: ChangeRequests that are approved and wait for their time.

use std::{
    thread,
    time::{Duration, Instant},
};

use interlock_cluster::Audit;
use interlock_tests::{
    Installation, Options, Stage, World, audit::Event, deployment, deployment_image, eventually, policy_of,
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    ALONE,
    figures::{self, Figures},
    in_parallel, names,
};

const LIMIT: Duration = Duration::from_mins(40);

pub fn measure(count: usize) -> Figures {
    let world = World::up(&Installation { name: "bench-gray", audit: Audit::Metadata, ..Installation::default() });
    let names = names(count);
    let mut objects: Vec<_> = names
        .iter()
        .map(|name| {
            let mut workload = deployment(name, "web:1.0.0");
            workload["spec"]["replicas"] = json!(3);
            workload
        })
        .collect();
    objects.push(json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": "plan"},
        "spec": {
            "progressDeadline": "30m",
            "canary": {"steps": [{"setWeight": 20}, {"setWeight": 35}, {"setWeight": 50}]},
        },
    }));
    let stage = Stage::set(&world, "bench", Options { policy: policy_of(1, "sre"), objects, ..Options::default() });
    for name in &names {
        eventually(LIMIT, || {
            let ready = &stage.get(&format!("deployments/{name}"))["status"]["readyReplicas"];
            if *ready == 3 { Ok(()) } else { Err(format!("{name} has {ready} pods")) }
        });
    }
    let process = world.controller_process();
    let log = world.cluster().audit_log().expect("an audit log");
    let start = prepare(&stage, &names);
    thread::sleep(Duration::try_from(start.duration_since(Timestamp::now())).unwrap_or_default());
    let (begun, cpu) = (Instant::now(), figures::usage(process).0);
    for name in &names {
        succeeded(&stage, name);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (until, peak_mib) = figures::usage(process);
    let (written, reads) = figures::count(&log, start, is_ours);
    let idle = figures::idle(&log, is_ours);
    let reactions = names.iter().take(ALONE).flat_map(|name| alone(&stage, name)).collect();
    Figures { seconds, cpu: until - cpu, peak_mib, written, reads, idle, reaction: figures::percentiles(reactions) }
}

fn is_ours(event: &Event) -> bool {
    event.0["user"]["username"] == "system:serviceaccount:interlock-system:interlock-controller"
}

/// Proposes and approves every change; they may start at the returned instant.
fn prepare(stage: &Stage<'_>, names: &[String]) -> Timestamp {
    let seconds = 30 + i64::try_from(names.len()).expect("a number") / 4;
    let start = Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("a time");
    in_parallel(names, |name| {
        let more = json!({"rolloutPlanRef": {"name": "plan"}, "schedule": {"notBefore": start.to_string()}});
        stage.propose_with("alice", name, vec![deployment_image(name, "web:2.0.0")], more).approve(&["bob"]);
    });
    assert!(Timestamp::now() < start, "preparing took longer than {seconds} s");
    start
}

fn succeeded(stage: &Stage<'_>, name: &str) {
    eventually(LIMIT, || {
        let status = stage.get(&format!("changerequests/{name}"))["status"].clone();
        match status["phase"].as_str().unwrap_or_default() {
            "Succeeded" => Ok(()),
            "Failed" | "RolledBack" => panic!("{name}: {status:#}"),
            other => Err(format!("{name} is {other}")),
        }
    });
}

/// One more release while nothing else is under way.
fn alone(stage: &Stage<'_>, name: &str) -> Vec<f64> {
    let (from, change) = (Timestamp::now(), format!("{name}-again"));
    let more = json!({"rolloutPlanRef": {"name": "plan"}});
    stage.propose_with("alice", &change, vec![deployment_image(name, "web:3.0.0")], more).approve(&["bob"]);
    succeeded(stage, &change);
    figures::reaction(&stage.world.cluster().audit_log().expect("an audit log"), from, name, is_ours)
}
