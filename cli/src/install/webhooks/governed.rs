//! Which resources the webhooks are called for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::cel;

/// A namespaced resource that is governed, by group and plural name, in any version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, with its subresource if that is what is governed: `deployments/scale`.
    pub resource: String,
}

impl Resource {
    /// The resource `resource` of `group`.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    /// The plural name without subresource.
    pub fn main(&self) -> &str {
        self.resource.split_once('/').map_or(self.resource.as_str(), |(main, _)| main)
    }
}

/// Governed by default: workloads, config, services, routes, RBAC, autoscaling, storage claims.
///
/// Not here, on purpose: leases, events, nodes, `endpointslices`, `*/status`, `pods/binding` and `pods/eviction`, which
/// the cluster itself writes all the time, and `controllerrevisions`, which change nothing until their StatefulSet or
/// DaemonSet is edited.
const BY_DEFAULT: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "persistentvolumeclaims",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("gateway.networking.k8s.io", &["grpcroutes", "httproutes", "tcproutes", "tlsroutes", "udproutes"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
    ("rbac.authorization.k8s.io", &["rolebindings", "roles"]),
];

/// The resources that are governed by default.
pub fn by_default() -> BTreeSet<Resource> {
    BY_DEFAULT
        .iter()
        .flat_map(|(group, resources)| resources.iter().map(|resource| Resource::new(group, resource)))
        .collect()
}

/// The default and `extra`, each with its `/scale`: a custom resource without that subresource is not hurt by it.
pub fn with(extra: &[Resource]) -> BTreeSet<Resource> {
    let mut governed = by_default();
    for resource in extra {
        if !governed.contains(resource) {
            governed.insert(resource.clone());
            governed.insert(Resource::new(&resource.group, &format!("{}/scale", resource.main())));
        }
    }
    governed
}

/// The extra resources that an existing configuration `webhooks` governs in the entry `entry`: what the controller
/// added for `governs.add`, and a second installation must not take away.
pub fn added_to(configuration: &Value, entry: &str) -> Vec<Resource> {
    let by_default = by_default();
    let entries = configuration["webhooks"].as_array().into_iter().flatten();
    let rules = entries.filter(|found| found["name"] == entry).filter_map(|found| found["rules"].as_array()).flatten();
    let mut added = Vec::new();
    for rule in rules {
        for group in rule["apiGroups"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            for resource in rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let found = Resource::new(group, resource);
                if !resource.contains('/') && !by_default.contains(&found) {
                    added.push(found);
                }
            }
        }
    }
    added
}

/// The rules of a webhook entry for `resources`: one per group, all operations, namespaced objects only (a
/// namespaceSelector does not hold back cluster-scoped ones).
pub fn rules(resources: &BTreeSet<Resource>) -> Vec<Value> {
    let groups: BTreeSet<_> = resources.iter().map(|resource| resource.group.as_str()).collect();
    groups
        .into_iter()
        .map(|group| {
            let names: Vec<_> = resources.iter().filter(|r| r.group == group).map(|r| r.resource.as_str()).collect();
            json!({
                "apiGroups": [group], "apiVersions": ["*"], "resources": names,
                "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Namespaced",
            })
        })
        .collect()
}

/// A cluster-scoped object that a System governs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterObject {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name of its resource.
    pub resource: String,
    /// Name of the object.
    pub name: String,
    /// Whether its System is in mode Enforce.
    pub enforced: bool,
}

impl ClusterObject {
    /// Whether a webhook may be registered for it. Not for what Interlock itself or the way back from a failed
    /// Interlock rests on: admission configurations (the API server calls no webhook for them anyway), Interlock's own
    /// definitions, nodes, and the namespaces of the cluster and of Interlock. Other namespaces have an entry of their own.
    pub fn may_be_governed(&self) -> bool {
        match (self.group.as_str(), self.resource.as_str()) {
            ("admissionregistration.k8s.io" | "certificates.k8s.io" | "authentication.k8s.io", _)
            | ("", "nodes" | "namespaces") => false,
            ("apiextensions.k8s.io", "customresourcedefinitions") => !self.name.ends_with(".interlock.dev"),
            _ => true,
        }
    }
}

/// The rules for `objects`: one per group, with their resources.
pub fn cluster_rules(objects: &[&ClusterObject]) -> Vec<Value> {
    let groups: BTreeSet<_> = objects.iter().map(|object| object.group.as_str()).collect();
    groups
        .into_iter()
        .map(|group| {
            let of_group = objects.iter().filter(|object| object.group == group);
            let names: BTreeSet<_> = of_group.map(|object| object.resource.as_str()).collect();
            json!({
                "apiGroups": [group], "apiVersions": ["*"], "resources": names,
                "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Cluster",
            })
        })
        .collect()
}

/// The CEL phrase that is true for exactly `objects`.
pub fn is_one_of(objects: &[&ClusterObject]) -> String {
    let kinds: BTreeSet<_> = objects.iter().map(|object| (object.group.as_str(), object.resource.as_str())).collect();
    let phrases: Vec<_> = kinds
        .into_iter()
        .map(|(group, resource)| {
            let of_kind = objects.iter().filter(|object| object.group == group && object.resource == resource);
            let names: BTreeSet<_> = of_kind.map(|object| object.name.as_str()).collect();
            format!("({} && request.name in {})", cel::resource_is(group, resource), cel::list(names))
        })
        .collect();
    phrases.join(" || ")
}
