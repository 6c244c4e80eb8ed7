//! By which plan a change is released, the one that it names or its System's; and a plan that changes meanwhile.

use std::sync::Arc;

use interlock_crds::{API_VERSION, GROUP, Verb};
use interlock_rehearsal::{
    history::{History, deployment},
    people::{Act, own, user},
    world::{Happening, World},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::play::{each_kill, history, play, status, the_change, told};

/// A release that waits at step 1; its plan is edited to one without a wait, then deleted, and the release promoted.
fn unsettled() -> History {
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}]);
    let (plan, admin) = (own("RolloutPlan", "teller", "cautious"), user("admin", &["system:masters"]));
    let bolder = json!({"spec": {"canary": {"steps": [{"setWeight": 50}]}}});
    let promote = Act::CommandRelease(user("bob", &["sre"]), the_change(), Verb::Promote, "looked at it".to_owned());
    let acts = vec![
        (60_000, Act::Patch(admin.clone(), plan.clone(), bolder)),
        (90_000, Act::Delete(admin, plan)),
        (120_000, promote),
    ];
    history(&json!({"canary": {"steps": steps}}), Vec::new(), &[deployment("web-0", "web:new")], acts)
}

/// What was stored of a kind of Interlock's, in its order; none for a deletion.
fn written(timeline: &[Happening], kind: &str) -> Vec<(Timestamp, Option<Arc<Value>>)> {
    let of_kind = timeline.iter().filter_map(|happening| match happening {
        Happening::Stored(audit) if audit.id.group == GROUP && audit.id.kind == kind => {
            Some((audit.at, audit.new.clone()))
        }
        _ => None,
    });
    of_kind.collect()
}

fn image(world: &World) -> Value {
    let live = world.object("apps", "Deployment", "teller", "web-0").unwrap();
    live["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

/// Steps of the one Rollout.
fn steps(world: &World) -> Value {
    let rollouts = world.objects(GROUP, "Rollout");
    assert_eq!(rollouts.len(), 1, "{}", told(world));
    rollouts[0]["status"]["steps"].clone()
}

#[test]
fn r22_a_plan_that_is_edited_and_then_deleted_leaves_a_release_that_waits_at_a_step_as_it_was_approved() {
    let (world, timeline) = play(&unsettled());
    assert_eq!((&status(&world)["phase"], image(&world)), (&json!("Succeeded"), json!("web:new")), "{}", told(&world));
    let mut plans = written(&timeline, "RolloutPlan");
    // That it is valid is told of each edition.
    plans.retain(|(_, plan)| {
        plan.as_ref().is_none_or(|plan| plan["status"]["observedGeneration"] != plan["metadata"]["generation"])
    });
    let [(edited, Some(bolder)), (_, None)] = plans.as_slice() else { panic!("edited once and deleted: {plans:#?}") };
    assert_eq!(bolder["spec"]["canary"]["steps"].as_array().unwrap().len(), 1);
    let rollouts: Vec<_> =
        written(&timeline, "Rollout").into_iter().filter_map(|(at, rollout)| Some((at, rollout?))).collect();
    assert!(rollouts.iter().all(|(_, rollout)| rollout["spec"] == rollouts[0].1["spec"]));
    let stood = |at: &Timestamp| &rollouts.iter().rev().find(|(written, _)| written <= at).unwrap().1["status"];
    assert_eq!((&stood(edited)["currentStep"], &stood(edited)["phase"]), (&json!(1), &json!("Paused")));
    let went_on = rollouts.iter().find(|(_, rollout)| rollout["status"]["currentStep"] == 2).unwrap().0;
    let promoted = timeline.iter().find_map(|happening| match happening {
        Happening::Act { at, what, came: Ok(_) } if what.contains("commands Promote") => Some(*at),
        _ => None,
    });
    assert!(went_on >= promoted.unwrap(), "neither the edit nor the deletion ended its wait");
    // A change that runs is not decided about anew.
    let changes = written(&timeline, "ChangeRequest");
    let mut since = changes.iter().filter(|(at, _)| at >= edited).flat_map(|(_, change)| change);
    assert!(since.all(|change| ["Running", "Succeeded"].iter().any(|phase| change["status"]["phase"] == *phase)));
}

#[test]
fn r22_a_controller_killed_after_any_single_write_still_carries_out_the_plan_that_was_approved() {
    each_kill(&unsettled(), |world, _, why| {
        assert_eq!((&status(world)["phase"], image(world)), (&json!("Succeeded"), json!("web:new")), "{why}");
        assert_eq!(steps(world), 3, "{why}");
    });
}

/// A plan of namespace ledger with one step.
fn of_the_bank() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "RolloutPlan", "metadata": {"name": "usual", "namespace": "ledger"},
        "spec": {"canary": {"steps": [{"setWeight": 50}]}, "progressDeadline": "60s"},
    })
}

/// The System's default is [`of_the_bank`]; the change names the plan of two steps beside it, or none.
fn by_default(objects: Vec<Value>, names_its_own: bool, more: Vec<(i64, Act)>) -> History {
    let own = json!({"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "5s"}}]}});
    let mut history = history(&own, objects, &[deployment("web-0", "web:new")], more);
    for system in history.objects.iter_mut().filter(|o| o["kind"] == "System" && o["metadata"]["name"] == "teller") {
        system["spec"]["defaultRolloutPlanRef"] = json!({"namespace": "ledger", "name": "usual"});
    }
    for (_, act) in history.acts.iter_mut().filter(|_| !names_its_own) {
        if let Act::Create(_, request) = act
            && let Some(spec) = request["spec"].as_object_mut()
        {
            spec.remove("rolloutPlanRef");
        }
    }
    history
}

#[test]
fn a_change_that_names_no_plan_is_released_by_its_systems_and_one_that_does_by_its_own() {
    for (names_its_own, count) in [(false, 1), (true, 2)] {
        let (world, _) = play(&by_default(vec![of_the_bank()], names_its_own, Vec::new()));
        assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
        assert_eq!((steps(&world), image(&world)), (json!(count), json!("web:new")));
    }
}

#[test]
fn a_default_plan_that_does_not_exist_is_told_and_waited_for() {
    let message = "RolloutPlan ledger/usual, the System's default, does not exist; create it or name another one with \
                   rolloutPlanRef";
    let (world, timeline) = play(&by_default(Vec::new(), false, Vec::new()));
    assert_eq!(status(&world)["message"], message, "{}", told(&world));
    assert!(written(&timeline, "Rollout").is_empty());
    assert_eq!(image(&world), "web:zero");
    // Until then there is nothing to vote on; whoever votes when it is there releases it.
    let create = (20_000, Act::Create(user("admin", &["system:masters"]), of_the_bank()));
    let mut history = by_default(Vec::new(), false, Vec::new());
    history.acts.push(create);
    let (world, _) = play(&history);
    assert_eq!(status(&world)["phase"], "Succeeded", "{}", told(&world));
    assert_eq!((steps(&world), image(&world)), (json!(1), json!("web:new")));
    // Nor does it matter to a change that names its own.
    let (world, _) = play(&by_default(Vec::new(), true, Vec::new()));
    assert_eq!((&status(&world)["phase"], steps(&world)), (&json!("Succeeded"), json!(2)), "{}", told(&world));
}
