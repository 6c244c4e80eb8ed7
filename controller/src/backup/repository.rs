//! A repository: who is let in, and its upkeep.

use std::collections::{BTreeMap, BTreeSet};

use interlock_core::{
    backup::{
        exposure::standing,
        maintenance::{self, MaintenanceFacts, MaintenanceStep},
        plan::{MAX_FORGET, MaintenanceWork, PLAN_VARIABLE, RunnerPlan},
        pods,
        repository::{Claim, HolderState},
        retention,
        run::{JobFact, RepositoryFact},
    },
    change::restores,
    port::{Port, PortError},
};
use interlock_crds::{
    Backup, BackupPolicy, BackupRepository, BackupRepositoryStatus, DrillRun, MaintenanceOperation, MaintenanceOutcome,
    MaintenanceRecord, RetentionRecord,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{FINALIZER, LOOK_AGAIN, act, observe, run};
use crate::{
    change::Context,
    claims, drill,
    index::{BackupKey, beside, key_of},
};

/// Decisions in one pass: each but the last writes something.
const MAX_ROUNDS: usize = 6;

/// One pass; when to look again although nothing happens.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    let waiter = BackupKey::Repository(key.to_owned()).waiter();
    if context.ask(|index| index.backup_repository(key)).is_none() {
        context.port.watch(&waiter, &[]);
        return Ok(None);
    }
    let Some(mut repository) = observe::own::<_, BackupRepository>(context, "BackupRepository", key).await? else {
        return Ok(None);
    };
    if repository.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let problems = observe::problems_of_repository(context, &repository).await?;
    let mut refused = None;
    for _ in 0..MAX_ROUNDS {
        if !context.port.may_write() {
            return Ok(None);
        }
        let recorded = repository.status.clone().unwrap_or_default();
        let uid = repository.metadata.uid.clone().unwrap_or_default();
        let held = claims::read(&context.port, &uid).await?;
        let (job, live) = active_job(context, &waiter, key, &uid, &recorded, refused.take()).await?;
        let forgotten = forgotten(live.as_ref());
        let runs = context.ask(|index| index.seen_by_runs(key));
        let decision = maintenance::decide(&MaintenanceFacts {
            name: repository.metadata.name.as_deref().unwrap_or_default(),
            uid: &uid,
            generation: repository.metadata.generation.unwrap_or_default(),
            created_at: repository.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
            spec: &repository.spec,
            status: &recorded,
            problems: &problems,
            claim: match &recorded.active {
                Some(active) if held.holds(&active.name) => RepositoryFact::Held,
                _ => RepositoryFact::Unknown,
            },
            job: &job,
            settled: unsettled(context, key, &forgotten).is_empty(),
            runs: &runs,
            now,
        });
        let mut status = decision.status;
        let mut wanting = match maintenance::keeps_runs_out(&repository.spec, &status, &problems) {
            Some(_) => Vec::new(),
            None => wanting(context, key, &repository),
        };
        // An operation is let in once it is noted, so that nobody holds the repository for something unknown.
        let noted =
            recorded.active.as_ref().map(|active| &active.name) == status.active.as_ref().map(|active| &active.name);
        if let (MaintenanceStep::Claim(claim), true) = (&decision.step, noted) {
            wanting.push(claim.clone());
        }
        let states = states(context, key, &held.holders, &recorded, &status).await?;
        let state = |claim: &Claim| states.of.get(&claim.uid).copied().unwrap_or(HolderState::Live);
        let arranged = claims::arrange(&context.port, &uid, &held, &wanting, state, now).await?;
        maintenance::show(&mut status, arranged.shown(), arranged.waiting.len());
        let wrote = status != recorded;
        if wrote {
            if let Some(ended) = &decision.ended {
                tell(context, &repository, ended).await;
            }
            act::record(context, "BackupRepository", &mut repository.metadata, &repository.spec, &status).await?;
            if let Some(ended) = &decision.ended {
                tidy(context, key, &recorded, ended).await?;
            }
            repository.status = Some(status);
        }
        let unwatched = states.unwatched || leaving(context, key, &arranged.holders);
        let due = [decision.wake_at, arranged.wake_at, again(!problems.is_empty() || unwatched, now)];
        let due = due.into_iter().flatten().min();
        match decision.step {
            MaintenanceStep::CreateJob => {
                if let act::Created::Refused(why) = create(context, key, &repository, now).await? {
                    refused = Some(why);
                }
            }
            MaintenanceStep::Settle => settle(context, key, &forgotten, now).await?,
            MaintenanceStep::Nothing | MaintenanceStep::Claim(_) if !wrote && !arranged.changes() => return Ok(due),
            MaintenanceStep::Nothing | MaintenanceStep::Claim(_) => {}
        }
    }
    Err(PortError::Unavailable("the repository did not settle in one pass".to_owned()))
}

fn again(is_needed: bool, now: Timestamp) -> Option<Timestamp> {
    is_needed.then(|| now.checked_add(LOOK_AGAIN).unwrap_or(now))
}

/// Whether a restore holds on whose change has ended or goes back: nobody tells when its pods are gone.
fn leaving<P: Port>(context: &Context<P>, key: &str, holders: &[Claim]) -> bool {
    let mut changes = holders.iter().filter(|claim| claim.holder.split('/').next() == Some(restores::HOLDER_KIND));
    let open = wanted_by_restores(context, key);
    changes.any(|claim| !open.iter().any(|open| open.uid == claim.uid))
}

async fn tell<P: Port>(context: &Context<P>, repository: &BackupRepository, ended: &MaintenanceRecord) {
    let failed = ended.outcome != Some(MaintenanceOutcome::Succeeded);
    let reason = format!("{:?}{}", ended.operation, if failed { "Failed" } else { "Done" });
    let message = ended.message.clone().unwrap_or_default();
    tracing::info!(repository = repository.metadata.name, operation = ended.name, reason, message, "maintenance ended");
    let object = act::reference("BackupRepository", &repository.metadata);
    act::tell_once(context, &object, &ended.name, failed, &reason, message).await;
}

/// The Job of the operation's last time goes with the end of this one.
async fn tidy<P: Port>(
    context: &Context<P>,
    key: &str,
    before: &BackupRepositoryStatus,
    ended: &MaintenanceRecord,
) -> Result<(), PortError> {
    let last = match ended.operation {
        MaintenanceOperation::Initialize => &before.last_initialize,
        MaintenanceOperation::Check => &before.last_check,
        MaintenanceOperation::Prune => &before.last_prune,
        MaintenanceOperation::RotateKey => &before.last_key_rotation,
        MaintenanceOperation::Unlock => &before.last_unlock,
    };
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let Some((name, uid)) = last.as_ref().and_then(|last| Some((last.name.clone(), last.job_uid.clone()?))) else {
        return Ok(());
    };
    match observe::executor(context, namespace) {
        Ok(executor) => act::stop_job(context, &executor, (namespace, &name), uid).await,
        Err(_) => Ok(()),
    }
}

/// What runs want of the repository.
pub(crate) fn wanting<P: Port>(context: &Context<P>, key: &str, _: &BackupRepository) -> Vec<Claim> {
    let (backups, drills) = context.ask(|index| (index.runs_at_repository(key), index.drills_at_repository(key)));
    let of_backups = backups.iter().filter_map(|backup| run::claim(backup));
    let of_drills = drills.iter().filter_map(|run| drill::claim(run));
    of_backups.chain(of_drills).chain(wanted_by_restores(context, key)).collect()
}

fn wanted_by_restores<P: Port>(context: &Context<P>, key: &str) -> Vec<Claim> {
    context.ask(|index| index.restores_at_repository(key)).into_iter().filter_map(|open| open.claim).collect()
}

/// What is known about the holders.
#[derive(Default)]
struct States {
    of: BTreeMap<String, HolderState>,
    /// Whether pods hold on whose run is gone: nobody tells when they end.
    unwatched: bool,
}

/// Whoever is not known to live is read from the server: a claim is let go only when nothing of its run is left.
async fn states<P: Port>(
    context: &Context<P>,
    key: &str,
    holders: &[Claim],
    recorded: &BackupRepositoryStatus,
    next: &BackupRepositoryStatus,
) -> Result<States, PortError> {
    let mut states = States::default();
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    // Asked of the server once, and only if an ended change holds.
    let (restoring, mut still) = (wanted_by_restores(context, key), None);
    for claim in holders {
        let Some((kind, name)) = claim.holder.split_once('/') else { continue };
        let run = beside(key, name);
        let lives = match kind {
            "Backup" => backup_lives(context, &run, claim).await?,
            "DrillRun" => drill_lives(context, &run, claim).await?,
            restores::HOLDER_KIND => Some(
                restoring.iter().any(|open| open.uid == claim.uid)
                    || match still {
                        Some(known) => known,
                        None => *still.insert(observe::is_restored_from(context, key).await?),
                    },
            ),
            // What ended just now holds until that is recorded.
            _ => Some(
                [recorded, next]
                    .into_iter()
                    .any(|status| status.active.as_ref().is_some_and(|active| active.name == claim.uid)),
            ),
        };
        let lives = if let Some(lives) = lives {
            lives
        } else {
            // Somebody took its finalizer away.
            let works = observe::works_on(context, namespace, &claim.uid).await?;
            states.unwatched |= works;
            works
        };
        states.of.insert(claim.uid.clone(), if lives { HolderState::Live } else { HolderState::Ended });
    }
    Ok(states)
}

/// Whether a backup still needs its place; none if the run itself is gone.
async fn backup_lives<P: Port>(context: &Context<P>, key: &str, claim: &Claim) -> Result<Option<bool>, PortError> {
    let is_own = |backup: &Backup| backup.metadata.uid.as_deref() == Some(claim.uid.as_str());
    let lives = |backup: &Backup| {
        let mut finalizers = backup.metadata.finalizers.iter().flatten();
        let has_ended = backup.status.as_ref().is_some_and(|status| status.phase.is_terminal());
        !has_ended || finalizers.any(|finalizer| finalizer == FINALIZER)
    };
    if context.ask(|index| index.backup(key)).is_some_and(|known| is_own(&known) && lives(&known)) {
        return Ok(Some(true));
    }
    let live = observe::own::<_, Backup>(context, "Backup", key).await?;
    Ok(live.filter(is_own).map(|backup| lives(&backup)))
}

/// The same of a drill.
async fn drill_lives<P: Port>(context: &Context<P>, key: &str, claim: &Claim) -> Result<Option<bool>, PortError> {
    let is_own = |run: &DrillRun| run.metadata.uid.as_deref() == Some(claim.uid.as_str());
    let lives = |run: &DrillRun| run.status.as_ref().is_none_or(|status| status.repository_released_at.is_none());
    if context.ask(|index| index.drill_run(key)).is_some_and(|known| is_own(&known) && lives(&known)) {
        return Ok(Some(true));
    }
    let live = observe::own::<_, DrillRun>(context, "DrillRun", key).await?;
    Ok(live.filter(is_own).map(|run| lives(&run)))
}

async fn active_job<P: Port>(
    context: &Context<P>,
    waiter: &str,
    key: &str,
    uid: &str,
    recorded: &BackupRepositoryStatus,
    refused: Option<String>,
) -> Result<(JobFact, Option<Value>), PortError> {
    let Some(active) = &recorded.active else {
        context.port.watch(waiter, &[]);
        return Ok((JobFact::Absent, None));
    };
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let (fact, live) = observe::job(context, waiter, (namespace, &active.name), uid, active.job_uid.is_some()).await?;
    Ok(match (fact, refused) {
        (JobFact::Absent, Some(why)) => (JobFact::Refused(why), live),
        (fact, _) => (fact, live),
    })
}

async fn create<P: Port>(
    context: &Context<P>,
    key: &str,
    repository: &BackupRepository,
    now: Timestamp,
) -> Result<act::Created, PortError> {
    let Some(active) = repository.status.as_ref().and_then(|status| status.active.as_ref()) else {
        return Ok(act::Created::There);
    };
    let namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
    let executor = match observe::executor(context, namespace) {
        Ok(executor) => executor,
        Err(why) => return Ok(act::Created::Refused(why)),
    };
    let forget = match active.operation {
        MaintenanceOperation::Prune => retain(context, key, now).await?,
        _ => Vec::new(),
    };
    match job_of(context, repository, active, forget).await? {
        Ok(job) => match act::create(context, &executor, &job).await? {
            // A webhook that has not heard of the newest run yet knows of less that may be forgotten.
            act::Created::Refused(why) if active.operation == MaintenanceOperation::Prune && is_fresh(active, now) => {
                Err(PortError::Unavailable(why))
            }
            created => Ok(created),
        },
        Err(why) => Ok(act::Created::Refused(why)),
    }
}

/// Whether an operation became due only a moment ago.
fn is_fresh(active: &MaintenanceRecord, now: Timestamp) -> bool {
    now.duration_since(active.due_at.0) < SignedDuration::from_mins(10)
}

/// The Job of an operation, computed from objects alone, but for what a prune forgets.
pub(super) async fn job_of<P: Port>(
    context: &Context<P>,
    repository: &BackupRepository,
    active: &MaintenanceRecord,
    forget: Vec<String>,
) -> Result<Result<Value, String>, PortError> {
    let namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
    let reads_all = repository.spec.pod.as_ref().is_some_and(|pod| pod.read_all);
    let owner = pods::Owner {
        kind: "BackupRepository",
        name: repository.metadata.name.as_deref().unwrap_or_default(),
        uid: repository.metadata.uid.as_deref().unwrap_or_default(),
        namespace,
        privileges_permitted: observe::privileges(context, namespace, reads_all).await?,
    };
    let status = repository.status.clone().unwrap_or_default();
    let part = status.next_part.or(Some(1)).filter(|_| active.operation == MaintenanceOperation::Check);
    let job = pods::maintenance_job(
        &owner,
        &active.name,
        active.operation,
        &repository.spec,
        status.repository_id.as_deref(),
        &MaintenanceWork { forget, part },
        &context.images.as_core(),
    );
    Ok(job.map_err(|error| error.to_string()))
}

/// What the prune that begins now forgets; what keeps the other points is noted in them.
async fn retain<P: Port>(context: &Context<P>, key: &str, now: Timestamp) -> Result<Vec<String>, PortError> {
    let mut forget = Vec::new();
    for policy in context.ask(|index| index.policies_of_repository(key)) {
        let (backups, plan) = plan(context, &policy, now);
        let room = MAX_FORGET.saturating_sub(forget.len());
        let told: Vec<_> = plan.forget.into_iter().take(room).map(|(id, _)| id).collect();
        for backup in &backups {
            let point = backup.status.as_ref().and_then(|status| status.point.as_ref());
            let Some(point) = point.filter(|_| standing(backup).is_some()) else { continue };
            let kept_by = plan.keep.get(&point.snapshot_id).into_iter().flatten();
            let kept_by: Vec<_> = kept_by.map(|why| why.name()).collect();
            let expires = told.contains(&point.snapshot_id);
            note(context, backup, |record| RetentionRecord {
                kept_by,
                // What a prune that broke off was told to forget may be gone, whatever keeps it now.
                expired_at: record.expired_at.clone().or(expires.then_some(Time(now))),
                forgotten_at: None,
            })
            .await?;
        }
        forget.extend(told);
    }
    Ok(forget)
}

/// What may be forgotten of one policy, at this moment.
pub(super) fn plan<P: Port>(
    context: &Context<P>,
    policy: &BackupPolicy,
    now: Timestamp,
) -> (Vec<std::sync::Arc<Backup>>, retention::Plan) {
    let key = key_of(&policy.metadata);
    let repository = beside(&key, &policy.spec.repository_ref.name);
    let (backups, in_use) = context.ask(|index| {
        let in_use = &index.held_by_drills(&key) | &index.held_by_restores(&repository);
        (index.backups_of(&key), in_use)
    });
    let plan =
        retention::plan(&policy.spec.retention, &retention::points(backups.iter().map(AsRef::as_ref), &in_use), now);
    (backups, plan)
}

/// Notes in a Backup what retention says of its point; nothing is written if that stands there.
async fn note<P: Port>(
    context: &Context<P>,
    backup: &Backup,
    change: impl FnOnce(&RetentionRecord) -> RetentionRecord,
) -> Result<(), PortError> {
    let recorded = backup.status.as_ref().and_then(|status| status.retention.clone()).unwrap_or_default();
    let next = change(&recorded);
    if next == recorded {
        return Ok(());
    }
    // What is known of it lacks its log, so that what is written is what stands there now.
    let key = key_of(&backup.metadata);
    let Some(mut live) = observe::own::<_, Backup>(context, "Backup", &key).await? else { return Ok(()) };
    if live.metadata.uid != backup.metadata.uid {
        return Ok(());
    }
    let mut status = live.status.clone().unwrap_or_default();
    status.retention = Some(next);
    act::record(context, "Backup", &mut live.metadata, &live.spec, &status).await
}

/// The snapshots that a prune's Job was told to forget.
pub(super) fn forgotten(job: Option<&Value>) -> BTreeSet<String> {
    told_to_forget(job).into_iter().collect()
}

/// The same, in the order in which it was told.
pub(super) fn told_to_forget(job: Option<&Value>) -> Vec<String> {
    let containers = job.and_then(|job| job.pointer("/spec/template/spec/containers")).and_then(Value::as_array);
    let variables = containers.into_iter().flatten().filter_map(|container| container.get("env")?.as_array()).flatten();
    let plan = variables
        .filter(|variable| variable.get("name").and_then(Value::as_str) == Some(PLAN_VARIABLE))
        .find_map(|variable| serde_json::from_str::<RunnerPlan>(variable.get("value")?.as_str()?).ok());
    plan.map(|plan| plan.forget).unwrap_or_default()
}

/// Backups whose points were forgotten, and that do not say so yet.
fn unsettled<P: Port>(context: &Context<P>, key: &str, ids: &BTreeSet<String>) -> Vec<std::sync::Arc<Backup>> {
    if ids.is_empty() {
        return Vec::new();
    }
    let policies = context.ask(|index| index.policies_of_repository(key));
    let backups = policies.iter().flat_map(|policy| context.ask(|index| index.backups_of(&key_of(&policy.metadata))));
    backups
        .filter(|backup| {
            let point = backup.status.as_ref().and_then(|status| status.point.as_ref());
            standing(backup).is_some() && point.is_some_and(|point| ids.contains(&point.snapshot_id))
        })
        .collect()
}

async fn settle<P: Port>(
    context: &Context<P>,
    key: &str,
    ids: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(), PortError> {
    for backup in unsettled(context, key, ids) {
        note(context, &backup, |record| RetentionRecord {
            kept_by: Vec::new(),
            expired_at: record.expired_at.clone(),
            forgotten_at: Some(Time(now)),
        })
        .await?;
    }
    // The index hears of it by the watch, which wakes this repository.
    Err(PortError::Unavailable("what was forgotten is noted; the watch tells".to_owned()))
}
