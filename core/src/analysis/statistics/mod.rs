//! The Mann-Whitney U test: whether the values of one sample tend to be greater than those of another.
//!
//! It looks at ranks only, so it assumes nothing about the distribution, and one outlier weighs no more than any other
//! value. Ties get the mean of their ranks. Without ties and with small samples the distribution of U is counted out;
//! otherwise the normal approximation with corrections for ties and continuity is used (as in H. B. Mann and
//! D. R. Whitney, 1947, and scipy.stats.mannwhitneyu, against which the tests compare it). It assumes that the values
//! of a sample are independent: see `step` of [`CompareMetric`](interlock_crds::CompareMetric) for what that demands of
//! a query.

mod normal;

use std::cmp::Ordering;

pub use normal::upper_tail;

/// Up to this product of the sizes the distribution of U is counted out.
const EXACT_LIMIT: usize = 400;

/// What is asked about the first sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alternative {
    /// Its values tend to be greater.
    Greater,
    /// They tend to be less.
    Less,
    /// One of both.
    TwoSided,
}

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the value of the first sample is greater; ties count half.
    pub u: f64,
    /// Probability of a U at least as extreme if both samples come from one distribution.
    pub p: f64,
}

/// Tests `first` against `second`. None if one is empty or holds a NaN.
pub fn mann_whitney(first: &[f64], second: &[f64], alternative: Alternative) -> Option<MannWhitney> {
    let (n1, n2) = (first.len(), second.len());
    if n1 == 0 || n2 == 0 || first.iter().chain(second).any(|value| value.is_nan()) {
        return None;
    }
    let Ranks { sum, ties } = ranks(first, second);
    let pairs = (n1 * n2) as f64;
    let u = sum - (n1 * (n1 + 1)) as f64 / 2.0;
    let exact = ties == 0.0 && n1 * n2 <= EXACT_LIMIT;
    // The probability of a U of at least `u`; its distribution is symmetric about the middle.
    let tail = |u: f64| if exact { exact_tail(n1, n2, u) } else { approximate_tail(n1, n2, ties, u) };
    let p = match alternative {
        Alternative::Greater => tail(u),
        Alternative::Less => tail(pairs - u),
        Alternative::TwoSided => 2.0 * tail(u.max(pairs - u)),
    };
    Some(MannWhitney { u, p: p.min(1.0) })
}

/// The middle value, or the mean of both middle ones. None if there is none or one is NaN.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    if sorted.iter().any(|value| value.is_nan()) {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    // Halves are added, so that great values do not overflow; the same infinity twice stays what it is.
    Some(if lower.total_cmp(&upper) == Ordering::Equal { lower } else { lower / 2.0 + upper / 2.0 })
}

struct Ranks {
    /// Sum of the ranks of the first sample.
    sum: f64,
    /// Sum of t^3 - t over groups of t equal values.
    ties: f64,
}

fn ranks(first: &[f64], second: &[f64]) -> Ranks {
    let mut all: Vec<(f64, bool)> =
        first.iter().map(|value| (*value, true)).chain(second.iter().map(|value| (*value, false))).collect();
    // Not total_cmp: zero and minus zero are a tie. No value is NaN.
    all.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    let (mut sum, mut ties, mut before) = (0.0, 0.0, 0_usize);
    for group in all.chunk_by(|a, b| a.0.partial_cmp(&b.0) == Some(Ordering::Equal)) {
        let size = group.len() as f64;
        let mean_rank = before as f64 + f64::midpoint(size, 1.0);
        sum += mean_rank * group.iter().filter(|(_, of_first)| *of_first).count() as f64;
        ties += size * size * size - size;
        before += group.len();
    }
    Ranks { sum, ties }
}

/// Counts the arrangements of ranks by their U: those whose greatest value belongs to the first sample, which then wins
/// `n2` pairs, and the others. Sizes whose product is small only; counts stay below 2^53, or nearly exact.
fn exact_tail(n1: usize, n2: usize, u: f64) -> f64 {
    // ways[j][k]: arrangements of i and j values in which the first sample wins k pairs; i grows from 0 to n1.
    let mut ways = vec![vec![1.0]; n2 + 1];
    for i in 1..=n1 {
        for j in 0..=n2 {
            let mut counts = vec![0.0; i * j + 1];
            let fewer_second = j.checked_sub(1).and_then(|less| ways.get(less));
            for (k, ways) in fewer_second.into_iter().flatten().enumerate() {
                if let Some(count) = counts.get_mut(k) {
                    *count += ways;
                }
            }
            for (k, ways) in ways.get(j).into_iter().flatten().enumerate() {
                if let Some(count) = counts.get_mut(k + j) {
                    *count += ways;
                }
            }
            if let Some(slot) = ways.get_mut(j) {
                *slot = counts;
            }
        }
    }
    let counts = ways.pop().unwrap_or_default();
    let all: f64 = counts.iter().sum();
    let from = u.ceil().max(0.0) as usize;
    counts.iter().skip(from).sum::<f64>() / all
}

fn approximate_tail(n1: usize, n2: usize, ties: f64, u: f64) -> f64 {
    let (n1, n2) = (n1 as f64, n2 as f64);
    let n = n1 + n2;
    let variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        // All values are equal: nothing distinguishes the samples.
        return 1.0;
    }
    upper_tail((u - n1 * n2 / 2.0 - 0.5) / variance.sqrt())
}
