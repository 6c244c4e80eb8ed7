//! Steps that wait for people, Jobs and gates.

use interlock_core::admission::User;
use interlock_crds::{
    ApprovalDecision::{self, Approve, Reject},
    Verb,
};
use interlock_rehearsal::{
    faults::Faults,
    history::{History, deployment},
    people::{Act, user},
    world::Happening,
};
use interlock_sim::workloads::{Behaviour, Effect};
use serde_json::{Value, json};

use super::play::{came, command, each_kill, history, id, play, status, stored, the_change, told};

fn release(steps: &Value, more: Vec<(i64, Act)>) -> History {
    history(&json!({"canary": {"steps": steps}}), Vec::new(), &[deployment("web-0", "web:new")], more)
}

fn signed() -> Value {
    json!([{"setWeight": 50}, {"signOff": {"count": 2, "groups": ["sre"]}}])
}

fn sign(at: i64, who: User, decision: ApprovalDecision) -> (i64, Act) {
    (at, Act::Sign(who, the_change(), None, decision))
}

fn sre(name: &str) -> User {
    user(name, &["sre"])
}

#[test]
fn a_step_waits_for_so_many_persons_of_the_group_and_no_command_replaces_them() {
    let acts = vec![
        sign(40_000, sre("bob"), Approve),
        sign(45_000, user("bob@bank", &["sre"]), Approve),
        command(50_000, Verb::Resume),
        sign(200_000, sre("carol"), Approve),
    ];
    let (world, timeline) = play(&release(&signed(), acts));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    let promoted = timeline.iter().find_map(|happening| match happening {
        Happening::Stored(audit) if audit.id.same_object(&id("apps", "Deployment", "web-0")) => {
            audit.user.ends_with(":executor").then_some(audit.at)
        }
        _ => None,
    });
    let begun = interlock_rehearsal::history::start();
    assert!(promoted.unwrap().duration_since(begun).as_secs() >= 200, "two names of one person are one person");
}

#[test]
fn who_may_not_sign_is_told_why() {
    let acts = vec![
        sign(40_000, user("alice", &["dev", "sre"]), Approve),
        sign(41_000, user("alice@bank", &["dev", "sre"]), Approve),
        sign(42_000, user("erin", &["branch-ops"]), Approve),
        sign(43_000, user("nobody", &["sre"]), Approve),
        sign(44_000, user("system:serviceaccount:teller:executor", &["sre"]), Approve),
        (45_000, Act::Vote(sre("carol"), the_change(), Approve)),
        command(60_000, Verb::Abort),
    ];
    let (world, timeline) = play(&release(&signed(), acts));
    assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
    let refused = |what: &str, reason: &str| {
        let all = came(&timeline, what);
        assert!(all.iter().all(|one| one.as_ref().is_err_and(|why| why.contains(reason))), "{what}: {all:?}");
        assert!(!all.is_empty());
    };
    refused("alice signs", "SelfApproval");
    refused("alice@bank signs", "SamePerson");
    refused("erin signs", "NotInGroup");
    refused("nobody signs", "UnknownPerson");
    refused("executor signs", "MachineVote");
    refused("carol approves", "NotAwaited: release is being carried out");
}

#[test]
fn a_signature_that_is_refused_sends_the_release_back() {
    let (world, _) = play(&release(&signed(), vec![sign(40_000, sre("carol"), Reject)]));
    assert_eq!(status(&world)["phase"], "RolledBack", "{}", told(&world));
    assert!(told(&world).contains("the sign-off was refused by carol"), "{}", told(&world));
}

#[test]
fn a_signature_counts_for_its_step_and_no_other() {
    let steps = json!([{"setWeight": 20}, {"signOff": {"groups": ["sre"]}}, {"setWeight": 50}, {"signOff": {"groups": ["sre"]}}]);
    let acts = vec![sign(40_000, sre("bob"), Approve), command(200_000, Verb::Abort)];
    let (world, _) = play(&release(&steps, acts.clone()));
    assert_eq!(status(&world)["phase"], "RolledBack", "the second step was not signed: {}", told(&world));
    let acts = [acts, vec![sign(100_000, sre("bob"), Approve)]].concat();
    let (world, _) = play(&release(&steps, acts));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
}

#[test]
fn a_job_of_a_step_runs_once_and_its_failure_sends_the_release_back() {
    let job = |image: &str| {
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "check", "image": image}]});
        json!([{"setWeight": 50}, {"job": {"name": "smoke", "spec": {"backoffLimit": 0, "template": {"spec": pod}}}}])
    };
    for (image, phase) in [("check:good", "Succeeded"), ("check:fails", "RolledBack")] {
        let mut history = release(&job(image), Vec::new());
        let fails = Behaviour::of(Effect::JobFails { times: u32::MAX });
        history.behaviours.push(Behaviour { image: Some("*:fails".to_owned()), ..fails });
        let (world, timeline) = play(&history);
        assert_eq!(status(&world)["phase"], phase, "{}", told(&world));
        let made = timeline.iter().filter(|h| matches!(h, Happening::Stored(a) if a.id.kind == "Job" && a.old.is_none() && a.user.ends_with(":executor")));
        assert_eq!(made.count(), 1);
    }
}

#[test]
fn a_gate_that_is_the_window_passes_while_the_policy_names_no_calendar_or_one_is_open() {
    let steps = json!([{"setWeight": 50}, {"gate": {"name": "Window"}}]);
    let (world, _) = play(&release(&steps, vec![command(120_000, Verb::Abort)]));
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
}

#[test]
fn signatures_are_counted_the_same_whatever_goes_wrong() {
    for seed in 1..9 {
        let acts = (0..8).flat_map(|n| ["bob", "carol"].map(|who| sign(40_000 + n * 15_000, sre(who), Approve)));
        let storm = History { seed, faults: Faults::storm(), controllers: 2, ..release(&signed(), acts.collect()) };
        let (world, timeline) = play(&storm);
        let written = !stored(&timeline, &id("apps", "Deployment", "web-0")).is_empty();
        let signatures = came(&timeline, " signs ").iter().filter(|one| one.is_ok()).count();
        assert!(!written || signatures >= 2, "seed {seed}: {}", told(&world));
    }
}

#[test]
fn a_controller_killed_after_any_single_write_waits_for_the_same_signatures() {
    let acts = vec![sign(60_000, sre("bob"), Approve), sign(80_000, sre("carol"), Approve)];
    each_kill(&release(&signed(), acts), |world, _, why| assert_eq!(status(world)["phase"], "Succeeded", "{why}"));
}
