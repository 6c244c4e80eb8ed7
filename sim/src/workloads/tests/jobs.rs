use super::*;

fn job(image: &str, spec: &Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "namespace": "bank"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "main", "image": image}],
        }}},
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

fn conditions(cluster: &Cluster, job: &Value) -> Vec<(String, String)> {
    let live = cluster.live(job);
    let told = super::super::read::list(&live, "/status/conditions").iter();
    told.map(|told| (told["type"].as_str().unwrap().to_owned(), told["reason"].as_str().unwrap().to_owned())).collect()
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[test]
fn a_job_completes() {
    let mut cluster = Cluster::new(Vec::new());
    let job = job("bank/migrate:1", &json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed"}));
    cluster.apply(&job);
    cluster.run(2);
    assert!(progressing(&cluster.health(&job), "2 are running"), "{:?}", cluster.health(&job));
    cluster.watch(60, |cluster| {
        let active = cluster.pods().iter().filter(|pod| super::super::pods::is_active(pod)).count();
        assert!(active <= 2);
    });
    assert_eq!(cluster.health(&job), Health::Healthy);
    let reason = "CompletionsReached";
    assert_eq!(conditions(&cluster, &job), [pair("SuccessCriteriaMet", reason), pair("Complete", reason)]);
    let status = cluster.live(&job)["status"].clone();
    assert_eq!((&status["succeeded"], &status["completedIndexes"]), (&json!(5), &json!("0-4")));
}

#[test]
fn a_job_that_always_fails_reaches_its_limit() {
    let mut cluster = Cluster::new(vec![bad_image(Effect::JobFails { times: u32::MAX })]);
    let job = job("bank/migrate:bad", &json!({"backoffLimit": 2}));
    cluster.apply(&job);
    cluster.run(600);
    assert!(failed(&cluster.health(&job), "BackoffLimitExceeded"), "{:?}", cluster.health(&job));
    assert_eq!(cluster.pods().len(), 3);
    assert_eq!(cluster.live(&job)["status"]["failed"], 3);
}

#[test]
fn a_job_that_fails_once_completes_later() {
    for policy in ["Never", "OnFailure"] {
        let mut cluster = Cluster::new(vec![Behaviour::of(Effect::JobFails { times: 1 })]);
        let mut job = job("bank/migrate:1", &json!({}));
        job["spec"]["template"]["spec"]["restartPolicy"] = json!(policy);
        cluster.apply(&job);
        cluster.run(10);
        assert!(progressing(&cluster.health(&job), "0 of 1"), "{policy} {:?}", cluster.health(&job));
        cluster.run(60);
        assert_eq!(cluster.health(&job), Health::Healthy, "{policy}");
        let restarts = cluster.pods()[0]["status"]["containerStatuses"][0]["restartCount"].clone();
        assert_eq!((cluster.pods().len(), restarts), if policy == "Never" { (2, json!(0)) } else { (1, json!(1)) });
    }
}

#[test]
fn a_deadline_ends_a_job_that_hangs() {
    let mut cluster = Cluster::new(vec![Behaviour::of(Effect::NeverReady)]);
    let job = job("bank/migrate:1", &json!({"activeDeadlineSeconds": 30}));
    cluster.apply(&job);
    cluster.run(29);
    assert!(progressing(&cluster.health(&job), "running"), "{:?}", cluster.health(&job));
    cluster.watch(10, |cluster| {
        let is_told = conditions(cluster, &job).iter().any(|(kind, _)| kind == "Failed");
        assert!(!is_told || cluster.pods().is_empty(), "pods end first");
    });
    assert!(failed(&cluster.health(&job), "DeadlineExceeded"), "{:?}", cluster.health(&job));
    let reason = "DeadlineExceeded";
    assert_eq!(conditions(&cluster, &job), [pair("FailureTarget", reason), pair("Failed", reason)]);
}

#[test]
fn a_suspended_job_waits() {
    let mut cluster = Cluster::new(Vec::new());
    let job = job("bank/migrate:1", &json!({"suspend": true}));
    cluster.apply(&job);
    cluster.run(60);
    assert!(cluster.pods().is_empty());
    assert_eq!(cluster.live(&job)["status"]["startTime"], Value::Null);
    cluster.patch(&job, &json!({"spec": {"suspend": false}}));
    cluster.run(10);
    assert_eq!(cluster.health(&job), Health::Healthy);
}

#[test]
fn a_finished_job_goes_after_its_time() {
    let mut cluster = Cluster::new(vec![Behaviour::of(Effect::JobSucceedsAfter(seconds(20)))]);
    let job = job("bank/migrate:1", &json!({"ttlSecondsAfterFinished": 100}));
    cluster.apply(&job);
    cluster.run(119);
    assert_eq!(cluster.health(&job), Health::Healthy);
    cluster.run(5);
    assert!(cluster.get(("batch", "Job"), "migrate").is_none() && cluster.pods().is_empty());
}
