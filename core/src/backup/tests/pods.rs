//! The Jobs of backups and maintenance.

use interlock_crds::{BackupMode, MaintenanceOperation, PinnedPolicy};
use serde_json::{Value, json};

use super::{policy_spec, repository_spec};
use crate::backup::{
    plan::{MaintenanceWork, PLAN_VARIABLE, PlannedSource, RunnerPlan, subset},
    pods::{Images, Owner, PodError, backup_job, maintenance_job, mount_objects},
    result::RunnerOperation,
};

const IMAGES: Images<'_> = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:18" };

fn owner() -> Owner<'static> {
    Owner { kind: "Backup", name: "teller-db-1", uid: "run-1", namespace: "teller", privileges_permitted: false }
}

fn pinned() -> PinnedPolicy {
    PinnedPolicy {
        policy_uid: "policy-1".into(),
        policy_generation: 1,
        policy_digest: "sha256:0".into(),
        repository: "vault".into(),
        repository_uid: "vault-uid".into(),
        repository_id: Some("repo-1".into()),
        parent: Some("parent-1".into()),
        base_id: None,
    }
}

fn job(change: impl FnOnce(&mut Value), mode: BackupMode) -> Value {
    backup_job(&owner(), &policy_spec(change), &repository_spec(|_| ()), &pinned(), mode, &IMAGES).unwrap()
}

fn plan_of(container: &Value) -> RunnerPlan {
    let variables = container["env"].as_array().unwrap();
    let plan = variables.iter().find(|v| v["name"] == PLAN_VARIABLE).unwrap();
    serde_json::from_str(plan["value"].as_str().unwrap()).unwrap()
}

fn pod(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]
}

fn tool(job: &Value) -> &Value {
    pod(job)["initContainers"].as_array().unwrap().last().unwrap()
}

#[test]
fn a_backup_runs_once_without_token_and_restricted() {
    let job = job(|_| (), BackupMode::Incremental);
    assert_eq!(job["metadata"]["name"], "teller-db-1");
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "run-1");
    let spec = &job["spec"];
    assert_eq!((&spec["backoffLimit"], &spec["podReplacementPolicy"]), (&json!(0), &json!("Failed")));
    assert_eq!((&spec["activeDeadlineSeconds"], spec.get("ttlSecondsAfterFinished")), (&json!(10_800), None));
    let pod = pod(&job);
    assert_eq!((&pod["restartPolicy"], &pod["automountServiceAccountToken"]), (&json!("Never"), &json!(false)));
    assert_eq!(pod.get("hostname"), None);
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], &pod["securityContext"]["runAsUser"]),
        (&json!(true), &json!(65_532))
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let containers: Vec<_> =
        pod["initContainers"].as_array().unwrap().iter().chain(pod["containers"].as_array().unwrap()).collect();
    let names: Vec<_> =
        containers.iter().map(|c| (c["name"].as_str().unwrap(), c["image"].as_str().unwrap())).collect();
    assert_eq!(names, [("install", "interlock:1"), ("tool", "restic:1"), ("report", "interlock:1")]);
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(
            (&context["allowPrivilegeEscalation"], &context["capabilities"]),
            (&json!(false), &json!({"drop": ["ALL"]}))
        );
        assert_eq!(context["readOnlyRootFilesystem"], true);
    }
    let source = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "source").unwrap();
    assert_eq!(source["persistentVolumeClaim"], json!({"claimName": "data", "readOnly": true}));
    assert_eq!(tool(&job)["envFrom"], json!([{"secretRef": {"name": "append"}}]));
    assert!(!job.to_string().contains("\"full\""), "a backup never sees the credentials that delete");
}

#[test]
fn a_short_deadline_leaves_time_to_tell_that_nothing_answers() {
    let patience = |job: &Value| plan_of(tool(job)).patience_seconds;
    assert_eq!(patience(&job(|_| (), BackupMode::Full)), Some(300));
    assert_eq!(patience(&job(|s| s["deadline"] = json!("1m"), BackupMode::Full)), Some(30));
}

#[test]
fn host_and_paths_are_fixed_and_full_reads_everything() {
    let incremental = plan_of(tool(&job(|_| (), BackupMode::Incremental)));
    assert_eq!((incremental.host.as_deref(), incremental.force), (Some("policy-1"), false));
    assert_eq!(incremental.parent.as_deref(), Some("parent-1"));
    assert_eq!(incremental.repository_id.as_deref(), Some("repo-1"));
    let Some(PlannedSource::Files { paths, .. }) = &incremental.source else { panic!("{:?}", incremental.source) };
    assert_eq!(paths, &["/data/accounts", "/data"]);
    let full = plan_of(tool(&job(|_| (), BackupMode::Full)));
    assert_eq!((full.force, full.parent), (true, None));
}

#[test]
fn dumps_run_in_the_image_of_the_database_with_restic_beside_them() {
    let source = json!({"postgres": {"host": "db", "secretRef": {"name": "db-backup"}, "databases": ["teller"]}});
    let job = job(|s| s["source"] = source, BackupMode::Incremental);
    let names: Vec<_> = pod(&job)["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].clone(), c["image"].clone()))
        .collect();
    assert_eq!(
        names,
        [
            (json!("install"), json!("interlock:1")),
            (json!("restic"), json!("restic:1")),
            (json!("tool"), json!("postgres:18"))
        ]
    );
    assert!(tool(&job)["volumeMounts"].to_string().contains("/interlock/secrets/source"));
    assert!(matches!(plan_of(tool(&job)).source, Some(PlannedSource::Postgres { port: 5432, .. })));
}

#[test]
fn reading_every_file_needs_the_namespace_owner() {
    let spec = policy_spec(|s| {
        s["pod"] = json!({"readAll": true, "fsGroup": 70, "sameNodeAs": [{"key": "app", "value": "db"}]});
    });
    let repository = repository_spec(|_| ());
    let make = |owner: &Owner<'_>| backup_job(owner, &spec, &repository, &pinned(), BackupMode::Full, &IMAGES);
    let refused = make(&owner()).unwrap_err();
    assert_eq!(refused, PodError::NotPermitted("teller".into()));
    assert!(refused.to_string().contains("interlock.dev/backup-privileges"));
    let job = make(&Owner { privileges_permitted: true, ..owner() }).unwrap();
    assert_eq!(tool(&job)["securityContext"]["capabilities"], json!({"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}));
    assert_eq!(pod(&job)["containers"][0]["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    let cache = |container: &Value| {
        let all = container["env"].as_array().unwrap();
        all.iter().find(|variable| variable["name"] == "RESTIC_CACHE_DIR").unwrap()["value"].clone()
    };
    assert_ne!(cache(tool(&job)), cache(&pod(&job)["containers"][0]), "what root keeps nobody else can open");
    assert_eq!(pod(&job)["securityContext"]["fsGroup"], 70);
    assert!(pod(&job)["affinity"].to_string().contains("kubernetes.io/hostname"));
}

#[test]
fn a_policy_says_where_its_pods_run_what_they_may_use_and_whose_images_they_pull() {
    let options = json!({
        "image": "own/restic:1", "imagePullSecrets": ["registry"], "priorityClassName": "low", "scratchSize": "7Gi",
        "resources": {
            "requests": {"cpu": "250m", "memory": "300Mi", "ephemeralStorage": "8Gi"},
            "limits": {"cpu": "3", "memory": "3Gi"},
        },
        "nodeSelector": [{"key": "disk", "value": "fast"}],
        "tolerations": [{"key": "backup", "value": "only", "effect": "NoSchedule"}, {"key": "spare"}],
        "sameNodeAs": [{"key": "app", "value": "db"}], "supplementalGroups": [3_000],
    });
    let places_and_limits = |job: &Value| {
        let pod = pod(job);
        assert_eq!(pod["nodeSelector"], json!({"disk": "fast"}));
        let tolerations = json!([
            {"key": "backup", "operator": "Equal", "value": "only", "effect": "NoSchedule"},
            {"key": "spare", "operator": "Exists"},
        ]);
        assert_eq!(pod["tolerations"], tolerations);
        let near = &pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(near["labelSelector"]["matchLabels"], json!({"app": "db"}));
        assert_eq!(
            (&pod["priorityClassName"], &pod["imagePullSecrets"]),
            (&json!("low"), &json!([{"name": "registry"}]))
        );
        assert_eq!(pod["securityContext"]["supplementalGroups"], json!([3_000]));
        let scratch = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "scratch").unwrap();
        assert_eq!(scratch["emptyDir"]["sizeLimit"], "7Gi");
        let resources = json!({
            "requests": {"cpu": "250m", "memory": "300Mi", "ephemeral-storage": "8Gi"}, "limits": {"cpu": "3", "memory": "3Gi"},
        });
        assert_eq!((&tool(job)["resources"], &tool(job)["image"]), (&resources, &json!("own/restic:1")));
    };
    places_and_limits(&job(|s| s["pod"] = options.clone(), BackupMode::Full));
    // Upkeep goes by the options of the repository.
    let repository = repository_spec(|s| s["pod"] = options);
    let owner = Owner { kind: "BackupRepository", name: "vault", uid: "vault-uid", ..owner() };
    let (operation, work) = (MaintenanceOperation::Check, MaintenanceWork::default());
    places_and_limits(&maintenance_job(&owner, "check", operation, &repository, None, &work, &IMAGES).unwrap());
    let plain = job(|_| (), BackupMode::Full);
    let of_tool = json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}});
    assert_eq!(tool(&plain)["resources"], of_tool, "of a policy that says nothing");
    assert_eq!((pod(&plain).get("nodeSelector"), pod(&plain).get("tolerations")), (None, None));
}

#[test]
fn maintenance_that_removes_uses_its_own_credentials_and_a_check_rotates() {
    let owner = Owner {
        kind: "BackupRepository",
        name: "vault",
        uid: "vault-uid",
        namespace: "teller",
        privileges_permitted: false,
    };
    let repository = repository_spec(|_| ());
    let work = MaintenanceWork { forget: (0..600).map(|n| format!("{n:064}")).collect(), part: Some(13) };
    let make = |operation| {
        maintenance_job(&owner, "vault-run", operation, &repository, Some("repo-1"), &work, &IMAGES).unwrap()
    };
    let prune = make(MaintenanceOperation::Prune);
    assert_eq!(tool(&prune)["envFrom"], json!([{"secretRef": {"name": "full"}}]));
    let plan = plan_of(tool(&prune));
    assert_eq!((plan.operation, plan.forget.len(), plan.max_unused_percent), (RunnerOperation::Prune, 500, Some(5)));
    let check = make(MaintenanceOperation::Check);
    assert_eq!(tool(&check)["envFrom"], json!([{"secretRef": {"name": "append"}}]));
    let plan = plan_of(tool(&check));
    assert_eq!((plan.forget.len(), plan.read_data_subset.as_deref()), (0, Some("1/12")));
    // Where a server removes for nobody, what removes goes to another one, and nothing else does.
    let (all, full) = ("rest:https://vault.bank.example/teller/", "rest:https://full.bank.example/teller/");
    let elsewhere = repository_spec(|s| s["restic"]["maintenanceUrl"] = json!(full));
    for (operation, address) in [
        (MaintenanceOperation::Initialize, all),
        (MaintenanceOperation::Check, all),
        (MaintenanceOperation::Prune, full),
        (MaintenanceOperation::RotateKey, full),
        (MaintenanceOperation::Unlock, full),
    ] {
        let job = maintenance_job(&owner, "vault-run", operation, &elsewhere, Some("repo-1"), &work, &IMAGES).unwrap();
        assert_eq!(plan_of(tool(&job)).repository, address, "{operation:?}");
    }
    let backup = backup_job(&owner, &policy_spec(|_| ()), &elsewhere, &pinned(), BackupMode::Full, &IMAGES).unwrap();
    assert_eq!(plan_of(tool(&backup)).repository, all);
    assert_eq!(subset("1/12", 12).as_deref(), Some("12/12"));
    assert_eq!(subset("1/0", 1), None);
}

#[test]
fn a_repository_on_a_volume_is_mounted() {
    let repository = repository_spec(|s| {
        s["restic"] = json!({"volume": {"persistentVolumeClaim": "vault", "path": "/a"}, "secretRef": {"name": "x"}});
    });
    let job = backup_job(&owner(), &policy_spec(|_| ()), &repository, &pinned(), BackupMode::Full, &IMAGES).unwrap();
    assert_eq!(plan_of(tool(&job)).repository, "/repository/a");
    assert!(pod(&job)["volumes"].to_string().contains("\"claimName\":\"vault\""));
}

/// The plan of a run of mode Incremental with a pinned base.
pub(super) fn physical_plan(policy: &interlock_crds::BackupPolicySpec) -> RunnerPlan {
    let pinned = PinnedPolicy { base_id: Some("base-1".into()), ..pinned() };
    let repository = repository_spec(|_| ());
    let job = backup_job(&owner(), policy, &repository, &pinned, BackupMode::Incremental, &IMAGES).unwrap();
    let mounts = tool(&job)["volumeMounts"].as_array().unwrap();
    let at = |path: &str| mounts.iter().find(|mount| mount["mountPath"] == path).unwrap()["name"].clone();
    assert_eq!((at("/data/wal"), at("/data/base")), (json!("spool"), json!("base")));
    assert_eq!(pod(&job)["securityContext"]["fsGroup"], json!(65_532), "a fresh spool belongs to root");
    plan_of(tool(&job))
}

#[test]
fn manifests_of_objects_are_mounted_and_laid_out_beside() {
    let mut job = job(|s| s["source"] = json!({"objects": {}}), BackupMode::Full);
    mount_objects(&mut job, "teller-db-1", 2);
    let volume = |name: &str| pod(&job)["volumes"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap();
    let sources = json!([{"secret": {"name": "teller-db-1-objects-0"}}, {"secret": {"name": "teller-db-1-objects-1"}}]);
    assert_eq!(volume("objects")["projected"]["sources"], sources);
    assert!(volume("source").get("emptyDir").is_some());
    let mounts = tool(&job)["volumeMounts"].to_string();
    assert!(mounts.contains("/interlock/objects") && mounts.contains(r#""mountPath":"/data""#), "{mounts}");
    assert_eq!(plan_of(tool(&job)).source, Some(PlannedSource::Objects));
}
