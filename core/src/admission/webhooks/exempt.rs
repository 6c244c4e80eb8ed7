//! The built-in writers that pass without Interlock: exact triples of user, resource and operation.
//!
//! They stand in the webhook's `matchConditions`, so that the API server lets them pass by itself and a cluster keeps
//! running with no Interlock pod alive. Taken from the requests that Kubernetes 1.37 really makes (its sources, and
//! `pkg/.../rbac/bootstrappolicy/controller_policy.go` for the identities); a right that a controller has but does not
//! use on governed kinds is left out. Each controller has a ServiceAccount of its own only if kube-controller-manager
//! runs with `--use-service-account-credentials`.
//!
//! **Never here:** "anything with an ownerReference" and any field manager, as users write those; the deployment
//! controller's UPDATE of Deployments, which only answers the annotation `deprecated.deployment.rollback.to`, and
//! that annotation can be set through `deployments/status`; and the recycler pods of the volume binder.

use serde_json::{Value, json};

use super::cel;

const CREATE: &str = "CREATE";
const UPDATE: &str = "UPDATE";
const DELETE: &str = "DELETE";

/// A writer that passes.
struct Exemption {
    /// Name of the match condition.
    name: &'static str,
    /// Exact user name.
    user: &'static str,
    /// Group and plural name; `None` for any resource of the entry.
    resource: Option<(&'static str, &'static str)>,
    /// Operations that pass.
    operations: &'static [&'static str],
    /// A further CEL phrase that must hold.
    when: Option<&'static str>,
}

/// A controller of kube-controller-manager, by the name of its ServiceAccount in kube-system.
macro_rules! controller {
    ($name:literal) => {
        concat!("system:serviceaccount:kube-system:", $name)
    };
}

const fn exempt(
    name: &'static str,
    user: &'static str,
    resource: Option<(&'static str, &'static str)>,
    operations: &'static [&'static str],
) -> Exemption {
    Exemption { name, user, resource, operations, when: None }
}

const fn exempt_when(
    name: &'static str,
    user: &'static str,
    resource: (&'static str, &'static str),
    operations: &'static [&'static str],
    when: &'static str,
) -> Exemption {
    Exemption { name, user, resource: Some(resource), operations, when: Some(when) }
}

const PODS: Option<(&str, &str)> = Some(("", "pods"));
const CLAIMS: Option<(&str, &str)> = Some(("", "persistentvolumeclaims"));
const JOBS: Option<(&str, &str)> = Some(("batch", "jobs"));
const ENDPOINTS: Option<(&str, &str)> = Some(("", "endpoints"));
const SLICES: Option<(&str, &str)> = Some(("discovery.k8s.io", "endpointslices"));
const REVISIONS: Option<(&str, &str)> = Some(("apps", "controllerrevisions"));
const IS_KUBERNETES: &str =
    "request.namespace == 'default' && has(object.metadata.name) && object.metadata.name == 'kubernetes'";
const IS_TOKEN_SECRET: &str = "has(oldObject.type) && oldObject.type == 'kubernetes.io/service-account-token'";

/// Those of the governed kinds in namespaces.
const NAMESPACED: &[Exemption] = &[
    // Workload controllers. UPDATE of pods and ReplicaSets is adoption, release, tracking finalizers and scaling.
    exempt(
        "deployment-controller-replicasets",
        controller!("deployment-controller"),
        Some(("apps", "replicasets")),
        &[CREATE, UPDATE, DELETE],
    ),
    exempt("replicaset-controller-pods", controller!("replicaset-controller"), PODS, &[CREATE, UPDATE, DELETE]),
    exempt("replication-controller-pods", controller!("replication-controller"), PODS, &[CREATE, UPDATE, DELETE]),
    exempt("statefulset-controller-pods", controller!("statefulset-controller"), PODS, &[CREATE, UPDATE, DELETE]),
    exempt("statefulset-controller-claims", controller!("statefulset-controller"), CLAIMS, &[CREATE, UPDATE]),
    exempt("daemon-set-controller-pods", controller!("daemon-set-controller"), PODS, &[CREATE, UPDATE, DELETE]),
    exempt("job-controller-pods", controller!("job-controller"), PODS, &[CREATE, UPDATE, DELETE]),
    exempt("cronjob-controller-jobs", controller!("cronjob-controller"), JOBS, &[CREATE, DELETE]),
    exempt("ttl-after-finished-controller-jobs", controller!("ttl-after-finished-controller"), JOBS, &[DELETE]),
    Exemption {
        name: "horizontal-pod-autoscaler-scale",
        user: controller!("horizontal-pod-autoscaler"),
        resource: None,
        operations: &[UPDATE],
        when: Some("has(request.subResource) && request.subResource == 'scale'"),
    },
    // Cleaning up.
    exempt("generic-garbage-collector", controller!("generic-garbage-collector"), None, &[UPDATE, DELETE]),
    exempt("namespace-controller", controller!("namespace-controller"), None, &[DELETE]),
    exempt("pod-garbage-collector-pods", controller!("pod-garbage-collector"), PODS, &[DELETE]),
    exempt("node-controller-pods", controller!("node-controller"), PODS, &[DELETE]),
    exempt("device-taint-eviction-pods", controller!("device-taint-eviction-controller"), PODS, &[DELETE]),
    exempt("storage-version-migrator", controller!("storage-version-migrator-controller"), None, &[UPDATE]),
    // What every namespace is given.
    exempt_when(
        "root-ca-cert-publisher",
        controller!("root-ca-cert-publisher"),
        ("", "configmaps"),
        &[CREATE, UPDATE],
        "has(object.metadata.name) && object.metadata.name == 'kube-root-ca.crt'",
    ),
    exempt_when(
        "service-account-controller-default",
        controller!("service-account-controller"),
        ("", "serviceaccounts"),
        &[CREATE],
        "has(object.metadata.name) && object.metadata.name == 'default'",
    ),
    // Token Secrets of the old kind. The token controller has no ServiceAccount of its own, as it makes their tokens.
    exempt_when(
        "token-cleaner-secrets",
        controller!("legacy-service-account-token-cleaner"),
        ("", "secrets"),
        &[UPDATE, DELETE],
        IS_TOKEN_SECRET,
    ),
    exempt_when(
        "token-controller-secrets",
        "system:kube-controller-manager",
        ("", "secrets"),
        &[UPDATE, DELETE],
        IS_TOKEN_SECRET,
    ),
    exempt("token-controller-references", "system:kube-controller-manager", Some(("", "serviceaccounts")), &[UPDATE]),
    // Volume claims.
    exempt("persistent-volume-binder-claims", controller!("persistent-volume-binder"), CLAIMS, &[UPDATE]),
    exempt("pvc-protection-controller-claims", controller!("pvc-protection-controller"), CLAIMS, &[UPDATE]),
    exempt("ephemeral-volume-controller-claims", controller!("ephemeral-volume-controller"), CLAIMS, &[CREATE]),
    // The scheduler: preemption, and the chosen node of a claim. Its binding is a subresource that is not governed.
    exempt("scheduler-preemption", "system:kube-scheduler", PODS, &[DELETE]),
    exempt("scheduler-claims", "system:kube-scheduler", CLAIMS, &[UPDATE]),
    // The API server's own Service.
    exempt_when("apiserver-kubernetes-service", "system:apiserver", ("", "services"), &[CREATE, UPDATE], IS_KUBERNETES),
    // What controllers derive, of kinds that a System may add: endpoints and revisions of workloads.
    exempt("endpoint-controller", controller!("endpoint-controller"), ENDPOINTS, &[CREATE, UPDATE, DELETE]),
    exempt("endpointslice-controller", controller!("endpointslice-controller"), SLICES, &[CREATE, UPDATE, DELETE]),
    exempt(
        "endpointslicemirroring-controller",
        controller!("endpointslicemirroring-controller"),
        SLICES,
        &[CREATE, UPDATE, DELETE],
    ),
    exempt_when(
        "apiserver-kubernetes-endpoints",
        "system:apiserver",
        ("", "endpoints"),
        &[CREATE, UPDATE],
        IS_KUBERNETES,
    ),
    exempt_when(
        "apiserver-kubernetes-slices",
        "system:apiserver",
        ("discovery.k8s.io", "endpointslices"),
        &[CREATE, UPDATE],
        IS_KUBERNETES,
    ),
    exempt(
        "statefulset-controller-revisions",
        controller!("statefulset-controller"),
        REVISIONS,
        &[CREATE, UPDATE, DELETE],
    ),
    exempt(
        "daemon-set-controller-revisions",
        controller!("daemon-set-controller"),
        REVISIONS,
        &[CREATE, UPDATE, DELETE],
    ),
];

/// Those of cluster-scoped objects that a System names.
const CLUSTER: &[Exemption] = &[
    exempt("generic-garbage-collector", controller!("generic-garbage-collector"), None, &[UPDATE, DELETE]),
    exempt("storage-version-migrator", controller!("storage-version-migrator-controller"), None, &[UPDATE]),
    exempt(
        "clusterrole-aggregation",
        controller!("clusterrole-aggregation-controller"),
        Some(("rbac.authorization.k8s.io", "clusterroles")),
        &[UPDATE],
    ),
    // At each start the API server restores the default roles.
    exempt(
        "apiserver-default-clusterroles",
        "system:apiserver",
        Some(("rbac.authorization.k8s.io", "clusterroles")),
        &[CREATE, UPDATE],
    ),
    exempt(
        "apiserver-default-clusterrolebindings",
        "system:apiserver",
        Some(("rbac.authorization.k8s.io", "clusterrolebindings")),
        &[CREATE, UPDATE],
    ),
    exempt(
        "persistent-volume-binder-volumes",
        controller!("persistent-volume-binder"),
        Some(("", "persistentvolumes")),
        &[CREATE, UPDATE, DELETE],
    ),
    exempt(
        "pv-protection-controller-volumes",
        controller!("pv-protection-controller"),
        Some(("", "persistentvolumes")),
        &[UPDATE],
    ),
    exempt("expand-controller-volumes", controller!("expand-controller"), Some(("", "persistentvolumes")), &[UPDATE]),
    exempt("scheduler-volumes", "system:kube-scheduler", Some(("", "persistentvolumes")), &[UPDATE]),
];

impl Exemption {
    fn condition(&self) -> Value {
        let mut phrases =
            vec![format!("request.userInfo.username == {}", cel::quote(self.user)), cel::operation_in(self.operations)];
        if let Some((group, resource)) = self.resource {
            phrases.push(cel::resource_is(group, resource));
        }
        phrases.extend(self.when.map(str::to_owned));
        unless(self.name, &phrases)
    }
}

/// A match condition that keeps the webhook from being called when all `phrases` hold.
fn unless(name: &str, phrases: &[String]) -> Value {
    json!({ "name": name, "expression": format!("!({})", phrases.join(" && ")) })
}

/// A kubelet and its own pods: it removes them when they have ended, and announces its static ones.
fn kubelet() -> [Value; 2] {
    let pods = cel::resource_is("", "pods");
    [
        unless(
            "kubelet-own-pods",
            &[
                cel::operation_in(&[DELETE]),
                pods.clone(),
                "has(oldObject.spec.nodeName)".to_owned(),
                "request.userInfo.username == 'system:node:' + oldObject.spec.nodeName".to_owned(),
            ],
        ),
        unless(
            "kubelet-mirror-pods",
            &[
                cel::operation_in(&[CREATE]),
                pods,
                "has(object.spec.nodeName)".to_owned(),
                "request.userInfo.username == 'system:node:' + object.spec.nodeName".to_owned(),
                "has(object.metadata.annotations)".to_owned(),
                "'kubernetes.io/config.mirror' in object.metadata.annotations".to_owned(),
            ],
        ),
    ]
}

/// Something that stands for kubelets, such as kwok: it may remove pods that are already being deleted.
fn node_agent(index: usize, user: &str) -> Value {
    unless(
        &format!("node-agent-{index}"),
        &[
            format!("request.userInfo.username == {}", cel::quote(user)),
            cel::operation_in(&[DELETE]),
            cel::resource_is("", "pods"),
            "has(oldObject.metadata.deletionTimestamp)".to_owned(),
        ],
    )
}

/// Anyone may take finalizers off an object that is being deleted, and change nothing else with it.
fn finalizer_removal() -> Value {
    unless(
        "finalizer-removal",
        &[
            cel::operation_in(&[UPDATE]),
            "has(oldObject.metadata.deletionTimestamp)".to_owned(),
            cel::FINALIZERS_ONLY_SHRINK.to_owned(),
            cel::METADATA_DIFFERS_IN_FINALIZERS_ONLY.to_owned(),
            cel::CONTENT_IS_UNCHANGED.to_owned(),
        ],
    )
}

/// The match conditions of the entries for governed kinds in namespaces.
pub fn namespaced(node_agents: &[String]) -> Vec<Value> {
    let mut conditions: Vec<_> = NAMESPACED.iter().map(Exemption::condition).collect();
    conditions.extend(kubelet());
    conditions.extend(node_agents.iter().enumerate().map(|(index, user)| node_agent(index, user)));
    conditions.push(finalizer_removal());
    conditions
}

/// The match conditions, beside the list of objects, of the entries for cluster-scoped objects.
pub fn cluster() -> Vec<Value> {
    let mut conditions: Vec<_> = CLUSTER.iter().map(Exemption::condition).collect();
    conditions.push(finalizer_removal());
    conditions
}

/// The match conditions of the entry for Interlock's own kinds: the teardown of a namespace passes. The garbage
/// collector does not: with an ownerReference of one's own making it would delete a running change.
pub fn own_kinds() -> Vec<Value> {
    vec![exempt("namespace-controller", controller!("namespace-controller"), None, &[DELETE]).condition()]
}
