//! Acting: each write that was decided, under the rights of whom it belongs to.

use interlock_core::{
    change::{FIELD_MANAGER, INTERLOCK_NAMESPACE},
    drill::{
        names::{self, PodRole},
        objects::{self, PodContext},
        permit,
        run::DrillWrite,
    },
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::{BackupPolicySpec, DrillRun, DrillRunStatus, RestoreDrillSpec};
use serde_json::{Value, json};

use super::{
    observe::{self, Observed, Parts, core_id},
    sandboxer,
};
use crate::{
    backup::{
        act::{Created, create, stop_job},
        observe as backups,
    },
    change::Context,
};

/// Something that a run makes, which the API server may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Sandbox,
    Claim,
    RestoreJob,
    SandboxClaim,
    Pod(PodRole),
}

pub(super) struct Act<'a, P> {
    pub context: &'a Context<P>,
    pub object: &'a DrillRun,
    pub recorded: &'a DrillRunStatus,
    pub parts: &'a Parts,
    pub observed: &'a Observed,
}

impl<P: Port> Act<'_, P> {
    /// Makes one write; what the API server refused for good, and why.
    pub async fn write(&self, write: &DrillWrite) -> Result<Option<(Thing, String)>, PortError> {
        let Some((drill, policy)) = &self.parts.plan else { return self.without_plan(write).await };
        let made = match write {
            DrillWrite::ClaimRepository => return Ok(None),
            DrillWrite::CreateSandbox => (Thing::Sandbox, self.create_sandbox(drill).await?),
            DrillWrite::CreateClaim => (Thing::Claim, self.create_claim(drill).await?),
            DrillWrite::CreateRestoreJob => (Thing::RestoreJob, self.create_job().await?),
            DrillWrite::CreateSandboxClaim => (Thing::SandboxClaim, self.create_sandbox_claim().await?),
            DrillWrite::CreatePod(role) => (Thing::Pod(*role), self.create_pod(*role, drill, policy).await?),
            other => return self.without_plan(other).await,
        };
        Ok(match made {
            (_, Created::There) => None,
            (thing, Created::Refused(why)) => Some((thing, why)),
        })
    }

    fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn executor(&self) -> Result<&Identity, PortError> {
        self.parts.executor.as_ref().map_err(|why| PortError::Forbidden(why.clone()))
    }

    /// What needs no specs: handing over and removing.
    async fn without_plan(&self, write: &DrillWrite) -> Result<Option<(Thing, String)>, PortError> {
        let run = permit::reference(self.object);
        match write {
            DrillWrite::RetainVolume(name) => self.patch_volume(name, objects::retain_patch(&run)).await?,
            DrillWrite::RebindVolume(name) => self.patch_volume(name, objects::rebind_patch(&run)).await?,
            DrillWrite::ReturnVolume { name, reclaim_policy } => {
                self.patch_volume(name, objects::return_patch(reclaim_policy)).await?;
            }
            DrillWrite::DropVolume(name) => {
                let provisioned = self.observed.live_volume.as_ref().is_some_and(objects::is_provisioned);
                if provisioned {
                    let precondition = self.observed.live_volume.as_ref().map(Precondition::of).unwrap_or_default();
                    self.delete(&sandboxer(), &core_id("PersistentVolume", None, name), &precondition).await?;
                } else {
                    self.patch_volume(name, objects::free_patch()).await?;
                }
            }
            DrillWrite::DeleteClaim(uid) => {
                let id = core_id("PersistentVolumeClaim", Some(self.namespace()), &names::claim(run.name));
                self.delete(self.executor()?, &id, &of_uid(uid)).await?;
            }
            DrillWrite::DeleteRestoreJob(uid) => {
                let name = names::restore_job(run.name);
                stop_job(self.context, self.executor()?, (self.namespace(), &name), uid.clone()).await?;
            }
            DrillWrite::DeletePod(role, uid) => {
                let sandbox = run.sandbox();
                let namespace = if *role == PodRole::OutsideProbe { INTERLOCK_NAMESPACE } else { &sandbox };
                let id = core_id("Pod", Some(namespace), &role.name(run.uid));
                self.delete(&sandboxer(), &id, &of_uid(uid)).await?;
            }
            DrillWrite::DeleteSandbox(uid) => {
                self.delete(&sandboxer(), &core_id("Namespace", None, &run.sandbox()), &of_uid(uid)).await?;
            }
            // Without its specs a run makes nothing.
            _ => {}
        }
        Ok(None)
    }

    async fn create_sandbox(&self, drill: &RestoreDrillSpec) -> Result<Created, PortError> {
        let run = permit::reference(self.object);
        let mark = self.context.hmac(&run.marked());
        for object in objects::sandbox(&run, drill, &mark) {
            if let Created::Refused(why) = create(self.context, &sandboxer(), &object).await? {
                return Ok(Created::Refused(why));
            }
        }
        Ok(Created::There)
    }

    async fn create_claim(&self, drill: &RestoreDrillSpec) -> Result<Created, PortError> {
        let Some(chosen) = &self.recorded.chosen else { return Ok(Created::There) };
        let claim = objects::restore_claim(&permit::reference(self.object), drill, chosen);
        create(self.context, self.executor()?, &claim).await
    }

    async fn create_job(&self) -> Result<Created, PortError> {
        match restore_job(self.context, self.object, self.parts).await? {
            Ok(job) => create(self.context, self.executor()?, &job).await,
            Err(why) => Ok(Created::Refused(why)),
        }
    }

    async fn create_sandbox_claim(&self) -> Result<Created, PortError> {
        let (Some(record), Some(volume)) = (&self.recorded.sandbox, &self.observed.live_volume) else {
            return Ok(Created::There);
        };
        let claim = objects::sandbox_claim(&permit::reference(self.object), record, volume);
        create(self.context, &sandboxer(), &claim).await
    }

    async fn create_pod(
        &self,
        role: PodRole,
        drill: &RestoreDrillSpec,
        policy: &BackupPolicySpec,
    ) -> Result<Created, PortError> {
        let pod = objects::pod(
            &PodContext {
                run: permit::reference(self.object),
                drill,
                policy,
                images: &self.context.images.as_core(),
                home: INTERLOCK_NAMESPACE,
                target: self.recorded.isolation.as_ref().map_or("", |isolation| isolation.target.as_str()),
                manifest_digest: self.recorded.sandbox.as_ref().and_then(|record| record.manifest_digest.as_deref()),
                aliases: &self.observed.aliases,
            },
            role,
        );
        match pod {
            Some(pod) => create(self.context, &sandboxer(), &pod).await,
            None => Ok(Created::Refused("the drill states nothing of the kind".to_owned())),
        }
    }

    /// Patches the volume that was read; somebody else's write in between is a conflict.
    async fn patch_volume(&self, name: &str, mut patch: Value) -> Result<(), PortError> {
        let Some(volume) = &self.observed.live_volume else { return Ok(()) };
        let version = volume.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        if !patch["metadata"].is_object() {
            patch["metadata"] = json!({});
        }
        patch["metadata"]["resourceVersion"] = version;
        let id = core_id("PersistentVolume", None, name);
        match self.context.port.merge_patch(&sandboxer(), FIELD_MANAGER, &id, &patch).await {
            Ok(_) | Err(PortError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, identity: &Identity, id: &ObjectId, precondition: &Precondition) -> Result<(), PortError> {
        match self.context.port.delete(identity, id, precondition, false, DryRun::No).await {
            // Another one of its name is nobody's business here.
            Err(PortError::Conflict(_)) => Ok(()),
            answer => answer,
        }
    }
}

fn of_uid(uid: &str) -> Precondition {
    Precondition { uid: Some(uid.to_owned()), resource_version: None }
}

/// The Job that restores, computed from what is recorded: the webhook computes it again.
pub(super) async fn restore_job<P: Port>(
    context: &Context<P>,
    object: &DrillRun,
    parts: &Parts,
) -> Result<Result<Value, String>, PortError> {
    let chosen = object.status.as_ref().and_then(|status| status.chosen.as_ref());
    let (Some(chosen), Some((drill, _)), Some(repository)) = (chosen, &parts.plan, &parts.repository) else {
        return Ok(Err("the run is not pinned, or its repository is gone".to_owned()));
    };
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let options = drill.sandbox.pod.as_ref().or(repository.spec.pod.as_ref());
    let reads_all = options.is_some_and(|pod| pod.read_all);
    let job = objects::restore_job(
        &permit::reference(object),
        drill,
        &repository.spec,
        observe::repository_id(parts),
        chosen,
        &context.images.as_core(),
        backups::privileges(context, namespace, reads_all).await?,
    );
    Ok(job.map_err(|error| error.to_string()))
}
