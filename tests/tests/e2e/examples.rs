//! The examples, as their README files say that they are to be used.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use interlock_tests::{
    Installation, Stage, World, eventually,
    world::{SOON, condition},
};
use serde_json::{Value, json};

/// The YAML files of an example whose names start with one of these digits, in order.
fn files(example: &str, digits: &[char]) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example);
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(digits))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn apply(world: &World, file: &Path, person: &[String]) {
    let mut arguments = vec!["apply", "-f", file.to_str().unwrap()];
    arguments.extend(person.iter().map(String::as_str));
    eventually(SOON, || {
        let (well, text) = world.kubectl("admin", &arguments, "");
        if well { Ok(()) } else { Err(format!("{}: {text}", file.display())) }
    });
}

fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

/// Every group that the example knows.
fn groups(example: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for object in files(example, &['1']).iter().flat_map(|file| documents(file)) {
        for subject in object["subjects"].as_array().into_iter().flatten().filter(|s| s["kind"] == "Group") {
            found.insert(subject["name"].as_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn the_examples_do_what_they_say() {
    let world = World::up(&Installation { name: "e2e-examples", open: false, ..Installation::default() });
    for example in ["quickstart", "bank"] {
        for file in files(example, &['0', '1', '2', '3']) {
            apply(&world, &file, &[]);
        }
    }
    systems_are_ready(&world);
    shop(&world);
    bank(&world);
}

#[test]
fn every_change_of_the_example_of_releases_is_valid_on_a_real_api_server() {
    let world = World::up(&Installation { name: "e2e-examples-rollouts", ..Installation::default() });
    crate::gray::install_routes(&world);
    for file in files("rollouts", &['0']) {
        apply(&world, &file, &[]);
    }
    executors(&world);
    for file in files("rollouts", &['1', '2', '3']) {
        apply(&world, &file, &[]);
    }
    systems_are_ready(&world);
    for file in files("rollouts", &['4']) {
        let person = ["--as=alice", "--as-group=system:authenticated", "--as-group=developers"];
        apply(&world, &file, &person.map(ToOwned::to_owned));
        for request in documents(&file) {
            is_valid(&world, &request, 1);
        }
    }
}

/// What the README leaves to the quickstart: an executor in each namespace that changes are carried out from; that of the
/// bank has its Role in both namespaces of the bank.
fn executors(world: &World) {
    for namespace in ["shop", "bank"] {
        let metadata = json!({"name": "interlock-executor", "namespace": namespace});
        world.admin().create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).unwrap();
        for mut object in world.executor_rbac(namespace, "interlock-executor") {
            world.admin().create(&object).unwrap();
            let is_right = object["metadata"]["name"] == "interlock-executor";
            if namespace == "bank" && is_right {
                object["metadata"]["namespace"] = json!("mobile");
                world.admin().create(&object).unwrap();
            }
        }
    }
}

fn systems_are_ready(world: &World) {
    eventually(SOON, || {
        let systems = world.admin().get("/apis/interlock.dev/v1alpha1/systems").unwrap();
        let waiting: Vec<_> = systems["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|system| system["metadata"]["name"] != "interlock-root" && system["status"]["phase"] != "Ready")
            .map(|system| format!("{}: {}", system["metadata"]["name"], system["status"]))
            .collect();
        if waiting.is_empty() { Ok(()) } else { Err(waiting.join("; ")) }
    });
}

/// With no more rights than the example gives: one change is carried out, one goes back by itself.
fn shop(world: &World) {
    let stage = Stage { world, namespace: "shop".to_owned() };
    for (file, phase) in files("quickstart", &['4', '5']).iter().zip(["Succeeded", "RolledBack"]) {
        let request = documents(file).remove(0);
        let change = eventually(SOON, || stage.send(&request).map_err(|e| e.to_string()));
        change.digest();
        change.approve(&["bob", "carol"]);
        // The bad one waits for its pods as long as the example says.
        let status = change.until("an end", |s| s["finished"].is_object());
        assert_eq!(status["phase"], phase, "{status:#}");
    }
}

/// Every change is accepted from the person whom it names, and waits for what the README says.
fn bank(world: &World) {
    let groups = groups("bank");
    for file in files("bank", &['4']) {
        let request = documents(&file).remove(0);
        let requester = request["spec"]["requester"].as_str().unwrap();
        let mut person = vec![format!("--as={requester}"), "--as-group=system:authenticated".to_owned()];
        person.extend(groups.iter().map(|group| format!("--as-group={group}")));
        apply(world, &file, &person);
        is_valid(world, &request, 5);
    }
}

/// The change can be carried out as written, and waits for at least so many gates.
fn is_valid(world: &World, request: &Value, gates: usize) {
    let stage = Stage { world, namespace: request["metadata"]["namespace"].as_str().unwrap().to_owned() };
    let path = stage.path(&format!("changerequests/{}", request["metadata"]["name"].as_str().unwrap()));
    eventually(SOON, || {
        let found = world.admin().get(&path).map_err(|e| e.to_string())?;
        let valid = condition(&found, "Valid").is_some_and(|c| c["status"] == "True");
        let looked_at = found["status"]["gates"].as_array().is_some_and(|all| all.len() >= gates);
        if valid && looked_at { Ok(()) } else { Err(format!("{path}: {:#}", found["status"])) }
    });
}
