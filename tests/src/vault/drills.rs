//! Drills of what is in the vault.

use std::{fs, path::PathBuf, time::Duration};

use interlock_cluster::POOL;
use serde_json::{Value, json};

use super::{Scene, named, own, with};
use crate::{eventually, world::SOON};

/// For a drill of a dozen pods, on a busy machine.
pub const DRILL: Duration = Duration::from_mins(6);

impl Scene<'_> {
    /// A drill of a policy.
    pub fn drill_of(&self, name: &str, policy: &str, more: &Value) -> Value {
        let target = json!({"service": format!("database.{}", self.stage.namespace), "port": 5432});
        let sandbox = json!({"isolationTarget": target, "storageClassName": POOL, "volumeSize": "100Mi"});
        let mut spec = with(json!({"policyRef": {"name": policy}}), more);
        let further = more["sandbox"].as_object().cloned().unwrap_or_default();
        spec["sandbox"] = with(sandbox, &Value::Object(further));
        own("RestoreDrill", name, spec)
    }

    /// The same, made by a change like everything else of the System.
    pub fn drill(&self, name: &str, policy: &str, more: &Value) {
        self.agreed(&format!("drill-{name}"), vec![self.drill_of(name, policy, more)]);
    }

    /// `interlock drill run`; the name of the run.
    pub fn ask_for_drill(&self, drill: &str, more: &[&str]) -> String {
        let arguments = [&["drill", "run", drill, "-n", &self.stage.namespace], more].concat();
        let (well, told) = self.world.interlock_status("alice", &arguments);
        assert!(well, "{told}");
        named(&told, "drillrun")
    }

    /// The status of the run once nothing is left of it.
    pub fn drilled(&self, run: &str) -> Value {
        eventually(DRILL, || {
            let status = self.status(&format!("drillruns/{run}"));
            if status["cleanup"]["state"] == "Done" { Ok(status) } else { Err(format!("{run}: {status:#}")) }
        })
    }

    /// Both.
    pub fn run_drill(&self, drill: &str, more: &[&str]) -> Value {
        let run = self.ask_for_drill(drill, more);
        self.drilled(&run)
    }

    /// D10: nothing is left anywhere.
    pub fn nothing_is_left(&self) {
        let claims = "/api/v1/persistentvolumeclaims";
        for path in ["/api/v1/namespaces", "/api/v1/persistentvolumes", claims, "/api/v1/pods", "/apis/batch/v1/jobs"] {
            let query = format!("{path}?labelSelector=interlock.dev/drill-run");
            eventually(SOON, || {
                let found = self.world.admin().get(&query).unwrap();
                match found["items"].as_array().filter(|items| !items.is_empty()) {
                    None => Ok(()),
                    Some(items) => Err(format!("{query}: {:#}", items[0]["metadata"])),
                }
            });
        }
    }

    /// D10: where the storage of a volume stays, the restored copy on it was overwritten, and no file is left.
    pub fn is_wiped(&self, status: &Value) {
        let made = status["jobs"].as_array().unwrap();
        let wipe = made.iter().find(|job| job["name"] == "wipe");
        assert!(wipe.is_some_and(|wipe| wipe["uid"].is_string()), "it was not overwritten: {status:#}");
        let volume = status["sandbox"]["volume"].as_str().unwrap();
        let volume = self.world.admin().get(&format!("/api/v1/persistentvolumes/{volume}")).unwrap();
        let folder = volume["spec"]["hostPath"]["path"].as_str().unwrap();
        let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The folder of the files, once the heartbeat is written there.
    pub fn data_with_a_heartbeat(&self) -> PathBuf {
        let data = self.volume("data");
        eventually(DRILL, || if data.join("beat").exists() { Ok(()) } else { Err("no heartbeat is written".into()) });
        data
    }
}

pub fn outcome(status: &Value) -> (&str, &str) {
    (status["phase"].as_str().unwrap_or_default(), status["reason"].as_str().unwrap_or_default())
}

pub fn instant(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

/// Seconds of each segment, by name.
pub fn segments(status: &Value) -> Vec<(String, i64)> {
    let all = status["segments"].as_array().unwrap().iter();
    all.map(|segment| {
        let length = instant(&segment["finishedAt"]).duration_since(instant(&segment["startedAt"]));
        (segment["name"].as_str().unwrap().to_owned(), length.as_secs())
    })
    .collect()
}
