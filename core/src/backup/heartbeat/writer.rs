//! The writer of a policy's heartbeat: one Deployment beside the source, made anew whenever it must look otherwise.
//!
//! It is announced by condition HeartbeatReady before it is made, and taken away as long as that stands there and the policy
//! has no heartbeat any more. The webhook computes the same Deployment from the policy and lets nothing else pass.

use interlock_crds::{API_VERSION, BackupPolicy, BackupPolicyStatus, Heartbeat, PodOptions, PostgresSource, SslMode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    backup::{
        permit::owner,
        plan::{EXCHANGE_PATH, PROGRAMS_PATH, SCRATCH_PATH, SECRETS_PATH, SOURCE_PATH, below},
        pods::{
            Images,
            build::{Pod, place, restricted, security},
        },
    },
    object::{Digest, canonical_json},
};

/// The environment variable with the plan of a writer, JSON.
pub const WRITER_PLAN_VARIABLE: &str = "INTERLOCK_HEARTBEAT";
/// The form of the plan that this release writes and reads.
pub const WRITER_PLAN_VERSION: u32 = 1;
/// Condition of a BackupPolicy about its writer.
pub const CONDITION: &str = "HeartbeatReady";
/// Annotation of the Deployment with the digest of what it was made from.
const DIGEST: &str = "interlock.dev/heartbeat-digest";
/// Label of the writer's pods with the uid of the policy.
const WRITER_LABEL: &str = "interlock.dev/heartbeat-of";

/// What the writer is told. Without secrets: credentials are in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterPlan {
    /// [`WRITER_PLAN_VERSION`].
    pub version: u32,
    /// Uid of the policy.
    pub policy: String,
    /// Seconds from one record to the next.
    pub interval_seconds: i64,
    /// Path of the file, in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<PlannedTable>,
}

/// A table of a PostgreSQL server; credentials are in `/interlock/secrets/source`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedTable {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is secured.
    pub ssl_mode: SslMode,
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
}

/// Name of the writer's Deployment.
pub fn writer_name(policy: &str) -> String {
    format!("{policy}-heartbeat")
}

/// The writer's Deployment; none if the policy has no heartbeat. Of the policy alone, so that the webhook computes the same.
pub fn deployment(policy: &BackupPolicy, images: &Images<'_>) -> Option<Value> {
    let heartbeat = policy.spec.heartbeat.as_ref()?;
    let meta = &policy.metadata;
    let (name, uid) = (meta.name.as_deref()?, meta.uid.as_deref()?);
    let table = heartbeat.table.as_ref().and_then(|table| Some((table, policy.spec.source.postgres.as_ref()?)));
    let plan = WriterPlan {
        version: WRITER_PLAN_VERSION,
        policy: uid.to_owned(),
        interval_seconds: heartbeat.interval.seconds(),
        file: heartbeat.file.as_ref().map(|file| below(SOURCE_PATH, file)),
        table: table.map(|(table, server)| PlannedTable {
            host: server.host.clone(),
            port: server.port,
            ssl_mode: server.ssl_mode,
            database: heartbeat.database.clone().or_else(|| server.databases.first().cloned()).unwrap_or_default(),
            table: table.clone(),
        }),
    };
    let spec = match table {
        Some((_, server)) => of_table(policy, heartbeat, server, &plan, images),
        None => of_file(policy, heartbeat, &plan, images)?,
    };
    Some(of_one_pod((name, uid), meta.namespace.as_deref(), &writer_name(name), ("heartbeat", WRITER_LABEL), &spec))
}

/// A Deployment of one pod that belongs to the policy `(name, uid)`: `called` so, with its component and the label of its pods.
pub(in crate::backup) fn of_one_pod(
    (name, uid): (&str, &str),
    namespace: Option<&str>,
    called: &str,
    (component, label): (&str, &str),
    spec: &Value,
) -> Value {
    let labels = json!({
        "app.kubernetes.io/managed-by": "interlock", "app.kubernetes.io/component": component, label: uid,
    });
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": called, "namespace": namespace, "labels": labels,
            "ownerReferences": [{
                "apiVersion": API_VERSION, "kind": "BackupPolicy", "name": name, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            // Two writers would number their records alike, two receivers write the same files.
            "replicas": 1, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {label: uid}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    });
    let digest = canonical_json(&deployment).map(|bytes| Digest::of_bytes(&bytes).to_string()).unwrap_or_default();
    deployment["metadata"]["annotations"] = json!({DIGEST: digest});
    deployment
}

fn of_file(policy: &BackupPolicy, heartbeat: &Heartbeat, plan: &WriterPlan, images: &Images<'_>) -> Option<Value> {
    let claim = &policy.spec.source.files.as_ref()?.persistent_volume_claim;
    let mut writer = writer(images.interlock, "interlock", plan);
    writer["volumeMounts"] = json!([
        {"name": "exchange", "mountPath": EXCHANGE_PATH},
        {"name": "source", "mountPath": SOURCE_PATH},
    ]);
    let volumes = json!([
        {"name": "exchange", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "source", "persistentVolumeClaim": {"claimName": claim}},
    ]);
    Some(pod(policy, heartbeat, &json!([]), &writer, &volumes))
}

fn of_table(
    policy: &BackupPolicy,
    heartbeat: &Heartbeat,
    server: &PostgresSource,
    plan: &WriterPlan,
    images: &Images<'_>,
) -> Value {
    let image = server.image.as_deref().unwrap_or(images.postgres);
    let mut writer = writer(image, &format!("{PROGRAMS_PATH}/interlock"), plan);
    writer["volumeMounts"] = json!([
        {"name": "exchange", "mountPath": EXCHANGE_PATH},
        {"name": "programs", "mountPath": PROGRAMS_PATH},
        {"name": "scratch", "mountPath": SCRATCH_PATH},
        {"name": "source-secret", "mountPath": format!("{SECRETS_PATH}/source"), "readOnly": true},
    ]);
    // The role that may insert, and of the role that reads everything the authority of the server alone.
    let own = heartbeat.secret_ref.as_ref().map(|secret| {
        let items = ["username", "password"].map(|key| json!({"key": key, "path": key}));
        json!({"secret": {"name": secret.name, "items": items}})
    });
    let authority = json!({
        "secret": {"name": server.secret_ref.name, "optional": true, "items": [{"key": "ca.crt", "path": "ca.crt"}]},
    });
    let verifies = matches!(server.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let sources: Vec<_> = own.into_iter().chain(verifies.then_some(authority)).collect();
    let volumes = json!([
        {"name": "exchange", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": "source-secret", "projected": {"sources": sources}},
    ]);
    let install = Pod::small("install", images.interlock, &["interlock", "runner", "install", PROGRAMS_PATH]);
    pod(policy, heartbeat, &json!([install]), &writer, &volumes)
}

fn writer(image: &str, program: &str, plan: &WriterPlan) -> Value {
    let command = [program, "runner", "heartbeat"];
    json!({
        "name": "writer", "image": image, "command": command,
        "env": [
            {"name": WRITER_PLAN_VARIABLE, "value": serde_json::to_string(plan).unwrap_or_default()},
            {"name": "TMPDIR", "value": SCRATCH_PATH},
            {"name": "HOME", "value": SCRATCH_PATH},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": restricted(),
        "readinessProbe": {
            "exec": {"command": [program, "runner", "heartbeat", "--ready"]},
            "periodSeconds": plan.interval_seconds.clamp(1, 10), "timeoutSeconds": 5, "failureThreshold": 1,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn pod(policy: &BackupPolicy, heartbeat: &Heartbeat, init: &Value, writer: &Value, volumes: &Value) -> Value {
    let default = PodOptions::default();
    let options = policy.spec.pod.as_ref().unwrap_or(&default);
    let mut spec = json!({
        "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 5,
        "securityContext": security(options, None),
        "containers": [writer], "volumes": volumes,
    });
    if init.as_array().is_some_and(|init| !init.is_empty()) {
        spec["initContainers"] = init.clone();
    }
    place(&mut spec, options, &heartbeat.same_node_as);
    spec
}

/// What is to be done about the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterStep {
    /// Nothing.
    Nothing,
    /// Make it.
    Create,
    /// Delete the one with this uid.
    Delete(String),
}

/// What condition HeartbeatReady says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether the writer writes.
    pub is_ready: bool,
    /// Why, in CamelCase.
    pub reason: &'static str,
    /// Why, for a person.
    pub message: String,
}

impl Told {
    /// The writer does not write, because of this.
    pub fn not_ready(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_ready: false, reason, message: message.into() }
    }
}

/// Whether the writer was announced: from then on it may be there.
pub fn is_announced(status: &BackupPolicyStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == CONDITION)
}

/// What follows for the writer: the step, and what is told; nothing is told of a policy that has none. Only what was announced
/// before is made.
pub fn decide(
    policy: &str,
    wanted: Option<&Value>,
    announced: bool,
    can_be_used: bool,
    live: Option<&Value>,
) -> (WriterStep, Option<Told>) {
    let mine = live.filter(|live| owner(live).is_some_and(|(kind, _, uid)| kind == "BackupPolicy" && uid == policy));
    let Some(wanted) = wanted else {
        return match mine.filter(|_| announced) {
            Some(mine) => (remove(mine), Some(Told::not_ready("Stopping", "the policy has no heartbeat any more"))),
            None => (WriterStep::Nothing, None),
        };
    };
    let (step, told) = match (live, mine) {
        (Some(live), None) => {
            let name = text(live, "/metadata/name").unwrap_or_default();
            let why = format!("a Deployment {name} exists that is not of this policy; delete it if nobody needs it");
            (WriterStep::Nothing, Told::not_ready("NameTaken", why))
        }
        _ if !can_be_used && mine.is_none() => {
            let why = "no writer is made as long as the policy cannot be used: see condition Valid";
            (WriterStep::Nothing, Told::not_ready("PolicyInvalid", why))
        }
        (None, _) => (WriterStep::Create, Told::not_ready("Starting", "the writer is made")),
        (Some(_), Some(mine)) if can_be_used && !is_as_wanted(mine, wanted) => {
            (remove(mine), Told::not_ready("Replacing", "the writer is made anew, as it must look otherwise now"))
        }
        (Some(_), Some(mine)) => (WriterStep::Nothing, of_status(mine)),
    };
    if announced { (step, Some(told)) } else { (WriterStep::Nothing, Some(told)) }
}

fn remove(live: &Value) -> WriterStep {
    let going = live.pointer("/metadata/deletionTimestamp").is_some();
    let uid = text(live, "/metadata/uid").filter(|_| !going);
    uid.map_or(WriterStep::Nothing, |uid| WriterStep::Delete(uid.to_owned()))
}

/// Whether a Deployment was made from what is wanted now. What others (defaults, mutating webhooks) made of it is not looked at:
/// it would be made anew for ever.
pub fn is_as_wanted(live: &Value, wanted: &Value) -> bool {
    let digest = |object: &Value| object.pointer("/metadata/annotations")?.get(DIGEST)?.as_str().map(ToOwned::to_owned);
    digest(live).is_some_and(|found| Some(found) == digest(wanted))
        && live.pointer("/metadata/deletionTimestamp").is_none()
}

/// Whether the webhook lets the executor make this Deployment away: it is a policy's writer, and not the one that it wants.
pub fn may_go(live: &Value, policy: Option<&BackupPolicy>, images: &Images<'_>) -> bool {
    let Some(("BackupPolicy", _, uid)) = owner(live) else { return false };
    let policy = policy.filter(|policy| policy.metadata.uid.as_deref() == Some(uid));
    policy.and_then(|policy| deployment(policy, images)).is_none_or(|wanted| !is_as_wanted(live, &wanted))
}

fn of_status(live: &Value) -> Told {
    let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let name = text(live, "/metadata/name").unwrap_or_default();
    let seen = number("/status/observedGeneration") >= number("/metadata/generation");
    if seen && number("/status/readyReplicas") > 0 {
        return Told { is_ready: true, reason: "Writing", message: "the heartbeat is written".to_owned() };
    }
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let failure = conditions
        .filter(|c| text(c, "/type") == Some("ReplicaFailure") && text(c, "/status") == Some("True"))
        .find_map(|c| text(c, "/message"));
    let why = match failure {
        Some(why) => format!("the writer's pod cannot be made: {why}"),
        None => format!("the writer does not write; `kubectl logs deployment/{name}` says why, if its pod runs"),
    };
    Told::not_ready("NotReady", why.chars().take(1_024).collect::<String>())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}
