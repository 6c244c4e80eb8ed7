//! B6 to B9, B13: one run from its object to its outcome.

use interlock_crds::{BackupPhase, BackupPolicySpec, BackupSpec, BackupStatus, ObjectsRecord, PinnedPolicy};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{at, outcome::good, policy_spec};
use crate::backup::{
    hooks::HookDone,
    observed::POD_GONE,
    outcome::{Outcome, PodEnd, Reason},
    result::HeartbeatRead,
    run::{JobEnd, JobFact, JobState, ObjectsFact, PolicyFact, RepositoryFact, RunDecision, RunFacts, RunStep, decide},
};

const START: &str = "2026-11-23T02:00:00Z";

/// A run that lives through decisions.
struct Run {
    spec: BackupSpec,
    status: BackupStatus,
    policy: Option<BackupPolicySpec>,
    pin: PinnedPolicy,
    refusal: Option<String>,
    repository: RepositoryFact<'static>,
    job: JobFact,
    deleting: bool,
    replaced: bool,
    hooks_done: Vec<HookDone>,
    objects: Option<ObjectsFact>,
    now: Timestamp,
}

impl Run {
    fn new() -> Self {
        let spec = json!({
            "policyRef": {"name": "teller-db"}, "policyUid": "policy-1", "trigger": "Scheduled",
            "slot": {"schedule": "daily", "time": START},
        });
        Self {
            spec: serde_json::from_value(spec).unwrap(),
            status: BackupStatus::default(),
            policy: Some(policy_spec(|_| ())),
            pin: PinnedPolicy {
                policy_uid: "policy-1".into(),
                policy_generation: 3,
                policy_digest: "sha256:0".into(),
                repository: "vault".into(),
                repository_uid: "vault-uid".into(),
                repository_id: Some("repo-1".into()),
                parent: None,
                base_id: None,
            },
            refusal: None,
            repository: RepositoryFact::Unknown,
            job: JobFact::Absent,
            deleting: false,
            replaced: false,
            hooks_done: vec![],
            objects: None,
            now: at(START),
        }
    }

    fn ask(&self) -> RunDecision {
        let policy =
            self.policy.as_ref().map(|spec| PolicyFact { pin: &self.pin, spec, refusal: self.refusal.as_deref() });
        decide(&RunFacts {
            name: "teller-db-1",
            uid: "run-1",
            generation: 1,
            created_at: START.parse().unwrap(),
            deleting: self.deleting,
            spec: &self.spec,
            status: &self.status,
            policy,
            repository: self.repository,
            job: &self.job,
            replaced: self.replaced,
            hooks_done: &self.hooks_done,
            objects: self.objects.as_ref(),
            hmac: &|nonce| format!("hmac of {nonce}"),
            now: self.now,
        })
    }

    /// Decides and records; deciding again on the result changes nothing.
    fn pass(&mut self) -> RunStep {
        let decision = self.ask();
        self.status = decision.status.clone();
        assert_eq!(self.ask().status, decision.status, "deciding again changed the status");
        decision.step
    }

    fn later(&mut self, seconds: i64) -> &mut Self {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self
    }

    fn claimed() -> Self {
        let mut run = Self::new();
        assert_eq!(run.pass(), RunStep::Claim);
        run.repository = RepositoryFact::Held;
        assert_eq!(run.later(1).pass(), RunStep::CreateJob);
        run
    }

    fn running() -> Self {
        let mut run = Self::claimed();
        run.job = JobFact::Ours(JobState {
            uid: "job-1".into(),
            created_at: run.now,
            deadline_seconds: Some(7_200),
            ended: None,
            has_pod: true,
            waiting: None,
            log_tail: None,
        });
        assert_eq!(run.later(1).pass(), RunStep::Nothing);
        assert_eq!(run.status.phase, BackupPhase::Running);
        run
    }

    fn end(&mut self, message: Option<String>, deadline_exceeded: bool) {
        if let JobFact::Ours(job) = &mut self.job {
            let pod = PodEnd { message, ..PodEnd::default() };
            job.log_tail = Some(format!("{}end of the log", "日".repeat(3_000)));
            job.ended = Some(JobEnd { deadline_exceeded, at: self.now, pod });
        }
    }

    fn ended_with(&self) -> (BackupPhase, &str) {
        (self.status.phase, self.status.reason.as_deref().unwrap_or_default())
    }
}

#[test]
fn a_good_run_has_a_recovery_point_with_its_heartbeat() {
    let mut run = Run::running();
    run.later(60);
    let mut result = good();
    result.heartbeat =
        Some(HeartbeatRead { seq: 41, time: at("2026-11-23T01:59:58Z"), nonce: "n".into(), read_at: None });
    run.end(result.encode().ok(), false);
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
    let point = run.status.point.as_ref().unwrap();
    assert_eq!(
        (point.snapshot_id.as_str(), point.files, point.bytes, point.added_bytes),
        ("0123456789abcdef", 12, 3_456, 78)
    );
    assert_eq!(point.data_time.0, at("2026-11-23T02:00:07Z"));
    let heartbeat = run.status.heartbeat.as_ref().unwrap();
    assert_eq!((heartbeat.seq, heartbeat.hmac.as_str()), (41, "hmac of n"));
    let told = &run.status.conditions[0];
    assert_eq!((told.type_.as_str(), told.status.as_str()), ("HeartbeatRead", "True"));
    assert_eq!((run.status.exit_code, run.status.log_tail.as_deref()), (Some(0), None));
    assert_eq!(run.status.queued_at.as_ref().unwrap().0, at(START));
}

#[test]
fn b15_a_clock_of_the_node_that_is_ahead_makes_no_data_newer() {
    for late in [0, 86_400] {
        let mut run = Run::running();
        let end = run.later(60).now;
        let mut result = good();
        if let Some(snapshot) = &mut result.snapshot {
            snapshot.time = at("2026-12-23T02:00:07Z");
        }
        run.end(result.encode().ok(), false);
        run.later(late).pass();
        assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
        let point = run.status.point.as_ref().unwrap();
        assert_eq!(point.data_time.0, end, "not later than the end of the run, looked at {late} s later");
    }
}

#[test]
fn a_heartbeat_that_cannot_be_read_is_told_and_the_copy_counts() {
    let mut run = Run::running();
    run.later(60);
    let mut result = good();
    result.heartbeat_error = Some("the writer is gone".into());
    run.end(result.encode().ok(), false);
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
    assert_eq!(run.status.heartbeat, None);
    assert!(run.status.message.as_ref().unwrap().ends_with("the writer is gone"));
    let told = &run.status.conditions[0];
    assert_eq!((told.type_.as_str(), told.status.as_str()), ("HeartbeatRead", "False"));
}

#[test]
fn b6_a_run_beyond_its_deadline_is_ended_and_failed() {
    let mut run = Run::running();
    run.later(7_198);
    assert_eq!(run.pass(), RunStep::Nothing);
    assert_eq!(run.ask().wake_at, Some(at("2026-11-23T04:00:01Z")));
    assert_eq!(run.later(1).pass(), RunStep::StopJob("job-1".into()));
    assert_eq!(run.status.phase, BackupPhase::Running, "its pod may still write");
    run.later(20).job = JobFact::Absent;
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "DeadlineExceeded"));

    // The cluster ended it first.
    let mut run = Run::running();
    run.end(None, true);
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "DeadlineExceeded"));
    assert!(run.status.log_tail.as_ref().is_some_and(|log| log.len() <= 4_000 && log.ends_with("end of the log")));
}

#[test]
fn b6_a_run_that_ended_well_while_it_was_being_ended_is_good() {
    let mut run = Run::running();
    run.later(7_300);
    assert_eq!(run.pass(), RunStep::StopJob("job-1".into()));
    run.end(good().encode().ok(), false);
    run.pass();
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
}

#[test]
fn b7_a_job_made_before_a_crash_is_taken_up_and_a_foreign_one_skips_the_slot() {
    let mut run = Run::claimed();
    run.job = JobFact::Ours(JobState {
        uid: "job-1".into(),
        created_at: run.now,
        deadline_seconds: None,
        ended: None,
        has_pod: true,
        waiting: None,
        log_tail: None,
    });
    assert_eq!(run.pass(), RunStep::Nothing, "no second Job");
    assert_eq!(run.status.job.as_ref().unwrap().uid.as_deref(), Some("job-1"));

    let mut run = Run::claimed();
    run.job = JobFact::Foreign;
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Skipped, "NameTaken"));

    let mut run = Run::claimed();
    run.job = JobFact::Unknown;
    assert_eq!(run.pass(), RunStep::Nothing);
    assert_eq!(run.status.phase, BackupPhase::Pending);
}

#[test]
fn b8_a_killed_pod_ends_the_run() {
    let mut run = Run::running();
    if let JobFact::Ours(job) = &mut run.job {
        let pod = PodEnd { reason: Some("Evicted".into()), ..PodEnd::default() };
        job.ended = Some(JobEnd { deadline_exceeded: false, at: run.now, pod });
    }
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "Evicted"));

    let mut run = Run::running();
    run.job = JobFact::Absent;
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "JobDeleted"));
}

#[test]
fn b9_a_volume_that_is_never_bound_fails_the_run_with_that_reason() {
    let mut run = Run::running();
    if let JobFact::Ours(job) = &mut run.job {
        job.waiting = Some("pod has unbound immediate PersistentVolumeClaims".into());
    }
    run.pass();
    assert!(run.status.message.as_ref().unwrap().contains("unbound"));
    assert_eq!(run.later(7_300).pass(), RunStep::StopJob("job-1".into()));
    run.job = JobFact::Absent;
    run.pass();
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "NeverStarted"));
    assert!(run.status.message.as_ref().unwrap().contains("unbound"));
    assert_eq!(run.status.waiting, None);
}

#[test]
fn b9_what_the_pod_waited_for_is_told_although_kubernetes_ended_the_job_and_removed_the_pod() {
    let gone = || PodEnd { reason: Some(POD_GONE.into()), ..PodEnd::default() };
    for (waited, reason) in
        [(Some("unbound".to_owned() + &"!".repeat(5_000)), "NeverStarted"), (None, "DeadlineExceeded")]
    {
        let mut run = Run::running();
        let JobFact::Ours(job) = &mut run.job else { unreachable!() };
        job.waiting = Some("no node takes it".into());
        run.pass();
        let JobFact::Ours(job) = &mut run.job else { unreachable!() };
        job.waiting.clone_from(&waited);
        run.pass();
        assert!(run.status.message.as_ref().unwrap().len() < 2_048);
        let at = run.later(7_100).now;
        let JobFact::Ours(job) = &mut run.job else { unreachable!() };
        (job.has_pod, job.waiting) = (false, None);
        run.pass();
        let JobFact::Ours(job) = &mut run.job else { unreachable!() };
        job.ended = Some(JobEnd { deadline_exceeded: true, at, pod: gone() });
        assert_eq!(run.pass(), RunStep::Release);
        assert_eq!(run.ended_with(), (BackupPhase::Failed, reason));
        assert_eq!(run.status.message.as_ref().unwrap().contains("unbound"), waited.is_some());
    }
}

#[test]
fn what_the_tool_wrote_last_stays_although_its_pod_is_removed() {
    let mut run = Run::running();
    let JobFact::Ours(job) = &mut run.job else { unreachable!() };
    job.log_tail = Some("42 %: 1 of 2 files\nthis pod is being ended; restic is asked to end".into());
    assert_eq!(run.pass(), RunStep::Nothing);
    let at = run.later(7_100).now;
    let JobFact::Ours(job) = &mut run.job else { unreachable!() };
    (job.has_pod, job.log_tail) = (false, None);
    let pod = PodEnd { reason: Some(POD_GONE.into()), ..PodEnd::default() };
    job.ended = Some(JobEnd { deadline_exceeded: true, at, pod });
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "DeadlineExceeded"));
    assert!(run.status.log_tail.as_ref().is_some_and(|log| log.starts_with("42 %")), "{:?}", run.status.log_tail);

    let mut run = Run::running();
    let JobFact::Ours(job) = &mut run.job else { unreachable!() };
    job.log_tail = Some("a warning".into());
    run.pass();
    run.end(good().encode().ok(), false);
    run.pass();
    assert_eq!((run.status.phase, run.status.log_tail.as_deref()), (BackupPhase::Succeeded, None), "nobody needs it");
}

#[test]
fn b9_a_partial_run_keeps_what_it_has_and_says_so() {
    let mut run = Run::running();
    let mut result = good();
    (result.exit_code, result.error_count) = (Some(3), 2);
    run.end(result.encode().ok(), false);
    run.pass();
    assert_eq!(run.ended_with(), (BackupPhase::PartiallyFailed, "Incomplete"));
    assert!(run.status.point.is_some() && run.status.log_tail.is_some());
}

#[test]
fn b10_a_dump_that_broke_off_leaves_no_recovery_point() {
    let mut run = Run::running();
    let mut result = good();
    result.source_exit_code = Some(1);
    run.end(result.encode().ok(), false);
    run.pass();
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "SourceFailed"));
    assert_eq!(run.status.point, None);
}

#[test]
fn b13_a_run_waits_for_the_repository_but_not_for_ever() {
    let mut run = Run::new();
    run.repository = RepositoryFact::Waiting("prune holds it alone");
    assert_eq!(run.pass(), RunStep::Claim);
    assert!(run.status.message.as_ref().unwrap().contains("prune"));
    assert_eq!(run.later(3_599).pass(), RunStep::Claim);
    assert_eq!(run.later(1).pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "RepositoryBusy"));
    assert_eq!(run.status.job, None);
}

#[test]
fn b13_the_repository_is_not_let_go_while_a_job_may_still_appear() {
    for replaced in [true, false] {
        let mut run = Run::claimed();
        run.deleting = !replaced;
        run.replaced = replaced;
        assert_eq!(run.pass(), RunStep::Nothing, "a creation may be on its way");
        assert_eq!(run.later(59).pass(), RunStep::Nothing);
        let mut arrived = JobState {
            uid: "job-1".into(),
            created_at: run.now,
            deadline_seconds: None,
            ended: None,
            has_pod: true,
            waiting: None,
            log_tail: None,
        };
        run.job = JobFact::Ours(arrived.clone());
        assert_eq!(run.pass(), RunStep::StopJob("job-1".into()));
        arrived.ended = Some(JobEnd { deadline_exceeded: false, at: run.now, pod: PodEnd::default() });
        run.job = JobFact::Ours(arrived);
        assert_eq!(run.pass(), RunStep::Release);
        assert_eq!(run.ended_with().1, if replaced { "Replaced" } else { "Deleted" });

        let mut run = Run::claimed();
        run.deleting = true;
        run.pass();
        assert_eq!(run.later(60).pass(), RunStep::Release);
    }
    // A run that has ended keeps the repository as long as its Job lives.
    let mut run = Run::running();
    run.status.phase = BackupPhase::Failed;
    assert_eq!(run.pass(), RunStep::StopJob("job-1".into()));
    run.job = JobFact::Unknown;
    assert_eq!(run.pass(), RunStep::Nothing);
}

#[test]
fn a_refused_job_a_missing_policy_and_another_one_of_its_name_fail_the_run() {
    let mut run = Run::claimed();
    run.job = JobFact::Refused("exceeded quota".into());
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "JobRefused"));

    let mut run = Run::new();
    run.policy = None;
    run.later(30).pass();
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "PolicyGone"));

    let mut run = Run::new();
    run.pin.policy_uid = "policy-2".into();
    run.later(30).pass();
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "PolicyGone"));
}

#[test]
fn what_a_run_refers_to_may_come_after_it() {
    let nothing: fn(&mut Run) = |run| run.policy = None;
    let invalid: fn(&mut Run) = |run| run.refusal = Some("no System lists namespace teller".into());
    for (missing, told, reason) in [(nothing, "does not exist", "PolicyGone"), (invalid, "no System", "JobRefused")] {
        let mut run = Run::new();
        missing(&mut run);
        assert_eq!(run.later(29).pass(), RunStep::Nothing);
        assert_eq!(run.status.phase, BackupPhase::Pending);
        let message = run.status.message.clone().unwrap();
        assert!(message.starts_with("waits until 2026-11-23T02:00:30Z: ") && message.contains(told), "{message}");
        assert_eq!(run.ask().wake_at, Some(at("2026-11-23T02:00:30Z")));
        let came = Run::new();
        (run.policy, run.refusal) = (came.policy, came.refusal);
        assert_eq!(run.pass(), RunStep::Claim, "it came in time");
        // Once the run asked for its place, what goes missing is gone.
        missing(&mut run);
        run.later(0).pass();
        assert_eq!(run.ended_with(), (BackupPhase::Failed, reason));
    }
}

#[test]
fn what_has_ended_stays_as_it_is() {
    let mut run = Run::running();
    run.end(good().encode().ok(), false);
    run.pass();
    let ended = run.status.clone();
    run.policy = None;
    run.job = JobFact::Absent;
    assert_eq!(run.later(1_000_000).pass(), RunStep::Release);
    assert_eq!(run.status, ended);
}

fn hooked() -> Run {
    let mut run = Run::new();
    run.policy = Some(policy_spec(|s| {
        let hook = |name: &str| json!({"name": name, "timeout": "30s", "http": {"url": "http://app.teller.svc/x"}});
        s["hooks"] = json!({"before": [hook("freeze"), hook("flush")], "after": [hook("thaw"), hook("tell")]});
    }));
    run.pass();
    run.repository = RepositoryFact::Held;
    run
}

fn asked(name: &str, after: bool) -> RunStep {
    RunStep::RunHook { name: name.into(), after }
}

fn done(name: &str, after: bool, problem: Option<&str>) -> HookDone {
    HookDone { name: name.into(), after, problem: problem.map(Into::into) }
}

/// Both hooks before the copying are done; the Job is to be made.
fn frozen() -> Run {
    let mut run = hooked();
    for name in ["freeze", "flush"] {
        assert_eq!(run.pass(), asked(name, false));
        run.hooks_done.push(done(name, false, None));
    }
    assert_eq!(run.pass(), RunStep::CreateJob);
    run
}

#[test]
fn hooks_run_in_order_and_once_around_the_copying() {
    let mut run = hooked();
    assert_eq!(run.pass(), asked("freeze", false));
    assert_eq!(run.later(5).pass(), RunStep::Nothing, "it is running, and not begun again");
    run.hooks_done.push(done("freeze", false, None));
    assert_eq!(run.pass(), asked("flush", false));
    run.hooks_done.push(done("flush", false, None));
    assert_eq!(run.pass(), RunStep::CreateJob);
    run.job = JobFact::Ours(JobState {
        uid: "job-1".into(),
        created_at: run.now,
        deadline_seconds: None,
        ended: None,
        has_pod: true,
        waiting: None,
        log_tail: None,
    });
    run.pass();
    run.end(good().encode().ok(), false);
    assert_eq!(run.pass(), asked("thaw", true));
    assert_eq!(run.status.phase, BackupPhase::Running, "not over while something is frozen");
    run.hooks_done.push(done("thaw", true, Some("503")));
    assert_eq!(run.pass(), asked("tell", true));
    run.hooks_done.push(done("tell", true, None));
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
    let told = &run.status.conditions[0];
    assert!(told.status == "False" && told.message.contains("thaw") && !told.message.contains("tell"), "{told:?}");
}

#[test]
fn what_was_judged_stays_while_hooks_run_and_a_policy_that_is_gone_is_told() {
    let mut run = frozen();
    run.job = Run::running().job;
    run.pass();
    run.end(good().encode().ok(), false);
    assert_eq!(run.pass(), asked("thaw", true));
    // The node is drained meanwhile.
    run.end(None, false);
    run.hooks_done.push(done("thaw", true, None));
    assert_eq!(run.pass(), asked("tell", true));
    run.policy = None;
    run.hooks_done.push(done("tell", true, None));
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
    assert!(run.status.point.is_some() && run.status.judged.is_none());
    let told = &run.status.conditions[0];
    assert!(told.status == "False" && told.message.contains("the policy was deleted"), "{told:?}");
}

#[test]
fn a_hook_that_an_edit_takes_away_while_it_runs_is_not_told_to_have_done_what_it_should() {
    let mut run = frozen();
    run.job = Run::running().job;
    run.pass();
    run.end(good().encode().ok(), false);
    assert_eq!(run.pass(), asked("thaw", true));
    run.policy = Some(policy_spec(|s| s["hooks"] = json!({"before": [], "after": []})));
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Succeeded, "Complete"));
    let told = &run.status.conditions[0];
    assert!(told.status == "False" && told.message.contains("thaw"), "{told:?}");
}

#[test]
fn a_failed_hook_stops_the_run_and_what_was_frozen_is_thawed() {
    for crashed in [true, false] {
        let mut run = hooked();
        run.pass();
        if crashed {
            assert_eq!(run.later(29).pass(), RunStep::Nothing);
            run.later(1);
        } else {
            run.hooks_done.push(done("freeze", false, Some("503")));
        }
        assert_eq!(run.pass(), asked("thaw", true));
        run.hooks_done.push(done("thaw", true, None));
        assert_eq!(run.pass(), asked("tell", true));
        run.hooks_done.push(done("tell", true, None));
        assert_eq!(run.pass(), RunStep::Release);
        assert_eq!(run.ended_with(), (BackupPhase::Failed, "HookFailed"));
        assert_eq!(run.status.job.as_ref().unwrap().uid, None, "no Job was made");
    }
}

#[test]
fn a_refused_job_is_not_made_again_once_what_was_frozen_is_thawed() {
    let mut run = frozen();
    run.job = JobFact::Refused("exceeded quota".into());
    assert_eq!(run.pass(), asked("thaw", true));
    run.job = JobFact::Absent;
    assert_eq!(run.later(1).pass(), RunStep::Nothing);
    run.hooks_done.push(done("thaw", true, None));
    assert_eq!(run.later(60).pass(), asked("tell", true));
    run.hooks_done.push(done("tell", true, None));
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "JobRefused"));
}

#[test]
fn objects_are_recorded_before_they_are_stored_and_stored_before_the_job_is_made() {
    let objects = |run: &mut Run| {
        run.policy = Some(policy_spec(|spec| spec["source"] = json!({"objects": {}})));
        assert_eq!(run.pass(), RunStep::Claim);
        run.repository = RepositoryFact::Held;
        assert_eq!(run.later(1).pass(), RunStep::StoreObjects);
        assert_eq!(run.status.objects, None);
    };
    let record = ObjectsRecord { manifests: 3, bytes: 99, chunks: vec!["sha256:1".into()], secrets: 1, stored: false };
    let mut run = Run::new();
    objects(&mut run);
    run.objects = Some(ObjectsFact::Read(record.clone()));
    assert_eq!(run.pass(), RunStep::StoreObjects);
    assert_eq!(run.status.objects.as_ref(), Some(&record));
    // A crash: what was recorded may be stored in part, so it is read and recorded anew.
    run.objects = None;
    assert_eq!(run.pass(), RunStep::StoreObjects);
    run.objects = Some(ObjectsFact::Stored);
    assert_eq!(run.pass(), RunStep::CreateJob);
    assert!(run.status.objects.as_ref().unwrap().stored);
    run.objects = None;
    assert_eq!(run.pass(), RunStep::CreateJob);
    let mut run = Run::new();
    objects(&mut run);
    run.objects = Some(ObjectsFact::Failed(Outcome::failed(Reason::Forbidden, "may not list Secrets")));
    assert_eq!(run.pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "Forbidden"));
}

#[test]
fn a_repository_of_which_nothing_is_known_is_not_waited_for_for_ever() {
    let mut run = Run::new();
    assert_eq!(run.pass(), RunStep::Claim);
    let until = run.ask().wake_at.unwrap();
    assert_eq!(until, at("2026-11-23T03:00:00Z"));
    assert_eq!(run.later(3_600).pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "RepositoryBusy"));
}

#[test]
fn b13_pods_whose_job_was_deleted_keep_the_repository_until_they_have_ended() {
    let mut run = Run::running();
    run.job = JobFact::Leaving("teller-db-1-x7".into());
    assert_eq!(run.pass(), RunStep::Nothing);
    assert!(run.status.message.as_ref().unwrap().contains("pod teller-db-1-x7"));
    assert_eq!(run.ask().wake_at, Some(run.now.checked_add(SignedDuration::from_secs(30)).unwrap()));
    run.status.phase = BackupPhase::Failed;
    assert_eq!(run.pass(), RunStep::Nothing, "nor when it has ended");
    run.job = JobFact::Absent;
    assert_eq!(run.pass(), RunStep::Release);
}

#[test]
fn what_is_refused_at_length_is_told_as_far_as_there_is_room() {
    let mut run = Run::claimed();
    run.job = JobFact::Refused("x".repeat(9_000));
    run.pass();
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "JobRefused"));
    assert_eq!(run.status.message.as_ref().unwrap().len(), 2_048);
    let outcome = Outcome::failed(Reason::JobRefused, "x".repeat(9_000));
    assert_eq!(super::super::run::stop_record(&outcome, run.now).message.len(), 1_024);
}

#[test]
fn a_run_that_may_not_be_begun_any_more_makes_no_job() {
    let mut run = Run::claimed();
    run.refusal = Some("BackupRepository vault was replaced".into());
    assert_eq!(run.pass(), RunStep::Nothing, "a creation may be on its way");
    assert_eq!(run.later(60).pass(), RunStep::Release);
    assert_eq!(run.ended_with(), (BackupPhase::Failed, "JobRefused"));
}

#[test]
fn times_of_any_year_are_recorded_as_ones_that_can_be_written() {
    let ancient: Timestamp = "-009999-01-02T01:59:59Z".parse().unwrap();
    let read = HeartbeatRead { seq: 1, time: ancient, nonce: "00".repeat(16), read_at: Some(ancient) };
    let record = read.record("hmac".into());
    let year = at("0001-01-01T00:00:00Z");
    assert_eq!((record.time.0, record.read_at.unwrap().0), (year, year));
}
