//! A month of ten thousand BackupPolicies that all want the same night: a repository for each hundred of them, a copy each week
//! and a complete one each month, spread over four hours by the policies' own uids. The whole controller runs, and the cluster
//! around it, in one process: what it takes is more than the controller takes, whose own part of the time is told beside it.

use std::collections::BTreeMap;

use interlock_core::backup::slots::jitter_offset;
use interlock_crds::{API_VERSION, Backup, BackupPhase, BackupPolicy, GROUP};
use interlock_rehearsal::faults::Faults;
use interlock_rehearsal::world::{Happening, Options, World};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const DAYS: i64 = 30;
const OF_ONE_REPOSITORY: usize = 100;
const JITTER: &str = "4h";

/// Plays them.
pub fn measure(policies: usize) {
    let start: Timestamp = "2026-10-31T12:00:00Z".parse().expect("a time");
    let options = Options { seed: 1, start, controllers: 1, faults: Faults::default() };
    let mut world = World::new(&options);
    world.seed_objects(&objects(policies)).expect("the policies");
    let (begun, until) = (super::processor_seconds(), start + SignedDuration::from_hours(24 * DAYS));
    let (mut steps, mut runs, mut worst) = (0_u64, 0_u64, SignedDuration::ZERO);
    let mut of_minute = BTreeMap::<i64, u64>::new();
    while world.step(until) {
        steps += 1;
        for happening in world.take_happened() {
            let Happening::Stored(audit) = happening else { continue };
            let new = audit.new.as_ref().filter(|_| audit.id.kind == "Backup" && audit.old.is_none());
            let Some(new) = new else { continue };
            let run: Backup = serde_json::from_value((**new).clone()).expect("a run");
            let (slot, uid) = (run.spec.slot.expect("of a slot").time.0, run.spec.policy_uid.expect("of a policy"));
            let due = slot + jitter_offset(&uid, Some(JITTER.parse().expect("a length")));
            runs += 1;
            worst = worst.max(audit.at.duration_since(due));
            *of_minute.entry(audit.at.as_second() / 60).or_default() += 1;
        }
    }
    let seconds = super::processor_seconds() - begun;
    let calls = world.calls_made();
    let good = |object: &Value| {
        let run: Backup = serde_json::from_value(object.clone()).expect("a run");
        run.status.is_some_and(|status| status.phase == BackupPhase::Succeeded)
    };
    let succeeded = world.objects(GROUP, "Backup").iter().filter(|object| good(object)).count();
    let missed = world.objects(GROUP, "BackupPolicy").iter().filter(|object| has_missed(object)).count();
    println!(
        "{policies} BackupPolicies for {DAYS} days: {runs} runs, {succeeded} succeeded, {missed} policies missed a slot, none later than {:.3} s of virtual time; most in one minute {}; {:.1} calls a run; {seconds:.1} s of processor time, of which the controller {:.1} s, peak memory {} MiB, {steps} steps",
        worst.as_secs_f64(),
        of_minute.values().max().copied().unwrap_or_default(),
        calls as f64 / runs as f64,
        world.controllers_took().as_secs_f64(),
        super::peak_mib(),
    );
}

fn has_missed(object: &Value) -> bool {
    let policy: BackupPolicy = serde_json::from_value(object.clone()).expect("a policy");
    policy.status.is_none_or(|status| status.schedules.iter().any(|schedule| schedule.missed_slots.is_some()))
}

fn objects(policies: usize) -> Vec<Value> {
    let own = |kind: &str, namespace: Option<&str>, name: &str, spec: Value| {
        let mut object = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    };
    let normal = json!({"approvals": {"thresholds": [{"name": "peers", "count": 1, "groups": ["peers"]}]}});
    let mut objects = vec![own("ChangePolicy", None, "all", json!({"types": {"normal": normal}}))];
    for number in 0..policies.div_ceil(OF_ONE_REPOSITORY) {
        let namespace = format!("system-{number}");
        let placed = |kind: &str, name: &str, spec: Option<Value>| {
            let metadata = json!({"name": name, "namespace": namespace});
            let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
            if let Some(spec) = spec {
                object["spec"] = spec;
            }
            object
        };
        let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let restic = json!({"url": format!("rest:https://vault.example/{namespace}/"), "secretRef": {"name": "vault"}});
        objects.extend([
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
            placed("ServiceAccount", "executor", None),
            placed("PersistentVolumeClaim", "data", Some(claim)),
            own("BackupRepository", Some(&namespace), "vault", json!({ "restic": restic })),
        ]);
        let first = number * OF_ONE_REPOSITORY;
        let here = first..policies.min(first + OF_ONE_REPOSITORY);
        objects.extend(here.map(|n| own("BackupPolicy", Some(&namespace), &format!("policy-{n}"), policy())));
        let spec = json!({
            "tier": "High", "mode": "Enforce", "namespaces": [namespace], "policyRef": {"name": "all"},
            "executor": {"type": "Interlock", "serviceAccount": {"namespace": namespace, "name": "executor"}},
        });
        objects.push(own("System", None, &namespace, spec));
    }
    objects
}

fn policy() -> Value {
    json!({
        "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "jitter": JITTER,
        "schedules": [
            {"name": "weekly", "schedule": "30 2 * * 0", "timeZone": "Europe/Berlin"},
            {"name": "monthly", "mode": "Full", "schedule": "30 2 1 * *", "timeZone": "Europe/Berlin"},
        ],
        "retention": {"keepLast": 3}, "objectives": {"rpo": "8d"},
    })
}
