use interlock_core::object::{ObjectId, diff};
use serde_json::json;

use super::*;
use crate::ui::Color;

fn id(object: &Value) -> ObjectId {
    ObjectId::of(object).unwrap()
}

fn update(before: &Value, after: &Value) -> Preview {
    let id = id(before);
    let changes = diff(&id.group_kind(), before, after);
    Preview { id, effect: Effect::Update, changes, created: None, notes: Vec::new(), refused: None }
}

fn text(previews: &[Preview]) -> String {
    lines(previews, Ui::new(Color::Never)).join("\n")
}

#[test]
fn an_update_shows_each_changed_place() {
    let deployment = |image: &str, replicas: u8, args: &Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "shop", "image": image, "args": args}]}}}})
    };
    let before = deployment("shop:1.0.0", 3, &json!(["a"]));
    let mut after = deployment("shop:1.1.0", 5, &Value::Null);
    after["metadata"]["labels"] = json!({"team": "a b "});
    assert_eq!(
        text(&[update(&before, &after)]),
        "~ apps/Deployment shop/shop
    + /metadata/labels/team: \"a b \"
    /spec/replicas: 3 → 5
    - /spec/template/spec/containers[name=shop]/args: [\"a\"]
    /spec/template/spec/containers[name=shop]/image: shop:1.0.0 → shop:1.1.0
0 to create, 1 to update, 0 to delete, 0 unchanged"
    );
}

#[test]
fn a_long_text_is_shown_as_a_line_diff() {
    let config = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"file": text}});
    let before: String = (1..10).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let after = before.replace("line 5\n", "line five\n");
    assert_eq!(
        text(&[update(&config(&before), &config(&after))]),
        "~ ConfigMap b/a
    /data/file:
      @@ -3,5 +3,5 @@
        line 3
        line 4
      - line 5
      + line five
        line 6
        line 7
0 to create, 1 to update, 0 to delete, 0 unchanged"
    );
    let huge: String = (0..1000).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    let shown = text(&[update(&config(""), &config(&huge))]);
    assert!(shown.lines().count() < 300 && shown.contains("more lines, not shown"), "{shown}");
}

#[test]
fn creations_deletions_and_notes_are_headed_by_a_sign() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": "1"}});
    let of = |effect: Effect, created: Option<Value>| Preview {
        id: id(&config),
        effect,
        changes: Vec::new(),
        created,
        notes: Vec::new(),
        refused: None,
    };
    let mut deleted = of(Effect::Delete, None);
    deleted.notes.push("it goes".to_owned());
    let mut refused = of(Effect::Create, Some(config.clone()));
    refused.refused = Some("too large".to_owned());
    assert_eq!(
        text(&[refused, deleted, of(Effect::Nothing, None)]),
        "+ ConfigMap b/a create
    ! the API server would refuse it: too large
    + apiVersion: v1
    + data:
    +   x: \"1\"
    + kind: ConfigMap
    + metadata:
    +   name: a
    +   namespace: b
- ConfigMap b/a delete
    ! it goes
= ConfigMap b/a unchanged
1 to create, 0 to update, 1 to delete, 1 unchanged"
    );
}

#[test]
fn no_value_of_a_secret_is_ever_shown() {
    const CANARY: &str = "aHVudGVyMi1jYW5hcnk=";
    let secret = |data: Value, label: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
            "metadata": {"name": "db", "namespace": "b", "annotations": {"note": label}}})
    };
    let before = secret(json!({"old": CANARY, "same": "c2FtZQ==", "password": "b2xk"}), CANARY);
    let after = secret(json!({"new": CANARY, "same": "c2FtZQ==", "password": CANARY}), "x");
    let without = secret(Value::Null, "x");
    let created = Preview {
        id: id(&after),
        effect: Effect::Create,
        changes: Vec::new(),
        created: Some(after.clone()),
        notes: Vec::new(),
        refused: None,
    };
    let shown = text(&[update(&before, &after), update(&before, &without), created]);
    assert!(!shown.contains(CANARY) && !shown.contains("hunter2"), "{shown}");
    assert!(
        shown.starts_with(
            "~ Secret b/db
    + key new
    - key old
    ~ key password changed
    ~ /metadata/annotations/note changed
"
        ),
        "{shown}"
    );
    assert!(
        shown.ends_with(
            "+ Secret b/db create
    + key new
    + key password
    + key same
1 to create, 2 to update, 0 to delete, 0 unchanged"
        ),
        "{shown}"
    );
}

#[test]
fn a_manifest_cannot_repaint_the_terminal() {
    let config = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": text}});
    let shown = text(&[update(&config("a"), &config("\u{1b}[2K\rnothing \u{202e}here\u{7}"))]);
    assert!(shown.contains("\\u{1b}[2K\\u{d}nothing \\u{202e}here\\u{7}"), "{shown}");
    let key = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"k\u{1b}[1A": "v\n\u{1b}[1A"}});
    let shown = text(&[update(&config("a"), &key)]);
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert_eq!(plain("柜面\tok"), "柜面\tok");
}
