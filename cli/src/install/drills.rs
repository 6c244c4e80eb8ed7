//! Rights of drills: a ServiceAccount of their own writes sandboxes and the volumes that move there. RBAC knows kinds and no
//! labels, so a ValidatingAdmissionPolicy in the API server keeps it to namespaces and volumes that it made or labelled.

use serde_json::{Value, json};

use super::{
    NAMESPACE, ServiceAccount,
    rbac::{self, READ, cluster_role, cluster_role_binding, role, role_binding, rule},
    webhooks::labels,
};

/// Name of the ServiceAccount, its roles and its policy.
pub const DRILL: &str = interlock_controller::drill::ACCOUNT;

/// Its account is among the others; here are its rights, that the controller may act as it, and its limits.
pub fn drills() -> Vec<Value> {
    let account = ServiceAccount { namespace: NAMESPACE, name: DRILL };
    let sandbox = [
        rule("", &["namespaces"], &["get", "create", "delete"]),
        rule("", &["resourcequotas", "limitranges", "persistentvolumeclaims", "pods"], &["create"]),
        rule("networking.k8s.io", &["networkpolicies"], &["create"]),
        rule("", &["persistentvolumes"], &["get", "patch", "delete"]),
    ];
    let mut objects = vec![
        cluster_role(DRILL, &sandbox),
        cluster_role_binding(DRILL, &account),
        // The probe that dials from outside.
        role(NAMESPACE, DRILL, &[rule("", &["pods"], &["create", "delete"])]),
        role_binding(NAMESPACE, DRILL, &account),
    ];
    objects.extend(rbac::impersonation(&account));
    objects.extend([policy(), binding()]);
    objects
}

/// What the controller reads and keeps of drills.
pub fn controller_rules() -> Vec<Value> {
    vec![
        rule("", &["persistentvolumes", "resourcequotas"], &READ),
        rule("networking.k8s.io", &["networkpolicies"], &READ),
    ]
}

fn policy() -> Value {
    let user = format!("system:serviceaccount:{NAMESPACE}:{DRILL}");
    let label = |of: &str| format!("{of}.metadata.?labels[?'app.kubernetes.io/component'].orValue('')");
    let (object, old, namespace) = (label("object"), label("oldObject"), label("namespaceObject"));
    let within = format!("{namespace} == 'drill-sandbox'");
    let plain = "!has(object.spec.initContainers) && object.spec.automountServiceAccountToken == false \
        && object.spec.?volumes.orValue([]).all(v, has(v.emptyDir)) \
        && object.spec.containers.all(c, !has(c.envFrom) && c.?env.orValue([]).all(e, !has(e.valueFrom)))";
    let probe = format!(
        "request.namespace == '{NAMESPACE}' && request.name.startsWith('drill-probe-') && (request.operation == 'DELETE' || ({plain}))"
    );
    let is = |resources: &str, then: &str| format!("!(request.resource.resource in [{resources}]) || ({then})");
    let rules = [
        (
            is("'namespaces'", &format!("(request.operation == 'DELETE' ? {old} : {object}) == 'drill-sandbox'")),
            "a drill makes and removes sandboxes only: namespaces with the label app.kubernetes.io/component: drill-sandbox",
        ),
        (
            is("'resourcequotas', 'limitranges', 'networkpolicies', 'persistentvolumeclaims'", &within),
            "a drill writes in its sandboxes only",
        ),
        (
            is("'pods'", &format!("{within} || ({probe})")),
            "a drill makes pods in its sandboxes only, and a probe without volumes or credentials in Interlock's namespace",
        ),
        (
            is(
                "'persistentvolumes'",
                &format!("{old} == 'drill-volume' || (request.operation == 'UPDATE' && {object} == 'drill-volume')"),
            ),
            "a drill writes volumes only that it labels app.kubernetes.io/component: drill-volume",
        ),
    ];
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": DRILL, "labels": labels() },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [
                {
                    "apiGroups": [""], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["namespaces", "resourcequotas", "limitranges", "persistentvolumeclaims", "persistentvolumes", "pods"],
                },
                {
                    "apiGroups": ["networking.k8s.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["networkpolicies"],
                },
            ] },
            "matchConditions": [{ "name": "drill", "expression": format!("request.userInfo.username == '{user}'") }],
            "validations": rules.map(|(expression, message)| json!({ "expression": expression, "message": message })),
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": DRILL, "labels": labels() },
        "spec": { "policyName": DRILL, "validationActions": ["Deny"] },
    })
}
