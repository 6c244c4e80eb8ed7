//! What the objects of a run say, read as the API server has them.

use interlock_crds::ImageRecord;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    names::PodRole,
    objects::{RUN_NAME_LABEL, RunRef, SANDBOX_MARK, are_guarded},
    run::{ClaimState, Ended, JobState, PodState, SandboxState, Seen, VolumeState},
};
use crate::backup::{
    observed,
    outcome::PodEnd,
    pods::RUN_LABEL,
    run::{JobFact, JobState as BackupJob},
};

/// Whether an object says that it is of the run with this uid.
pub fn is_of(object: &Value, uid: &str) -> bool {
    let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(RUN_LABEL));
    label.and_then(Value::as_str) == Some(uid)
}

/// An object, if it is of the run.
fn seen<T>(object: Option<&Value>, uid: &str, read: impl FnOnce(&Value) -> Option<T>) -> Seen<T> {
    match object {
        None => Seen::Absent,
        Some(object) if !is_of(object, uid) => Seen::Foreign,
        Some(object) => read(object).map_or(Seen::Unknown, Seen::Ours),
    }
}

/// The Job that restores, with the pods of its name.
pub fn job(job: Option<&Value>, pods: &[Value], uid: &str) -> Seen<JobState> {
    let own = |pod: &&Value| is_of(pod, uid);
    let images = pods.iter().filter(own).flat_map(images).collect();
    match observed::job(job, pods, uid) {
        JobFact::Absent => Seen::Absent,
        JobFact::Foreign => Seen::Foreign,
        JobFact::Refused(why) => Seen::Refused(why),
        JobFact::Unknown | JobFact::Leaving(_) => Seen::Unknown,
        JobFact::Ours(BackupJob { uid, created_at, ended, waiting, .. }) => Seen::Ours(JobState {
            uid,
            created_at,
            ended: ended.map(|end| Ended { at: end.at, deadline_exceeded: end.deadline_exceeded, pod: end.pod }),
            waiting,
            images,
        }),
    }
}

/// A claim. That in the namespace of the repository says by its labels whose it is, like that in the sandbox.
pub fn claim(claim: Option<&Value>, uid: &str) -> Seen<ClaimState> {
    seen(claim, uid, |claim| {
        Some(ClaimState {
            uid: text(claim, "/metadata/uid")?.to_owned(),
            volume: text(claim, "/spec/volumeName").filter(|name| !name.is_empty()).map(ToOwned::to_owned),
            bound: text(claim, "/status/phase") == Some("Bound"),
            terminating: is_terminating(claim),
        })
    })
}

/// A volume. Whose it is says its claim.
pub fn volume(volume: Option<&Value>, uid: &str) -> Seen<VolumeState> {
    let Some(volume) = volume else { return Seen::Absent };
    let Some(name) = text(volume, "/metadata/name") else { return Seen::Unknown };
    let claim = text(volume, "/spec/claimRef/namespace").zip(text(volume, "/spec/claimRef/name"));
    Seen::Ours(VolumeState {
        name: name.to_owned(),
        labelled: is_of(volume, uid),
        // What is not said is the API server's default.
        reclaim_policy: text(volume, "/spec/persistentVolumeReclaimPolicy").unwrap_or("Retain").to_owned(),
        claim: claim.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
        claim_uid: text(volume, "/spec/claimRef/uid").map(ToOwned::to_owned),
    })
}

/// The volume of a run among all, where its claim no longer says which: it has the run's label, or still refers to the claim.
pub fn volume_of<'a>(volumes: &'a [Value], uid: &str, claim_uid: Option<&str>) -> Option<&'a Value> {
    let refers = |volume: &Value| claim_uid.is_some() && text(volume, "/spec/claimRef/uid") == claim_uid;
    volumes.iter().find(|volume| is_of(volume, uid) || refers(volume))
}

/// The sandbox's namespace, with what was found in it of quota and NetworkPolicies. One without `mark`, which nobody else can
/// compute, was made by somebody else, whatever its labels say. Whose it is needs no `drill`; that it is guarded is known only
/// with one.
pub fn sandbox(
    namespace: Option<&Value>,
    guards: &[Value],
    run: &RunRef<'_>,
    drill: Option<&interlock_crds::RestoreDrillSpec>,
    mark: &str,
) -> Seen<SandboxState> {
    if namespace.is_some_and(|namespace| !has_mark(namespace, mark)) {
        return Seen::Foreign;
    }
    seen(namespace, run.uid, |namespace| {
        Some(SandboxState {
            uid: text(namespace, "/metadata/uid")?.to_owned(),
            terminating: is_terminating(namespace),
            guarded: drill.is_some_and(|drill| are_guarded(run, drill, guards)),
        })
    })
}

/// The run that a namespace says it is the sandbox of, by its labels and its name; only its mark proves it. The namespace of
/// such a run is not known.
pub fn claimed_run(namespace: &Value) -> Option<RunRef<'_>> {
    let labels = namespace.pointer("/metadata/labels")?;
    let label = |name: &str| labels.get(name).and_then(Value::as_str);
    let run = RunRef { name: label(RUN_NAME_LABEL)?, uid: label(RUN_LABEL)?, namespace: "" };
    (text(namespace, "/metadata/name") == Some(run.sandbox().as_str())).then_some(run)
}

/// Whether a namespace has this mark.
pub fn has_mark(namespace: &Value, mark: &str) -> bool {
    let found = namespace.pointer("/metadata/annotations").and_then(|all| all.get(SANDBOX_MARK));
    found.and_then(Value::as_str) == Some(mark)
}

/// A pod of the run.
pub fn pod(pod: Option<&Value>, uid: &str, role: PodRole) -> Seen<PodState> {
    seen(pod, uid, |pod| {
        let created_at = time(pod, "/metadata/creationTimestamp")?;
        let end = observed::end(pod);
        Some(PodState {
            uid: text(pod, "/metadata/uid")?.to_owned(),
            created_at,
            ready_at: ready_at(pod).filter(|_| role.serves()),
            ended: observed::has_ended(pod).then(|| Ended {
                at: last_end(pod).unwrap_or(created_at),
                deadline_exceeded: text(pod, "/status/reason") == Some("DeadlineExceeded"),
                pod: PodEnd { message: message(pod), ..end.clone() },
            }),
            waiting: end.waiting,
            images: images(pod).collect(),
        })
    })
}

/// What the last container says.
fn message(pod: &Value) -> Option<String> {
    let container = pod.pointer("/status/containerStatuses")?.as_array()?.last()?;
    text(container, "/state/terminated/message").map(ToOwned::to_owned)
}

fn ready_at(pod: &Value) -> Option<Timestamp> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|c| text(c, "/type") == Some("Ready") && text(c, "/status") == Some("True"))?;
    time(ready, "/lastTransitionTime")
}

fn last_end(pod: &Value) -> Option<Timestamp> {
    containers(pod).filter_map(|container| time(container, "/state/terminated/finishedAt")).max()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let of = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    of("/status/initContainerStatuses").chain(of("/status/containerStatuses"))
}

/// Images that ran, with the digests that the node reported.
fn images(pod: &Value) -> impl Iterator<Item = ImageRecord> + '_ {
    let asked = |name: &str| {
        let of = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        of("/spec/initContainers").chain(of("/spec/containers")).find(|c| text(c, "/name") == Some(name))
    };
    let ran = containers(pod).filter(|container| container.pointer("/state/waiting").is_none());
    ran.filter_map(move |container| {
        let name = text(container, "/name")?;
        Some(ImageRecord {
            container: name.chars().take(63).collect(),
            image: text(asked(name)?, "/image")?.chars().take(512).collect(),
            image_id: text(container, "/imageID").filter(|id| !id.is_empty()).map(|id| id.chars().take(600).collect()),
        })
    })
}

/// Addresses and ports of the ready pods behind a Service, from its EndpointSlices, in a fixed order.
pub fn targets(slices: &[Value], port: Option<u16>) -> Vec<String> {
    let of_slice = |slice: &Value| -> Vec<String> {
        let own_port = slice.pointer("/ports/0/port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port.or(own_port) else { return Vec::new() };
        let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
        let endpoints = slice.get("endpoints").and_then(Value::as_array).into_iter().flatten().filter(ready);
        let addresses = endpoints.filter_map(|endpoint| endpoint.pointer("/addresses/0").and_then(Value::as_str));
        let write = |address: &str| {
            if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
        };
        addresses.map(write).collect()
    };
    let mut all: Vec<_> = slices.iter().flat_map(of_slice).collect();
    all.sort();
    all
}

fn is_terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer)?.parse().ok()
}
