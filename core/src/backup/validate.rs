//! What a schema cannot refuse: schedules that never occur, unknown zones, contradictions between fields.

use std::collections::BTreeSet;

use interlock_crds::{
    BackupMode, BackupPolicySpec, BackupRepositorySpec, Duration, HttpHook, PodOptions, PostgresMode, Retention,
};

use super::{pods::build::NOBODY, retention::has_rule};
use crate::calendar::{Schedule, time_zone};

/// Longest length of time in a backup's spec: ten years.
const LONGEST: i64 = 10 * 366 * 86_400;

/// What is wrong with a policy, as sentences; empty if it can be used.
pub fn policy(spec: &BackupPolicySpec) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for schedule in &spec.schedules {
        if !names.insert(&schedule.name) {
            wrong.push(format!("two schedules are named {}; give each its own name", schedule.name));
        }
        wrong.extend(cron(&format!("schedule {}", schedule.name), &schedule.schedule, &schedule.time_zone));
        if let Some(deadline) = schedule.starting_deadline {
            wrong.extend(length(&format!("schedule {}: startingDeadline", schedule.name), deadline, 60, LONGEST));
        }
    }
    wrong.extend(retention(&spec.retention));
    wrong.extend(length("deadline", spec.deadline, 60, 7 * 86_400));
    wrong.extend(length("waitForRepository", spec.wait_for_repository, 60, 7 * 86_400));
    if let Some(jitter) = spec.jitter {
        wrong.extend(length("jitter", jitter, 1, 86_400));
    }
    if let Some(heartbeat) = &spec.heartbeat {
        wrong.extend(length("heartbeat.interval", heartbeat.interval, 1, 3_600));
        if heartbeat.table.is_some() && spec.source.postgres.is_none() {
            wrong.push("heartbeat.table needs source.postgres; give heartbeat.file for files".into());
        }
        if heartbeat.file.is_some() && spec.source.files.is_none() {
            wrong.push("heartbeat.file needs source.files; give heartbeat.table for PostgreSQL".into());
        }
        // What is not copied tells nothing of what was lost.
        if let (Some(file), Some(files)) = (&heartbeat.file, &spec.source.files)
            && !files.paths.iter().any(|path| is_below(file, path))
        {
            wrong.push(format!("heartbeat.file {file} is below none of source.files.paths, so it would not be copied"));
        }
        if heartbeat.table.is_some()
            && heartbeat.database.is_none()
            && spec.source.postgres.as_ref().is_some_and(|postgres| postgres.databases.is_empty())
        {
            wrong.push("heartbeat.table needs heartbeat.database, as source.postgres names no databases".into());
        }
    }
    if let Some(objects) = &spec.source.objects {
        let both: Vec<_> = objects.add.iter().filter(|kind| objects.exclude.contains(kind)).collect();
        if let [kind, ..] = both.as_slice() {
            wrong.push(format!("source.objects adds and excludes {}; do one of both", kind.kind));
        }
        if !objects.include_secrets && objects.add.iter().any(|kind| kind.group.is_empty() && kind.kind == "Secret") {
            wrong.push("source.objects.add names Secret; set includeSecrets: true instead".into());
        }
        if spec.pod.as_ref().is_some_and(|pod| pod.read_all) {
            wrong.push("pod.readAll is for files of a volume; leave it out with source.objects".into());
        }
    }
    if let Some(postgres) = &spec.source.postgres
        && postgres.mode == PostgresMode::Physical
        && !spec.schedules.is_empty()
        && !spec.schedules.iter().any(|schedule| schedule.mode == BackupMode::Full)
    {
        wrong.push(
            "mode Physical needs a schedule in mode Full: write-ahead log is worth nothing without a base copy".into(),
        );
    }
    if let Some(hooks) = &spec.hooks {
        let mut names = BTreeSet::new();
        for hook in hooks.before.iter().chain(&hooks.after) {
            if !names.insert(&hook.name) {
                wrong.push(format!("two hooks are named {}; give each its own name", hook.name));
            }
            wrong.extend(length(&format!("hook {}: timeout", hook.name), hook.timeout, 1, 3_600));
            wrong.extend(hook.http.as_ref().and_then(|http| host(&hook.name, http)));
            if hook.http.is_some() && hook.timeout.seconds() > crate::analysis::MAX_TIMEOUT_SECONDS {
                wrong.push(format!("hook {}: an HTTP request may take 60s at most", hook.name));
            }
        }
    }
    wrong.extend(spec.pod.iter().flat_map(pod));
    wrong
}

/// What people should know about a policy that can be used.
pub fn policy_warnings(spec: &BackupPolicySpec) -> Vec<String> {
    let mut told = Vec::new();
    let rpo = spec.objectives.as_ref().and_then(|objectives| objectives.rpo);
    if spec.schedules.is_empty() {
        told.push("the policy has no schedules: it runs only when a person asks".to_owned());
    }
    if rpo.is_none() {
        told.push("objectives.rpo is not set: nobody will be told when backups are too old".to_owned());
    }
    if let (Some(rpo), Some(within)) = (rpo, spec.retention.keep_within)
        && within < rpo
    {
        told.push(format!("retention.keepWithin ({within}) is shorter than objectives.rpo ({rpo})"));
    }
    let hooks = spec.hooks.iter().flat_map(|hooks| hooks.before.iter().chain(&hooks.after));
    if hooks.into_iter().any(|hook| hook.exec.is_some()) {
        told.push(
            "hooks with exec run in the name of the System's executor, which needs create and get on pods/exec; `interlock install --print-executor NAMESPACE/NAME --with-role` prints that".to_owned(),
        );
    }
    let physical = spec.source.postgres.as_ref().is_some_and(|postgres| postgres.mode == PostgresMode::Physical);
    if physical && !spec.schedules.is_empty() && !spec.schedules.iter().any(|s| s.mode == BackupMode::Incremental) {
        told.push("no schedule is in mode Incremental: write-ahead log is received, and no run stores it".to_owned());
    }
    if physical && !keeps_every_moment(&spec.retention) {
        told.push(
            "retention.keepWithin is not set: between two chains of base copy and log, moments can be lost when points are thinned out"
                .to_owned(),
        );
    }
    if spec.source.objects.as_ref().is_some_and(|objects| objects.include_secrets) {
        told.push(
            "source.objects.includeSecrets copies the Secrets of the policy's own namespace; if the System has others, make a policy in each"
                .to_owned(),
        );
    }
    if spec.source.command.is_some() {
        told.push("the image of source.command runs with the credentials of the repository's secretRef".to_owned());
    }
    told
}

/// What is wrong with a repository, as sentences; empty if it can be used.
pub fn repository(spec: &BackupRepositorySpec) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Err(error) = time_zone(&spec.time_zone) {
        wrong.push(format!("timeZone: {error}"));
    }
    let schedules = [
        ("check.schedule", spec.check.as_ref().map(|check| (&check.schedule, check.deadline))),
        ("prune.schedule", spec.prune.as_ref().map(|prune| (&prune.schedule, prune.deadline))),
    ];
    for (name, (schedule, deadline)) in schedules.into_iter().filter_map(|(name, given)| Some((name, given?))) {
        wrong.extend(cron(name, schedule, &spec.time_zone).filter(|_| time_zone(&spec.time_zone).is_ok()));
        wrong.extend(length(&name.replace("schedule", "deadline"), deadline, 60, 7 * 86_400));
    }
    wrong.extend(length("retryLock", spec.retry_lock, 1, 86_400));
    let restic = &spec.restic;
    if let Some(new) = &restic.new_key_secret_ref
        && (new == &restic.secret_ref || Some(new) == restic.maintenance_secret_ref.as_ref())
    {
        wrong.push(
            "restic.newKeySecretRef names the Secret with the old key; make another Secret with the new one".into(),
        );
    }
    if restic.volume.is_some() && spec.pod.as_ref().is_some_and(|pod| pod.read_all) {
        wrong.push(
            "pod.readAll would give the repository on restic.volume to user 0, and runs could not open it; leave it out"
                .into(),
        );
    }
    wrong.extend(spec.pod.iter().flat_map(pod));
    wrong
}

/// What is wrong with how a policy and what it refers to fit together. The objects are those of the policy's own namespace:
/// a reference has no other.
pub fn references(
    spec: &BackupPolicySpec,
    repository: Option<&BackupRepositorySpec>,
    claim_exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if repository.is_none() {
        wrong.push(format!("BackupRepository {} does not exist in this namespace", spec.repository_ref.name));
    }
    let source = &spec.source;
    let claims = [
        source.files.as_ref().map(|files| &files.persistent_volume_claim),
        source.postgres.as_ref().and_then(|postgres| postgres.wal.as_ref()).map(|wal| &wal.persistent_volume_claim),
    ];
    for claim in claims.into_iter().flatten() {
        if !claim_exists(claim) {
            wrong.push(format!("PersistentVolumeClaim {claim} does not exist in this namespace"));
        }
        let of_repository = repository.and_then(|repository| repository.restic.volume.as_ref());
        if of_repository.is_some_and(|volume| volume.persistent_volume_claim == *claim) {
            wrong.push(format!("the repository is on the volume {claim} that is backed up; put it on another one"));
        }
    }
    wrong.extend(repository.filter(|repository| repository.restic.volume.is_some()).and_then(|repository| {
        writer(
            &spec.repository_ref.name,
            &spec.pod.clone().unwrap_or_default(),
            &repository.pod.clone().unwrap_or_default(),
        )
    }));
    wrong
}

/// Why runs of a policy cannot write to its repository on a volume: restic lets nobody but its own user at what it makes there.
fn writer(repository: &str, policy: &PodOptions, upkeep: &PodOptions) -> Option<String> {
    if policy.read_all {
        return Some("pod.readAll reads as user 0 with one capability, which may not write to a repository on a volume: set pod.runAsUser to a user that may read the source, or use a repository behind a server".to_owned());
    }
    let [own, of_repository] = [policy, upkeep].map(|options| options.run_as_user.unwrap_or(NOBODY));
    let is_shared = policy.fs_group.is_some() && policy.fs_group == upkeep.fs_group;
    (own != of_repository && !is_shared).then(|| {
        format!(
            "BackupRepository {repository} is on a volume, where only the user that made it may write, and pod.runAsUser is {own} here and {of_repository} there: give both the same, or use a repository behind a server"
        )
    })
}

/// Only a rule that keeps every point keeps those that join two chains.
fn keeps_every_moment(rules: &Retention) -> bool {
    rules.keep_within.is_some()
}

fn retention(rules: &Retention) -> Vec<String> {
    let mut wrong = Vec::new();
    if !has_rule(rules) {
        wrong.push(
            "retention has no keep rule: everything would be forgotten; give at least one, such as keepDaily: 7".into(),
        );
    }
    if let Err(error) = time_zone(&rules.time_zone) {
        wrong.push(format!("retention.timeZone: {error}"));
    }
    wrong
}

fn cron(name: &str, schedule: &str, zone: &str) -> impl Iterator<Item = String> + use<> {
    let wrong = match time_zone(zone) {
        Err(error) => Some(format!("{name}: {error}")),
        Ok(zone) => Schedule::compile(schedule, &zone).err().map(|error| format!("{name}: {error}")),
    };
    wrong.into_iter()
}

fn length(name: &str, given: Duration, least: i64, most: i64) -> Option<String> {
    let fits = (least..=most).contains(&given.seconds());
    let (least, most) = (Duration::from_seconds(least), Duration::from_seconds(most));
    (!fits).then(|| format!("{name} is {given}; write one from {least} to {most}"))
}

/// Whether a file of a volume is one of what `path` names.
fn is_below(file: &str, path: &str) -> bool {
    let (file, path) = (file.trim_matches('/'), path.trim_matches('/'));
    path.is_empty() || file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn pod(options: &PodOptions) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys = BTreeSet::new();
    for label in &options.node_selector {
        if !keys.insert(&label.key) {
            wrong.push(format!("pod.nodeSelector names {} twice", label.key));
        }
    }
    if options.tolerations.iter().any(|toleration| toleration.key.is_none() && toleration.value.is_some()) {
        wrong.push("a toleration with a value needs a key".into());
    }
    wrong
}

/// Hooks reach Services of the cluster, not the API server or metadata services of the cloud.
fn host(name: &str, http: &HttpHook) -> Option<String> {
    let host = http.url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', ':']).next().unwrap_or_default();
    let fits = host.split('.').skip(1).any(|part| part == "svc");
    let api = host.starts_with("kubernetes.default.");
    (!fits || api).then(|| {
        format!("hook {name}: {host} is not a Service; write http(s)://NAME.NAMESPACE.svc:PORT/PATH, and not the API server's")
    })
}
