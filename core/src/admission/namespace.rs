//! Namespaces: whoever changes the enrolment label would take a namespace out of governance.

use interlock_crds::Mode;
use serde_json::Value;

use super::{Operation, Verdict, WriteRequest, denial, in_mode, is_namespace_controller};
use crate::change::{MODE_LABEL, SYSTEM_LABEL};

/// What judging a write to a Namespace looks at.
#[derive(Clone, Debug)]
pub struct NamespaceFacts<'a> {
    /// User name of Interlock's controller, the only writer of the labels.
    pub controller: &'a str,
    /// The System that lists the namespace, and its mode.
    pub system: Option<(&'a str, Mode)>,
    /// Whether a running change of that System deletes the namespace, and its executor asks.
    pub permitted: bool,
}

/// Judges a write to a Namespace.
pub fn judge(facts: &NamespaceFacts<'_>, request: &WriteRequest) -> Verdict {
    let name = request.name.as_deref().unwrap_or_default();
    if request.user.name == facts.controller {
        return Verdict::allow();
    }
    if request.operation == Operation::Delete {
        return match facts.system {
            Some((system, mode)) if !facts.permitted && !is_namespace_controller(&request.user.name) => in_mode(
                mode,
                request.dry_run,
                denial(
                    403,
                    "NamespaceGoverned",
                    format!(
                        "namespace {name} belongs to System {system}: deleting it needs an approved change, or the System must let go of it first"
                    ),
                ),
            ),
            _ => Verdict::allow(),
        };
    }
    let changed = [SYSTEM_LABEL, MODE_LABEL]
        .into_iter()
        .find(|label| label_of(request.old.as_ref(), label) != label_of(request.object.as_ref(), label));
    let Some(label) = changed else {
        return Verdict::allow();
    };
    // The label decides whether anything is checked at all, so it is guarded in every mode.
    let refusal = denial(
        403,
        "EnrolmentLabel",
        format!(
            "label {label} of namespace {name} is written by Interlock alone: add the namespace to a System's spec.namespaces, or remove it there"
        ),
    );
    in_mode(Mode::Enforce, request.dry_run, refusal)
}

fn label_of<'a>(object: Option<&'a Value>, label: &str) -> Option<&'a str> {
    object?.get("metadata")?.get("labels")?.get(label)?.as_str()
}
