use std::sync::Arc;

use interlock_crds::{
    ApprovalDecision::{Approve, Reject},
    ChangePhase, GateState, Verb, VoteState,
};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Case, NOW, at, live_deployment};
use crate::change::{
    Content, Decision, Next, decide,
    facts::{BaseState, CalendarFacts, Command, EffectKind, IncidentFacts, Preflight, SealedFacts},
    sealed,
};
use crate::drill::proof::{Lapse, Proof, Shown};

pub(super) fn two_of_sre() -> Value {
    json!({"operators": ["sre"], "types": {"normal": {"approvals": {"thresholds": [{"name": "peers", "count": 2, "groups": ["sre"]}], "maxAge": "24h"}}}})
}

/// Decides, pins what is to be pinned and decides again, as the body does.
pub(super) fn settle(case: &mut Case) -> Decision {
    for _ in 0..4 {
        let decision = decide(&case.facts(), at(NOW));
        if let Next::PinBase(record) = &decision.next {
            let sealed = sealed::seal_base(&case.seal, &case.request.uid, record.clone()).unwrap();
            case.request.status.base = Some(sealed);
        } else {
            case.request.status = decision.status.clone();
            return decision;
        }
    }
    panic!("it does not settle");
}

fn gate<'a>(decision: &'a Decision, name: &str) -> &'a interlock_crds::GateStatus {
    decision.status.gates.iter().find(|g| g.name == name).unwrap()
}

pub(super) fn state_of(decision: &Decision, person: &str) -> Vec<VoteState> {
    decision.status.votes.iter().filter(|v| v.person == person).map(|v| v.state).collect()
}

#[test]
fn a01_a03_requester_second_identity_and_strangers_do_not_count() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    for user in ["alice", "alice-admin", "nobody", "system:serviceaccount:ci:bot", "bob", "bob-admin"] {
        case.vote(user, Approve);
    }
    let decision = settle(&mut case);
    assert_eq!(gate(&decision, "Approval").message, "peers 1/2: needs 1 more from sre");
    assert_eq!(decision.next, Next::Wait);
    assert_eq!(state_of(&decision, "bob"), [VoteState::Approves, VoteState::Void], "two identities of bob count once");
    case.vote("carol", Approve);
    assert!(matches!(settle(&mut case).next, Next::Start(start) if start.votes.len() == 2));
}

#[test]
fn a04_an_edit_makes_votes_stale() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    Arc::make_mut(&mut case.request.spec).content.manifests.as_mut().unwrap()[0]["spec"]["template"]["spec"]["containers"]
        [0]["image"] = json!("teller:evil");
    case.request.generation = 2;
    case.content = Content::parse(&case.request.spec, "teller");
    case.read(&live_deployment());
    let decision = settle(&mut case);
    assert_eq!(decision.status.phase, ChangePhase::Pending);
    assert_eq!(state_of(&decision, "bob"), [VoteState::Stale]);
    assert!(gate(&decision, "Approval").message.contains("2 votes are stale"));
}

#[test]
fn a06_a_forged_status_carries_nothing() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    let honest = settle(&mut case).status;
    let run = json!({"epoch": 1, "changeDigest": "sha256:00", "executor": "mallory", "beforeDigest": "", "beforeChunks": 0, "startedAt": NOW, "seal": "AAAA"});
    case.request.status.phase = ChangePhase::Running;
    case.request.status.run = serde_json::from_value(run).unwrap();
    case.request.status.finished =
        serde_json::from_value(json!({"phase": "Succeeded", "at": NOW, "seal": "AAAA"})).unwrap();
    case.request.status.change_digest = Some("sha256:forged".into());
    let decision = settle(&mut case);
    assert_eq!((decision.next, decision.status), (Next::Wait, honest), "everything is found again from the objects");
}

#[test]
fn a06_a_forged_end_of_a_running_change_is_wiped_off() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    let run = json!({"epoch": 1, "changeDigest": "sha256:00", "executor": "e", "beforeDigest": "", "beforeChunks": 0, "startedAt": NOW, "seal": ""});
    let run = sealed::seal_run(&case.seal, &case.request.uid, serde_json::from_value(run).unwrap()).unwrap();
    case.request.status.phase = ChangePhase::Succeeded;
    case.request.status.run = Some(run);
    case.request.status.finished =
        serde_json::from_value(json!({"phase": "Succeeded", "at": NOW, "seal": "AAAA"})).unwrap();
    let decision = decide(&case.facts(), at(NOW));
    assert_eq!((decision.next, decision.status.phase), (Next::Run, ChangePhase::Running));
    assert_eq!(decision.status.finished, None);
}

#[test]
fn a06_a_forged_base_is_pinned_anew() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.request.status.base.as_mut().unwrap().digest = "sha256:forged".into();
    assert!(matches!(decide(&case.facts(), at(NOW)).next, Next::PinBase(_)));
}

#[test]
fn a09_votes_age_and_groups_are_lost_at_once() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    assert!(matches!(settle(&mut case).next, Next::Start(_)));
    let later = at("2026-11-25T07:30:00Z");
    let decision = decide(&case.facts(), later);
    assert_eq!(state_of(&decision, "carol"), [VoteState::Expired]);
    assert!(
        matches!(decide(&case.facts(), later - SignedDuration::from_secs(1)).next, Next::Start(_)),
        "until the last second"
    );
    let mut carol = case.people.person("carol").unwrap().clone();
    carol.barred.insert("sre".into());
    case.people.insert(carol);
    assert_eq!(state_of(&settle(&mut case), "carol"), [VoteState::Void]);
}

#[test]
fn a10_a_rejection_ends_the_change() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Reject);
    let decision = settle(&mut case);
    assert!(matches!(&decision.next, Next::Finish(ChangePhase::Rejected, why) if why.contains("carol")));
    let finish = sealed::seal_finish(&case.seal, "cr-uid", ChangePhase::Rejected, at(NOW), "no".into()).unwrap();
    case.request.status.finished = Some(finish);
    case.votes.clear();
    case.vote("bob", Approve);
    let after = decide(&case.facts(), at(NOW));
    assert_eq!((after.next, after.status.phase), (Next::Ended, ChangePhase::Rejected), "terminal phases never change");
}

#[test]
fn a05_copies_and_late_seals_do_not_count() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    let mut copy = case.votes[0].clone();
    copy.uid = "vote-uid-9".into();
    copy.name = "vote-9".into();
    case.votes[0].created = at("2026-11-24T07:30:11Z");
    assert_eq!(
        settle(&mut case).status.votes.iter().filter(|v| v.state == VoteState::Approves).count(),
        1,
        "stored again 11 s later"
    );
    case.votes[0] = copy.clone();
    copy.uid = "vote-uid-99".into();
    copy.approver = "carol".into();
    case.votes[1] = copy;
    assert!(matches!(settle(&mut case).next, Next::Wait), "another's seal");
}

#[test]
fn a26_an_emergency_needs_a_confirmed_open_incident() {
    let policy = json!({"types": {"emergency": {"approvals": {"thresholds": [{"name": "commander", "count": 1, "groups": ["branch-ops"]}]}, "requireIncident": "P1"}}});
    let mut case = Case::new(policy, &json!({"type": "Emergency", "fixes": ["inc-1"]}));
    settle(&mut case);
    case.vote("erin", Approve);
    let decision = settle(&mut case);
    assert_eq!(gate(&decision, "OpenIncident").state, GateState::Unknown);
    let incident = |priority, confirmed| IncidentFacts { name: "inc-1".into(), priority, confirmed };
    for (priority, confirmed, starts) in [
        (interlock_crds::Priority::P1, true, true),
        (interlock_crds::Priority::P0, true, true),
        (interlock_crds::Priority::P2, true, false),
        (interlock_crds::Priority::P1, false, false),
    ] {
        case.later.incidents = Some(vec![incident(priority, confirmed)]);
        assert_eq!(matches!(settle(&mut case).next, Next::Start(_)), starts, "{priority:?} {confirmed}");
    }
}

#[test]
fn a26_a_freeze_that_begins_before_the_next_window_is_told_when_it_begins() {
    let spec = interlock_crds::CalendarSpec {
        time_zone: "UTC".into(),
        windows: serde_json::from_value(json!([{"name": "night", "schedule": "0 22 * * *", "duration": "4h"}]))
            .unwrap(),
        freezes: serde_json::from_value(
            json!([{"name": "month-end", "from": "2026-11-24T18:00", "until": "2026-11-26T00:00"}]),
        )
        .unwrap(),
        overrun: interlock_crds::Overrun::Finish,
    };
    let calendar = crate::calendar::Calendar::compile(&crate::change::calendar_spec(&spec)).unwrap();
    let mut case = Case::new(two_of_sre(), &json!({}));
    case.policy.spec.types.normal.as_mut().unwrap().calendar_ref =
        Some(interlock_crds::NameRef { name: "bank".into() });
    let resolved = crate::change::digest::Resolved { name: "bank".into(), uid: "cal".into(), generation: 1 };
    case.calendar = CalendarFacts::of(resolved, &spec, &calendar, at(NOW));
    let decision = settle(&mut case);
    assert_eq!(gate(&decision, "Window").reason, "OutsideWindow");
    assert_eq!(gate(&decision, "Window").opens_at.as_ref().map(|t| t.0), Some(at("2026-11-26T00:00:00Z")));
    assert_eq!(decision.wake_at, Some(at("2026-11-24T18:00:00Z")), "then it is no longer outside a window, but frozen");
}

#[test]
fn a26_a_freeze_schedules_the_change_until_it_ends() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    let spec = interlock_crds::CalendarSpec {
        time_zone: "Asia/Shanghai".into(),
        windows: vec![],
        freezes: serde_json::from_value(
            json!([{"name": "month-end", "from": "2026-11-24T00:00", "until": "2026-11-25T00:00"}]),
        )
        .unwrap(),
        overrun: interlock_crds::Overrun::Finish,
    };
    let calendar = crate::calendar::Calendar::compile(&crate::change::calendar_spec(&spec)).unwrap();
    case.policy.spec.types.normal.as_mut().unwrap().calendar_ref =
        Some(interlock_crds::NameRef { name: "bank".into() });
    let resolved = crate::change::digest::Resolved { name: "bank".into(), uid: "cal".into(), generation: 1 };
    case.calendar = CalendarFacts::of(resolved.clone(), &spec, &calendar, at(NOW));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    let decision = settle(&mut case);
    assert_eq!(decision.status.phase, ChangePhase::Scheduled, "only time is missing");
    let end = at("2026-11-24T16:00:00Z");
    assert_eq!(decision.wake_at, Some(end));
    assert_eq!(gate(&decision, "Window").opens_at.as_ref().unwrap().0, end);
    case.calendar = CalendarFacts::of(resolved, &spec, &calendar, end);
    assert!(matches!(decide(&case.facts(), end).next, Next::Start(_)), "it starts without a nudge");
}

#[test]
fn a_changed_base_closes_the_gate_until_the_requester_rebases() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    let mut live = live_deployment();
    live["spec"]["replicas"] = json!(9);
    case.read(&live);
    assert!(matches!(settle(&mut case).next, Next::Start(_)), "only paths that are written matter");
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("teller:hotfix");
    case.read(&live);
    let decision = settle(&mut case);
    assert_eq!(gate(&decision, "Precondition").reason, "BaseChanged");
    let sealed = |user: &str| SealedFacts {
        user: user.into(),
        groups: vec!["sre".into()],
        claims: vec![],
        time: at(NOW),
        request_uid: "r".into(),
    };
    let rebase = |user: &str| Command {
        name: "r".into(),
        target_uid: "cr-uid".into(),
        verb: Verb::Rebase,
        actor: user.into(),
        reason: String::new(),
        created: at(NOW),
        sealed: Some(sealed(user)),
    };
    case.commands = vec![rebase("bob")];
    assert_eq!(gate(&settle(&mut case), "Precondition").reason, "BaseChanged", "only the requester re-bases");
    case.commands = vec![rebase("alice")];
    let decision = settle(&mut case);
    assert_eq!(gate(&decision, "Precondition").reason, "BaseUnchanged");
    assert_eq!(state_of(&decision, "bob"), [VoteState::Stale], "and everybody looks again");
}

#[test]
fn a_standard_change_needs_no_vote_inside_its_template_only() {
    let policy = json!({"types": {"standard": {"templates": [{"name": "patch-release", "allow": [
        {"group": "apps", "kind": "Deployment", "path": "/spec/template/spec/containers/*/image", "imageTag": "SameMinor"}]}]}}});
    let mut case = Case::new(policy.clone(), &json!({"type": "Standard"}));
    assert!(
        matches!(settle(&mut case).next, Next::Start(start) if start.template.as_deref() == Some("patch-release") && start.votes.is_empty())
    );
    let mut live = live_deployment();
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("teller:2.2.9");
    let mut case = Case::new(policy, &json!({"type": "Standard"}));
    case.read(&live);
    assert_eq!(gate(&settle(&mut case), "Approval").reason, "OutsideTemplate");
}

#[test]
fn bad_content_is_named_and_waits() {
    let cases = [
        (
            json!([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "teller"}, "data": {}}]),
            "InlineSecret",
        ),
        (
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "other"}}]),
            "OutsideSystem",
        ),
        (
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s", "namespace": "interlock-system"}}]),
            "NeverContent",
        ),
        (json!([{"apiVersion": "interlock.dev/v1alpha1", "kind": "Person", "metadata": {"name": "x"}}]), "OnlyRoot"),
        (
            json!([{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "s", "namespace": "teller"}, "spec": {"template": {"spec": {"serviceAccountName": "root"}}}}]),
            "ServiceAccountNotAllowed",
        ),
    ];
    for (manifests, reason) in cases {
        let mut case = Case::new(two_of_sre(), &json!({}));
        Arc::make_mut(&mut case.request.spec).content.manifests = serde_json::from_value(manifests).unwrap();
        case.content = Content::parse(&case.request.spec, "teller");
        let decision = decide(&case.facts(), at(NOW));
        assert_eq!(decision.status.waiting_for.as_deref(), Some(reason));
        assert_eq!((decision.next, decision.status.phase), (Next::Wait, ChangePhase::Pending));
    }
    let job = json!({"onFailure": "Rollback", "jobs": [{"name": "down", "spec": {"template": {"spec": {"serviceAccountName": "root"}}}}]});
    let mut case = Case::new(two_of_sre(), &json!({"contingency": job}));
    assert_eq!(
        settle(&mut case).status.waiting_for.as_deref(),
        Some("ServiceAccountNotAllowed"),
        "also of a contingency job"
    );
    let spec = serde_json::from_value(json!({"title": "t", "reason": "r", "requester": "a", "type": "Standard",
        "content": {"manifests": []}, "contingency": {"jobs": [{"name": "a", "spec": {}}, {"name": "a", "spec": {}}]}}))
    .unwrap();
    let reasons: Vec<_> = Content::parse(&spec, "teller").unwrap_err().iter().map(|p| p.reason).collect();
    assert_eq!(reasons, ["Duplicate", "JobsNeedVotes"]);
}

#[test]
fn what_cannot_be_read_or_tried_does_not_pass() {
    let mut case = Case::new(two_of_sre(), &json!({}));
    settle(&mut case);
    case.vote("bob", Approve);
    case.vote("carol", Approve);
    case.preflight = Preflight::Refused { message: "forbidden: no right".into(), retry_at: at("2026-11-24T08:00:30Z") };
    let decision = settle(&mut case);
    assert_eq!(
        (gate(&decision, "Preflight").reason.as_str(), decision.wake_at),
        ("Refused", Some(at("2026-11-24T08:00:30Z")))
    );
    case.base = BaseState::Unread;
    assert_eq!(decide(&case.facts(), at(NOW)).next, Next::ReadBase);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Deciding is the same whatever the order of votes, and deciding again on the result changes nothing.
    #[test]
    fn deciding_twice_changes_nothing_and_order_does_not_matter(
        voters in proptest::collection::vec((0_usize..7, any::<bool>()), 0..8),
        counts in (1_u32..3, 1_u32..3),
        shared in any::<bool>(),
        swap in any::<prop::sample::Index>(),
    ) {
        let policy = json!({"types": {"normal": {"approvals": {"rejectCount": 2, "thresholds": [
            {"name": "peers", "count": counts.0, "groups": ["sre"], "shared": shared},
            {"name": "business", "count": counts.1, "groups": ["branch-ops"]}]}}}});
        let mut case = Case::new(policy, &json!({}));
        settle(&mut case);
        for (voter, approves) in voters {
            let users = ["alice", "bob", "bob-admin", "carol", "erin", "nobody", "alice-admin"];
            case.vote(users[voter], if approves { Approve } else { Reject });
        }
        let first = settle(&mut case);
        let second = decide(&case.facts(), at(NOW));
        prop_assert_eq!(&first, &second);
        if let Next::Start(_) = first.next {
            prop_assert!(first.status.gates.iter().all(|g| !g.enforced || g.state == GateState::Open));
        }
        if !case.votes.is_empty() {
            let index = swap.index(case.votes.len());
            case.votes.rotate_left(index);
            prop_assert_eq!(&first, &decide(&case.facts(), at(NOW)));
        }
    }
}

#[test]
fn a_restore_is_not_held_by_what_it_puts_right() {
    let mut policy = two_of_sre();
    policy["types"]["normal"]["gates"] = json!({"restoreProof": {"mode": "Enforce", "maxAge": "35d"}});
    let job = |repository: &str| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "back", "namespace": "teller", "annotations": {
                "interlock.dev/restore-repository": repository, "interlock.dev/restore-snapshots": "newest",
            }},
            "spec": {"template": {"spec": {"containers": [], "restartPolicy": "Never"}}},
        })
    };
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "back", "namespace": "teller"},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    });
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "teller"}});
    let passed = || Shown::Passed(at(NOW), "drill monthly passed".into());
    let lapse = |sentence: &str| Some(Lapse { from: at(NOW), sentence: sentence.into() });
    let ask = |manifests: Value, creates: bool, shown: Shown| {
        let mut case = Case::new(policy.clone(), &json!({"content": {"manifests": manifests}}));
        let BaseState::Read(base) = &mut case.base else { panic!() };
        for effect in &mut base.effects {
            effect.kind = if creates { EffectKind::Create } else { EffectKind::Update(Vec::new()) };
        }
        let (overdue, exposed) = (lapse("drill monthly is overdue"), lapse("data may be lost"));
        case.later.restore_proof = Some(Proof { shown, overdue, exposed });
        gate(&settle(&mut case), "RestoreProof").clone()
    };
    let restore = json!([job("teller/vault"), claim]);
    assert_eq!(ask(restore.clone(), true, passed()).state, GateState::Open);
    for (manifests, creates, why) in [
        (json!([job("teller/vault"), claim, config]), true, "something else"),
        (json!([claim]), true, "nothing is restored"),
        (restore.clone(), false, "it is there already"),
    ] {
        let closed = ask(manifests, creates, passed());
        assert_eq!((closed.state, closed.reason.as_str()), (GateState::Closed, "DrillOverdue"), "{why}");
        assert!(closed.message.contains("`interlock restore`"), "{}", closed.message);
    }
    let mut foreign = Case::new(policy.clone(), &json!({"content": {"manifests": [job("vaults/vault")]}}));
    let refused = settle(&mut foreign).status;
    let waits_for = refused.waiting_for.as_deref();
    assert_eq!(waits_for, Some("OutsideSystem"), "it would wait without end, and be told who holds it");
    assert!(refused.message.unwrap_or_default().contains("vaults/vault, which does not belong"));
    let failed = ask(restore, true, Shown::Failed("drill monthly failed".into()));
    assert_eq!((failed.state, failed.reason.as_str()), (GateState::Closed, "DrillFailed"), "what drills show counts");
}
