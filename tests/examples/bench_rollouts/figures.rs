//! What is measured, and how: processor and memory by /proc, requests and reactions by the API server's audit log, which
//! sees both controllers alike.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    thread,
    time::Duration,
};

use interlock_tests::audit::Event;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::NAME_LENGTH;

/// Times of one controller that are compared, in milliseconds.
#[derive(Debug, Default)]
pub struct Reaction {
    /// Half of them are below it.
    pub p50: f64,
    /// 99 of 100 are below it.
    pub p99: f64,
    /// How many there are.
    pub samples: usize,
}

/// Figures of one controller.
#[derive(Debug, Default)]
pub struct Figures {
    /// From the first release's beginning to the last one's end.
    pub seconds: f64,
    /// From the first release's end to the last one's: how far they are apart.
    pub spread: f64,
    /// Processor seconds of the controller in that time.
    pub cpu: f64,
    /// Those that it took before, for whatever must be done before a release begins.
    pub cpu_before: f64,
    /// Most memory that it had, in MiB.
    pub peak_mib: f64,
    /// What was asked of the API server in that time.
    pub requests: Requests,
    /// From a pod's status to the next write, of releases one after another.
    pub alone: Reaction,
    /// The same when all are under way.
    pub crowded: Reaction,
    /// Requests in a minute in which nothing happens, renewals of leases aside, by verb and resource.
    pub idle: BTreeMap<String, usize>,
}

/// Requests of one time, counted.
#[derive(Debug, Default)]
pub struct Requests {
    /// Writes of the controller by verb and resource, those that failed or were only tried under names of their own.
    pub written: BTreeMap<String, usize>,
    /// Stored writes of everybody else, by who it was.
    pub others: BTreeMap<String, usize>,
    /// Reads of the controller by verb and resource, watches aside.
    pub read: BTreeMap<String, usize>,
}

impl Requests {
    /// Stored writes of the controller, Events aside.
    pub fn writes(&self) -> usize {
        let counts = |what: &str| !what.ends_with(" events") && !what.starts_with("try ") && !what.ends_with(')');
        self.written.iter().filter(|(what, _)| counts(what)).map(|(_, count)| count).sum()
    }

    /// Events that it recorded.
    pub fn events(&self) -> usize {
        self.written.iter().filter(|(what, _)| what.ends_with(" events")).map(|(_, count)| count).sum()
    }

    pub fn reads(&self) -> usize {
        self.read.values().sum()
    }

    /// Stored writes of the API server's own controllers, the scheduler and the simulated nodes.
    pub fn others(&self) -> usize {
        self.others.values().sum()
    }
}

impl Figures {
    pub fn json(&self) -> Value {
        let reaction = |of: &Reaction| json!({"p50": of.p50, "p99": of.p99, "samples": of.samples});
        json!({
            "seconds": self.seconds, "spreadSeconds": self.spread,
            "cpuSeconds": self.cpu, "cpuSecondsBefore": self.cpu_before, "peakMiB": self.peak_mib,
            "writes": self.requests.writes(), "events": self.requests.events(), "reads": self.requests.reads(),
            "writesByKind": self.requests.written, "readsByKind": self.requests.read, "writesOfOthers": self.requests.others,
            "reactionMillisecondsAlone": reaction(&self.alone), "reactionMillisecondsCrowded": reaction(&self.crowded),
            "idleRequests": self.idle,
        })
    }
}

/// Processor seconds so far, and the most memory so far in MiB.
pub fn usage(process: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the controller runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the controller runs");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    ((ticks(11) + ticks(12)) / 100.0, peak.unwrap_or_default() / 1_024.0)
}

/// Each finished request since `from`, leases aside. The log of a thousand releases is too long to be held.
fn each(log: &Path, from: Timestamp, mut see: impl FnMut(&Event)) {
    let file = fs::File::open(log).expect("the audit log");
    for line in BufReader::new(file).lines() {
        let line = line.expect("the audit log");
        if line.contains("\"ResponseComplete\"")
            && !line.contains("\"resource\":\"leases\"")
            && let Ok(event) = serde_json::from_str(&line).map(Event)
            && instant(&event, "requestReceivedTimestamp") >= from
        {
            see(&event);
        }
    }
}

fn instant(event: &Event, field: &str) -> Timestamp {
    event.0[field].as_str().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `patch deployments/status`.
fn what(event: &Event) -> String {
    let reference = &event.0["objectRef"];
    let resource = reference["resource"].as_str().unwrap_or_default();
    let sub = reference["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
    let tried = if event.uri().contains("dryRun=All") { "try " } else { "" };
    let failed = if event.code() >= 300 { format!(" ({})", event.code()) } else { String::new() };
    format!("{tried}{} {resource}{sub}{failed}", event.verb())
}

/// Whoever is part of the cluster, by name; none for the people of this benchmark.
fn part_of_the_cluster(event: &Event) -> Option<String> {
    let user = event.0["user"]["username"].as_str().unwrap_or_default();
    let agent = event.0["userAgent"].as_str().unwrap_or_default();
    if agent.starts_with("kwok") {
        return Some("kwok".to_owned());
    }
    let name = user.strip_prefix("system:serviceaccount:kube-system:").or_else(|| user.strip_prefix("system:"))?;
    (!name.starts_with("serviceaccount:") && !name.starts_with("apiserver")).then(|| name.to_owned())
}

/// What was asked since `from`.
pub fn requests(log: &Path, from: Timestamp, is_theirs: impl Fn(&Event) -> bool) -> Requests {
    let mut found = Requests::default();
    each(log, from, |event| {
        let verb = event.verb();
        if is_theirs(event) {
            match verb {
                "watch" => {}
                "get" | "list" => *found.read.entry(what(event)).or_default() += 1,
                _ => *found.written.entry(what(event)).or_default() += 1,
            }
        } else if event.is_stored_write()
            && event.0["objectRef"]["resource"] != "events"
            && let Some(who) = part_of_the_cluster(event)
        {
            *found.others.entry(who).or_default() += 1;
        }
    });
    found
}

/// Requests in a quiet minute.
pub fn idle(log: &Path, is_theirs: impl Fn(&Event) -> bool) -> BTreeMap<String, usize> {
    // Old pods go, and built-in controllers tell of it.
    thread::sleep(Duration::from_secs(30));
    let from = Timestamp::now();
    thread::sleep(Duration::from_mins(1));
    let mut found = BTreeMap::new();
    each(log, from, |event| {
        if is_theirs(event) && event.verb() != "watch" {
            *found.entry(what(event)).or_default() += 1;
        }
    });
    found
}

/// The workload to which something of that name belongs.
fn workload_of(name: &str) -> Option<&str> {
    let workload = name.get(..NAME_LENGTH)?;
    workload.strip_prefix('w')?.bytes().all(|byte| byte.is_ascii_digit()).then_some(workload)
}

/// What a controller writes when pods have become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// How many pods the workload's Deployments or ReplicaSets are to have.
    Replicas,
    /// The weight in the workload's HTTPRoute, which answers to pods of its second Deployment.
    Weight,
}

/// Milliseconds from the last status of a workload's pods (stored and answered) to the controller's next `answer`
/// (received), for each such pair since `from`.
pub fn reactions(log: &Path, from: Timestamp, answer: Answer, is_theirs: impl Fn(&Event) -> bool) -> Vec<f64> {
    let mut by_workload: BTreeMap<String, Vec<(Timestamp, bool)>> = BTreeMap::new();
    each(log, from, |event| {
        let reference = &event.0["objectRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let Some(workload) = workload_of(text("name")).filter(|_| event.is_stored_write()) else { return };
        let is_new = || text("name").get(NAME_LENGTH..).is_some_and(|rest| rest.starts_with("-canary-"));
        let is_pod = match (text("resource"), text("subresource"), answer) {
            ("pods", "status", Answer::Replicas) => true,
            ("pods", "status", Answer::Weight) if is_new() => true,
            ("deployments" | "replicasets", "" | "scale", Answer::Replicas) if is_theirs(event) => false,
            ("httproutes", "", Answer::Weight) if is_theirs(event) => false,
            _ => return,
        };
        let seen = (instant(event, if is_pod { "stageTimestamp" } else { "requestReceivedTimestamp" }), is_pod);
        by_workload.entry(workload.to_owned()).or_default().push(seen);
    });
    let mut found = Vec::new();
    for mut seen in by_workload.into_values() {
        seen.sort_unstable();
        let mut last_pod = None;
        for (at, is_pod) in seen {
            if is_pod {
                last_pod = Some(at);
            } else if let Some(pod) = last_pod.take() {
                found.push(at.duration_since(pod).as_secs_f64() * 1_000.0);
            }
        }
    }
    found
}

/// Seconds from the first workload's last write to the last one's: how far the ends are apart.
pub fn spread(log: &Path, from: Timestamp, is_theirs: impl Fn(&Event) -> bool) -> f64 {
    let mut ends: BTreeMap<String, Timestamp> = BTreeMap::new();
    each(log, from, |event| {
        let reference = &event.0["objectRef"];
        let name = workload_of(reference["name"].as_str().unwrap_or_default());
        let is_end = is_theirs(event) && event.is_stored_write() && reference["resource"] != "events";
        if let Some(name) = name.filter(|_| is_end) {
            ends.insert(name.to_owned(), instant(event, "stageTimestamp"));
        }
    });
    let (first, last) = (ends.values().min(), ends.values().max());
    first.zip(last).map(|(first, last)| last.duration_since(*first).as_secs_f64()).unwrap_or_default()
}

/// Half of them are below the first, 99 of 100 below the second.
pub fn percentiles(mut values: Vec<f64>) -> Reaction {
    values.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100);
        values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    Reaction { p50: at(50), p99: at(99), samples: values.len() }
}
