//! Health, by the rules of kstatus.

use serde_json::{Value, json};

use super::super::{Health, health};

fn object(api_version: &str, kind: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "teller", "generation": 2},
        "spec": spec, "status": status,
    })
}

/// `ok`, or `... message` while progressing, or `! message` when failed.
fn told(object: &Value) -> String {
    match health(object) {
        Health::Healthy => "ok".to_owned(),
        Health::Progressing(message) => format!("... {message}"),
        Health::Failed(message) => format!("! {message}"),
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": ""})
}

fn deployment(updated: i64, available: i64, all: i64, conditions: &Value) -> Value {
    object(
        "apps/v1",
        "Deployment",
        &json!({"replicas": 3}),
        &json!({
            "observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "availableReplicas": available,
            "readyReplicas": available, "conditions": conditions,
        }),
    )
}

#[test]
fn deployments() {
    let done =
        json!([condition("Progressing", "True", "NewReplicaSetAvailable"), condition("Available", "True", "Min")]);
    let late = json!([condition("Progressing", "False", "ProgressDeadlineExceeded")]);
    let rolling = json!([condition("Progressing", "True", "ReplicaSetUpdated"), condition("Available", "True", "Min")]);
    let table = [
        (deployment(3, 3, 3, &done), "ok"),
        (deployment(3, 2, 3, &done), "... 2 of 3 pods of the new version are available"),
        (deployment(1, 3, 4, &done), "... 1 of 3 pods of the new version exist"),
        (deployment(3, 3, 4, &done), "... 1 pods of older versions still exist"),
        (deployment(4, 4, 4, &done), "... 1 pods more than 3 still exist"),
        (deployment(3, 3, 3, &rolling), "... its new ReplicaSet is not reported as available yet"),
        (deployment(1, 1, 3, &late), "! it did not progress in time: ProgressDeadlineExceeded"),
    ];
    for (object, expected) in table {
        assert_eq!(told(&object), expected);
    }
    let mut paused = deployment(1, 3, 3, &json!([condition("Available", "True", "Min")]));
    paused["spec"]["paused"] = json!(true);
    assert_eq!(told(&paused), "... it is paused with 1 of 3 pods of the new version");
    let mut stale = deployment(3, 3, 3, &done);
    stale["status"]["observedGeneration"] = json!(1);
    assert_eq!(told(&stale), "... its controller has seen generation 1 of 2");
    stale["status"] = json!({});
    assert_eq!(told(&stale), "... no controller has looked at it yet");
    let mut leaving = deployment(3, 3, 3, &done);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(told(&leaving), "... it is being deleted");
}

#[test]
fn stateful_sets() {
    let set = |strategy: Value, status: Value| {
        let mut status = status;
        status["observedGeneration"] = json!(2);
        object("apps/v1", "StatefulSet", &json!({"replicas": 3, "updateStrategy": strategy}), &status)
    };
    let counts = |ready: i64, updated: i64, current: &str| json!({"replicas": 3, "readyReplicas": ready, "updatedReplicas": updated, "currentRevision": current, "updateRevision": "b"});
    let partition = json!({"rollingUpdate": {"partition": 2}});
    let table = [
        (set(json!({}), counts(3, 3, "b")), "ok"),
        (set(json!({}), counts(2, 3, "b")), "... 2 of 3 pods are ready"),
        (set(json!({}), counts(3, 1, "a")), "... 1 of 3 pods have the new version"),
        (set(json!({}), counts(3, 3, "a")), "... revision b is not current yet"),
        (set(partition.clone(), counts(3, 0, "a")), "... 0 of 1 pods have the new version"),
        (set(partition, counts(3, 1, "a")), "ok"),
        (set(json!({"type": "OnDelete"}), counts(0, 0, "a")), "ok"),
    ];
    for (object, expected) in table {
        assert_eq!(told(&object), expected);
    }
}

#[test]
fn other_workloads() {
    let daemon = |updated: i64, available: i64| {
        object(
            "apps/v1",
            "DaemonSet",
            &json!({}),
            &json!({
                "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "updatedNumberScheduled": updated, "numberAvailable": available, "numberReady": 3,
            }),
        )
    };
    let job = |spec: Value, conditions: Value| {
        object("batch/v1", "Job", &spec, &json!({"active": 1, "succeeded": 1, "conditions": conditions}))
    };
    let pod = |status: Value| object("v1", "Pod", &json!({}), &status);
    let table = [
        (daemon(3, 3), "ok"),
        (daemon(1, 3), "... 1 of 3 pods have the new version"),
        (daemon(3, 2), "... 2 of 3 pods are available"),
        (job(json!({"completions": 4}), json!([])), "... 1 of 4 pods have completed, 1 are running"),
        (
            job(json!({}), json!([condition("SuccessCriteriaMet", "True", "")])),
            "... it has succeeded and ends its remaining pods",
        ),
        (job(json!({}), json!([condition("Complete", "True", "")])), "ok"),
        (
            job(json!({}), json!([condition("Failed", "True", "BackoffLimitExceeded")])),
            "! it failed: BackoffLimitExceeded",
        ),
        (job(json!({"suspend": true}), json!([])), "ok"),
        (pod(json!({"phase": "Running", "conditions": [condition("Ready", "True", "")]})), "ok"),
        (pod(json!({"phase": "Succeeded"})), "ok"),
        (pod(json!({"phase": "Failed", "reason": "Evicted"})), "! it failed: Evicted"),
        (
            pod(json!({"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable")]})),
            "... it has no node: Unschedulable",
        ),
        (
            pod(json!({"phase": "Running", "containerStatuses": [
                {"name": "proxy", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            ]})),
            "! container proxy crashes again and again (CrashLoopBackOff)",
        ),
    ];
    for (object, expected) in table {
        assert_eq!(told(&object), expected);
    }
}

#[test]
fn definitions_claims_and_services() {
    let crd = |conditions: Value| {
        object("apiextensions.k8s.io/v1", "CustomResourceDefinition", &json!({}), &json!({"conditions": conditions}))
    };
    let claim = |phase: &str, annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "db", "annotations": annotations}, "status": {"phase": phase},
        })
    };
    let balancer = json!({"type": "LoadBalancer"});
    let table = [
        (crd(json!([condition("Established", "True", "")])), "ok"),
        (crd(json!([])), "... it is not established yet"),
        (crd(json!([condition("Established", "False", "Installing")])), "... it is not established yet"),
        (
            crd(json!([condition("NamesAccepted", "False", "KindConflict")])),
            "! its names are not accepted: KindConflict",
        ),
        (claim("Bound", json!({})), "ok"),
        (claim("Pending", json!({})), "ok"),
        (claim("Pending", json!({"volume.kubernetes.io/selected-node": "n1"})), "... its volume is being provisioned"),
        (claim("Lost", json!({})), "! its volume is lost"),
        (object("v1", "Service", &balancer, &json!({})), "... its load balancer has no address yet"),
        (object("v1", "Service", &balancer, &json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}})), "ok"),
        (object("v1", "Service", &json!({}), &json!({})), "ok"),
        (object("v1", "Namespace", &json!({}), &json!({"phase": "Active"})), "ok"),
        (object("v1", "Namespace", &json!({}), &json!({"phase": "Terminating"})), "... its phase is Terminating"),
        (object("v1", "ConfigMap", &json!({}), &json!({})), "ok"),
    ];
    for (object, expected) in table {
        assert_eq!(told(&object), expected);
    }
}

#[test]
fn everything_else() {
    let ready = |status: &str| {
        object("example.com/v1", "Ledger", &json!({}), &json!({"conditions": [condition("Ready", status, "Syncing")]}))
    };
    let table = [
        (ready("True"), "ok"),
        (ready("False"), "... it is not ready: Syncing"),
        (
            object(
                "example.com/v1",
                "Ledger",
                &json!({}),
                &json!({"conditions": [condition("Stalled", "True", "NoQuota")]}),
            ),
            "! it is stalled: NoQuota",
        ),
        (
            object("example.com/v1", "Ledger", &json!({}), &json!({"observedGeneration": 1})),
            "... its controller has seen generation 1 of 2",
        ),
        (
            object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                &json!({}),
                &json!({"conditions": [
                    condition("ScalingActive", "False", "FailedGetResourceMetric"),
                ]}),
            ),
            "... it cannot scale: FailedGetResourceMetric",
        ),
    ];
    for (object, expected) in table {
        assert_eq!(told(&object), expected);
    }
}
