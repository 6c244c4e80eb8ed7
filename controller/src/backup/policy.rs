//! A policy: which slot is run, and what people are told of it.

use std::sync::PoisonError;

use interlock_core::{
    backup::{
        permit,
        slots::{self, DueRun, Existing, Passed, SlotDecision, SlotFacts},
        status::{self, PolicyFacts},
    },
    change::FIELD_MANAGER,
    port::{DryRun, Identity, Port, PortError, Precondition},
};
use interlock_crds::{API_VERSION, BackupPolicy, BackupPolicyStatus, RepositoryPhase};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    FINALIZER, LOOK_AGAIN, act,
    heartbeat::{self, Companion},
    observe,
};
use crate::{
    change::Context,
    index::{BackupKey, RunsSummary, beside},
};

/// One pass; when to look again although nothing happens.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    let waiter = BackupKey::Policy(key.to_owned()).waiter();
    let Some(policy) = context.ask(|index| index.backup_policy(key)) else {
        context.port.watch(&waiter, &[]);
        return Ok(None);
    };
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let (repository, runs) = context.ask(|index| {
        let repository = index.backup_repository(&beside(key, &policy.spec.repository_ref.name));
        (repository, index.backup_runs(key))
    });
    let watched = heartbeat::watched(context, &policy);
    let problems = observe::problems_of_policy(context, &waiter, key, &policy, repository.as_deref(), watched).await?;
    let recorded = policy.status.clone().unwrap_or_default();
    let slots = decide(context, key, &policy, &recorded, &runs, now);
    let repository_status = repository.as_ref().and_then(|repository| repository.status.clone()).unwrap_or_default();
    let repository_problem = match repository_status.phase {
        RepositoryPhase::Ready | RepositoryPhase::Checking | RepositoryPhase::Pruning => None,
        _ if repository.is_none() => Some("there is no such repository".to_owned()),
        phase => {
            Some(format!("{phase:?}: {}", repository_status.message.as_deref().unwrap_or("nothing is known of it yet")))
        }
    };
    // What cannot be used begins nothing; its slots stay due.
    let slots = if problems.is_empty() { slots } else { waiting(&recorded, slots) };
    if let Some(due) = &slots.begin {
        begin(context, &policy, due).await?;
    }
    let usable = problems.is_empty();
    let writer = heartbeat::pass(context, Companion::Writer, &policy, usable).await?;
    let receiver = heartbeat::pass(context, Companion::Receiver, &policy, usable).await?;
    let facts = PolicyFacts {
        generation: policy.metadata.generation.unwrap_or_default(),
        spec: &policy.spec,
        status: &recorded,
        created_at: created_at(&policy, now),
        problems: &problems,
        repository_problem: repository_problem.as_deref(),
        slots: &slots,
        active: slots.begin.as_ref().map(|due| due.name.as_str()).or(runs.active.as_deref()),
        last_run: runs.last_run.as_ref(),
        consecutive_failures: runs.consecutive_failures,
        last_success: runs.last_success,
        last_good: runs.last_good.as_ref(),
        last_proven: runs.last_proven.as_ref(),
        points: runs.points,
        heartbeat: writer.as_ref(),
        wal: receiver.as_ref(),
        now,
    };
    let (next, risk) = status::policy(&facts);
    if next != recorded {
        let object = act::reference("BackupPolicy", &policy.metadata);
        for passed in &slots.passed {
            let warning = !matches!(passed.why, Passed::Suspended | Passed::Covered(_));
            let of = format!("{} {}", passed.schedule, passed.first);
            act::tell_once(context, &object, &of, warning, reason(&passed.why), passed.sentence()).await;
        }
        if let Some(change) = risk {
            let reason = if change.begins { "RPOAtRisk" } else { "RPORestored" };
            act::tell_once(context, &object, &change.of, change.begins, reason, change.message).await;
        }
        let mut meta = policy.metadata.clone();
        act::record(context, "BackupPolicy", &mut meta, &policy.spec, &next).await?;
    }
    tidy(context, key, &policy, &runs).await?;
    let refused = [writer, receiver].into_iter().flatten().any(|told| told.reason == heartbeat::REFUSED);
    let again = (refused || !problems.is_empty()).then(|| now.checked_add(LOOK_AGAIN).unwrap_or(now));
    Ok([next.next_transition.map(|at| at.0), again].into_iter().flatten().min())
}

/// Records of runs without a point that are too many go, and Jobs of runs that ended long ago.
async fn tidy<P: Port>(
    context: &Context<P>,
    key: &str,
    policy: &BackupPolicy,
    runs: &RunsSummary,
) -> Result<(), PortError> {
    for name in &runs.surplus {
        let id = observe::own_id("Backup", &beside(key, name));
        tracing::info!(policy = key, run = name, "the record of a run without a recovery point goes");
        context.port.delete(&Identity::Controller, &id, &Precondition::default(), false, DryRun::No).await?;
    }
    let Some(name) = &runs.old_job else { return Ok(()) };
    let known = context.tidied.lock().unwrap_or_else(PoisonError::into_inner).get(key) == Some(name);
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let (false, Ok(executor)) = (known, observe::executor(context, namespace)) else { return Ok(()) };
    let id = observe::job_id(namespace, name);
    let job = context.port.live_get(&Identity::Controller, &id).await?;
    // Its name may be somebody else's by now.
    if let Some(job) =
        job.filter(|job| permit::owner(job).is_some_and(|(kind, owner, _)| kind == "Backup" && owner == name))
    {
        context.port.delete(&executor, &id, &Precondition::of(&job), false, DryRun::No).await?;
    }
    context.tidied.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), name.clone());
    Ok(())
}

fn created_at(policy: &BackupPolicy, now: Timestamp) -> Timestamp {
    policy.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0)
}

/// Which slot of the policy is to be run now.
pub(super) fn decide<P: Port>(
    context: &Context<P>,
    key: &str,
    policy: &BackupPolicy,
    recorded: &BackupPolicyStatus,
    runs: &RunsSummary,
    now: Timestamp,
) -> SlotDecision {
    // What a person asked for under the name of a slot is not its run.
    let existing = |name: &str| {
        let run = context.ask(|index| index.backup(&beside(key, name)))?;
        Some(run.spec.policy_uid.clone().filter(|_| run.spec.slot.is_some()))
    };
    slots::decide(&SlotFacts {
        policy: policy.metadata.name.as_deref().unwrap_or_default(),
        uid: policy.metadata.uid.as_deref().unwrap_or_default(),
        created_at: created_at(policy, now),
        schedules: &policy.spec.schedules,
        progress: &recorded.schedules,
        overlap: policy.spec.overlap,
        jitter: policy.spec.jitter,
        suspended: policy.spec.suspend,
        run_on_resume: policy.spec.run_on_resume,
        suspended_since: recorded.suspended_since.as_ref().map(|since| since.0),
        active: runs.active.as_deref(),
        existing: Existing(&existing),
        now,
    })
}

fn waiting(recorded: &BackupPolicyStatus, slots: SlotDecision) -> SlotDecision {
    SlotDecision {
        begin: None,
        replace: None,
        adopted: None,
        passed: Vec::new(),
        progress: recorded.schedules.clone(),
        ..slots
    }
}

const fn reason(why: &Passed) -> &'static str {
    match why {
        Passed::Missed => "SlotMissed",
        Passed::Overlap(_) | Passed::Covered(_) => "SlotSkipped",
        Passed::NameTaken(_) => "NameTaken",
        Passed::Suspended => "SlotSuspended",
    }
}

/// Makes the run of a slot. Its name is that of the slot, so that it is made once.
async fn begin<P: Port>(context: &Context<P>, policy: &BackupPolicy, due: &DueRun) -> Result<(), PortError> {
    let meta = &policy.metadata;
    let run = backup(policy, due);
    match context.port.create(&Identity::Controller, FIELD_MANAGER, &run, DryRun::No).await {
        Ok(_) => {
            tracing::info!(namespace = meta.namespace, policy = meta.name, run = due.name, "a run begins");
            Ok(())
        }
        // Made before a crash, or somebody else's: the watch tells, and the slot is looked at again.
        Err(PortError::AlreadyExists(why)) => Err(PortError::Unavailable(why)),
        Err(error) => Err(error),
    }
}

fn backup(policy: &BackupPolicy, due: &DueRun) -> Value {
    let meta = &policy.metadata;
    json!({
        "apiVersion": API_VERSION, "kind": "Backup",
        "metadata": {
            "name": due.name, "namespace": meta.namespace, "finalizers": [FINALIZER],
            "labels": {"app.kubernetes.io/managed-by": "interlock", "interlock.dev/backup-policy": meta.name},
        },
        "spec": {
            "policyRef": {"name": meta.name},
            "policyUid": meta.uid,
            "repositoryRef": policy.spec.repository_ref,
            "trigger": due.trigger,
            "slot": {"schedule": due.schedule, "time": due.slot, "shifted": due.shifted},
            "mode": due.mode,
        },
    })
}
