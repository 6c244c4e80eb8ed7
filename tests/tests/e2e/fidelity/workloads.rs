//! Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs and Pods: defaults, and what may change.

use serde_json::{Value, json};

use super::{
    play::{Case, play},
    request::{apply, create, delete, get, merge, put, replace},
};

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}})
}

fn workload(on: &Case, kind: &str, spec: Value) -> Value {
    let version = if kind.ends_with("Job") { "batch/v1" } else { "apps/v1" };
    on.placed(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": spec}))
}

/// A template with everything that gets defaults.
fn full_template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
        "spec": {
            "initContainers": [{"name": "init", "image": "init:1", "restartPolicy": "Always"}],
            "containers": [{
                "name": "web", "image": "web",
                "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}],
                "env": [
                    {"name": "A", "value": ""},
                    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}},
                    {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": "1000m", "memory": "1.5Gi"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 3},
                "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30},
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                "securityContext": {"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false},
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/conf", "readOnly": true},
                    {"name": "data", "mountPath": "/data"},
                    {"name": "all", "mountPath": "/all"},
                    {"name": "host", "mountPath": "/host"},
                    {"name": "down", "mountPath": "/down"},
                    {"name": "empty", "mountPath": "/empty"},
                ],
            }, {"name": "side", "image": "side:latest", "args": [], "command": ["x"], "tty": false, "stdin": true}],
            "volumes": [
                {"name": "conf", "configMap": {"name": "c"}},
                {"name": "data", "secret": {"secretName": "s", "optional": true}},
                {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c"}}]}},
                {"name": "host", "hostPath": {"path": "/x"}},
                {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "empty", "emptyDir": {"sizeLimit": "1024Mi"}},
            ],
            "serviceAccountName": "runner",
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "x", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}},
            ]}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}},
            ],
            "hostNetwork": false, "imagePullSecrets": [{"name": "pull"}], "priorityClassName": "system-node-critical",
            "securityContext": {"fsGroup": 1000},
        },
    })
}

#[test]
fn deployments() {
    play("deployments", |on| {
        let selector = json!({"matchLabels": {"app": "web"}});
        let web = workload(on, "Deployment", json!({"selector": selector, "template": template("web:1")}));
        on.walk(
            &web,
            &[
                ("/spec/replicas", json!(3)),
                ("/spec/template/spec/containers/0/image", json!("web:2")),
                ("/spec/template/spec/containers/0/image", json!("")),
                ("/spec/selector/matchLabels", json!({"app": "other"})),
                ("/spec/strategy", json!({"type": "Recreate"})),
                ("/spec/strategy/rollingUpdate", json!({"maxSurge": 1})),
                (
                    "/spec/strategy",
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "10%", "maxUnavailable": 0}}),
                ),
                ("/spec/strategy/rollingUpdate", json!({"maxSurge": 0, "maxUnavailable": 0})),
                ("/spec/strategy/rollingUpdate", json!({"maxSurge": "x"})),
                ("/spec/strategy/rollingUpdate", json!({"maxUnavailable": "200%"})),
                ("/spec/strategy/type", json!("Nonsense")),
                ("/spec/paused", json!(true)),
                ("/spec/paused", json!(false)),
                ("/spec/minReadySeconds", json!(5)),
                ("/spec/minReadySeconds", json!(-1)),
                ("/spec/minReadySeconds", json!(700)),
                ("/spec/progressDeadlineSeconds", json!(null)),
                ("/spec/revisionHistoryLimit", json!(0)),
                ("/spec/revisionHistoryLimit", json!(-1)),
                ("/spec/replicas", json!(-1)),
                ("/spec/replicas", json!(null)),
                ("/spec/template/metadata/labels", json!({"other": "x"})),
                ("/spec/template/spec/restartPolicy", json!("Never")),
                ("/spec/template/spec/containers", json!([])),
                ("/status/replicas", json!(5)),
                ("/metadata/labels", json!({"l": "v"})),
                ("/spec/template", full_template()),
                ("/spec/template/spec/nodeSelector", json!({})),
            ],
        );
    });
}

#[test]
fn deployments_that_are_wrong() {
    play("deployments wrong", |on| {
        let selector = json!({"matchLabels": {"app": "web"}});
        let good = workload(on, "Deployment", json!({"selector": selector, "template": template("web:1")}));
        for (pointer, value) in [
            ("/spec", json!(null)),
            ("/spec/selector", json!(null)),
            ("/spec/selector", json!({})),
            ("/spec/selector", json!({"matchLabels": {"app": "other"}})),
            ("/spec/selector", json!({"matchExpressions": [{"key": "app", "operator": "In", "values": []}]})),
            ("/spec/selector", json!({"matchExpressions": [{"key": "app", "operator": "Nonsense"}]})),
            ("/spec/template", json!(null)),
            ("/spec/template/spec", json!(null)),
            ("/spec/template/spec/containers/0/name", json!("Not_A_Name")),
            ("/spec/template/spec/containers/0/name", json!(null)),
            ("/spec/template/spec/containers/0/imagePullPolicy", json!("Sometimes")),
            ("/spec/template/spec/containers/0/ports", json!([{"containerPort": 0}])),
            ("/spec/template/spec/containers/0/ports", json!([{"containerPort": 80, "name": "Upper"}])),
            ("/spec/template/spec/containers/0/ports", json!([{"containerPort": 80, "protocol": "ICMP"}])),
            (
                "/spec/template/spec/containers/0/ports",
                json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
            ),
            ("/spec/template/spec/containers/0/env", json!([{"name": ""}])),
            (
                "/spec/template/spec/containers/0/env",
                json!([{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            ),
            ("/spec/template/spec/containers/0/resources", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            ("/spec/template/spec/containers/0/resources", json!({"limits": {"cpu": "-1"}})),
            ("/spec/template/spec/containers/0/volumeMounts", json!([{"name": "none", "mountPath": "/x"}])),
            ("/spec/template/spec/containers/0/volumeMounts", json!([{"name": "v"}])),
            ("/spec/template/spec/volumes", json!([{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}])),
            ("/spec/template/spec/volumes", json!([{"name": "v"}, {"name": "v"}])),
            ("/spec/template/spec/volumes", json!([{"name": "Not_A_Name"}])),
            ("/spec/template/spec/restartPolicy", json!("OnFailure")),
            ("/spec/template/spec/dnsPolicy", json!("Nonsense")),
            ("/spec/template/spec/terminationGracePeriodSeconds", json!(-5)),
            ("/spec/template/spec/activeDeadlineSeconds", json!(5)),
            ("/spec/template/spec/serviceAccountName", json!("Not_A_Name")),
            ("/spec/template/spec/nodeSelector", json!({"-": "x"})),
            ("/spec/template/spec/containers/0/livenessProbe", json!({})),
            ("/spec/template/spec/containers/0/livenessProbe", json!({"httpGet": {"port": 0}})),
            ("/spec/template/metadata/labels/bad", json!("not a label")),
            ("/spec/progressDeadlineSeconds", json!(0)),
            ("/spec/unknown", json!(1)),
            ("/spec/template/spec/containers/0/imge", json!("x")),
        ] {
            let mut wrong = good.clone();
            put(&mut wrong, pointer, value);
            on.ask(create(&wrong).dry());
        }
        let mut mistyped = good.clone();
        put(&mut mistyped, "/spec/replicas", json!("three"));
        on.ask(create(&mistyped).dry().named("type"));
        put(&mut mistyped, "/spec/replicas", json!(1.5));
        on.ask(create(&mistyped).dry().named("type"));
        on.ask(apply(&mistyped).named("apply type"));
        put(&mut mistyped, "/spec/replicas", json!(5_000_000_000_i64));
        on.ask(create(&mistyped).dry().named("type"));
    });
}

#[test]
fn applying_a_deployment() {
    play("deployment", |on| {
        let deployment = |image: &str, env: Value| {
            let mut container = json!({"name": "web", "image": image, "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1000m", "memory": "64Mi"}}});
            if !env.is_null() {
                container["env"] = env;
            }
            json!({"selector": {"matchLabels": {"app": "web"}}, "replicas": 0, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}})
        };
        let of = |spec: Value| workload(on, "Deployment", spec);
        let containers = |list: Value| of(json!({"template": {"spec": {"containers": list}}}));
        let two = containers(
            json!([{"name": "web", "env": [{"name": "B", "value": "2"}]}, {"name": "side", "image": "side:1"}]),
        );
        let one = of(deployment("web:1", json!([{"name": "A", "value": "1"}])));
        let next = of(deployment("web:2", Value::Null));
        // It is applied once only: a second time it would change nothing but times, and with them the order of managers.
        let no_variables = of(deployment("web:2", json!([])));
        let mut other = next.clone();
        put(&mut other, "/spec/selector/matchLabels/app", json!("other"));
        let mut empty = next.clone();
        for (pointer, value) in [
            ("/spec/template/spec/containers/0/args", json!([])),
            ("/spec/template/spec/volumes", json!([])),
            ("/spec/template/spec/nodeSelector", json!({})),
            ("/spec/template/spec/tolerations", json!([])),
            ("/spec/template/spec/securityContext", json!({})),
            ("/spec/strategy", json!({})),
        ] {
            put(&mut empty, pointer, value);
        }
        let status = |count: u64| {
            let mut status = of(Value::Null);
            status.as_object_mut().unwrap().remove("spec");
            status["status"] = json!({"replicas": count, "conditions": [{"type": "Available", "status": "True"}]});
            status
        };
        let second = apply(&two).by("two");
        let requests = [
            apply(&next),
            apply(&next),
            apply(&no_variables),
            apply(&empty),
            apply(&next),
            apply(&other).forced().dry(),
            apply(containers(json!([{"name": "web", "image": "web:3"}]))).by("three"),
            apply(containers(json!([{"name": "web", "image": "web:3"}]))).by("three").forced(),
            apply(containers(json!([{"name": "web"}]))).by("three"),
            apply(containers(json!([{"image": "web"}]))).by("three"),
            apply(containers(json!([{"name": "web"}, {"name": "web"}]))).by("three"),
            apply(of(json!({"replicas": null}))).by("three"),
            apply(of(json!({"replicas": 5}))).by("scaler"),
            apply(of(json!({"replicas": 5}))).by("scaler").forced(),
            apply(of(json!({}))).by("scaler"),
            apply(status(1)).by("controller").status(),
            apply(status(2)).by("controller").status(),
            apply(status(3)).by("other").status(),
            apply(status(4)),
            apply(containers(
                json!([{"name": "web", "env": [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]}]),
            ))
            .by("three"),
            apply(containers(
                json!([{"name": "web", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}]),
            ))
            .by("three"),
            merge(&one, json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:9"}]}}}}))
                .by("hand"),
            merge(&one, json!({"metadata": {"managedFields": []}})),
            merge(&one, json!({"metadata": {"managedFields": [{}]}})),
            apply(&next),
            get(&one),
            delete(&two),
        ];
        on.ask(apply(&one));
        let written = on.ask(second);
        // Managers stand in the order of their times, in whole seconds. Were these the same, the same once more would be another
        // order, and so be stored.
        on.later_than(&written);
        on.all(requests);
    });
}

#[test]
fn replica_sets() {
    play("replica sets", |on| {
        let selector = json!({"matchLabels": {"app": "web"}});
        let web = workload(on, "ReplicaSet", json!({"selector": selector, "template": template("web:1")}));
        on.walk(
            &web,
            &[
                ("/spec/replicas", json!(3)),
                ("/spec/template/spec/containers/0/image", json!("web:2")),
                ("/spec/selector/matchLabels", json!({"app": "other"})),
                ("/spec/minReadySeconds", json!(5)),
                ("/spec/replicas", json!(-1)),
            ],
        );
    });
}

#[test]
fn stateful_sets() {
    play("stateful sets", |on| {
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
        let spec = json!({
            "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web", "template": template("web:1"),
            "volumeClaimTemplates": [claim],
        });
        on.walk(
            &workload(on, "StatefulSet", spec.clone()),
            &[
                ("/spec/replicas", json!(3)),
                ("/spec/template/spec/containers/0/image", json!("web:2")),
                ("/spec/serviceName", json!("other")),
                ("/spec/podManagementPolicy", json!("Parallel")),
                ("/spec/selector/matchLabels", json!({"app": "other"})),
                ("/spec/updateStrategy", json!({"type": "OnDelete"})),
                ("/spec/updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})),
                ("/spec/updateStrategy", json!({"type": "Nonsense"})),
                ("/spec/persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Delete"})),
                ("/spec/persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Nonsense"})),
                ("/spec/minReadySeconds", json!(5)),
                ("/spec/revisionHistoryLimit", json!(3)),
                ("/spec/ordinals", json!({"start": 3})),
                ("/spec/replicas", json!(-1)),
            ],
        );
        let mut claims = workload(on, "StatefulSet", spec);
        on.ask(create(&claims));
        put(&mut claims, "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", json!("2Gi"));
        on.all([replace(&claims).named("claims"), delete(&claims)]);
        for wrong in [
            json!({"selector": {"matchLabels": {"app": "web"}}, "template": template("web:1")}),
            json!({"selector": {"matchLabels": {"app": "other"}}, "template": template("web:1")}),
            json!({"template": template("web:1")}),
            json!({"selector": {}, "template": template("web:1")}),
        ] {
            on.ask(create(workload(on, "StatefulSet", wrong)).dry());
        }
    });
}

#[test]
fn daemon_sets() {
    play("daemon sets", |on| {
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template("web:1")});
        on.walk(
            &workload(on, "DaemonSet", spec),
            &[
                ("/spec/template/spec/containers/0/image", json!("web:2")),
                ("/spec/template/spec/nodeSelector", json!({"zone": "a"})),
                ("/spec/selector/matchLabels", json!({"app": "other"})),
                ("/spec/updateStrategy", json!({"type": "OnDelete"})),
                (
                    "/spec/updateStrategy",
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
                ),
                (
                    "/spec/updateStrategy",
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
                ),
                (
                    "/spec/updateStrategy",
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
                ),
                ("/spec/template/spec/restartPolicy", json!("Never")),
                ("/metadata/annotations", json!({"a": "b"})),
            ],
        );
    });
}

#[test]
fn jobs() {
    play("jobs", |on| {
        let mut template = template("web:1");
        put(&mut template, "/spec/restartPolicy", json!("Never"));
        let job = workload(on, "Job", json!({"template": template}));
        on.walk(
            &job,
            &[
                ("/spec/parallelism", json!(2)),
                ("/spec/completions", json!(3)),
                ("/spec/backoffLimit", json!(2)),
                ("/spec/activeDeadlineSeconds", json!(60)),
                ("/spec/ttlSecondsAfterFinished", json!(60)),
                ("/spec/suspend", json!(true)),
                ("/spec/completionMode", json!("Indexed")),
                ("/spec/selector", json!({"matchLabels": {"a": "b"}})),
                ("/spec/backoffLimit", json!(-1)),
                ("/spec/manualSelector", json!(true)),
                ("/metadata/labels", json!({"l": "v"})),
            ],
        );
        let of = |edits: &[(&str, Value)]| {
            let mut object = job.clone();
            for (pointer, value) in edits {
                put(&mut object, pointer, value.clone());
            }
            object
        };
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}});
        on.all([
            create(&job),
            merge(&job, &image).named("template"),
            merge(&job, json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}})).named("template"),
            merge(&job, json!({"spec": {"suspend": true}})),
            merge(&job, json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}})),
            merge(&job, &image).named("template"),
            delete(&job),
        ]);
        let chosen = of(&[("/spec/selector", json!({"matchLabels": {"app": "web"}}))]);
        on.ask(create(chosen).dry().named("selector"));
        let unlabelled = json!({"spec": template["spec"]});
        for object in [
            of(&[("/spec/template/spec/restartPolicy", json!("Always"))]),
            of(&[("/spec/template/spec/restartPolicy", json!(null))]),
            of(&[("/spec/template/spec/restartPolicy", json!("OnFailure"))]),
            of(&[("/spec/completions", json!(3)), ("/spec/completionMode", json!("Indexed"))]),
            of(&[("/spec/completionMode", json!("Indexed"))]),
            of(&[("/spec/selector", json!({"matchLabels": {"app": "web"}})), ("/spec/manualSelector", json!(true))]),
            of(&[("/spec/template", unlabelled)]),
            of(&[("/metadata/labels", json!({"own": "x"}))]),
            of(&[("/spec/parallelism", json!(-1))]),
            of(&[(
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}),
            )]),
            of(&[
                ("/spec/backoffLimitPerIndex", json!(1)),
                ("/spec/completions", json!(2)),
                ("/spec/completionMode", json!("Indexed")),
            ]),
            of(&[("/spec/template", json!(null))]),
            of(&[("/metadata/name", json!("n".repeat(64)))]),
        ] {
            on.ask(create(object).dry());
        }
    });
}

#[test]
fn cron_jobs() {
    play("cron jobs", |on| {
        let mut template = template("web:1");
        put(&mut template, "/spec/restartPolicy", json!("OnFailure"));
        let cron =
            workload(on, "CronJob", json!({"schedule": "0 2 * * *", "jobTemplate": {"spec": {"template": template}}}));
        on.walk(
            &cron,
            &[
                ("/spec/schedule", json!("@hourly")),
                ("/spec/schedule", json!("nonsense")),
                ("/spec/schedule", json!("")),
                ("/spec/timeZone", json!("Asia/Shanghai")),
                ("/spec/timeZone", json!("Nowhere/Nothing")),
                ("/spec/schedule", json!("TZ=UTC 0 2 * * *")),
                ("/spec/concurrencyPolicy", json!("Forbid")),
                ("/spec/concurrencyPolicy", json!("Nonsense")),
                ("/spec/suspend", json!(true)),
                ("/spec/startingDeadlineSeconds", json!(-1)),
                ("/spec/successfulJobsHistoryLimit", json!(1)),
                ("/spec/failedJobsHistoryLimit", json!(-1)),
                ("/spec/jobTemplate/spec/template/spec/containers/0/image", json!("web:2")),
                ("/spec/jobTemplate/spec/template/spec/restartPolicy", json!("Always")),
                ("/spec/jobTemplate/spec/backoffLimit", json!(3)),
                ("/spec/jobTemplate/metadata/labels", json!({"l": "v"})),
            ],
        );
        let mut long = cron;
        put(&mut long, "/metadata/name", json!("n".repeat(53)));
        on.ask(create(&long).dry());
    });
}

#[test]
fn pods() {
    play("pods", |on| {
        on.ask(create(
            on.placed(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})),
        ));
        let pod = on.placed(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        }));
        on.walk(
            &pod,
            &[
                ("/spec/containers/0/image", json!("web:2")),
                ("/spec/containers/0/name", json!("other")),
                ("/spec/containers/0/env", json!([{"name": "A", "value": "1"}])),
                ("/spec/activeDeadlineSeconds", json!(60)),
                ("/spec/tolerations/0/tolerationSeconds", json!(5)),
                ("/metadata/labels", json!({"app": "other"})),
                ("/spec/restartPolicy", json!("Never")),
                ("/spec/serviceAccountName", json!("other")),
            ],
        );
        let mut absent = pod.clone();
        put(&mut absent, "/spec/serviceAccountName", json!("absent"));
        let mut status = pod.clone();
        status["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
        on.all([create(&absent), create(&pod)]);
        on.all([
            merge(&pod, json!({"status": {"phase": "Running"}})),
            merge(&pod, json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}))
                .status(),
            merge(&pod, json!({"spec": {"nodeName": "node-a"}})).dry().named("bind"),
            delete(&pod).propagating("Foreground").named("grace"),
        ]);
        drop(status);
        let _ = replace(&pod);
    });
}
