//! Backups in numbers: to find the newest good point among 100,000 of one policy costs as much as among 100, also when the newest
//! turns out to be corrupt or is forgotten; what a prune of so many looks at; and a month of slots of 10,000 policies begins
//! on time. Part of `cargo xtask bench`.
//!
//! The index never calls the API server: what is asked of it here lists nothing.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    time::Instant,
};

use interlock_controller::index::Index;
use interlock_core::{
    backup::{
        retention,
        slots::{self, Existing, SlotFacts},
    },
    seal::KeyRing,
};
use interlock_crds::{Backup, BackupPolicy, BackupPolicySpec, ScheduleStatus};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const POLICIES: usize = 10_000;
const DAYS: i64 = 30;

fn policy(name: &str, minute: usize) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1, "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {
            "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
            "schedules": [
                {"name": "nightly", "schedule": format!("{} {} * * *", minute % 60, minute / 60 % 24), "timeZone": "Europe/Berlin"},
                {"name": "monthly", "mode": "Full", "schedule": format!("{} 3 1 * *", minute % 60), "timeZone": "Europe/Berlin"},
            ],
            "retention": {"keepLast": 3}, "objectives": {"rpo": "26h"},
        },
    })
}

fn run(policy: &str, n: usize) -> Backup {
    let at = Timestamp::from_second(1_700_000_000 + 60 * i64::try_from(n).expect("small")).expect("a time");
    let end = at + SignedDuration::from_secs(30);
    let value = json!({
        "metadata": {"name": format!("{policy}-{n}"), "namespace": "n", "uid": format!("{policy}-{n}")},
        "spec": {"policyRef": {"name": policy}, "policyUid": format!("uid-{policy}"), "trigger": "Manual", "requester": "bob"},
        "status": {
            "phase": if n % 7 == 3 { "Failed" } else { "Succeeded" },
            "finishedAt": end,
            "pinned": {
                "policyUid": format!("uid-{policy}"), "policyGeneration": 1, "policyDigest": "", "repository": "vault", "repositoryUid": "vault-uid",
            },
            "point": if n % 7 == 3 { Value::Null } else { json!({
                "snapshotId": format!("{n:064x}"), "dataTime": at, "files": 10, "bytes": 1000, "addedBytes": 10, "repositoryId": "r",
            }) },
        },
    });
    serde_json::from_value(value).expect("a run")
}

/// An index with so many runs of one policy.
fn index(runs: usize) -> Index {
    let mut index = Index::new(KeyRing::default());
    let policy: BackupPolicy = serde_json::from_value(policy("p", 0)).expect("a policy");
    index.backup_policy_stored(&policy);
    for n in 0..runs {
        index.backup_stored(&run("p", n));
        index.take_woken_backups();
    }
    index
}

/// What one event costs: a run is stored as each of these in turn, and its policy is asked what its runs come to. In microseconds.
fn event(index: &mut Index, turns: &[Backup]) -> f64 {
    let begun = Instant::now();
    let rounds = 2_000;
    for next in turns.iter().cycle().take(rounds) {
        index.backup_stored(next);
        black_box(index.take_woken_backups());
        black_box(index.backup_runs("n/p").last_good);
    }
    begun.elapsed().as_secs_f64() * 1e6 / rounds as f64
}

/// The run, and the same with this in its status.
fn turning(run: &Backup, status: &Value) -> [Backup; 2] {
    let mut turned = serde_json::to_value(run).expect("a run");
    let fields = turned["status"].as_object_mut().expect("a status");
    fields.extend(status.as_object().expect("fields").clone());
    [run.clone(), serde_json::from_value(turned).expect("a run")]
}

/// What of all runs the beginning of a prune looks at, in milliseconds; how many points it would forget.
fn prune(index: &Index, policy: &BackupPolicy) -> (f64, usize) {
    let now = Timestamp::from_second(1_900_000_000).expect("a time");
    let begun = Instant::now();
    let runs = index.backups_of("n/p");
    let points = retention::points(runs.iter().map(AsRef::as_ref), &index.held_by_drills("n/p"));
    let forgets = retention::plan(&policy.spec.retention, &points, now).forget.len();
    (begun.elapsed().as_secs_f64() * 1e3, forgets)
}

fn main() {
    let (mut few, mut many) = (index(100), index(100_000));
    let (newest_few, newest_many) = (run("p", 99), run("p", 99_999));
    let at = "2026-11-23T08:00:00Z";
    let turns = [
        ("is stored again", json!({})),
        ("turns corrupt and back", json!({"verified": {"drillRun": "d", "at": at, "verdict": "Corrupt"}})),
        ("is forgotten and back", json!({"retention": {"forgottenAt": at}})),
    ];
    for (what, status) in turns {
        let (turns_few, turns_many) = (turning(&newest_few, &status), turning(&newest_many, &status));
        let mut ratios = Vec::new();
        let (mut one, mut other) = (f64::MAX, f64::MAX);
        for _ in 0..9 {
            let (a, b) = (event(&mut few, &turns_few), event(&mut many, &turns_many));
            (one, other) = (one.min(a), other.min(b));
            ratios.push(b / a);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "the newest {what}, and the newest good point is asked for: among 100 runs {one:.1} us, among 100,000 {other:.1} us (median ratio {:.2})",
            ratios[4]
        );
    }
    let of: BackupPolicy = serde_json::from_value(policy("p", 0)).expect("a policy");
    for (runs, index) in [("100", &few), ("100,000", &many)] {
        let (milliseconds, forgets) = prune(index, &of);
        println!("a prune looks at {runs} runs once: {milliseconds:.2} ms, {forgets} points are to be forgotten");
    }
    schedules();
}

/// A month of slots, decided when they are due and never else.
fn schedules() {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().expect("a time");
    let end = start + SignedDuration::from_hours(24 * DAYS);
    let specs: Vec<BackupPolicySpec> = (0..POLICIES)
        .map(|n| serde_json::from_value(policy(&format!("p{n}"), n)["spec"].clone()).expect("a spec"))
        .collect();
    let mut progress: Vec<Vec<ScheduleStatus>> = vec![Vec::new(); POLICIES];
    let mut due: BTreeSet<(Timestamp, usize)> = (0..POLICIES).map(|n| (start, n)).collect();
    let (begun, mut runs, mut passes, mut worst) = (Instant::now(), 0_u64, 0_u64, SignedDuration::ZERO);
    let mut in_one_minute: BTreeMap<i64, u64> = BTreeMap::new();
    while let Some((now, n)) = due.pop_first().filter(|(at, _)| *at < end) {
        passes += 1;
        let (name, uid) = (format!("p{n}"), format!("uid-p{n}"));
        let decision = slots::decide(&SlotFacts {
            policy: &name,
            uid: &uid,
            created_at: start,
            schedules: &specs[n].schedules,
            progress: &progress[n],
            overlap: specs[n].overlap,
            jitter: None,
            suspended: false,
            run_on_resume: false,
            suspended_since: None,
            active: None,
            existing: Existing(&|_| None),
            now,
        });
        if let Some(run) = &decision.begin {
            runs += 1;
            worst = worst.max(now.duration_since(run.slot));
            *in_one_minute.entry(now.as_second() / 60).or_default() += 1;
        }
        progress[n] = decision.progress;
        if let Some(at) = decision.wake_at {
            due.insert((at, n));
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{POLICIES} policies for {DAYS} days: {runs} runs in {passes} passes, none later than {} s of virtual time; most in one minute: {}; {:.0} decisions per second",
        worst.as_secs_f64(),
        in_one_minute.values().max().copied().unwrap_or_default(),
        f64::from(u32::try_from(passes).unwrap_or(u32::MAX)) / seconds
    );
}
