//! The Kubernetes objects of a System as manifests: which kinds are read, how they are packed, and what of it is announced.
//!
//! Manifests travel to the pod of a run in immutable Secrets, each key one file. How many there are and what each contains is
//! recorded before the first is written, so that the webhook lets exactly these pass, and the Job mounts exactly these.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use interlock_crds::{API_VERSION, Backup, GroupKind as KindRef, ObjectsRecord, ObjectsSource, SystemSpec};
use serde_json::{Value, json};

use super::{
    outcome::{Outcome, Reason},
    pods::RUN_LABEL,
};
use crate::object::{Digest, GroupKind, canonical_json, strip_server_fields};

/// Type of the Secrets with manifests.
pub const SECRET_TYPE: &str = "interlock.dev/backup-objects";
/// Most bytes of manifests in one Secret; a single longer manifest has one of its own.
pub const MAX_CHUNK_BYTES: usize = 512 * 1024;
/// Longest manifest: what fits into a Secret.
pub const MAX_MANIFEST_BYTES: usize = 1_000_000;
/// Most Secrets of one run.
pub const MAX_CHUNKS: usize = 64;
/// Most manifests of one run.
pub const MAX_MANIFESTS: usize = 5_000;
/// Longest name of a file: that of a key of a Secret.
const MAX_NAME: usize = 200;

/// Kinds that are governed by default, whose objects are read.
const KINDS: &[(&str, &[&str])] = &[
    (
        "",
        &["ConfigMap", "PersistentVolumeClaim", "Pod", "ReplicationController", "Secret", "Service", "ServiceAccount"],
    ),
    ("apps", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    (interlock_crds::GROUP, &["BackupPolicy", "BackupRepository", "RestoreDrill"]),
    ("gateway.networking.k8s.io", &["GRPCRoute", "HTTPRoute", "TCPRoute", "TLSRoute", "UDPRoute"]),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"]),
];

/// A kind whose objects are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The kind.
    pub kind: KindRef,
    /// Somebody named it: if the cluster does not know it, that is told.
    pub named: bool,
}

impl Wanted {
    /// In which namespaces of the System a run of a policy in namespace `own` reads objects of this kind: in all, but Secrets in
    /// its own alone. Until the Job has ended the manifests lie in Secrets there, and so does the key of the repository for
    /// good: whoever may read Secrets in one namespace would read those of all.
    pub fn namespaces<'a>(&self, system: &'a SystemSpec, own: &str) -> Vec<&'a str> {
        let all = system.namespaces.iter().map(String::as_str);
        all.filter(|namespace| self.kind != secret() || *namespace == own).collect()
    }
}

fn secret() -> KindRef {
    KindRef { group: String::new(), kind: "Secret".to_owned() }
}

/// The kinds that a run reads in the namespaces of the System.
pub fn kinds(system: &SystemSpec, source: &ObjectsSource) -> Vec<Wanted> {
    let default = KINDS.iter().flat_map(|(group, kinds)| {
        kinds.iter().map(|kind| KindRef { group: (*group).to_owned(), kind: (*kind).to_owned() })
    });
    let governs = system.governs.clone().unwrap_or_default();
    let governed: BTreeSet<_> = default.filter(|kind| !governs.remove.contains(kind)).collect();
    let named: BTreeSet<_> = governs.add.iter().chain(&source.add).cloned().collect();
    governed
        .union(&named)
        .filter(|kind| !source.exclude.contains(kind) && (source.include_secrets || **kind != secret()))
        .map(|kind| Wanted { kind: kind.clone(), named: named.contains(kind) })
        .collect()
}

/// Whether an object is kept: not what a controller made of another one, and not what the cluster puts into every namespace.
pub fn is_kept(object: &Value) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let made = owners.into_iter().any(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
    let own = text("/type").starts_with("interlock.dev/staged") || text("/type") == SECRET_TYPE;
    let of_cluster = match text("/kind") {
        "ConfigMap" => text("/metadata/name") == "kube-root-ca.crt",
        "Secret" => text("/type") == "kubernetes.io/service-account-token",
        _ => false,
    };
    let going = object.pointer("/metadata/deletionTimestamp").is_some();
    !made && !own && !of_cluster && !going
}

/// Manifests of one Secret, by the names of their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk(BTreeMap<String, String>);

/// Packs objects as they were read. Those that are not kept are left out; the result does not depend on the order.
///
/// # Errors
/// There is nothing, or too much.
pub fn pack(objects: Vec<Value>) -> Result<Vec<Chunk>, Outcome> {
    let mut manifests = BTreeMap::new();
    for mut object in objects.into_iter().filter(is_kept) {
        strip_server_fields(&mut object);
        let name = file_name(&object);
        let text = serde_json::to_string_pretty(&object)
            .map_err(|error| Outcome::failed(Reason::TooLarge, format!("{name} cannot be written: {error}")))?;
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(too_large(&format!("{name} has {} bytes, and {MAX_MANIFEST_BYTES} is the most", text.len())));
        }
        manifests.insert(name, text + "\n");
    }
    if manifests.is_empty() {
        let why =
            "the System has no objects of these kinds; see source.objects.exclude, and what its executor may list";
        return Err(Outcome::failed(Reason::EmptySource, why));
    }
    if manifests.len() > MAX_MANIFESTS {
        return Err(too_large(&format!("there are {} objects, and {MAX_MANIFESTS} is the most", manifests.len())));
    }
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut room = 0;
    for (name, text) in manifests {
        if let Some(Chunk(last)) = chunks.last_mut().filter(|_| text.len() <= room) {
            room -= text.len();
            last.insert(name, text);
        } else {
            room = MAX_CHUNK_BYTES.saturating_sub(text.len());
            chunks.push(Chunk(BTreeMap::from([(name, text)])));
        }
    }
    if chunks.len() > MAX_CHUNKS {
        let why = format!("the objects need {} Secrets of 512 KiB, and {MAX_CHUNKS} is the most", chunks.len());
        return Err(too_large(&why));
    }
    Ok(chunks)
}

fn too_large(why: &str) -> Outcome {
    Outcome::failed(
        Reason::TooLarge,
        format!("{why}; nothing was copied. Leave kinds out with source.objects.exclude, or split the System"),
    )
}

/// The name of an object's file: kind, group, namespace and name, told apart from every other.
fn file_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let parts = [text("/kind"), group, text("/metadata/namespace"), text("/metadata/name")];
    let whole = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("_");
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '_' };
    let name: String = whole.chars().map(plain).take(MAX_NAME).collect();
    if name == whole {
        return format!("{name}.json");
    }
    let digest = Digest::of_bytes(whole.as_bytes()).to_string();
    let hash: String = digest.chars().skip("sha256:".len()).take(10).collect();
    format!("{name}_{hash}.json")
}

/// What is announced of chunks. `before` was announced by somebody who did not come to an end.
pub fn record(chunks: &[Chunk], before: Option<&ObjectsRecord>) -> ObjectsRecord {
    let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    ObjectsRecord {
        manifests: chunks.iter().map(|Chunk(files)| files.len() as u32).sum(),
        bytes: chunks.iter().flat_map(|Chunk(files)| files.values()).map(|text| text.len() as i64).sum(),
        chunks: chunks.iter().map(|chunk| digest_of(&chunk.data())).collect(),
        secrets: count.max(before.map_or(0, |before| before.secrets)),
        stored: false,
    }
}

/// Name of a run's Secret with manifests.
pub fn secret_name(run: &str, index: u32) -> String {
    format!("{run}-objects-{index}")
}

impl Chunk {
    fn data(&self) -> Value {
        self.0
            .iter()
            .map(|(name, text)| (name.clone(), json!(BASE64.encode(text))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The Secret number `index` of the run.
    pub fn secret(&self, namespace: &str, run: &str, uid: &str, index: u32) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": secret_name(run, index), "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "interlock", RUN_LABEL: uid},
                "ownerReferences": [{
                    "apiVersion": API_VERSION, "kind": "Backup", "name": run, "uid": uid,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "type": SECRET_TYPE,
            "immutable": true,
            "data": self.data(),
        })
    }
}

fn digest_of(data: &Value) -> String {
    canonical_json(data).map(|bytes| Digest::of_bytes(&bytes).to_string()).unwrap_or_default()
}

/// Whether a Secret holds what was announced for its number.
pub fn holds(secret: &Value, record: &ObjectsRecord, index: u32) -> bool {
    let announced = record.chunks.get(index as usize);
    let data = secret.get("data").cloned().unwrap_or_default();
    announced.is_some_and(|announced| *announced == digest_of(&data))
        && secret.get("type").and_then(Value::as_str) == Some(SECRET_TYPE)
        && secret.get("immutable").and_then(Value::as_bool) == Some(true)
}

/// Number of a Secret of this run, if its name is one.
fn index_of(secret: &Value, run: &str) -> Option<u32> {
    let name = secret.pointer("/metadata/name").and_then(Value::as_str)?;
    let index = name.strip_prefix(run)?.strip_prefix("-objects-")?.parse().ok()?;
    (secret_name(run, index) == name).then_some(index)
}

/// Whether the webhook lets the executor store this Secret: a run announced exactly it, and has no Job yet.
pub fn may_store(secret: &Value, backup: &Backup) -> bool {
    let run = backup.metadata.name.as_deref().unwrap_or_default();
    let status = backup.status.as_ref().filter(|status| !status.phase.is_terminal());
    let waits = status.filter(|status| status.job.as_ref().is_none_or(|job| job.uid.is_none()));
    let record = waits.and_then(|status| status.objects.as_ref()).filter(|record| !record.stored);
    let plain = secret.get("stringData").is_none() && secret.pointer("/metadata/annotations").is_none();
    match (record, index_of(secret, run)) {
        (Some(record), Some(index)) => plain && holds(secret, record, index),
        _ => false,
    }
}

/// Whether the webhook lets the executor delete this Secret: it is a run's, and not what the run still needs.
pub fn may_remove(secret: &Value, backup: Option<&Backup>) -> bool {
    let is_ours = secret.get("type").and_then(Value::as_str) == Some(SECRET_TYPE);
    let needed = backup.is_some_and(|backup| {
        let run = backup.metadata.name.as_deref().unwrap_or_default();
        let status = backup.status.as_ref().filter(|status| !status.phase.is_terminal());
        let record = status.and_then(|status| status.objects.as_ref());
        match (record, index_of(secret, run)) {
            (Some(record), Some(index)) => holds(secret, record, index),
            _ => false,
        }
    });
    is_ours && !needed
}

/// Why a run that may not list a kind has failed.
pub fn forbidden(executor: &str, kind: &KindRef, namespace: Option<&str>, why: &str) -> Outcome {
    let shown = GroupKind::new(&kind.group, &kind.kind);
    let place = namespace.map_or_else(|| "in the cluster".to_owned(), |namespace| format!("in namespace {namespace}"));
    Outcome::failed(
        Reason::Forbidden,
        format!(
            "{executor} may not read {shown} {place}, so the copy would not be complete and nothing was copied; give it the rights get and list there, or leave the kind out with source.objects.exclude ({why})"
        ),
    )
}

/// Why a run that was told to copy a kind that the cluster does not know has failed.
pub fn unknown(kind: &KindRef) -> Outcome {
    let shown = GroupKind::new(&kind.group, &kind.kind);
    Outcome::failed(
        Reason::SourceUnreadable,
        format!(
            "the cluster knows no kind {shown}, which the policy or its System names; correct the name, or install its definition"
        ),
    )
}
