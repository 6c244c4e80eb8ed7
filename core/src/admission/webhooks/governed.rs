//! Which resources the webhooks are called for.

use std::{collections::BTreeSet, fmt, str::FromStr};

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

    /// Whether a webhook may be registered for it: see [`never`].
    pub fn may_be_governed(&self) -> bool {
        never_group(&self.group).is_none()
            && !NEVER.iter().any(|(_, resource, _)| self.group.is_empty() && self.main() == *resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.resource)
    }
}

impl FromStr for Resource {
    type Err = String;

    /// `GROUP/RESOURCE` of a kind that may be governed; no wildcard and no subresource.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plural = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let is_group =
            |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        match text.split_once('/') {
            Some((group, plural)) if is_group(group) && is_plural(plural) => {
                let resource = Self::new(group, plural);
                if resource.may_be_governed() {
                    Ok(resource)
                } else {
                    Err(format!("{text} cannot be governed: the cluster or Interlock itself rests on it"))
                }
            }
            _ => Err("write GROUP/RESOURCE with the plural name, such as cert-manager.io/certificates".to_owned()),
        }
    }
}

/// Kinds of the core group that no webhook is registered for, with their resource, and why.
const NEVER: &[(&str, &str, &str)] = &[
    ("Binding", "bindings", "the scheduler places pods by it"),
    ("Event", "events", "every component writes events all the time"),
    ("Namespace", "namespaces", "namespaces have an entry of their own, by their labels"),
    ("Node", "nodes", "kubelets could not report any more"),
];

/// Why no kind of the API group is ever governed.
fn never_group(group: &str) -> Option<&'static str> {
    Some(match group {
        interlock_crds::GROUP => "Interlock's own kinds have an entry of their own",
        "admissionregistration.k8s.io" => "the API server calls no webhook for admission configurations",
        "authentication.k8s.io" | "authorization.k8s.io" => "its objects are questions to the API server",
        "certificates.k8s.io" => "nodes join by certificate requests",
        "coordination.k8s.io" => "the cluster's components, and Interlock, lead by leases",
        "events.k8s.io" => "every component writes events all the time",
        _ => return None,
    })
}

/// Why the kind is never governed, if it is not: a mistake there would stop the cluster or Interlock.
pub fn never(group: &str, kind: &str) -> Option<&'static str> {
    never_group(group)
        .or_else(|| NEVER.iter().find(|(never, ..)| group.is_empty() && kind == *never).map(|(_, _, why)| *why))
}

/// Governed by default: workloads, config, services, routes, RBAC, autoscaling, storage claims, backups and drills.
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
    // Whoever edits these decides what is lost, or runs code on restored data.
    (interlock_crds::GROUP, &["backuppolicies", "backuprepositories", "restoredrills"]),
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

/// The resources in the rules of the entry `entry` of `configuration` that are not governed by default.
pub fn added_to(configuration: &Value, entry: &str) -> BTreeSet<Resource> {
    let by_default = by_default();
    let entries = configuration["webhooks"].as_array().into_iter().flatten();
    let rules = entries.filter(|found| found["name"] == entry).filter_map(|found| found["rules"].as_array()).flatten();
    let mut added = BTreeSet::new();
    for rule in rules {
        for group in rule["apiGroups"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            for resource in rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let found = Resource::new(group, resource);
                if !resource.contains('/') && !by_default.contains(&found) {
                    added.insert(found);
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

/// ClusterRoles, and their bindings, by which Interlock itself acts.
const OWN_ROLES: [&str; 2] = ["interlock-controller", "interlock-root-executor"];

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
    /// definitions and rights, nodes, and the namespaces of the cluster and of Interlock. Other namespaces have an entry
    /// of their own.
    pub fn may_be_governed(&self) -> bool {
        Resource::new(&self.group, &self.resource).may_be_governed()
            && match (self.group.as_str(), self.resource.as_str()) {
                ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices") => {
                    !self.name.ends_with(".interlock.dev")
                }
                ("rbac.authorization.k8s.io", "clusterroles" | "clusterrolebindings") => {
                    !OWN_ROLES.contains(&self.name.as_str())
                }
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
