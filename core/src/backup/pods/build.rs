//! One Job, container by container.

use interlock_crds::{BackupRepositorySpec, LabelValue, NameRef, PodOptions, ResourceAmounts};
use serde_json::{Map, Value, json};

use super::{Owner, PodError, RUN_LABEL};
use crate::backup::plan::{
    EXCHANGE_PATH, PLAN_VARIABLE, PROGRAMS_PATH, REPOSITORY_PATH, RunnerPlan, SCRATCH_PATH, SECRETS_PATH,
};

/// User and group of pods that say nothing else.
pub(in crate::backup) const NOBODY: i64 = 65_532;
/// Room for temporary files of pods that say nothing else.
pub(super) const SCRATCH: &str = "2Gi";

pub(in crate::backup) struct Pod<'a> {
    pub(super) owner: &'a Owner<'a>,
    options: &'a PodOptions,
    plan: String,
    pub(super) restic_image: String,
    pub(super) tool_image: String,
    pub(super) volumes: Vec<Value>,
    pub(super) mounts: Vec<Value>,
    pub(super) environment: Vec<Value>,
    /// It writes to the volume, and gives files their owners back.
    pub(super) restores: bool,
    /// It reads what the pod that receives write-ahead log writes, and removes what is no longer needed.
    pub(super) shares_spool: bool,
}

impl<'a> Pod<'a> {
    pub(super) fn new(
        owner: &'a Owner<'a>,
        options: &'a PodOptions,
        repository: &BackupRepositorySpec,
        plan: &RunnerPlan,
        secret: &NameRef,
    ) -> Result<Self, PodError> {
        if options.read_all && !owner.privileges_permitted {
            return Err(PodError::NotPermitted(owner.namespace.to_owned()));
        }
        let plan = serde_json::to_string(plan).map_err(|error| PodError::Plan(error.to_string()))?;
        let scratch = options.scratch_size.as_deref().unwrap_or(SCRATCH);
        let mut pod = Self {
            owner,
            options,
            plan,
            restic_image: String::new(),
            tool_image: String::new(),
            volumes: vec![
                json!({"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}}),
                json!({"name": "exchange", "emptyDir": {"sizeLimit": "64Mi"}}),
                json!({"name": "scratch", "emptyDir": {"sizeLimit": scratch}}),
            ],
            mounts: vec![
                json!({"name": "programs", "mountPath": PROGRAMS_PATH}),
                json!({"name": "exchange", "mountPath": EXCHANGE_PATH}),
                json!({"name": "scratch", "mountPath": SCRATCH_PATH}),
            ],
            environment: vec![json!({"secretRef": {"name": secret.name}})],
            restores: false,
            shares_spool: false,
        };
        pod.secret("repository", secret);
        if let Some(volume) = &repository.restic.volume {
            pod.claim("repository-volume", &volume.persistent_volume_claim, REPOSITORY_PATH, false);
        }
        if let Some(ca) = &repository.restic.ca_config_map_ref {
            pod.volumes.push(json!({"name": "ca", "configMap": {"name": ca.name}}));
            pod.mounts.push(json!({"name": "ca", "mountPath": format!("{SECRETS_PATH}/ca"), "readOnly": true}));
        }
        Ok(pod)
    }

    pub(super) fn claim(&mut self, name: &str, claim: &str, path: &str, read_only: bool) {
        let mut volume = json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
        let mut mount = json!({"name": name, "mountPath": path});
        // The API server leaves `false` out, so a change that states it would never be as it states.
        if read_only {
            (volume["persistentVolumeClaim"]["readOnly"], mount["readOnly"]) = (true.into(), true.into());
        }
        self.volumes.push(volume);
        self.mounts.push(mount);
    }

    pub(super) fn secret(&mut self, name: &str, secret: &NameRef) {
        let volume = format!("{name}-secret");
        self.volumes.push(json!({"name": volume, "secret": {"secretName": secret.name}}));
        self.mounts.push(json!({"name": volume, "mountPath": format!("{SECRETS_PATH}/{name}"), "readOnly": true}));
    }

    pub(super) fn job(
        &self,
        name: &str,
        deadline: i64,
        component: &str,
        more: &[(&str, String)],
        interlock: &str,
    ) -> Value {
        let options = self.options;
        let mut labels = Map::new();
        labels.insert("app.kubernetes.io/managed-by".into(), json!("interlock"));
        labels.insert("app.kubernetes.io/component".into(), json!(component));
        labels.insert(RUN_LABEL.into(), json!(self.owner.uid));
        labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        let runner = format!("{PROGRAMS_PATH}/interlock");
        let mut init = vec![Self::small("install", interlock, &["interlock", "runner", "install", PROGRAMS_PATH])];
        if self.tool_image != self.restic_image {
            init.push(Self::small(
                "restic",
                &self.restic_image,
                &[&runner, "runner", "install-tool", "restic", PROGRAMS_PATH],
            ));
        }
        init.push(self.tool(&[&runner, "runner", "tool"]));
        let mut report = self.container("report", interlock, &["interlock", "runner", "report"]);
        report["securityContext"] = restricted();
        report["terminationMessagePolicy"] = json!("File");
        let mut spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 60,
            "securityContext": self.pod_security(),
            "initContainers": init,
            "containers": [report],
            "volumes": self.volumes,
        });
        place(&mut spec, options, &options.same_node_as);
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": name, "namespace": self.owner.namespace, "labels": labels,
                "ownerReferences": [{
                    "apiVersion": interlock_crds::API_VERSION, "kind": self.owner.kind, "name": self.owner.name,
                    "uid": self.owner.uid, "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "backoffLimit": 0, "completions": 1, "parallelism": 1, "podReplacementPolicy": "Failed",
                "activeDeadlineSeconds": deadline,
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        })
    }

    /// A container that copies a program.
    pub(in crate::backup) fn small(name: &str, image: &str, command: &[&str]) -> Value {
        let mut container = json!({"name": name, "image": image, "command": command, "securityContext": restricted()});
        container["volumeMounts"] = json!([{"name": "programs", "mountPath": PROGRAMS_PATH}]);
        container["resources"] = json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        container
    }

    fn tool(&self, command: &[&str]) -> Value {
        let mut container = self.container("tool", &self.tool_image, command);
        container["securityContext"] = restricted();
        // The end of its log is kept without a right to read logs: of a tool that fails as its message, of one that is killed
        // by the kubelet.
        container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
        if self.options.read_all {
            let more =
                if self.restores { json!(["CHOWN", "FOWNER", "DAC_OVERRIDE"]) } else { json!(["DAC_READ_SEARCH"]) };
            container["securityContext"] = json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": false, "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": more},
            });
        }
        container
    }

    fn container(&self, name: &str, image: &str, command: &[&str]) -> Value {
        let resources = self.options.resources.clone().unwrap_or_default();
        // What root keeps there the user as whom the others run could not open.
        let cache = if name == "tool" && self.options.read_all { "cache-of-root" } else { "cache" };
        let fixed = |amounts: Option<ResourceAmounts>, cpu: Option<&str>, memory: &str| {
            let amounts = amounts.unwrap_or_default();
            let mut all = Map::new();
            all.extend(amounts.cpu.as_deref().or(cpu).map(|cpu| ("cpu".to_owned(), json!(cpu))));
            all.insert("memory".into(), json!(amounts.memory.as_deref().unwrap_or(memory)));
            all.extend(amounts.ephemeral_storage.map(|disk| ("ephemeral-storage".to_owned(), json!(disk))));
            all
        };
        json!({
            "name": name, "image": image, "command": command,
            "env": [
                {"name": PLAN_VARIABLE, "value": self.plan},
                {"name": "RESTIC_CACHE_DIR", "value": format!("{SCRATCH_PATH}/{cache}")},
                {"name": "TMPDIR", "value": SCRATCH_PATH},
                {"name": "HOME", "value": SCRATCH_PATH},
            ],
            "envFrom": self.environment,
            "resources": {"requests": fixed(resources.requests, Some("100m"), "256Mi"), "limits": fixed(resources.limits, None, "2Gi")},
            "volumeMounts": self.mounts,
        })
    }

    fn pod_security(&self) -> Value {
        // A fresh volume belongs to root.
        let options = self.options;
        let group = (self.restores || self.shares_spool).then_some(options.run_as_group.unwrap_or(NOBODY));
        security(options, group)
    }
}

/// Who a pod runs as; `group` owns its volumes if the options name none.
pub(in crate::backup) fn security(options: &PodOptions, group: Option<i64>) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "runAsUser": options.run_as_user.unwrap_or(NOBODY),
        "runAsGroup": options.run_as_group.unwrap_or(NOBODY),
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let Some(group) = options.fs_group.or(group) {
        context["fsGroup"] = json!(group);
        context["fsGroupChangePolicy"] = json!("OnRootMismatch");
    }
    if !options.supplemental_groups.is_empty() {
        context["supplementalGroups"] = json!(options.supplemental_groups);
    }
    context
}

/// Where a pod runs, and with whose images.
pub(in crate::backup) fn place(spec: &mut Value, options: &PodOptions, same_node_as: &[LabelValue]) {
    if let Some(class) = &options.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    if !options.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = options.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    }
    let map = |labels: &[LabelValue]| labels.iter().map(|l| (l.key.clone(), json!(l.value))).collect::<Map<_, _>>();
    if !options.node_selector.is_empty() {
        spec["nodeSelector"] = map(&options.node_selector).into();
    }
    if !options.tolerations.is_empty() {
        let tolerations = options.tolerations.iter().map(|t| {
            let operator = if t.value.is_some() { "Equal" } else { "Exists" };
            let mut toleration = json!(t);
            toleration["operator"] = json!(operator);
            toleration
        });
        spec["tolerations"] = tolerations.collect();
    }
    if !same_node_as.is_empty() {
        spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": map(same_node_as)}, "topologyKey": "kubernetes.io/hostname"}
        ]}});
    }
}

/// A container by the restricted Pod Security Standard.
pub(in crate::backup) fn restricted() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}
