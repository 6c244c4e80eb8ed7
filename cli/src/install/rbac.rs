//! Rights: of the controller, of the executor of the root System, and roles to hand to people.

use serde_json::{Value, json};

use super::{
    CONTROLLER, NAMESPACE, ROOT_EXECUTOR, ServiceAccount, drills,
    webhooks::{self, Governed, labels},
};

const GROUP: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
pub const READ: [&str; 3] = ["get", "list", "watch"];

/// The controller's own rights: it reads, keeps its own records, and writes no governed object.
pub fn controller(governed: &Governed) -> Vec<Value> {
    let subject = ServiceAccount { namespace: NAMESPACE, name: CONTROLLER };
    vec![
        cluster_role(CONTROLLER, &controller_cluster_rules(governed)),
        cluster_role_binding(CONTROLLER, &subject),
        role(NAMESPACE, CONTROLLER, &controller_namespace_rules()),
        role_binding(NAMESPACE, CONTROLLER, &subject),
    ]
}

fn controller_cluster_rules(governed: &Governed) -> Vec<Value> {
    let own = webhooks::own_kinds();
    let plurals: Vec<_> = own.iter().map(|kind| kind.plural.clone()).collect();
    let statuses: Vec<_> =
        own.iter().filter(|kind| kind.has_status).map(|kind| format!("{}/status", kind.plural)).collect();
    let mut rules = vec![
        rule(interlock_crds::GROUP, &plurals, &READ),
        rule(interlock_crds::GROUP, &statuses, &["update", "patch"]),
        // A Rollout and a run of a backup are records of its own making: it makes them, and takes their finalizers off.
        rule(interlock_crds::GROUP, &["rollouts", "backups", "drillruns"], &["create", "patch"]),
        // Records of runs that left no recovery point, and of old drills, when they are too many.
        rule(interlock_crds::GROUP, &["backups", "drillruns"], &["delete"]),
        // The labels of enrolment. RBAC knows no fields; the webhook checks what is written.
        rule("", &["namespaces"], &["get", "list", "watch", "patch"]),
        rule("apiextensions.k8s.io", &["customresourcedefinitions"], &READ),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
        // The certificate authority; in the second also what Systems name, whoever else edits it.
        named_rule(ADMISSION, &["mutatingwebhookconfigurations"], &[webhooks::NAME], &["get", "update"]),
        named_rule(
            ADMISSION,
            &["validatingwebhookconfigurations"],
            &[webhooks::NAME],
            &["get", "list", "watch", "update"],
        ),
        // How far a release got: who is behind a Service, and the versions of what is changed in place.
        rule("discovery.k8s.io", &["endpointslices"], &READ),
        rule("apps", &["controllerrevisions"], &READ),
        // Cluster-scoped objects that a System may name.
        rule(GROUP, &["clusterroles", "clusterrolebindings"], &READ),
    ];
    // A change is judged against what lives: its base, what an executor may write now, its health. Of Secrets each one
    // by name, never all of them: a staged Secret, and the base of a Secret that a change writes.
    let beside: Vec<_> = governed.beside_default().into_iter().collect();
    rules.extend(governed_rules(&beside, &READ).into_iter().map(|mut rule| {
        if let Some(resources) = rule["resources"].as_array_mut() {
            resources.retain(|resource| resource != "secrets");
        }
        rule
    }));
    rules.push(rule("", &["secrets"], &["get"]));
    rules.extend(drills::controller_rules());
    for object in governed.cluster_objects.iter().filter(|object| object.group != GROUP) {
        rules.push(named_rule(&object.group, &[&object.resource], &[&object.name], &READ));
    }
    rules
}

fn controller_namespace_rules() -> Vec<Value> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"]),
        // Keys, and the before-states of changes: written once, never edited.
        rule("", &["secrets"], &["get", "list", "watch", "create", "delete"]),
        named_rule("", &["secrets"], &["interlock-webhook-tls"], &["update", "patch"]),
        named_rule("", &["configmaps"], &["interlock-seal-public"], &["get"]),
    ]
}

/// One rule per API group over the governed resources, without subresources.
fn governed_rules(extra: &[webhooks::Resource], verbs: &[&str]) -> Vec<Value> {
    let mut governed = webhooks::by_default();
    governed.extend(extra.iter().cloned());
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    for resource in governed {
        let main = resource.main().to_owned();
        match rules.iter_mut().find(|(group, _)| *group == resource.group) {
            Some((_, resources)) if resources.contains(&main) => {}
            Some((_, resources)) => resources.push(main),
            None => rules.push((resource.group, vec![main])),
        }
    }
    rules.iter().map(|(group, resources)| rule(group, resources, verbs)).collect()
}

/// The executor of the root System: it alone writes the kinds by which everything else is governed.
pub fn root_executor() -> Vec<Value> {
    let executor = ServiceAccount { namespace: NAMESPACE, name: ROOT_EXECUTOR };
    let kinds = ["systems", "persons", "changepolicies", "calendars"];
    let mut objects = vec![
        cluster_role(
            ROOT_EXECUTOR,
            &[rule(interlock_crds::GROUP, &kinds, &["get", "create", "update", "patch", "delete"])],
        ),
        cluster_role_binding(ROOT_EXECUTOR, &executor),
    ];
    objects.extend(impersonation(&executor));
    objects
}

/// The Role and RoleBinding by which the owner of `executor` lets Interlock act as it.
pub fn impersonation(executor: &ServiceAccount<'_>) -> [Value; 2] {
    let name = format!("interlock-impersonate-{}", executor.name);
    let controller = ServiceAccount { namespace: NAMESPACE, name: CONTROLLER };
    [
        role(executor.namespace, &name, &[named_rule("", &["serviceaccounts"], &[executor.name], &["impersonate"])]),
        role_binding(executor.namespace, &name, &controller),
    ]
}

/// A Role to start from for `executor` itself: to write what is governed in its namespace, backups and drills among it, and to
/// run the commands of hooks around backups. RBAC lets it hand on by Roles only what it has itself.
pub fn suggested_executor_role(executor: &ServiceAccount<'_>, extra: &[webhooks::Resource]) -> [Value; 2] {
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let mut rules = governed_rules(extra, &verbs);
    // Hooks with exec; a WebSocket is a GET, and newer API servers ask for create as well.
    rules.push(rule("", &["pods/exec"], &["create", "get"]));
    [role(executor.namespace, executor.name, &rules), role_binding(executor.namespace, executor.name, executor)]
}

/// Roles to bind to people and machines. The viewer and the requester join the built-in `view` and `edit`; voting and
/// issuing evidence are given on purpose only. None of them decides anything: policies name the groups whose votes count.
pub fn people() -> Vec<Value> {
    let api = interlock_crds::GROUP;
    let plurals: Vec<_> = webhooks::own_kinds().into_iter().map(|kind| kind.plural).collect();
    let read = rule(api, &plurals, &READ);
    let aggregated = |mut role: Value, into: &str| {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = json!("true");
        role
    };
    vec![
        aggregated(cluster_role("interlock-viewer", std::slice::from_ref(&read)), "view"),
        aggregated(
            cluster_role(
                "interlock-requester",
                &[
                    read.clone(),
                    rule(api, &["changerequests"], &["create", "update", "patch", "delete"]),
                    // Votes bind to what a plan states, so whoever edits one only makes them stale.
                    rule(api, &["rolloutplans"], &["create", "update", "patch", "delete"]),
                    // Deleting one takes its new version back; admission asks whether they may abort its change.
                    rule(api, &["rollouts"], &["delete"]),
                    rule(api, &["actions"], &["create"]),
                    // A backup or a drill now, in one's own name.
                    rule(api, &["backups", "drillruns"], &["create"]),
                    // Values of Secrets are staged beside the request, never in it.
                    rule("", &["secrets"], &["create"]),
                ],
            ),
            "edit",
        ),
        cluster_role(
            "interlock-approver",
            &[read.clone(), rule(api, &["approvals"], &["create", "delete"]), rule(api, &["actions"], &["create"])],
        ),
        cluster_role("interlock-evidence-issuer", &[read, rule(api, &["evidences"], &["create"])]),
    ]
}

pub fn rule<S: AsRef<str>>(group: &str, resources: &[S], verbs: &[&str]) -> Value {
    let resources: Vec<_> = resources.iter().map(AsRef::as_ref).collect();
    json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
}

pub fn named_rule(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": verbs })
}

pub fn cluster_role(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole",
        "metadata": { "name": name, "labels": labels() },
        "rules": rules,
    })
}

pub fn cluster_role_binding(name: &str, subject: &ServiceAccount<'_>) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding",
        "metadata": { "name": name, "labels": labels() },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "namespace": subject.namespace, "name": subject.name }],
    })
}

pub fn role(namespace: &str, name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Role",
        "metadata": { "namespace": namespace, "name": name, "labels": labels() },
        "rules": rules,
    })
}

pub fn role_binding(namespace: &str, name: &str, subject: &ServiceAccount<'_>) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "RoleBinding",
        "metadata": { "namespace": namespace, "name": name, "labels": labels() },
        "roleRef": { "apiGroup": GROUP, "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "namespace": subject.namespace, "name": subject.name }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (group, resource, verb, names) that `objects` grant.
    fn grants(objects: &[Value]) -> Vec<(String, String, String, Vec<String>)> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut all = Vec::new();
        for rule in objects.iter().filter_map(|object| object["rules"].as_array()).flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        all.push((group.clone(), resource.clone(), verb, texts(&rule["resourceNames"])));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn the_controller_writes_its_own_records_and_nothing_governed() {
        let everywhere = [webhooks::Resource::new("cert-manager.io", "certificates")];
        let objects = controller(&Governed { everywhere: everywhere.into(), ..Governed::default() });
        let cluster_wide = grants(&objects[..1]);
        for (group, resource, verb, names) in &cluster_wide {
            if READ.contains(&verb.as_str()) {
                continue;
            }
            let own = match (group.as_str(), resource.as_str(), verb.as_str()) {
                ("interlock.dev", "rollouts" | "backups" | "drillruns", "create" | "patch")
                | ("interlock.dev", "backups" | "drillruns", "delete") => true,
                ("interlock.dev", resource, "update" | "patch") => resource.ends_with("/status"),
                ("", "namespaces", "patch") | ("events.k8s.io", "events", "create" | "patch") => true,
                ("admissionregistration.k8s.io", _, "update") => names == &["interlock"],
                _ => false,
            };
            assert!(own, "the controller may {verb} {group}/{resource}");
        }
        let secrets: Vec<_> =
            cluster_wide.iter().filter(|(group, resource, ..)| group.is_empty() && resource == "secrets").collect();
        assert_eq!(secrets.len(), 1, "no listing of Secrets: {secrets:?}");
        assert_eq!(secrets[0].2, "get");
        for (group, resource, verb, names) in grants(&objects[2..3]) {
            let own = match (group.as_str(), resource.as_str(), verb.as_str()) {
                ("coordination.k8s.io", "leases", _)
                | ("", "secrets", "get" | "list" | "watch" | "create" | "delete") => true,
                ("", "secrets", "update" | "patch") => names == ["interlock-webhook-tls"],
                ("", "configmaps", "get") => names == ["interlock-seal-public"],
                _ => false,
            };
            assert!(own, "in its namespace the controller may {verb} {group}/{resource} {names:?}");
        }
        assert_eq!(objects[2]["metadata"]["namespace"], "interlock-system");
        let read = grants(&objects[..1]);
        assert!(read.iter().any(|(group, resource, verb, _)| group == "cert-manager.io"
            && resource == "certificates"
            && verb == "get"));
    }

    #[test]
    fn nobody_gets_a_wildcard_or_the_right_to_raise_rights() {
        let all = [controller(&Governed::default()), root_executor(), drills::drills(), people()].concat();
        for (group, resource, verb, names) in grants(&all) {
            for text in [&group, &resource, &verb] {
                assert_ne!(text, "*");
            }
            assert!(!["escalate", "bind", "deletecollection"].contains(&verb.as_str()), "{verb} {group}/{resource}");
            if verb == "impersonate" {
                assert!(["interlock-root-executor", "interlock-drill"].contains(&names[0].as_str()), "{names:?}");
            }
        }
    }

    #[test]
    fn impersonation_is_of_one_service_account_in_its_namespace() {
        let [role, binding] = impersonation(&ServiceAccount { namespace: "teller", name: "interlock-executor" });
        assert_eq!(
            role["rules"],
            json!([{
                "apiGroups": [""], "resources": ["serviceaccounts"],
                "resourceNames": ["interlock-executor"], "verbs": ["impersonate"],
            }])
        );
        assert_eq!(role["metadata"]["namespace"], "teller");
        assert_eq!(binding["metadata"]["namespace"], "teller");
        assert_eq!(
            binding["subjects"],
            json!([{ "kind": "ServiceAccount", "namespace": "interlock-system", "name": "interlock-controller" }])
        );
    }

    #[test]
    fn the_suggested_role_names_each_right_once_and_has_those_of_backups_and_drills() {
        let executor = ServiceAccount { namespace: "teller", name: "executor" };
        let [role, _] = suggested_executor_role(&executor, &[]);
        let all = grants(&[role]);
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for kind in ["backuppolicies", "backuprepositories", "restoredrills"] {
            assert!(all.iter().any(|(_, resource, verb, _)| resource == kind && verb == "create"), "{kind}");
        }
    }

    #[test]
    fn people_write_requests_votes_and_statements_only() {
        let writes: Vec<_> = people()
            .iter()
            .flat_map(|role| {
                let name = role["metadata"]["name"].as_str().unwrap().to_owned();
                let writes = grants(std::slice::from_ref(role))
                    .into_iter()
                    .filter(|(_, _, verb, _)| !READ.contains(&verb.as_str()));
                writes.map(move |(_, resource, verb, _)| format!("{name} {verb} {resource}")).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            writes,
            [
                "interlock-requester create changerequests",
                "interlock-requester update changerequests",
                "interlock-requester patch changerequests",
                "interlock-requester delete changerequests",
                "interlock-requester create rolloutplans",
                "interlock-requester update rolloutplans",
                "interlock-requester patch rolloutplans",
                "interlock-requester delete rolloutplans",
                "interlock-requester delete rollouts",
                "interlock-requester create actions",
                "interlock-requester create backups",
                "interlock-requester create drillruns",
                "interlock-requester create secrets",
                "interlock-approver create approvals",
                "interlock-approver delete approvals",
                "interlock-approver create actions",
                "interlock-evidence-issuer create evidences",
            ]
        );
    }
}
