//! Counts that are stated as a number or as a percentage.

use serde_json::Value;

use super::read;

/// Which way a fraction of a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

/// An `IntOrString` such as `2` or `25%`, of a total.
pub(super) fn resolve(stated: Option<&Value>, total: i64, round: Round) -> i64 {
    let Some(percent) = stated.and_then(Value::as_str).and_then(|text| text.strip_suffix('%')) else {
        return stated.and_then(Value::as_i64).unwrap_or(0).max(0);
    };
    let hundredths = percent.parse::<i64>().unwrap_or(0).max(0).saturating_mul(total);
    match round {
        Round::Up => hundredths.saturating_add(99) / 100,
        Round::Down => hundredths / 100,
    }
}

/// How far a Deployment may leave its number of replicas while it rolls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Pods above the number.
    pub surge: i64,
    /// Pods below the number.
    pub unavailable: i64,
}

impl Bounds {
    /// The bounds that a Deployment states. Both zero would never roll: then one may be unavailable.
    pub fn of(deployment: &Value) -> Self {
        let replicas = read::replicas(deployment);
        if read::text(deployment, "/spec/strategy/type") == "Recreate" {
            return Self { surge: 0, unavailable: 0 };
        }
        let stated =
            |name: &str| deployment.pointer("/spec/strategy/rollingUpdate").and_then(|rolling| rolling.get(name));
        let surge = resolve(stated("maxSurge"), replicas, Round::Up);
        let unavailable = resolve(stated("maxUnavailable"), replicas, Round::Down);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { surge, unavailable: unavailable.min(replicas) }
    }
}
