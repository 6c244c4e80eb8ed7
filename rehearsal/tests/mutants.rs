//! The test of the tests: a controller with a deliberate error breaks the invariant that is there to see it, within few
//! random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use interlock_core::mutants::{self, Mutant};
use interlock_rehearsal::history::History;

/// Histories in which an error must show.
const SEEDS: std::ops::Range<u64> = 1..400;

/// The first broken invariant and the seed.
fn caught(mutant: Mutant) -> Option<(u64, &'static str)> {
    mutants::choose(Some(mutant));
    let found = SEEDS.map(|seed| (seed, History::of_seed(seed).play())).find_map(|(seed, played)| {
        let (broken, _) = played.err()?;
        println!("{mutant:?}, seed {seed}: {broken}");
        Some((seed, broken.invariant))
    });
    mutants::choose(None);
    found
}

macro_rules! caught {
    ($($test:ident: $mutant:ident => $invariant:literal;)*) => {
        $(#[test]
        fn $test() {
            let (seed, invariant) = caught(Mutant::$mutant).expect("no history shows it");
            assert_eq!(invariant, $invariant, "seed {seed}");
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
    a_forged_status_is_trusted: TrustStatus => "nothing but what was approved is written";
    an_object_is_forgotten_on_the_way_back: ForgetOneOnTheWayBack => "going back restores everything";
    it_ends_too_early: EndTooEarly => "what succeeded was carried out";
    anything_is_standard: AnythingIsStandard => "nothing unapproved runs";
}

#[test]
fn without_an_error_the_same_histories_are_fine() {
    for seed in SEEDS.take(20) {
        if let Err((broken, _)) = History::of_seed(seed).play() {
            panic!("seed {seed}: {broken}");
        }
    }
}
