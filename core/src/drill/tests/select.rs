//! D1, D2, D4, D15: which recovery point.

use std::collections::BTreeSet;

use interlock_crds::{Backup, DrillSelection, SelectionStrategy, ShuffleState};
use proptest::prelude::*;
use serde_json::json;

use super::{beat, on};
use crate::{
    backup::exposure::Standing,
    drill::select::{Candidate, candidate, choose, seed},
};

fn point(name: &str, day: i8, standing: Standing, tiers: &[&str]) -> Candidate {
    Candidate {
        backup: name.into(),
        uid: format!("{name}-uid"),
        snapshot_id: format!("{name}{}", "0".repeat(10)),
        base_id: None,
        data_time: on(day, "02:00:00"),
        standing,
        tiers: tiers.iter().map(|tier| (*tier).to_owned()).collect(),
        heartbeat: Some(beat(i64::from(day), on(day, "01:59:50"))),
        bytes: 10,
        files: 3,
    }
}

fn by(strategy: SelectionStrategy) -> DrillSelection {
    DrillSelection { strategy, days: (strategy == SelectionStrategy::RandomWithin).then_some(20), id: None }
}

fn chosen(selection: &DrillSelection, candidates: &[Candidate]) -> Result<String, String> {
    choose(selection, candidates, &ShuffleState::default(), 7, on(23, "12:00:00")).map(|choice| choice.point.backup)
}

#[test]
fn d1_what_a_drill_found_corrupt_or_a_backup_left_incomplete_is_chosen_only_by_name() {
    let all = [
        point("a", 10, Standing::Corrupt, &["keepMonthly"]),
        point("b", 12, Standing::Good, &["keepWeekly"]),
        point("c", 14, Standing::Good, &[]),
        point("d", 20, Standing::Partial, &["keepLast"]),
        point("e", 22, Standing::Corrupt, &["keepLast"]),
    ];
    assert_eq!(chosen(&by(SelectionStrategy::Latest), &all).unwrap(), "c");
    assert_eq!(chosen(&by(SelectionStrategy::Oldest), &all).unwrap(), "b");
    for run in 0..50 {
        let choice =
            choose(&by(SelectionStrategy::RandomWithin), &all, &ShuffleState::default(), run, on(23, "12:00:00"));
        assert!(["b", "c"].contains(&choice.unwrap().point.backup.as_str()));
    }
    let named = |id: &str| DrillSelection { strategy: SelectionStrategy::ById, days: None, id: Some(id.into()) };
    assert_eq!(chosen(&named("e"), &all).unwrap(), "e");
    assert_eq!(chosen(&named("a00000000"), &all).unwrap(), "a", "the beginning of a snapshot's id");
    let logs = [(15, "b"), (16, "a")].map(|(day, base)| Candidate {
        base_id: Some(format!("{base}{}", "0".repeat(10))),
        ..point(&format!("log-of-{base}"), day, Standing::Good, &[])
    });
    let with_logs = [&all[..], &logs].concat();
    assert_eq!(
        chosen(&by(SelectionStrategy::Latest), &with_logs).unwrap(),
        "log-of-b",
        "the other one's base is corrupt"
    );
    let without_base: Vec<_> = with_logs.iter().filter(|candidate| candidate.backup != "b").cloned().collect();
    assert_eq!(chosen(&by(SelectionStrategy::Latest), &without_base).unwrap(), "c", "nor is one without its base");
    assert!(chosen(&named("gone"), &all).unwrap_err().contains("there is no recovery point gone"));
}

#[test]
fn d2_without_a_point_in_the_window_or_files_in_it_there_is_no_recovery_point() {
    let old = [point("a", 1, Standing::Good, &[])];
    let why = chosen(&by(SelectionStrategy::RandomWithin), &old).unwrap_err();
    assert!(why.contains("the last 20 days"), "{why}");
    assert_eq!(chosen(&by(SelectionStrategy::Latest), &old).unwrap(), "a", "the window is that of RandomWithin alone");
    assert!(chosen(&by(SelectionStrategy::Latest), &[]).unwrap_err().contains("no good recovery point"));
    let mut empty = old;
    empty[0].files = 0;
    assert!(chosen(&by(SelectionStrategy::Oldest), &empty).unwrap_err().contains("has no files"));
}

#[test]
fn d4_a_new_backup_between_two_runs_is_what_the_second_one_restores() {
    let mut all = vec![point("first", 10, Standing::Good, &[])];
    assert_eq!(chosen(&by(SelectionStrategy::Latest), &all).unwrap(), "first");
    all.insert(0, point("second", 11, Standing::Good, &[]));
    assert_eq!(chosen(&by(SelectionStrategy::Latest), &all).unwrap(), "second");
}

proptest! {
    #[test]
    fn d15_every_tier_is_drawn_from_once_in_a_round_and_the_seed_says_how(
        points in prop::collection::vec((4_i8..23, 0_usize..4), 1..30),
        seeds in prop::collection::hash_set(any::<u32>(), 24),
    ) {
        let seeds: Vec<_> = seeds.into_iter().collect();
        let names = ["keepLast", "keepDaily", "keepWeekly", "keepMonthly"];
        let all: Vec<_> = points.iter().enumerate().map(|(at, (day, tier))| {
            point(&format!("p{at}"), *day, Standing::Good, names.get(*tier..).unwrap())
        }).collect();
        let tiers: BTreeSet<_> = all.iter().flat_map(|point| point.tiers.clone()).collect();
        let now = on(23, "12:00:00");
        let selection = by(SelectionStrategy::RandomWithin);
        let mut state = ShuffleState::default();
        for round in seeds.chunks_exact(tiers.len()) {
            let mut drawn = BTreeSet::new();
            for seed in round {
                let choice = choose(&selection, &all, &state, u64::from(*seed), now).unwrap();
                prop_assert_eq!(&choice, &choose(&selection, &all, &state, u64::from(*seed), now).unwrap());
                let tier = choice.point.tier.clone().unwrap();
                let of = all.iter().find(|point| point.backup == choice.point.backup).unwrap();
                prop_assert!(of.tiers.contains(&tier));
                drawn.insert(tier);
                state = choice.shuffle;
                prop_assert_eq!(state.seed, u64::from(round[0]), "the seed of the round is that of its first run");
            }
            prop_assert_eq!(&drawn, &tiers, "a round draws from every tier");
        }
    }
}

#[test]
fn d15_no_point_of_a_tier_comes_again_before_all_others_came() {
    let all: Vec<_> = (1..=9).map(|n| point(&format!("p{n}"), 4 + n, Standing::Good, &["keepDaily"])).collect();
    let mut state = ShuffleState::default();
    let mut drawn = Vec::new();
    for run in 0..18 {
        let choice = choose(&by(SelectionStrategy::RandomWithin), &all, &state, run, on(23, "12:00:00")).unwrap();
        drawn.push(choice.point.backup);
        state = choice.shuffle;
    }
    for nine in drawn.chunks(9) {
        assert_eq!(nine.iter().collect::<BTreeSet<_>>().len(), 9, "{drawn:?}");
    }
    let other =
        choose(&by(SelectionStrategy::RandomWithin), &all, &ShuffleState::default(), 4, on(23, "12:00:00")).unwrap();
    assert_ne!(drawn[0], other.point.backup, "another seed, another order");
    assert!(seed("run-1") != seed("run-2") && seed("run-1") < 1 << 53);
}

#[test]
fn a_candidate_is_what_its_backup_recorded() {
    let backup = |phase: &str, policy: &str| -> Backup {
        serde_json::from_value(json!({
            "apiVersion": "interlock.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "b", "uid": "u"},
            "spec": {"policyRef": {"name": "teller-db"}, "requester": "alice"},
            "status": {
                "phase": phase,
                "pinned": {"policyUid": policy, "policyGeneration": 1, "policyDigest": "d", "repository": "vault", "repositoryUid": "r"},
                "point": {"snapshotId": "s", "dataTime": "2026-11-20T02:00:00Z", "bytes": 5, "files": 2},
                "retention": {"keptBy": ["keepDaily", "LastGood"]},
            },
        }))
        .unwrap()
    };
    let found = candidate(&backup("Succeeded", "policy-1"), "policy-1").unwrap();
    assert_eq!((found.tiers.as_slice(), found.files, found.bytes), (["keepDaily".to_owned()].as_slice(), 2, 5));
    assert_eq!(candidate(&backup("PartiallyFailed", "policy-1"), "policy-1").unwrap().standing, Standing::Partial);
    assert_eq!(candidate(&backup("Running", "policy-1"), "policy-1"), None);
    let mut may_be_gone = backup("Succeeded", "policy-1");
    let retention = json!({"expiredAt": "2026-11-21T02:00:00Z", "keptBy": ["keepDaily"]});
    may_be_gone.status.as_mut().unwrap().retention = serde_json::from_value(retention).unwrap();
    assert_eq!(candidate(&may_be_gone, "policy-1"), None, "a prune was told to forget it, and broke off");
    assert_eq!(candidate(&backup("Succeeded", "policy-2"), "policy-1"), None, "another policy of the same name");
}
