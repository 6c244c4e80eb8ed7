//! Random histories of backups: slots, prunes, drills and people who ask for more of each, all in one hour and in one
//! repository, so that they meet.

use interlock_crds::API_VERSION;
use interlock_sim::workloads::{Behaviour, Effect};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::people::{Act, Disturbance, own, user};

/// When the last run is asked for, after every slot.
const LAST: i64 = 52 * 60_000;

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": "teller"}, "spec": spec})
}

/// A repository, a policy and a drill of System teller, and somebody who answers outside every sandbox. The schedules are of
/// the hour in which histories begin: after it everything can be quiet.
pub(super) fn objects() -> Vec<Value> {
    let labels = json!({"app": "echo"});
    let of_core = |version: &str, kind: &str, name: &str, spec: &Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "teller"}, "spec": spec});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "echo", "image": "echo:1"}]}});
    vec![
        of_core(
            "v1",
            "PersistentVolumeClaim",
            "data",
            &json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        ),
        of_core("apps/v1", "Deployment", "echo", &json!({"selector": {"matchLabels": labels}, "template": template})),
        of_core("v1", "Service", "echo", &json!({"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]})),
        object(
            "BackupRepository",
            "vault",
            &json!({
                "restic": {"url": "rest:https://vault.bank.example/teller/", "secretRef": {"name": "vault"}},
                "prune": {"schedule": "2,12,22,32,42,52 8 * * *"},
            }),
        ),
        object(
            "BackupPolicy",
            "files",
            &json!({
                "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}},
                "schedules": [{"name": "often", "schedule": "*/10 8 * * *"}], "overlap": "Wait", "deadline": "20m",
                "retention": {"keepLast": 1},
            }),
        ),
        object(
            "RestoreDrill",
            "often",
            &json!({
                "policyRef": {"name": "files"}, "schedule": "15,30,45 8 * * *", "timeouts": {"restore": "20m"},
                "sandbox": {
                    "isolationTarget": {"service": "echo.teller", "port": 8080},
                    "application": {"podTemplate": {"spec": {"containers": [{"name": "app", "image": "app:1"}]}}},
                },
                "validations": [
                    {"name": "there", "timeout": "12m", "files": {}},
                    {"name": "page", "critical": false, "http": {"port": 8080}},
                ],
            }),
        ),
    ]
}

/// How long everything takes; at times the one critical validation cannot run.
pub(super) fn behaviours(rng: &mut fastrand::Rng) -> Vec<Behaviour> {
    let of =
        |workload: &str, effect: Effect| Behaviour { workload: Some(workload.to_owned()), ..Behaviour::of(effect) };
    let mut within = |least: i64, most: i64| Effect::JobSucceedsAfter(SignedDuration::from_secs(rng.i64(least..most)));
    let (backup, prune, restore) = (within(5, 150), within(5, 120), within(5, 200));
    let validation = within(30, 540);
    let validation = if rng.u8(..4) == 0 { Effect::JobFails { times: 1 } } else { validation };
    vec![
        of("validation-0", validation),
        of("often-*-restore", restore),
        of("vault-prune-*", prune),
        of("files-*", backup),
    ]
}

/// What people do meanwhile: they ask for runs and think better of it.
pub(super) fn acts(rng: &mut fastrand::Rng) -> Vec<(i64, Act)> {
    let bob = || user("bob", &["sre"]);
    let backup = |name: &str| object("Backup", name, &json!({"policyRef": {"name": "files"}, "requester": "bob"}));
    let mut acts = vec![(LAST, Act::Create(bob(), backup("last")))];
    for n in 0..rng.usize(1..5) {
        let at = rng.i64(60_000..LAST - 120_000);
        let (kind, name, asked) = match rng.u8(..4) {
            0 => {
                acts.push((at, Act::Fault(Disturbance::Crash)));
                continue;
            }
            1 => {
                let name = format!("asked-drill-{n}");
                let mut spec = json!({"drillRef": {"name": "often"}, "requester": "bob"});
                if rng.bool() {
                    spec["faultInjection"] = json!({"fault": "DeleteFiles", "path": "/data"});
                }
                ("DrillRun", name.clone(), object("DrillRun", &name, &spec))
            }
            _ => {
                let name = format!("asked-{n}");
                ("Backup", name.clone(), backup(&name))
            }
        };
        acts.push((at, Act::Create(bob(), asked)));
        if rng.u8(..3) == 0 {
            let admin = user("admin", &["system:masters"]);
            acts.push((at + rng.i64(1_000..120_000), Act::Delete(admin, own(kind, "teller", &name))));
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}
