//! Changes: from a request that waits to one that has run.
//!
//! [`content`] reads what a request wants to write, [`digest`] gives it the numbers that votes and evidence bind to,
//! [`votes`], [`evidence`], [`risk`] and [`standard`] judge the facts, [`gates`] explains each, [`decide`] says what
//! follows before a change runs, and [`run`] what the next step is while it runs. [`derive`] says what a running change
//! permits; executor and webhook both call it.

pub mod before;
pub mod content;
pub mod decide;
pub mod derive;
pub mod digest;
pub mod evidence;
pub mod facts;
pub mod gates;
pub mod gradual;
pub mod managers;
pub mod restores;
pub mod risk;
pub mod run;
pub mod sealed;
pub mod standard;
pub mod votes;

pub use content::{Content, ContentObject, Intent, Problem};
pub use decide::{Decision, Next, decide};
pub use facts::ChangeFacts;

/// Annotation that says what a manifest is for: `Apply` (default), `Patch` or `Delete`.
pub const OPERATION_ANNOTATION: &str = "interlock.dev/operation";
/// Annotation that a running change leaves for a moment on an object to make late writes conflict.
pub const EPOCH_ANNOTATION: &str = "interlock.dev/epoch";
/// Type of a Secret whose values belong to a change.
pub const STAGED_SECRET_TYPE: &str = "interlock.dev/staged";
/// Label of a namespace: name of its System.
pub const SYSTEM_LABEL: &str = "interlock.dev/system";
/// Label of a namespace: mode of its System in lower case.
pub const MODE_LABEL: &str = "interlock.dev/mode";
/// Interlock's own namespace.
pub const INTERLOCK_NAMESPACE: &str = "interlock-system";
/// The built-in System to which Interlock's governing kinds belong.
pub const ROOT_SYSTEM: &str = "interlock-root";
/// Field manager of everything that a change writes.
pub const FIELD_MANAGER: &str = "interlock";
/// Most objects in one change.
pub const MAX_OBJECTS: usize = 200;
/// Most bytes of inline content, as compact JSON.
pub const MAX_CONTENT_BYTES: usize = 200 * 1024;

/// Whether two values of the field at `path` of a kind mean the same.
pub(crate) fn same_at(
    kind: &crate::object::GroupKind,
    path: &crate::object::Path,
    a: Option<&serde_json::Value>,
    b: Option<&serde_json::Value>,
) -> bool {
    crate::object::same(crate::object::Shape::at(kind, path), a, b)
}

/// A Calendar object's spec in the form in which it is compiled.
pub fn calendar_spec(spec: &interlock_crds::CalendarSpec) -> crate::calendar::CalendarSpec {
    use crate::calendar::{OccurrenceSpec, PeriodSpec};
    let periods = |periods: &[interlock_crds::Period]| {
        periods
            .iter()
            .map(|period| PeriodSpec {
                name: period.name.clone(),
                occurrence: match (&period.schedule, &period.duration) {
                    (Some(schedule), Some(duration)) => {
                        OccurrenceSpec::Recurring { schedule: schedule.clone(), duration_seconds: duration.seconds() }
                    }
                    _ => OccurrenceSpec::Dated {
                        from: period.from.clone().unwrap_or_default(),
                        until: period.until.clone().unwrap_or_default(),
                    },
                },
            })
            .collect()
    };
    crate::calendar::CalendarSpec {
        time_zone: spec.time_zone.clone(),
        windows: periods(&spec.windows),
        freezes: periods(&spec.freezes),
    }
}

#[cfg(test)]
mod tests;
