//! A drill: which slot is run, and what people are told of it.

use interlock_core::{
    change::FIELD_MANAGER,
    drill::{
        objects, proof, run as core_run,
        schedule::{self, Overdue, ScheduleDecision, ScheduleFacts},
        status::{self, DrillStatusFacts},
    },
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::{DrillRun, DrillTrigger, RestoreDrill, RestoreDrillStatus};
use jiff::Timestamp;

use super::{LOOK_AGAIN, observe};
use crate::{
    backup::{act, observe as backups},
    change::Context,
    index::{beside, drills::is_active},
};

/// One pass; when to look again although nothing happens.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    let Some(drill) = context.ask(|index| index.restore_drill(key)) else { return Ok(None) };
    if drill.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let (policy, repository, problems) = observe::problems(context, key, &drill);
    let uid = drill.metadata.uid.clone().unwrap_or_default();
    let is_own = |run: &DrillRun| run.spec.drill_uid.as_ref().is_none_or(|of| *of == uid);
    let runs: Vec<_> = context.ask(|index| index.runs_of_drill(key)).iter().map(|run| (**run).clone()).collect();
    let runs: Vec<_> = runs.into_iter().filter(is_own).collect();
    let active = runs.iter().filter(|run| is_active(run)).filter_map(|run| run.metadata.name.as_deref()).min();
    let recorded = drill.status.clone().unwrap_or_default();
    let (overdue, decided) = decide(context, key, &drill, &recorded, active, now);
    // What cannot be used begins nothing; its slots stay due.
    let slots = if problems.is_empty() { decided } else { waiting(&recorded, decided) };
    if let (Some(due), Some(policy), Some(repository)) = (&slots.begin, &policy, &repository) {
        let pin = core_run::pin(&drill, policy, repository);
        let namespace = drill.metadata.namespace.as_deref().unwrap_or_default();
        let run = objects::drill_run(drill.metadata.name.as_deref().unwrap_or_default(), namespace, due, &pin);
        match context.port.create(&Identity::Controller, FIELD_MANAGER, &run, DryRun::No).await {
            Ok(_) => tracing::info!(drill = key, run = due.name, "a drill begins"),
            // Made before a crash, or somebody else's: the watch tells, and the slot is looked at again.
            Err(PortError::AlreadyExists(why)) => return Err(PortError::Unavailable(why)),
            Err(error) => return Err(error),
        }
    }
    let active = slots.begin.as_ref().map(|due| due.name.as_str()).or(active);
    let (next, alarms) = status::drill(&DrillStatusFacts {
        generation: drill.metadata.generation.unwrap_or_default(),
        spec: &drill.spec,
        status: &recorded,
        problems: &problems,
        slots: &slots,
        overdue: &overdue,
        runs: &runs,
        active,
        now,
    });
    if next != recorded {
        let object = act::reference("RestoreDrill", &drill.metadata);
        let decided_until = recorded.decided_until.as_ref().map(|at| at.0.to_string()).unwrap_or_default();
        for (place, passed) in slots.passed.iter().enumerate() {
            let of = format!("{decided_until} {place}");
            act::tell_once(context, &object, &of, true, "SlotNotRun", passed.clone()).await;
        }
        for alarm in alarms {
            act::tell_once(context, &object, &alarm.of, alarm.warning, alarm.reason, alarm.message).await;
        }
        let mut meta = drill.metadata.clone();
        act::record(context, "RestoreDrill", &mut meta, &drill.spec, &next).await?;
    }
    let keep = usize::try_from(drill.spec.history.keep).unwrap_or(usize::MAX);
    for name in proof::surplus(&runs, keep, &status::recorded(&next)) {
        let id = backups::own_id("DrillRun", &beside(key, &name));
        tracing::info!(drill = key, run = name, "the record of an old run goes");
        context.port.delete(&Identity::Controller, &id, &Precondition::default(), false, DryRun::No).await?;
    }
    let again = (!problems.is_empty()).then(|| now.checked_add(LOOK_AGAIN).unwrap_or(now));
    Ok([next.next_transition.map(|at| at.0), again].into_iter().flatten().min())
}

/// Whether a pass is overdue, and which slot is to be run now.
fn decide<P: Port>(
    context: &Context<P>,
    key: &str,
    drill: &RestoreDrill,
    recorded: &RestoreDrillStatus,
    active: Option<&str>,
    now: Timestamp,
) -> (Overdue, ScheduleDecision) {
    // What a person asked for under the name of a slot is not its run.
    let existing = |name: &str| {
        let run = context.ask(|index| index.drill_run(&beside(key, name)))?;
        let of = run.spec.drill_uid.clone().filter(|_| run.spec.trigger != DrillTrigger::Manual);
        Some(of.unwrap_or_default())
    };
    let facts = ScheduleFacts {
        drill: drill.metadata.name.as_deref().unwrap_or_default(),
        uid: drill.metadata.uid.as_deref().unwrap_or_default(),
        created_at: drill.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
        spec: &drill.spec,
        status: recorded,
        active,
        existing: &existing,
        now,
    };
    (schedule::overdue(&facts), schedule::decide(&facts))
}

fn waiting(recorded: &RestoreDrillStatus, slots: ScheduleDecision) -> ScheduleDecision {
    ScheduleDecision {
        begin: None,
        adopted: None,
        passed: Vec::new(),
        decided_until: recorded.decided_until.as_ref().map(|at| at.0),
        last_slot: recorded.last_slot.as_ref().map(|at| at.0),
        missed: recorded.missed_slots.clone(),
        skipped: recorded.skipped_slots.clone(),
        ..slots
    }
}
