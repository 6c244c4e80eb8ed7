//! What a request wants to write.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{ChangeRequestSpec, ChangeType, ContingencyJob, SecretRef, SystemSpec};
use serde_json::{Value, json};

use super::{
    INTERLOCK_NAMESPACE, MAX_CONTENT_BYTES, MAX_OBJECTS, OPERATION_ANNOTATION, ROOT_SYSTEM,
    digest::{self, DigestError},
};
use crate::{
    backup::restore::{self, Reads},
    object::{Digest, ObjectId, destroys_data, strip_server_fields},
};

/// Kinds of Interlock that record runs and votes: never content of a change.
const RUN_KINDS: [&str; 10] = [
    "ChangeRequest",
    "Approval",
    "Evidence",
    "Action",
    "BreakGlass",
    "Rollout",
    "Backup",
    "DrillRun",
    "Incident",
    "AuditSegment",
];
/// Kinds that lift gates: content of a change of the root System only.
pub const GOVERNING_KINDS: [&str; 5] = ["System", "Person", "ChangePolicy", "Calendar", "ConfigSource"];

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// The manifest is the whole of what somebody declares about the object: its fields are to have its values, and fields
    /// that were declared before and are left out now are removed. The object is created if it does not exist.
    Apply,
    /// The manifest is a part: its fields are to have its values, and nothing is removed.
    Patch,
    /// The object is to be gone.
    Delete,
}

/// One object of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentObject {
    /// Which object.
    pub id: ObjectId,
    /// What is to be done with it.
    pub intent: Intent,
    /// The manifest as written, less what the server makes and the operation annotation.
    pub manifest: Value,
    /// Whether its values come from a staged Secret (index into `secret_refs`).
    pub staged: Option<usize>,
}

impl ContentObject {
    /// What it reads, if it is the Job of a restore that is to be made.
    pub fn restores(&self) -> Option<Reads> {
        let is_made = self.id.kind == "Job" && self.intent != Intent::Delete;
        is_made.then(|| restore::reads(&self.manifest)).flatten()
    }
}

/// The content of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Its objects in the order in which they were written; staged Secrets last.
    pub objects: Vec<ContentObject>,
    /// Digest of the content alone.
    pub digest: Digest,
    /// Digest of the whole spec of the request.
    pub spec: Digest,
    /// Contingency Jobs: name and `spec`.
    pub jobs: Vec<(String, Value)>,
}

/// Something about a request that is wrong and stays wrong until it is edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: &'static str,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Content {
    /// Reads the content of a request in `namespace`. Every problem found is reported, at most 50.
    pub fn parse(spec: &ChangeRequestSpec, namespace: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = not_yet(spec);
        let manifests = spec.content.manifests.as_deref().unwrap_or_default();
        problems.extend(bounds(manifests, &spec.contingency.jobs));
        problems.extend(jobs(spec));
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut objects = Vec::with_capacity(manifests.len() + spec.content.secret_refs.len());
        for (position, manifest) in manifests.iter().enumerate() {
            match object(manifest, position) {
                Ok(object) => objects.push(object),
                Err(problem) => problems.push(problem),
            }
        }
        for (index, reference) in spec.content.secret_refs.iter().enumerate() {
            objects.push(staged(reference, index, namespace));
        }
        problems.extend(duplicates(&objects));
        if !problems.is_empty() {
            problems.truncate(50);
            return Err(problems);
        }
        let uncanonical = |error: DigestError| vec![Problem::new("NotCanonical", error.to_string())];
        let digest = digest::content_digest(&objects, &spec.content.secret_refs).map_err(uncanonical)?;
        let whole = digest::spec_digest(spec).map_err(uncanonical)?;
        let jobs = spec.contingency.jobs.iter().map(|job| (job.name.clone(), job.spec.clone())).collect();
        Ok(Self { objects, digest, spec: whole, jobs })
    }

    /// Whether the content stays inside what `system` may change. `name` is the System's name.
    pub fn problems_in(&self, name: &str, system: &SystemSpec, namespace: &str) -> Vec<Problem> {
        let mut problems: Vec<_> = self
            .objects
            .iter()
            .filter_map(|object| {
                let problem = outside(object, name, system).or_else(|| foreign_repository(object, name, system));
                problem.or_else(|| service_account(object, system))
            })
            .collect();
        problems.extend(self.jobs.iter().filter_map(|(job, spec)| {
            let pod = spec.pointer("/template/spec")?;
            foreign_account(&format_args!("contingency job {job}"), pod, system)
        }));
        if !system.namespaces.iter().any(|n| n == namespace) {
            problems.insert(
                0,
                Problem::new(
                    "NotMyNamespace",
                    format!("namespace {namespace} does not belong to System {name}: add it to its namespaces first"),
                ),
            );
        }
        problems.truncate(50);
        problems
    }

    /// Objects whose deletion cannot be undone.
    pub fn irreversible(&self) -> impl Iterator<Item = &ContentObject> {
        self.objects.iter().filter(|o| o.intent == Intent::Delete && destroys_data(&o.id.group, &o.id.kind))
    }

    /// Image digests (`sha256:...`) of all containers; none if an image names no digest.
    pub fn artifact_digests(&self) -> Option<BTreeSet<String>> {
        let mut digests = BTreeSet::new();
        for object in &self.objects {
            if let Some(template) = pod_template(&object.id.group, &object.id.kind, &object.manifest) {
                for container in containers(template) {
                    let image = container.get("image").and_then(Value::as_str)?;
                    digests.insert(image.rsplit_once('@')?.1.to_owned());
                }
            }
        }
        (!digests.is_empty()).then_some(digests)
    }
}

fn not_yet(spec: &ChangeRequestSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if spec.content.git.is_some() {
        problems.push(Problem::new(
            "NotSupportedYet",
            "content.git is not supported by this version: put the objects into content.manifests",
        ));
    }
    problems
}

/// Contingency Jobs run without anybody looking: so no two may be taken for each other, and a change that nobody voted on
/// has none.
fn jobs(spec: &ChangeRequestSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for job in &spec.contingency.jobs {
        if !names.insert(job.name.as_str()) {
            problems.push(Problem::new(
                "Duplicate",
                format!("two contingency jobs are named {}: give each its own name", job.name),
            ));
        }
    }
    if spec.type_ == ChangeType::Standard && !spec.contingency.jobs.is_empty() {
        problems.push(Problem::new(
            "JobsNeedVotes",
            "a Standard change runs without votes, so it may have no contingency jobs: propose it as type Normal",
        ));
    }
    problems
}

fn bounds(manifests: &[Value], jobs: &[ContingencyJob]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if manifests.len() > MAX_OBJECTS {
        problems.push(Problem::new(
            "TooManyObjects",
            format!("{} objects in one change: at most {MAX_OBJECTS}; split it with dependsOn", manifests.len()),
        ));
        return problems;
    }
    let specs = jobs.iter().map(|job| &job.spec);
    let bytes: usize =
        manifests.iter().chain(specs).map(|m| serde_json::to_vec(m).map_or(usize::MAX / 256, |v| v.len())).sum();
    if bytes > MAX_CONTENT_BYTES {
        problems.push(Problem::new(
            "TooLarge",
            format!("the manifests have {bytes} bytes: at most {MAX_CONTENT_BYTES}; split the change with dependsOn"),
        ));
    }
    problems
}

fn object(manifest: &Value, position: usize) -> Result<ContentObject, Problem> {
    let id = ObjectId::of(manifest)
        .map_err(|error| Problem::new("BadManifest", format!("manifest {}: {error}", position + 1)))?;
    let mut manifest = manifest.clone();
    let intent = take_intent(&mut manifest).map_err(|text| {
        Problem::new(
            "BadOperation",
            format!("{id}: annotation {OPERATION_ANNOTATION} is {text:?}; write Apply, Patch or Delete"),
        )
    })?;
    strip_server_fields(&mut manifest);
    if id.group.is_empty() && id.kind == "Secret" && intent != Intent::Delete {
        return Err(Problem::new(
            "InlineSecret",
            format!(
                "{id}: a Secret cannot stand inline, its values would lie in plain text in the request; \
                 `interlock propose` stages it and names it in content.secretRefs"
            ),
        ));
    }
    if id.group == interlock_crds::GROUP && RUN_KINDS.contains(&id.kind.as_str()) {
        return Err(Problem::new("NeverContent", format!("{id}: a {} is never content of a change", id.kind)));
    }
    if id.group == "admissionregistration.k8s.io" {
        return Err(Problem::new(
            "NeverContent",
            format!("{id}: admission configurations guard the cluster itself and are never content of a change"),
        ));
    }
    if id.namespace.as_deref() == Some(INTERLOCK_NAMESPACE)
        || (id.kind == "Namespace" && id.group.is_empty() && id.name == INTERLOCK_NAMESPACE)
    {
        return Err(Problem::new(
            "NeverContent",
            format!("{id}: Interlock's own namespace is never content of a change"),
        ));
    }
    Ok(ContentObject { id, intent, manifest, staged: None })
}

fn take_intent(manifest: &mut Value) -> Result<Intent, String> {
    let Some(annotations) = manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return Ok(Intent::Apply);
    };
    let Some(value) = annotations.remove(OPERATION_ANNOTATION) else {
        return Ok(Intent::Apply);
    };
    let empty = annotations.is_empty();
    if empty && let Some(metadata) = manifest.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
    }
    match value.as_str() {
        Some("Apply") => Ok(Intent::Apply),
        Some("Patch") => Ok(Intent::Patch),
        Some("Delete") => Ok(Intent::Delete),
        Some(other) => Err(other.chars().take(40).collect()),
        None => Err(value.to_string().chars().take(40).collect()),
    }
}

/// A staged Secret's target, with its key names and no values.
fn staged(reference: &SecretRef, index: usize, namespace: &str) -> ContentObject {
    ContentObject {
        id: ObjectId {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: reference.target.clone(),
        },
        intent: Intent::Apply,
        manifest: json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": reference.target, "namespace": namespace},
            "type": reference.type_,
        }),
        staged: Some(index),
    }
}

fn duplicates(objects: &[ContentObject]) -> Vec<Problem> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut problems = Vec::new();
    for (position, object) in objects.iter().enumerate() {
        if let Some(first) = seen.insert(object.id.key(), position) {
            problems.push(Problem::new(
                "Duplicate",
                format!("{} stands twice in the change, as object {} and {}", object.id, first + 1, position + 1),
            ));
        }
    }
    problems
}

/// A restore reads repositories of its own System only: another one would never let it in.
fn foreign_repository(object: &ContentObject, name: &str, system: &SystemSpec) -> Option<Problem> {
    let reads = object.restores()?;
    let inside = system.namespaces.iter().any(|own| own == reads.namespace());
    (!inside).then(|| {
        Problem::new(
            "OutsideSystem",
            format!(
                "{} reads BackupRepository {}, which does not belong to System {name} ({}): restore within the System of the repository",
                object.id,
                reads.repository,
                system.namespaces.join(", ")
            ),
        )
    })
}

fn outside(object: &ContentObject, name: &str, system: &SystemSpec) -> Option<Problem> {
    let id = &object.id;
    let governing = id.group == interlock_crds::GROUP && GOVERNING_KINDS.contains(&id.kind.as_str());
    if name == ROOT_SYSTEM {
        return (!governing).then(|| {
            Problem::new(
                "NotRoot",
                format!("{id}: a change of {ROOT_SYSTEM} may hold {} only", GOVERNING_KINDS.join(", ")),
            )
        });
    }
    if governing {
        return Some(Problem::new(
            "OnlyRoot",
            format!(
                "{id}: a {} is changed only through System {ROOT_SYSTEM}, by a ChangeRequest in {INTERLOCK_NAMESPACE}",
                id.kind
            ),
        ));
    }
    let inside = match &id.namespace {
        Some(namespace) => system.namespaces.contains(namespace),
        None => system.cluster_objects.iter().any(|c| c.group == id.group && c.kind == id.kind && c.name == id.name),
    };
    (!inside).then(|| match &id.namespace {
        Some(namespace) => Problem::new(
            "OutsideSystem",
            format!("{id}: namespace {namespace} does not belong to System {name} ({})", system.namespaces.join(", ")),
        ),
        None => Problem::new(
            "OutsideSystem",
            format!("{id}: has no namespace, and System {name} does not list it in clusterObjects (if it is namespaced, write metadata.namespace)"),
        ),
    })
}

fn service_account(object: &ContentObject, system: &SystemSpec) -> Option<Problem> {
    pod_template(&object.id.group, &object.id.kind, &object.manifest)
        .into_iter()
        .find_map(|spec| foreign_account(&object.id, spec, system))
}

fn foreign_account(what: &dyn std::fmt::Display, pod_spec: &Value, system: &SystemSpec) -> Option<Problem> {
    let account = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .filter_map(|field| pod_spec.get(field).and_then(Value::as_str))
        .find(|account| !allowed_account(account, system))?;
    Some(Problem::new(
        "ServiceAccountNotAllowed",
        format!(
            "{what}: its pods would run as ServiceAccount {account}, which the System does not allow; add it to allowedServiceAccounts"
        ),
    ))
}

/// Whether pods of a change may run as `account`.
pub fn allowed_account(account: &str, system: &SystemSpec) -> bool {
    account.is_empty()
        || if system.allowed_service_accounts.is_empty() {
            account == "default"
        } else {
            system.allowed_service_accounts.iter().any(|allowed| allowed == account)
        }
}

/// The pod spec in an object of a built-in kind.
pub fn pod_template<'a>(group: &str, kind: &str, object: &'a Value) -> Option<&'a Value> {
    let pointer = match (group, kind) {
        ("", "Pod") => "/spec",
        ("", "PodTemplate") => "/template/spec",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => "/spec/template/spec",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    object.pointer(pointer)
}

fn containers(pod_spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .filter_map(|field| pod_spec.get(field).and_then(Value::as_array))
        .flatten()
}
