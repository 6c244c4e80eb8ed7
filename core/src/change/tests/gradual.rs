//! What of a change is released gradually, and what a plan that does not fit leads to.

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_crds::{
    ApprovalDecision::Approve, ChangePhase, OnFailure, PartOf, Rollout, RolloutPhase, RolloutStatus, RunDirection,
    RunRecord, StepGate, StepState, Verb, VoteState,
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{
    Case, NOW, at, live_deployment,
    waits::{settle, state_of, two_of_sre},
};
use crate::{
    admission::{
        Denial, Operation, User, Verdict, WriteRequest,
        own::{self, OwnFacts},
    },
    change::{
        Content, Intent,
        before::{BeforeState, Prepared},
        digest::ResolvedPlan,
        facts::{Command, PlanFacts, RequestFacts, SealedFacts},
        gradual,
        run::{self, RunFacts, Step},
        sealed,
    },
    drill::proof::{Lapse, Proof, Shown},
    object::{Digest, Health, ObjectId},
    people::People,
    rollout::RolloutVerb,
};

fn plan_of(steps: &Value) -> PlanFacts {
    let spec = serde_json::from_value(json!({"canary": {"steps": steps}})).unwrap();
    let digest = Digest::of_canonical(&spec).unwrap();
    let resolved = ResolvedPlan { digest, name: "teller/cautious".into(), uid: "p-1".into() };
    PlanFacts::Known { resolved, spec: Arc::new(spec) }
}

fn careful() -> PlanFacts {
    plan_of(&json!([{"setWeight": 25}, {"pause": {}}]))
}

fn message(case: &mut Case) -> String {
    settle(case).status.message.unwrap_or_default()
}

#[test]
fn an_edit_of_the_plan_makes_votes_stale() {
    let mut case = Case::new(two_of_sre(), &json!({"rolloutPlanRef": {"name": "cautious"}}));
    case.plan = careful();
    settle(&mut case);
    case.vote("bob", Approve);
    assert_eq!(state_of(&settle(&mut case), "bob"), [VoteState::Approves]);
    case.plan = plan_of(&json!([{"setWeight": 50}]));
    assert_eq!(state_of(&settle(&mut case), "bob"), [VoteState::Stale]);
}

#[test]
fn a_missing_or_unusable_plan_is_waited_for_and_says_what_to_do() {
    let mut case = Case::new(two_of_sre(), &json!({"rolloutPlanRef": {"name": "cautious"}}));
    case.plan = PlanFacts::Missing { key: "teller/cautious".into(), is_default: false };
    assert_eq!(message(&mut case), "RolloutPlan teller/cautious does not exist; create it or leave rolloutPlanRef out");
    case.plan = PlanFacts::Missing { key: "bank/usual".into(), is_default: true };
    assert_eq!(
        message(&mut case),
        "RolloutPlan bank/usual, the System's default, does not exist; create it or name another one with rolloutPlanRef"
    );
    case.plan = plan_of(&json!([{"analysis": ["errors"]}]));
    assert!(
        message(&mut case).contains("a step names the analysis errors, and it lists none"),
        "{}",
        message(&mut case)
    );
    case.plan = careful();
    assert_eq!(settle(&mut case).status.phase, ChangePhase::Pending);
    assert!(message(&mut case).starts_with("Approval:"), "it heals by itself: {}", message(&mut case));
}

#[test]
fn a_step_that_waits_for_a_proof_needs_a_policy_that_says_how_old_it_may_be() {
    let steps = json!([{"setWeight": 25}, {"gate": {"name": "RestoreProof"}}]);
    let with = |rule: Value| {
        let mut policy = two_of_sre();
        policy["types"]["normal"]["gates"] = rule;
        let mut case = Case::new(policy, &json!({"rolloutPlanRef": {"name": "cautious"}}));
        case.plan = plan_of(&steps);
        case
    };
    for rule in [json!({}), json!({"restoreProof": {"mode": "Off", "maxAge": "35d"}})] {
        let mut case = with(rule);
        let said = message(&mut case);
        assert!(said.contains("step 1 of RolloutPlan teller/cautious waits for gate RestoreProof"), "{said}");
        let gates = gradual::step_gates(&case.facts(), None, at(NOW));
        assert!(!gates[&StepGate::RestoreProof].open && gates[&StepGate::Window].open, "{gates:?}");
    }
    let waves = serde_json::from_value(json!({"waves": [
        {"name": "first", "targets": [], "canary": {"steps": [{"setWeight": 25}]}},
        {"name": "second", "targets": [], "canary": {"steps": steps}},
    ]}));
    let mut case = with(json!({}));
    let PlanFacts::Known { resolved, .. } = careful() else { panic!() };
    case.plan = PlanFacts::Known { resolved, spec: Arc::new(waves.unwrap()) };
    let said = message(&mut case);
    assert!(said.contains("wave second, step 1 of RolloutPlan"), "{said}");

    let mut case = with(json!({"restoreProof": {"mode": "Warn", "maxAge": "35d"}}));
    let said = message(&mut case);
    assert!(said.starts_with("Approval:"), "{said}");
    let mut gate = |proof: Option<Proof>| {
        case.later.restore_proof = proof;
        gradual::step_gates(&case.facts(), None, at(NOW)).remove(&StepGate::RestoreProof).unwrap()
    };
    assert!(!gate(None).open, "unknown is closed");
    let failed = gate(Some(Shown::Failed("drill monthly failed".into()).into()));
    assert!(!failed.open && failed.message.contains("drill monthly failed"), "{failed:?}");
    let passed = gate(Some(Shown::Passed(at(NOW), "drill monthly passed".into()).into()));
    assert_eq!((passed.open, passed.changes_at), (true, Some(at(NOW) + SignedDuration::from_hours(35 * 24))));
    let due = at(NOW) + SignedDuration::from_hours(1);
    let exposed = Some(Lapse { from: due, sentence: "the data is too old".into() });
    let soon = gate(Some(Proof { exposed, ..Shown::Passed(at(NOW), "drill monthly passed".into()).into() }));
    assert_eq!((soon.open, soon.changes_at), (true, Some(due)), "it is looked at again when that moment has come");
}

fn request(manifests: &Value) -> RequestFacts {
    Case::new(two_of_sre(), &json!({"content": {"manifests": manifests}})).request
}

fn prepared(live: Option<Value>, wanted: Value) -> Prepared {
    let id = ObjectId::of(&wanted).unwrap();
    let object = crate::change::ContentObject { id, intent: Intent::Apply, manifest: wanted.clone(), staged: None };
    Prepared { object, live, dry_run: Some(wanted) }
}

fn workload(name: &str, image: &str) -> Value {
    let mut object = live_deployment();
    object["metadata"]["name"] = json!(name);
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    object["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "limits"}}]);
    object
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "teller"}, "data": {"max": value}})
}

fn before(prepared: &[Prepared]) -> (BeforeState, RequestFacts) {
    (BeforeState::plan("cr-uid", "sha256:00", prepared, Vec::new()), request(&json!([])))
}

fn a_release() -> (BeforeState, RequestFacts) {
    before(&[
        prepared(Some(workload("teller", "teller:1")), workload("teller", "teller:2")),
        prepared(Some(config("limits", "5")), config("limits", "9")),
        prepared(Some(config("other", "5")), config("other", "9")),
    ])
}

#[test]
fn the_workload_and_the_configuration_that_its_pods_read_are_left_to_the_rollout() {
    let (mut before, request) = a_release();
    gradual::plan_into(&mut before, &careful(), &request).unwrap();
    let found: Vec<_> = before.entries.iter().map(|e| (e.id.kind.as_str(), e.id.name.as_str(), e.gradual)).collect();
    assert_eq!(
        found,
        [
            ("ConfigMap", "limits", true),
            ("ConfigMap", "other", false),
            ("Rollout", "teller-2-3-2-cr-uid", false),
            ("Deployment", "teller", true)
        ]
    );
    let target = gradual::target(&rollout_of(&before), &before).unwrap();
    assert_eq!((target.configs.len(), &target.configs[0].wanted["data"]["max"]), (1, &json!("9")));
    assert_eq!(before.effects().len(), 3, "the Rollout itself is no effect of the change");
    let (bytes, digest) = before.to_bytes().unwrap();
    assert_eq!(BeforeState::from_bytes(&bytes, &digest.to_string()).unwrap(), before);
}

#[test]
fn a_change_that_gives_no_pod_anything_new_is_carried_out_at_once() {
    let mut scaled = workload("teller", "teller:1");
    scaled["spec"]["replicas"] = json!(9);
    let (mut state, request) = before(&[prepared(Some(workload("teller", "teller:1")), scaled)]);
    gradual::plan_into(&mut state, &careful(), &request).unwrap();
    assert!(state.rollout_plan.is_none() && state.entries.iter().all(|entry| !entry.gradual && !entry.is_rollout()));
}

#[test]
fn what_does_not_fit_the_plan_is_refused() {
    let two = ["teller", "queue"].map(|name| prepared(Some(workload(name, "a:1")), workload(name, "a:2")));
    let (mut state, request) = before(&two);
    let why = gradual::plan_into(&mut state, &careful(), &request).unwrap_err();
    assert!(why.contains("Deployment teller, Deployment queue") && why.contains("takes one workload"), "{why}");
    let set = |image: &str| {
        let mut set = workload("db", image);
        set["kind"] = json!("StatefulSet");
        set
    };
    let (mut state, request) = before(&[prepared(Some(set("a:1")), set("a:2"))]);
    let why = gradual::plan_into(&mut state, &careful(), &request).unwrap_err();
    assert!(why.contains("takes a Deployment") && why.contains("StatefulSet db"), "{why}");
}

fn rollout_of(before: &BeforeState) -> Rollout {
    let entry = before.entries.iter().find(|entry| entry.is_rollout()).unwrap();
    serde_json::from_value(entry.manifest.clone().unwrap()).unwrap()
}

#[test]
fn a_rollout_with_another_plan_or_name_is_nobodys() {
    let (mut before, request) = a_release();
    gradual::plan_into(&mut before, &careful(), &request).unwrap();
    let own = rollout_of(&before);
    assert!(gradual::belongs(&own, None, &before));
    let mut bolder = own.clone();
    bolder.spec.plan.canary.as_mut().unwrap().steps.clear();
    assert!(!gradual::belongs(&bolder, None, &before));
    let mut named = own;
    named.metadata.name = Some("other".into());
    assert!(!gradual::belongs(&named, None, &before));
}

#[test]
fn a_rollout_that_went_back_fails_its_change_and_one_that_moves_is_waited_for() {
    let rollout = |phase: RolloutPhase| {
        let status = RolloutStatus { phase, message: Some("too slow".into()), ..RolloutStatus::default() };
        json!({"status": status})
    };
    assert_eq!(gradual::progress(&rollout(RolloutPhase::Succeeded)), Health::Healthy);
    assert!(matches!(gradual::progress(&rollout(RolloutPhase::Paused)), Health::Progressing(_)));
    assert!(matches!(gradual::progress(&json!({})), Health::Progressing(_)), "nobody has looked at it yet");
    for phase in [RolloutPhase::RolledBack, RolloutPhase::Failed] {
        assert!(matches!(gradual::progress(&rollout(phase)), Health::Failed(why) if why.contains("too slow")));
    }
    assert!(gradual::has_returned(&rollout(RolloutPhase::RolledBack)));
    assert!(!gradual::has_returned(&rollout(RolloutPhase::Aborting)));
}

/// A write of one of Interlock's kinds, judged; the reason if it is denied.
fn judged(case: &mut Case, kind: &str, operation: Operation, user: &str, object: Value) -> Option<String> {
    denied(case, kind, operation, user, object).map(|denial| denial.reason)
}

fn denied(case: &mut Case, kind: &str, operation: Operation, user: &str, object: Value) -> Option<Denial> {
    let rollout: Rollout = serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "teller", "uid": "ro-1"},
        "spec": {"changeRequest": {"name": "teller-2-3-2", "uid": "cr-uid"}, "changeDigest": "", "plan": {}, "targets": []},
    }))
    .unwrap();
    let (people, claims) = (People::default(), BTreeMap::new());
    let change = case.facts();
    let facts = OwnFacts {
        controller: "controller",
        change: Some(&change),
        rollout: Some(&rollout),
        releases: &[],
        terminating: false,
        needed_by: &[],
        root: None,
        people: &people,
        claims: &claims,
        system: None,
        now: Some(at(NOW)),
    };
    let request = WriteRequest {
        uid: "r".into(),
        operation,
        group: interlock_crds::GROUP.into(),
        version: interlock_crds::VERSION.into(),
        kind: kind.into(),
        resource: format!("{}s", kind.to_lowercase()),
        subresource: None,
        namespace: Some("teller".into()),
        name: Some("r".into()),
        user: User { name: user.into(), ..User::default() },
        dry_run: false,
        object: (operation != Operation::Delete).then(|| object.clone()),
        old: (operation != Operation::Create).then_some(object),
        options: None,
    };
    match own::judge(&facts, &request) {
        Verdict::Deny(denial) => Some(denial),
        Verdict::Allow { .. } => None,
    }
}

#[test]
fn rollouts_are_the_controllers_and_plans_that_cannot_work_are_not_stored() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    for operation in [Operation::Create, Operation::Update] {
        assert_eq!(judged(&mut case, "Rollout", operation, "controller", json!({})), None);
        let denied = judged(&mut case, "Rollout", operation, "alice", json!({}));
        assert_eq!(denied.as_deref(), Some("RolloutIsInterlocks"));
    }
    assert_eq!(judged(&mut case, "Rollout", Operation::Delete, "alice", json!({})), None, "the requester may abort");
    assert_eq!(judged(&mut case, "Rollout", Operation::Delete, "mallory", json!({})).as_deref(), Some("NotOperator"));
    let plan = |steps: Value| json!({"spec": {"canary": {"steps": steps}}});
    assert_eq!(judged(&mut case, "RolloutPlan", Operation::Create, "alice", plan(json!([{"setWeight": 20}]))), None);
    for step in [
        json!({"analysis": ["errors"]}),
        json!({"gate": {"name": "ErrorBudget"}}),
        json!({"gate": {"name": "OpenIncident"}}),
    ] {
        let denied = judged(&mut case, "RolloutPlan", Operation::Update, "alice", plan(json!([step])));
        assert_eq!(denied.as_deref(), Some("BadRolloutPlan"), "{step}");
    }
}

#[test]
fn steps_that_could_never_be_complete_are_refused_with_what_to_write_instead() {
    let said = |canary: Value| {
        let spec = serde_json::from_value(json!({"canary": canary, "analyses": [
            {"name": "errors", "noData": "Pass", "successWhen": "result < 1", "prometheus": {"address": "http://p:9090", "query": "e"}}]}));
        let spec = spec.unwrap();
        (gradual::unsupported(&spec), gradual::warnings(&spec))
    };
    let (refusal, warnings) = said(json!({"steps": [{"setWeight": 20}]}));
    assert_eq!(refusal, None);
    assert!(matches!(warnings.as_slice(), [one] if one.starts_with("analysis errors, noData: ")), "{warnings:?}");
    for (canary, why) in [
        (
            json!({"steps": [{"setWeight": 20}], "background": {"analyses": ["errors"], "startingStep": 1}}),
            "background begins with step 1, and there are 1, counted from 0: it would never begin",
        ),
        (
            json!({"steps": [{"setReplicas": 5}], "maxCanaryReplicas": 4}),
            "step 0 asks for 5 pods, and maxCanaryReplicas is 4: raise it, or ask for less",
        ),
        (
            json!({"steps": [{"job": {"name": "smoke", "spec": {"template": {"spec": {"containers": []}}}}}]}),
            "job smoke in step 0 has no containers: give spec.template.spec.containers",
        ),
        (
            json!({"steps": [{"analysis": ["latency"]}]}),
            "a step names the analysis latency, and it lists errors: add it to analyses, or correct the name",
        ),
    ] {
        assert_eq!(said(canary).0.as_deref(), Some(why));
    }
}

#[test]
fn batches_that_shrink_and_waves_of_workloads_that_they_do_not_take_are_refused_with_what_to_write_instead() {
    let said = |spec: Value| gradual::unsupported(&serde_json::from_value(spec).unwrap());
    let batches = |steps: Value| said(json!({"batches": {"steps": steps}}));
    assert_eq!(batches(json!([{"setWeight": 25}, {"setReplicas": 9}, {"pause": {}}, {"setWeight": 50}])), None);
    let why = "and batches only grow, as pods are replaced in their place: ask for more, or leave it out";
    for (steps, says) in [
        (json!([{"setWeight": 50}, {"pause": {}}, {"setWeight": 25}]), "2 asks for 25 percent after 50"),
        (json!([{"setReplicas": 5}, {"setWeight": 80}, {"setReplicas": 3}]), "2 asks for 3 pods after 5"),
    ] {
        assert_eq!(batches(steps), Some(format!("step {says}, {why}")));
    }
    // A canary's weight may go down.
    assert_eq!(said(json!({"canary": {"steps": [{"setWeight": 50}, {"setWeight": 25}]}})), None);
    let wave = |kind: &str, strategy: &str| {
        let targets = json!([{"kind": kind, "name": "teller"}]);
        said(json!({"waves": [{"name": "first", "targets": targets, strategy: {"steps": [{"setWeight": 25}]}}]}))
    };
    assert_eq!((wave("Deployment", "canary"), wave("DaemonSet", "batches")), (None, None));
    let (set, deployment) = (wave("StatefulSet", "canary").unwrap(), wave("Deployment", "batches").unwrap());
    assert!(
        set.starts_with("wave first: it is a canary, which takes a Deployment, and it names StatefulSet teller:"),
        "{set}"
    );
    let why = "wave first: it is batches, which takes a StatefulSet or DaemonSet, and it names Deployment teller:";
    assert!(deployment.starts_with(why), "{deployment}");
}

#[test]
fn commands_on_a_rollout_are_authorised_like_those_on_its_change() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    let mut command = |kind: &str, uid: &str, verb: Verb, actor: &str| {
        let spec = json!({"target": {"kind": kind, "name": "r", "uid": uid}, "verb": verb, "actor": actor});
        judged(&mut case, "Action", Operation::Create, actor, json!({ "spec": spec }))
    };
    assert_eq!(command("Rollout", "ro-1", Verb::Promote, "alice"), None);
    assert_eq!(command("Rollout", "ro-1", Verb::Promote, "mallory").as_deref(), Some("NotOperator"));
    assert_eq!(command("Rollout", "ro-2", Verb::Promote, "alice").as_deref(), Some("NoSuchRollout"));
    assert_eq!(command("Rollout", "ro-1", Verb::Rebase, "alice").as_deref(), Some("NotForRollouts"));
    assert_eq!(command("ChangeRequest", "cr-uid", Verb::Promote, "alice").as_deref(), Some("OnlyForRollouts"));
}

/// A run in which all but the Rollout is done, and what it does next.
struct Waiting {
    before: BeforeState,
    run: RunRecord,
    phase: ChangePhase,
}

impl Waiting {
    fn new() -> Self {
        let (mut before, request) = a_release();
        gradual::plan_into(&mut before, &careful(), &request).unwrap();
        let run = serde_json::from_value(json!({
            "epoch": 1, "changeDigest": "sha256:00", "executor": "executor", "beforeDigest": "", "beforeChunks": 1,
            "startedAt": NOW, "seal": "",
        }));
        let mut run = RunRecord { objects: before.journal(), ..run.unwrap() };
        for (object, entry) in run.objects.iter_mut().zip(&before.entries) {
            object.state = match (entry.is_rollout(), entry.gradual) {
                (true, _) => StepState::Written,
                (false, true) => StepState::Waiting,
                (false, false) => StepState::Done,
            };
        }
        Self { before, run, phase: ChangePhase::Running }
    }

    /// One step with the Rollout as it is; none if there is no Rollout any more. What it says.
    fn step(&mut self, on_failure: OnFailure, rollout: Option<&Value>, superseded_by: Option<&str>) -> String {
        let looked = (0..self.before.entries.len()).map(|index| (index, rollout.cloned())).collect();
        let (unsent, kept_out, run) = (std::collections::BTreeSet::new(), BTreeMap::new(), self.run.clone());
        let facts = RunFacts {
            run: &run,
            phase: self.phase,
            before: &self.before,
            looked: &looked,
            unsent: &unsent,
            kept_out: &kept_out,
            commands: &[],
            overrun: None,
            calendar_change: None,
            on_failure,
            deadline: SignedDuration::from_secs(60),
            superseded_by,
        };
        match run::next(&facts, at(NOW)) {
            Step::Record(run, phase, message)
            | Step::Finish(run, phase, message)
            | Step::Wait { run, phase, message, .. } => {
                (self.run, self.phase) = (*run, phase);
                message
            }
            other => panic!("{other:?}"),
        }
    }
}

fn stands(phase: RolloutPhase) -> Value {
    let status = RolloutStatus { phase, message: Some("Abort by bob".into()), ..RolloutStatus::default() };
    json!({"metadata": {"name": "r"}, "status": status})
}

#[test]
fn a_change_follows_its_rollout_that_went_back_only_where_it_waits_for_a_person() {
    for phase in [RolloutPhase::RolledBack, RolloutPhase::Failed] {
        let mut back = Waiting::new();
        back.step(OnFailure::Rollback, Some(&stands(phase)), None);
        assert_eq!((back.phase, back.run.direction), (ChangePhase::Running, RunDirection::Back));

        let mut waiting = Waiting::new();
        let said = waiting.step(OnFailure::Pause, Some(&stands(phase)), None);
        assert_eq!((waiting.phase, waiting.run.direction), (ChangePhase::Paused, RunDirection::Forward));
        for way in
            ["Abort by bob", "`interlock rollout retry`", "`interlock rollout promote --full`", "`interlock rollback`"]
        {
            assert!(said.contains(way), "{said}");
        }
        for still in [phase, RolloutPhase::Aborting] {
            assert_eq!(waiting.step(OnFailure::Pause, Some(&stands(still)), None), said, "nothing else is said");
            assert_eq!(waiting.phase, ChangePhase::Paused);
        }
        let said = waiting.step(OnFailure::Pause, Some(&stands(RolloutPhase::Progressing)), None);
        assert!(said.contains("is tried again"), "{said}");
        assert_eq!((waiting.phase, waiting.run.cause.as_deref()), (ChangePhase::Running, None));
        waiting.step(OnFailure::Pause, Some(&stands(RolloutPhase::Succeeded)), None);
        assert_eq!(waiting.phase, ChangePhase::Succeeded);
    }
}

#[test]
fn what_nobody_can_try_again_ends_its_change() {
    for (rollout, superseded_by) in
        [(None, None), (Some(stands(RolloutPhase::RolledBack)), Some("change teller/teller-2-4-0"))]
    {
        let mut waiting = Waiting::new();
        waiting.step(OnFailure::Pause, Some(&stands(RolloutPhase::RolledBack)), None);
        assert_eq!(waiting.phase, ChangePhase::Paused);
        waiting.step(OnFailure::Pause, rollout.as_ref(), superseded_by);
        assert_eq!((waiting.phase, waiting.run.direction), (ChangePhase::Running, RunDirection::Back));
        let mut running = Waiting::new();
        running.step(OnFailure::Pause, rollout.as_ref(), superseded_by);
        assert_eq!((running.phase, running.run.direction), (ChangePhase::Running, RunDirection::Back));
    }
    let mut failed = Waiting::new();
    failed.step(OnFailure::Pause, Some(&stands(RolloutPhase::Failed)), Some("change teller/teller-2-4-0"));
    assert_eq!(failed.phase, ChangePhase::Paused, "what still serves the new version is a person's to take back");
}

#[test]
fn whoever_resumes_a_change_tries_its_rollout_again_once_it_went_back_or_failed() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    let command = |verb: Verb, created: &str| Command {
        name: format!("{verb:?}"),
        target_uid: "cr-uid".into(),
        verb,
        actor: "alice".into(),
        reason: String::new(),
        created: at(created),
        sealed: Some(SealedFacts {
            user: "alice".into(),
            groups: Vec::new(),
            claims: Vec::new(),
            time: at(created),
            request_uid: format!("{verb:?}-{created}"),
        }),
    };
    case.commands = vec![
        command(Verb::Resume, "2026-11-24T07:00:00Z"),
        command(Verb::Pause, "2026-11-24T07:50:00Z"),
        command(Verb::Resume, "2026-11-24T07:55:00Z"),
    ];
    let (mut before, request) = a_release();
    gradual::plan_into(&mut before, &careful(), &request).unwrap();
    let mut rollout = rollout_of(&before);
    rollout.metadata.uid = Some("ro-1".into());
    let facts = case.facts();
    let mut commands = |phase: RolloutPhase, finished: &str| -> Vec<(RolloutVerb, String)> {
        let finished_at = phase.is_at_rest().then(|| Time(at(finished)));
        rollout.status = Some(RolloutStatus { phase, finished_at, ..RolloutStatus::default() });
        let counting = gradual::commands(&facts, &rollout, &[], at(NOW));
        counting.into_iter().map(|command| (command.verb, command.id)).collect()
    };
    for phase in [RolloutPhase::RolledBack, RolloutPhase::Failed] {
        let resumed = [(RolloutVerb::Retry, "Resume-2026-11-24T07:55:00Z".to_owned())];
        assert_eq!(commands(phase, "2026-11-24T07:40:00Z"), resumed);
        assert!(commands(phase, "2026-11-24T07:56:00Z").is_empty(), "it was given before");
    }
    assert!(commands(RolloutPhase::Paused, "").is_empty(), "it means what the change did not finish");
    assert!(commands(RolloutPhase::Succeeded, "2026-11-24T07:40:00Z").is_empty());
}

#[test]
fn who_commands_the_rollout_of_a_change_that_has_ended_is_told_how_to_go_on() {
    for (on_failure, phase, verb, said) in [
        ("Rollback", ChangePhase::RolledBack, Verb::Retry, "its contingency.onFailure is Rollback"),
        ("Rollback", ChangePhase::RolledBack, Verb::PromoteFully, "with contingency.onFailure: Pause"),
        ("Pause", ChangePhase::RolledBack, Verb::Retry, "has ended (RolledBack); propose a new change"),
        ("Rollback", ChangePhase::Succeeded, Verb::Abort, "has ended (Succeeded); propose a new change to undo it"),
    ] {
        let mut case = Case::new(two_of_sre(), &json!({"contingency": {"onFailure": on_failure}}));
        let finish = sealed::seal_finish(&case.seal, "cr-uid", phase, at(NOW), String::new()).unwrap();
        case.request.status.finished = Some(finish);
        let spec = json!({"target": {"kind": "Rollout", "name": "r", "uid": "ro-1"}, "verb": verb, "actor": "alice"});
        let denial = denied(&mut case, "Action", Operation::Create, "alice", json!({ "spec": spec })).unwrap();
        assert_eq!(denial.reason, "ChangeEnded");
        assert!(denial.message.contains(said), "{}", denial.message);
    }
}

#[test]
fn what_a_wave_went_on_without_is_as_before_and_named_when_the_change_ends() {
    let mut waiting = Waiting::new();
    let mut rollout = stands(RolloutPhase::Succeeded);
    let missed = json!([{"kind": "Deployment", "namespace": "teller", "name": "teller"}]);
    rollout["status"]["waves"] = json!([{"name": "first", "phase": "Complete", "missed": missed}]);
    let said = waiting.step(OnFailure::Rollback, Some(&rollout), None);
    assert_eq!(waiting.phase, ChangePhase::Succeeded);
    assert!(said.contains("ConfigMap teller/limits, apps/Deployment teller/teller: they went back"), "{said}");
    let states: Vec<_> = waiting.run.objects.iter().map(|object| object.state).collect();
    assert_eq!(states, [StepState::Reverted, StepState::Done, StepState::Done, StepState::Reverted]);
}

#[test]
fn configuration_goes_back_with_the_workload_that_got_copies_of_it_and_no_other() {
    let agent = |image: &str| {
        let mut object = workload("agent", image);
        object["kind"] = json!("DaemonSet");
        object
    };
    let (mut state, request) = before(&[
        prepared(Some(workload("teller", "teller:1")), workload("teller", "teller:2")),
        prepared(Some(agent("agent:1")), agent("agent:2")),
        prepared(Some(config("limits", "5")), config("limits", "9")),
    ]);
    let target = |kind: &str, name: &str| json!([{"kind": kind, "name": name}]);
    let steps = json!({"steps": [{"setWeight": 20}]});
    let waves = json!([
        {"name": "first", "targets": target("Deployment", "teller"), "canary": steps},
        {"name": "second", "targets": target("DaemonSet", "agent"), "batches": steps},
    ]);
    let PlanFacts::Known { resolved, .. } = careful() else { panic!("the plan is known") };
    let spec = Arc::new(serde_json::from_value(json!({ "waves": waves })).unwrap());
    gradual::plan_into(&mut state, &PlanFacts::Known { resolved, spec }, &request).unwrap();
    for (kind, name, back) in
        [("DaemonSet", "agent", vec!["agent"]), ("Deployment", "teller", vec!["limits", "teller"])]
    {
        let mut rollout = stands(RolloutPhase::Succeeded);
        let missed = json!([{"kind": kind, "namespace": "teller", "name": name}]);
        rollout["status"]["waves"] = json!([{"name": "w", "phase": "Complete", "missed": missed}]);
        let found = gradual::missed(&rollout, &state).into_iter();
        let names: Vec<_> = found.map(|position| state.entries[position].id.name.as_str()).collect();
        assert_eq!(names, back);
    }
}

#[test]
fn a_request_may_name_a_plan() {
    let case = Case::new(two_of_sre(), &json!({"rolloutPlanRef": {"name": "cautious"}}));
    assert!(Content::parse(&case.request.spec, "teller").is_ok());
}

fn in_waves() -> PlanFacts {
    let wave = |name: &str, workload: &str| json!({"name": name, "targets": [{"kind": "Deployment", "name": workload}], "canary": {"steps": [{"setWeight": 20}]}});
    let PlanFacts::Known { resolved, .. } = careful() else { return PlanFacts::None };
    let spec = serde_json::from_value(json!({"waves": [wave("first", "teller"), wave("second", "queue")]})).unwrap();
    PlanFacts::Known { resolved, spec: Arc::new(spec) }
}

#[test]
fn the_workloads_of_waves_are_all_left_to_the_rollout_and_none_is_left_out() {
    let of = |name: &str| prepared(Some(workload(name, "a:1")), workload(name, "a:2"));
    let (mut state, request) = before(&[of("teller"), of("queue")]);
    gradual::plan_into(&mut state, &in_waves(), &request).unwrap();
    let names: Vec<_> = rollout_of(&state).spec.targets.into_iter().map(|target| target.name).collect();
    assert_eq!(names, ["teller", "queue"]);
    assert!(state.entries.iter().all(|entry| entry.gradual || entry.is_rollout()));
    assert!(gradual::target(&rollout_of(&state), &state).is_none(), "it releases nothing itself");
    let (mut state, request) = before(&[of("teller"), of("ledger")]);
    let why = gradual::plan_into(&mut state, &in_waves(), &request).unwrap_err();
    assert!(why.contains("Deployment ledger, which no wave of RolloutPlan"), "{why}");
    let shared = prepared(Some(config("limits", "5")), config("limits", "9"));
    let (mut state, request) = before(&[of("teller"), of("queue"), shared]);
    let why = gradual::plan_into(&mut state, &in_waves(), &request).unwrap_err();
    assert!(why.contains("ConfigMap limits is read by Deployment teller and Deployment queue"), "{why}");
}

#[test]
fn a_workload_that_waves_name_with_and_without_its_namespace_is_named_twice() {
    let of = |name: &str| prepared(Some(workload(name, "a:1")), workload(name, "a:2"));
    let wave = |name: &str, target: Value| json!({"name": name, "targets": [target], "canary": {"steps": [{"setWeight": 20}]}});
    for (namespace, is_twice) in [("teller", true), ("elsewhere", false)] {
        let named = json!({"kind": "Deployment", "name": "teller", "namespace": namespace});
        let waves = json!([wave("first", json!({"kind": "Deployment", "name": "teller"})), wave("second", named)]);
        let PlanFacts::Known { resolved, .. } = careful() else { panic!("the plan is known") };
        let spec = Arc::new(serde_json::from_value(json!({ "waves": waves })).unwrap());
        let (mut state, request) = before(&[of("teller")]);
        let planned = gradual::plan_into(&mut state, &PlanFacts::Known { resolved, spec }, &request);
        let why = planned.err().unwrap_or_default();
        let says = "name Deployment teller twice, with and without its namespace teller";
        assert_eq!((why.contains(says), why.is_empty()), (is_twice, !is_twice), "{why}");
    }
}

#[test]
fn a_rollout_of_a_wave_belongs_only_to_the_one_that_makes_it() {
    let of = |name: &str| prepared(Some(workload(name, "a:1")), workload(name, "a:2"));
    let (mut state, request) = before(&[of("teller"), of("queue")]);
    gradual::plan_into(&mut state, &in_waves(), &request).unwrap();
    let mut parent = rollout_of(&state);
    parent.metadata.uid = Some("parent".into());
    let name = format!("{}-0-second-0", parent.metadata.name.clone().unwrap());
    let mut child = parent.clone();
    child.metadata.name = Some(name);
    child.spec.targets.remove(0);
    child.spec.plan.canary = parent.spec.plan.waves.as_ref().unwrap()[1].canary.clone();
    child.spec.plan.waves = None;
    child.spec.part_of =
        Some(PartOf { name: parent.metadata.name.clone().unwrap(), uid: "parent".into(), wave: "second".into() });
    assert!(gradual::belongs(&child, Some(&parent), &state));
    assert_eq!(gradual::target(&child, &state).unwrap().wanted["metadata"]["name"], "queue");
    assert!(!gradual::belongs(&child, None, &state));
    let mut bolder = child.clone();
    bolder.spec.plan.canary.as_mut().unwrap().steps.clear();
    assert!(!gradual::belongs(&bolder, Some(&parent), &state));
    let mut others = parent.clone();
    others.metadata.uid = Some("another".into());
    assert!(!gradual::belongs(&child, Some(&others), &state));
}
