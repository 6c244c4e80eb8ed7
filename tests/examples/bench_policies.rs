//! What ten thousand BackupPolicies, and five Backups of each, take of a controller on a real API server: as they are made, at
//! its start, and at rest. How it carries their runs out is measured in `bench_rehearsal`, where a month takes minutes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on should stop"
)]

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use interlock_cluster::Audit;
use interlock_tests::{Installation, Options, Stage, World, eventually, policy_of};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const WORKERS: usize = 8;
/// Backups of each policy.
const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_mins(20);

fn main() {
    let count: usize = std::env::var("INTERLOCK_BENCH_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let world = World::up(&Installation { name: "bench-policies", audit: Audit::Off, ..Installation::default() });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let options = Options {
        policy: policy_of(1, "sre"),
        objects: vec![claim],
        // Who makes them needs no change for it.
        system: json!({"mode": "Audit"}),
        ..Options::default()
    };
    let stage = Stage::set(&world, "bench", options);
    println!("empty: {}", usage(&world));

    let names: Vec<String> = (0..count).map(|n| format!("p{n:05}")).collect();
    let begun = Instant::now();
    let restic = json!({"restic": {"url": "rest:https://vault.example/", "secretRef": {"name": "vault"}}});
    for number in 0..count.div_ceil(OF_ONE_REPOSITORY) {
        create(&stage, "BackupRepository", &repository(number), &restic);
    }
    in_parallel(count, |n| {
        create(&stage, "BackupPolicy", &names[n], &policy(n));
    });
    eventually(LIMIT, || {
        let policies = list(&stage, "backuppolicies");
        match policies.iter().find(|policy| policy["status"]["nextSlot"].is_null()) {
            None if policies.len() == count => Ok(()),
            None => Err(format!("there are {} policies", policies.len())),
            Some(other) => Err(format!("{} has no next slot", other["metadata"]["name"])),
        }
    });
    println!(
        "{count} policies, each admitted and scheduled: {:.1} s, {:.1} API calls each, {}",
        begun.elapsed().as_secs_f64(),
        world.api_calls() / count as f64,
        usage(&world)
    );

    let policies = list(&stage, "backuppolicies");
    world.unguarded(|| in_parallel(count * RUNS, |n| ended(&stage, &policies[n / RUNS], n / RUNS, n % RUNS)));
    let begun = Instant::now();
    world.start_controller();
    println!(
        "with {} Backups that have ended, a start serves after {:.2} s",
        count * RUNS,
        begun.elapsed().as_secs_f64()
    );
    eventually(LIMIT, || {
        let unknown = list(&stage, "backuppolicies").into_iter().find(|p| p["status"]["points"] != json!(RUNS));
        unknown.map_or(Ok(()), |p| Err(format!("{} has {} points", p["metadata"]["name"], p["status"]["points"])))
    });
    println!("and has looked at all of them after {:.1} s, {}", begun.elapsed().as_secs_f64(), usage(&world));
    // Each policy is looked at once more for what was written of it just now.
    let begun = Instant::now();
    eventually(LIMIT, || {
        let before = world.api_calls();
        thread::sleep(Duration::from_secs(10));
        let more = world.api_calls() - before;
        if more < 10.0 { Ok(()) } else { Err(format!("{more} API calls in 10 s")) }
    });
    println!("calm after {:.0} s more, {}", begun.elapsed().as_secs_f64(), usage(&world));
    let before = world.api_calls();
    thread::sleep(Duration::from_mins(1));
    println!("idle: {} API calls in 60 s beside lease renewals, {}", world.api_calls() - before, usage(&world));
}

const OF_ONE_REPOSITORY: usize = 100;

fn repository(number: usize) -> String {
    format!("vault-{number}")
}

fn create(stage: &Stage<'_>, kind: &str, name: &str, spec: &Value) -> Value {
    let object = json!({
        "apiVersion": "interlock.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": stage.namespace}, "spec": spec,
    });
    eventually(Duration::from_mins(1), || stage.admin().create(&object).map_err(|error| error.to_string()))
}

/// Runs of it are due half a year from now, so that what is measured is everything but runs.
fn policy(number: usize) -> Value {
    let month = Timestamp::now().strftime("%m").to_string().parse::<i8>().unwrap_or(1);
    let far = (month + 5) % 12 + 1;
    json!({
        "repositoryRef": {"name": repository(number / OF_ONE_REPOSITORY)},
        "source": {"files": {"persistentVolumeClaim": "data"}}, "jitter": "4h",
        "schedules": [{"name": "yearly", "schedule": format!("30 2 1 {far} *"), "timeZone": "Europe/Berlin"}],
        "retention": {"keepLast": 10}, "objectives": {"rpo": "400d"},
    })
}

/// A run as it is recorded, one a day until yesterday.
fn ended(stage: &Stage<'_>, policy: &Value, number: usize, run: usize) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, uid) = (text(&policy["metadata"]["name"]), text(&policy["metadata"]["uid"]));
    let time = Timestamp::now() - SignedDuration::from_hours(24 * (RUNS - run) as i64);
    let repository = repository(number / OF_ONE_REPOSITORY);
    let mut stored = create(
        stage,
        "Backup",
        &format!("{name}-{run}"),
        &json!({
            "policyRef": {"name": name}, "policyUid": uid, "repositoryRef": {"name": repository}, "trigger": "Scheduled",
            "slot": {"schedule": "yearly", "time": time},
        }),
    );
    let snapshot = format!("{:064x}", number * RUNS + run);
    stored["status"] = json!({
        "observedGeneration": 1, "phase": "Succeeded", "reason": "Completed", "message": "copied and read back",
        "pinned": {
            "policyUid": uid, "policyGeneration": 1, "policyDigest": format!("sha256:{:064}", 0),
            "repository": repository, "repositoryUid": uid,
        },
        "job": {"name": format!("{name}-{run}"), "uid": uid},
        "queuedAt": time, "claimedAt": time, "startedAt": time, "finishedAt": time, "exitCode": 0,
        "point": {"snapshotId": snapshot, "dataTime": time, "bytes": 1_073_741_824, "addedBytes": 1_048_576, "files": 1000},
    });
    let path = format!("{}/status", interlock_tests::path_of(&stored));
    stage.admin().replace(&path, &stored).expect("the end of a run");
}

/// All objects of a kind, in pages.
fn list(stage: &Stage<'_>, plural: &str) -> Vec<Value> {
    let path = format!("/apis/interlock.dev/v1alpha1/namespaces/{}/{plural}?limit=500", stage.namespace);
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let page = stage.admin().get(&format!("{path}&continue={next}")).expect("a list");
        found.extend(page["items"].as_array().cloned().unwrap_or_default());
        page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
        if next.is_empty() {
            return found;
        }
    }
}

fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count) {
                    work(number);
                }
            });
        }
    });
}

fn usage(world: &World) -> String {
    let process = world.controller_process();
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the controller runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the controller runs");
    let mib = |what: &str| {
        let value =
            status.lines().find_map(|line| line.strip_prefix(what)?.split_whitespace().next()?.parse::<u64>().ok());
        value.unwrap_or_default() / 1_024
    };
    format!(
        "{:.1} s of processor time since its start, {} MiB (most {})",
        (ticks(11) + ticks(12)) / 100.0,
        mib("VmRSS:"),
        mib("VmHWM:")
    )
}
