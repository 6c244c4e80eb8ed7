//! Where Interlock lives: namespace, service accounts, Deployment, Service, disruption budget.

use serde_json::{Value, json};

use super::{CONTROLLER, NAMESPACE, ROOT_EXECUTOR, WEBHOOK_SERVICE, drills::DRILL, webhooks::labels};

/// The controller's container.
const CONTAINER: &str = "controller";
/// Port of the webhook server in the pod.
const WEBHOOK_PORT: u16 = 9443;
/// Port of metrics and probes in the pod.
const METRICS_PORT: u16 = 8080;
/// Port of the Service.
pub const SERVICE_PORT: u16 = 443;

/// Interlock's namespace, in which pods run restricted.
pub fn namespace() -> Value {
    let mut labels = labels();
    for mode in ["enforce", "audit", "warn"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
    }
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": labels } })
}

/// The service accounts of the controller, of the root System's executor and of drills. No pod runs as the latter two.
pub fn service_accounts() -> [Value; 3] {
    [(CONTROLLER, true), (ROOT_EXECUTOR, false), (DRILL, false)].map(|(name, mount)| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "namespace": NAMESPACE, "name": name, "labels": labels() },
            "automountServiceAccountToken": mount,
        })
    })
}

/// The controller in the cluster: two replicas, of which one leads and both answer webhooks.
pub fn controller(images: &Images<'_>) -> [Value; 3] {
    [deployment(images), service(), disruption_budget()]
}

/// Images of the controller, and of what it starts.
pub struct Images<'a> {
    /// Interlock's own.
    pub controller: &'a str,
    /// The one that brings restic, if not that of the release.
    pub restic: Option<&'a str>,
    /// The one with PostgreSQL's programs, if not that of the release.
    pub postgres: Option<&'a str>,
}

/// Images that somebody chose for a controller that is installed.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Interlock's own; none if it comes from no registry: the next release replaces it.
    pub controller: Option<String>,
    /// The one that brings restic.
    pub restic: Option<String>,
    /// The one with PostgreSQL's programs.
    pub postgres: Option<String>,
}

/// What was chosen for a Deployment of the controller.
pub fn chosen(deployment: &Value) -> Chosen {
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let container = containers.into_iter().flatten().find(|container| container["name"] == CONTAINER);
    let args = container.and_then(|container| container["args"].as_array()).into_iter().flatten();
    let args: Vec<_> = args.filter_map(Value::as_str).collect();
    // A person who patched it may have written name and value as one.
    let option = |name: &str| {
        let given = args.iter().enumerate().find_map(|(at, arg)| match arg.strip_prefix(name)? {
            "" => args.get(at + 1).copied(),
            rest => rest.strip_prefix('='),
        });
        given.map(ToOwned::to_owned)
    };
    let image = container.and_then(|container| container["image"].as_str());
    Chosen {
        controller: image.filter(|image| comes_from_a_registry(image)).map(ToOwned::to_owned),
        restic: option("--restic-image"),
        postgres: option("--postgres-image"),
    }
}

/// Whether an image was put where nodes fetch it; one of a bare name is that of a release, or lies on the nodes.
fn comes_from_a_registry(image: &str) -> bool {
    image.contains('/')
}

fn selector() -> Value {
    json!({ "app.kubernetes.io/name": "interlock", "app.kubernetes.io/component": "controller" })
}

fn deployment(images: &Images<'_>) -> Value {
    let mut args = vec![
        "run".to_owned(),
        "--webhook-bind".to_owned(),
        format!("0.0.0.0:{WEBHOOK_PORT}"),
        "--metrics-bind".to_owned(),
        format!("0.0.0.0:{METRICS_PORT}"),
    ];
    let others = [("--restic-image", images.restic), ("--postgres-image", images.postgres)];
    for (option, image) in [("--image", Some(images.controller))].into_iter().chain(others) {
        args.extend(image.into_iter().flat_map(|image| [option.to_owned(), image.to_owned()]));
    }
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "metrics" }, "periodSeconds": 5 });
    let container = json!({
        "name": CONTAINER,
        "image": images.controller,
        "args": args,
        "env": [
            { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
        ],
        "ports": [
            { "name": "webhook", "containerPort": WEBHOOK_PORT },
            { "name": "metrics", "containerPort": METRICS_PORT },
        ],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "resources": {
            "requests": { "cpu": "50m", "memory": "64Mi" },
            "limits": { "memory": "256Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": NAMESPACE, "name": CONTROLLER, "labels": labels() },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": selector() },
            // A new pod answers before an old one goes: webhooks fail closed.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": selector() },
                "spec": {
                    "serviceAccountName": CONTROLLER,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": { "matchLabels": selector() },
                    }],
                    "containers": [container],
                },
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": NAMESPACE, "name": WEBHOOK_SERVICE, "labels": labels() },
        "spec": {
            "selector": selector(),
            "ports": [{ "name": "webhook", "port": SERVICE_PORT, "targetPort": "webhook", "protocol": "TCP" }],
        },
    })
}

fn disruption_budget() -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "namespace": NAMESPACE, "name": CONTROLLER, "labels": labels() },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": selector() } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_meet_the_restricted_standard_that_the_namespace_demands() {
        assert_eq!(namespace()["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
        let images = Images {
            controller: "registry.bank.example/interlock:1",
            restic: None,
            postgres: Some("registry.bank.example/postgres:18"),
        };
        let [deployment, service, budget] = controller(&images);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "registry.bank.example/interlock:1");
        let args = container["args"].as_array().unwrap();
        let [.., own, own_image, option, postgres] = &args[..] else { panic!("{args:?}") };
        assert_eq!((own, own_image), (&json!("--image"), &container["image"]));
        assert_eq!((option, postgres), (&json!("--postgres-image"), &json!("registry.bank.example/postgres:18")));
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for selector in [
            &deployment["spec"]["selector"]["matchLabels"],
            &service["spec"]["selector"],
            &budget["spec"]["selector"]["matchLabels"],
        ] {
            assert_eq!(selector, labels);
        }
        assert_eq!(service["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
    }

    #[test]
    fn what_was_chosen_is_recognised_however_it_is_written() {
        let of = |image: &str, args: &[&str]| {
            let container = json!({ "name": CONTAINER, "image": image, "args": args });
            chosen(&json!({ "spec": { "template": { "spec": { "containers": [container] } } } }))
        };
        for own in ["registry.bank.example/interlock:1", "bank/interlock@sha256:0a", "localhost:5000/interlock"] {
            assert_eq!(of(own, &[]).controller.as_deref(), Some(own));
        }
        for bare in ["interlock:0.0.1", "interlock@sha256:0a", "interlock-fips:1", "interlock"] {
            assert_eq!(of(bare, &[]).controller, None, "{bare}");
        }
        for args in [&["run", "--restic-image", "own/restic:1"][..], &["run", "--restic-image=own/restic:1"]] {
            let found = of("interlock:1", args);
            assert_eq!((found.restic.as_deref(), found.postgres), (Some("own/restic:1"), None), "{args:?}");
        }
        assert_eq!(of("interlock:1", &["run", "--restic-images", "x", "--restic-image"]).restic, None);
    }

    #[test]
    fn no_pod_can_run_with_the_token_of_the_root_executor_by_default() {
        let [_, executor, _] = service_accounts();
        assert_eq!(executor["metadata"]["name"], "interlock-root-executor");
        assert_eq!(executor["automountServiceAccountToken"], false);
    }
}
