//! Writes to backups: policies and repositories that could not be used are refused with all that is wrong, and a run that a
//! person asks for is only that.

use interlock_crds::{
    BackupPolicySpec, BackupRepositorySpec, BackupSpec, BackupTrigger, DrillRunSpec, DrillTrigger, RestoreDrillSpec,
};
use jiff::Timestamp;

use super::{
    Operation, WriteRequest, is_namespace_controller,
    own::{Answer, refuse, spec_of},
};
use crate::{backup::validate, drill, say::first_of};

/// Annotation by which somebody says that a Backup may be deleted although its snapshot is still there: the id of the snapshot.
const REMOVE_POINT: &str = "interlock.dev/remove-point";
/// A hold that ends later than this, in seconds, is warned of.
const LONG_HOLD: i64 = 366 * 86_400;

/// A policy that could not be carried out is not stored.
pub(super) fn policy(request: &WriteRequest) -> Answer {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Vec::new());
    }
    let spec: BackupPolicySpec = spec_of(request.object.as_ref(), request)?;
    match validate::policy(&spec).as_slice() {
        [] => Ok(validate::policy_warnings(&spec)),
        wrong => refuse(422, "BadBackupPolicy", format!("{}: {}", request.target(), wrong.join("; "))),
    }
}

/// A repository that could not be used is not stored.
pub(super) fn repository(request: &WriteRequest) -> Answer {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Vec::new());
    }
    let spec: BackupRepositorySpec = spec_of(request.object.as_ref(), request)?;
    match validate::repository(&spec).as_slice() {
        [] => Ok(Vec::new()),
        wrong => refuse(422, "BadBackupRepository", format!("{}: {}", request.target(), wrong.join("; "))),
    }
}

/// A drill that could not be carried out, or could tell nothing, is not stored.
pub(super) fn drill(request: &WriteRequest) -> Answer {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(Vec::new());
    }
    let spec: RestoreDrillSpec = spec_of(request.object.as_ref(), request)?;
    match drill::validate::problems(&spec).as_slice() {
        [] => Ok(drill::validate::warnings(&spec)),
        wrong => refuse(422, "BadRestoreDrill", format!("{}: {}", request.target(), wrong.join("; "))),
    }
}

/// Drills of slots are begun by the controller; a person asks for one in their own name.
pub(super) fn drill_run(controller: &str, request: &WriteRequest) -> Answer {
    let user = request.user.name.as_str();
    if user == controller || request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    let spec: DrillRunSpec = spec_of(request.object.as_ref(), request)?;
    if request.operation != Operation::Create {
        return Ok(Vec::new());
    }
    if spec.trigger != DrillTrigger::Manual {
        let why = format!("ask for a run now with `interlock drill run {}`", spec.drill_ref.name);
        return slot_is_interlocks(request, &why);
    }
    own_name(request, spec.requester.as_deref())?;
    Ok(match spec.fault_injection {
        Some(fault) => vec![format!(
            "fault {:?} damages the restored copy: the run proves that the drill can fail, and never passes",
            fault.fault
        )],
        None => Vec::new(),
    })
}

fn slot_is_interlocks(request: &WriteRequest, instead: &str) -> Answer {
    refuse(
        403,
        "SlotsAreInterlocks",
        format!("{} may not create {} for a slot: Interlock does; {instead}", request.user.name, request.target()),
    )
}

/// Whoever asks says who they are.
fn own_name(request: &WriteRequest, requester: Option<&str>) -> Answer {
    let user = request.user.name.as_str();
    if requester == Some(user) {
        return Ok(Vec::new());
    }
    let said = requester.unwrap_or_default();
    refuse(
        403,
        "NotRequester",
        format!("{}: requester is {said}, and you are {user}; write your own name", request.target()),
    )
}

/// A Backup is the only record of a snapshot: without it nothing can forget, restore or prove it. So as long as the snapshot
/// is there, the Backup is deleted only by somebody who names it, and never before what cannot be restored without it
/// (`needed_by`, names of Backups). The garbage collector is refused like everyone else: whoever may write ownerReferences could
/// have it delete the last good point. Interlock's own controller deletes records without a snapshot.
pub(super) fn removal(controller: &str, terminating: bool, needed_by: &[String], request: &WriteRequest) -> Answer {
    let user = request.user.name.as_str();
    let old = request.old.as_ref();
    let snapshot = old.and_then(|old| old.pointer("/status/point/snapshotId")?.as_str());
    let is_forgotten = old.is_some_and(|old| old.pointer("/status/retention/forgottenAt").is_some());
    let Some(snapshot) = snapshot.filter(|_| !is_forgotten) else { return Ok(Vec::new()) };
    if user == controller || terminating || is_namespace_controller(user) {
        return Ok(Vec::new());
    }
    if !needed_by.is_empty() {
        return refuse(
            403,
            "BaseNeeded",
            format!(
                "{} is the base of {}, which cannot be restored without it: delete those first, or let retention forget them",
                request.target(),
                first_of(needed_by)
            ),
        );
    }
    let annotations = old.and_then(|old| old.pointer("/metadata/annotations"));
    let named = annotations.and_then(|annotations| annotations.get(REMOVE_POINT)?.as_str());
    if named != Some(snapshot) {
        return refuse(
            403,
            "PointKept",
            format!(
                "{} is the only record of snapshot {snapshot}, which is still in its repository: let retention forget it; to delete the record all the same, annotate it with {REMOVE_POINT}={snapshot} first",
                request.target()
            ),
        );
    }
    Ok(vec![format!(
        "snapshot {snapshot} stays in its repository and Interlock knows of it no longer: take it away with `restic forget {snapshot}`"
    )])
}

/// Runs for slots are made by the controller; a person asks for a run in their own name.
pub(super) fn run(controller: &str, request: &WriteRequest, now: Option<Timestamp>) -> Answer {
    let user = request.user.name.as_str();
    if user == controller {
        return Ok(Vec::new());
    }
    let spec: BackupSpec = spec_of(request.object.as_ref(), request)?;
    if request.operation == Operation::Create {
        if spec.trigger != BackupTrigger::Manual {
            let instead = format!("ask for a run now with `interlock backup run {}`", spec.policy_ref.name);
            return slot_is_interlocks(request, &instead);
        }
        own_name(request, spec.requester.as_deref())?;
    }
    let held_for = |until: Timestamp| now.map(|now| until.duration_since(now).as_secs());
    let until = spec.hold.as_ref().map(|hold| hold.until.as_ref().map(|until| until.0));
    Ok(match until {
        Some(Some(until)) if held_for(until).is_some_and(|seconds| seconds > LONG_HOLD) => {
            vec![format!("the hold keeps the recovery point until {until}, whatever the policy says")]
        }
        Some(None) => vec!["the hold has no end: the recovery point stays until somebody removes it".to_owned()],
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::User;

    const CONTROLLER: &str = "system:serviceaccount:interlock-system:interlock";

    fn request(user: &str, kind: &str, spec: &Value) -> WriteRequest {
        WriteRequest {
            uid: "request-1".into(),
            operation: Operation::Create,
            group: "interlock.dev".into(),
            version: "v1alpha1".into(),
            kind: kind.into(),
            resource: "backups".into(),
            subresource: None,
            namespace: Some("teller".into()),
            name: Some("b1".into()),
            user: User { name: user.into(), groups: vec![], claims: vec![] },
            dry_run: false,
            object: Some(json!({ "spec": spec })),
            old: None,
            options: None,
        }
    }

    #[test]
    fn a_person_asks_for_a_run_now_and_in_their_own_name() {
        let asked =
            |user: &str, spec: Value| run(CONTROLLER, &request(user, "Backup", &spec), None).map_err(|why| why.reason);
        let manual = json!({"policyRef": {"name": "p"}, "requester": "li"});
        assert_eq!(asked("li", manual.clone()), Ok(vec![]));
        assert_eq!(asked("wang", manual), Err("NotRequester".to_owned()));
        let slot = json!({"schedule": "daily", "time": "2026-11-23T02:00:00Z"});
        let scheduled = json!({"policyRef": {"name": "p"}, "trigger": "Scheduled", "slot": slot});
        assert_eq!(asked("li", scheduled.clone()), Err("SlotsAreInterlocks".to_owned()));
        assert_eq!(asked(CONTROLLER, scheduled), Ok(vec![]));
        let held = json!({"policyRef": {"name": "p"}, "requester": "li", "hold": {"reason": "court"}});
        assert!(asked("li", held).unwrap()[0].contains("no end"));
    }

    #[test]
    fn b11_b12_the_record_of_a_snapshot_is_deleted_only_by_who_names_it_and_a_base_after_what_needs_it() {
        let remove = |user: &str, status: Value, annotation: Option<&str>, terminating: bool, needed_by: &[String]| {
            let annotations = annotation.map(|id| json!({ REMOVE_POINT: id }));
            let old = json!({"metadata": {"name": "b1", "annotations": annotations}, "status": status});
            let mut request = request(user, "Backup", &json!({}));
            (request.operation, request.object, request.old) = (Operation::Delete, None, Some(old));
            removal(CONTROLLER, terminating, needed_by, &request)
        };
        let there =
            || json!({"phase": "Succeeded", "point": {"snapshotId": "5f3a", "dataTime": "2026-11-23T02:00:00Z"}});
        let refused = remove("li", there(), None, false, &[]).unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (403, "PointKept"));
        assert!(refused.message.contains("interlock.dev/remove-point=5f3a"), "{}", refused.message);
        let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
        for user in ["li", collector] {
            assert_eq!(remove(user, there(), Some("5f3b"), false, &[]).unwrap_err().reason, "PointKept", "another id");
            let warned = remove(user, there(), Some("5f3a"), false, &[]).unwrap();
            assert!(warned[0].contains("restic forget 5f3a"), "{warned:?}");
        }
        let needs: Vec<_> = (1..=7).map(|n| format!("log-{n}")).collect();
        let base = remove("li", there(), Some("5f3a"), false, &needs).unwrap_err();
        assert_eq!(base.reason, "BaseNeeded");
        assert!(base.message.contains("log-1, log-2, log-3, log-4, log-5 and 2 more"), "{}", base.message);
        let teardown = crate::admission::NAMESPACE_CONTROLLER;
        for (user, terminating) in [(CONTROLLER, false), ("li", true), (teardown, false)] {
            assert_eq!(remove(user, there(), None, terminating, &needs), Ok(vec![]), "{user}");
        }
        let mut forgotten = there();
        forgotten["retention"] = json!({"forgottenAt": "2026-11-24T02:00:00Z"});
        for none in [forgotten, json!({"phase": "Failed"}), json!({"phase": "Running"}), json!(null)] {
            assert_eq!(remove("li", none.clone(), None, false, &[]), Ok(vec![]), "{none}");
        }
    }

    #[test]
    fn a_drill_that_could_tell_nothing_is_not_stored_and_a_person_asks_for_a_run_in_their_own_name() {
        let spec = |critical: bool| {
            json!({
                "policyRef": {"name": "p"}, "schedule": "0 4 15 * *",
                "validations": [{"name": "there", "critical": critical, "files": {}}],
            })
        };
        assert_eq!(drill(&request("li", "RestoreDrill", &spec(true))).unwrap().len(), 1, "no objective");
        let refused = drill(&request("li", "RestoreDrill", &spec(false))).unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (422, "BadRestoreDrill"));
        let asked = |user: &str, spec: Value| {
            drill_run(CONTROLLER, &request(user, "DrillRun", &spec)).map_err(|why| why.reason)
        };
        let manual = json!({"drillRef": {"name": "d"}, "requester": "li"});
        assert_eq!(asked("li", manual.clone()), Ok(vec![]));
        assert_eq!(asked("wang", manual), Err("NotRequester".to_owned()));
        let slot = json!({"drillRef": {"name": "d"}, "trigger": "Scheduled", "slot": "2026-11-23T02:00:00Z"});
        assert_eq!(asked("li", slot.clone()), Err("SlotsAreInterlocks".to_owned()));
        assert_eq!(asked(CONTROLLER, slot), Ok(vec![]));
        let fault =
            json!({"drillRef": {"name": "d"}, "requester": "li", "faultInjection": {"fault": "TamperHeartbeat"}});
        assert!(asked("li", fault).unwrap()[0].contains("never passes"));
    }

    #[test]
    fn b11_a_policy_that_cannot_be_carried_out_is_not_stored() {
        let spec = |zone: &str| {
            json!({
                "repositoryRef": {"name": "vault"}, "source": {"files": {"persistentVolumeClaim": "data"}}, "retention": {"keepLast": 3, "timeZone": zone},
            })
        };
        assert_eq!(policy(&request("li", "BackupPolicy", &spec("UTC"))).unwrap().len(), 2, "warnings");
        let refused = policy(&request("li", "BackupPolicy", &spec("Nowhere"))).unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (422, "BadBackupPolicy"));
        let bad = json!({"restic": {"url": "rest:https://v/x", "secretRef": {"name": "s"}}, "timeZone": "Nowhere"});
        assert_eq!(repository(&request("li", "BackupRepository", &bad)).unwrap_err().reason, "BadBackupRepository");
    }
}
