//! A run: its place at the repository, its Job, its outcome.

use std::sync::Arc;

use interlock_core::{
    backup::{
        outcome::Reason,
        pods,
        repository::{self as claims_core, Claim, HolderState, Use},
        run::{self, JobFact, PolicyFact, RepositoryFact, RunFacts, RunStep},
    },
    object::{Digest, canonical_json},
    port::{Identity, Port, PortError},
};
use interlock_crds::{
    Backup, BackupMode, BackupPhase, BackupPolicy, BackupRepository, BackupStatus, BackupTrigger, PinnedPolicy,
    PostgresMode,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{FINALIZER, act, hooks, objects, observe, policy};
use crate::{
    change::Context,
    claims,
    index::{BackupKey, beside, validity},
};

/// Decisions in one pass: each but the last writes something.
const MAX_ROUNDS: usize = 12;

/// What a run works with.
pub(super) struct Parts {
    pub(super) policy: Option<Arc<BackupPolicy>>,
    repository: Option<Arc<BackupRepository>>,
    pin: Option<PinnedPolicy>,
    refusal: Option<String>,
    pub(super) executor: Result<Identity, String>,
}

/// One pass; when to look again although nothing happens.
pub(super) async fn pass<P: Port>(
    context: &Context<P>,
    key: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, PortError> {
    let waiter = BackupKey::Run(key.to_owned()).waiter();
    let known = context.ask(|index| index.backup(key));
    if known.is_none_or(|known| is_over(&known)) {
        context.port.watch(&waiter, &[]);
        return Ok(None);
    }
    let Some(mut backup) = observe::own::<_, Backup>(context, "Backup", key).await? else {
        context.port.watch(&waiter, &[]);
        return Ok(None);
    };
    if is_over(&backup) {
        context.port.watch(&waiter, &[]);
        return Ok(None);
    }
    let deleting = backup.metadata.deletion_timestamp.is_some();
    if !is_kept(&backup) {
        if deleting {
            return Ok(None);
        }
        act::finalizer(context, &observe::own_id("Backup", key), &mut backup.metadata, FINALIZER, true).await?;
    }
    let mut refused = None;
    let mut objects = objects::Progress::default();
    for _ in 0..MAX_ROUNDS {
        if !context.port.may_write() {
            return Ok(None);
        }
        let recorded = backup.status.clone().unwrap_or_default();
        let parts = parts(context, key, &backup, &recorded);
        let (held, told) = place(context, key, &backup, &parts, now).await?;
        let job = job(context, &waiter, &backup, &recorded, refused.take()).await?;
        let replaced = is_replaced(context, key, &backup, &parts, now);
        let spec = parts.policy.as_ref().map(|policy| &policy.spec);
        let executor = parts.executor.as_ref().ok();
        let hooks_done = hooks::ends(context, &waiter, &backup, &recorded, spec, executor, now);
        let hmac = |nonce: &str| context.hmac(nonce.as_bytes());
        let policy = parts.policy.as_ref().zip(parts.pin.as_ref());
        let decision = run::decide(&RunFacts {
            name: backup.metadata.name.as_deref().unwrap_or_default(),
            uid: backup.metadata.uid.as_deref().unwrap_or_default(),
            generation: backup.metadata.generation.unwrap_or_default(),
            created_at: backup.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0),
            deleting,
            spec: &backup.spec,
            status: &recorded,
            policy: policy.map(|(policy, pin)| PolicyFact {
                pin,
                spec: &policy.spec,
                refusal: parts.refusal.as_deref(),
            }),
            repository: match (held, told.as_deref()) {
                (true, _) => RepositoryFact::Held,
                (false, Some(why)) => RepositoryFact::Waiting(why),
                (false, None) => RepositoryFact::Unknown,
            },
            job: &job,
            replaced,
            hooks_done: &hooks_done,
            objects: objects.fact(),
            hmac: &hmac,
            now,
        });
        let wrote = decision.status != recorded;
        if wrote {
            record(context, &mut backup, &recorded, decision.status).await?;
        }
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        match decision.step {
            // The repository's pass was woken by what was just recorded.
            RunStep::Nothing | RunStep::Claim => return Ok(decision.wake_at),
            RunStep::RunHook { name, after } => hooks::begin(context, &backup, after, &name),
            RunStep::StoreObjects => objects.advance(context, &backup, &parts).await?,
            RunStep::CreateJob => {
                if let act::Created::Refused(why) = create(context, &backup, &parts).await? {
                    refused = Some(why);
                }
            }
            RunStep::StopJob(uid) => {
                let executor = parts.executor.map_err(PortError::Forbidden)?;
                act::stop_job(context, &executor, (namespace, name), uid).await?;
                return Ok(decision.wake_at);
            }
            RunStep::Release => {
                objects::remove(context, &backup, parts.executor.as_ref().ok()).await?;
                context.port.watch(&waiter, &[]);
                act::finalizer(context, &observe::own_id("Backup", key), &mut backup.metadata, FINALIZER, false)
                    .await?;
                return Ok(None);
            }
        }
    }
    Err(PortError::Unavailable("the run did not settle in one pass".to_owned()))
}

fn is_kept(backup: &Backup) -> bool {
    backup.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Nothing more is to be done for it.
fn is_over(backup: &Backup) -> bool {
    !is_kept(backup) && backup.status.as_ref().is_some_and(|status| status.phase.is_terminal())
}

fn parts<P: Port>(context: &Context<P>, key: &str, backup: &Backup, recorded: &BackupStatus) -> Parts {
    let namespace = backup.metadata.namespace.as_deref().unwrap_or_default();
    let executor = observe::executor(context, namespace);
    let policy_key = beside(key, &backup.spec.policy_ref.name);
    let policy = context.ask(|index| index.backup_policy(&policy_key));
    let pinned = recorded.pinned.as_ref();
    let named = pinned.map(|pinned| pinned.repository.clone()).or_else(|| {
        let own = backup.spec.repository_ref.as_ref().map(|named| named.name.clone());
        own.or_else(|| policy.as_ref().map(|policy| policy.spec.repository_ref.name.clone()))
    });
    let repository = named.and_then(|name| context.ask(|index| index.backup_repository(&beside(key, &name))));
    let mut refusal = executor.as_ref().err().cloned().or_else(|| policy.as_deref().and_then(invalid));
    let made = recorded.job.as_ref().is_some_and(|job| job.uid.is_some());
    let pin = match (pinned.filter(|_| made), &policy, &repository) {
        (Some(pinned), ..) => Some(pinned.clone()),
        (None, Some(policy), Some(repository)) => {
            let runs = context.ask(|index| index.backup_runs(&policy_key));
            let (pin, why) = pin(policy, repository, backup.spec.mode, &runs);
            let elsewhere =
                backup.spec.trigger == BackupTrigger::Manual && pin.repository != policy.spec.repository_ref.name;
            let why = why.or_else(|| {
                elsewhere.then(|| {
                    format!(
                        "a run that a person asks for goes to the policy's repository {}",
                        policy.spec.repository_ref.name
                    )
                })
            });
            let replaced = pinned.filter(|pinned| pinned.repository_uid != pin.repository_uid);
            if let Some(why) =
                replaced.map(|pinned| format!("BackupRepository {} was replaced", pinned.repository)).or(why)
            {
                refusal.get_or_insert(why);
            }
            Some(pin)
        }
        (None, Some(policy), None) => {
            refusal.get_or_insert_with(|| {
                format!("BackupRepository {} does not exist in this namespace", policy.spec.repository_ref.name)
            });
            Some(pin_without_repository(policy))
        }
        (None, None, _) => None,
    };
    Parts { policy, repository, pin, refusal, executor }
}

/// What the policy's own pass found that it cannot use.
fn invalid(policy: &BackupPolicy) -> Option<String> {
    let valid = validity(policy)?;
    (valid.status == "False").then(|| valid.message.clone())
}

fn digest(spec: &interlock_crds::BackupPolicySpec) -> String {
    let bytes = serde_json::to_value(spec).ok().and_then(|spec| canonical_json(&spec).ok());
    bytes.map(|bytes| Digest::of_bytes(&bytes).to_string()).unwrap_or_default()
}

/// Whether a run is pinned to the policy as it is.
pub(super) fn is_pinned(policy: &BackupPolicy, pinned: &PinnedPolicy) -> bool {
    policy.metadata.uid.as_ref() == Some(&pinned.policy_uid) && digest(&policy.spec) == pinned.policy_digest
}

fn pin_without_repository(policy: &BackupPolicy) -> PinnedPolicy {
    PinnedPolicy {
        policy_uid: policy.metadata.uid.clone().unwrap_or_default(),
        policy_generation: policy.metadata.generation.unwrap_or_default(),
        policy_digest: digest(&policy.spec),
        repository: policy.spec.repository_ref.name.clone(),
        repository_uid: String::new(),
        repository_id: None,
        parent: None,
        base_id: None,
    }
}

/// What a run is pinned to, and why it cannot be begun if it cannot.
fn pin(
    policy: &BackupPolicy,
    repository: &BackupRepository,
    mode: BackupMode,
    runs: &crate::index::RunsSummary,
) -> (PinnedPolicy, Option<String>) {
    let physical = policy.spec.source.postgres.as_ref().is_some_and(|p| p.mode == PostgresMode::Physical);
    let incremental = mode == BackupMode::Incremental;
    let snapshot = |point: &Option<interlock_crds::PointRef>| point.as_ref().map(|point| point.snapshot_id.clone());
    let base = snapshot(&runs.last_full).filter(|_| physical && incremental);
    let refusal = (physical && incremental && base.is_none()).then(|| {
        "there is no base copy yet that write-ahead log could follow: a run in mode Full comes first".to_owned()
    });
    let pin = PinnedPolicy {
        repository: repository.metadata.name.clone().unwrap_or_default(),
        repository_uid: repository.metadata.uid.clone().unwrap_or_default(),
        repository_id: repository.status.as_ref().and_then(|status| status.repository_id.clone()),
        parent: snapshot(&runs.last_good).filter(|_| incremental),
        base_id: base,
        ..pin_without_repository(policy)
    };
    (pin, refusal)
}

/// Whether the run holds its repository, and what keeps it out if not.
async fn place<P: Port>(
    context: &Context<P>,
    key: &str,
    backup: &Backup,
    parts: &Parts,
    now: Timestamp,
) -> Result<(bool, Option<String>), PortError> {
    let status = backup.status.as_ref();
    let asked = status.is_some_and(|status| status.queued_at.is_some() && !status.phase.is_terminal());
    let (true, Some(repository)) = (asked, &parts.repository) else { return Ok((false, None)) };
    let repository_uid = repository.metadata.uid.as_deref().unwrap_or_default();
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    let held = claims::read(&context.port, repository_uid).await?;
    if held.holds(uid) {
        return Ok((true, None));
    }
    let kept_out = repository.status.as_ref().map_or_else(
        || Some("nothing is known of it yet".to_owned()),
        |status| {
            let invalid = status.conditions.iter().find(|c| c.type_ == "Valid" && c.status == "False");
            let problems: Vec<_> = invalid.map(|condition| condition.message.clone()).into_iter().collect();
            interlock_core::backup::maintenance::keeps_runs_out(&repository.spec, status, &problems)
        },
    );
    if kept_out.is_some() {
        return Ok((false, kept_out));
    }
    let repository_key = beside(key, repository.metadata.name.as_deref().unwrap_or_default());
    let wanting = super::repository::wanting(context, &repository_key, repository);
    let arrangement = claims_core::arrange(&held.holders, &wanting, |_| HolderState::Live, now);
    Ok((false, arrangement.told(uid).map(ToOwned::to_owned)))
}

/// What a run wants of its repository; nothing before it was admitted and after its Job was announced.
pub(super) fn claim(backup: &Backup) -> Option<Claim> {
    let status = backup.status.as_ref()?;
    let since = status.queued_at.as_ref()?.0;
    let wants = status.phase == BackupPhase::Pending && status.job.is_none();
    wants.then(|| Claim {
        uid: backup.metadata.uid.clone().unwrap_or_default(),
        holder: format!("Backup/{}", backup.metadata.name.as_deref().unwrap_or_default()),
        usage: Use::Backup,
        since,
    })
}

async fn job<P: Port>(
    context: &Context<P>,
    waiter: &str,
    backup: &Backup,
    recorded: &BackupStatus,
    refused: Option<String>,
) -> Result<JobFact, PortError> {
    let namespace = backup.metadata.namespace.as_deref().unwrap_or_default();
    let name = backup.metadata.name.as_deref().unwrap_or_default();
    let uid = backup.metadata.uid.as_deref().unwrap_or_default();
    if recorded.job.is_none() && recorded.phase == BackupPhase::Pending {
        return Ok(JobFact::Absent);
    }
    let was_made = recorded.job.as_ref().is_some_and(|job| job.uid.is_some());
    let (fact, _) = observe::job(context, waiter, (namespace, name), uid, was_made).await?;
    Ok(match (fact, refused) {
        (JobFact::Absent, Some(why)) => JobFact::Refused(why),
        (fact, _) => fact,
    })
}

/// Whether the run of a later slot is to take this one's place.
fn is_replaced<P: Port>(context: &Context<P>, key: &str, backup: &Backup, parts: &Parts, now: Timestamp) -> bool {
    let replacing = |policy: &&Arc<BackupPolicy>| policy.spec.overlap == interlock_crds::OverlapRule::Replace;
    let Some(policy) = parts.policy.as_ref().filter(replacing) else { return false };
    let policy_key = beside(key, &backup.spec.policy_ref.name);
    let runs = context.ask(|index| index.backup_runs(&policy_key));
    let recorded = policy.status.clone().unwrap_or_default();
    let slots = policy::decide(context, &policy_key, policy, &recorded, &runs, now);
    slots.replace.is_some() && slots.replace == backup.metadata.name
}

async fn create<P: Port>(context: &Context<P>, backup: &Backup, parts: &Parts) -> Result<act::Created, PortError> {
    let executor = match &parts.executor {
        Ok(executor) => executor,
        Err(why) => return Ok(act::Created::Refused(why.clone())),
    };
    match job_of(context, backup, parts.policy.as_deref(), parts.repository.as_deref()).await? {
        Ok(job) => act::create(context, executor, &job).await,
        Err(why) => Ok(act::Created::Refused(why)),
    }
}

/// The Job of a run as it is pinned, computed from objects alone: the webhook computes it again.
pub(super) async fn job_of<P: Port>(
    context: &Context<P>,
    backup: &Backup,
    policy: Option<&BackupPolicy>,
    repository: Option<&BackupRepository>,
) -> Result<Result<Value, String>, PortError> {
    let pinned = backup.status.as_ref().and_then(|status| status.pinned.as_ref());
    let (Some(pinned), Some(policy), Some(repository)) = (pinned, policy, repository) else {
        return Ok(Err("the run is not pinned, or its policy or repository is gone".to_owned()));
    };
    let namespace = backup.metadata.namespace.as_deref().unwrap_or_default();
    let reads_all = policy.spec.pod.as_ref().is_some_and(|pod| pod.read_all);
    let owner = pods::Owner {
        kind: "Backup",
        name: backup.metadata.name.as_deref().unwrap_or_default(),
        uid: backup.metadata.uid.as_deref().unwrap_or_default(),
        namespace,
        privileges_permitted: observe::privileges(context, namespace, reads_all).await?,
    };
    let images = context.images.as_core();
    let job = pods::backup_job(&owner, &policy.spec, &repository.spec, pinned, backup.spec.mode, &images);
    let objects = backup.status.as_ref().and_then(|status| status.objects.as_ref());
    Ok(job.map_err(|error| error.to_string()).map(|mut job| {
        pods::mount_objects(&mut job, owner.name, objects.map_or(0, |objects| objects.chunks.len()));
        job
    }))
}

async fn record<P: Port>(
    context: &Context<P>,
    backup: &mut Backup,
    recorded: &BackupStatus,
    status: BackupStatus,
) -> Result<(), PortError> {
    if recorded.phase != status.phase {
        let warning = matches!(status.phase, BackupPhase::Failed | BackupPhase::PartiallyFailed | BackupPhase::Skipped);
        let reason = status.reason.clone().unwrap_or_else(|| format!("{:?}", status.phase));
        let message = status.message.clone().unwrap_or_default();
        tracing::info!(
            namespace = backup.metadata.namespace, run = backup.metadata.name, phase = ?status.phase, reason, message,
            "the run moves on"
        );
        let told =
            if status.reason.as_deref() == Some(&Reason::Complete.name()) { "Succeeded".to_owned() } else { reason };
        // A run is in each phase once.
        let of = format!("{:?}", status.phase);
        act::tell_once(context, &act::reference("Backup", &backup.metadata), &of, warning, &told, message).await;
    }
    act::record(context, "Backup", &mut backup.metadata, &backup.spec, &status).await?;
    backup.status = Some(status);
    Ok(())
}
