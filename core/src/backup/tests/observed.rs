//! What Jobs and pods say, as the API server has them.

use serde_json::{Value, json};

use super::at;
use crate::backup::{
    observed,
    outcome::{self, Expected, Reason},
    run::JobFact,
};

fn job(status: &Value) -> Value {
    json!({
        "metadata": {"name": "b1", "uid": "job-uid", "creationTimestamp": "2026-11-23T02:00:00Z",
            "ownerReferences": [{"uid": "run-uid", "controller": true}]},
        "spec": {"activeDeadlineSeconds": 600}, "status": status,
    })
}

fn pod(status: &Value) -> Value {
    json!({
        "metadata": {"name": "b1-x", "creationTimestamp": "2026-11-23T02:00:01Z",
            "ownerReferences": [{"uid": "job-uid", "controller": true}]},
        "status": status,
    })
}

fn failed(reason: &str) -> Value {
    let at = "2026-11-23T02:05:00Z";
    json!({"conditions": [{"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": at}]})
}

fn state(fact: JobFact) -> crate::backup::run::JobState {
    match fact {
        JobFact::Ours(state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_is_ours_only_by_its_owner_and_over_only_when_kubernetes_says_so() {
    assert_eq!(observed::job(None, &[], "run-uid"), JobFact::Absent);
    let left = |owner: &str, phase: &str| {
        let mut pod = pod(&json!({"phase": phase}));
        pod["metadata"]["labels"] = json!({"interlock.dev/run-uid": owner});
        observed::job(None, &[pod], "run-uid")
    };
    assert_eq!(left("run-uid", "Running"), JobFact::Leaving("b1-x".into()), "it may still write");
    assert_eq!(left("run-uid", "Pending"), JobFact::Leaving("b1-x".into()));
    assert_eq!((left("run-uid", "Failed"), left("another", "Running")), (JobFact::Absent, JobFact::Absent));
    assert_eq!(observed::job(Some(&job(&json!({}))), &[], "another"), JobFact::Foreign);
    let failing = json!({"conditions": [{"type": "FailureTarget", "status": "True"}]});
    assert_eq!(state(observed::job(Some(&job(&failing)), &[], "run-uid")).ended, None, "its pod may still write");
    let ended = state(observed::job(Some(&job(&failed("DeadlineExceeded"))), &[], "run-uid")).ended.unwrap();
    assert!(ended.deadline_exceeded && ended.at == at("2026-11-23T02:05:00Z"));
}

#[test]
fn b13_what_has_not_ended_may_work() {
    let works = |jobs: &[Value], pods: &[Value]| observed::may_work(jobs.iter(), pods.iter());
    let (live, ended) = (job(&json!({})), job(&failed("DeadlineExceeded")));
    let pod = |phase: &str| pod(&json!({"phase": phase}));
    assert!(works(&[live], &[]) && works(&[], &[pod("Failed"), pod("Running")]) && works(&[], &[pod("Pending")]));
    assert!(!works(&[], &[]) && !works(&[ended], &[pod("Failed"), pod("Succeeded")]));
}

#[test]
fn the_report_tells_and_of_a_killed_tool_the_log_is_kept() {
    let statuses = json!({
        "initContainerStatuses": [{"name": "tool", "state": {"terminated": {"reason": "OOMKilled", "message": "the end"}}}],
        "containerStatuses": [{"name": "report", "state": {"terminated": {"message": "{}"}}}],
    });
    let foreign = json!({"metadata": {"creationTimestamp": "2026-11-23T03:00:00Z", "ownerReferences": [{"uid": "x", "controller": true}]}});
    let job_failed = job(&failed("BackoffLimitExceeded"));
    let killed = state(observed::job(Some(&job_failed), &[pod(&statuses), foreign], "run-uid"));
    let ended = killed.ended.unwrap();
    assert_eq!((ended.pod.message.as_deref(), killed.log_tail.as_deref()), (Some("{}"), Some("the end")));
    assert!(ended.pod.out_of_memory);

    let going = json!({"initContainerStatuses": [
        {"name": "install", "state": {"terminated": {"message": ""}}},
        {"name": "tool", "state": {"terminated": {"reason": "Completed", "message": "asked to end"}}},
    ]});
    let running = state(observed::job(Some(&job(&json!({}))), &[pod(&going)], "run-uid"));
    assert_eq!((running.ended, running.log_tail.as_deref()), (None, Some("asked to end")), "before its pod is gone");
}

#[test]
fn a_pod_of_which_nothing_is_left_was_evicted_or_deleted() {
    let ended = state(observed::job(Some(&job(&failed("BackoffLimitExceeded"))), &[], "run-uid")).ended.unwrap();
    let expected = Expected { run: "run-uid", policy_uid: "p", repository_id: None, allow_empty: false };
    let (outcome, _) = outcome::judge(&ended.pod, &expected);
    assert_eq!(outcome.reason, Reason::Evicted, "{outcome:?}");
    assert!(outcome.message.contains("evicted or deleted"), "{outcome:?}");
}

#[test]
fn what_a_pod_waits_for_is_told_until_its_next_container_runs() {
    let waiting = |status: &Value| state(observed::job(Some(&job(&json!({}))), &[pod(status)], "run-uid")).waiting;
    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]});
    assert_eq!(waiting(&unscheduled).as_deref(), Some("no node takes it: no room"));
    let pulling = json!({"initContainerStatuses": [{"name": "install", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
    assert_eq!(waiting(&pulling).as_deref(), Some("container install: ImagePullBackOff: no such image"));
    let then = |tool: Value| {
        waiting(&json!({
            "initContainerStatuses": [{"name": "install", "state": {"terminated": {}}}, tool],
            "containerStatuses": [{"name": "report", "state": {"waiting": {"reason": "PodInitializing"}}}],
        }))
    };
    let refused = json!({"waiting": {"reason": "ErrImagePull"}});
    assert_eq!(
        then(json!({"name": "tool", "state": refused})).as_deref(),
        Some("container tool: ErrImagePull"),
        "what was copied before does not make it start"
    );
    for goes_on in [
        json!({"name": "tool", "state": {"waiting": {"reason": "PodInitializing"}}}),
        json!({"name": "tool", "state": {"running": {}}}),
        json!({"name": "tool", "state": {"terminated": {}}}),
        json!({"name": "tool", "state": refused, "lastState": {"terminated": {}}}),
    ] {
        assert_eq!(then(goes_on), None);
    }
    let of = |tool: Value| json!({"initContainerStatuses": [{"name": "install", "state": tool}]});
    assert!(observed::end(&pod(&of(json!({"terminated": {}})))).begun);
    assert!(!observed::end(&pod(&of(json!({"waiting": {"reason": "ErrImagePull"}})))).begun);
    let evicted = json!({"reason": "Evicted", "conditions": []});
    let ended = state(observed::job(Some(&job(&failed("BackoffLimitExceeded"))), &[pod(&evicted)], "run-uid")).ended;
    assert_eq!(ended.unwrap().pod.reason.as_deref(), Some("Evicted"));
}
