//! The two webhook configurations, as pure functions of what they depend on.
//!
//! `interlock install` writes them whole. The running controller keeps in step what follows from the Systems
//! ([`refreshed`]), with the same functions, and leaves the rest as it was installed.

mod cel;
mod exempt;
mod governed;
mod refresh;
mod wanted;

use serde_json::{Value, json};

pub use governed::{ClusterObject, Resource, by_default, never};
pub use refresh::{EVERYWHERE, KINDS, answered, everywhere, in_step, refreshed, remembered};
pub use wanted::{Flaw, Governed, Kinds, flaws, named};

/// Name of both webhook configurations.
pub const NAME: &str = "interlock";
/// Label of a namespace that tells the mode of its System; written by the controller only.
pub const MODE_LABEL: &str = "interlock.dev/mode";
/// Prefix of the labels that only the controller may write on a namespace.
pub const LABEL_PREFIX: &str = "interlock.dev/";
/// Seconds after which the API server stops waiting for an answer.
pub const TIMEOUT_SECONDS: u32 = 2;
/// Namespaces that no entry for governed kinds ever matches: a mistake there would stop the cluster or Interlock.
pub const EXEMPT_NAMESPACES: [&str; 4] = ["interlock-system", "kube-node-lease", "kube-public", "kube-system"];

/// Names of the entries and the paths at which they call.
pub mod entry {
    /// Records and seals votes, evidence and actions.
    pub const RECORD: (&str, &str) = ("record.interlock.dev", "/mutate");
    /// Interlock's own kinds.
    pub const OBJECTS: (&str, &str) = ("objects.interlock.dev", "/validate/own");
    /// Governed kinds in namespaces in mode Enforce.
    pub const ENFORCE: (&str, &str) = ("enforce.interlock.dev", "/validate/governed");
    /// Governed kinds in namespaces in mode Audit or Warn.
    pub const OBSERVE: (&str, &str) = ("observe.interlock.dev", "/validate/governed/open");
    /// Labels of namespaces.
    pub const NAMESPACES: (&str, &str) = ("namespaces.interlock.dev", "/validate/namespace");
    /// Cluster-scoped objects of Systems in mode Enforce.
    pub const CLUSTER: (&str, &str) = ("cluster.interlock.dev", "/validate/cluster");
    /// Cluster-scoped objects of Systems in mode Audit or Warn.
    pub const CLUSTER_OBSERVE: (&str, &str) = ("cluster-observe.interlock.dev", "/validate/cluster/open");
}

/// Where the API server finds the webhook server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At a URL, `https://host:port`, to which the path of each entry is appended.
    Url(String),
    /// Behind a Service.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Name of the Service.
        name: String,
        /// Port of the Service.
        port: u16,
    },
}

/// What the configurations depend on.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Where the webhook server is.
    pub target: Target,
    /// The certificate authority that it is trusted by, PEM in base64; without it the API server's own roots count.
    pub ca_bundle: Option<String>,
    /// What is governed beside the default.
    pub governed: Governed,
    /// Users that stand for kubelets, such as kwok.
    pub node_agents: Vec<String>,
    /// Interlock's own kinds: see [`own_kinds`].
    pub own_kinds: Vec<OwnKind>,
}

/// One of Interlock's own kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKind {
    /// Plural name.
    pub plural: String,
    /// Whether it has a status subresource.
    pub has_status: bool,
}

/// Interlock's own kinds, from their definitions.
pub fn own_kinds() -> Vec<OwnKind> {
    interlock_crds::all()
        .into_iter()
        .map(|definition| OwnKind {
            has_status: definition
                .spec
                .versions
                .iter()
                .any(|version| version.subresources.as_ref().is_some_and(|sub| sub.status.is_some())),
            plural: definition.spec.names.plural,
        })
        .collect()
}

/// Whether a write passes when the webhook does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    Deny,
    Allow,
}

impl Inputs {
    /// The `MutatingWebhookConfiguration`.
    pub fn mutating(&self) -> Value {
        let rules = [json!({
            "apiGroups": [interlock_crds::GROUP], "apiVersions": ["*"],
            "resources": ["actions", "approvals", "evidences"],
            "operations": ["CREATE"], "scope": "Namespaced",
        })];
        let mut record = self.entry(entry::RECORD, OnFailure::Deny, &rules, &[]);
        record["reinvocationPolicy"] = json!("Never");
        configuration("MutatingWebhookConfiguration", &[record])
    }

    /// The `ValidatingWebhookConfiguration`.
    pub fn validating(&self) -> Value {
        let mut entries = vec![self.objects(), self.namespaces()];
        let rules = governed::rules(&self.governed.resources());
        let mut conditions: Vec<_> = self.governed.added_condition().into_iter().collect();
        conditions.extend(exempt::namespaced(&self.node_agents));
        for (names, on_failure, modes) in [
            (entry::ENFORCE, OnFailure::Deny, &["enforce"][..]),
            (entry::OBSERVE, OnFailure::Allow, &["audit", "warn"]),
        ] {
            let mut entry = self.entry(names, on_failure, &rules, &conditions);
            entry["namespaceSelector"] = json!({ "matchExpressions": [
                { "key": MODE_LABEL, "operator": "In", "values": modes },
                { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": EXEMPT_NAMESPACES },
            ]});
            entries.push(entry);
        }
        entries.extend(self.cluster());
        let mut configuration = configuration("ValidatingWebhookConfiguration", &entries);
        configuration["metadata"]["annotations"] = json!({ EVERYWHERE: refresh::everywhere_text(&self.governed) });
        configuration
    }

    /// The entries for cluster-scoped objects: none where no System names any.
    fn cluster(&self) -> Vec<Value> {
        let client = |path: &str| self.client(path);
        CLUSTER_ENTRIES.iter().filter_map(|kind| cluster_entry(*kind, &self.governed, client)).collect()
    }

    /// The entry for Interlock's own kinds: every one, everywhere, failing closed. It cannot lock anyone out of the
    /// definitions or of the webhook configurations themselves: those are of other groups.
    fn objects(&self) -> Value {
        let status = self.own_kinds.iter().filter(|kind| kind.has_status).map(|kind| format!("{}/status", kind.plural));
        let mut resources: Vec<_> = self.own_kinds.iter().map(|kind| kind.plural.clone()).chain(status).collect();
        resources.sort();
        let rules = [json!({
            "apiGroups": [interlock_crds::GROUP], "apiVersions": ["*"], "resources": resources,
            "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "*",
        })];
        self.entry(entry::OBJECTS, OnFailure::Deny, &rules, &exempt::own_kinds())
    }

    /// The entry for namespaces. It has no selector, as a namespaceSelector sees the new labels only and removing the
    /// label would skip it; instead it is called only when a label of Interlock comes, goes or changes, so that an
    /// outage of Interlock holds up no namespace that it has nothing to do with.
    fn namespaces(&self) -> Value {
        let rules = [
            json!({
                "apiGroups": [""], "apiVersions": ["*"], "resources": ["namespaces"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "scope": "Cluster",
            }),
            json!({
                "apiGroups": [""], "apiVersions": ["*"], "resources": ["namespaces/finalize", "namespaces/status"],
                "operations": ["UPDATE"], "scope": "Cluster",
            }),
        ];
        let conditions = [
            json!({ "name": "not-of-the-cluster", "expression": not_exempt_namespace() }),
            json!({ "name": "touches-interlock-labels", "expression": touches_labels() }),
        ];
        self.entry(entry::NAMESPACES, OnFailure::Deny, &rules, &conditions)
    }

    fn entry(&self, (name, path): (&str, &str), on_failure: OnFailure, rules: &[Value], conditions: &[Value]) -> Value {
        entry_of(name, &self.client(path), on_failure, rules, conditions)
    }

    fn client(&self, path: &str) -> Value {
        let mut client = match &self.target {
            Target::Url(base) => json!({ "url": format!("{}{path}", base.trim_end_matches('/')) }),
            Target::Service { namespace, name, port } => {
                json!({ "service": { "namespace": namespace, "name": name, "port": port, "path": path } })
            }
        };
        if let Some(bundle) = &self.ca_bundle {
            client["caBundle"] = json!(bundle);
        }
        client
    }
}

/// An entry for cluster-scoped objects: its names, what happens when nobody answers, and whether it is for Systems in
/// mode Enforce.
type ClusterEntry = ((&'static str, &'static str), OnFailure, bool);

const CLUSTER_ENTRIES: [ClusterEntry; 2] =
    [(entry::CLUSTER, OnFailure::Deny, true), (entry::CLUSTER_OBSERVE, OnFailure::Allow, false)];

/// Name of the match condition of an entry for cluster-scoped objects that lists them.
const LISTED_OBJECTS: &str = "listed-objects";

fn cluster_entry(
    ((name, path), on_failure, enforced): ClusterEntry,
    governed: &Governed,
    client: impl FnOnce(&str) -> Value,
) -> Option<Value> {
    let may = |object: &&ClusterObject| object.enforced == enforced && object.may_be_governed();
    let objects: Vec<_> = governed.cluster_objects.iter().filter(may).collect();
    if objects.is_empty() {
        return None;
    }
    let mut conditions = vec![json!({
        "name": LISTED_OBJECTS,
        "expression": format!("has(request.name) && ({})", governed::is_one_of(&objects)),
    })];
    conditions.extend(exempt::cluster());
    Some(entry_of(name, &client(path), on_failure, &governed::cluster_rules(&objects), &conditions))
}

fn entry_of(name: &str, client: &Value, on_failure: OnFailure, rules: &[Value], conditions: &[Value]) -> Value {
    let mut entry = json!({
        "name": name,
        "clientConfig": client,
        "rules": rules,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "matchPolicy": "Equivalent",
        "failurePolicy": match on_failure { OnFailure::Deny => "Fail", OnFailure::Allow => "Ignore" },
    });
    if !conditions.is_empty() {
        entry["matchConditions"] = json!(conditions);
    }
    entry
}

/// The labels of everything that belongs to an installation.
pub fn labels() -> Value {
    json!({ "interlock.dev/part-of": "interlock" })
}

fn configuration(kind: &str, webhooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": NAME, "labels": labels() },
        "webhooks": webhooks,
    })
}

fn not_exempt_namespace() -> String {
    format!("!(has(request.name) && request.name in {})", cel::list(EXEMPT_NAMESPACES))
}

fn touches_labels() -> String {
    let prefix = cel::quote(LABEL_PREFIX);
    let has = |object: &str| {
        format!("has({object}.metadata.labels) && {object}.metadata.labels.exists(k, k.startsWith({prefix}))")
    };
    // A label of `here` that `there` does not have with the same value.
    let differs = |here: &str, there: &str| {
        format!(
            "has({here}.metadata.labels) && {here}.metadata.labels.exists(k, k.startsWith({prefix}) && \
             !(has({there}.metadata.labels) && k in {there}.metadata.labels && \
             {there}.metadata.labels[k] == {here}.metadata.labels[k]))"
        )
    };
    format!(
        "request.operation == 'CREATE' ? ({}) : request.operation == 'DELETE' ? ({}) : (({}) || ({}))",
        has("object"),
        has("oldObject"),
        differs("object", "oldObject"),
        differs("oldObject", "object"),
    )
}

#[cfg(test)]
mod tests;
