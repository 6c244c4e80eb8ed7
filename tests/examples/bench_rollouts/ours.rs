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
    in_parallel, names, steps,
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
            "canary": {"steps": steps()},
        },
    }));
    let stage = Stage::set(&world, "bench", Options { policy: policy_of(1, "sre"), objects, ..Options::default() });
    for name in &names {
        eventually(LIMIT, || {
            let ready = &stage.get(&format!("deployments/{name}"))["status"]["readyReplicas"];
            if *ready == 3 { Ok(()) } else { Err(format!("{name} has {ready} pods")) }
        });
    }
    println!("Interlock: {count} workloads are ready");
    let process = world.controller_process();
    let log = world.cluster().audit_log().expect("an audit log");
    let at_rest = figures::usage(process).0;
    let start = prepare(&stage, &names);
    thread::sleep(Duration::try_from(start.duration_since(Timestamp::now())).unwrap_or_default());
    let (begun, cpu_before) = (Instant::now(), figures::usage(process).0);
    for name in &names {
        succeeded(&stage, name);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, peak_mib) = figures::usage(process);
    let requests = figures::requests(&log, start, is_ours);
    let crowded = figures::percentiles(figures::reactions(&log, start, is_ours));
    let spread = figures::spread(&log, start, is_ours);
    println!("Interlock: {count} releases in {seconds:.1} s");
    let idle = figures::idle(&log, is_ours);
    let start = Timestamp::now();
    for name in names.iter().take(ALONE) {
        alone(&stage, name);
    }
    let alone = figures::percentiles(figures::reactions(&log, start, is_ours));
    let (cpu, cpu_before) = (cpu - cpu_before, cpu_before - at_rest);
    Figures { seconds, spread, cpu, cpu_before, peak_mib, requests, alone, crowded, idle }
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
fn alone(stage: &Stage<'_>, name: &str) {
    let (change, more) = (format!("{name}-again"), json!({"rolloutPlanRef": {"name": "plan"}}));
    stage.propose_with("alice", &change, vec![deployment_image(name, "web:3.0.0")], more).approve(&["bob"]);
    succeeded(stage, &change);
}
