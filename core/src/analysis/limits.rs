//! The numbers that decide about the values of an analysis.

use interlock_crds::Analysis;

use super::{run, validate};

/// What the recorded values of an analysis are compared with, from the least to the greatest: `result` of a query, the
/// status of an HTTP answer, p of a comparison. None where no number decides.
pub fn limits(analysis: &Analysis, background: bool) -> Vec<f64> {
    let mut limits = if let Some(metric) = &analysis.compare {
        // In the background each look has a limit of its own.
        if background { Vec::new() } else { vec![metric.alpha / f64::from(run::wanted(analysis))] }
    } else {
        let value = if analysis.http.is_some() { "status" } else { "result" };
        let (success, fail) = validate::conditions(analysis).unwrap_or_default();
        success.iter().chain(&fail).flat_map(|condition| condition.compared(value)).collect()
    };
    limits.retain(|limit| limit.is_finite());
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    limits
}
