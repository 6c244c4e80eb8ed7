//! Whether a write is one that the release announced.

use interlock_crds::{Form, JournalEntry, OperationKind, RolloutPlanSpec};
use serde_json::Value;

use super::{
    derive::{self, autoscaler, batch, config, route, service, workload},
    facts::RolloutFacts,
    live, measure,
    pass::Strategy,
};
use crate::object::{GroupKind, ObjectId, Violation, permitted_create, permitted_update};

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object cannot be named.
    #[error("the object cannot be named: {0}")]
    Unnamed(String),
    /// The journal does not announce it.
    #[error("the release does not {operation} {id} now; its journal announces no such write")]
    NotAnnounced {
        /// What would be done.
        operation: &'static str,
        /// To which object.
        id: String,
    },
    /// The live object is another one than the announced one.
    #[error("{id} has another uid than the release saw")]
    AnotherObject {
        /// Which object.
        id: String,
    },
    /// What the announced form is computed from is missing.
    #[error("the form {form:?} of {id} cannot be computed: {why}")]
    NotComputable {
        /// Which object.
        id: String,
        /// Which form.
        form: Form,
        /// What is missing.
        why: &'static str,
    },
    /// The write is something else than what follows from the approved change.
    #[error("the write is not what follows from the approved change: {0}")]
    NotDerived(String),
}

/// Whether a write of the executor is what the recorded status announces: `before` is the live object (none at a
/// creation), `after` what it would become (none at a deletion). Of `live` only two objects are
/// looked at: for share Services the user's Service, and at a creation what the server makes of the [`announced`] object.
///
/// # Errors
/// Why it is refused.
pub fn permitted(facts: &RolloutFacts<'_>, before: Option<&Value>, after: Option<&Value>) -> Result<(), Refusal> {
    let Some(object) = after.or(before) else { return Err(Refusal::Unnamed("there is none".to_owned())) };
    let id = ObjectId::of(object).map_err(|error| Refusal::Unnamed(error.to_string()))?;
    let (operation, verb) = match (before, after) {
        (None, _) => (OperationKind::Create, "create"),
        (Some(_), Some(_)) => (OperationKind::Update, "update"),
        (Some(_), None) => (OperationKind::Delete, "delete"),
    };
    let entry = facts
        .status
        .journal
        .iter()
        .find(|entry| entry.operation == operation && is_about(entry, &id))
        .ok_or_else(|| Refusal::NotAnnounced { operation: verb, id: id.to_string() })?;
    if let Some(before) = before
        && live::text(before, "/metadata/uid") != entry.uid
    {
        return Err(Refusal::AnotherObject { id: id.to_string() });
    }
    let Some(after) = after else { return Ok(()) };
    let expected = form(facts, entry, before).map_err(|why| Refusal::NotComputable {
        id: id.to_string(),
        form: entry.form,
        why,
    })?;
    // What is created is compared as the server's dry run filled it in, if that was asked.
    let filled_in = facts.live.get(&id).filter(|_| before.is_none()).cloned();
    let expected = filled_in.unwrap_or(expected);
    let kind: GroupKind = id.group_kind();
    let result = match before {
        None => permitted_create(&kind, after, &expected),
        Some(before) => permitted_update(&kind, before, after, &expected),
    };
    result.map_err(|violations| Refusal::NotDerived(describe(&violations)))
}

fn is_about(entry: &JournalEntry, id: &ObjectId) -> bool {
    let group = entry.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    group == id.group
        && entry.kind == id.kind
        && entry.name == id.name
        && entry.namespace == id.namespace.as_deref().unwrap_or_default()
}

fn describe(violations: &[Violation]) -> String {
    let shown: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
    shown.join("; ")
}

/// The object that an announced form makes of the live one.
fn form(facts: &RolloutFacts<'_>, entry: &JournalEntry, before: Option<&Value>) -> Result<Value, &'static str> {
    let target = facts.target.ok_or("the stored plan is missing");
    let live_object = before.ok_or("there is no live object");
    let number = || entry.number.and_then(|n| u32::try_from(n).ok()).ok_or("its number is missing");
    let start = facts.status.start.as_ref().ok_or("nothing was recorded at the start");
    // A ConfigMap and a Secret may have the same name.
    let is_entry = |object: &Value| {
        live::text(object, "/metadata/name") == entry.name && live::text(object, "/kind") == entry.kind
    };
    let config_of =
        |target: &'_ super::facts::TargetFacts| target.configs.iter().find(|config| is_entry(&config.wanted)).cloned();
    Ok(match entry.form {
        Form::CanaryWorkload | Form::GreenWorkload => match before {
            None => workload::canary_deployment(target?, facts.uid, number()?),
            Some(before) => workload::scaled(before, number()?),
        },
        Form::Promoted if entry.kind == "Deployment" => workload::promoted(live_object?, target?),
        Form::Promoted => batch::promoted(live_object?, target?, &start?.update_strategy),
        Form::Restored => workload::restored(live_object?, target?),
        Form::ConfigCopy => {
            let target = target?;
            let copies = config::config_copies(&target.wanted, &target.configs, facts.uid);
            let wanted = copies.into_iter().find(is_entry);
            wanted.ok_or("the change has no such ConfigMap or Secret")?
        }
        Form::ConfigPromoted => {
            config::promoted(before, &config_of(target?).ok_or("the change has no such ConfigMap or Secret")?)
        }
        Form::ConfigRestored => {
            let config = config_of(target?).ok_or("the change has no such ConfigMap or Secret")?;
            match before {
                Some(before) => config::restored(before, &config),
                None => config.before.ok_or("it did not exist before")?,
            }
        }
        Form::StableService | Form::CanaryService | Form::PreviewService => {
            if let Some(before) = before {
                return Ok(service::pinned_service(before, &entry.hash));
            }
            let id = live::id("", "v1", "Service", &entry.namespace, own_service(&facts.spec.plan).unwrap_or_default());
            let own = facts.live.get(&id).ok_or("the user's Service is missing")?;
            service::share_service(own, &entry.name, &entry.hash, facts.uid)
        }
        Form::PinnedService => service::pinned_service(live_object?, &entry.hash),
        Form::UnpinnedService => service::unpinned_service(live_object?),
        Form::SplitRoute | Form::MatchedRoute | Form::RestoredRoute => {
            let asked = facts.status.asked.clone().filter(|_| entry.form == Form::MatchedRoute).unwrap_or_default();
            let whole = entry.number.and_then(|n| u8::try_from(n).ok());
            let form = route::RouteForm {
                backend: own_service(&facts.spec.plan).ok_or("the plan names no backend")?,
                split: whole.filter(|_| entry.form != Form::RestoredRoute),
                headers: &asked.headers,
                mirror: asked.mirror.map_or(0, |mirror| mirror.percent),
                before: &start?.route_weights,
            };
            route::route_with_weights(live_object?, &form)
        }
        Form::HeldAutoscaler | Form::ReleasedAutoscaler => {
            let held = start?.autoscaler.as_ref().ok_or("no autoscaler was recorded")?;
            if entry.form == Form::HeldAutoscaler {
                autoscaler::hpa_held(live_object?, held)
            } else {
                autoscaler::hpa_released(live_object?, held)
            }
        }
        Form::Partition => batch::partitioned(live_object?, target?, number()?),
        Form::OnDelete => batch::on_delete(live_object?, target?),
        Form::BatchesBack => batch::back(live_object?, target?),
        Form::StrategyReleased => batch::released(live_object?, &start?.update_strategy),
        Form::StepJob | Form::AnalysisJob => return job(facts, entry),
        Form::Touched => derive::touched(live_object?, entry.number),
        Form::Untouched => derive::touched(live_object?, None),
        Form::WaveRollout => return super::waves::rollout_named(facts, &entry.name).ok_or("no wave has this workload"),
        Form::ReplacedPod | Form::Gone => return Err("it is a deletion"),
    })
}

/// The object of this kind and name whose creation is announced, before the server has filled it in.
pub fn announced(facts: &RolloutFacts<'_>, kind: &str, name: &str) -> Option<Value> {
    let creates = |entry: &&JournalEntry| entry.operation == OperationKind::Create && entry.kind == kind;
    let entry = facts.status.journal.iter().filter(creates).find(|entry| entry.name == name)?;
    form(facts, entry, None).ok()
}

fn job(facts: &RolloutFacts<'_>, entry: &JournalEntry) -> Result<Value, &'static str> {
    if entry.form == Form::AnalysisJob {
        return measure::job_named(facts, &entry.name).ok_or("no analysis runs this Job now");
    }
    let position = entry.number.and_then(|n| usize::try_from(n).ok());
    step_job(facts, position.ok_or("its number is missing")?)
}

/// The Job of the step at `position`.
pub(super) fn step_job(facts: &RolloutFacts<'_>, position: usize) -> Result<Value, &'static str> {
    let steps = Strategy::of(&facts.spec.plan).map(Strategy::steps).unwrap_or_default();
    let job = steps.get(position).and_then(|step| step.job.as_ref()).ok_or("the step runs no Job")?;
    let tries = facts.status.step.as_ref().map_or(0, |step| step.tries);
    let run = format!("{position}-{}-{}-{tries}", job.name, facts.status.attempt);
    Ok(derive::step_job(facts.namespace, facts.name, facts.uid, &run, &job.spec))
}

/// The user's Service whose traffic a plan leads.
pub(crate) fn own_service(plan: &RolloutPlanSpec) -> Option<&str> {
    match Strategy::of(plan)? {
        Strategy::Canary(canary) => canary.route.as_ref().map(|route| route.backend.as_str()),
        Strategy::BlueGreen(blue_green) => Some(blue_green.service.as_str()),
        Strategy::Batches(_) | Strategy::Waves(_) => None,
    }
}
