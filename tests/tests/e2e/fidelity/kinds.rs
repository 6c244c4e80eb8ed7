//! The other built-in kinds: defaults, and what may change.

use serde_json::{Value, json};

use super::{
    play::{Case, play},
    request::{apply, create, delete, merge, put},
};

fn object(on: &Case, version: &str, kind: &str, content: Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web"}});
    object.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    on.placed(object)
}

/// Each is tried.
fn try_all(on: &mut Case, good: &Value, edits: &[(&str, Value)]) {
    for (pointer, value) in edits {
        let mut object = good.clone();
        put(&mut object, pointer, value.clone());
        put(&mut object, "/metadata/name", json!("tried"));
        on.ask(create(&object).dry());
    }
}

#[test]
fn config_maps_and_secrets() {
    play("configs", |on| {
        let config = object(on, "v1", "ConfigMap", json!({"data": {"a": "1"}, "binaryData": {"b": "AAEC"}}));
        on.walk(
            &config,
            &[
                ("/data", json!(null)),
                ("/immutable", json!(true)),
                ("/data", json!({"a": "2"})),
                ("/binaryData/b", json!("AAEE")),
                ("/immutable", json!(false)),
                ("/metadata/labels", json!({"l": "v"})),
            ],
        );
        let secret =
            object(on, "v1", "Secret", json!({"stringData": {"a": "text"}, "data": {"b": "AAEC", "a": "AAEC"}}));
        on.walk(
            &secret,
            &[
                ("/stringData", json!({"c": "more"})),
                ("/type", json!("example.org/other")),
                ("/data/b", json!(null)),
                ("/immutable", json!(true)),
                ("/data", json!({"x": "AAEC"})),
                ("/stringData", json!({"y": "z"})),
                ("/immutable", json!(null)),
            ],
        );
        let typed = |of: &str, data: Value| object(on, "v1", "Secret", json!({"type": of, "data": data}));
        let typed = [
            typed("kubernetes.io/tls", json!({})),
            typed("kubernetes.io/tls", json!({"tls.crt": "AAEC", "tls.key": "AAEC"})),
            typed("kubernetes.io/basic-auth", json!({})),
            typed("kubernetes.io/ssh-auth", json!({})),
            typed("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "AAEC"})),
            typed("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="})),
            typed("kubernetes.io/service-account-token", json!({})),
            typed("", json!({})),
        ];
        for secret in &typed {
            let name = if secret["data"][".dockerconfigjson"] == "AAEC" { "docker" } else { "" };
            on.ask(create(secret).dry().named(name));
        }
        let stated = |data: Value| object(on, "v1", "Secret", json!({"stringData": data}));
        let requests = [
            apply(stated(json!({"a": "1"}))),
            apply(stated(json!({"a": "1"}))),
            apply(stated(json!({"b": "1"}))),
            apply(object(on, "v1", "Secret", json!({"data": {"b": "AAEC"}}))),
            apply(object(on, "v1", "Secret", json!({"data": {"b": "AAEC"}}))).by("two"),
            merge(&secret, json!({"data": {"b": null}})),
            delete(&secret),
        ];
        on.all(requests);
    });
}

#[test]
fn services() {
    play("services", |on| {
        let service =
            object(on, "v1", "Service", json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}));
        on.walk(
            &service,
            &[
                ("/spec/ports/0/targetPort", json!("http")),
                ("/spec/ports/0/port", json!(8080)),
                ("/spec/clusterIP", json!("10.96.200.200")),
                ("/spec/clusterIP", json!(null)),
                ("/spec/clusterIPs", json!(null)),
                ("/spec/selector", json!({"app": "other"})),
                ("/spec/sessionAffinity", json!("ClientIP")),
                ("/spec/sessionAffinity", json!("None")),
                ("/spec/ports", json!([])),
                ("/spec/ports", json!([{"port": 80}, {"port": 81}])),
                ("/spec/ports", json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b", "protocol": "UDP"}])),
                ("/spec/ports", json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])),
                ("/spec/ports", json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}])),
                ("/spec/ports", json!([{"port": 0}])),
                ("/spec/ports", json!([{"port": 80, "nodePort": 30080}])),
                ("/spec/type", json!("Nonsense")),
                ("/spec/type", json!("NodePort")),
                ("/spec/type", json!("LoadBalancer")),
                ("/spec/externalTrafficPolicy", json!("Local")),
                ("/spec/publishNotReadyAddresses", json!(true)),
                ("/status/loadBalancer", json!({"ingress": [{"ip": "1.2.3.4"}]})),
            ],
        );
        let outside = json!({"type": "ExternalName", "externalName": "example.org"});
        try_all(
            on,
            &service,
            &[
                ("/spec/clusterIP", json!("None")),
                ("/spec", outside),
                ("/spec", json!({"type": "ExternalName"})),
                ("/spec", json!({"ports": [{"port": 80}]})),
                ("/spec", json!({})),
                ("/spec", json!(null)),
                ("/spec/ports/0/targetPort", json!(70_000)),
                ("/spec/ports/0/protocol", json!("ICMP")),
                ("/spec/ports/0/name", json!("Not_A_Name")),
                ("/spec/selector", json!({"app": "not a label"})),
                ("/spec/type", json!("NodePort")),
            ],
        );
        let mut outside = service.clone();
        put(&mut outside, "/spec/clusterIP", json!("10.0.0.1"));
        on.ask(create(&outside).dry().named("range"));
        let back = |kind: &str| json!({"spec": {"type": kind}});
        on.all([
            create(&service),
            merge(&service, back("NodePort")),
            merge(&service, json!({"spec": {"ports": [{"port": 81}]}})),
            merge(&service, back("ClusterIP")),
            merge(&service, json!({"spec": {"type": "ExternalName", "externalName": "example.org"}})),
            merge(&service, json!({"spec": {"type": "ExternalName", "externalName": "example.org", "clusterIP": null, "clusterIPs": null}})),
            merge(&service, json!({"spec": {"type": "ClusterIP", "externalName": null}})),
            delete(&service),
        ]);
    });
}

#[test]
fn autoscalers() {
    play("autoscalers", |on| {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let scaler = object(
            on,
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"scaleTargetRef": target, "maxReplicas": 5}}),
        );
        let cpu = |name: &str| json!([{"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": 50}}}]);
        on.walk(
            &scaler,
            &[
                ("/spec/minReplicas", json!(2)),
                ("/spec/maxReplicas", json!(1)),
                ("/spec/maxReplicas", json!(0)),
                ("/spec/minReplicas", json!(0)),
                ("/spec/metrics", cpu("memory")),
                ("/spec/metrics", json!([{"type": "Resource"}])),
                ("/spec/metrics", json!([])),
                ("/spec/behavior", json!({"scaleDown": {"stabilizationWindowSeconds": 60}})),
                (
                    "/spec/behavior",
                    json!({"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}]}}),
                ),
                ("/spec/scaleTargetRef", json!({"kind": "", "name": ""})),
                ("/metadata/labels", json!({"l": "v"})),
            ],
        );
    });
}

#[test]
fn budgets() {
    play("budgets", |on| {
        let budget = object(
            on,
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1}}),
        );
        on.walk(
            &budget,
            &[
                ("/spec/minAvailable", json!("50%")),
                ("/spec/maxUnavailable", json!(1)),
                ("/spec/minAvailable", json!(-1)),
                ("/spec/minAvailable", json!("x")),
                ("/spec/selector", json!({"matchLabels": {"app": "other"}})),
                ("/spec/selector", json!({})),
                ("/spec/unhealthyPodEvictionPolicy", json!("AlwaysAllow")),
                ("/spec/unhealthyPodEvictionPolicy", json!("Nonsense")),
            ],
        );
        try_all(on, &budget, &[("/spec/selector", json!(null)), ("/spec/minAvailable", json!(null))]);
    });
}

#[test]
fn network_policies_and_ingresses() {
    play("network", |on| {
        let policy = object(on, "networking.k8s.io/v1", "NetworkPolicy", json!({"spec": {"podSelector": {}}}));
        on.walk(
            &policy,
            &[
                (
                    "/spec/ingress",
                    json!([{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 80}]}]),
                ),
                ("/spec/egress", json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}])),
                ("/spec/policyTypes", json!(["Ingress", "Egress"])),
                ("/spec/policyTypes", json!(["Nonsense"])),
                ("/spec/egress", json!([{"to": [{"ipBlock": {"cidr": "nonsense"}}]}])),
                ("/spec/ingress", json!([])),
            ],
        );
        try_all(on, &policy, &[("/spec/egress", json!([{}])), ("/spec/podSelector", json!(null))]);
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let rule = json!({"host": "example.org", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
        let ingress = object(on, "networking.k8s.io/v1", "Ingress", json!({"spec": {"rules": [rule]}}));
        on.walk(
            &ingress,
            &[
                ("/spec/tls", json!([{"hosts": ["example.org"], "secretName": "tls"}])),
                ("/spec/ingressClassName", json!("nginx")),
                ("/spec/defaultBackend", backend.clone()),
                ("/spec/rules", json!([])),
                ("/spec/defaultBackend", json!(null)),
                ("/spec/rules", json!([{"http": {"paths": [{"path": "x", "backend": backend}]}}])),
            ],
        );
    });
}

#[test]
fn accounts_and_roles() {
    play("accounts", |on| {
        let account = object(on, "v1", "ServiceAccount", json!({}));
        on.walk(
            &account,
            &[
                ("/automountServiceAccountToken", json!(false)),
                ("/imagePullSecrets", json!([{"name": "pull"}])),
                ("/secrets", json!([{"name": "s"}])),
                ("/metadata/annotations", json!({"a": "b"})),
            ],
        );
        let role = object(
            on,
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        );
        on.walk(
            &role,
            &[
                ("/rules", json!([])),
                ("/rules", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": []}])),
                ("/rules", json!([{"verbs": ["get"]}])),
                ("/rules", json!(null)),
            ],
        );
        let subject = json!({"kind": "ServiceAccount", "name": "web"});
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"});
        let binding = object(
            on,
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"subjects": [subject], "roleRef": reference}),
        );
        on.walk(
            &binding,
            &[
                ("/subjects", json!([{"kind": "User", "name": "alice"}])),
                ("/subjects", json!([{"kind": "ServiceAccount", "name": "web", "namespace": "other"}])),
                ("/subjects", json!([{"kind": "Nonsense", "name": "x"}])),
                ("/subjects", json!([])),
                ("/roleRef/name", json!("other")),
                ("/roleRef/kind", json!("ClusterRole")),
            ],
        );
        try_all(
            on,
            &binding,
            &[
                ("/roleRef", json!(null)),
                ("/roleRef/kind", json!("Nonsense")),
                ("/roleRef/apiGroup", json!(null)),
                ("/roleRef/name", json!("")),
            ],
        );
    });
}

#[test]
fn claims_and_volumes() {
    play("claims", |on| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let claim = object(on, "v1", "PersistentVolumeClaim", json!({"spec": spec}));
        on.walk(
            &claim,
            &[
                ("/spec/resources/requests/storage", json!("2Gi")),
                ("/spec/accessModes", json!(["ReadWriteMany"])),
                ("/spec/storageClassName", json!("fast")),
                ("/spec/volumeName", json!("pv-1")),
                ("/spec/volumeName", json!("pv-2")),
                ("/spec/volumeMode", json!("Block")),
                ("/metadata/labels", json!({"l": "v"})),
                ("/metadata/finalizers", json!(null)),
            ],
        );
        try_all(
            on,
            &claim,
            &[
                ("/spec/accessModes", json!([])),
                ("/spec/accessModes", json!(["Nonsense"])),
                ("/spec/resources", json!(null)),
                ("/spec/resources/requests/storage", json!("0")),
                ("/spec/resources/requests/storage", json!("nonsense")),
                ("/spec/storageClassName", json!("")),
                ("/spec/selector", json!({"matchLabels": {"a": "b"}})),
            ],
        );
    });
}

#[test]
fn cluster_wide_kinds() {
    play("cluster wide", |on| {
        let plain = |version: &str, kind: &str, content: Value| {
            let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "fidelity-wide"}});
            object.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            object
        };
        on.walk(
            &plain("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "example.org/x"})),
            &[
                ("/provisioner", json!("other")),
                ("/reclaimPolicy", json!("Retain")),
                ("/allowVolumeExpansion", json!(true)),
                ("/parameters", json!({"a": "b"})),
            ],
        );
        on.walk(
            &plain("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 5})),
            &[
                ("/value", json!(6)),
                ("/description", json!("x")),
                ("/preemptionPolicy", json!("Never")),
                ("/globalDefault", json!(true)),
            ],
        );
        let rules = json!({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]});
        on.walk(
            &plain("rbac.authorization.k8s.io/v1", "ClusterRole", rules),
            &[("/rules", json!([])), ("/aggregationRule", json!({"clusterRoleSelectors": []}))],
        );
        on.walk(
            &plain("v1", "PersistentVolume", json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})),
            &[("/spec/persistentVolumeReclaimPolicy", json!("Delete")), ("/spec/capacity/storage", json!("2Gi")), ("/spec/hostPath/path", json!("/y"))],
        );
        on.named("node").walk(
            &plain("v1", "Node", json!({})),
            &[
                ("/spec/unschedulable", json!(true)),
                ("/spec/taints", json!([{"key": "a", "effect": "NoSchedule"}])),
                ("/metadata/labels", json!({"l": "v"})),
            ],
        );
        let place = plain("v1", "Namespace", json!({}));
        on.named("").walk(
            &place,
            &[
                ("/metadata/labels/l", json!("v")),
                ("/metadata/labels", json!(null)),
                ("/spec/finalizers", json!(["example.org/x"])),
                ("/status/phase", json!("x")),
            ],
        );
    });
}

#[test]
fn quotas_ranges_and_slices() {
    play("quotas", |on| {
        let quota =
            object(on, "v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "5", "requests.cpu": "1000m"}}}));
        on.walk(
            &quota,
            &[
                ("/spec/hard/pods", json!("6")),
                ("/spec/hard/pods", json!("-1")),
                ("/spec/scopes", json!(["Terminating"])),
            ],
        );
        let range =
            object(on, "v1", "LimitRange", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}));
        on.walk(&range, &[("/spec/limits/0/max/cpu", json!("3000m"))]);
        let mut odd = range.clone();
        put(&mut odd, "/spec/limits/0/min", json!({"cpu": "5"}));
        on.ask(create(&odd).dry().named("range"));
        let slice = object(
            on,
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        );
        on.walk(
            &slice,
            &[
                ("/endpoints", json!([])),
                ("/addressType", json!("IPv6")),
                ("/ports", json!([{"name": "a", "port": 81}])),
            ],
        );
        let lease = object(
            on,
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        );
        on.walk(
            &lease,
            &[
                ("/spec/renewTime", json!("2026-01-01T00:00:01.123456Z")),
                ("/spec/leaseDurationSeconds", json!(0)),
                ("/spec/holderIdentity", json!("")),
            ],
        );
        let revision =
            object(on, "apps/v1", "ControllerRevision", json!({"revision": 1, "data": {"any": [1, null, {}]}}));
        on.named("revision")
            .walk(&revision, &[("/revision", json!(2)), ("/data", json!({"other": 1})), ("/revision", json!(-1))]);
    });
}
