//! The writer of a policy's heartbeat and the receiver of its write-ahead log: made, made anew, taken away; and what the webhook
//! lets pass of that.

use interlock_core::{
    admission::{Operation, WriteRequest},
    backup::{
        heartbeat::writer::{self, Told, WriterStep},
        permit,
        pods::Images,
        receiver,
    },
    change::FIELD_MANAGER,
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::BackupPolicy;
use serde_json::Value;

use super::{act, observe};
use crate::change::Context;

/// The server refused the writer for good, as it is.
pub(super) const REFUSED: &str = "Refused";

/// What runs beside the source of a policy, one Deployment each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Companion {
    /// The writer of its heartbeat.
    Writer,
    /// The receiver of its write-ahead log.
    Receiver,
}

impl Companion {
    const ALL: [Self; 2] = [Self::Writer, Self::Receiver];

    fn name(self, policy: &str) -> String {
        match self {
            Self::Writer => writer::writer_name(policy),
            Self::Receiver => receiver::receiver_name(policy),
        }
    }

    fn is_announced(self, policy: &BackupPolicy) -> bool {
        policy.status.as_ref().is_some_and(match self {
            Self::Writer => writer::is_announced,
            Self::Receiver => receiver::is_announced,
        })
    }

    fn wanted(self, policy: &BackupPolicy, images: &Images<'_>) -> Option<Value> {
        match self {
            Self::Writer => writer::deployment(policy, images),
            Self::Receiver => receiver::deployment(policy, images),
        }
    }

    fn may_go(self, live: &Value, policy: Option<&BackupPolicy>, images: &Images<'_>) -> bool {
        match self {
            Self::Writer => writer::may_go(live, policy, images),
            Self::Receiver => receiver::may_go(live, policy, images),
        }
    }

    /// The Deployment that concerns a policy: it is wanted, or was.
    fn id(self, policy: &BackupPolicy, images: &Images<'_>) -> Option<ObjectId> {
        (self.is_announced(policy) || self.wanted(policy, images).is_some()).then(|| {
            let name = policy.metadata.name.as_deref().unwrap_or_default();
            observe::deployment_id(policy.metadata.namespace.as_deref().unwrap_or_default(), &self.name(name))
        })
    }
}

/// The Deployments that concern a policy.
pub(super) fn watched<P: Port>(context: &Context<P>, policy: &BackupPolicy) -> Vec<ObjectId> {
    Companion::ALL.into_iter().filter_map(|companion| companion.id(policy, &context.images.as_core())).collect()
}

/// Brings the writer in step with the policy, as far as it was announced; what is told of it.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    companion: Companion,
    policy: &BackupPolicy,
    can_be_used: bool,
) -> Result<Option<Told>, PortError> {
    let images = context.images.as_core();
    let Some(id) = companion.id(policy, &images) else { return Ok(None) };
    let announced = companion.is_announced(policy);
    let wanted = companion.wanted(policy, &images);
    let live = context.port.live_get(&Identity::Controller, &id).await?;
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let decide = match companion {
        Companion::Writer => writer::decide,
        Companion::Receiver => receiver::decide,
    };
    let (step, told) = decide(uid, wanted.as_ref(), announced, can_be_used, live.as_ref());
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
    let named = object.pointer("/metadata/name").and_then(Value::as_str);
    let Some(companion) = Companion::ALL.into_iter().find(|companion| named == Some(companion.name(name).as_str()))
    else {
        return Ok(false);
    };
    if request.operation == Operation::Delete {
        return Ok(companion.may_go(object, policy.as_ref(), &images));
    }
    let policy = policy
        .filter(|policy| policy.metadata.uid.as_deref() == Some(uid) && policy.metadata.deletion_timestamp.is_none());
    let announced = policy.filter(|policy| companion.is_announced(policy));
    let Some(expected) = announced.and_then(|policy| companion.wanted(&policy, &images)) else { return Ok(false) };
    let executor = Identity::Impersonate(executor.to_owned());
    // Defaults are the server's: it says what it makes of it.
    let made = context.port.create(&executor, FIELD_MANAGER, &expected, DryRun::Yes).await?;
    Ok(permit::is_expected_writer(object, &made))
}
