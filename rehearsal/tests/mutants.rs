//! The test of the tests: a controller with a deliberate error breaks the invariant that is there to see it, within few
//! random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::mutants::{self, Mutant};
use interlock_crds::ApprovalDecision;
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, History, deployment, release_objects, start},
    invariants::{Broken, Watchdog},
    people::{Act, Change, user},
    world::{Happening, Options, World},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Histories in which an error must show.
const SEEDS: std::ops::Range<u64> = 1..400;

/// A change that writes, fails, and goes back.
fn deadly(seed: u64) -> History {
    let teller = |kind: &str, version: &str, name: &str| {
        json!({"apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": "teller", "annotations": {"interlock.dev/operation": "Patch"}}})
    };
    let mut config = teller("ConfigMap", "v1", "config-0");
    config["data"] = json!({"value": "new"});
    let mut web = teller("Deployment", "apps/v1", "web-0");
    web["spec"] = json!({"template": {"spec": {"containers": [{"name": "app", "image": "web:bad"}]}}});
    let request = json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": "release", "namespace": "teller"},
        "spec": {"title": "release", "reason": "a test", "requester": "alice", "progressDeadline": "5s",
            "content": {"manifests": [config, web]}},
    });
    let change = Change { namespace: "teller".to_owned(), name: "release".to_owned() };
    let vote = Act::Vote(user("bob", &["sre"]), change, ApprovalDecision::Approve);
    let acts = vec![(1_000, Act::Create(user("alice", &["dev"]), request)), (5_000, vote)];
    // Which write's death it is differs from seed to seed; what happens until it arrives is left to chance.
    History { seed, controllers: 2, ..History::at(&Bank { votes: 1, ..Bank::default() }, acts) }
}

/// A calm release of one workload by one strategy, at a Gateway that takes its time.
fn release(seed: u64, strategy: &Value, workload: &Value) -> History {
    let mut plan = json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "RolloutPlan",
        "metadata": {"name": "cautious", "namespace": "teller"}, "spec": strategy,
    });
    plan["spec"]["progressDeadline"] = json!("60s");
    let request = json!({
        "apiVersion": interlock_crds::API_VERSION, "kind": "ChangeRequest",
        "metadata": {"name": "release", "namespace": "teller"},
        "spec": {"title": "release", "reason": "a test", "requester": "alice", "rolloutPlanRef": {"name": "cautious"},
            "content": {"manifests": [workload]}},
    });
    let change = Change { namespace: "teller".to_owned(), name: "release".to_owned() };
    let vote = Act::Vote(user("bob", &["sre"]), change, ApprovalDecision::Approve);
    let acts = vec![(1_000, Act::Create(user("alice", &["dev", "sre"]), request)), (8_000, vote)];
    let calm = History::at(&Bank { votes: 1, ..Bank::default() }, acts);
    let mut history = History { seed, gateway_delay: SignedDuration::from_secs(20), ..calm };
    history.objects.extend(release_objects());
    history.objects.extend([agents("web:zero"), plan]);
    history
}

/// A share of the traffic of web-0.
fn split(seed: u64) -> History {
    let route = json!({"httpRoute": "web", "backend": "web"});
    release(seed, &json!({"canary": {"route": route, "steps": [{"setWeight": 30}]}}), &deployment("web-0", "web:new"))
}

/// Two of three nodes in one batch.
fn node_by_node(seed: u64) -> History {
    release(seed, &json!({"batches": {"steps": [{"setReplicas": 2}]}}), &agents("web:new"))
}

/// A share of the pods of web-0, which nobody signs.
fn unsigned(seed: u64) -> History {
    let steps = json!([{"setWeight": 50}, {"signOff": {"groups": ["sre"]}}]);
    release(seed, &json!({"canary": {"steps": steps}}), &deployment("web-0", "web:new"))
}

/// A pod on each of the three nodes.
fn agents(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "teller"},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
            "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
    })
}

/// Plays it; the controller is killed while one of its first writes is on its way, which arrives during the way back.
fn amid_a_write(history: &History, kills: u64) -> Result<(), Broken> {
    let options =
        Options { seed: history.seed, start: start(), controllers: history.controllers, faults: Faults::default() };
    let mut world = World::new(&options);
    world.workloads.set_behaviours(history.behaviours.clone());
    world.seed_objects(&history.objects).unwrap();
    for (after, act) in &history.acts {
        // Everything is enrolled and healthy by then.
        world.schedule(start() + SignedDuration::from_secs(30) + SignedDuration::from_millis(*after), act.clone());
    }
    let (mut dog, mut left) = (Watchdog::default(), kills);
    let until = start() + SignedDuration::from_mins(5);
    while world.step(until) {
        if left > 0 && world.crash_amid_a_write() {
            left -= 1;
        }
        for happening in world.take_happened() {
            if let Happening::Stored(audit) = &happening {
                dog.stored(&world, audit)?;
                let was_new = audit.old.as_ref().is_some_and(|old| old["data"]["value"] == "new");
                if was_new && audit.user.ends_with(":executor") {
                    // The first write comes when everything seems to be as it was.
                    world.deliver_late_writes();
                }
            }
        }
    }
    Ok(())
}

/// The first broken invariant and the seed.
fn caught(mutant: Mutant) -> Option<(u64, &'static str)> {
    mutants::choose(Some(mutant));
    let play = |seed: u64| match mutant {
        Mutant::RetryBlindly => amid_a_write(&deadly(seed), 1).err(),
        Mutant::NameRunsByTheMoment
        | Mutant::RemoveBesideOthers
        | Mutant::ForgetWhatDrillsNeed
        | Mutant::PassWithoutAnAnswer
        | Mutant::ReadT0Anew => History::of_backups(seed).play().err().map(|(broken, _)| broken),
        Mutant::DeleteBeforeTheRoute => split(seed).play().err().map(|(broken, _)| broken),
        Mutant::AllPodsAtOnce => node_by_node(seed).play().err().map(|(broken, _)| broken),
        Mutant::SkipTheSignature => unsigned(seed).play().err().map(|(broken, _)| broken),
        _ => History::of_seed(seed).play().err().map(|(broken, _)| broken),
    };
    let found = SEEDS.map(|seed| (seed, play(seed))).find_map(|(seed, broken)| {
        let broken = broken?;
        println!("{mutant:?}, seed {seed}: {broken}");
        Some((seed, broken.invariant))
    });
    mutants::choose(None);
    found
}

macro_rules! caught {
    ($($test:ident: $mutant:ident => $($invariant:literal)|+;)*) => {
        $(#[test]
        fn $test() {
            let (seed, invariant) = caught(Mutant::$mutant).expect("no history shows it");
            assert!([$($invariant),+].contains(&invariant), "seed {seed}: {invariant}");
        })*

        #[test]
        fn every_mutant_has_its_test() {
            assert_eq!(Mutant::ALL.to_vec(), vec![$(Mutant::$mutant),*]);
        }
    };
}

caught! {
    votes_on_other_content_count: SkipTheDigestCheck => "nothing unapproved runs";
    one_person_is_counted_twice: CountOnePersonTwice => "nothing unapproved runs";
    the_requester_votes: CountTheRequester => "nothing unapproved runs";
    old_votes_count: ForgetThatVotesAge => "nothing unapproved runs";
    who_is_barred_votes: ForgetWhoIsBarred => "nothing unapproved runs";
    any_evidence_will_do: TakeAnyEvidence => "nothing runs without its evidence";
    a_freeze_is_ignored: IgnoreTheFreeze => "nothing starts in a freeze";
    a_write_is_repeated_blindly: RetryBlindly => "no step is taken twice";
    a_forged_status_is_trusted: TrustStatus => "nothing unapproved runs" | "every started change ends or waits for a person";
    an_object_is_forgotten_on_the_way_back: ForgetOneOnTheWayBack => "going back restores everything";
    it_ends_too_early: EndTooEarly => "what succeeded was carried out";
    anything_is_standard: AnythingIsStandard => "nothing unapproved runs";
    a_run_is_named_by_the_moment: NameRunsByTheMoment => "a slot has one run";
    a_prune_waits_for_nobody: RemoveBesideOthers => "who removes is alone with the repository";
    what_a_drill_needs_is_forgotten: ForgetWhatDrillsNeed => "no prune forgets what a drill restores or judges";
    a_drill_passes_without_an_answer: PassWithoutAnAnswer => "a drill passes with its proofs only";
    t0_is_read_anew: ReadT0Anew => "T0 and the verdict of a drill never change";
    a_wave_is_not_observed: SkipTheSoak => "a wave begins when those before it were observed and it is signed";
    the_last_step_is_left_out: LeaveTheLastStepOut => "the old version is not touched before the canary proved itself";
    traffic_goes_to_pods_that_are_not_ready: WeightBeforeEndpoints => "weights sum up and rise to ready endpoints only (R30)";
    pods_go_before_their_traffic: DeleteBeforeTheRoute => "pods go after their traffic";
    a_whole_batch_is_replaced_at_once: AllPodsAtOnce => "as many ready pods serve as before a release";
    nobody_signs: SkipTheSignature => "a step is passed when it is signed";
}

#[test]
fn without_an_error_the_same_histories_are_fine() {
    for seed in SEEDS.take(20) {
        if let Err((broken, _)) = History::of_seed(seed).play() {
            panic!("seed {seed}: {broken}");
        }
        if let Err(broken) = amid_a_write(&deadly(seed), 1) {
            panic!("deaths amid writes, seed {seed}: {broken}");
        }
    }
    for seed in SEEDS.take(3) {
        if let Err((broken, _)) = History::of_backups(seed).play() {
            panic!("backups, seed {seed}: {broken}");
        }
    }
    for (what, history, end) in [
        ("split", split(1), json!("Succeeded")),
        ("node by node", node_by_node(1), json!("Succeeded")),
        ("unsigned", unsigned(1), Value::Null),
    ] {
        let (world, _) = history.play_whole().unwrap_or_else(|(broken, _)| panic!("{what}: {broken}"));
        let change = world.object(interlock_crds::GROUP, "ChangeRequest", "teller", "release").unwrap();
        assert_eq!(change["status"]["finished"]["phase"], end, "{what}: {:#}", change["status"]);
    }
}
