//! The releases by Interlock: ChangeRequests that are approved and wait for their time.

use std::{
    thread,
    time::{Duration, Instant},
};

use interlock_cluster::Audit;
use interlock_tests::{
    Installation, Options, Stage, World,
    audit::Event,
    deployment, deployment_image, eventually,
    gateway::{Gateway, definition_of_routes},
    policy_of, served,
    world::block_on,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    ALONE,
    figures::{self, Answer, Figures},
    in_parallel, names, steps,
};

const LIMIT: Duration = Duration::from_mins(40);

/// `routed`: each workload behind an HTTPRoute of its own, whose weight answers to its pods.
pub fn measure(count: usize, routed: bool) -> Figures {
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
    if routed {
        let definition = definition_of_routes();
        world.ensure(&definition).expect("the definition of routes");
        served(world.admin(), &definition);
        objects.extend(names.iter().flat_map(|name| behind_a_route(name)));
    } else {
        objects.push(plan("plan", &json!({"steps": steps()})));
    }
    let plan_of = |name: &str| if routed { name.to_owned() } else { "plan".to_owned() };
    let answer = if routed { Answer::Weight } else { Answer::Replicas };
    let stage = Stage::set(&world, "bench", Options { policy: policy_of(1, "sre"), objects, ..Options::default() });
    let _gateway = routed.then(|| block_on(Gateway::start(world.admin().client(), &stage.namespace, Duration::ZERO)));
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
    let start = prepare(&stage, &names, plan_of);
    thread::sleep(Duration::try_from(start.duration_since(Timestamp::now())).unwrap_or_default());
    let (begun, cpu_before) = (Instant::now(), figures::usage(process).0);
    for name in &names {
        succeeded(&stage, name);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, peak_mib) = figures::usage(process);
    let requests = figures::requests(&log, start, is_ours);
    let crowded = figures::percentiles(figures::reactions(&log, start, answer, is_ours));
    let spread = figures::spread(&log, start, is_ours);
    println!("Interlock: {count} releases in {seconds:.1} s");
    let idle = figures::idle(&log, is_ours);
    let start = Timestamp::now();
    for name in names.iter().take(ALONE) {
        alone(&stage, name, &plan_of(name));
    }
    let alone = figures::percentiles(figures::reactions(&log, start, answer, is_ours));
    let (cpu, cpu_before) = (cpu - cpu_before, cpu_before - at_rest);
    Figures { seconds, spread, cpu, cpu_before, peak_mib, requests, alone, crowded, idle }
}

fn plan(name: &str, canary: &Value) -> Value {
    json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": "RolloutPlan", "metadata": {"name": name},
        "spec": {"progressDeadline": "30m", "canary": canary},
    })
}

/// What leads traffic to a workload, and the plan that splits it.
fn behind_a_route(name: &str) -> [Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name}, "spec": {
            "parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        }}),
        plan(name, &json!({"route": {"httpRoute": name, "backend": name}, "steps": steps()})),
    ]
}

fn is_ours(event: &Event) -> bool {
    event.0["user"]["username"] == "system:serviceaccount:interlock-system:interlock-controller"
}

/// Proposes and approves every change; they may start at the returned instant.
fn prepare(stage: &Stage<'_>, names: &[String], plan_of: impl Fn(&str) -> String + Sync) -> Timestamp {
    let seconds = 30 + i64::try_from(names.len()).expect("a number") / 4;
    let start = Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("a time");
    in_parallel(names, |name| {
        let more = json!({"rolloutPlanRef": {"name": plan_of(name)}, "schedule": {"notBefore": start.to_string()}});
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
fn alone(stage: &Stage<'_>, name: &str, plan: &str) {
    let (change, more) = (format!("{name}-again"), json!({"rolloutPlanRef": {"name": plan}}));
    stage.propose_with("alice", &change, vec![deployment_image(name, "web:3.0.0")], more).approve(&["bob"]);
    succeeded(stage, &change);
}
