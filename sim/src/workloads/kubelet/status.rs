//! What a pod tells about itself.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::conditions::{self, Condition, truth};
use super::super::{hash, read, writes};
use super::script::{Doing, Scene};
use crate::api::meta;

/// What a node adds to what the containers do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub host_ip: &'a str,
    pub pod_ip: &'a str,
    pub since: Timestamp,
    /// Whether the node can no longer be heard.
    pub is_lost: bool,
    /// Restarts before what the containers do now.
    pub restarts: u32,
}

/// The status of a pod that waits for a node.
pub(super) fn unscheduled(pod: &Value, message: &str, now: Timestamp) -> Value {
    let mut found = read::list(pod, "/status/conditions").to_vec();
    let condition = Condition { kind: "PodScheduled", status: "False", reason: "Unschedulable", message };
    conditions::put(&mut found, &condition, observed(pod), now);
    let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
    writes::set(&mut status, "phase", json!("Pending"));
    writes::set(&mut status, "conditions", json!(found));
    status
}

fn observed(pod: &Value) -> Value {
    json!({"observedGeneration": read::count(pod, "/metadata/generation")})
}

/// The status of a pod that has a node.
pub(super) fn scheduled(
    pod: &Value,
    scene: &Scene,
    place: &Place<'_>,
    said: &[(String, String)],
    now: Timestamp,
) -> Value {
    let has_started = !matches!(scene.doing, Doing::Creating | Doing::Pulling);
    let phase = match scene.doing {
        Doing::Creating | Doing::Pulling => "Pending",
        Doing::Running { .. } | Doing::BackingOff { .. } => "Running",
        Doing::Ended { succeeded: true, .. } => "Succeeded",
        Doing::Ended { succeeded: false, .. } => "Failed",
    };
    let containers = |pointer| read::list(pod, pointer).iter();
    let statuses: Vec<Value> = containers("/spec/containers")
        .map(|container| with_message(container_status(pod, container, scene, place.restarts), said))
        .collect();
    let initial: Vec<Value> = containers("/spec/initContainers")
        .map(|container| with_message(initial_status(pod, container, has_started, place), said))
        .collect();
    let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut set = |field: &str, value: Value| writes::set(&mut status, field, value);
    set("phase", json!(phase));
    set("observedGeneration", json!(read::count(pod, "/metadata/generation")));
    set("conditions", json!(told(pod, scene, place, now)));
    set("containerStatuses", json!(statuses));
    if !initial.is_empty() {
        set("initContainerStatuses", json!(initial));
    }
    set("hostIP", json!(place.host_ip));
    set("hostIPs", json!([{"ip": place.host_ip}]));
    set("startTime", json!(read::shown(place.since)));
    if has_started {
        set("podIP", json!(place.pod_ip));
        set("podIPs", json!([{"ip": place.pod_ip}]));
    }
    status
}

/// What a container that ended left.
fn with_message(mut status: Value, said: &[(String, String)]) -> Value {
    let message =
        said.iter().find(|(name, _)| *name == read::text(&status, "/name")).map(|(_, message)| message.clone());
    if let (Some(message), Some(ended)) = (message, status.pointer_mut("/state/terminated")) {
        writes::set(ended, "message", json!(message));
    }
    status
}

fn told(pod: &Value, scene: &Scene, place: &Place<'_>, now: Timestamp) -> Vec<Value> {
    let mut found = read::list(pod, "/status/conditions").to_vec();
    let mut tell = |kind, is, reason, message: &str| {
        conditions::put(&mut found, &Condition { kind, status: truth(is), reason, message }, observed(pod), now);
    };
    let (mut reason, mut message) = ("", String::new());
    if let Doing::Ended { succeeded, .. } = scene.doing {
        reason = if succeeded { "PodCompleted" } else { "PodFailed" };
    } else if !scene.is_ready {
        let names = read::list(pod, "/spec/containers").iter().map(|container| read::text(container, "/name"));
        reason = "ContainersNotReady";
        message = format!("containers with unready status: [{}]", names.collect::<Vec<_>>().join(" "));
    }
    let is_initialized = !matches!(scene.doing, Doing::Pulling) || read::list(pod, "/spec/initContainers").is_empty();
    tell("PodReadyToStartContainers", !matches!(scene.doing, Doing::Ended { .. }), "", "");
    tell("Initialized", is_initialized, "", "");
    if place.is_lost {
        tell("Ready", false, "NodeNotReady", "");
    } else {
        tell("Ready", scene.is_ready, reason, &message);
    }
    tell("ContainersReady", scene.is_ready, reason, &message);
    tell("PodScheduled", true, "", "");
    found
}

fn container_status(pod: &Value, container: &Value, scene: &Scene, earlier: u32) -> Value {
    let (image, restarts) = (read::text(container, "/image"), earlier.saturating_add(scene.restarts));
    let id = container_id(pod, container, restarts);
    let terminated = |since, at, succeeded: bool| {
        json!({"terminated": {
            "containerID": id,
            "exitCode": i32::from(!succeeded),
            "reason": if succeeded { "Completed" } else { "Error" },
            "startedAt": read::shown(since),
            "finishedAt": read::shown(at),
        }})
    };
    let waiting = |reason: &str, message: String| json!({"waiting": {"reason": reason, "message": message}});
    let (state, last) = match scene.doing {
        Doing::Creating => (json!({"waiting": {"reason": "ContainerCreating"}}), json!({})),
        Doing::Pulling => (waiting("ImagePullBackOff", format!("Back-off pulling image \"{image}\"")), json!({})),
        Doing::Running { since } => {
            let last = read::list(pod, "/status/containerStatuses").iter();
            let last = last.filter(|told| told.get("name") == container.get("name"));
            let last = last.filter(|_| restarts > 0).find_map(|told| told.get("lastState")).cloned();
            (json!({"running": {"startedAt": read::shown(since)}}), last.unwrap_or_else(|| json!({})))
        }
        Doing::BackingOff { since, ended } => {
            let message = format!(
                "back-off restarting failed container={} pod={}_{}({})",
                read::text(container, "/name"),
                meta::name(pod),
                meta::namespace(pod),
                meta::uid(pod)
            );
            (waiting("CrashLoopBackOff", message), terminated(since, ended, false))
        }
        Doing::Ended { since, at, succeeded } => (terminated(since, at, succeeded), json!({})),
    };
    let has_image = !matches!(scene.doing, Doing::Creating | Doing::Pulling);
    json!({
        "name": read::text(container, "/name"),
        "image": image,
        "imageID": if has_image { image_id(image) } else { String::new() },
        "containerID": has_image.then_some(id),
        "ready": scene.is_ready,
        "started": matches!(scene.doing, Doing::Running { .. }),
        "restartCount": restarts,
        "state": state,
        "lastState": last,
    })
}

/// Containers that prepare the pod end as soon as the others start.
fn initial_status(pod: &Value, container: &Value, has_started: bool, place: &Place<'_>) -> Value {
    let (image, id, at) = (read::text(container, "/image"), container_id(pod, container, 0), read::shown(place.since));
    let ended = json!({"terminated": {
        "containerID": id, "exitCode": 0, "reason": "Completed", "startedAt": at, "finishedAt": at,
    }});
    json!({
        "name": read::text(container, "/name"),
        "image": image,
        "imageID": if has_started { image_id(image) } else { String::new() },
        "containerID": has_started.then_some(&id),
        "ready": has_started,
        "started": false,
        "restartCount": 0,
        "state": if has_started { ended } else { json!({"waiting": {"reason": "PodInitializing"}}) },
        "lastState": {},
    })
}

fn container_id(pod: &Value, container: &Value, restarts: u32) -> String {
    let run = restarts.to_string();
    format!("containerd://{}", hash::digest(&[meta::uid(pod), read::text(container, "/name"), &run]))
}

/// An image that states its digest has that one, another a digest that follows from its name.
fn image_id(image: &str) -> String {
    if image.contains("@sha256:") {
        return image.to_owned();
    }
    let repository = match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    };
    format!("{repository}@sha256:{}", hash::digest(&[image]))
}
