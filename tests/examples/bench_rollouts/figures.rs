//! What is measured, and how: processor and memory by /proc, requests by the API server's audit log.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use interlock_tests::audit::{self, Event};
use jiff::Timestamp;

/// Figures of one controller.
#[derive(Debug, Default)]
pub struct Figures {
    /// From the first release's beginning to the last one's end.
    pub seconds: f64,
    /// Processor seconds of the controller in that time.
    pub cpu: f64,
    /// Most memory that it had.
    pub peak_mib: f64,
    /// What it wrote in that time, by verb and resource; what is only tried is apart.
    pub written: BTreeMap<String, usize>,
    /// What it read in that time, watches aside.
    pub reads: usize,
    /// Milliseconds from the last pod's change to the controller's next write, half of them and 99 of 100.
    pub reaction: (f64, f64),
    /// Requests in a minute in which nothing happens, renewals of leases aside.
    pub idle: usize,
}

impl Figures {
    /// Writes that were stored, Events aside.
    pub fn writes(&self) -> usize {
        let is_write = |what: &&String| !what.ends_with(" events") && !what.starts_with("try ");
        self.written.iter().filter(|(what, _)| is_write(what)).map(|(_, count)| count).sum()
    }

    pub fn print(&self, name: &str, count: usize) {
        let each = |number: usize| number as f64 / count as f64;
        println!(
            "{name}: {:.1} s, {:.1} s of processor time, at most {:.0} MiB; {:.1} writes and {:.1} reads a release; \
             {:.0} ms from pod to write (99 of 100: {:.0}); {} requests in an idle minute",
            self.seconds,
            self.cpu,
            self.peak_mib,
            each(self.writes()),
            each(self.reads),
            self.reaction.0,
            self.reaction.1,
            self.idle
        );
        for (what, number) in &self.written {
            if each(*number) >= 0.05 {
                println!("  {:.1} {what}", each(*number));
            }
        }
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

/// Requests of whoever `is_theirs`, of those that were received at or after `from`.
fn requests(log: &Path, from: Timestamp, is_theirs: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = audit::events(log, "");
    events.retain(|event| received(event) >= from && event.0["objectRef"]["resource"] != "leases" && is_theirs(event));
    events
}

/// When the API server got the request.
fn received(event: &Event) -> Timestamp {
    instant(event, "requestReceivedTimestamp")
}

fn instant(event: &Event, field: &str) -> Timestamp {
    event.0[field].as_str().and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What the controller wrote, by verb and resource, and how often it read.
pub fn count(log: &Path, from: Timestamp, is_theirs: impl Fn(&Event) -> bool) -> (BTreeMap<String, usize>, usize) {
    let (mut written, mut reads) = (BTreeMap::new(), 0);
    for event in requests(log, from, is_theirs) {
        match event.verb() {
            "watch" => {}
            "get" | "list" => reads += 1,
            verb => {
                let reference = &event.0["objectRef"];
                let resource = reference["resource"].as_str().unwrap_or_default();
                let sub = reference["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
                let tried = if event.uri().contains("dryRun=All") { "try " } else { "" };
                let failed = if event.code() >= 300 { format!(" ({})", event.code()) } else { String::new() };
                *written.entry(format!("{tried}{verb} {resource}{sub}{failed}")).or_default() += 1;
            }
        }
    }
    (written, reads)
}

/// Requests in a quiet minute.
pub fn idle(log: &Path, is_theirs: impl Fn(&Event) -> bool) -> usize {
    thread::sleep(Duration::from_secs(20));
    let from = Timestamp::now();
    thread::sleep(Duration::from_mins(1));
    requests(log, from, is_theirs).iter().filter(|event| event.verb() != "watch").count()
}

/// Milliseconds from the last change of a pod to the controller's next write about the workload, for each such pair: the
/// middle and the 99th of 100.
pub fn reaction(log: &Path, from: Timestamp, name: &str, is_theirs: impl Fn(&Event) -> bool) -> Vec<f64> {
    let (mut last_pod, mut found) = (None, Vec::new());
    let mut events: Vec<(Timestamp, bool)> = audit::events(log, &format!("\"name\":\"{name}"))
        .into_iter()
        .filter(Event::is_stored_write)
        .filter_map(|event| {
            let reference = &event.0["objectRef"];
            let (resource, sub) = (reference["resource"].as_str()?, reference["subresource"].as_str());
            if resource == "pods" && sub == Some("status") {
                return Some((instant(&event, "stageTimestamp"), true));
            }
            let moves = matches!(resource, "deployments" | "replicasets") && is_theirs(&event);
            moves.then(|| (received(&event), false))
        })
        .filter(|(at, _)| *at >= from)
        .collect();
    events.sort_unstable();
    for (at, is_pod) in events {
        match (is_pod, last_pod) {
            (true, _) => last_pod = Some(at),
            (false, Some(pod)) => {
                found.push(at.duration_since(pod).as_secs_f64() * 1_000.0);
                last_pod = None;
            }
            (false, None) => {}
        }
    }
    found
}

/// Half of them are below the first, 99 of 100 below the second.
pub fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN);
    (at(50), at(99))
}
