//! The test against scipy's, its false alarms and its power, and its laws.
//!
//! The table was made once with scipy 1.17.1: `scipy.stats.mannwhitneyu(first, second, alternative=..., method=...,
//! use_continuity=True)` with method `exact` without ties and up to 400 pairs, else `asymptotic`; tails are
//! `scipy.stats.norm.sf(z)`. The random rows are from `numpy.random.default_rng(7)`, rounded.
#![allow(clippy::unreadable_literal, clippy::excessive_precision)]

use interlock_crds::MeasurementOutcome;
use proptest::prelude::*;
use serde_json::json;

use super::{analysis, slot};
use crate::analysis::observation::Observation;
use crate::analysis::statistics::{Alternative, MannWhitney, mann_whitney, median, upper_tail};
use crate::analysis::{Judge, Slot};

struct Known {
    name: &'static str,
    first: &'static [f64],
    second: &'static [f64],
    u: f64,
    greater: f64,
    less: f64,
    two_sided: f64,
}

#[rustfmt::skip]
const KNOWN: [Known; 9] = [
    Known { name: "textbook, exact", first: &[19.0, 22.0, 16.0, 29.0, 24.0], second: &[20.0, 11.0, 17.0, 12.0], u: 17.0, greater: 0.05555555555555555, less: 0.9682539682539683, two_sided: 0.1111111111111111 },
    Known { name: "one each, exact", first: &[2.0], second: &[1.0], u: 1.0, greater: 0.5, less: 1.0, two_sided: 1.0 },
    Known { name: "apart, exact", first: &[11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0], second: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], u: 64.0, greater: 7.77000777000777e-05, less: 1.0, two_sided: 0.0001554001554001554 },
    Known { name: "ties, asymptotic", first: &[1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0], second: &[2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0, 6.0], u: 17.0, greater: 0.9722869572352809, less: 0.03458642030768318, two_sided: 0.06917284061536635 },
    Known { name: "all equal but one, asymptotic", first: &[1.0, 1.0, 1.0, 1.0, 1.0, 2.0], second: &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], u: 21.0, greater: 0.20232838096364308, less: 0.8783274954256188, two_sided: 0.40465676192728617 },
    Known { name: "lognormal, asymptotic", first: &[1.0012, 1.3482, 0.7602, 0.4104, 0.6347, 0.371, 1.062, 3.8199, 0.6113, 0.5377, 1.6321, 1.4289, 1.1112, 0.3944, 0.9712, 2.0043, 0.2607, 0.6328, 0.1494, 0.2754, 0.1585, 0.7905, 0.2815, 1.3116], second: &[1.745, 1.2375, 0.1204, 0.8705, 1.4212, 1.6708, 0.323, 0.9252, 0.5607, 0.6644, 4.3098, 0.6653, 1.4441, 3.6125, 0.8323, 1.3342, 1.6661, 1.5901, 0.4382, 1.6098, 5.8056], u: 159.0, greater: 0.9832982095981234, less: 0.017669698804612676, two_sided: 0.03533939760922535 },
    Known { name: "rounded, asymptotic", first: &[5.0, 13.0, 10.0, 8.0, 16.0, 12.0, 6.0, 10.0, 12.0, 9.0, 12.0, 10.0, 12.0, 14.0, 8.0, 11.0, 9.0, 10.0, 6.0, 8.0, 9.0, 13.0, 13.0, 6.0, 8.0, 12.0, 4.0, 9.0, 10.0, 14.0], second: &[14.0, 11.0, 11.0, 11.0, 17.0, 11.0, 11.0, 13.0, 12.0, 11.0, 9.0, 12.0, 11.0, 15.0, 14.0, 12.0, 14.0, 11.0, 15.0, 12.0, 14.0, 8.0, 13.0, 7.0, 6.0], u: 238.5, greater: 0.9901276303086427, less: 0.01032981030321056, two_sided: 0.02065962060642112 },
    Known { name: "uneven, exact", first: &[2.6496, 0.6784, 1.4547], second: &[1.0827, 0.4768, 2.2309, 1.8384, 0.3414, 0.725, 1.1484, 1.1478, 0.0826, 5.2891, 0.0044, 1.4051, 1.284, 0.2846, 0.6789, 0.3725, 0.0163, 0.8072, 1.1994, 1.1487, 4.4597, 0.1685, 0.1907, 0.5841, 0.2128, 0.5524, 2.7929, 1.3422, 0.5984, 0.748, 5.8495, 0.5465, 1.1308, 1.8812, 1.2478, 1.2116, 1.6511, 0.2494, 0.6056, 1.37], u: 84.0, greater: 0.13840045377197954, less: 0.8718904464792157, two_sided: 0.2768009075439591 },
    Known { name: "twenty, exact", first: &[-0.7933, -0.62607, -1.27773, 1.25707, -0.15409, 0.96592, 0.01332, -0.6944, -0.32669, -0.56023, 0.00796, -0.37527, -0.29992, -1.37857, -0.80685, 1.65406, -0.67123, -1.05409, 0.33733, 1.40727], second: &[-0.55402, 0.69148, 0.26795, -0.86102, 1.63493, 0.87656, 0.97144, 0.14769, 1.35478, 0.3607, 0.7571, -0.20826, -0.3161, 2.23553, 0.3929, 1.19168, 0.86621, 0.45885, 0.39204, 1.53008], u: 97.0, greater: 0.9978666271576269, less: 0.0023405992719722946, two_sided: 0.004681198543944589 },
];

#[rustfmt::skip]
const TAILS: [(f64, f64); 12] = [
    (-3.0, 0.9986501019683699),     (-0.5, 0.6914624612740131),     (0.0, 0.5),     (0.1, 0.460172162722971),
    (1.0, 0.15865525393145707),     (1.959963984540054, 0.025),     (2.8, 0.002555130330427932),     (2.9,
    0.0018658133003840375),     (4.0, 3.167124183311986e-05),     (6.0, 9.865876450376946e-10),     (10.0,
    7.61985302416047e-24),     (30.0, 4.906713927147908e-198),
];

fn test(first: &[f64], second: &[f64], alternative: Alternative) -> MannWhitney {
    mann_whitney(first, second, alternative).expect("samples")
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-10 * b.abs()
}

#[test]
fn the_numbers_are_those_of_scipy() {
    for Known { name, first, second, u, greater, less, two_sided } in KNOWN {
        let expected = [(Alternative::Greater, greater), (Alternative::Less, less), (Alternative::TwoSided, two_sided)];
        for (alternative, p) in expected {
            let tested = test(first, second, alternative);
            assert!(close(tested.u, u) && close(tested.p, p), "{name} {alternative:?}: {tested:?}, scipy {u} {p}");
        }
    }
}

#[test]
fn the_tail_of_the_normal_distribution_is_that_of_scipy() {
    for (z, p) in TAILS {
        assert!((upper_tail(z) - p).abs() <= 1e-12 * p, "{z}: {} {p}", upper_tail(z));
    }
}

#[test]
fn nothing_is_said_about_nothing() {
    assert_eq!(mann_whitney(&[], &[1.0], Alternative::Greater), None);
    assert_eq!(mann_whitney(&[1.0], &[f64::NAN], Alternative::Greater), None);
    assert!(close(test(&[3.0; 40], &[3.0; 40], Alternative::TwoSided).p, 1.0));
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(median(&[f64::INFINITY; 4]), Some(f64::INFINITY));
    assert_eq!(median(&[f64::MAX; 2]), Some(f64::MAX));
}

/// Standard normal numbers (Box and Muller).
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// How often a test with `alpha` rejects, of `runs`.
fn rejections(
    runs: usize,
    size: usize,
    alpha: f64,
    alternative: Alternative,
    mut draw: impl FnMut(bool) -> f64,
) -> usize {
    let mut rejected = 0;
    for _ in 0..runs {
        let first: Vec<f64> = (0..size).map(|_| draw(true)).collect();
        let second: Vec<f64> = (0..size).map(|_| draw(false)).collect();
        rejected += usize::from(test(&first, &second, alternative).p < alpha);
    }
    rejected
}

/// Most rejections that chance explains in 999 of 1,000 such experiments (normal approximation, 3.09 deviations).
fn explained(runs: usize, alpha: f64) -> f64 {
    let runs = runs as f64;
    runs * alpha + 3.09 * (runs * alpha * (1.0 - alpha)).sqrt()
}

#[test]
fn equal_versions_are_found_different_no_more_often_than_alpha() {
    const RUNS: usize = 4_000;
    for (seed, size) in [(11, 12), (12, 30), (13, 100)] {
        for alternative in [Alternative::Greater, Alternative::Less, Alternative::TwoSided] {
            for alpha in [0.01, 0.05] {
                let mut random = fastrand::Rng::with_seed(seed);
                let skewed = rejections(RUNS, size, alpha, alternative, |_| (0.7 * normal(&mut random)).exp());
                let tied = rejections(RUNS, size, alpha, alternative, |_| f64::from(random.u8(0..6)));
                for (what, rejected) in [("lognormal", skewed), ("tied", tied)] {
                    let rate = rejected as f64 / RUNS as f64;
                    println!("{what:9} n {size:3} alpha {alpha:.2} {alternative:?}: {rate:.4}");
                    assert!(rejected as f64 <= explained(RUNS, alpha), "{what} {size} {alpha} {alternative:?} {rate}");
                    // A test that never rejects would pass the line above. Counted out, alpha is rarely met exactly.
                    assert!(rate >= alpha * 0.5, "{what} {size} {alpha} {alternative:?} {rate}");
                }
            }
        }
    }
}

#[test]
fn a_worse_version_is_found_the_surer_the_worse_it_is_and_the_more_samples_there_are() {
    let power = |size, factor: f64| {
        let mut random = fastrand::Rng::with_seed(21);
        let draw = |worse: bool| (0.4 * normal(&mut random)).exp() * if worse { factor } else { 1.0 };
        rejections(1_000, size, 0.01, Alternative::Greater, draw) as f64 / 1_000.0
    };
    for (size, factor, least) in [(30, 1.5, 0.9), (30, 1.3, 0.5), (60, 1.3, 0.85), (120, 1.2, 0.8)] {
        let power = power(size, factor);
        println!("lognormal(0.4), n {size}, {factor} times as slow, alpha 0.01: found in {power:.3}");
        assert!(power >= least, "{size} {factor}: {power}");
    }
    assert!(power(30, 1.2) < power(30, 1.5) && power(30, 1.2) < power(90, 1.2));
}

/// Lognormal numbers, each of which keeps a part of the one before: an autoregression of the first order.
fn remembering(random: &mut fastrand::Rng, memory: f64, count: usize) -> Vec<f64> {
    let (mut last, fresh) = (normal(random), (1.0 - memory * memory).sqrt());
    let mut next = || {
        let value = (0.1 * last).exp();
        last = memory * last + fresh * normal(random);
        value
    };
    (0..count).map(|_| next()).collect()
}

const RELEASES: usize = 200;
const ALPHA: f64 = 0.05;

/// How many releases are found worse at any of 20 looks at samples that grow, as releases are judged: where no difference
/// of the medians is borne, and where a tenth is. The new version's values are `times` those of the old one.
fn found_worse(of: Option<u32>, memory: f64, times: f64) -> (usize, usize) {
    let comparing = |borne: f64| {
        let metric = json!({"address": "http://p:9090", "query": "latency{track=\"{{track}}\"}"});
        let compare = json!({"metric": metric, "minimumSamples": 30, "alpha": ALPHA, "maximumRatio": borne});
        Judge::new(&analysis(json!({"compare": compare}))).expect("judge")
    };
    let (strict, lenient) = (comparing(1.0), comparing(1.1));
    let mut random = fastrand::Rng::with_seed(31);
    let mut found = (0, 0);
    for _ in 0..RELEASES {
        let canary: Vec<f64> = remembering(&mut random, memory, 68).into_iter().map(|value| value * times).collect();
        let baseline = remembering(&mut random, memory, 68);
        let mut is_worse = (false, false);
        for number in 1..=20_u32 {
            let seen = 28 + 2 * number as usize;
            let samples = Observation::Samples { canary: canary[..seen].to_vec(), baseline: baseline[..seen].to_vec() };
            let place = Slot { number, of, ..slot() };
            let fails = |judge: &Judge| judge.judge(&place, &samples).outcome == MeasurementOutcome::Failed;
            // Whoever bears more fails less.
            let is_strictly = fails(&strict);
            is_worse = (is_worse.0 || is_strictly, is_worse.1 || is_strictly && fails(&lenient));
            if is_worse.1 {
                break;
            }
        }
        found = (found.0 + usize::from(is_worse.0), found.1 + usize::from(is_worse.1));
    }
    found
}

#[test]
fn twenty_looks_at_growing_samples_together_keep_to_alpha_and_what_remembers_a_little_is_not_far_off() {
    let borne = explained(RELEASES, ALPHA);
    // Whether the number of looks is known, and how much of each sample is that before.
    for (of, memory, most) in [(Some(20), 0.0, borne), (None, 0.0, borne), (Some(20), 0.3, 0.2 * RELEASES as f64)] {
        let (by_chance, by_a_tenth) = found_worse(of, memory, 1.0);
        println!("of {of:?}, memory {memory}: {by_chance} of {RELEASES} found worse, {by_a_tenth} by a tenth");
        assert!(by_chance as f64 <= most && by_a_tenth <= by_chance, "{of:?} {memory}: {by_chance} {by_a_tenth}");
        assert_eq!(found_worse(of, memory, 1.4), (RELEASES, RELEASES), "what is worse is found");
    }
}

fn sample() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![(-20_i32..20).prop_map(f64::from), -50.0..50.0_f64], 1..40)
}

proptest! {
    #[test]
    fn exchanging_the_samples_exchanges_greater_and_less(first in sample(), second in sample()) {
        let (one, other) = (test(&first, &second, Alternative::Greater), test(&second, &first, Alternative::Less));
        prop_assert!((one.p - other.p).abs() < 1e-12);
        prop_assert!((one.u + other.u - (first.len() * second.len()) as f64).abs() < 1e-9);
        let (two, back) = (test(&first, &second, Alternative::TwoSided), test(&second, &first, Alternative::TwoSided));
        prop_assert!((two.p - back.p).abs() < 1e-12);
    }

    #[test]
    fn only_the_order_of_the_values_counts(first in sample(), second in sample()) {
        // Increasing, and exact for these values: equal ones stay equal, unequal ones unequal.
        let bent = |values: &[f64]| values.iter().map(|v| (v / 64.0).exp() * 1e3 + v).collect::<Vec<_>>();
        for alternative in [Alternative::Greater, Alternative::Less, Alternative::TwoSided] {
            let (plain, bent) = (test(&first, &second, alternative), test(&bent(&first), &bent(&second), alternative));
            prop_assert_eq!(plain, bent);
        }
    }

    #[test]
    fn p_is_a_probability_and_falls_as_the_first_sample_rises(first in sample(), second in sample(), by in 0.0..40.0_f64) {
        let raised: Vec<f64> = first.iter().map(|value| value + by).collect();
        for alternative in [Alternative::Greater, Alternative::Less, Alternative::TwoSided] {
            let p = test(&first, &second, alternative).p;
            prop_assert!((0.0..=1.0).contains(&p), "{}", p);
        }
        prop_assert!(test(&raised, &second, Alternative::Greater).u >= test(&first, &second, Alternative::Greater).u);
    }

    #[test]
    fn counting_out_and_approximating_agree(
        first in prop::collection::btree_set(0_i32..10_000, 15..20),
        second in prop::collection::btree_set(10_000_i32..20_000, 15..20),
    ) {
        // The second sample is moved into the first one's range by halves, so that there are no ties.
        let first: Vec<f64> = first.into_iter().map(f64::from).collect();
        let second: Vec<f64> = second.into_iter().map(|v| f64::from(v) - 10_000.0 + 0.5).collect();
        let counted = test(&first, &second, Alternative::Greater).p;
        let sd = ((first.len() * second.len() * (first.len() + second.len() + 1)) as f64 / 12.0).sqrt();
        let u = test(&first, &second, Alternative::Greater).u;
        let approximated = upper_tail((u - (first.len() * second.len()) as f64 / 2.0 - 0.5) / sd);
        prop_assert!((counted - approximated).abs() < 0.01, "{} {}", counted, approximated);
    }
}
