//! The receiver of write-ahead log.

use interlock_crds::BackupPolicy;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{at, policy_spec};
use crate::backup::{
    heartbeat::writer::WriterStep,
    pods::Images,
    receiver::{
        RECEIVER_PLAN_VARIABLE, ReceiverEnd, ReceiverPlan, decide, deployment, is_alive, may_go, pause, receiver_end,
    },
};

const IMAGES: Images<'_> = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:18" };

fn policy(slot: &str) -> BackupPolicy {
    let mut policy = BackupPolicy::new(
        "ledger",
        policy_spec(|s| {
            s["source"] = json!({"postgres": {"host": "ledger-db", "port": 5433, "secretRef": {"name": "ledger-backup"},
            "mode": "Physical", "image": "postgres:16", "wal": {"persistentVolumeClaim": "ledger-wal", "slot": slot}}});
            s["pod"] = json!({"runAsUser": 999, "fsGroup": 998, "sameNodeAs": [{"key": "app", "value": "x"}]});
        }),
    );
    policy.metadata.namespace = Some("teller".into());
    policy.metadata.uid = Some("policy-1".into());
    policy
}

#[test]
fn a_receiver_is_one_restricted_pod_with_the_spool_and_no_token() {
    assert_eq!(deployment(&BackupPolicy::new("files", policy_spec(|_| ())), &IMAGES), None);
    let made = deployment(&policy("ledger"), &IMAGES).unwrap();
    assert_eq!((&made["metadata"]["name"], &made["spec"]["replicas"]), (&json!("ledger-wal"), &json!(1)));
    assert_eq!(made["spec"]["strategy"]["type"], "Recreate");
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["securityContext"]["fsGroup"]),
        (&json!(false), &json!(998))
    );
    assert_eq!(pod["securityContext"]["runAsUser"], 999);
    let receiver = &pod["containers"][0];
    assert_eq!(receiver["image"], "postgres:16");
    assert_eq!(receiver["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    let plan = receiver["env"].as_array().unwrap().iter().find(|v| v["name"] == RECEIVER_PLAN_VARIABLE).unwrap();
    let plan: ReceiverPlan = serde_json::from_str(plan["value"].as_str().unwrap()).unwrap();
    assert_eq!((plan.host.as_str(), plan.port, plan.slot.as_str()), ("ledger-db", 5433, "ledger"));
    let spool = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "spool").unwrap();
    assert_eq!(spool["persistentVolumeClaim"]["claimName"], "ledger-wal");
    assert!(!made.to_string().contains("vault"), "it has nothing to do with the repository");
}

#[test]
fn a_receiver_is_announced_made_told_of_and_made_anew() {
    let wanted = deployment(&policy("one"), &IMAGES).unwrap();
    let step = |announced: bool, live: Option<&Value>| decide("policy-1", Some(&wanted), announced, true, live);
    assert_eq!(step(false, None).0, WriterStep::Nothing, "announced first");
    let (made, told) = step(true, None);
    assert_eq!((made, told.unwrap().message.as_str()), (WriterStep::Create, "the receiver is made"));
    let mut live = wanted.clone();
    live["metadata"]["uid"] = json!("deployment-1");
    let told = step(true, Some(&live)).1.unwrap();
    assert!(!told.is_ready && told.message.contains("no newer moment can be recovered"), "{}", told.message);
    assert!(!may_go(&live, Some(&policy("one")), &IMAGES) && may_go(&live, Some(&policy("two")), &IMAGES));
    live["status"] = json!({"readyReplicas": 1});
    let told = step(true, Some(&live)).1.unwrap();
    assert_eq!((told.is_ready, told.reason), (true, "Receiving"));
    let other = deployment(&policy("two"), &IMAGES).unwrap();
    let (gone, _) = decide("policy-1", Some(&other), true, true, Some(&live));
    assert_eq!(gone, WriterStep::Delete("deployment-1".into()));
    let (gone, told) = decide("policy-1", None, true, true, Some(&live));
    assert_eq!((gone, told.unwrap().reason), (WriterStep::Delete("deployment-1".into()), "Stopping"));
}

#[test]
fn what_follows_depends_on_why_it_ended() {
    let removed = "pg_receivewal: error: unexpected termination of replication stream: ERROR:  requested WAL segment 000000010000000000000009 has already been removed\n";
    let gone = "pg_receivewal: error: could not send replication command \"START_REPLICATION\": ERROR:  replication slot \"vault\" does not exist\n";
    let refused = "pg_receivewal: error: connection to server at \"db\" failed: Connection refused\n";
    assert_eq!(
        [removed, gone, refused, ""].map(receiver_end),
        [ReceiverEnd::Removed, ReceiverEnd::SlotLost, ReceiverEnd::Other, ReceiverEnd::Other]
    );
    let pauses: Vec<_> = [1, 2, 3, 40].map(|attempt| pause(attempt).as_secs()).to_vec();
    assert_eq!(pauses, [2, 4, 8, 60]);
    let told = at("2026-11-23T02:00:00Z");
    assert!(
        is_alive(told, told + SignedDuration::from_secs(30)) && !is_alive(told, told + SignedDuration::from_secs(31))
    );
}
