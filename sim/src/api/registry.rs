//! The kinds that the server knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_core::object::GroupKind;
use serde_json::Value;

use super::error::ApiError;
use super::schema;

/// One kind.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each says of a kind what the API's own discovery says of it")]
pub struct KindInfo {
    /// API group; empty for the core group.
    pub group: String,
    /// The version that is served.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Lower-case plural.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether status is a subresource.
    pub has_status: bool,
    /// Whether there is a scale subresource.
    pub has_scale: bool,
    /// The schema of a custom resource.
    pub schema: Option<Arc<Value>>,
    /// Whether that schema has rules.
    pub has_rules: bool,
    /// The fields of a custom resource that lists can select by, such as `spec.color`.
    pub selectable: Vec<String>,
}

impl KindInfo {
    /// `deployments.apps`, or `pods` in the core group.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Deployment.apps`, or `Pod` in the core group.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Group and version as `apiVersion` states them.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Group and kind.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.group, &self.kind)
    }

    /// Whether this is the kind of that group and name.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// Whether the kind came from a CustomResourceDefinition.
    pub const fn is_custom(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether objects have a `metadata.generation`.
    pub fn has_generation(&self) -> bool {
        const WITHOUT_STATUS: [(&str, &str); 4] = [
            ("networking.k8s.io", "NetworkPolicy"),
            ("networking.k8s.io", "Ingress"),
            ("scheduling.k8s.io", "PriorityClass"),
            ("discovery.k8s.io", "EndpointSlice"),
        ];
        const WITHOUT: [(&str, &str); 6] = [
            ("", "Namespace"),
            ("", "Node"),
            ("", "Service"),
            ("", "PersistentVolume"),
            ("", "PersistentVolumeClaim"),
            ("", "ResourceQuota"),
        ];
        let among = |list: &[(&str, &str)]| list.iter().any(|(group, kind)| self.is(group, kind));
        self.is_custom() || among(&WITHOUT_STATUS) || (self.has_status && !among(&WITHOUT))
    }
}

/// All kinds.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    kinds: BTreeMap<GroupKind, Arc<KindInfo>>,
}

/// Group, version, kind, plural, namespaced, status, scale.
type Row = (&'static str, &'static str, &'static str, &'static str, bool, bool, bool);

const RBAC: &str = "rbac.authorization.k8s.io";
const GATEWAY: &str = "gateway.networking.k8s.io";

const BUILT_IN: &[Row] = &[
    ("", "v1", "Namespace", "namespaces", false, true, false),
    ("", "v1", "Node", "nodes", false, true, false),
    ("", "v1", "Pod", "pods", true, true, false),
    ("", "v1", "ConfigMap", "configmaps", true, false, false),
    ("", "v1", "Secret", "secrets", true, false, false),
    ("", "v1", "Service", "services", true, true, false),
    ("", "v1", "Endpoints", "endpoints", true, false, false),
    ("", "v1", "ServiceAccount", "serviceaccounts", true, false, false),
    ("", "v1", "PersistentVolume", "persistentvolumes", false, true, false),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, true, false),
    ("", "v1", "Event", "events", true, false, false),
    ("", "v1", "ResourceQuota", "resourcequotas", true, true, false),
    ("", "v1", "LimitRange", "limitranges", true, false, false),
    ("events.k8s.io", "v1", "Event", "events", true, false, false),
    ("apps", "v1", "Deployment", "deployments", true, true, true),
    ("apps", "v1", "ReplicaSet", "replicasets", true, true, true),
    ("apps", "v1", "StatefulSet", "statefulsets", true, true, true),
    ("apps", "v1", "DaemonSet", "daemonsets", true, true, false),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", true, false, false),
    ("batch", "v1", "Job", "jobs", true, true, false),
    ("batch", "v1", "CronJob", "cronjobs", true, true, false),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true, true, false),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true, true, false),
    (RBAC, "v1", "Role", "roles", true, false, false),
    (RBAC, "v1", "RoleBinding", "rolebindings", true, false, false),
    (RBAC, "v1", "ClusterRole", "clusterroles", false, false, false),
    (RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false, false, false),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true, false, false),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true, true, false),
    ("coordination.k8s.io", "v1", "Lease", "leases", true, false, false),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true, false, false),
    (GATEWAY, "v1", "HTTPRoute", "httproutes", true, true, false),
    (GATEWAY, "v1", "Gateway", "gateways", true, true, false),
    ("storage.k8s.io", "v1", "StorageClass", "storageclasses", false, false, false),
    ("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false, false, false),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false, true, false),
];

impl Registry {
    /// The built-in kinds.
    pub fn built_in() -> Self {
        let mut registry = Self::default();
        for (group, version, kind, plural, namespaced, has_status, has_scale) in BUILT_IN {
            // The real Gateway API is custom resources; without its schema everything is kept.
            let schema = (*group == GATEWAY)
                .then(|| Arc::new(serde_json::json!({"x-kubernetes-preserve-unknown-fields": true, "type": "object"})));
            registry.add(KindInfo {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                namespaced: *namespaced,
                has_status: *has_status,
                has_scale: *has_scale,
                schema,
                has_rules: false,
                selectable: Vec::new(),
            });
        }
        registry
    }

    /// Adds or replaces a kind.
    pub fn add(&mut self, info: KindInfo) {
        self.kinds.insert(info.group_kind(), Arc::new(info));
    }

    /// Forgets a kind.
    pub fn remove(&mut self, kind: &GroupKind) {
        self.kinds.remove(kind);
    }

    /// The kinds that a CustomResourceDefinition defines: its first served version.
    pub fn of_definition(definition: &Value) -> Option<KindInfo> {
        let spec = definition.get("spec")?;
        let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        let versions = spec.get("versions")?.as_array()?;
        let version = versions.iter().find(|version| version.get("served").and_then(Value::as_bool) == Some(true))?;
        let fields = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
        let fields = fields.filter_map(|field| field.get("jsonPath")?.as_str());
        let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
        Some(KindInfo {
            group: text("/group")?,
            version: version.get("name")?.as_str()?.to_owned(),
            kind: text("/names/kind")?,
            plural: text("/names/plural")?,
            namespaced: text("/scope")? == "Namespaced",
            has_status: version.pointer("/subresources/status").is_some(),
            has_scale: version.pointer("/subresources/scale").is_some(),
            has_rules: schema::has_rules(&schema),
            schema: Some(Arc::new(schema)),
            selectable: fields.map(|path| path.trim_start_matches('.').to_owned()).collect(),
        })
    }

    /// The kind by group and name.
    pub fn get(&self, kind: &GroupKind) -> Option<&Arc<KindInfo>> {
        self.kinds.get(kind)
    }

    /// The kind by group, version and name.
    ///
    /// # Errors
    /// 404 when the kind is unknown in this version.
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Result<&Arc<KindInfo>, ApiError> {
        let found = self.kinds.get(&GroupKind::new(group, kind)).filter(|info| info.version == version);
        found.ok_or_else(ApiError::unknown_kind)
    }

    /// Every kind.
    pub fn all(&self) -> impl Iterator<Item = &Arc<KindInfo>> {
        self.kinds.values()
    }
}
