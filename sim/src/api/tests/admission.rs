//! Webhooks, and writes that others overtake.

use interlock_core::admission::{Denial, MutateAnswer, Operation, Verdict, WriteRequest};

use super::super::{Admission, Outcome};
use super::*;

/// Labels what is created, denies what is called `no`, and remembers.
#[derive(Default)]
struct Hooks(Vec<WriteRequest>);

impl Admission for Hooks {
    fn mutate(&mut self, request: &WriteRequest) -> MutateAnswer {
        match request.operation {
            Operation::Create => MutateAnswer::Patch(vec![
                json!({"op": "add", "path": "/metadata/labels", "value": {"by": request.user.name}}),
            ]),
            _ => MutateAnswer::Nothing,
        }
    }

    fn validate(&mut self, request: &WriteRequest) -> Verdict {
        self.0.push(request.clone());
        if request.name.as_deref() == Some("no") {
            return Verdict::Deny(Denial {
                code: 403,
                reason: "NotApproved".into(),
                message: "no change allows this".into(),
            });
        }
        Verdict::allow()
    }
}

#[test]
fn webhooks_see_the_write_change_it_and_deny_it() {
    let mut api = api();
    let mut hooks = Hooks::default();
    let map = config_map("yes", &json!({"a": "1"}));
    let stored = api.write_admitted(Write::create(&user(), "m", &map), &mut hooks).unwrap();
    assert_eq!(stored["metadata"]["labels"], json!({"by": "li.na"}));
    assert_eq!(
        fields(&stored, "m", "Update"),
        json!({"f:data": {".": {}, "f:a": {}}}),
        "nobody owns the webhook's label"
    );
    let error = api.write_admitted(Write::create(&user(), "m", &config_map("no", &json!({}))), &mut hooks).unwrap_err();
    assert_eq!(
        (error.code, error.reason.as_str(), error.message.as_str()),
        (403, "NotApproved", "no change allows this")
    );
    api.write_admitted(Write::delete(&user(), &id_of(&map)), &mut hooks).unwrap();
    let [create, _, delete] = hooks.0.as_slice() else { panic!("{:?}", hooks.0) };
    assert_eq!((create.operation, &create.old), (Operation::Create, &None));
    assert_eq!(create.object.as_ref().unwrap()["metadata"]["uid"], stored["metadata"]["uid"]);
    assert_eq!((create.resource.as_str(), create.namespace.as_deref()), ("configmaps", Some("bank")));
    assert_eq!(create.options.as_ref().unwrap()["fieldManager"], "m");
    assert_eq!((delete.operation, &delete.object), (Operation::Delete, &None));
    assert_eq!(delete.old.as_ref(), Some(stored.as_ref()));
}

#[test]
fn the_request_names_a_namespace_by_itself_and_a_subresource() {
    let mut api = api();
    let prepared = api.prepare(Write::create(&user(), "m", &namespace("branch"))).unwrap();
    assert_eq!(
        (prepared.request().namespace.as_deref(), prepared.request().name.as_deref()),
        (Some("branch"), Some("branch"))
    );
    let first = create(&mut api, &deployment("teller")).unwrap();
    let prepared = api.prepare(Write::status(&user(), "m", &first)).unwrap();
    assert_eq!(prepared.request().subresource.as_deref(), Some("status"));
}

#[test]
fn a_write_that_is_overtaken_is_prepared_again_or_refused() {
    let mut api = api();
    let first = create(&mut api, &config_map("a", &json!({"x": "1"}))).unwrap();
    let pending = |api: &mut Api, write: Write| {
        let prepared = api.prepare(write).unwrap();
        api.settle(prepared).unwrap()
    };
    let applied = pending(&mut api, Write::apply(&user(), "m", &config_map("a", &json!({"y": "1"}))));
    let bound = pending(&mut api, Write::replace(&user(), "m", &changed(&first, |map| map["data"]["z"] = json!("1"))));
    let deleted = pending(&mut api, Write::delete(&user(), &id_of(&first)));
    let created = pending(&mut api, Write::create(&user(), "m", &config_map("b", &json!({}))));
    replace(&mut api, &config_map("a", &json!({"x": "2"}))).unwrap();
    create(&mut api, &config_map("b", &json!({}))).unwrap();
    assert_eq!(api.commit(applied).unwrap(), Outcome::Changed);
    assert!(api.commit(bound).unwrap_err().is_conflict());
    assert_eq!(api.commit(deleted).unwrap(), Outcome::Changed);
    assert!(api.commit(created).unwrap_err().is_already_exists());
}

#[test]
fn a_write_that_changes_nothing_is_still_judged() {
    let mut api = api();
    let first = create(&mut api, &config_map("no", &json!({}))).unwrap();
    assert_eq!(api.write_admitted(Write::replace(&user(), "m", &first), &mut Hooks::default()).unwrap_err().code, 403);
}
