//! The webhook's side: a write in a governed namespace passes if it is one that a run announced, computed anew from what is
//! stored.

use interlock_core::{
    admission::{Operation, WriteRequest},
    backup::permit as backups_permit,
    change::FIELD_MANAGER,
    drill::{
        certificate, objects,
        permit::{self, Made},
    },
    object::{GroupKind, permitted_create},
    port::{DryRun, Identity, Port, PortError},
};
use interlock_crds::DrillRun;
use serde_json::Value;

use super::{act, observe, run};
use crate::{backup::observe as backups, change::Context};

/// Whether the write is one that Interlock makes for a drill. `executor` is the user that writes, and that of the System.
///
/// # Errors
/// Something cannot be read: nobody knows.
pub async fn permits<P: Port>(context: &Context<P>, executor: &str, request: &WriteRequest) -> Result<bool, PortError> {
    if !matches!(request.group.as_str(), "" | "batch") || request.subresource.is_some() {
        return Ok(false);
    }
    let object = match request.operation {
        Operation::Create => request.object.as_ref(),
        Operation::Delete => request.old.as_ref(),
        Operation::Update | Operation::Connect => None,
    };
    let Some((object, ("DrillRun", name, uid))) =
        object.and_then(|object| Some((object, backups_permit::owner(object)?)))
    else {
        return Ok(false);
    };
    let own_name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let Some(what) = Made::of(&request.kind, own_name, name) else { return Ok(false) };
    let key = format!("{}/{name}", request.namespace.as_deref().unwrap_or_default());
    let Some(found) = backups::own::<_, DrillRun>(context, "DrillRun", &key).await? else { return Ok(false) };
    if request.operation == Operation::Delete {
        return Ok(permit::removes(&found, uid, what));
    }
    if !permit::announced(&found, uid, what) {
        return Ok(false);
    }
    let parts = observe::parts(context, &key, &found);
    let status = found.status.clone().unwrap_or_default();
    let expected = match what {
        Made::Claim => parts
            .plan
            .as_ref()
            .zip(status.chosen.as_ref())
            .map(|((drill, _), chosen)| objects::restore_claim(&permit::reference(&found), drill, chosen)),
        Made::RestoreJob => act::restore_job(context, &found, &parts).await?.ok(),
        Made::Certificate => run::sealed(context, &found)
            .ok()
            .filter(|sealed| status.certificate.as_ref() == Some(&sealed.reference))
            .map(|sealed| certificate::config_map(&permit::reference(&found), &sealed)),
    };
    let Some(expected) = expected else { return Ok(false) };
    let executor = Identity::Impersonate(executor.to_owned());
    // Defaults are the server's: it says what it makes of it.
    let made = match context.port.create(&executor, FIELD_MANAGER, &expected, DryRun::Yes).await {
        // What is there already is not made again: the server will say so to whoever asks.
        Err(PortError::AlreadyExists(_)) => return Ok(true),
        made => made?,
    };
    let kind = GroupKind::new(&request.group, &request.kind);
    Ok(permitted_create(&kind, object, &made).is_ok())
}
