//! A GiB of files and a GiB of a database on a real node: a run through Interlock against the same command typed by hand, and
//! what of a drill takes how long. Run by `cargo xtask bench --backups`; needs root.
//!
//! Both sides are a Job with the same image, volumes and limits, into a repository of their own, by turns. A Job that does nothing
//! tells what the start of a pod costs. Times are those of the containers' log lines, so that no rounding to seconds is in them.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on should stop")]

use std::{fs, time::Duration};

use interlock_cluster::NodeOptions;
use interlock_tests::{
    eventually,
    vault::{self, PASSWORD, Scene, claim, database, outcome, policy, repository, segments},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const VOLUMES: usize = 8;
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
    let none: Vec<f64> = (0..ROUNDS).map(|n| by_hand(&scene, &format!("nothing-{n}"), "true").0).collect();
    println!("a pod that does nothing: {:.1} s from its creation to its end (median of {ROUNDS})", median(none));

    println!("{mebibytes} MiB of files:");
    compare(&scene, "files", |n| format!("restic backup --host hand --no-scan /source -r /vault/hand-files-{n}"));
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
    compare(&scene, "database", |n| {
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

/// Runs by turns, and what they took.
fn compare(scene: &Scene<'_>, what: &str, command: impl Fn(usize) -> String) {
    let (mut hand, mut ours, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let init = format!("restic init -q -r /vault/hand-{what}-{n}");
        by_hand(scene, &format!("init-{what}-{n}"), &init);
        let (total, work) = by_hand(scene, &format!("hand-{what}-{n}"), &command(n));
        hand.push(work);
        let name = format!("{what}-{n}");
        let status = scene.backup(&name, &["--timeout", "15m"]);
        let run = scene.newest(&name)["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let at = |field: &str| status[field].as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time");
        ours.push(work_of(scene, &run, "tool"));
        let created = scene.newest(&name)["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        whole.push((total, at("finishedAt").duration_since(created.expect("a time")).as_secs_f64()));
    }
    let ratios: Vec<f64> = ours.iter().zip(&hand).map(|(ours, hand)| ours / hand).collect();
    println!(
        "  by hand {:.1} s, the same in Interlock's pod {:.1} s: ratio {:.3} (medians of {ROUNDS})",
        median(hand),
        median(ours),
        median(ratios)
    );
    let (by_hand, through): (Vec<f64>, Vec<f64>) = whole.into_iter().unzip();
    println!(
        "  from the wish to the recorded result: by hand {:.1} s, through Interlock {:.1} s",
        median(by_hand),
        median(through)
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A Job with this command; seconds from its creation to its end, and of the command alone.
fn by_hand(scene: &Scene<'_>, name: &str, command: &str) -> (f64, f64) {
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
    let script = format!("export PATH=/programs:$PATH; echo begins; {command} || exit; echo ends");
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
    let begun = std::time::Instant::now();
    admin.create(&job).expect("a Job");
    let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}");
    eventually(LONG, || {
        let status = admin.get(&path).map_err(|error| error.to_string())?["status"].clone();
        assert!(status["failed"].as_u64().is_none(), "{name}: {}", log(scene, namespace, name, "tool"));
        if status["succeeded"] == 1 { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let total = begun.elapsed().as_secs_f64();
    (total, span(&log(scene, namespace, name, "tool")))
}

fn work_of(scene: &Scene<'_>, job: &str, container: &str) -> f64 {
    span(&log(scene, &scene.stage.namespace, job, container))
}

fn log(scene: &Scene<'_>, namespace: &str, job: &str, container: &str) -> String {
    let job = format!("job/{job}");
    let arguments = ["-n", namespace, "logs", &job, "-c", container, "--timestamps"];
    scene.world.kubectl(interlock_cluster::ADMIN, &arguments, "").1
}

/// Seconds between the first and the last line of a log with times.
fn span(log: &str) -> f64 {
    let times: Vec<Timestamp> =
        log.lines().filter_map(|line| line.split_whitespace().next()?.parse::<Timestamp>().ok()).collect();
    let (first, last) = (times.first().expect("a line"), times.last().expect("a line"));
    last.duration_since(*first).as_secs_f64()
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
    let parts: Vec<_> = segments(&status).into_iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    println!(
        "drill of {policy}: {phase} ({reason}), recovery time {} s: {}",
        status["rto"]["seconds"],
        parts.join(", ")
    );
}
