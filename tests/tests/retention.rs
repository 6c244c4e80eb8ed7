//! What Interlock would forget, and what restic itself would by the same rules: `restic forget --dry-run --json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use interlock_cluster::{Tool, Tools};
use interlock_core::backup::{
    exposure::Standing,
    retention::{self, Point},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

const HISTORIES: u64 = 3;
const POINTS: usize = 10;
const RULE_SETS: usize = 24;

fn restic(repository: &Path) -> Command {
    let tools = Tools::ensure_these(&[Tool::Restic]).unwrap();
    let mut restic = Command::new(tools.path(Tool::Restic));
    restic.arg("--no-cache").env("RESTIC_REPOSITORY", repository).env("RESTIC_PASSWORD", "a-long-password");
    // restic counts days where its clock is.
    restic.env("TZ", "UTC").stdin(Stdio::null());
    restic
}

fn printed(mut restic: Command) -> String {
    let output = restic.output().unwrap();
    assert!(output.status.success(), "{restic:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Copies of nothing much at times by chance: some within days of each other, others within years, a few in the same hour.
fn history(repository: &Path, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut at: Timestamp = "2024-11-23T12:00:00Z".parse().unwrap();
    for _ in 0..POINTS {
        let mut backup = restic(repository);
        backup.args(["backup", "--quiet", "--host", &format!("history-{seed}")]);
        backup.args(["--time", &at.strftime("%Y-%m-%d %H:%M:%S").to_string(), "--stdin-filename", "x"]);
        printed({
            backup.args(["--stdin-from-command", "--", "echo", "x"]);
            backup
        });
        let minutes = match chance.u8(..4) {
            0 => chance.i64(1..50),
            1 => chance.i64(60..3 * 24 * 60),
            2 => chance.i64(24 * 60..40 * 24 * 60),
            _ => chance.i64(20 * 24 * 60..400 * 24 * 60),
        };
        at -= SignedDuration::from_mins(minutes);
    }
}

/// Rules by chance, as restic is told them and as a policy states them.
fn rules(chance: &mut fastrand::Rng) -> (Vec<String>, Value) {
    let (mut flags, mut rules) = (Vec::new(), json!({}));
    let kinds = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
    let within = ["within", "within-hourly", "within-daily", "within-weekly", "within-monthly", "within-yearly"];
    while flags.is_empty() {
        for kind in kinds.iter().filter(|_| chance.u8(..3) == 0).copied().collect::<Vec<_>>() {
            let count = chance.u32(1..6);
            flags.push(format!("--keep-{kind}={count}"));
            rules[field(kind)] = json!(count);
        }
        for kind in within.iter().filter(|_| chance.u8(..6) == 0).copied().collect::<Vec<_>>() {
            let length = format!("{}{}", chance.u32(1..500), if chance.bool() { "d" } else { "h" });
            flags.push(format!("--keep-{kind}={length}"));
            rules[field(kind)] = json!(length);
        }
    }
    (flags, rules)
}

/// `within-daily` is `keepWithinDaily`.
fn field(kind: &str) -> String {
    kind.split('-').fold("keep".to_owned(), |name, word| {
        let (first, rest) = word.split_at(1);
        name + &first.to_uppercase() + rest
    })
}

/// What restic would keep, by host.
fn kept(repository: &Path, flags: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let mut forget = restic(repository);
    forget.args(["forget", "--dry-run", "--json", "--group-by", "host"]).args(flags);
    let groups: Vec<Value> = serde_json::from_str(&printed(forget)).unwrap();
    let ids = |group: &Value| -> BTreeSet<String> {
        let kept = group["keep"].as_array().into_iter().flatten();
        kept.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    };
    groups.iter().map(|group| (group["host"].as_str().unwrap().to_owned(), ids(group))).collect()
}

#[test]
fn the_rules_keep_what_restic_keeps() {
    let folder = TempDir::new().unwrap();
    let repository = folder.path();
    printed({
        let mut init = restic(repository);
        init.args(["init", "--quiet"]);
        init
    });
    thread::scope(|scope| {
        for seed in 0..HISTORIES {
            scope.spawn(move || history(repository, seed));
        }
    });
    let mut list = restic(repository);
    list.args(["snapshots", "--json"]);
    let snapshots: Vec<Value> = serde_json::from_str(&printed(list)).unwrap();
    assert_eq!(snapshots.len() as u64, HISTORIES * POINTS as u64);
    // After the newest copy, as it is for restic, which takes the time from the machine.
    let now = "2024-11-24T12:00:00Z".parse().unwrap();
    let mut chance = fastrand::Rng::with_seed(7);
    let mut removed = 0;
    for _ in 0..RULE_SETS {
        let (flags, rules) = rules(&mut chance);
        for (host, kept) in kept(repository, &flags) {
            let points: Vec<Point> =
                snapshots.iter().filter(|snapshot| snapshot["hostname"] == host).map(point).collect();
            let plan = retention::plan(&serde_json::from_value(rules.clone()).unwrap(), &points, now);
            let ours: BTreeSet<String> = plan.keep.keys().cloned().collect();
            let times: BTreeMap<_, _> =
                points.iter().map(|point| (point.time, (plan.keep.get(&point.id), kept.contains(&point.id)))).collect();
            assert!(ours == kept, "{host} {flags:?}: what we keep it for, and whether restic keeps it: {times:#?}");
            removed += plan.forget.len();
        }
    }
    assert!(removed > 100, "rules that forget nothing show nothing");
}

fn point(snapshot: &Value) -> Point {
    Point {
        id: snapshot["id"].as_str().unwrap().to_owned(),
        time: snapshot["time"].as_str().unwrap().parse().unwrap(),
        standing: Standing::Good,
        proven: false,
        expired: false,
        base: None,
        in_use: false,
        held_until: None,
    }
}
