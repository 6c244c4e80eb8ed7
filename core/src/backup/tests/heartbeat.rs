//! What a heartbeat looks like.

use super::at;
use crate::backup::heartbeat::{Beat, answer, insert, query};

const NONCE: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_heartbeat_is_read_as_it_was_written_and_nothing_of_another_file_is_told() {
    let beat = Beat { id: "policy-1".into(), seq: 7, time: at("2026-11-23T02:00:00Z"), nonce: NONCE.into() };
    let text = serde_json::to_string(&beat).unwrap();
    assert_eq!(Beat::decode(&text).unwrap(), beat);
    let read = beat.read(at("2026-11-23T02:00:09Z"));
    assert_eq!((read.seq, read.read_at), (7, Some(at("2026-11-23T02:00:09Z"))));
    for other in ["", "password: hunter2", r#"{"id": "x", "seq": "hunter2", "time": "", "nonce": ""}"#] {
        let why = Beat::decode(other).unwrap_err();
        assert!(why.contains("no heartbeat") && !why.contains("hunter2"), "{why}");
    }
    assert!(Beat::decode(&text.replace(NONCE, "short")).unwrap_err().contains("nonce"));
}

#[test]
fn a_table_is_asked_for_the_newest_record_of_the_policy() {
    let asked = query("beats", Some("o'brien"));
    assert!(
        asked.contains(r#"from "beats" beat where beat.id = 'o''brien' order by beat.seq desc limit 1"#),
        "{asked}"
    );
    assert!(!query("beats", None).contains("where"));
    assert_eq!(insert("beats", "p", "n"), r#"insert into "beats" (id, nonce) values ('p', 'n')"#);
    let line = format!(
        r#"{{"seq" : 3, "time" : "2026-11-23T02:00:00.250000Z", "nonce" : "{NONCE}", "readAt" : "2026-11-23T02:00:01.000000Z"}}"#
    );
    assert_eq!(answer(Some(&line)).unwrap().seq, 3);
    assert!(answer(Some("\n")).unwrap_err().contains("no record"));
    assert!(answer(Some(&line.replace(NONCE, &"x".repeat(32)))).unwrap_err().contains("nonce"));
}

mod writer {
    use interlock_crds::BackupPolicy;
    use serde_json::{Value, json};

    use crate::backup::{
        heartbeat::writer::{WRITER_PLAN_VARIABLE, WriterPlan, WriterStep, decide, deployment, may_go},
        pods::Images,
        tests::policy_spec,
    };

    const IMAGES: Images<'_> = Images { interlock: "interlock:1", restic: "restic:1", postgres: "postgres:18" };

    fn policy(change: impl FnOnce(&mut Value)) -> BackupPolicy {
        let mut policy = BackupPolicy::new("teller-db", policy_spec(change));
        policy.metadata.namespace = Some("teller".into());
        policy.metadata.uid = Some("policy-1".into());
        policy
    }

    fn of_file() -> BackupPolicy {
        policy(|s| {
            s["heartbeat"] =
                json!({"file": "/accounts/beat", "interval": "7s", "sameNodeAs": [{"key": "app", "value": "db"}]});
            s["pod"] = json!({"runAsUser": 70, "fsGroup": 71});
        })
    }

    fn of_table() -> BackupPolicy {
        policy(|s| {
            s["source"] = json!({"postgres": {"host": "db", "secretRef": {"name": "reader"}, "databases": ["teller"]}});
            s["heartbeat"] = json!({"table": "beats", "secretRef": {"name": "writer"}});
        })
    }

    fn plan_of(deployment: &Value) -> WriterPlan {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let plan = container["env"].as_array().unwrap().iter().find(|v| v["name"] == WRITER_PLAN_VARIABLE).unwrap();
        serde_json::from_str(plan["value"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn one_restricted_writer_of_a_file_on_the_node_of_its_volume() {
        let made = deployment(&of_file(), &IMAGES).unwrap();
        assert_eq!(made["metadata"]["name"], "teller-db-heartbeat");
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "policy-1");
        assert_eq!((&made["spec"]["replicas"], &made["spec"]["strategy"]["type"]), (&json!(1), &json!("Recreate")));
        let pod = &made["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(
            (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["fsGroup"]),
            (&json!(70), &json!(71))
        );
        assert!(pod["affinity"].to_string().contains(r#""app":"db""#));
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "interlock:1");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["command"], json!(["interlock", "runner", "heartbeat"]));
        assert!(container["readinessProbe"]["exec"]["command"].to_string().contains("--ready"));
        let source = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "source").unwrap();
        assert_eq!(source["persistentVolumeClaim"], json!({"claimName": "data"}), "mounted read-write");
        let plan = plan_of(&made);
        assert_eq!((plan.file.as_deref(), plan.interval_seconds), (Some("/data/accounts/beat"), 7));
        assert_eq!(plan.policy, "policy-1");
        assert_eq!(deployment(&policy(|_| ()), &IMAGES), None);
    }

    #[test]
    fn the_writer_of_a_table_never_sees_the_role_that_reads_everything() {
        let made = deployment(&of_table(), &IMAGES).unwrap();
        let pod = &made["spec"]["template"]["spec"];
        let image = |of: &Value| (of["name"].clone(), of["image"].clone());
        assert_eq!(image(&pod["initContainers"][0]), (json!("install"), json!("interlock:1")));
        assert_eq!(image(&pod["containers"][0]), (json!("writer"), json!("postgres:18")));
        let secrets = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "source-secret").unwrap();
        let sources = secrets["projected"]["sources"].as_array().unwrap();
        assert_eq!(sources[0]["secret"]["name"], "writer");
        assert_eq!(sources[1]["secret"]["name"], "reader");
        assert_eq!(sources[1]["secret"]["items"], json!([{"key": "ca.crt", "path": "ca.crt"}]));
        let table = plan_of(&made).table.unwrap();
        assert_eq!((table.database.as_str(), table.table.as_str(), table.port), ("teller", "beats", 5432));
    }

    fn stored(mut made: Value, ready: i64) -> Value {
        made["metadata"]["uid"] = json!("deployment-1");
        made["metadata"]["generation"] = json!(1);
        made["status"] = json!({"observedGeneration": 1, "readyReplicas": ready});
        made
    }

    #[test]
    fn a_writer_is_announced_made_told_made_anew_and_taken_away() {
        let wanted = deployment(&of_file(), &IMAGES).unwrap();
        let of = |wanted: Option<&Value>, announced: bool, live: Option<&Value>| {
            let (step, told) = decide("policy-1", wanted, announced, true, live);
            (step, told.map(|told| (told.is_ready, told.reason)))
        };
        let remove = || WriterStep::Delete("deployment-1".into());
        let starting = Some((false, "Starting"));
        assert_eq!(of(Some(&wanted), false, None), (WriterStep::Nothing, starting), "announced first");
        assert_eq!(of(Some(&wanted), true, None), (WriterStep::Create, starting));
        let live = stored(wanted.clone(), 0);
        assert_eq!(of(Some(&wanted), true, Some(&live)), (WriterStep::Nothing, Some((false, "NotReady"))));
        let live = stored(wanted.clone(), 1);
        assert_eq!(of(Some(&wanted), true, Some(&live)), (WriterStep::Nothing, Some((true, "Writing"))));
        let mut unseen = live.clone();
        unseen["metadata"]["generation"] = json!(2);
        assert_eq!(of(Some(&wanted), true, Some(&unseen)).1, Some((false, "NotReady")));
        let other = deployment(&policy(|s| s["heartbeat"] = json!({"file": "/accounts/beat"})), &IMAGES).unwrap();
        assert_eq!(of(Some(&other), true, Some(&live)), (remove(), Some((false, "Replacing"))));
        let mut going = live.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-11-23T02:00:00Z");
        assert_eq!(of(Some(&other), true, Some(&going)), (WriterStep::Nothing, Some((false, "Replacing"))));
        assert_eq!(of(None, true, Some(&live)), (remove(), Some((false, "Stopping"))));
        assert_eq!(of(None, true, None), (WriterStep::Nothing, None));
        let mut foreign = live.clone();
        foreign["metadata"]["ownerReferences"][0]["uid"] = json!("policy-0");
        assert_eq!(of(Some(&wanted), true, Some(&foreign)), (WriterStep::Nothing, Some((false, "NameTaken"))));
        let (step, told) = decide("policy-1", Some(&wanted), true, false, None);
        assert_eq!((step, told.unwrap().reason), (WriterStep::Nothing, "PolicyInvalid"));
    }

    #[test]
    fn the_webhook_lets_a_writer_go_that_the_policy_does_not_want() {
        let live = stored(deployment(&of_file(), &IMAGES).unwrap(), 1);
        assert!(!may_go(&live, Some(&of_file()), &IMAGES));
        assert!(may_go(&live, Some(&policy(|_| ())), &IMAGES));
        assert!(may_go(&live, None, &IMAGES));
        let newer = Images { interlock: "interlock:2", ..IMAGES };
        assert!(may_go(&live, Some(&of_file()), &newer), "a new release has another image");
        let application = json!({"kind": "Deployment", "metadata": {"name": "app"}});
        assert!(!may_go(&application, None, &IMAGES));
    }
}
