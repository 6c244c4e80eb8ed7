//! D9 and the objects: what a sandbox is made of, and what no template gets.

use interlock_crds::{BackupRepositorySpec, RestoreDrillSpec, SandboxRecord, SelectionStrategy};
use serde_json::{Value, json};

use super::{
    chosen, drill_spec, on,
    world::{RUN, Script, UID, World},
};
use crate::{
    backup::pods::{Images, PodError},
    drill::{
        names::PodRole,
        objects::{self, PodContext, RunRef},
        observed,
        report::DrillReport,
        run::{SandboxState, Seen},
        template, validate,
    },
};

const IMAGES: Images<'static> = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:17" };

fn owner() -> RunRef<'static> {
    RunRef { name: RUN, uid: UID, namespace: "teller" }
}

fn repository() -> BackupRepositorySpec {
    let spec = json!({"restic": {"url": "rest:https://vault.bank.example/", "secretRef": {"name": "append"}, "maintenanceSecretRef": {"name": "full"}, "caConfigMapRef": {"name": "ca"}}});
    serde_json::from_value(spec).unwrap()
}

fn with_template(template: &Value) -> RestoreDrillSpec {
    drill_spec(|spec| {
        spec["sandbox"]["application"] = json!({"podTemplate": template});
        spec["sandbox"]["dependencies"] = json!([{"name": "cache", "ports": [6379], "podTemplate": template}]);
        spec["objectives"] = json!({"rto": "15m"});
        spec["validations"] = json!([
            {"name": "files", "files": {"minimumFiles": 3}},
            {"name": "command", "command": {"image": "checker:1", "command": ["/check"]}},
            {"name": "page", "http": {"port": 8080}},
        ]);
    })
}

fn plain() -> Value {
    json!({"metadata": {"labels": {"app": "teller"}}, "spec": {"containers": [{
        "name": "app", "image": "teller:3", "volumeMounts": [{"name": "restored", "mountPath": "/data", "subPath": "accounts"}],
    }]}})
}

fn all_pods(drill: &RestoreDrillSpec) -> Vec<(PodRole, Value)> {
    let world = World::new(Script::good());
    let aliases = [("cache".to_owned(), "10.0.0.5".to_owned())];
    let context = PodContext {
        run: owner(),
        drill,
        policy: &world.policy,
        images: &IMAGES,
        home: "interlock-system",
        target: "10.0.0.9:8443",
        manifest_digest: Some("sha256:5"),
        aliases: &aliases,
    };
    let fixed = [
        PodRole::OutsideProbe,
        PodRole::InsideProbe,
        PodRole::Fault,
        PodRole::Dependency(0),
        PodRole::Application,
        PodRole::Wipe,
    ];
    let roles = fixed.into_iter().chain((0..3).map(PodRole::Validation));
    roles.filter_map(|role| Some((role, objects::pod(&context, role)?))).collect()
}

#[test]
fn no_pod_of_a_sandbox_has_a_credential_a_token_or_a_privilege() {
    let fault = |spec: &mut Value| spec["faultInjection"] = json!({"fault": "TamperHeartbeat"});
    for drill in [drill_spec(fault), with_template(&plain())] {
        for (role, pod) in all_pods(&drill) {
            let text = pod.to_string();
            for never in [
                "secretRef",
                "secretName",
                "secretKeyRef",
                "hostPath",
                "hostNetwork",
                "serviceAccountName",
                "configMap",
                "vault.bank",
                "\"privileged\":true",
            ] {
                assert!(!text.contains(never), "{role:?}: {never}");
            }
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{role:?}");
            assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true, "{role:?}");
            assert_eq!(pod["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{role:?}");
            let containers =
                ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
            for container in containers {
                assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{role:?}");
                assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}), "{role:?}");
            }
            let home = if role == PodRole::OutsideProbe { "interlock-system".to_owned() } else { owner().sandbox() };
            assert_eq!(pod["metadata"]["namespace"], home);
            assert_eq!(pod["metadata"]["labels"]["interlock.dev/run-uid"], UID);
        }
    }
}

#[test]
fn d9_a_sandbox_lets_nothing_in_or_out_and_whoever_changes_that_is_noticed() {
    let drill = drill_spec(|spec| spec["sandbox"]["quota"] = json!({"cpu": "3", "memory": "5Gi"}));
    let made = objects::sandbox(&owner(), &drill, "mark");
    assert_eq!(made[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let policy = |name: &str| made.iter().find(|object| object["metadata"]["name"] == name).unwrap()["spec"].clone();
    assert_eq!(policy("default-deny"), json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let inside = policy("within-sandbox");
    assert_eq!(
        (inside["egress"].clone(), inside["ingress"].clone()),
        (json!([{"to": [{"podSelector": {}}]}]), json!([{"from": [{"podSelector": {}}]}]))
    );
    assert_eq!(policy("drill")["hard"]["limits.memory"], "5Gi");
    assert!(objects::are_guarded(&owner(), &drill, &made));
    let mut opened = made.clone();
    opened.iter_mut().find(|object| object["metadata"]["name"] == "default-deny").unwrap()["spec"]["egress"] =
        json!([{}]);
    assert!(!objects::are_guarded(&owner(), &drill, &opened));
    assert!(!objects::are_guarded(&owner(), &drill, &made[..4]), "one is missing");
    let mut more = made.clone();
    more.push(
        json!({"kind": "NetworkPolicy", "metadata": {"name": "out"}, "spec": {"podSelector": {}, "egress": [{}]}}),
    );
    assert!(!objects::are_guarded(&owner(), &drill, &more), "what policies let through adds up");
}

#[test]
fn d9_a_namespace_that_somebody_else_made_is_not_the_sandbox_whatever_its_labels_say() {
    let drill = drill_spec(|_| ());
    let made = objects::sandbox(&owner(), &drill, "mark");
    let seen = |change: fn(&mut Value)| {
        let mut namespace = made[0].clone();
        namespace["metadata"]["uid"] = json!("namespace-uid");
        change(&mut namespace["metadata"]);
        observed::sandbox(Some(&namespace), &made, &owner(), Some(&drill), "mark")
    };
    let ours = SandboxState { uid: "namespace-uid".into(), terminating: false, guarded: true };
    assert_eq!(seen(|_| ()), Seen::Ours(ours.clone()));
    assert_eq!(seen(|metadata| metadata["annotations"] = Value::Null), Seen::Foreign);
    assert_eq!(seen(|metadata| metadata["annotations"][objects::SANDBOX_MARK] = json!("other")), Seen::Foreign);
    assert_eq!(seen(|metadata| metadata["labels"]["interlock.dev/run-uid"] = json!("other")), Seen::Foreign);
    // Without its run, the sweep tells whose it is by the same mark, and only in the name of the run that it says.
    let claimed = |change: fn(&mut Value)| {
        let mut namespace = made[0].clone();
        change(&mut namespace["metadata"]);
        observed::claimed_run(&namespace).map(|run| run.marked())
    };
    assert_eq!(claimed(|_| ()), Some(owner().marked()));
    assert_eq!(claimed(|metadata| metadata["name"] = json!("accounts")), None);
    assert_eq!(claimed(|metadata| metadata["labels"]["interlock.dev/run-uid"] = json!("other")), None);
    assert_eq!(claimed(|metadata| metadata["labels"][objects::RUN_NAME_LABEL] = Value::Null), None);
    assert!(observed::has_mark(&made[0], "mark") && !observed::has_mark(&made[0], "other"));
    assert_eq!(observed::sandbox(None, &[], &owner(), Some(&drill), "mark"), Seen::Absent);
    // Whose it is needs no drill.
    let mut namespace = made[0].clone();
    namespace["metadata"]["uid"] = json!("namespace-uid");
    let seen = |mark: &str| observed::sandbox(Some(&namespace), &made, &owner(), None, mark);
    assert_eq!(seen("mark"), Seen::Ours(SandboxState { guarded: false, ..ours }));
    assert_eq!(seen("other"), Seen::Foreign);
    assert!(String::from_utf8(owner().marked()).is_err(), "no text has this HMAC");
    let other = RunRef { uid: "other", ..owner() };
    assert_ne!(owner().marked(), other.marked());
}

#[test]
fn a_volume_is_found_by_the_label_of_its_run_or_by_the_claim_that_it_had() {
    let volume = |name: &str, claim: &Value, labels: &Value| json!({"metadata": {"name": name, "labels": labels}, "spec": {"claimRef": claim}});
    let labels = owner().labels(objects::VOLUME_COMPONENT);
    let all = [
        volume("free", &Value::Null, &Value::Null),
        volume("other", &json!({"uid": "other"}), &Value::Null),
        volume("pv-1", &json!({"uid": "claim-uid"}), &Value::Null),
    ];
    let found = |uid: Option<&str>| observed::volume_of(&all, UID, uid).map(|volume| &volume["metadata"]["name"]);
    assert_eq!(found(Some("claim-uid")), Some(&json!("pv-1")));
    assert_eq!((found(Some("gone")), found(None)), (None, None));
    let labelled = [volume("free", &Value::Null, &Value::Null), volume("pv-2", &Value::Null, &labels)];
    assert_eq!(observed::volume_of(&labelled, UID, None), Some(&labelled[1]));
    assert_eq!(observed::volume_of(&labelled, "other", None), None);
}

#[test]
fn the_restore_job_has_the_backup_credentials_alone_and_the_volume_moves_by_its_claim_reference() {
    let drill = drill_spec(|_| ());
    let mut point = chosen(SelectionStrategy::Latest, on(23, "02:00:00"), None);
    point.base_id = Some("base".into());
    let job = objects::restore_job(&owner(), &drill, &repository(), Some("repo-1"), &point, &IMAGES, false).unwrap();
    let text = job.to_string();
    assert!(text.contains("\"append\"") && !text.contains("\"full\""), "append-only credentials are enough");
    assert!(text.contains(r#"[\"base\",\"5f3a"#), "the base is restored first");
    assert_eq!(job["spec"]["backoffLimit"], 0);
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "DrillRun");
    let last = job["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!((last.len(), &last[0]["image"]), (1, &json!("interlock:1")));
    let greedy = drill_spec(|spec| spec["sandbox"]["pod"] = json!({"readAll": true}));
    let refused = objects::restore_job(&owner(), &greedy, &repository(), None, &point, &IMAGES, false);
    assert_eq!(refused.unwrap_err(), PodError::NotPermitted("teller".into()));
    let claim = objects::restore_claim(&owner(), &drill, &point);
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "2Gi");
    let volume =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "capacity": {"storage": "5Gi"}}});
    let record =
        SandboxRecord { namespace: owner().sandbox(), volume: Some("pv-1".into()), ..SandboxRecord::default() };
    let target = objects::sandbox_claim(&owner(), &record, &volume);
    assert_eq!((&target["spec"]["volumeName"], &target["spec"]["storageClassName"]), (&json!("pv-1"), &json!("fast")));
    let patch = objects::rebind_patch(&owner());
    assert_eq!(
        (&patch["spec"]["claimRef"]["namespace"], &patch["spec"]["claimRef"]["uid"]),
        (&target["metadata"]["namespace"], &Value::Null)
    );
}

#[test]
fn restored_owners_are_read_back_with_one_privilege_and_one_user_has_the_volume() {
    let point = chosen(SelectionStrategy::Latest, on(23, "02:00:00"), None);
    let last = |drill: &RestoreDrillSpec| {
        let job = objects::restore_job(&owner(), drill, &repository(), None, &point, &IMAGES, true).unwrap();
        job["spec"]["template"]["spec"]["containers"][0]["securityContext"].clone()
    };
    let plain = last(&drill_spec(|_| ()));
    assert_eq!((&plain["runAsUser"], &plain["capabilities"]), (&Value::Null, &json!({"drop": ["ALL"]})));
    let all = last(&drill_spec(|spec| spec["sandbox"]["pod"] = json!({"readAll": true})));
    assert_eq!((&all["runAsUser"], &all["capabilities"]["add"]), (&json!(0), &json!(["DAC_OVERRIDE"])));
    let with_user = drill_spec(|spec| spec["sandbox"]["application"]["postgres"] = json!({"runAsUser": 70}));
    let job = objects::restore_job(&owner(), &with_user, &repository(), None, &point, &IMAGES, false).unwrap();
    let pods = all_pods(&with_user).into_iter().map(|(_, pod)| pod["spec"].clone());
    for spec in pods.chain([job["spec"]["template"]["spec"].clone()]) {
        let security = &spec["securityContext"];
        assert_eq!((&security["runAsUser"], &security["fsGroup"]), (&json!(70), &json!(70)), "{spec}");
    }
}

#[test]
fn tools_run_in_their_own_images_and_a_work_without_one_in_interlocks() {
    let tools = |drill: &RestoreDrillSpec| -> Vec<Value> {
        let pods =
            all_pods(drill).into_iter().filter(|(role, _)| matches!(role, PodRole::Validation(_) | PodRole::Fault));
        pods.map(|(_, pod)| pod["spec"]["initContainers"][1]["image"].clone()).collect()
    };
    assert_eq!(tools(&with_template(&plain())), [Value::Null, json!("checker:1"), Value::Null]);
    let fault = drill_spec(|spec| spec["faultInjection"] = json!({"fault": "FlipBytes", "path": "/x"}));
    assert_eq!(tools(&fault)[0], Value::Null, "files are damaged by Interlock's own");
}

#[test]
fn a_report_fits_into_a_termination_message_whatever_restic_said() {
    let mut report = DrillReport::new(UID);
    report.errors = (0..500).map(|n| format!("{n}: \"\u{1f600}\" {}", "x".repeat(300))).collect();
    report.error_count = 500;
    let text = report.encode().unwrap();
    assert!(text.len() <= 4_000, "{}", text.len());
    let read = DrillReport::decode(Some(&text), UID).unwrap();
    assert!(read.error_count == 500 && !read.errors.is_empty());
}

#[test]
fn a_template_gets_the_restored_data_and_its_neighbours_by_name() {
    let drill = with_template(&plain());
    let (_, pod) = all_pods(&drill).into_iter().find(|(role, _)| *role == PodRole::Application).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"], "data/accounts");
    assert_eq!(pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "restored");
    assert_eq!(pod["spec"]["hostAliases"], json!([{"ip": "10.0.0.5", "hostnames": ["cache"]}]));
    assert_eq!(pod["metadata"]["labels"]["app"], "teller");
    let (_, command) = all_pods(&drill).into_iter().find(|(role, _)| *role == PodRole::Validation(1)).unwrap();
    let tool = &command["spec"]["initContainers"][1];
    assert_eq!(
        tool["volumeMounts"][3],
        json!({"name": "restored", "mountPath": "/restored", "subPath": "data", "readOnly": true})
    );
}

#[test]
fn hostile_templates_are_refused_with_a_sentence() {
    let hostile: [(&str, Value, &str); 19] = [
        ("/spec/volumes", json!([{"name": "v", "hostPath": {"path": "/"}}]), "hostPath"),
        ("/spec/volumes", json!([{"name": "v", "secret": {"secretName": "s"}}]), "holds no credentials"),
        ("/spec/volumes", json!([{"name": "v", "projected": {"sources": []}}]), "holds no credentials"),
        ("/spec/volumes", json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]), "one volume"),
        ("/spec/volumes", json!([{"name": "v", "csi": {"driver": "d"}}]), "emptyDir"),
        ("/spec/volumes", json!([{"name": "restored", "emptyDir": {}}]), "which Interlock adds"),
        ("/spec/hostNetwork", json!(true), "node's namespaces"),
        ("/spec/hostPID", json!(true), "node's namespaces"),
        ("/spec/serviceAccountName", json!("admin"), "without rights"),
        ("/spec/automountServiceAccountToken", json!(true), "no credentials"),
        ("/spec/nodeName", json!("node-1"), "nodeSelector"),
        ("/spec/fieldOfTomorrow", json!(true), "not among the fields"),
        ("/spec/containers/0/securityContext", json!({"privileged": true}), "restricted"),
        ("/spec/containers/0/securityContext", json!({"capabilities": {"add": ["NET_ADMIN"]}}), "capabilities"),
        ("/spec/containers/0/securityContext", json!("none"), "not an object"),
        ("/spec/securityContext", json!([]), "not an object"),
        ("/spec/initContainers", json!([{"name": "first", "image": "i", "securityContext": 7}]), "not an object"),
        ("/spec/containers/0/envFrom", json!([{"secretRef": {"name": "other"}}]), "holds no Secrets"),
        (
            "/spec/containers/0/env",
            json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            "Secret or ConfigMap",
        ),
    ];
    assert_eq!(validate::problems(&with_template(&plain())), Vec::<String>::new());
    for (path, value, said) in hostile {
        let mut template = plain();
        let (parent, field) = path.rsplit_once('/').unwrap();
        template.pointer_mut(parent).unwrap()[field] = value.clone();
        let problems = validate::problems(&with_template(&template));
        assert_eq!(problems.len(), 2, "application and dependency: {path} {value} {problems:?}");
        assert!(problems.iter().all(|problem| problem.contains(said)), "{path} {value} {problems:?}");
    }
    let mut empty = plain();
    empty["spec"]["securityContext"] = Value::Null;
    empty["spec"]["containers"][0]["securityContext"] = Value::Null;
    let empty = with_template(&empty);
    assert_eq!(validate::problems(&empty), Vec::<String>::new());
    assert!(!all_pods(&empty).is_empty());
    for broken in [json!({}), json!({"spec": {}}), json!({"spec": {"containers": [1]}}), json!(7)] {
        assert!(!template::problems("application", &broken).is_empty(), "{broken}");
    }
}

#[test]
fn a_drill_that_could_not_tell_is_refused() {
    let said = |change: fn(&mut Value)| validate::problems(&drill_spec(change)).join("; ");
    assert_eq!(said(|_| ()), "");
    assert!(said(|s| s["timeZone"] = json!("Mars/Base")).contains("Mars/Base"));
    assert!(said(|s| s["schedule"] = json!("0 3 31 2 *")).contains("never occurs"));
    assert!(said(|s| s["validations"][0]["sql"]["expect"] = json!("true")).contains("expect"));
    assert!(said(|s| s["validations"][2]["critical"] = json!(false)).contains("always critical"));
    assert!(said(|s| s["validations"] = json!([s["validations"][0]])).contains("measured by the heartbeat"));
    assert!(said(|s| s["sandbox"] = json!({})).contains("needs application.postgres"));
    assert!(said(|s| s["validations"][1]["name"] = json!("accounts")).contains("two validations"));
    assert!(
        said(|s| s["faultInjection"] = json!({"fault": "FlipBytes", "path": "/../x"}))
            .contains("leaves the restored data")
    );
    let delay = |s: &mut Value| {
        s["faultInjection"] = json!({"fault": "Delay", "delay": "1m"});
        s["objectives"] = json!({});
    };
    assert!(validate::problems(&drill_spec(delay)).join("").contains("objectives.rto"));
    let world = World::new(Script::good());
    assert_eq!(validate::references(&world.drill, Some(&world.policy)), Vec::<String>::new());
    let mut policy = world.policy.clone();
    policy.heartbeat = None;
    assert!(validate::references(&world.drill, Some(&policy)).join("").contains("the policy has none"));
    assert!(validate::references(&world.drill, None).join("").contains("does not exist"));
}
