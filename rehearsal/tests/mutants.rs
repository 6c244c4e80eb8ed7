//! The test of the tests: a controller with a deliberate error breaks the invariant that is there to see it, within few
//! random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::mutants::{self, Mutant};
use interlock_crds::ApprovalDecision;
use interlock_rehearsal::{
    faults::Faults,
    history::{Bank, History},
    people::{Act, Change, user},
};
use serde_json::json;

/// Histories in which an error must show.
const SEEDS: std::ops::Range<u64> = 1..400;
/// The same for an error that one death in a hundred shows: its histories are short.
const DEADLY_SEEDS: std::ops::Range<u64> = 1..4_000;

/// A change that writes, fails, and goes back, under controllers that die often while their calls are on their way.
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
    // Which death hits a call on its way is left to chance: rates and numbers differ from seed to seed.
    let slow_calls = if seed.is_multiple_of(2) { 0.2 } else { 0.0 };
    let crashes = match seed % 3 {
        0 => 0.015,
        1 => 0.03,
        _ => 0.05,
    };
    let controllers = match seed % 5 {
        0 => 1,
        1 | 2 => 2,
        _ => 3,
    };
    let faults = Faults { crashes, slow_calls, ..Faults::default() };
    History { seed, faults, controllers, ..History::at(&Bank { votes: 1, ..Bank::default() }, acts) }
}

/// The first broken invariant and the seed.
fn caught(mutant: Mutant) -> Option<(u64, &'static str)> {
    mutants::choose(Some(mutant));
    let is_deadly = mutant == Mutant::RetryBlindly;
    let history = if is_deadly { deadly } else { History::of_seed };
    let found = if is_deadly { DEADLY_SEEDS } else { SEEDS }.map(|seed| (seed, history(seed).play())).find_map(
        |(seed, played)| {
            let (broken, _) = played.err()?;
            println!("{mutant:?}, seed {seed}: {broken}");
            Some((seed, broken.invariant))
        },
    );
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
}

#[test]
fn without_an_error_the_same_histories_are_fine() {
    for seed in SEEDS.take(20) {
        for history in [History::of_seed(seed), deadly(seed)] {
            if let Err((broken, _)) = history.play() {
                panic!("seed {seed}: {broken}");
            }
        }
    }
}
