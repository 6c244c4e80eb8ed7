//! Writing the status, if it differs.

use interlock_core::{
    change::sealed,
    port::{Port, PortError},
};
use interlock_crds::{API_VERSION, ChangeRequestStatus};
use serde_json::{Value, json};

use super::{Context, Observed};

/// Writes `status` unless it is what stands there already. The resourceVersion under which the request was read is the
/// precondition, so a status that rests on old facts is refused. Returns what was stored.
pub async fn status<P: Port>(
    context: &Context<P>,
    observed: &mut Observed,
    status: ChangeRequestStatus,
) -> Result<Option<Value>, PortError> {
    if observed.request.status == status {
        return Ok(None);
    }
    let request = &observed.request;
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "ChangeRequest",
        "metadata": {
            "name": request.name,
            "namespace": request.namespace,
            "uid": request.uid,
            "resourceVersion": observed.resource_version,
        },
        "spec": *request.spec,
        "status": status,
    });
    let stored = context.port.replace_status(&object).await?;
    let version = stored.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    observed.request.sealed = context.ask(|index| sealed::records(index.keys(), &observed.request.uid, &status));
    observed.request.status = status;
    observed.resource_version.clone_from(&version);
    let (request, key) = (observed.request.clone(), observed.key());
    context.memo(&key, |memo| {
        memo.written = version.parse().ok().map(|number| (number, request, version.clone()));
    });
    Ok(Some(stored))
}
