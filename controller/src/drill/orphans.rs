//! What no run knows of any more goes: somebody took a finalizer away, or a run was restored from elsewhere.

use std::collections::BTreeSet;

use interlock_core::{
    backup::pods::RUN_LABEL,
    change::{FIELD_MANAGER, INTERLOCK_NAMESPACE},
    drill::{
        objects::{self, VOLUME_COMPONENT},
        observed,
    },
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{observe::core_id, sandboxer};
use crate::change::Context;

/// Whether a namespace is a sandbox that Interlock made. Whoever may label a namespace cannot have it deleted by that.
fn is_made_here<P: Port>(context: &Context<P>, namespace: &Value) -> bool {
    let run = observed::claimed_run(namespace);
    run.is_some_and(|run| observed::has_mark(namespace, &context.hmac(&run.marked())))
}

/// One sweep.
pub(super) async fn pass<P: Port>(context: &Context<P>) -> Result<Option<Timestamp>, PortError> {
    let port = &context.port;
    let labelled =
        |component: &str| format!("app.kubernetes.io/managed-by=interlock,app.kubernetes.io/component={component}");
    let volumes = port.live_list_labelled("", "v1", "PersistentVolume", None, &labelled(VOLUME_COMPONENT)).await?;
    let probes = port.live_list_labelled("", "v1", "Pod", Some(INTERLOCK_NAMESPACE), &labelled("drill-probe")).await?;
    let sandboxes = context.ask(crate::index::Index::orphaned_sandboxes);
    if volumes.is_empty() && probes.is_empty() && sandboxes.is_empty() {
        return Ok(None);
    }
    // A run is stored before what it makes, but the watch may tell of it later.
    let runs = port.live_list(interlock_crds::GROUP, interlock_crds::VERSION, "DrillRun", None).await?;
    let known: BTreeSet<_> =
        runs.iter().filter_map(|run| run.pointer("/metadata/uid").and_then(Value::as_str)).collect();
    let is_orphan = |object: &&Value| {
        let run = object.pointer("/metadata/labels").and_then(|labels| labels.get(RUN_LABEL)).and_then(Value::as_str);
        run.is_some_and(|run| !known.contains(run))
    };
    for volume in volumes.iter().filter(is_orphan) {
        let name = volume.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if !objects::is_provisioned(volume) {
            tracing::warn!(
                volume = name,
                "restored data of a drill that is gone is left: overwrite and free it by hand"
            );
            continue;
        }
        let mut patch = objects::return_patch("Delete");
        patch["metadata"] = json!({"resourceVersion": volume.pointer("/metadata/resourceVersion")});
        tracing::warn!(volume = name, "the volume of a drill that is gone goes with its claim");
        match port.merge_patch(&sandboxer(), FIELD_MANAGER, &core_id("PersistentVolume", None, name), &patch).await {
            Ok(_) | Err(PortError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let mut left: Vec<_> = probes
        .iter()
        .filter(is_orphan)
        .map(|pod| {
            let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            (core_id("Pod", Some(INTERLOCK_NAMESPACE), name), Precondition::of(pod))
        })
        .collect();
    for (name, ..) in sandboxes.into_iter().filter(|(.., run)| !known.contains(run.as_str())) {
        let id = core_id("Namespace", None, &name);
        let Some(live) = port.live_get(&Identity::Controller, &id).await? else { continue };
        if is_made_here(context, &live) {
            let uid = live.pointer("/metadata/uid").and_then(Value::as_str).map(ToOwned::to_owned);
            left.push((id, Precondition { uid, resource_version: None }));
        } else {
            tracing::warn!(
                namespace = name,
                "it has the labels of a sandbox and not the mark that Interlock gives one: it is left. Take the labels off, or delete it by hand"
            );
        }
    }
    for (id, precondition) in left {
        tracing::warn!(object = %id, "what a drill that is gone left goes");
        match port.delete(&sandboxer(), &id, &precondition, false, DryRun::No).await {
            Ok(()) | Err(PortError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
