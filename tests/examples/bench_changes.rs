//! Changes of one ConfigMap each, from created-and-approved to Succeeded, against the same calls made by a bare client.
//!
//! `cargo xtask bench` runs it with a release build. Figures are ratios against a baseline measured in the same run.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on should stop"
)]

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use interlock_cluster::Audit;
use interlock_core::{
    admission::User,
    change::sealed,
    seal::{Domain, SealKey},
};
use interlock_crds::ChangePhase;
use interlock_tests::{Api, Installation, Options, Stage, World, config_map, eventually, policy_of};
use jiff::Timestamp;
use serde_json::json;

/// As many workers for the bare client as the controller has passes at the same time.
const WORKERS: usize = 8;

fn main() {
    let count: usize = std::env::var("INTERLOCK_BENCH_CHANGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let world = World::up(&Installation { name: "bench", audit: Audit::Off, ..Installation::default() });
    let names: Vec<String> = (0..count).map(|n| format!("c{n:04}")).collect();
    let objects = names.iter().map(|name| config_map(name, &[("value", "before")])).collect();
    let stage = Stage::set(&world, "bench", Options { policy: policy_of(1, "sre"), objects, ..Options::default() });

    println!("changes: {count} of one ConfigMap each, {WORKERS} at a time");
    let idle_before = controller();
    let start = prepare(&stage, &names);
    let waiting = start.duration_since(Timestamp::now());
    thread::sleep(Duration::try_from(waiting).unwrap_or_default());
    let (calls, by_kind, cpu) = (world.api_calls(), calls_by_kind(&world), controller().cpu);
    let begun = Instant::now();
    until_all(&stage);
    let took = begun.elapsed();
    let per_change = (world.api_calls() - calls) / count as f64;
    let cpu = controller().cpu - cpu;
    println!("controller: {:.1} s, {per_change:.1} API calls a change, {cpu:.1} CPU s", took.as_secs_f64());

    for (kind, now) in calls_by_kind(&world) {
        let share = (now - by_kind.get(&kind).copied().unwrap_or_default()) / count as f64;
        if share >= 0.1 {
            println!("  {share:.1} {kind}");
        }
    }

    let bare = baseline(&stage, &names);
    println!("bare client: {:.1} s with the minimum of {BARE_CALLS} calls a change", bare.as_secs_f64());
    println!("ratio of times: {:.2}", took.as_secs_f64() / bare.as_secs_f64());
    println!("memory of the controller: {} MiB before, {} MiB afterwards", idle_before.rss, controller().rss);
    let old: usize = std::env::var("INTERLOCK_BENCH_OLD").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    crowd(&stage, old);
    println!("with {old} more requests that have ended, and {} votes:", 2 * old);
    restart(&world);
    thread::sleep(Duration::from_secs(10));
    println!("memory of the controller: {} MiB", controller().rss);
    idle(&world);
}

/// Requests that ended and their votes, as a cluster has them after years. They are stored while Interlock is away, with
/// the seals that it would have made.
fn crowd(stage: &Stage<'_>, count: usize) {
    let (world, admin) = (stage.world, stage.admin());
    let secret = admin.get("/api/v1/namespaces/interlock-system/secrets/interlock-seal-key").expect("the key");
    let seed = BASE64.decode(secret["data"]["seed"].as_str().unwrap_or_default()).expect("a seed");
    let key = SealKey::from_seed(&seed).expect("a key");
    let names: Vec<String> = (0..count).map(|n| format!("old-{n:05}")).collect();
    world.unguarded(|| in_parallel(&names, |name| ended(stage, &key, name)));
}

fn ended(stage: &Stage<'_>, key: &SealKey, name: &str) {
    let admin = stage.admin();
    let manifest = stage.placed(config_map(name, &[("value", "long ago")]));
    let mut stored = eventually(Duration::from_mins(1), || {
        admin.create(&stage.request("alice", name, vec![manifest.clone()])).map_err(|e| e.to_string())
    });
    let change = stage.change_of(&stored);
    let now = Timestamp::now();
    let end = sealed::seal_finish(key, &change.uid, ChangePhase::Succeeded, now, "carried out".to_owned());
    stored["status"] = json!({"phase": "Succeeded", "finished": end.expect("a seal")});
    admin.replace(&format!("{}/status", change.path()), &stored).expect("the end");
    for voter in ["bob", "carol"] {
        let mut vote = change.ballot(voter, "Approve", &format!("sha256:{:064}", 0));
        let user = User { name: voter.to_owned(), groups: vec!["sre".to_owned()], ..User::default() };
        let recording = sealed::Recording { user: &user, time: now, request_uid: &change.uid };
        let recorded = sealed::record(key, Domain::Approval, &stage.namespace, &vote["spec"], &recording);
        vote["spec"]["recorded"] = json!(recorded.expect("a seal"));
        admin.create(&vote).expect("a vote");
    }
}

/// Proposes and approves every change; they may start at the returned instant.
fn prepare(stage: &Stage<'_>, names: &[String]) -> Timestamp {
    let seconds = 30 + names.len() as i64 / 5;
    let start = Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("a time");
    let (alice, bob) = (stage.user("alice"), stage.user("bob"));
    in_parallel(names, |name| {
        let manifest = stage.placed(config_map(name, &[("value", "after")]));
        let mut request = stage.request("alice", name, vec![manifest]);
        request["spec"]["schedule"] = json!({"notBefore": start.to_string()});
        let stored = alice.create(&request).expect("the request is admitted");
        let change = stage.change_of(&stored);
        let digest = change.digest();
        bob.create(&change.ballot("bob", "Approve", &digest)).expect("the vote is admitted");
    });
    assert!(Timestamp::now() < start, "preparing took longer than {seconds} s");
    start
}

/// Waits until every change succeeded: until no other is found. With a selector a list does not say how many there are.
fn until_all(stage: &Stage<'_>) {
    let path = format!(
        "/apis/interlock.dev/v1alpha1/namespaces/{}/changerequests?fieldSelector=status.phase%21%3DSucceeded&limit=1",
        stage.namespace
    );
    eventually(Duration::from_mins(30), || {
        let list = stage.admin().get(&path).map_err(|e| e.to_string())?;
        match list["items"].as_array().and_then(|items| items.first()) {
            None => Ok(()),
            Some(other) => Err(format!("{} is {}", other["metadata"]["name"], other["status"]["phase"])),
        }
    });
}

/// Calls of the bare client for one change: what no controller with these promises can leave out. Live reads of request,
/// votes, two persons, System, policy and object (twice: the base that was voted on, and the object just before it is
/// written), dry run, before-state and its read-back, entering Running, the write, and the end.
const BARE_CALLS: usize = 14;

fn baseline(stage: &Stage<'_>, names: &[String]) -> Duration {
    let admin = stage.admin();
    let begun = Instant::now();
    in_parallel(names, |name| bare_change(stage, admin, name));
    begun.elapsed()
}

fn bare_change(stage: &Stage<'_>, admin: &Api, name: &str) {
    let group = "/apis/interlock.dev/v1alpha1";
    let namespaced = format!("{group}/namespaces/{}", stage.namespace);
    let request = format!("{namespaced}/changerequests/{name}");
    let object = format!("/api/v1/namespaces/{}/configmaps/{name}", stage.namespace);
    let mut change = admin.get(&request).expect("the request");
    let uid = change["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    admin.get(&format!("{namespaced}/approvals?fieldSelector=spec.changeRequestUid%3D{uid}")).expect("the votes");
    for path in [
        "persons/alice".to_owned(),
        "persons/bob".to_owned(),
        format!("systems/{}", stage.namespace),
        format!("changepolicies/{}", stage.namespace),
    ] {
        admin.get(&format!("{group}/{path}")).expect("a governor");
    }
    let live = admin.get(&object).expect("the object");
    admin.get(&object).expect("the object");
    // The webhook would deny the write to anybody but the executor of a running change; a dry run costs the same.
    let mut wanted = live.clone();
    wanted["data"]["value"] = json!("bare");
    let dry = format!("{object}?dryRun=All");
    admin.replace(&dry, &wanted).expect("the dry run");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("bare-{name}"), "namespace": "interlock-system"}, "immutable": true, "data": {"chunk": "eA=="}});
    admin.create(&secret).expect("the before-state");
    admin.get(&format!("/api/v1/namespaces/interlock-system/secrets/bare-{name}")).expect("the read-back");
    for _ in 0..2 {
        // Another's status may not be written in earnest; a dry run takes the same way up to the store.
        change["status"]["message"] = json!("bare");
        let _ = admin.replace(&format!("{request}/status?dryRun=All"), &change);
    }
    admin.replace(&dry, &wanted).expect("the write");
}

fn in_parallel(names: &[String], work: impl Fn(&str) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(name);
                }
            });
        }
    });
}

struct Process {
    cpu: f64,
    rss: u64,
}

/// The controller of this benchmark, by its command line.
fn controller() -> Process {
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|b| *b == 0).collect();
        if !(words.first().is_some_and(|w| w.ends_with(b"interlock")) && words.get(1) == Some(&b"run".as_slice())) {
            continue;
        }
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let rss = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        return Process { cpu: (ticks(11) + ticks(12)) / 100.0, rss: rss.unwrap_or_default() / 1_024 };
    }
    panic!("no controller runs");
}

/// API calls by what the metric says of them.
fn calls_by_kind(world: &World) -> BTreeMap<String, f64> {
    let metrics = world.http("/metrics").expect("metrics");
    let call = |line: &str| {
        let (labels, count) = line.strip_prefix("interlock_api_calls_total{")?.rsplit_once("} ")?;
        Some((labels.to_owned(), count.parse().ok()?))
    };
    metrics.lines().filter_map(call).collect()
}

/// What an idle controller asks the API server, leases aside.
fn idle(world: &World) {
    thread::sleep(Duration::from_secs(5));
    let before = world.api_calls();
    thread::sleep(Duration::from_mins(1));
    println!("idle: {} API calls in 60 s beside lease renewals", world.api_calls() - before);
}

/// From start to answering webhooks, with all those objects there.
fn restart(world: &World) {
    world.kill_controller();
    let begun = Instant::now();
    world.launch_controller();
    world.wait_ready();
    println!("restart: serving after {:.2} s", begun.elapsed().as_secs_f64());
}
