//! The receiver's Deployment: like the writer of a heartbeat announced by a condition before it is made, made anew whenever it
//! must look otherwise, and computed again by the webhook.

use interlock_crds::{BackupPolicy, BackupPolicyStatus, PodOptions};
use serde_json::{Value, json};

use super::{RECEIVER_PLAN_VARIABLE, ReceiverPlan};
use crate::backup::{
    heartbeat::writer::{Told, WriterStep, decide as decide_writer, is_as_wanted, of_one_pod},
    permit::owner,
    plan::{EXCHANGE_PATH, PROGRAMS_PATH, SCRATCH_PATH, SECRETS_PATH, WAL_PATH},
    pods::{
        Images,
        build::{NOBODY, Pod, place, restricted, security},
    },
};

/// Condition of a BackupPolicy about its receiver.
pub const CONDITION: &str = "WalReceived";
/// Label of the receiver's pods with the uid of the policy: runs are scheduled beside them, as a volume may be of one node alone.
pub const RECEIVER_LABEL: &str = "interlock.dev/wal-of";

/// Name of the receiver's Deployment.
pub fn receiver_name(policy: &str) -> String {
    format!("{policy}-wal")
}

/// The receiver's Deployment; none if the policy receives nothing.
pub fn deployment(policy: &BackupPolicy, images: &Images<'_>) -> Option<Value> {
    let plan = ReceiverPlan::of(&policy.spec)?;
    let server = policy.spec.source.postgres.as_ref()?;
    let claim = &server.wal.as_ref()?.persistent_volume_claim;
    let meta = &policy.metadata;
    let (name, uid) = (meta.name.as_deref()?, meta.uid.as_deref()?);
    let program = format!("{PROGRAMS_PATH}/interlock");
    let receiver = json!({
        "name": "receiver", "image": server.image.as_deref().unwrap_or(images.postgres),
        "command": [program, "runner", "wal"],
        "env": [
            {"name": RECEIVER_PLAN_VARIABLE, "value": serde_json::to_string(&plan).unwrap_or_default()},
            {"name": "TMPDIR", "value": SCRATCH_PATH},
            {"name": "HOME", "value": SCRATCH_PATH},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": restricted(),
        "readinessProbe": {
            "exec": {"command": [program, "runner", "wal", "--check"]},
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 1,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "programs", "mountPath": PROGRAMS_PATH},
            {"name": "exchange", "mountPath": EXCHANGE_PATH},
            {"name": "scratch", "mountPath": SCRATCH_PATH},
            {"name": "spool", "mountPath": WAL_PATH},
            {"name": "source-secret", "mountPath": format!("{SECRETS_PATH}/source"), "readOnly": true},
        ],
    });
    let default = PodOptions::default();
    let options = policy.spec.pod.as_ref().unwrap_or(&default);
    let install = Pod::small("install", images.interlock, &["interlock", "runner", "install", PROGRAMS_PATH]);
    let mut spec = json!({
        "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 10,
        // A fresh spool belongs to root.
        "securityContext": security(options, Some(options.run_as_group.unwrap_or(NOBODY))),
        "initContainers": [install], "containers": [receiver],
        "volumes": [
            {"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "exchange", "emptyDir": {"sizeLimit": "16Mi"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "spool", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "source-secret", "secret": {"secretName": server.secret_ref.name}},
        ],
    });
    place(&mut spec, options, &options.same_node_as);
    let own = ("wal-receiver", RECEIVER_LABEL);
    Some(of_one_pod((name, uid), meta.namespace.as_deref(), &receiver_name(name), own, &spec))
}

/// Whether the receiver was announced: from then on it may be there.
pub fn is_announced(status: &BackupPolicyStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == CONDITION)
}

/// What follows for the receiver: as for the writer of a heartbeat, told in its own words.
pub fn decide(
    policy: &str,
    wanted: Option<&Value>,
    announced: bool,
    can_be_used: bool,
    live: Option<&Value>,
) -> (WriterStep, Option<Told>) {
    let (step, told) = decide_writer(policy, wanted, announced, can_be_used, live);
    let own = |told: Told| match told.reason {
        "Writing" => {
            let message = "the write-ahead log is received".to_owned();
            Told { is_ready: true, reason: "Receiving", message }
        }
        "Stopping" => Told { message: "the policy receives no write-ahead log any more".to_owned(), ..told },
        "NotReady" => {
            let name = live.and_then(|live| live.pointer("/metadata/name")?.as_str()).unwrap_or_default();
            let why = format!(
                "the write-ahead log is not received; `kubectl logs deployment/{name}` says why, if its pod runs. Until it is, no newer moment can be recovered"
            );
            Told { message: why, ..told }
        }
        _ => Told { message: told.message.replace("writer", "receiver"), ..told },
    };
    (step, told.map(own))
}

/// Whether the webhook lets the executor make this Deployment away: it is a policy's receiver, and not the one that it wants.
pub fn may_go(live: &Value, policy: Option<&BackupPolicy>, images: &Images<'_>) -> bool {
    let Some(("BackupPolicy", _, uid)) = owner(live) else { return false };
    let policy = policy.filter(|policy| policy.metadata.uid.as_deref() == Some(uid));
    policy.and_then(|policy| deployment(policy, images)).is_none_or(|wanted| !is_as_wanted(live, &wanted))
}
