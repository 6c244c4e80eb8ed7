//! Requests as data: paths, queries and bodies, without a connection.

use http::Method;
use interlock_core::object::ObjectId;
use interlock_core::port::{DryRun, Identity, PortError, Precondition};
use serde_json::{Map, Value, json};

use super::discovery::Resource;

/// One call of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub method: Method,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: Option<Value>,
}

/// The address of an object, or of all objects of a kind when `name` is none.
pub(super) fn path(
    group: &str,
    version: &str,
    resource: &Resource,
    namespace: Option<&str>,
    name: Option<&str>,
    subresource: Option<&str>,
) -> Result<String, PortError> {
    let mut path = if group.is_empty() { String::from("/api") } else { format!("/apis/{}", segment(group)?) };
    path.push('/');
    path.push_str(segment(version)?);
    match (resource.namespaced, namespace, name) {
        (true, Some(namespace), _) => {
            path.push_str("/namespaces/");
            path.push_str(segment(namespace)?);
        }
        (true, None, Some(name)) => {
            return Err(PortError::Invalid(format!("{} {name} needs a namespace", resource.plural)));
        }
        (false, Some(namespace), Some(name)) => {
            return Err(PortError::Invalid(format!(
                "{} {name} has the namespace {namespace}, but this kind has none",
                resource.plural
            )));
        }
        (_, _, None) | (false, None, _) => {}
    }
    for part in [Some(resource.plural.as_str()), name, subresource].into_iter().flatten() {
        path.push('/');
        path.push_str(segment(part)?);
    }
    Ok(path)
}

/// A name that may stand in a path. The server refuses the others as well (path segment names); here they must not
/// change which object is meant.
fn segment(text: &str) -> Result<&str, PortError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if text.is_empty() || text == "." || text == ".." || !text.chars().all(plain) {
        return Err(PortError::Invalid(format!("\"{text}\" cannot be part of an object's address")));
    }
    Ok(text)
}

/// What of a kind is listed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selector<'a> {
    All,
    /// A selectable field, such as `.spec.changeRequestUid`, and its value.
    Field(&'a str, &'a str),
    /// `app=web,tier=front`.
    Labels(&'a str),
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), content_type: "application/json", body: None }
    }

    pub(super) fn list(path: String, continue_token: Option<String>) -> Self {
        let mut call = Self::get(path);
        call.query.push(("limit", "500".to_owned()));
        call.query.extend(continue_token.map(|token| ("continue", token)));
        call
    }

    /// Only what the selector selects.
    pub(super) fn selecting(mut self, selector: Selector<'_>) -> Self {
        self.query.extend(match selector {
            Selector::All => None,
            Selector::Field(field, value) => {
                Some(("fieldSelector", format!("{}={value}", field.trim_start_matches('.'))))
            }
            Selector::Labels(labels) => Some(("labelSelector", labels.to_owned())),
        });
        self
    }

    pub(super) fn create(path: String, manager: &str, object: &Value, dry_run: DryRun) -> Self {
        Self::write(Method::POST, path, "application/json", manager, object.clone(), dry_run)
    }

    pub(super) fn replace(path: String, manager: &str, object: &Value, dry_run: DryRun) -> Self {
        Self::write(Method::PUT, path, "application/json", manager, object.clone(), dry_run)
    }

    pub(super) fn merge_patch(path: String, manager: &str, patch: &Value) -> Self {
        Self::write(Method::PATCH, path, "application/merge-patch+json", manager, patch.clone(), DryRun::No)
    }

    pub(super) fn apply(
        path: String,
        manager: &str,
        object: &Value,
        precondition: &Precondition,
        dry_run: DryRun,
    ) -> Self {
        let mut body = object.clone();
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            // The server refuses an apply that states managers.
            metadata.remove("managedFields");
            for (field, value) in [("uid", &precondition.uid), ("resourceVersion", &precondition.resource_version)] {
                // What the caller requires counts, not what a copied manifest happens to say.
                metadata.remove(field);
                if let Some(value) = value {
                    metadata.insert(field.to_owned(), Value::String(value.clone()));
                }
            }
        }
        let mut call = Self::write(Method::PATCH, path, "application/apply-patch+yaml", manager, body, dry_run);
        call.query.push(("force", "true".to_owned()));
        call
    }

    pub(super) fn delete(path: String, precondition: &Precondition, foreground: bool, dry_run: DryRun) -> Self {
        let mut options = Map::from_iter([
            ("apiVersion".to_owned(), json!("v1")),
            ("kind".to_owned(), json!("DeleteOptions")),
            ("propagationPolicy".to_owned(), json!(if foreground { "Foreground" } else { "Background" })),
        ]);
        if *precondition != Precondition::default() {
            let mut required = Map::new();
            required.extend(precondition.uid.iter().map(|uid| ("uid".to_owned(), json!(uid))));
            required.extend(
                precondition.resource_version.iter().map(|version| ("resourceVersion".to_owned(), json!(version))),
            );
            options.insert("preconditions".to_owned(), Value::Object(required));
        }
        if dry_run == DryRun::Yes {
            options.insert("dryRun".to_owned(), json!(["All"]));
        }
        Self {
            method: Method::DELETE,
            path,
            query: Vec::new(),
            content_type: "application/json",
            body: Some(Value::Object(options)),
        }
    }

    fn write(
        method: Method,
        path: String,
        content_type: &'static str,
        manager: &str,
        body: Value,
        dry_run: DryRun,
    ) -> Self {
        let mut query = vec![("fieldManager", manager.to_owned()), ("fieldValidation", "Strict".to_owned())];
        if dry_run == DryRun::Yes {
            query.push(("dryRun", "All".to_owned()));
        }
        Self { method, path, query, content_type, body: Some(body) }
    }

    /// Path and query.
    pub(super) fn uri(&self) -> String {
        let mut uri = self.path.clone();
        for (index, (key, value)) in self.query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(key);
            uri.push('=');
            escape(value, &mut uri);
        }
        uri
    }

    /// The HTTP request, made under the given identity.
    pub(super) fn request(&self, identity: &Identity) -> Result<http::Request<Vec<u8>>, PortError> {
        let mut builder = http::Request::builder().method(self.method.clone()).uri(self.uri());
        if let Identity::Impersonate(user) = identity {
            // For a ServiceAccount the API server adds its groups itself.
            builder = builder.header("Impersonate-User", user);
        }
        if self.body.is_some() {
            builder = builder.header(http::header::CONTENT_TYPE, self.content_type);
        }
        let body = self.body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default();
        builder.body(body).map_err(|error| PortError::Invalid(format!("no request can be made of this: {error}")))
    }

    /// For messages: never the query nor the body.
    pub(super) fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn escape(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The address of one object.
pub(super) fn path_of(id: &ObjectId, resource: &Resource, subresource: Option<&str>) -> Result<String, PortError> {
    path(&id.group, &id.version, resource, id.namespace.as_deref(), Some(&id.name), subresource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployments() -> Resource {
        Resource { plural: "deployments".into(), namespaced: true }
    }

    fn id(namespace: Option<&str>, name: &str) -> ObjectId {
        ObjectId {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            namespace: namespace.map(Into::into),
            name: name.into(),
        }
    }

    #[test]
    fn addresses_are_those_of_the_api_conventions() {
        let of = |id: &ObjectId| path_of(id, &deployments(), None);
        assert_eq!(of(&id(Some("bank"), "teller")), Ok("/apis/apps/v1/namespaces/bank/deployments/teller".into()));
        assert_eq!(
            path_of(&id(Some("bank"), "teller"), &deployments(), Some("status")),
            Ok("/apis/apps/v1/namespaces/bank/deployments/teller/status".into())
        );
        let roles = Resource { plural: "clusterroles".into(), namespaced: false };
        let group = "rbac.authorization.k8s.io";
        assert_eq!(
            path(group, "v1", &roles, None, Some("system:auth-delegator"), None),
            Ok("/apis/rbac.authorization.k8s.io/v1/clusterroles/system:auth-delegator".into())
        );
        let pods = Resource { plural: "pods".into(), namespaced: true };
        assert_eq!(path("", "v1", &pods, None, None, None), Ok("/api/v1/pods".into()));
        assert!(of(&id(None, "teller")).is_err(), "a namespaced object needs its namespace");
        assert!(path(group, "v1", &roles, Some("bank"), Some("a"), None).is_err(), "a cluster-scoped one has none");
    }

    #[test]
    fn a_name_cannot_point_at_another_object() {
        for name in ["..", ".", "a/b", "a?x=1", "a#b", "%2e%2e", "a b", ""] {
            assert!(path_of(&id(Some("bank"), name), &deployments(), None).is_err(), "{name}");
            assert!(path_of(&id(Some(name), "teller"), &deployments(), None).is_err(), "{name}");
        }
    }

    #[test]
    fn an_apply_forces_validates_strictly_and_carries_only_the_callers_preconditions() {
        let object = json!({"metadata": {
            "name": "teller", "uid": "copied", "resourceVersion": "1", "managedFields": [{}]
        }});
        let precondition = Precondition { uid: Some("u7".into()), resource_version: None };
        let call = Call::apply("/p".into(), "interlock change", &object, &precondition, DryRun::Yes);
        assert_eq!(call.uri(), "/p?fieldManager=interlock%20change&fieldValidation=Strict&dryRun=All&force=true");
        assert_eq!(call.content_type, "application/apply-patch+yaml");
        assert_eq!(call.body.expect("body"), json!({"metadata": {"name": "teller", "uid": "u7"}}));
    }

    #[test]
    fn a_delete_states_what_it_requires() {
        let precondition = Precondition { uid: Some("u7".into()), resource_version: Some("9".into()) };
        let call = Call::delete("/p".into(), &precondition, true, DryRun::Yes);
        assert_eq!(
            call.body,
            Some(json!({
                "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
                "preconditions": {"uid": "u7", "resourceVersion": "9"}, "dryRun": ["All"]
            }))
        );
        let call = Call::delete("/p".into(), &Precondition::default(), false, DryRun::No);
        assert_eq!(
            call.body,
            Some(json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}))
        );
    }

    #[test]
    fn an_impersonated_call_says_so_and_a_name_that_is_no_header_is_refused() {
        let call = Call::create("/p".into(), "m", &json!({}), DryRun::No);
        let user = "system:serviceaccount:bank:interlock-executor";
        let request = call.request(&Identity::Impersonate(user.into())).expect("request");
        assert_eq!(request.headers()["Impersonate-User"], user);
        assert!(call.request(&Identity::Controller).expect("request").headers().get("Impersonate-User").is_none());
        assert!(call.request(&Identity::Impersonate("a\r\nImpersonate-Group: system:masters".into())).is_err());
    }
}
