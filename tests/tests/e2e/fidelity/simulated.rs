//! A case against the simulated API server.

use interlock_core::{admission::User, object::ObjectId, port::Precondition};
use interlock_sim::api::{Api, ApiError, Propagation, Selector, Since, WatchEvent, Write};
use serde_json::{Value, json};

use super::request::{Request, Verb, stays};

/// Who asks: the administrator of the real cluster.
pub fn user() -> User {
    User { name: "admin".into(), groups: vec!["system:masters".into()], claims: Vec::new() }
}

/// The answer, a `Status` if it is a refusal.
pub fn ask(api: &mut Api, request: &Request) -> Value {
    tell(api, request).unwrap_or_else(|error| error.status())
}

fn tell(api: &mut Api, request: &Request) -> Result<Value, ApiError> {
    let (user, object, manager) = (user(), &request.object.sim, request.manager);
    let id = id_of(object);
    let mut write = match request.verb {
        Verb::Get => return api.get(&user, &id).map(|object| (*object).clone()),
        Verb::List => return list(api, &user, request),
        Verb::Create => Write::create(&user, manager, object),
        Verb::Replace => Write::replace(&user, manager, object),
        Verb::Merge => Write::merge_patch(&user, manager, &id, &request.patch.sim),
        Verb::Apply if request.is_forced => Write::apply(&user, manager, object),
        Verb::Apply => Write::apply_without_force(&user, manager, object),
        Verb::Delete => {
            let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
            let (uid, resource_version) = (text(&request.uid.sim), text(&request.version.sim));
            let how = match request.propagation {
                Some("Foreground") => Propagation::Foreground,
                Some("Orphan") => Propagation::Orphan,
                _ => Propagation::Background,
            };
            Write::delete(&user, &id).requiring(&Precondition { uid, resource_version }).propagating(how)
        }
    };
    write.dry_run = request.is_dry;
    write.subresource = request.subresource.map(ToOwned::to_owned);
    let answer = api.write(write)?;
    // As a client of the real server it learns no more of what is gone.
    let is_gone = request.verb == Verb::Delete && !stays(&answer);
    Ok(if is_gone { Value::Null } else { (*answer).clone() })
}

fn list(api: &Api, user: &User, request: &Request) -> Result<Value, ApiError> {
    let object = &request.object.sim;
    let id = id_of(object);
    let selector = selector(request.labels, request.fields)?;
    let found = api.list(user, (&id.group, &id.version, &id.kind), id.namespace.as_deref(), &selector)?;
    let items: Vec<Value> = found.items.iter().map(|item| (**item).clone()).collect();
    Ok(json!({"apiVersion": object["apiVersion"], "kind": format!("{}List", id.kind), "items": items}))
}

fn selector(labels: &str, fields: &str) -> Result<Selector, ApiError> {
    Selector::parse(labels, fields)
}

/// The events after a version, or with the objects that exist if there is none.
pub fn watch(api: &Api, object: &Value, version: &Value, labels: &str) -> Value {
    let id = id_of(object);
    let since = version.as_str().map_or(Since::Now, |version| Since::Version(version.parse().unwrap()));
    let kind = (id.group.as_str(), id.version.as_str(), id.kind.as_str());
    let told =
        selector(labels, "").and_then(|labels| api.watch(&user(), kind, id.namespace.as_deref(), &labels, since));
    let shown = |event: &WatchEvent| match event {
        WatchEvent::Added(object) => json!({"type": "ADDED", "object": **object}),
        WatchEvent::Modified(object) => json!({"type": "MODIFIED", "object": **object}),
        WatchEvent::Deleted(object) => json!({"type": "DELETED", "object": **object}),
        WatchEvent::Bookmark(object) => json!({"type": "BOOKMARK", "object": **object}),
    };
    match told {
        Ok(told) => told.events.iter().map(shown).collect(),
        Err(error) => error.status(),
    }
}

/// The place that an object names, well or not.
fn id_of(object: &Value) -> ObjectId {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, metadata) = (text(&object["apiVersion"]), &object["metadata"]);
    let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
    let namespace = metadata["namespace"].as_str().map(ToOwned::to_owned);
    ObjectId {
        group: group.into(),
        version: version.into(),
        kind: text(&object["kind"]),
        namespace,
        name: text(&metadata["name"]),
    }
}
