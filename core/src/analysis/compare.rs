//! Is the new version worse than the old one: by more than chance, and by more than is borne?

use interlock_crds::{CompareMetric, ComparisonTest, MeasurementOutcome, WorseDirection};

use super::judge::Judged;
use super::number;
use super::run::Slot;
use super::statistics::{Alternative, mann_whitney, median};

/// The outcome of one look at the samples; an error if there are too few, which says so.
///
/// A failure needs both: a difference that is no chance (p below the share of alpha that this look has) and medians
/// that differ by more than `maximumRatio`. With very many samples any difference is significant, and with very few any
/// ratio is chance.
pub fn judge(metric: &CompareMetric, slot: &Slot, canary: &[f64], baseline: &[f64]) -> Result<Judged, String> {
    let (canary, baseline) = (numbers(canary), numbers(baseline));
    let fewest = canary.len().min(baseline.len());
    if fewest < metric.minimum_samples as usize {
        return Err(format!(
            "{} samples of the new version and {} of the old one, at least {} of each are needed",
            canary.len(),
            baseline.len(),
            metric.minimum_samples
        ));
    }
    let error = |why: &str| Ok(Judged::new(MeasurementOutcome::Error, why));
    let (Some(new), Some(old)) = (median(&canary), median(&baseline)) else {
        return error("there are no samples");
    };
    if new < 0.0 || old < 0.0 {
        return error("a median is negative, so there is no ratio: compare values that are not");
    }
    let alternative = match metric.worse {
        WorseDirection::Higher => Alternative::Greater,
        WorseDirection::Lower => Alternative::Less,
        WorseDirection::Either => Alternative::TwoSided,
    };
    let tested = match metric.test {
        ComparisonTest::MannWhitney => mann_whitney(&canary, &baseline, alternative),
    };
    let Some(tested) = tested else { return error("there are no samples") };
    let (times, borne) = match metric.worse {
        WorseDirection::Higher => (ratio(new, old), metric.maximum_ratio),
        WorseDirection::Lower => (ratio(old, new), metric.maximum_ratio),
        WorseDirection::Either => (ratio(new, old).max(ratio(old, new)), metric.maximum_ratio),
    };
    let level = slot.share_of(metric.alpha);
    let significant = tested.p < level;
    let too_much = times > borne;
    let p = format!("p {} (needs < {})", number(tested.p), number(level));
    let medians = format!("median {} against {} of the old version", number(new), number(old));
    let (outcome, message) = match (significant, too_much) {
        (true, true) => (
            MeasurementOutcome::Failed,
            format!("{medians}, worse by a factor of {} of at most {}, {p}", number(times), number(borne)),
        ),
        (true, false) => (
            MeasurementOutcome::Successful,
            format!("{medians}, a factor of {} of at most {}, though no chance: {p}", number(times), number(borne)),
        ),
        (false, _) => (MeasurementOutcome::Successful, format!("{medians}, not worse by more than chance: {p}")),
    };
    Ok(Judged { outcome, value: Some(number(tested.p)), message })
}

fn numbers(samples: &[f64]) -> Vec<f64> {
    samples.iter().copied().filter(|sample| !sample.is_nan()).collect()
}

/// How many times `b` goes into `a`, neither negative; equal values, also two zeros or infinities, differ by a factor of 1.
fn ratio(a: f64, b: f64) -> f64 {
    if a.total_cmp(&b).is_eq() || (a == 0.0 && b == 0.0) { 1.0 } else { a / b }
}
