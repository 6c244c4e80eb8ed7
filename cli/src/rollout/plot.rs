//! Small plots in a line of text.

use interlock_crds::{MeasurementOutcome, MeasurementRecord};

use crate::ui::Ui;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Two shares of `width` columns: `percent` of the new version in green, the rest in grey. A share that is neither
/// nothing nor all is never drawn as such.
pub fn shares(percent: u8, width: usize, ui: Ui) -> String {
    let percent = usize::from(percent.min(100));
    let mut new = (percent * width + 50) / 100;
    if percent > 0 {
        new = new.max(1);
    }
    if percent < 100 {
        new = new.min(width.saturating_sub(1));
    }
    format!("{}{}", ui.dim(&"░".repeat(width - new)), ui.good(&"█".repeat(new)))
}

/// Values of measurements, oldest first, on the scale of them and their limits; failed ones red, errors as `x`.
pub fn values(measurements: &[MeasurementRecord], limits: &[f64], ui: Ui) -> String {
    let level = scale(measurements, limits);
    measurements
        .iter()
        .map(|record| {
            let sign = number(record).map_or('·', &level).to_string();
            match record.outcome {
                MeasurementOutcome::Successful => ui.good(&sign),
                MeasurementOutcome::Failed => ui.bad(&sign),
                MeasurementOutcome::Inconclusive => ui.warn(&sign),
                MeasurementOutcome::Error => ui.warn("x"),
            }
        })
        .collect()
}

/// A line at one of the limits, as wide as [`values`] and on the same scale.
pub fn limit(limit: f64, measurements: &[MeasurementRecord], limits: &[f64], ui: Ui) -> String {
    let sign = scale(measurements, limits)(limit).to_string();
    ui.dim(&sign.repeat(measurements.len()))
}

/// The level of a value between the least and the most of the values and limits.
fn scale(measurements: &[MeasurementRecord], limits: &[f64]) -> impl Fn(f64) -> char {
    let known = measurements.iter().filter_map(number).chain(limits.iter().copied());
    let (least, most) =
        known.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    move |value| {
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        let highest = (LEVELS.len() - 1) as f64;
        LEVELS.get((share * highest).round() as usize).copied().unwrap_or(' ')
    }
}

fn number(record: &MeasurementRecord) -> Option<f64> {
    record.value.as_deref().and_then(|value| value.parse::<f64>().ok()).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::ui::Color;

    fn plain() -> Ui {
        Ui::new(Color::Never)
    }

    fn record(value: Option<&str>, outcome: MeasurementOutcome) -> MeasurementRecord {
        let at = Time("2026-11-23T10:00:00Z".parse().unwrap());
        MeasurementRecord { number: 1, at, outcome, value: value.map(ToOwned::to_owned), message: String::new() }
    }

    #[test]
    fn a_little_traffic_is_seen_and_a_little_rest_too() {
        let drawn = |percent| shares(percent, 10, plain()).chars().filter(|c| *c == '█').count();
        assert_eq!([0, 1, 5, 20, 50, 99, 100].map(drawn), [0, 1, 1, 2, 5, 9, 10]);
    }

    #[test]
    fn values_are_scaled_between_the_least_and_the_most() {
        use MeasurementOutcome::{Error, Failed, Successful};
        let found = [
            record(Some("0.1"), Successful),
            record(Some("0.8"), Failed),
            record(None, Error),
            record(Some("NaN"), Failed),
        ];
        assert_eq!(values(&found, &[], plain()), "▁█x·");
        assert_eq!(values(&[record(Some("3"), Successful)], &[], plain()), "▁");
        assert_eq!(values(&[], &[], plain()), "");
    }

    #[test]
    fn the_scale_holds_the_limits_so_that_their_lines_are_above_or_below() {
        use MeasurementOutcome::{Failed, Successful};
        let drawn = |values_of: &[(&str, MeasurementOutcome)], limits: &[f64]| {
            let found: Vec<_> = values_of.iter().map(|(value, outcome)| record(Some(value), *outcome)).collect();
            let lines = limits.iter().map(|each| limit(*each, &found, limits, plain()));
            std::iter::once(values(&found, limits, plain())).chain(lines).collect::<Vec<_>>()
        };
        let good = [("0.001", Successful), ("0.002", Successful), ("0.0015", Successful)];
        assert_eq!(drawn(&good, &[0.01]), ["▁▂▁", "███"], "far below the limit nothing looks high");
        assert_eq!(drawn(&[("0.002", Successful), ("0.04", Failed)], &[0.01]), ["▁█", "▂▂"]);
        assert_eq!(drawn(&[("5", Failed), ("15", Successful)], &[10.0, 20.0]), ["▁▆", "▃▃", "██"]);
        assert_eq!(drawn(&[("3", Successful)], &[3.0]), ["▁", "▁"]);
        assert_eq!(drawn(&[], &[3.0]), ["", ""]);
    }
}
