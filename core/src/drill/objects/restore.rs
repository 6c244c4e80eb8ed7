//! The claim and the Job that restores into it, in the namespace of the repository.
//!
//! Of one form with the Jobs of backups: Interlock's image copies `interlock` into a shared folder, restic's own image restores,
//! and Interlock's image reads back what is on the volume and alone writes the report.

use interlock_crds::{BackupRepositorySpec, ChosenPoint, PodOptions, ResourceAmounts, RestoreDrillSpec};
use serde_json::{Map, Value, json};

use super::RunRef;
use crate::{
    backup::{
        plan::{EXCHANGE_PATH, PROGRAMS_PATH, REPOSITORY_PATH, SCRATCH_PATH, SECRETS_PATH},
        pods::{Images, PodError},
    },
    drill::{
        names,
        plan::{self, DrillPlan, PLAN_VARIABLE, RESTORED_PATH},
    },
};

/// User and group of pods that say nothing else.
const NOBODY: i64 = 65_532;
/// User of PostgreSQL's own images.
const POSTGRES_USER: i64 = 999;
const GIBIBYTE: i64 = 1 << 30;

/// The claim that is restored into.
pub fn restore_claim(run: &RunRef<'_>, drill: &RestoreDrillSpec, chosen: &ChosenPoint) -> Value {
    let sandbox = &drill.sandbox;
    // Twice the data, in whole GiB: the application writes, and dumps are loaded beside themselves.
    let default = || format!("{}Gi", (chosen.bytes.max(0) / GIBIBYTE).saturating_mul(2).saturating_add(2).max(1));
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names::claim(run.name), "namespace": run.namespace, "labels": run.labels("drill-restore"),
            "ownerReferences": run.owner(),
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": sandbox.volume_size.clone().unwrap_or_else(default)}},
        },
    });
    if let Some(class) = &sandbox.storage_class_name {
        claim["spec"]["storageClassName"] = json!(class);
    }
    claim
}

/// The Job that restores. `privileges_permitted` is whether the owner of the namespace lets restores give files their owners
/// back.
///
/// # Errors
/// It asks for what its namespace does not permit.
pub fn restore_job(
    run: &RunRef<'_>,
    drill: &RestoreDrillSpec,
    repository: &BackupRepositorySpec,
    repository_id: Option<&str>,
    chosen: &ChosenPoint,
    images: &Images<'_>,
    privileges_permitted: bool,
) -> Result<Value, PodError> {
    let default = PodOptions::default();
    let options = drill.sandbox.pod.as_ref().or(repository.pod.as_ref()).unwrap_or(&default);
    if options.read_all && !privileges_permitted {
        return Err(PodError::NotPermitted(run.namespace.to_owned()));
    }
    let restic_image = options.image.clone().or(repository.pod.as_ref().and_then(|pod| pod.image.clone()));
    let restic_image = restic_image.unwrap_or_else(|| images.restic.to_owned());
    let work = plan::restore(repository, repository_id, chosen, drill.timeouts.restore);
    let plan = DrillPlan::new(run.uid, work).text();
    let (volumes, mounts) = volumes(run, repository, options);
    let environment = json!([{"secretRef": {"name": repository.restic.secret_ref.name}}]);
    let runner = format!("{PROGRAMS_PATH}/interlock");
    let tool = |name: &str, image: &str, command: &[&str]| {
        json!({
            "name": name, "image": image, "command": command,
            "env": [
                {"name": PLAN_VARIABLE, "value": plan},
                {"name": "RESTIC_CACHE_DIR", "value": format!("{SCRATCH_PATH}/cache")},
                {"name": "TMPDIR", "value": SCRATCH_PATH}, {"name": "HOME", "value": SCRATCH_PATH},
            ],
            "envFrom": environment, "volumeMounts": mounts, "securityContext": restricted(),
            "resources": resources(options),
        })
    };
    let mut restore = tool("restore", &restic_image, &[&runner, "runner", "restore"]);
    if options.read_all {
        restore["securityContext"] = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false, "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "FOWNER", "DAC_OVERRIDE"]},
        });
    }
    let mut report = tool("report", images.interlock, &["interlock", "runner", "report"]);
    report["terminationMessagePolicy"] = json!("File");
    if options.read_all {
        // Files that were given their owners back are read again, and the manifest is written beside them.
        report["securityContext"] = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false, "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]},
        });
    }
    let mut spec = json!({
        "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 60, "securityContext": pod_security(options, user(drill)),
        "initContainers": [install(images.interlock), restore], "containers": [report], "volumes": volumes,
    });
    placement(&mut spec, options);
    let labels = run.labels("drill-restore");
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": names::restore_job(run.name), "namespace": run.namespace, "labels": labels, "ownerReferences": run.owner(),
        },
        "spec": {
            "backoffLimit": 0, "completions": 1, "parallelism": 1, "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": drill.timeouts.restore.seconds(),
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }))
}

fn volumes(run: &RunRef<'_>, repository: &BackupRepositorySpec, options: &PodOptions) -> (Vec<Value>, Vec<Value>) {
    let restic = &repository.restic;
    let mut volumes = vec![
        json!({"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}}),
        json!({"name": "exchange", "emptyDir": {"sizeLimit": "64Mi"}}),
        json!({"name": "scratch", "emptyDir": {"sizeLimit": options.scratch_size.as_deref().unwrap_or("2Gi")}}),
        json!({"name": "restored", "persistentVolumeClaim": {"claimName": names::claim(run.name)}}),
        json!({"name": "repository-secret", "secret": {"secretName": restic.secret_ref.name}}),
    ];
    let mut mounts = vec![
        json!({"name": "programs", "mountPath": PROGRAMS_PATH}),
        json!({"name": "exchange", "mountPath": EXCHANGE_PATH}),
        json!({"name": "scratch", "mountPath": SCRATCH_PATH}),
        json!({"name": "restored", "mountPath": RESTORED_PATH}),
        json!({"name": "repository-secret", "mountPath": format!("{SECRETS_PATH}/repository"), "readOnly": true}),
    ];
    if let Some(volume) = &restic.volume {
        let claim = json!({"claimName": volume.persistent_volume_claim});
        volumes.push(json!({"name": "repository-volume", "persistentVolumeClaim": claim}));
        mounts.push(json!({"name": "repository-volume", "mountPath": REPOSITORY_PATH}));
    }
    if let Some(ca) = &restic.ca_config_map_ref {
        volumes.push(json!({"name": "ca", "configMap": {"name": ca.name}}));
        mounts.push(json!({"name": "ca", "mountPath": format!("{SECRETS_PATH}/ca"), "readOnly": true}));
    }
    (volumes, mounts)
}

fn placement(spec: &mut Value, options: &PodOptions) {
    if let Some(class) = &options.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    if !options.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = options.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    }
    if !options.node_selector.is_empty() {
        let labels: Map<_, _> = options.node_selector.iter().map(|l| (l.key.clone(), json!(l.value))).collect();
        spec["nodeSelector"] = labels.into();
    }
    if !options.tolerations.is_empty() {
        let tolerations = options.tolerations.iter().map(|toleration| {
            let operator = if toleration.value.is_some() { "Equal" } else { "Exists" };
            let mut value = json!(toleration);
            value["operator"] = json!(operator);
            value
        });
        spec["tolerations"] = tolerations.collect();
    }
}

fn resources(options: &PodOptions) -> Value {
    let given = options.resources.clone().unwrap_or_default();
    let amounts = |amounts: Option<ResourceAmounts>, cpu: Option<&str>, memory: &str| {
        let amounts = amounts.unwrap_or_default();
        let mut all = Map::new();
        all.extend(amounts.cpu.as_deref().or(cpu).map(|cpu| ("cpu".to_owned(), json!(cpu))));
        all.insert("memory".into(), json!(amounts.memory.as_deref().unwrap_or(memory)));
        all.extend(amounts.ephemeral_storage.map(|disk| ("ephemeral-storage".to_owned(), json!(disk))));
        Value::from(all)
    };
    json!({"requests": amounts(given.requests, Some("100m"), "256Mi"), "limits": amounts(given.limits, None, "2Gi")})
}

/// User and group of all that Interlock runs on the volume. It is one, because not every storage gives a pod's group access to
/// what another user wrote; and that of the server, if there is one, because a server starts on files of its own user alone.
pub(super) fn user(drill: &RestoreDrillSpec) -> i64 {
    let sandbox = &drill.sandbox;
    let server = sandbox.application.as_ref().and_then(|application| application.postgres.as_ref());
    match server {
        Some(server) => server.run_as_user.unwrap_or(POSTGRES_USER),
        None => sandbox.pod.as_ref().and_then(|pod| pod.run_as_user).unwrap_or(NOBODY),
    }
}

fn pod_security(options: &PodOptions, user: i64) -> Value {
    let mut context = json!({
        "runAsNonRoot": !options.read_all,
        "runAsUser": options.run_as_user.unwrap_or(user), "runAsGroup": options.run_as_group.unwrap_or(user),
        "fsGroup": options.fs_group.unwrap_or(user), "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !options.supplemental_groups.is_empty() {
        context["supplementalGroups"] = json!(options.supplemental_groups);
    }
    context
}

/// A container by the restricted Pod Security Standard.
pub(super) fn restricted() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}

/// Copies `interlock` to where containers of other images find it.
pub(super) fn install(image: &str) -> Value {
    json!({
        "name": "install", "image": image, "command": ["interlock", "runner", "install", PROGRAMS_PATH],
        "securityContext": restricted(), "volumeMounts": [{"name": "programs", "mountPath": PROGRAMS_PATH}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
    })
}
