//! The writer of a policy's heartbeat: made, made anew, taken away; and what the webhook lets pass of that.

use interlock_core::{
    admission::{Operation, WriteRequest},
    backup::{
        heartbeat::writer::{self, Told, WriterStep},
        permit,
    },
    change::FIELD_MANAGER,
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::BackupPolicy;

use super::{act, observe};
use crate::change::Context;

/// The server refused the writer for good, as it is.
pub(super) const REFUSED: &str = "Refused";

/// The Deployment that concerns a policy: it has a heartbeat, or had one.
pub(super) fn watched(policy: &BackupPolicy) -> Option<ObjectId> {
    let announced = policy.status.as_ref().is_some_and(writer::is_announced);
    (announced || policy.spec.heartbeat.is_some()).then(|| {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        observe::deployment_id(policy.metadata.namespace.as_deref().unwrap_or_default(), &writer::writer_name(name))
    })
}

/// Brings the writer in step with the policy, as far as it was announced; what is told of it.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    policy: &BackupPolicy,
    can_be_used: bool,
) -> Result<Option<Told>, PortError> {
    let Some(id) = watched(policy) else { return Ok(None) };
    let announced = policy.status.as_ref().is_some_and(writer::is_announced);
    let wanted = writer::deployment(policy, &context.images.as_core());
    let live = context.port.live_get(&Identity::Controller, &id).await?;
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let (step, told) = writer::decide(uid, wanted.as_ref(), announced, can_be_used, live.as_ref());
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let executor = match (&step, observe::executor(context, namespace)) {
        (WriterStep::Nothing, _) => return Ok(told),
        (_, Ok(executor)) => executor,
        (_, Err(why)) => return Ok(Some(Told::not_ready(REFUSED, why))),
    };
    let refused = match step {
        WriterStep::Nothing => None,
        WriterStep::Create => {
            let Some(wanted) = &wanted else { return Ok(told) };
            match act::create(context, &executor, wanted).await? {
                act::Created::There => None,
                act::Created::Refused(why) => Some(format!("the API server refused the writer's Deployment: {why}")),
            }
        }
        WriterStep::Delete(uid) => {
            let precondition = Precondition { uid: Some(uid), resource_version: None };
            match context.port.delete(&executor, &id, &precondition, true, DryRun::No).await {
                Ok(()) | Err(PortError::Conflict(_)) => None,
                Err(PortError::Forbidden(why)) => Some(format!("the API server keeps the old writer: {why}")),
                Err(error) => return Err(error),
            }
        }
    };
    Ok(refused.map_or(told, |why| Some(Told::not_ready(REFUSED, why.chars().take(1_024).collect::<String>()))))
}

/// Whether the write of a Deployment is one that Interlock makes for a heartbeat.
///
/// # Errors
/// Something cannot be read: nobody knows.
pub(super) async fn permits<P: Port>(
    context: &Context<P>,
    executor: &str,
    request: &WriteRequest,
) -> Result<bool, PortError> {
    let object = match request.operation {
        Operation::Create => request.object.as_ref(),
        Operation::Delete => request.old.as_ref(),
        Operation::Update | Operation::Connect => None,
    };
    let Some((object, ("BackupPolicy", name, uid))) = object.and_then(|object| Some((object, permit::owner(object)?)))
    else {
        return Ok(false);
    };
    let key = format!("{}/{name}", request.namespace.as_deref().unwrap_or_default());
    let policy: Option<BackupPolicy> = observe::own(context, "BackupPolicy", &key).await?;
    let images = context.images.as_core();
    if request.operation == Operation::Delete {
        return Ok(writer::may_go(object, policy.as_ref(), &images));
    }
    let policy = policy
        .filter(|policy| policy.metadata.uid.as_deref() == Some(uid) && policy.metadata.deletion_timestamp.is_none());
    let announced = policy.filter(|policy| policy.status.as_ref().is_some_and(writer::is_announced));
    let Some(expected) = announced.and_then(|policy| writer::deployment(&policy, &images)) else { return Ok(false) };
    let executor = Identity::Impersonate(executor.to_owned());
    // Defaults are the server's: it says what it makes of it.
    let made = context.port.create(&executor, FIELD_MANAGER, &expected, DryRun::Yes).await?;
    Ok(permit::is_expected_writer(object, &made))
}
