//! A GiB of files and a GiB of a database on a real node: a run through Interlock against the same command typed by hand, and
//! what of a drill takes how long. Run by `cargo xtask bench --backups`; needs root.
//!
//! Both sides are a Job with the same volumes and limits, each into a new repository of its own, by turns and with the data read once
//! before. A Job that does nothing tells what the start of a pod costs. Times are what Kubernetes and Interlock record of pods,
//! containers, Jobs and Backups: whole seconds, so that one run is true to about a second and means over the rounds to less.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on should stop")]

use std::{array, fs, process::Command, time::Duration};

use interlock_cluster::NodeOptions;
use interlock_tests::{
    eventually,
    vault::{self, PASSWORD, Scene, claim, database, instant, outcome, policy, repository, segments},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const VOLUMES: usize = 8;
/// Each leaves four repositories of a GiB.
const ROUNDS: usize = 3;
const LONG: Duration = Duration::from_mins(15);
const POSTGRES: i64 = 70;
/// More memory than a GiB of new data asks of restic.
const LIMITS: &str = "2Gi";

fn main() {
    let mebibytes: u64 = std::env::var("INTERLOCK_BENCH_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1_024);
    let node = NodeOptions { volumes: VOLUMES, volume_size: "16Gi".to_owned(), ..NodeOptions::default() };
    let Some(world) = vault::world("bench-vault", node) else { return };
    let pod = json!({"runAsUser": POSTGRES, "runAsGroup": POSTGRES, "fsGroup": POSTGRES, "resources": {"limits": {"memory": LIMITS}}});
    let with_pod = json!({ "pod": pod });
    let mut objects: Vec<Value> = (0..ROUNDS)
        .flat_map(|n| {
            let kind = |kind: &str| repository(&format!("{kind}-{n}"), &format!("/{kind}-{n}"), "vault", &with_pod);
            [kind("files"), kind("database")]
        })
        .collect();
    objects.push(claim("scratch"));
    objects.extend((0..ROUNDS).map(|n| {
        let source = json!({"files": {"persistentVolumeClaim": "data"}});
        policy(&format!("files-{n}"), &format!("files-{n}"), source, &with_pod)
    }));
    objects.extend(database(&["-c", "fsync=off"]));
    let scene = Scene::set(&world, "bench", VOLUMES, objects);
    let data = scene.volume("data");
    for n in 0..mebibytes {
        let mut bytes = vec![0; 1 << 20];
        noise(n, &mut bytes);
        fs::write(data.join(format!("{n:04}")), bytes).expect("room for the files");
    }
    let nothing: Vec<Run> = (0..ROUNDS).map(|n| by_hand(&scene, &format!("nothing-{n}"), "true")).collect();
    let pod_start = mean(nothing.iter().map(Run::whole));
    println!("a Job that does nothing: {pod_start:.1} s from its creation to its end (mean of {ROUNDS})");

    println!("{mebibytes} MiB of files:");
    let read = || {
        for n in 0..mebibytes {
            fs::read(data.join(format!("{n:04}"))).expect("the file of before");
        }
    };
    compare(&scene, "files", pod_start, &read, |n| {
        format!("restic backup --host hand /source -r /vault/hand-files-{n}")
    });
    fill(&scene, mebibytes);
    let host = scene.database();
    let policies = (0..ROUNDS).map(|n| {
        let postgres =
            json!({"host": host, "secretRef": {"name": "database"}, "sslMode": "Disable", "databases": ["postgres"]});
        policy(&format!("database-{n}"), &format!("database-{n}"), json!({ "postgres": postgres }), &with_pod)
    });
    scene.agreed("databases", policies.collect());
    println!("{mebibytes} MiB of a database:");
    let address = host.as_str().unwrap_or_default();
    let read = || {
        scene.ask("database", "select sum(length(text)) from filler");
    };
    compare(&scene, "database", pod_start, &read, |n| {
        format!(
            "restic backup --host hand -r /vault/hand-database-{n} --stdin-filename dump.sql --stdin-from-command -- sh -c \
             'pg_dumpall -h {address} -U postgres --globals-only && pg_dump -h {address} -U postgres postgres'"
        )
    });
    let files = json!({"validations": [{"name": "every file", "files": {"verifyAll": true}}]});
    drill(&scene, "files-0", files, &pod);
    let rows = json!({"name": "rows", "sql": {"database": "postgres", "query": "select count(*) from filler", "expect": "result > 0"}});
    drill(&scene, "database-0", json!({"validations": [rows]}), &pod);
}

/// Bytes that nothing compresses, the same for the same number.
fn noise(seed: u64, bytes: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// A table of so many MiB of text.
fn fill(scene: &Scene<'_>, mebibytes: u64) {
    scene.ask("database", "create table filler (n int, text text)");
    let text = "select string_agg(md5(n::text || '-' || m::text), '') from generate_series(1, 32) m";
    scene.ask(
        "database",
        &format!("insert into filler select n, ({text}) from generate_series(1, {}) n", mebibytes * 1_024),
    );
}

/// The parts of a run, each from one of its moments to the next.
const PARTS: [&str; 6] =
    ["until the pod", "its start", "programs put in place", "the command", "reading back", "until it is recorded"];
/// The one that is the same by hand and through Interlock.
const COMMAND: usize = 3;

/// When each part of a run began, and the last ended.
struct Run([Timestamp; PARTS.len() + 1]);

impl Run {
    fn part(&self, part: usize) -> f64 {
        self.0[part + 1].duration_since(self.0[part]).as_secs_f64()
    }

    fn whole(&self) -> f64 {
        self.0[PARTS.len()].duration_since(self.0[0]).as_secs_f64()
    }
}

/// Runs by turns, and what they took.
fn compare(scene: &Scene<'_>, what: &str, pod_start: f64, read: &dyn Fn(), command: impl Fn(usize) -> String) {
    let (mut hand, mut ours) = (Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let name = format!("{what}-{n}");
        by_hand(scene, &format!("init-{name}"), &format!("restic init -q -r /vault/hand-{name}"));
        let mut typed = || {
            settle(read);
            hand.push(by_hand(scene, &format!("hand-{name}"), &command(n)));
        };
        let mut through = || {
            settle(read);
            ours.push(through_interlock(scene, &name));
        };
        if n % 2 == 0 {
            typed();
            through();
        } else {
            through();
            typed();
        }
        fs::remove_dir_all(scene.volume("vault").join(format!("hand-{name}"))).expect("the repository made by hand");
        println!(
            "  round {n}: the command by hand {:.0} s, through Interlock {:.0} s, whole {:.0} s and {:.0} s",
            hand[n].part(COMMAND),
            ours[n].part(COMMAND),
            hand[n].whole(),
            ours[n].whole()
        );
    }
    let parts =
        |runs: &[Run]| -> [f64; PARTS.len()] { array::from_fn(|part| mean(runs.iter().map(|run| run.part(part)))) };
    let (by_hand, through) = (parts(&hand), parts(&ours));
    for (part, name) in PARTS.iter().enumerate() {
        println!(
            "  {name}: by hand {:.1} s, through Interlock {:.1} s (means of {ROUNDS})",
            by_hand[part], through[part]
        );
    }
    let typed = by_hand[COMMAND];
    let whole = mean(ours.iter().map(Run::whole));
    println!("  the command: ratio {:.3}", through[COMMAND] / typed);
    println!(
        "  the whole run: {whole:.1} s, which is {typed:.1} s of the command typed by hand, {pod_start:.1} s of a pod's start, and {:.1} % \
         more (aim: below 5 %)",
        (whole - pod_start - typed) / typed * 100.0
    );
}

/// The same state before each run: the data in memory, nothing left to be written.
fn settle(read: &dyn Fn()) {
    read();
    assert!(Command::new("sync").status().is_ok_and(|status| status.success()), "sync");
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// A run of this policy.
fn through_interlock(scene: &Scene<'_>, policy: &str) -> Run {
    let run = scene.begin(policy);
    let backup = eventually(LONG, || {
        let backup = scene.stage.get(&format!("backups/{run}"));
        if backup["status"]["finishedAt"].is_string() { Ok(backup) } else { Err(format!("{:#}", backup["status"])) }
    });
    assert_eq!(backup["status"]["phase"], "Succeeded", "{:#}", backup["status"]);
    let pod = pod_of(scene, &scene.stage.namespace, &run);
    let (first, _) = container(&pod, "install");
    let (started, finished) = container(&pod, "tool");
    let (_, told) = container(&pod, "report");
    Run([
        instant(&backup["metadata"]["creationTimestamp"]),
        instant(&pod["metadata"]["creationTimestamp"]),
        first,
        started,
        finished,
        told,
        instant(&backup["status"]["finishedAt"]),
    ])
}

fn pod_of(scene: &Scene<'_>, namespace: &str, job: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=batch.kubernetes.io/job-name={job}");
    scene.world.admin().get(&path).expect("pods")["items"][0].clone()
}

/// When a container that has ended started, and when it ended.
fn container(pod: &Value, name: &str) -> (Timestamp, Timestamp) {
    let all = ["initContainerStatuses", "containerStatuses"].map(|field| pod["status"][field].clone());
    let mut all = all.iter().filter_map(Value::as_array).flatten();
    let found =
        all.find(|one| one["name"] == name).unwrap_or_else(|| panic!("no container {name}: {:#}", pod["status"]));
    let ended = &found["state"]["terminated"];
    (instant(&ended["startedAt"]), instant(&ended["finishedAt"]))
}

/// A Job with this command.
fn by_hand(scene: &Scene<'_>, name: &str, command: &str) -> Run {
    let namespace = "by-hand";
    let admin = scene.world.admin();
    let _ = admin.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
    let restic = interlock_cluster::Tools::ensure_these(&[interlock_cluster::Tool::Restic]).expect("restic");
    let programs = restic.path(interlock_cluster::Tool::Restic).parent().expect("a folder").to_owned();
    let mount = |claim: &str, at: &str| {
        (json!({"name": claim, "hostPath": {"path": scene.volume(claim)}}), json!({"name": claim, "mountPath": at}))
    };
    let (mut volumes, mut mounts): (Vec<_>, Vec<_>) =
        [mount("data", "/source"), mount("vault", "/vault"), mount("scratch", "/scratch")].into_iter().unzip();
    volumes.push(json!({"name": "programs", "hostPath": {"path": programs}}));
    mounts.push(json!({"name": "programs", "mountPath": "/programs", "readOnly": true}));
    let script = format!("export PATH=/programs:$PATH; {command}");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "securityContext": {"runAsUser": POSTGRES, "runAsGroup": POSTGRES},
            "volumes": volumes,
            "containers": [{
                "name": "tool", "image": "postgres:15", "command": ["sh", "-c", script], "volumeMounts": mounts,
                "resources": {"limits": {"memory": LIMITS}},
                "env": [
                    {"name": "RESTIC_PASSWORD", "value": PASSWORD}, {"name": "RESTIC_CACHE_DIR", "value": "/scratch/cache"},
                    {"name": "TMPDIR", "value": "/scratch"}, {"name": "HOME", "value": "/scratch"},
                ],
            }],
        }}},
    });
    admin.create(&job).expect("a Job");
    let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}");
    let job = eventually(LONG, || {
        let job = admin.get(&path).map_err(|error| error.to_string())?;
        assert!(job["status"]["failed"].as_u64().is_none(), "{name}: {}", log(scene, namespace, name, "tool"));
        if job["status"]["completionTime"].is_string() { Ok(job) } else { Err(format!("{:#}", job["status"])) }
    });
    let pod = pod_of(scene, namespace, name);
    let (started, finished) = container(&pod, "tool");
    Run([
        instant(&job["metadata"]["creationTimestamp"]),
        instant(&pod["metadata"]["creationTimestamp"]),
        started,
        started,
        finished,
        finished,
        instant(&job["status"]["completionTime"]),
    ])
}

fn log(scene: &Scene<'_>, namespace: &str, job: &str, container: &str) -> String {
    let job = format!("job/{job}");
    let arguments = ["-n", namespace, "logs", &job, "-c", container];
    scene.world.kubectl(interlock_cluster::ADMIN, &arguments, "").1
}

fn drill(scene: &Scene<'_>, policy: &str, more: Value, pod: &Value) {
    let mut more = more;
    more["sandbox"] = json!({"pod": pod, "volumeSize": "4Gi", "quota": {"cpu": "4", "memory": "8Gi"}});
    if policy.starts_with("database") {
        more["sandbox"]["application"] = json!({"postgres": {"runAsUser": POSTGRES, "image": "postgres:15"}});
    }
    scene.drill(policy, policy, &more);
    let run = scene.ask_for_drill(policy, &[]);
    let status = eventually(LONG, || {
        let status = scene.status(&format!("drillruns/{run}"));
        if status["cleanup"]["state"] == "Done" { Ok(status) } else { Err(format!("{status:#}")) }
    });
    let (phase, reason) = outcome(&status);
    if phase != "Passed" {
        println!("drill of {policy}: {phase} ({reason}): {}", status["message"]);
        return;
    }
    let parts: Vec<_> = segments(&status).into_iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    println!(
        "drill of {policy}: {phase} ({reason}), recovery time {} s: {}",
        status["rto"]["seconds"],
        parts.join(", ")
    );
}
