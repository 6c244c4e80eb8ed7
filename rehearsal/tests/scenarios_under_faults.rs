//! The scenarios of docs/scenarios.md that have an answer in time: each is played once while nothing goes wrong, and with
//! several seeds while everything does. Every invariant holds in all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::object::ObjectId;
use interlock_crds::{ApprovalDecision::Approve, ApprovalDecision::Reject, GROUP, Verb};
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, History, Played, start},
    people::{Act, Change, own, user},
    world::{Happening, World},
};
use interlock_sim::workloads::{Behaviour, Effect};
use jiff::SignedDuration;
use serde_json::{Value, json};

const SEEDS: std::ops::Range<u64> = 1..7;

fn the_change() -> Change {
    Change { namespace: "teller".to_owned(), name: "release".to_owned() }
}

fn config(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config-0", "namespace": "teller"},
        "data": {"value": value}})
}

fn propose(manifests: &Value) -> Act {
    let request = json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": "release", "namespace": "teller"},
        "spec": {"title": "release", "reason": "a test", "requester": "alice", "content": {"manifests": manifests}},
    });
    Act::Create(user("alice", &["dev", "sre"]), request)
}

fn vote(name: &str, decision: interlock_crds::ApprovalDecision) -> Act {
    Act::Vote(user(name, &["sre"]), the_change(), decision)
}

/// At a second, and twice more, as somebody does it whom nobody answered.
fn insist(at: i64, act: &Act) -> Vec<(i64, Act)> {
    (0..3).map(|again| ((at + again * 17) * 1_000, act.clone())).collect()
}

fn admin(kind: &str, name: &str, patch: Value) -> Act {
    Act::Patch(user("admin", &["system:masters"]), own(kind, "", name), patch)
}

/// How it went: the world at its end, and what happened.
struct End {
    world: World,
    played: Played,
    is_calm: bool,
}

impl End {
    fn status(&self) -> Value {
        let request = self.world.live(&the_change().id());
        request.and_then(|request| request.get("status").cloned()).unwrap_or(Value::Null)
    }

    fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap_or("none").to_owned()
    }

    fn value(&self) -> String {
        let id = ObjectId::of(&config("")).unwrap();
        let live = self.world.live(&id);
        live.map_or_else(|| "gone".to_owned(), |live| live["data"]["value"].as_str().unwrap().to_owned())
    }

    /// What was answered to acts that read so.
    fn answers(&self, act: &str) -> Vec<Result<(), String>> {
        let of = |happening: &Happening| match happening {
            Happening::Act { what, came, .. } if what.contains(act) => {
                Some(came.as_ref().map(|_| ()).map_err(ToString::to_string))
            }
            _ => None,
        };
        self.played.timeline.iter().filter_map(of).collect()
    }

    fn did(&self, act: &str) -> bool {
        self.answers(act).iter().any(Result::is_ok)
    }
}

/// Plays acts while nothing goes wrong, and with several seeds under these faults.
fn play_with(history: &History, faults: &Faults, check: impl Fn(&End)) {
    let calm = std::iter::once((0, Faults::default(), 1));
    for (seed, faults, controllers) in calm.chain(SEEDS.map(|seed| (seed, faults.clone(), 2))) {
        let is_calm = faults == Faults::default();
        let history = History { seed, faults, controllers, ..history.clone() };
        let (world, played) = history.play_whole().unwrap_or_else(|(broken, _)| panic!("seed {seed}: {broken}"));
        let end = End { world, played, is_calm };
        println!("seed {seed}: {} {}", end.phase(), end.value());
        check(&end);
    }
}

fn play(bank: &Bank, acts: Vec<(i64, Act)>, check: impl Fn(&End)) {
    play_with(&History::at(bank, acts), &Faults::storm(), check);
}

/// Two votes are needed, and nothing starts within the first minutes.
fn frozen_for(minutes: i64) -> Bank {
    Bank { votes: 2, freeze: Some((0, minutes)), ..Bank::default() }
}

#[test]
fn a04_what_is_edited_after_a_vote_needs_it_again() {
    let edited = json!({"spec": {"content": {"manifests": [config("edited")]}}});
    let acts = [
        vec![(1_000, propose(&json!([config("proposed")])))],
        vec![(10_000, vote("bob", Approve))],
        vec![(20_000, Act::Patch(user("alice", &["dev", "sre"]), the_change().id(), edited))],
        vec![(30_000, vote("carol", Approve))],
    ];
    play(&Bank { votes: 2, ..Bank::default() }, acts.concat(), |end| {
        assert_eq!(end.value(), "before", "{:#}", end.status());
        if end.is_calm {
            let votes = end.status()["votes"].to_string();
            assert!(votes.contains("Stale") && votes.contains("Approves"), "{votes}");
        }
    });
}

#[test]
fn a05_a_vote_on_a_deleted_request_does_not_count_for_its_namesake() {
    let proposal = propose(&json!([config("proposed")]));
    let acts = [
        vec![(1_000, proposal.clone())],
        insist(5, &vote("bob", Approve)),
        insist(5, &vote("carol", Approve)),
        insist(60, &Act::Delete(user("alice", &["dev", "sre"]), the_change().id())),
        insist(110, &proposal),
        insist(160, &Act::CopyVote(user("bob", &["sre"]), the_change())),
        insist(160, &Act::CopyVote(user("carol", &["sre"]), the_change())),
    ];
    play(&frozen_for(5), acts.concat(), |end| {
        if end.did("alice deletes") {
            assert_eq!(end.value(), "before", "{:#}", end.status());
        }
        assert!(!end.is_calm || end.did("alice deletes"));
    });
}

#[test]
fn a09_who_loses_the_group_or_voted_too_long_ago_does_not_count() {
    let votes = [
        vec![(1_000, propose(&json!([config("proposed")])))],
        insist(5, &vote("bob", Approve)),
        insist(5, &vote("carol", Approve)),
    ]
    .concat();
    let barred = admin("Person", "carol", json!({"spec": {"barredGroups": ["sre"]}}));
    play(&frozen_for(5), [votes.clone(), insist(60, &barred)].concat(), |end| {
        if end.did("admin edits") {
            assert_eq!(end.value(), "before", "{:#}", end.status());
        }
        assert!(!end.is_calm || end.status()["votes"].to_string().contains("Void"), "{:#}", end.status());
    });
    play(&Bank { max_age: Some(90), ..frozen_for(5) }, votes, |end| {
        assert_eq!(end.value(), "before", "{:#}", end.status());
        assert!(!end.is_calm || end.status()["votes"].to_string().contains("Expired"), "{:#}", end.status());
    });
}

#[test]
fn a10_a_rejection_before_the_start_is_the_end() {
    let acts = [
        vec![(1_000, propose(&json!([config("proposed")])))],
        insist(5, &vote("dave", Reject)),
        insist(90, &vote("bob", Approve)),
        insist(90, &vote("carol", Approve)),
    ];
    play(&frozen_for(5), acts.concat(), |end| {
        if end.did("dave rejects") {
            assert_eq!((end.phase(), end.value()), ("Rejected".to_owned(), "before".to_owned()));
        }
        assert!(!end.is_calm || end.did("dave rejects"));
    });
}

#[test]
fn a11_a_vote_taken_back_before_the_start_does_not_count_and_none_is_after_it() {
    let proposal = (1_000, propose(&json!([config("proposed")])));
    let back = Act::WithdrawVote(user("carol", &["sre"]), the_change());
    let votes = [insist(5, &vote("bob", Approve)), vec![(6_000, vote("carol", Approve))]].concat();
    play(&frozen_for(5), [vec![proposal.clone()], votes.clone(), insist(60, &back)].concat(), |end| {
        if end.did("carol withdraws") {
            assert_eq!(end.value(), "before", "{:#}", end.status());
        }
        assert!(!end.is_calm || end.did("carol withdraws"));
    });
    let bank = Bank { votes: 2, ..Bank::default() };
    play(&bank, [vec![proposal], votes, insist(8, &back)].concat(), |end| {
        let is_kept = end.world.objects(GROUP, "Approval").iter().any(|vote| vote["spec"]["approver"] == "carol");
        assert!(end.value() == "before" || is_kept, "{:#}", end.status());
        if end.is_calm {
            assert_eq!(end.phase(), "Succeeded");
            assert!(end.answers("carol withdraws")[0].as_ref().is_err_and(|why| why.contains("interlock")));
        }
    });
}

#[test]
fn a12_votes_and_an_edit_at_the_same_moment() {
    let edited = json!({"spec": {"content": {"manifests": [config("edited")]}}});
    for moment in [10_000, 10_001, 12_345] {
        let acts = vec![
            (1_000, propose(&json!([config("proposed")]))),
            (moment, vote("bob", Approve)),
            (moment, Act::Patch(user("alice", &["dev", "sre"]), the_change().id(), edited.clone())),
            (moment, vote("carol", Approve)),
        ];
        // Which comes first is left to the seed; what runs is what two had seen: the invariants know.
        play(&Bank { votes: 2, ..Bank::default() }, acts, |end| {
            assert!(["before", "proposed"].contains(&end.value().as_str()), "{:#}", end.status());
        });
    }
}

#[test]
fn a13_a_running_change_cannot_be_deleted() {
    let manifest = json!([{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web-0", "namespace": "teller", "annotations": {"interlock.dev/operation": "Patch"}},
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:slow"}]}}}}]);
    let acts = [
        vec![(1_000, propose(&manifest))],
        insist(5, &vote("bob", Approve)),
        insist(20, &Act::Delete(user("alice", &["dev", "sre"]), the_change().id())),
    ];
    let mut history = History::at(&Bank { votes: 1, ..Bank::default() }, acts.concat());
    let slow = Effect::ReadyAfter(SignedDuration::from_secs(60));
    history.behaviours = vec![Behaviour { image: Some("*:slow".to_owned()), ..Behaviour::of(slow) }];
    play_with(&history, &Faults::storm(), |end| {
        let started = end.played.timeline.iter().any(|happening| {
            matches!(happening, Happening::Stored(audit)
                if audit.new.as_deref().is_some_and(|new| new.pointer("/status/run").is_some()))
        });
        assert!(!started || end.phase() != "none" || end.did("alice deletes"));
        if end.is_calm {
            assert_eq!(end.phase(), "Succeeded");
            let answers = end.answers("alice deletes");
            assert!(answers[0].as_ref().is_err_and(|why| why.contains("interlock abort")), "{answers:?}");
        }
    });
}

#[test]
fn a24_a_controller_that_dies_after_any_write_is_gone_on_for() {
    let manifests: Vec<_> = (0..5)
        .map(|n| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("config-{n}"), "namespace": "teller"},
                "data": {"value": "proposed"}})
        })
        .collect();
    let acts = [vec![(1_000, propose(&json!(manifests)))], insist(5, &vote("bob", Approve))];
    let history = History::at(&Bank { votes: 1, ..Bank::default() }, acts.concat());
    let faults = Faults { crashes: 0.06, hangs: 0.01, lost_answers: 0.05, ..Faults::default() };
    play_with(&history, &faults, |end| {
        let crashes = end.played.timeline.iter().filter(|h| matches!(h, Happening::Fault { .. })).count();
        assert!(end.is_calm || crashes > 2, "{crashes} faults only");
        // Nobody could vote while no controller served; once a vote is stored it is not lost.
        let carried_out = ("Succeeded".to_owned(), "proposed".to_owned());
        assert!(!end.did("bob approves") || (end.phase(), end.value()) == carried_out, "{:#}", end.status());
        assert!(!end.is_calm || end.did("bob approves"));
    });
}

#[test]
fn a25_clocks_that_are_wrong_or_set_open_no_freeze() {
    let acts = [
        vec![(1_000, propose(&json!([config("proposed")])))],
        insist(5, &vote("bob", Approve)),
        insist(5, &vote("carol", Approve)),
    ];
    let history = History::at(&frozen_for(4), acts.concat());
    let faults = Faults { clock_jumps: 0.02, skew_ms: 1_500, ..Faults::default() };
    // That nothing starts before the freeze ends, by the server's clock, is an invariant.
    play_with(&history, &faults, |end| {
        // A vote during which the clock was set may not count, as it seems to be a copy.
        assert!(["Succeeded", "Pending"].contains(&end.phase().as_str()), "{:#}", end.status());
        assert!(!end.is_calm || end.phase() == "Succeeded");
    });
}

#[test]
fn a26_a_change_starts_by_itself_when_the_freeze_ends_and_can_be_stopped_after_it() {
    let acts = [
        vec![(1_000, propose(&json!([config("proposed")])))],
        insist(5, &vote("bob", Approve)),
        insist(5, &vote("carol", Approve)),
    ]
    .concat();
    let end_of_freeze = start() + SignedDuration::from_mins(4);
    play(&frozen_for(4), acts.clone(), |end| {
        let started: Option<jiff::Timestamp> =
            end.status().pointer("/run/startedAt").and_then(Value::as_str).map(|at| at.parse().unwrap());
        if end.did("bob approves") && end.did("carol approves") {
            assert_eq!(end.phase(), "Succeeded", "{:#}", end.status());
            assert!(started.unwrap() >= end_of_freeze - SignedDuration::from_secs(1), "{started:?}");
        }
        assert!(!end.is_calm || end.phase() == "Succeeded");
    });
    let withdraw = Act::Command(user("bob", &["sre"]), the_change(), Verb::Withdraw, "not today".to_owned());
    let withdraw_own = Act::Command(user("alice", &["dev"]), the_change(), Verb::Withdraw, "not today".to_owned());
    play(&frozen_for(4), [acts, insist(60, &withdraw), insist(61, &withdraw_own)].concat(), |end| {
        if end.did("commands Withdraw") {
            assert_eq!((end.phase(), end.value()), ("Withdrawn".to_owned(), "before".to_owned()));
        }
        assert!(!end.is_calm || end.did("commands Withdraw"));
    });
}
