//! B13, D12: who may hold the repository.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::at;
use crate::backup::repository::{Arrangement, Claim, EXCLUSIVE_PATIENCE, HolderState, Use, arrange, read, write};

fn claim(uid: &str, usage: Use, since: &str) -> Claim {
    Claim { uid: uid.into(), holder: format!("{usage:?}/{uid}"), usage, since: at(&format!("2026-11-23T{since}Z")) }
}

fn live(holders: &[Claim], wanting: &[Claim], now: &str) -> Arrangement {
    arrange(holders, wanting, |_| HolderState::Live, at(&format!("2026-11-23T{now}Z")))
}

#[test]
fn b13_a_backup_waits_while_the_repository_is_pruned_and_runs_then() {
    let prune = live(&[], &[claim("prune", Use::Exclusive, "05:00:00")], "05:00:00");
    assert_eq!(prune.granted, ["prune"]);
    let wanting = [claim("backup", Use::Backup, "05:10:00"), claim("drill", Use::Restore, "05:05:00")];
    let waits = live(&prune.holders, &wanting, "05:10:00");
    assert_eq!(waits.granted, [""; 0]);
    assert!(waits.told("backup").unwrap().contains("Exclusive/prune"), "{:?}", waits.told("backup"));
    let after = arrange(&prune.holders, &wanting, |_| HolderState::Ended, at("2026-11-23T05:20:00Z"));
    assert_eq!(
        (after.released, after.granted),
        (vec!["prune".to_owned()], vec!["backup".to_owned(), "drill".to_owned()])
    );
}

#[test]
fn b13_nothing_is_pruned_while_somebody_holds_the_repository() {
    let held = [claim("backup", Use::Backup, "04:00:00"), claim("drill", Use::Restore, "04:30:00")];
    let prune = [claim("prune", Use::Exclusive, "05:00:00")];
    let days_later = arrange(&held, &prune, |_| HolderState::Live, at("2026-11-30T05:00:00Z"));
    assert!(days_later.granted.is_empty() && days_later.released.is_empty(), "a claim never expires");
    let one_left = arrange(
        &held,
        &prune,
        |holder| if holder.uid == "backup" { HolderState::Ended } else { HolderState::Live },
        at("2026-11-23T05:00:00Z"),
    );
    assert_eq!((one_left.released.len(), one_left.granted.len()), (1, 0));
}

#[test]
fn d12_backups_go_first_and_a_prune_is_not_starved() {
    let held = [claim("b1", Use::Backup, "04:50:00")];
    let wanting = [
        claim("prune", Use::Exclusive, "05:00:00"),
        claim("b2", Use::Backup, "05:20:00"),
        claim("drill", Use::Restore, "05:20:00"),
    ];
    let patient = live(&held, &wanting, "05:20:00");
    assert_eq!(patient.granted, ["b2", "drill"]);
    assert_eq!(patient.wake_at, Some(at("2026-11-23T05:30:00Z")));
    let impatient = live(&held, &wanting, "05:30:00");
    assert_eq!(impatient.granted, [""; 0]);
    assert!(impatient.told("b2").unwrap().contains("is next"));
    // A long drill that holds on delays the prune anyway: backups pass meanwhile, drills do not.
    let restoring = [claim("long", Use::Restore, "04:00:00")];
    let meanwhile = live(&restoring, &wanting, "05:30:00");
    assert_eq!(meanwhile.granted, ["b2"]);
}

#[test]
fn after_an_exclusive_run_those_that_waited_longer_go_before_the_next() {
    let held = [claim("prune", Use::Exclusive, "05:00:00")];
    let wanting = [claim("check", Use::Exclusive, "05:30:00"), claim("b1", Use::Backup, "05:10:00")];
    let after = arrange(&held, &wanting, |_| HolderState::Ended, at("2026-11-23T08:00:00Z"));
    assert_eq!(after.granted, ["b1"]);
    let wanting = [claim("check", Use::Exclusive, "05:05:00"), claim("b1", Use::Backup, "05:10:00")];
    let after = arrange(&held, &wanting, |_| HolderState::Ended, at("2026-11-23T08:00:00Z"));
    assert_eq!(after.granted, ["check"]);
}

#[test]
fn holders_survive_the_lease_and_an_unreadable_one_lets_nobody_in() {
    let held = vec![claim("b1", Use::Backup, "04:50:00")];
    assert_eq!(read(Some(&write(&held))).unwrap(), held);
    assert_eq!(read(None).unwrap(), vec![]);
    assert!(read(Some("{")).unwrap_err().contains("Lease"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random arrivals; backups last at most 1 h, restores 2 h, exclusive runs 3 h.
    #[test]
    fn exclusive_is_alone_and_nobody_waits_for_ever(
        arrivals in prop::collection::vec((0_i64..36_000, 0_usize..3, 1_i64..=60), 1..30),
    ) {
        let start = at("2026-11-23T00:00:00Z");
        let plus = |at: Timestamp, minutes: i64| at.checked_add(SignedDuration::from_mins(minutes)).unwrap();
        let uses = [Use::Backup, Use::Restore, Use::Exclusive];
        let all: Vec<_> = arrivals.iter().enumerate().map(|(n, (second, usage, length))| {
            let since = start.checked_add(SignedDuration::from_secs(*second)).unwrap();
            (Claim { uid: format!("r{n}"), holder: format!("r{n}"), usage: uses[*usage], since }, length * (*usage as i64 + 1))
        }).collect();
        let (mut held, mut done, mut began) = (Vec::<Claim>::new(), Vec::new(), std::collections::BTreeMap::new());
        let exclusives = all.iter().filter(|(claim, _)| claim.usage == Use::Exclusive).count() as i64;
        for minute in 0..60 * 300 {
            let now = plus(start, minute);
            let over = |claim: &Claim| {
                let length = all.iter().find(|(c, _)| c.uid == claim.uid).map_or(0, |(_, length)| *length);
                if plus(claim.since, length) <= now { HolderState::Ended } else { HolderState::Live }
            };
            let wanting: Vec<_> = all.iter().map(|(claim, _)| claim.clone())
                .filter(|claim| claim.since <= now && !done.contains(&claim.uid)).collect();
            let arrangement = arrange(&held, &wanting, over, now);
            done.extend(arrangement.released.clone());
            for uid in &arrangement.granted {
                began.insert(uid.clone(), now);
            }
            held = arrangement.holders.clone();
            let alone = held.iter().filter(|claim| claim.usage == Use::Exclusive).count();
            prop_assert!(alone == 0 || held.len() == 1, "{:?}", held);
            // Asking again changes nothing.
            let still: Vec<_> = wanting.iter().filter(|claim| !done.contains(&claim.uid)).cloned().collect();
            let again = arrange(&held, &still, over, now);
            prop_assert!(!again.changes(), "{again:?}");
            if done.len() == all.len() { break; }
        }
        for (claim, _) in &all {
            let waited = began[&claim.uid].duration_since(claim.since).as_mins();
            let patience = EXCLUSIVE_PATIENCE.as_mins();
            let limit = match claim.usage {
                // Those exclusive runs that came before it, each after the restores and backups that were there.
                Use::Backup => exclusives * (180 + 120 + 60) + patience,
                _ => exclusives * (180 + 120 + 60 + patience) + 180,
            };
            prop_assert!(waited <= limit, "{:?} waited {waited} min, limit {limit}", claim);
        }
    }
}
