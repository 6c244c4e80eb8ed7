//! What `backup list` and `backup show` tell whoever looks for something to restore.

use interlock_tests::{
    eventually,
    vault::{RUN, Scene, instant},
};
use serde_json::{Value, json};

/// `good` is the newest good point of the policy `files`, whose newest run is not whole; that of the policy `half` has none.
pub(super) fn told(scene: &Scene<'_>, good: &Value) {
    let namespace = scene.stage.namespace.as_str();
    let ask = |arguments: &[&str]| {
        let arguments = [["backup"].as_slice(), arguments, &["-n", namespace]].concat();
        scene.world.interlock_status("alice", &arguments)
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (run, snapshot) = (text(&good["backup"]), text(&good["snapshotId"]));

    let (well, policies) = ask(&["list"]);
    let row = line(&policies, "files ");
    assert!(well && row.contains(&instant(&good["dataTime"]).to_string()), "{policies}");

    let (well, runs) = ask(&["list", "files"]);
    let row = line(&runs, &format!("{run} "));
    let says = format!("read back as snapshot {}", &snapshot[..8]);
    assert!(well && row.contains("Succeeded") && row.contains(&says), "{runs}");
    let newest = text(&scene.newest("files")["metadata"]["name"]);
    let row = line(&runs, &format!("{newest} "));
    assert!(row.contains("PartiallyFailed") && row.contains("1 files could not be read"), "{runs}");

    // A prune notes what keeps a point.
    eventually(RUN, || {
        let kept_by = scene.status(&format!("backups/{run}"))["retention"]["keptBy"].clone();
        let is_told = kept_by.as_array().is_some_and(|kept_by| kept_by.contains(&json!("LastGood")));
        if is_told { Ok(()) } else { Err(format!("{run} is kept by {kept_by}")) }
    });
    let (well, shown) = ask(&["show", &run]);
    assert!(well && line(&shown, "snapshot ").contains(&snapshot), "{shown}");
    assert!(line(&shown, "kept by ").contains("LastGood"), "{shown}");

    let half = text(&scene.newest("half")["metadata"]["name"]);
    let (well, shown) = ask(&["show", &half]);
    assert!(!well && shown.contains("end of the log") && shown.contains("ended in stage"), "{shown}");
}

/// The line that begins so.
fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let found = text.lines().map(str::trim_start).find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no line begins with {start}: {text}"))
}
