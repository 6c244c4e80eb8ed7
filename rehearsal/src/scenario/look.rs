//! Looking at the world while it is played, as an omniscient observer.

use interlock_core::{
    calendar::{Calendar, WindowState},
    change::{calendar_spec, gates::calendar_name},
};
use interlock_crds as crds;
use interlock_crds::{ChangePolicy, ChangeRequest, GROUP, GateState, System};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::report::OpenGate;
use crate::{people::Change, world::World};

/// One of Interlock's objects.
fn own<T: DeserializeOwned>(world: &World, kind: &str, namespace: &str, name: &str) -> Option<T> {
    let object = world.object(GROUP, kind, namespace, name)?;
    serde_json::from_value((*object).clone()).ok()
}

/// A change.
pub(super) fn request(world: &World, change: &Change) -> Option<ChangeRequest> {
    own(world, "ChangeRequest", &change.namespace, &change.name)
}

/// Whether Interlock has looked at the change as it stands, so that one can vote on it.
pub(super) fn is_looked_at(world: &World, change: &Change) -> bool {
    request(world, change).is_some_and(|request| {
        request.status.is_some_and(|status| {
            status.phase.is_terminal()
                || (status.observed_generation == request.metadata.generation && status.change_digest.is_some())
        })
    })
}

/// The gates that hold a change back.
pub(super) fn holding(request: &ChangeRequest) -> Vec<OpenGate> {
    let Some(status) = request.status.as_ref().filter(|status| !status.phase.is_terminal() && status.run.is_none())
    else {
        return Vec::new();
    };
    status
        .gates
        .iter()
        .filter(|gate| gate.enforced && gate.state != GateState::Open)
        .map(|gate| OpenGate {
            gate: gate.name.clone(),
            reason: gate.reason.clone(),
            message: gate.message.clone(),
            opens_at: gate.opens_at.as_ref().map(|at| at.0),
        })
        .collect()
}

/// The state of the change's calendar at an instant; none where its policy names no calendar that can be used.
pub(super) fn calendar_at(world: &World, request: &ChangeRequest, at: Timestamp) -> Option<WindowState> {
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    let system = world
        .objects(GROUP, "System")
        .into_iter()
        .filter_map(|object| serde_json::from_value::<System>((*object).clone()).ok())
        .find(|system| system.spec.namespaces.iter().any(|listed| listed == namespace))?;
    let policy: ChangePolicy = own(world, "ChangePolicy", "", &system.spec.policy_ref.name)?;
    let name = calendar_name(&policy.spec, request.spec.type_)?;
    let calendar: crds::Calendar = own(world, "Calendar", "", name)?;
    Calendar::compile(&calendar_spec(&calendar.spec)).ok().map(|calendar| calendar.state_at(at))
}
