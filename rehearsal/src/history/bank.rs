//! The bank in which random histories happen: two Systems, one policy, perhaps a freeze.

use interlock_crds::API_VERSION;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::start;

/// The user whose test reports count.
pub const PIPELINE: &str = "system:serviceaccount:ci:pipeline";

/// Persons: their user names and groups.
pub(super) const PEOPLE: [(&str, &[&str], &[&str]); 6] = [
    ("alice", &["alice", "alice@bank"], &["dev", "sre"]),
    ("bob", &["bob", "bob@bank"], &["sre"]),
    ("carol", &["carol"], &["sre"]),
    ("dave", &["dave"], &["sre"]),
    ("erin", &["erin"], &["branch-ops"]),
    ("mallory", &["mallory"], &["dev"]),
];

/// What the bank demands.
#[derive(Clone, Debug, Default)]
pub struct Bank {
    /// Votes for a normal change.
    pub votes: usize,
    /// How long votes count, in seconds; for ever if left out.
    pub max_age: Option<u32>,
    /// Whether a normal change needs a test report.
    pub evidence: bool,
    /// A freeze: it begins after so many minutes and lasts so many.
    pub freeze: Option<(i64, i64)>,
}

impl Bank {
    pub(super) fn of(rng: &mut fastrand::Rng) -> Self {
        Self {
            votes: rng.usize(1..3),
            max_age: (rng.u8(..) < 60).then(|| rng.u32(20..120)),
            evidence: rng.u8(..) < 50,
            freeze: rng.bool().then(|| (rng.i64(0..3), rng.i64(1..5))),
        }
    }

    /// Everything that is there before the first act.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        for namespace in ["teller", "ledger"] {
            let executor = json!({"name": "executor", "namespace": namespace});
            objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
            objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": executor}));
            objects.extend((0..3).map(|n| config(namespace, n, "before")));
        }
        objects.extend((0..2).map(|n| deployment(&format!("web-{n}"), "web:zero")));
        objects.extend(PEOPLE.map(|(name, identities, groups)| {
            own("Person", name, &json!({"displayName": {"en": name}, "identities": identities, "groups": groups}))
        }));
        objects.extend(self.freeze.map(calendar));
        objects.push(self.policy());
        objects.push(system("ledger", &[]));
        objects.push(system("teller", &["ledger"]));
        objects
    }

    fn policy(&self) -> Value {
        let mut approvals = json!({"thresholds": [{"name": "peers", "count": self.votes, "groups": ["sre"]}]});
        if let Some(seconds) = self.max_age {
            approvals["maxAge"] = json!(format!("{seconds}s"));
        }
        let gates = json!({"collision": {"mode": "Enforce", "includeDependencies": true}});
        let mut normal = json!({"approvals": approvals, "gates": gates});
        if self.evidence {
            normal["evidence"] = json!([{"kind": "TestReport", "issuers": {"users": [PIPELINE]}}]);
        }
        let allow =
            json!({"group": "apps", "kind": "Deployment", "path": "/spec/replicas", "range": {"min": 2, "max": 5}});
        let mut standard = json!({"templates": [{"name": "scale", "allow": [allow]}], "gates": gates});
        if self.freeze.is_some() {
            normal["calendarRef"] = json!({"name": "bank"});
            standard["calendarRef"] = json!({"name": "bank"});
        }
        own("ChangePolicy", "bank", &json!({"operators": ["sre"], "types": {"normal": normal, "standard": standard}}))
    }
}

fn own(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn system(name: &str, depends_on: &[&str]) -> Value {
    let mut spec = json!({
        "tier": "High", "mode": "Enforce", "namespaces": [name], "policyRef": {"name": "bank"},
        "executor": {"type": "Interlock", "serviceAccount": {"namespace": name, "name": "executor"}},
    });
    if !depends_on.is_empty() {
        spec["dependsOn"] = json!(depends_on);
    }
    own("System", name, &spec)
}

fn calendar((begin, length): (i64, i64)) -> Value {
    let local = |minutes: i64| {
        // Asia/Shanghai is eight hours ahead all year.
        let at = start() + SignedDuration::from_mins(minutes + 8 * 60);
        at.strftime("%Y-%m-%dT%H:%M").to_string()
    };
    let freezes = json!([{"name": "month-end", "from": local(begin), "until": local(begin + length)}]);
    own("Calendar", "bank", &json!({"timeZone": "Asia/Shanghai", "freezes": freezes}))
}

/// RolloutPlans that changes of System teller may name. `green` and `split` are of web-0.
pub(super) const PLANS: [&str; 5] = ["canary", "green", "split", "batches", "waves"];

/// The plans, and what leads traffic to web-0.
pub fn release_objects() -> Vec<Value> {
    let pause = json!({"pause": {"duration": "5s"}});
    let canary = json!({"steps": [{"setWeight": 50}, pause]});
    let wave = |name: &str, workload: &str| json!({"name": name, "targets": [{"kind": "Deployment", "name": workload}], "canary": canary, "soak": "5s"});
    let strategies = [
        json!({"canary": canary}),
        json!({"blueGreen": {"service": "web", "steps": [pause], "keepOld": "5s"}}),
        json!({"canary": {"route": {"httpRoute": "web", "backend": "web"}, "steps": [{"setWeight": 30}, pause, {"setWeight": 70}]}}),
        json!({"batches": {"steps": [{"setWeight": 50}, pause]}}),
        json!({"waves": [wave("first", "web-0"), wave("second", "web-1")], "earlierWaves": "Return"}),
    ];
    let plans = PLANS.iter().zip(strategies).map(|(name, mut spec)| {
        spec["progressDeadline"] = json!("40s");
        let metadata = json!({"name": name, "namespace": "teller"});
        json!({"apiVersion": API_VERSION, "kind": "RolloutPlan", "metadata": metadata, "spec": spec})
    });
    let metadata = json!({"name": "web", "namespace": "teller"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": {"app": "web-0"}, "ports": [{"port": 80}]},
    });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata,
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    });
    plans.chain([service, route]).collect()
}

/// A ConfigMap with one value.
pub fn config(namespace: &str, n: usize, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("config-{n}"), "namespace": namespace}, "data": {"value": value},
    })
}

/// A Deployment of System teller.
pub fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "teller"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}
