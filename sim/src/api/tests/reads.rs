//! Reads, watches, rights.

use super::super::{DenyRule, EventType, Selector};
use super::*;

const MAPS: (&str, &str, &str) = ("", "v1", "ConfigMap");

#[test]
fn lists_are_in_order_and_selected() {
    let mut api = api();
    for name in ["b", "a"] {
        let map = changed(&config_map(name, &json!({"k": name})), |map| map["metadata"]["labels"] = json!({"l": name}));
        create(&mut api, &map).unwrap();
    }
    let names = |namespace: Option<&str>, selector: &Selector| {
        let listed = api.list(&user(), MAPS, namespace, selector).unwrap();
        assert_eq!(listed.rv, api.resource_version());
        listed.items.iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, &Selector::default()), ["a", "b"]);
    assert_eq!(names(Some("default"), &Selector::default()), Vec::<String>::new());
    assert_eq!(names(Some("bank"), &Selector::label("l", "b")), ["b"]);
    assert_eq!(names(Some("bank"), &Selector::field(".metadata.name", "a")), ["a"]);
    assert_eq!(api.list(&user(), ("x", "v1", "Y"), None, &Selector::default()).unwrap_err().code, 404);
}

#[test]
fn the_log_holds_every_change_until_it_is_compacted() {
    let mut api = api();
    let start = api.resource_version();
    let first = create(&mut api, &config_map("a", &json!({"x": "1"}))).unwrap();
    create(&mut api, &deployment("teller")).unwrap();
    replace(&mut api, &config_map("a", &json!({"x": "2"}))).unwrap();
    api.write(Write::delete(&user(), &id_of(&first))).unwrap();
    let kind = GroupKind::new("", "ConfigMap");
    let seen: Vec<EventType> = api.events_since(start, Some(&kind)).unwrap().map(|event| event.change).collect();
    assert_eq!(seen, [EventType::Added, EventType::Modified, EventType::Deleted]);
    api.compact(start + 2);
    assert_eq!(api.events_since(start + 2, None).unwrap().count(), 2);
    let error = api.events_since(start, None).err().unwrap();
    assert_eq!((error.code, error.reason.as_str()), (410, "Expired"));
}

#[test]
fn a_right_can_be_lost_and_given_back() {
    let mut api = api();
    let rule = DenyRule {
        user: Some("li.na".into()),
        verb: Some("create".into()),
        resource: Some("configmaps".into()),
        namespace: Some("bank".into()),
        ..DenyRule::default()
    };
    api.authorizer().deny(rule.clone());
    let error = create(&mut api, &config_map("a", &json!({}))).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            403,
            "configmaps is forbidden: User \"li.na\" cannot create resource \"configmaps\" in API group \"\" in the \
             namespace \"bank\""
        )
    );
    assert_eq!(apply(&mut api, "a", &config_map("a", &json!({}))).unwrap_err().code, 403, "an apply that creates");
    assert!(api.authorizer().allow(&rule));
    create(&mut api, &config_map("a", &json!({}))).unwrap();
    api.authorizer().deny(DenyRule { verb: Some("get".into()), group: Some(String::new()), ..DenyRule::default() });
    let error = api.get(&user(), &id_of(&config_map("a", &json!({})))).unwrap_err();
    assert!(error.message.starts_with("configmaps \"a\" is forbidden: User \"li.na\" cannot get"), "{error}");
    api.authorizer().allow_all();
    assert!(api.get(&user(), &id_of(&config_map("a", &json!({})))).is_ok());
}
