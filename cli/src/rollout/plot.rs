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

/// Values of measurements, oldest first, scaled from the least to the most; failed ones red, errors as `x`.
pub fn values(measurements: &[MeasurementRecord], ui: Ui) -> String {
    let number = |record: &MeasurementRecord| {
        record.value.as_deref().and_then(|value| value.parse::<f64>().ok()).filter(|value| value.is_finite())
    };
    let known: Vec<f64> = measurements.iter().filter_map(number).collect();
    let least = known.iter().copied().fold(f64::INFINITY, f64::min);
    let most = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let level = |value: f64| {
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        let highest = (LEVELS.len() - 1) as f64;
        LEVELS.get((share * highest).round() as usize).copied().unwrap_or(' ')
    };
    measurements
        .iter()
        .map(|record| {
            let sign = number(record).map_or('·', level).to_string();
            match record.outcome {
                MeasurementOutcome::Successful => ui.good(&sign),
                MeasurementOutcome::Failed => ui.bad(&sign),
                MeasurementOutcome::Inconclusive => ui.warn(&sign),
                MeasurementOutcome::Error => ui.warn("x"),
            }
        })
        .collect()
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
        assert_eq!(values(&found, plain()), "▁█x·");
        assert_eq!(values(&[record(Some("3"), Successful)], plain()), "▁");
        assert_eq!(values(&[], plain()), "");
    }
}
