//! The step machine against a little store: every write is judged as the webhook would, and the process may die between
//! any two steps.

use std::collections::{BTreeMap, BTreeSet};

use interlock_crds::{ChangePhase, ObjectStatus, OnFailure, RunDirection, RunRecord, StepState, Verb};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{NOW, at};
use crate::{
    admission::{Operation, User, WriteRequest},
    change::{
        before::{BeforeState, Prepared},
        content::{ContentObject, Intent},
        derive,
        facts::Command,
        run::{self, RunFacts, Step, Write},
    },
    object::{ObjectId, apply_partial, diff, strip_server_fields},
    port::PortError,
};

#[derive(Clone)]
struct Store {
    objects: BTreeMap<String, Value>,
    version: u64,
    effects: u32,
}

impl Store {
    fn put(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"].get("uid").is_none() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.effects += 1;
        self.objects.insert(ObjectId::of(&object).unwrap().key(), object.clone());
        object
    }

    fn plain(&self) -> BTreeMap<String, Value> {
        let plain = |value: &Value| {
            let mut value = value.clone();
            strip_server_fields(&mut value);
            value
        };
        self.objects.iter().map(|(key, value)| (key.clone(), plain(value))).collect()
    }
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "teller"}, "data": {"value": value}})
}

struct Scene {
    store: Store,
    before: BeforeState,
    run: RunRecord,
    phase: ChangePhase,
    on_failure: OnFailure,
    kept_out: BTreeMap<usize, String>,
    now: Timestamp,
    records: usize,
}

/// One object changed, one made, one deleted.
fn scene() -> Scene {
    scene_of(
        &[config("changed", "old"), config("doomed", "gone soon")],
        &[
            (config("changed", "new"), Intent::Patch),
            (config("made", "fresh"), Intent::Apply),
            (config("doomed", ""), Intent::Delete),
        ],
    )
}

fn scene_of(there: &[Value], wanted: &[(Value, Intent)]) -> Scene {
    let mut store = Store { objects: BTreeMap::new(), version: 100, effects: 0 };
    for object in there {
        store.put(object.clone());
    }
    store.effects = 0;
    let prepared = |manifest: Value, intent: Intent| {
        let id = ObjectId::of(&manifest).unwrap();
        let live = store.objects.get(&id.key()).cloned();
        let dry_run = (intent != Intent::Delete).then(|| apply_partial(&id.group_kind(), live.as_ref(), &manifest));
        Prepared { object: ContentObject { id, intent, manifest, staged: None }, live, dry_run }
    };
    let plan: Vec<_> = wanted.iter().map(|(manifest, intent)| prepared(manifest.clone(), *intent)).collect();
    let before = BeforeState::plan("cr-uid", "sha256:00", &plan, Vec::new());
    let run = RunRecord {
        epoch: 1,
        change_digest: "sha256:00".into(),
        votes: vec![],
        template: None,
        executor: "executor".into(),
        before_digest: String::new(),
        before_chunks: 1,
        started_at: Time(at(NOW)),
        seal: String::new(),
        direction: RunDirection::Forward,
        cause: None,
        step_started_at: None,
        objects: before.journal(),
    };
    Scene {
        store,
        before,
        run,
        phase: ChangePhase::Running,
        on_failure: OnFailure::Rollback,
        kept_out: BTreeMap::new(),
        now: at(NOW),
        records: 0,
    }
}

/// What the body would do, with a process that dies after so many steps.
impl Scene {
    fn pass(&mut self, mut steps: usize, fail_write: Option<&str>) -> Option<ChangePhase> {
        let (mut run, mut phase) = (self.run.clone(), self.phase);
        let (mut looked, mut unsent) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..2_000 {
            if steps == 0 {
                return None;
            }
            steps -= 1;
            let facts = RunFacts {
                run: &run,
                phase,
                before: &self.before,
                looked: &looked,
                unsent: &unsent,
                kept_out: &self.kept_out,
                commands: &[],
                overrun: None,
                calendar_change: None,
                on_failure: self.on_failure,
                deadline: SignedDuration::from_secs(60),
                superseded_by: None,
            };
            match run::next(&facts, self.now) {
                Step::Look(index) => {
                    let key = self.before.entries[index].id.key();
                    looked.insert(index, self.store.objects.get(&key).cloned());
                }
                Step::Record(next, turned, _) => {
                    self.records += 1;
                    let is_new = |(index, new): &(usize, &ObjectStatus)| {
                        new.state == StepState::Intended && run.objects[*index] != **new
                    };
                    unsent.extend(next.objects.iter().enumerate().filter(is_new).map(|(index, _)| index));
                    (run, phase) = (*next, turned);
                    (self.run, self.phase) = (run.clone(), phase);
                }
                Step::Write(index, write) => {
                    let name = self.before.entries[index].id.name.clone();
                    if fail_write == Some(name.as_str()) && self.run.direction == RunDirection::Forward {
                        let refusal = run::refused(&facts, index, &PortError::Forbidden("no right".into()), self.now);
                        let Step::Record(next, turned, _) = refusal else { panic!("{refusal:?}") };
                        self.records += 1;
                        (run, phase) = (*next, turned);
                        (self.run, self.phase) = (run.clone(), phase);
                        continue;
                    }
                    unsent.remove(&index);
                    looked.remove(&index);
                    if let Some(object) = self.write(index, &write) {
                        looked.insert(index, Some(object));
                    }
                }
                Step::Wait { until, .. } => self.now = until.unwrap_or(self.now + SignedDuration::from_secs(1)),
                Step::Finish(_, phase, _) => return Some(phase),
            }
        }
        panic!("it does not end: {:?}", self.run);
    }

    fn write(&mut self, index: usize, write: &Write) -> Option<Value> {
        let id = self.before.entries[index].id.clone();
        let old = self.store.objects.get(&id.key()).cloned();
        let (operation, new) = match write {
            Write::Create(object) => (Operation::Create, Some(object.clone())),
            Write::Apply(object, _) => (Operation::Update, Some(apply_partial(&id.group_kind(), old.as_ref(), object))),
            Write::Patch(object) | Write::Replace(object) => (Operation::Update, Some(object.clone())),
            Write::Delete(_) => (Operation::Delete, None),
        };
        assert_eq!(operation == Operation::Create, old.is_none(), "{write:?}");
        let request = WriteRequest {
            uid: "a".into(),
            operation,
            group: id.group.clone(),
            version: id.version.clone(),
            kind: id.kind.clone(),
            resource: "configmaps".into(),
            subresource: None,
            namespace: id.namespace.clone(),
            name: Some(id.name.clone()),
            user: User { name: "executor".into(), ..User::default() },
            dry_run: false,
            object: new.clone(),
            old,
            options: None,
        };
        derive::permits(&self.run, &self.before, &request).expect("executor and webhook agree");
        if let Some(object) = new {
            return Some(self.store.put(object));
        }
        self.store.effects += 1;
        self.store.objects.remove(&id.key());
        None
    }
}

#[test]
fn a_change_is_carried_out_object_by_object() {
    let mut scene = scene();
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::Succeeded));
    assert_eq!(scene.store.effects, 3, "one write an object");
    let names: Vec<_> = scene.store.objects.keys().cloned().collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn what_its_repository_has_not_let_in_is_journalled_which_asks_for_it_and_not_made() {
    for steps in [0, 2] {
        let mut scene = scene_of(&[], &[(config("restore", "files"), Intent::Apply)]);
        assert_eq!(scene.pass(steps, None), None);
        scene.kept_out.insert(0, "a prune holds it alone".to_owned());
        assert_eq!(scene.pass(20, None), None, "it waits");
        assert_eq!((scene.store.effects, scene.records), (0, 1), "after step {steps}");
        scene.kept_out.clear();
        assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::Succeeded));
        assert_eq!(scene.store.effects, 1);
    }
}

#[test]
fn a_pause_is_heeded_while_a_repository_lets_nobody_in_and_asks_for_it_no_longer() {
    let mut scene = scene_of(&[], &[(config("restore", "files"), Intent::Apply)]);
    assert_eq!(scene.pass(2, None), None);
    assert_eq!(scene.run.objects[0].state, StepState::Intended);
    let pause = Command {
        name: "pause".into(),
        target_uid: "cr-uid".into(),
        verb: Verb::Pause,
        actor: "bob".into(),
        reason: String::new(),
        created: at(NOW),
        sealed: None,
    };
    let kept_out = BTreeMap::from([(0, "a prune holds it alone".to_owned())]);
    let next = |looked: &BTreeMap<usize, Option<Value>>, kept_out: &BTreeMap<usize, String>| {
        let facts = RunFacts {
            run: &scene.run,
            phase: ChangePhase::Running,
            before: &scene.before,
            looked,
            unsent: &BTreeSet::new(),
            kept_out,
            commands: std::slice::from_ref(&pause),
            overrun: None,
            calendar_change: None,
            on_failure: OnFailure::Pause,
            deadline: SignedDuration::from_secs(60),
            superseded_by: None,
        };
        run::next(&facts, at(NOW))
    };
    assert_eq!(next(&BTreeMap::new(), &kept_out), Step::Look(0), "it may be there from before a crash");
    let absent = BTreeMap::from([(0, None)]);
    let Step::Wait { run, message, .. } = next(&absent, &kept_out) else { panic!("it is not held") };
    assert_eq!(run.objects[0].state, StepState::Waiting);
    assert!(message.starts_with("Pause by bob"), "{message}");
    assert!(matches!(next(&absent, &BTreeMap::new()), Step::Write(0, _)), "what was let in was begun");
}

#[test]
fn two_hundred_objects_of_one_rank_are_journalled_in_one_record() {
    let there: Vec<_> = (0..100).map(|n| config(&format!("old-{n}"), "old")).collect();
    let changed = there.iter().map(|o| config(o["metadata"]["name"].as_str().unwrap(), "new"));
    let made = (0..100).map(|n| config(&format!("new-{n}"), "fresh"));
    let wanted: Vec<_> = changed.chain(made).map(|manifest| (manifest, Intent::Apply)).collect();
    let mut forward = scene_of(&there, &wanted);
    assert_eq!(forward.pass(usize::MAX, None), Some(ChangePhase::Succeeded));
    assert_eq!((forward.store.effects, forward.records), (200, 1));

    let mut failing = scene_of(&there, &wanted);
    let before = failing.store.plain();
    assert_eq!(failing.pass(usize::MAX, Some("new-99")), Some(ChangePhase::RolledBack));
    assert_eq!(failing.store.plain(), before);
    assert_eq!(failing.records, 3, "journalled, turned back, journalled again");
    assert_eq!(failing.store.effects, 2 * 199, "what was not written is not touched on the way back");
}

#[test]
fn what_was_journalled_and_not_sent_is_left_alone_on_the_way_back() {
    let wanted = [(config("changed", "new"), Intent::Apply), (config("made", "fresh"), Intent::Apply)];
    let mut scene = scene_of(&[config("changed", "old")], &wanted);
    assert_eq!(scene.pass(usize::MAX, Some("changed")), Some(ChangePhase::RolledBack));
    assert_eq!(scene.store.effects, 0);
    assert_eq!(scene.now, at(NOW), "and nothing that cannot be on its way is waited for");
}

#[test]
fn a24_a_process_that_dies_after_any_step_is_taken_over_without_a_second_write() {
    for crash in 1..30 {
        let mut scene = scene();
        let mut end = scene.pass(crash, None);
        if end.is_none() {
            end = scene.pass(usize::MAX, None);
        }
        assert_eq!((end, scene.store.effects), (Some(ChangePhase::Succeeded), 3), "crash after step {crash}");
    }
}

#[test]
fn a24_going_back_from_any_failure_restores_everything_whenever_the_process_dies() {
    for failing in ["changed", "made", "doomed"] {
        for crash in 1..40 {
            let mut scene = scene();
            let before = scene.store.plain();
            let mut end = scene.pass(crash, Some(failing));
            while end.is_none() {
                end = scene.pass(usize::MAX, Some(failing));
            }
            assert_eq!(end, Some(ChangePhase::RolledBack), "{failing}, crash after step {crash}");
            assert_eq!(scene.store.plain(), before, "{failing}, crash after step {crash}");
        }
    }
}

#[test]
fn a_write_of_somebody_else_in_the_middle_is_not_written_over() {
    let mut scene = scene();
    let mut foreign = scene.store.objects["/ConfigMap/teller/changed"].clone();
    foreign["data"]["value"] = json!("hotfix");
    scene.store.put(foreign);
    let end = scene.pass(usize::MAX, None);
    assert_eq!(end, Some(ChangePhase::RolledBack));
    assert_eq!(scene.store.objects["/ConfigMap/teller/changed"]["data"]["value"], "hotfix");
}

#[test]
fn an_object_that_somebody_else_made_is_not_deleted_on_the_way_back() {
    let mut scene = scene();
    scene.store.put(config("made", "theirs"));
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::RolledBack));
    assert_eq!(scene.store.objects["/ConfigMap/teller/made"]["data"]["value"], "theirs");
}

#[test]
fn on_failure_pause_waits_for_a_person() {
    let mut scene = scene();
    scene.on_failure = OnFailure::Pause;
    assert_eq!(scene.pass(60, Some("made")), None, "it waits");
    assert_eq!(scene.phase, ChangePhase::Paused);
    assert!(scene.run.cause.as_deref().is_some_and(|cause| cause.contains("no right")));
    // Resumed with the right granted, the refused write is made: nothing is taken for written that was not.
    scene.phase = ChangePhase::Running;
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::Succeeded));
    assert_eq!(scene.store.effects, 3);
}

/// Turns the run back by hand, as an abort does, with the journal in the given state.
fn abort(scene: &mut Scene, index: usize) {
    let live = scene.store.objects.get(&scene.before.entries[index].id.key()).cloned().unwrap_or(json!({}));
    let found = crate::port::Precondition::of(&live);
    let journal = &mut scene.run.objects[index];
    journal.state = StepState::Intended;
    journal.uid = found.uid.unwrap_or_default();
    journal.resource_version = found.resource_version.unwrap_or_default();
    scene.run.step_started_at = Some(Time(scene.now));
    scene.run.direction = RunDirection::Back;
    scene.run.epoch = 2;
}

#[test]
fn a24_an_update_that_may_be_on_its_way_conflicts_after_an_abort() {
    let mut scene = scene();
    let index = scene.before.entries.iter().position(|e| e.id.name == "changed").unwrap();
    abort(&mut scene, index);
    let sent_with = scene.run.objects[index].resource_version.clone();
    let before = scene.store.plain();
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::RolledBack));
    assert_ne!(scene.store.objects["/ConfigMap/teller/changed"]["metadata"]["resourceVersion"], json!(sent_with));
    assert_eq!(scene.store.plain(), before, "and nothing is left of the mark");
}

#[test]
fn a24_a_deletion_that_may_be_on_its_way_is_waited_out() {
    let mut scene = scene();
    let index = scene.before.entries.iter().position(|e| e.id.name == "doomed").unwrap();
    abort(&mut scene, index);
    let started = scene.now;
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::RolledBack));
    assert!(scene.now.duration_since(started) >= run::IN_FLIGHT);
}

#[test]
fn an_object_of_the_name_that_the_run_did_not_make_is_left_alone() {
    let mut scene = scene();
    let index = scene.before.entries.iter().position(|e| e.id.name == "made").unwrap();
    abort(&mut scene, index);
    scene.store.put(config("made", "theirs"));
    assert_eq!(scene.pass(usize::MAX, None), Some(ChangePhase::RolledBack));
    assert_eq!(scene.store.objects["/ConfigMap/teller/made"]["data"]["value"], "theirs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing beyond the plan is permitted, whatever is added to a write.
    #[test]
    fn anything_beyond_the_plan_is_refused(key in "[a-z]{1,8}", value in "[a-z]{0,8}", index in 0_usize..3) {
        let mut scene = scene();
        for object in &mut scene.run.objects {
            object.state = StepState::Intended;
        }
        let entry = &scene.before.entries[index];
        let Some(mut object) = entry.expected.clone() else { return Ok(()) };
        object["data"][format!("extra-{key}")] = json!(value);
        let old = scene.store.objects.get(&entry.id.key()).cloned();
        let request = WriteRequest {
            uid: "a".into(),
            operation: if old.is_some() { Operation::Update } else { Operation::Create },
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            resource: "configmaps".into(),
            subresource: None,
            namespace: entry.id.namespace.clone(),
            name: Some(entry.id.name.clone()),
            user: User::default(),
            dry_run: false,
            object: Some(object.clone()),
            old,
            options: None,
        };
        let refusal = derive::permits(&scene.run, &scene.before, &request).unwrap_err();
        prop_assert!(refusal.contains(&format!("extra-{key}")), "{}", refusal);
        prop_assert!(!diff(&entry.id.group_kind(), entry.expected.as_ref().unwrap(), &object).is_empty());
    }
}
