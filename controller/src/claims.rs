//! Who holds a repository: a list in the annotation of a Lease in Interlock's own namespace, where nobody else writes.
//!
//! The pass over the repository alone lets in and lets go ([`arrange`]); the passes over runs only look ([`read`]).

use interlock_core::{
    backup::repository::{self, Arrangement, Claim, HolderState},
    change::{FIELD_MANAGER, INTERLOCK_NAMESPACE},
    object::ObjectId,
    port::{DryRun, Identity, Port, PortError},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Annotation of the Lease with the holders.
const HOLDERS: &str = "interlock.dev/holders";

/// The holders as they were read, and the Lease that they were read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Who holds the repository.
    pub holders: Vec<Claim>,
    lease: Option<Value>,
}

impl Held {
    /// Whether the run or operation of this uid was let in.
    pub fn holds(&self, uid: &str) -> bool {
        self.holders.iter().any(|claim| claim.uid == uid)
    }
}

fn lease_id(repository_uid: &str) -> ObjectId {
    ObjectId {
        group: "coordination.k8s.io".to_owned(),
        version: "v1".to_owned(),
        kind: "Lease".to_owned(),
        namespace: Some(INTERLOCK_NAMESPACE.to_owned()),
        name: format!("repository-{repository_uid}"),
    }
}

/// Reads who holds the repository with this uid.
///
/// # Errors
/// The Lease cannot be read, or what stands in it: then nobody is let in, and nobody let go.
pub async fn read<P: Port>(port: &P, repository_uid: &str) -> Result<Held, PortError> {
    let lease = port.live_get(&Identity::Controller, &lease_id(repository_uid)).await?;
    let annotations = lease.as_ref().and_then(|lease| lease.pointer("/metadata/annotations"));
    let text = annotations.and_then(|annotations| annotations.get(HOLDERS)).and_then(Value::as_str);
    Ok(Held { holders: repository::read(text).map_err(PortError::Invalid)?, lease })
}

/// Lets in and lets go, and stores it before anybody acts on it.
///
/// # Errors
/// Somebody else was faster, or the Lease cannot be written: nothing has changed.
pub async fn arrange<P: Port>(
    port: &P,
    repository_uid: &str,
    held: &Held,
    wanting: &[Claim],
    state: impl Fn(&Claim) -> HolderState,
    now: Timestamp,
) -> Result<Arrangement, PortError> {
    let arrangement = repository::arrange(&held.holders, wanting, state, now);
    if !arrangement.changes() {
        return Ok(arrangement);
    }
    let id = lease_id(repository_uid);
    let annotations = json!({ HOLDERS: repository::write(&arrangement.holders) });
    if let Some(lease) = &held.lease {
        let version = lease.pointer("/metadata/resourceVersion");
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
        port.merge_patch(&Identity::Controller, FIELD_MANAGER, &id, &patch).await?;
    } else {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": id.name, "namespace": id.namespace, "annotations": annotations,
                "labels": {"app.kubernetes.io/managed-by": "interlock"},
            },
            "spec": {},
        });
        port.create(&Identity::Controller, FIELD_MANAGER, &lease, DryRun::No).await?;
    }
    Ok(arrangement)
}
