//! Pods of a run: probes, fault, dependencies, application, validations, wipe.
//!
//! All are restricted and have no token. None has a credential: a sandbox holds no Secret, and nothing here refers to one.

use interlock_crds::{BackupPolicySpec, DrillPostgres, DrillValidation, RestoreDrillSpec};
use serde_json::{Map, Value, json};

use super::{
    RunRef,
    restore::{install, restricted, user},
};
use crate::{
    backup::{
        plan::{EXCHANGE_PATH, PROGRAMS_PATH, SCRATCH_PATH},
        pods::Images,
    },
    drill::{
        names::{self, PodRole},
        plan::{self, DATA_FOLDER, DrillPlan, DrillWork, MANIFEST_FOLDER, PLAN_VARIABLE, RESTORED_PATH, WorkTool},
        template,
    },
};

/// A pod is ended by the cluster so long after the runner should have ended it.
const GRACE_SECONDS: i64 = 60;
/// The folder of the restored volume that is shown to a command: data is read there, never changed.
const COMMAND_PATH: &str = "/restored";

/// What pods are built from.
#[derive(Clone, Copy, Debug)]
pub struct PodContext<'a> {
    /// Whose pods they are.
    pub run: RunRef<'a>,
    /// What the run carries out.
    pub drill: &'a RestoreDrillSpec,
    /// The policy of it.
    pub policy: &'a BackupPolicySpec,
    /// Images of this release.
    pub images: &'a Images<'a>,
    /// Interlock's own namespace, where the probe outside runs.
    pub home: &'a str,
    /// What the probes dial: that of `status.isolation.target`.
    pub target: &'a str,
    /// Digest of the manifest of what was restored, if known.
    pub manifest_digest: Option<&'a str>,
    /// Names and addresses of the pods that serve already: dependencies by their names, and `application`.
    pub aliases: &'a [(String, String)],
}

/// Builds a pod; none if the drill has none of this role.
pub fn pod(context: &PodContext<'_>, role: PodRole) -> Option<Value> {
    let body = match role {
        PodRole::OutsideProbe | PodRole::InsideProbe => context.one("probe", &plan::probe(context.target)?, 60, false),
        PodRole::Fault => {
            let fault = context.drill.fault_injection.as_ref()?;
            let work = plan::fault(fault, context.policy)?;
            context.work("fault", &work, 300, true)
        }
        PodRole::Wipe => context.one("wipe", &DrillWork::Wipe, 3_600, true),
        PodRole::Dependency(index) => {
            context.of_template(&context.drill.sandbox.dependencies.get(index)?.pod_template, role)
        }
        PodRole::Application => {
            let application = context.drill.sandbox.application.as_ref()?;
            match (&application.pod_template, &application.postgres) {
                (Some(template), _) => context.of_template(template, role),
                (None, Some(postgres)) => context.server(postgres),
                (None, None) => return None,
            }
        }
        PodRole::Validation(index) => context.validation(context.drill.validations.get(index)?),
    };
    let namespace = if role == PodRole::OutsideProbe { context.home.to_owned() } else { context.run.sandbox() };
    let mut labels = body.labels;
    if let (Some(labels), Some(own)) = (labels.as_object_mut(), context.labels(role).as_object()) {
        labels.extend(own.clone());
    }
    Some(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": role.name(context.run.uid), "namespace": namespace, "labels": labels},
        "spec": body.spec,
    }))
}

struct Body {
    labels: Value,
    spec: Value,
}

impl PodContext<'_> {
    fn labels(&self, role: PodRole) -> Value {
        self.run.labels(match role {
            PodRole::OutsideProbe | PodRole::InsideProbe => "drill-probe",
            PodRole::Fault => "drill-fault",
            PodRole::Dependency(_) => "drill-dependency",
            PodRole::Application => "drill-application",
            PodRole::Validation(_) => "drill-validation",
            PodRole::Wipe => "drill-wipe",
        })
    }

    fn of_template(&self, pod_template: &Value, role: PodRole) -> Body {
        let rendered = template::render(pod_template, &self.labels(role), self.aliases, DATA_FOLDER);
        Body { labels: rendered["labels"].clone(), spec: rendered["spec"].clone() }
    }

    /// A pod of one container, of Interlock's image.
    fn one(&self, name: &str, work: &DrillWork, seconds: i64, writes: bool) -> Body {
        let volume = matches!(work, DrillWork::Fault { .. } | DrillWork::Wipe | DrillWork::Validate { .. });
        let mut container = self.container(name, self.images.interlock, &["interlock", "runner", "drill"], work);
        let mut volumes = vec![json!({"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}})];
        let mut mounts = vec![json!({"name": "scratch", "mountPath": SCRATCH_PATH})];
        if volume {
            volumes.push(claim());
            mounts.push(json!({"name": "restored", "mountPath": RESTORED_PATH, "readOnly": !writes}));
        }
        container["volumeMounts"] = mounts.into();
        container["terminationMessagePolicy"] = json!("File");
        Body { labels: json!({}), spec: self.frame(&[], &container, &volumes, seconds) }
    }

    /// A pod whose tool runs in its own image, started through the runner; Interlock's container, the last one, reports.
    fn with_tool(&self, image: &str, work: &DrillWork, seconds: i64, sees_data: bool) -> Body {
        let runner = format!("{PROGRAMS_PATH}/interlock");
        let mut mounts = vec![
            json!({"name": "programs", "mountPath": PROGRAMS_PATH}),
            json!({"name": "exchange", "mountPath": EXCHANGE_PATH}),
            json!({"name": "scratch", "mountPath": SCRATCH_PATH}),
        ];
        let mut tool = self.container("tool", image, &[&runner, "runner", "drill"], work);
        let mut report = self.container("report", self.images.interlock, &["interlock", "runner", "report"], work);
        report["volumeMounts"] = mounts.clone().into();
        report["terminationMessagePolicy"] = json!("File");
        let mut volumes = vec![
            json!({"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}}),
            json!({"name": "exchange", "emptyDir": {"sizeLimit": "16Mi"}}),
            json!({"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}}),
        ];
        if sees_data {
            volumes.push(claim());
            mounts
                .push(json!({"name": "restored", "mountPath": COMMAND_PATH, "subPath": DATA_FOLDER, "readOnly": true}));
        }
        tool["volumeMounts"] = mounts.into();
        let init = [install(self.images.interlock), tool];
        Body { labels: json!({}), spec: self.frame(&init, &report, &volumes, seconds) }
    }

    fn validation(&self, validation: &DrillValidation) -> Body {
        let seconds = validation.timeout.seconds();
        let heartbeat = plan::heartbeat(self.policy).filter(|_| validation.heartbeat.is_some());
        let work = DrillWork::Validate {
            timeout_seconds: seconds,
            validation: Box::new(validation.clone()),
            heartbeat,
            manifest_digest: self.manifest_digest.map(ToOwned::to_owned),
        };
        self.work("validate", &work, seconds, false)
    }

    /// A pod in which the tool of the work runs, if it has one. `writes` is whether Interlock's own changes the data.
    fn work(&self, name: &str, work: &DrillWork, seconds: i64, writes: bool) -> Body {
        match work.tool() {
            Some(WorkTool::Image(image)) => self.with_tool(image, work, seconds, true),
            Some(WorkTool::Postgres) => self.with_tool(&self.postgres_image(), work, seconds, false),
            None => self.one(name, work, seconds, writes),
        }
    }

    fn postgres_image(&self) -> String {
        let application = self.drill.sandbox.application.as_ref();
        let given = application
            .and_then(|application| application.postgres.as_ref())
            .and_then(|postgres| postgres.image.clone());
        given.unwrap_or_else(|| self.images.postgres.to_owned())
    }

    /// A PostgreSQL server on the restored data. It listens in the sandbox, without password: nobody else reaches it.
    fn server(&self, postgres: &DrillPostgres) -> Body {
        let mode = self.policy.source.postgres.as_ref().map(|source| source.mode).unwrap_or_default();
        let work = DrillWork::Serve {
            mode,
            recover_before_end_seconds: postgres.recover_before_end.map(interlock_crds::Duration::seconds),
        };
        let runner = format!("{PROGRAMS_PATH}/interlock");
        let mut server = self.container("postgres", &self.postgres_image(), &[&runner, "runner", "drill"], &work);
        server["volumeMounts"] = json!([
            {"name": "programs", "mountPath": PROGRAMS_PATH}, {"name": "scratch", "mountPath": SCRATCH_PATH},
            {"name": "restored", "mountPath": RESTORED_PATH},
        ]);
        server["ports"] = json!([{"containerPort": 5432}]);
        // Not before dumps are loaded or recovery has ended: the runner makes the file then, and asks the server each time.
        server["readinessProbe"] = json!({
            "exec": {"command": [runner, "runner", "ready"]}, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 1,
        });
        // Half of the default quota: validations need some of it too.
        let limits = postgres.limits.clone().unwrap_or_default();
        server["resources"]["limits"] = amounts(&[
            ("cpu", limits.cpu.as_deref().unwrap_or("1")),
            ("memory", limits.memory.as_deref().unwrap_or("2Gi")),
        ]);
        let volumes = vec![
            json!({"name": "programs", "emptyDir": {"sizeLimit": "256Mi"}}),
            json!({"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}),
            claim(),
        ];
        let spec = self.frame(&[install(self.images.interlock)], &server, &volumes, 0);
        Body { labels: json!({}), spec }
    }

    fn container(&self, name: &str, image: &str, command: &[&str], work: &DrillWork) -> Value {
        json!({
            "name": name, "image": image, "command": command, "securityContext": restricted(),
            "env": [
                {"name": PLAN_VARIABLE, "value": DrillPlan::new(self.run.uid, work.clone()).text()},
                {"name": "TMPDIR", "value": SCRATCH_PATH}, {"name": "HOME", "value": SCRATCH_PATH},
            ],
            "resources": {
                "requests": amounts(&[("cpu", "50m"), ("memory", "64Mi")]),
                "limits": amounts(&[("cpu", "500m"), ("memory", "256Mi")]),
            },
        })
    }

    /// What all pods of Interlock's own have in common. Without `seconds` a pod runs until it is deleted.
    fn frame(&self, init: &[Value], container: &Value, volumes: &[Value], seconds: i64) -> Value {
        let user = user(self.drill);
        let mut spec = json!({
            "restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 10, "hostAliases": template::host_aliases(self.aliases),
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": init, "containers": [container], "volumes": volumes,
        });
        if seconds > 0 {
            spec["activeDeadlineSeconds"] = json!(seconds.saturating_add(GRACE_SECONDS));
        }
        spec
    }
}

fn claim() -> Value {
    json!({"name": "restored", "persistentVolumeClaim": {"claimName": names::SANDBOX_CLAIM}})
}

fn amounts(given: &[(&str, &str)]) -> Value {
    given.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount))).collect::<Map<_, _>>().into()
}

/// Where the manifest of what was restored lies in a pod of Interlock's.
pub fn manifest_path() -> String {
    format!("{RESTORED_PATH}/{MANIFEST_FOLDER}/manifest")
}
