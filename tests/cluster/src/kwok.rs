//! Simulated nodes, and how the pods on them behave.
//!
//! kwok plays the kubelet: it writes pod statuses as a real one would, without running anything. What a pod does is
//! read from its image's tag, so that a test writes `image: api:broken` and nothing else.

use serde_json::{Value, json};

/// Nodes of every cluster, one per zone.
pub const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// On a pod: overrides what the image says, and may be changed while the pod lives: `healthy` makes a `broken` pod
/// ready, `broken` takes a ready pod out of service.
pub const BEHAVIOUR_LABEL: &str = "interlock.dev/test-behaviour";

/// On a pod: how long until it becomes ready, as a Go duration (`1.5s`). At once if absent.
pub const READY_AFTER_ANNOTATION: &str = "interlock.dev/test-ready-after";

/// On a Job's pod: how long it runs before it completes or fails, as a Go duration. Not at all if absent.
pub const RUNS_FOR_ANNOTATION: &str = "interlock.dev/test-runs-for";

/// What a pod does. An image whose tag contains the word makes its pods behave so; the first container that has one
/// decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Becomes ready; a Job's pod then completes. What every other image does.
    Healthy,
    /// Runs but never becomes ready.
    Broken,
    /// Ends with code 1 again and again: `CrashLoopBackOff`, with restarts counted.
    Crash,
    /// Stays pending with `ImagePullBackOff`.
    Missing,
    /// A Job's pod fails; any other becomes ready.
    Fail,
    /// A Job's pod never ends; any other becomes ready.
    Hang,
}

impl Behaviour {
    /// Every behaviour.
    pub const ALL: [Self; 6] = [Self::Healthy, Self::Broken, Self::Crash, Self::Missing, Self::Fail, Self::Hang];

    /// The word in the image tag, and the value of [`BEHAVIOUR_LABEL`].
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Broken => "broken",
            Self::Crash => "crash",
            Self::Missing => "missing",
            Self::Fail => "fail",
            Self::Hang => "hang",
        }
    }
}

/// kwok's configuration.
pub(crate) fn stages() -> String {
    include_str!("../assets/stages.yaml").replace("@BEHAVIOUR@", &behaviour_expression())
}

/// A jq expression that gives a pod's behaviour as one word. A tag is what follows the last colon behind the last
/// slash, so a registry's port is none.
fn behaviour_expression() -> String {
    let words: Vec<_> = Behaviour::ALL.iter().map(|behaviour| behaviour.word()).collect();
    format!(
        r#".metadata.labels["{BEHAVIOUR_LABEL}"] // ([.spec.containers[].image | scan(":[^/]*({words})")[0]] | first) // "{healthy}""#,
        words = words.join("|"),
        healthy = Behaviour::Healthy.word(),
    )
}

/// The nodes, as one list to create. `version` is what their kubelets claim to be.
pub(crate) fn nodes(version: &str) -> Value {
    let items: Vec<_> = NODES.into_iter().map(|name| node(name, version)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn node(name: &str, version: &str) -> Value {
    let zone = name.replace("node", "zone");
    let resources = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "5000"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": zone,
            },
        },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "osImage": "simulated",
                "kernelVersion": "simulated",
                "containerRuntimeVersion": "kwok://simulated",
                "kubeletVersion": version,
                "kubeProxyVersion": "",
                "bootID": "",
                "machineID": "",
                "systemUUID": "",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{BEHAVIOUR_LABEL, Behaviour, READY_AFTER_ANNOTATION, RUNS_FOR_ANNOTATION, stages};

    #[test]
    fn stages_know_every_behaviour_and_annotation() {
        let stages = stages();
        assert!(!stages.contains("@BEHAVIOUR@"));
        for behaviour in Behaviour::ALL {
            assert!(stages.contains(&format!("\"{}\"", behaviour.word())), "{behaviour:?}");
        }
        for name in [BEHAVIOUR_LABEL, READY_AFTER_ANNOTATION, RUNS_FOR_ANNOTATION] {
            assert!(stages.contains(&format!("[\"{name}\"]")), "{name}");
        }
    }
}
