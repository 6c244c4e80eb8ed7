//! What a running change permits: the one function that executor and webhook share.

use interlock_crds::{OperationKind, RunDirection, RunRecord, StepState};
use serde_json::Value;

use super::{
    EPOCH_ANNOTATION,
    before::{BeforeState, Entry},
};
use crate::{
    admission::{Operation, WriteRequest},
    mutants::{self, Mutant},
    object::{ObjectId, Violation, permitted_create, permitted_update, restore_paths},
};

/// Whether the run permits this write. The refusal names what is too much.
pub fn permits(run: &RunRecord, before: &BeforeState, request: &WriteRequest) -> Result<(), String> {
    let id = ObjectId {
        group: request.group.clone(),
        version: request.version.clone(),
        kind: request.kind.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone().unwrap_or_default(),
    };
    let Some((index, entry)) = before.find(&id) else {
        return Err(format!("{id} is not part of the change"));
    };
    let Some(journal) = run.objects.get(index).filter(|o| o.name == entry.id.name && o.kind == entry.id.kind) else {
        return Err(format!("the journal of the change does not mention {id}"));
    };
    let verb = entry.operation;
    if mutants::is(Mutant::RetryBlindly) {
        return Ok(());
    }
    match (run.direction, journal.state, verb, request.operation) {
        (RunDirection::Forward, StepState::Intended, OperationKind::Create, Operation::Create)
        | (RunDirection::Back, StepState::Intended, OperationKind::RunJob, Operation::Create) => {
            create(entry, request, entry.expected.as_ref())
        }
        (RunDirection::Forward, StepState::Intended, OperationKind::Update, Operation::Update) => {
            update(entry, request, entry.expected.clone().unwrap_or(Value::Null))
        }
        (RunDirection::Forward, StepState::Intended, OperationKind::Delete, Operation::Delete)
        | (RunDirection::Back, StepState::Reverting, OperationKind::Create, Operation::Delete) => {
            same_uid(request, &journal.uid)
        }
        (RunDirection::Back, StepState::Reverting, OperationKind::Update, Operation::Update) => {
            let old = request.old.as_ref().unwrap_or(&Value::Null);
            let (restored, _) = restore_paths(&entry.id.group_kind(), old, &entry.changes);
            update(entry, request, restored)
        }
        (RunDirection::Back, StepState::Reverting, OperationKind::Delete, Operation::Create) => {
            create(entry, request, entry.before.as_ref())
        }
        (direction, state, _, operation) => Err(format!(
            "the change is at another step of {id} ({state:?}, {direction:?}); it does not {operation} it now"
        )),
    }
}

fn create(entry: &Entry, request: &WriteRequest, expected: Option<&Value>) -> Result<(), String> {
    let (Some(object), Some(expected)) = (&request.object, expected) else {
        return Err("nothing to compare the write with".to_owned());
    };
    permitted_create(&entry.id.group_kind(), object, expected).map_err(|v| describe(&v))
}

fn update(entry: &Entry, request: &WriteRequest, mut expected: Value) -> Result<(), String> {
    let (Some(new), Some(old)) = (&request.object, &request.old) else {
        return Err("nothing to compare the write with".to_owned());
    };
    // The epoch is Interlock's own mark and carries nothing; whatever it becomes is as good as what it was.
    match new.pointer("/metadata/annotations").and_then(|a| a.get(EPOCH_ANNOTATION)).cloned() {
        Some(epoch) => {
            if let Some(metadata) = expected.get_mut("metadata").and_then(Value::as_object_mut) {
                let annotations =
                    metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let Some(map) = annotations.as_object_mut() {
                    map.insert(EPOCH_ANNOTATION.to_owned(), epoch);
                }
            }
        }
        None => {
            if let Some(map) = expected.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
                map.remove(EPOCH_ANNOTATION);
            }
        }
    }
    permitted_update(&entry.id.group_kind(), old, new, &expected).map_err(|v| describe(&v))
}

fn same_uid(request: &WriteRequest, uid: &str) -> Result<(), String> {
    let found =
        request.old.as_ref().and_then(|o| o.pointer("/metadata/uid")).and_then(Value::as_str).unwrap_or_default();
    if found == uid { Ok(()) } else { Err(format!("the object has uid {found}, the change was approved for {uid}")) }
}

fn describe(violations: &[Violation]) -> String {
    let shown: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
    let more = violations.len().saturating_sub(5);
    if more > 0 { format!("{}; and {more} more", shown.join("; ")) } else { shown.join("; ") }
}
