//! `AdmissionReview` (admission.k8s.io/v1) to and from what Interlock judges.
//!
//! With `matchPolicy: Equivalent` the API server converts the object to the version that the webhook registered for:
//! `kind` and `resource` describe the object as it is sent here, `requestKind` only what the client had asked for. So
//! the former are used.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use interlock_core::admission::{Denial, MutateAnswer, Operation, User, Verdict, WriteRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The API server cuts a warning off after so many characters.
const WARNING_CHARACTERS: usize = 256;
/// The API server drops warnings that together have more characters than this.
const WARNINGS_CHARACTERS: usize = 4096;

/// Why a body is no admission request that can be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The body is no JSON, or a field has another form than admission.k8s.io/v1 says.
    #[error("the body is no {KIND} of {API_VERSION}: {0}")]
    Malformed(String),
    /// The body is a JSON object of another kind.
    #[error("an {KIND} of {API_VERSION} is expected, but the body is {kind} of {api_version}")]
    OtherKind {
        /// The stated version.
        api_version: String,
        /// The stated kind.
        kind: String,
    },
    /// There is nothing to judge.
    #[error("the {KIND} has no request")]
    NoRequest,
}

#[derive(Deserialize)]
struct Review {
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupVersionKind,
    resource: GroupVersionResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    old_object: Option<Value>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    options: Option<Value>,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
struct GroupVersionResource {
    resource: String,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    extra: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// Reads the body of an admission call.
pub fn parse(body: &[u8]) -> Result<WriteRequest, ReviewError> {
    // The kind is judged first: the fields of another kind would only give a misleading message.
    let review: Value = serde_json::from_slice(body).map_err(|error| ReviewError::Malformed(error.to_string()))?;
    let text = |field: &str| review.get(field).and_then(Value::as_str).unwrap_or("(nothing)").to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version != API_VERSION || kind != KIND {
        return Err(ReviewError::OtherKind { api_version, kind });
    }
    let review: Review = serde_json::from_value(review).map_err(|error| ReviewError::Malformed(error.to_string()))?;
    write_request(review.request.ok_or(ReviewError::NoRequest)?)
}

fn write_request(request: Request) -> Result<WriteRequest, ReviewError> {
    if request.uid.is_empty() {
        return Err(ReviewError::Malformed("request.uid is empty".to_owned()));
    }
    if request.user_info.username.is_empty() {
        return Err(ReviewError::Malformed("request.userInfo.username is missing".to_owned()));
    }
    let operation = match request.operation.as_str() {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        "CONNECT" => Operation::Connect,
        other => return Err(ReviewError::Malformed(format!("request.operation is \"{other}\""))),
    };
    let object = request.object.filter(|object| !object.is_null());
    let old = request.old_object.filter(|object| !object.is_null());
    // deletecollection carries no name, and generateName has none yet: the objects say what there is to say.
    let stated = |field: &str| {
        let of = |object: &Option<Value>| {
            object.as_ref()?.pointer(&format!("/metadata/{field}"))?.as_str().map(ToOwned::to_owned)
        };
        of(&old).or_else(|| of(&object)).and_then(filled)
    };
    let name = request.name.and_then(filled).or_else(|| stated("name"));
    let namespace = request.namespace.and_then(filled).or_else(|| stated("namespace"));
    let is_namespace = request.kind.group.is_empty() && request.kind.kind == "Namespace";
    let namespace = if is_namespace { namespace.or_else(|| name.clone()) } else { namespace };
    Ok(WriteRequest {
        uid: request.uid,
        operation,
        group: request.kind.group,
        version: request.kind.version,
        kind: request.kind.kind,
        resource: request.resource.resource,
        subresource: request.sub_resource.and_then(filled),
        namespace,
        name,
        user: User {
            name: request.user_info.username,
            groups: request.user_info.groups.unwrap_or_default(),
            claims: request
                .user_info
                .extra
                .unwrap_or_default()
                .into_iter()
                .map(|(key, values)| (key, values.unwrap_or_default()))
                .collect(),
        },
        dry_run: request.dry_run.unwrap_or(false),
        object,
        old,
        options: request.options.filter(|options| !options.is_null()),
    })
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The answer to a validating call.
pub fn verdict_review(uid: &str, verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Deny(denial) => denied(uid, denial),
        Verdict::Allow { warnings, audit } => {
            let mut response = Map::from_iter([("uid".into(), json!(uid)), ("allowed".into(), json!(true))]);
            let warnings = bounded(warnings);
            if !warnings.is_empty() {
                response.insert("warnings".into(), json!(warnings));
            }
            if let Some(denial) = audit {
                let notes = json!({"would-deny": denial.reason, "would-deny-message": denial.message});
                response.insert("auditAnnotations".into(), notes);
            }
            review(&Value::Object(response))
        }
    }
}

/// The answer to a mutating call.
pub fn mutate_review(uid: &str, answer: &MutateAnswer) -> Value {
    match answer {
        MutateAnswer::Deny(denial) => denied(uid, denial),
        MutateAnswer::Patch(operations) if !operations.is_empty() => {
            // Display of a JSON value is its compact form and does not fail.
            let patch = BASE64.encode(Value::Array(operations.clone()).to_string());
            review(&json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch}))
        }
        MutateAnswer::Patch(_) | MutateAnswer::Nothing => review(&json!({"uid": uid, "allowed": true})),
    }
}

fn denied(uid: &str, denial: &Denial) -> Value {
    // A status that is no failure would be read as none: 403 is what the API server itself puts there.
    let code = if (400..600).contains(&denial.code) { denial.code } else { 403 };
    review(&json!({
        "uid": uid,
        "allowed": false,
        "status": {"status": "Failure", "code": code, "reason": denial.reason, "message": denial.message},
        "auditAnnotations": {"denied": denial.reason},
    }))
}

fn review(response: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
}

/// Warnings as the API server will show them: they become HTTP headers, so each is one line of bounded length, and
/// together they are bounded as well.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut left = WARNINGS_CHARACTERS;
    let mut shown = Vec::new();
    for warning in warnings {
        let warning = shorten(warning, WARNING_CHARACTERS);
        let length = warning.chars().count();
        if warning.is_empty() {
            continue;
        }
        if length > left {
            break;
        }
        left -= length;
        shown.push(warning);
    }
    shown
}

/// One line of at most `limit` characters, cut between words where there is a place for it.
fn shorten(text: &str, limit: usize) -> String {
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    let cut: String = line.chars().take(limit - 1).collect();
    // A word that is longer than half of the line, or a script without spaces, is cut where the room ends.
    let kept = cut.rfind(' ').filter(|space| *space > cut.len() / 2).map_or(cut.as_str(), |space| &cut[..space]);
    format!("{}…", kept.trim_end_matches([',', ';', ':', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
                "requestKind": {"group": "extensions", "version": "v1beta1", "kind": "OldDeployment"},
                "requestResource": {"group": "extensions", "version": "v1beta1", "resource": "olddeployments"},
                "name": "teller", "namespace": "bank", "operation": "UPDATE",
                "userInfo": {
                    "username": "oidc:li.na@bank.example", "uid": "7", "groups": ["sre", "system:authenticated"],
                    "extra": {"bank.example/amr": ["mfa", "pwd"], "a.example/z": null}
                },
                "object": {"metadata": {"name": "teller"}, "spec": {"replicas": 3}},
                "oldObject": {"metadata": {"name": "teller"}, "spec": {"replicas": 2}},
                "dryRun": true, "options": {"kind": "UpdateOptions"}
            }
        })
    }

    fn parsed(review: &Value) -> Result<WriteRequest, ReviewError> {
        parse(review.to_string().as_bytes())
    }

    #[test]
    fn the_converted_kind_counts_not_the_one_that_was_asked_for() {
        let write = parsed(&request()).expect("parsed");
        assert_eq!((write.group.as_str(), write.version.as_str()), ("apps", "v1"));
        assert_eq!((write.kind.as_str(), write.resource.as_str()), ("Deployment", "deployments"));
        assert_eq!((write.operation, write.dry_run, write.subresource), (Operation::Update, true, None));
        assert_eq!((write.namespace.as_deref(), write.name.as_deref()), (Some("bank"), Some("teller")));
        assert_eq!(write.user.name, "oidc:li.na@bank.example");
        assert_eq!(write.user.groups, ["sre", "system:authenticated"]);
        let claims = [
            ("a.example/z".to_owned(), vec![]),
            ("bank.example/amr".to_owned(), vec!["mfa".to_owned(), "pwd".to_owned()]),
        ];
        assert_eq!(write.user.claims, claims);
        assert_eq!(write.object.expect("object")["spec"]["replicas"], 3);
        assert_eq!(write.old.expect("old")["spec"]["replicas"], 2);
        assert_eq!(write.options.expect("options")["kind"], "UpdateOptions");
    }

    #[test]
    fn deletecollection_takes_its_name_from_the_old_object() {
        let mut review = request();
        review["request"]["operation"] = json!("DELETE");
        review["request"]["name"] = json!("");
        review["request"]["object"] = Value::Null;
        let write = parsed(&review).expect("parsed");
        assert_eq!(write.name.as_deref(), Some("teller"));
        assert_eq!(write.object, None);
    }

    #[test]
    fn a_generated_name_is_none_and_a_namespace_is_its_own_namespace() {
        let mut review = request();
        review["request"]["operation"] = json!("CREATE");
        review["request"]["name"] = Value::Null;
        review["request"]["oldObject"] = Value::Null;
        review["request"]["object"] = json!({"metadata": {"generateName": "teller-"}});
        assert_eq!(parsed(&review).expect("parsed").name, None);
        review["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Namespace"});
        review["request"]["name"] = json!("bank");
        review["request"].as_object_mut().expect("object").remove("namespace");
        assert_eq!(parsed(&review).expect("parsed").namespace.as_deref(), Some("bank"));
    }

    #[test]
    fn what_is_no_admission_request_is_refused_with_a_sentence() {
        let refused = |review: &Value| parsed(review).expect_err("refused").to_string();
        assert!(parse(b"{\"apiVersion\":").expect_err("cut off").to_string().contains("EOF"));
        assert_eq!(
            refused(&json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"})),
            "an AdmissionReview of admission.k8s.io/v1 is expected, but the body is AdmissionReview of \
             admission.k8s.io/v1beta1"
        );
        assert!(refused(&json!([1, 2])).contains("(nothing)"));
        let bare = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
        assert_eq!(refused(&bare), "the AdmissionReview has no request");
        let mut without = request();
        without["request"].as_object_mut().expect("object").remove("uid");
        assert!(refused(&without).contains("uid"));
        let mut nobody = request();
        nobody["request"]["userInfo"] = json!({});
        assert!(refused(&nobody).contains("userInfo.username"));
        let mut odd = request();
        odd["request"]["operation"] = json!("PATCH");
        assert!(refused(&odd).contains("\"PATCH\""));
    }

    #[test]
    fn a_denial_carries_code_reason_and_message() {
        let denial = Denial { code: 409, reason: "NotApproved".into(), message: "no change allows this".into() };
        let review = verdict_review("u1", &Verdict::Deny(denial));
        assert_eq!(review["kind"], "AdmissionReview");
        assert_eq!(review["response"]["uid"], "u1");
        assert_eq!(review["response"]["allowed"], false);
        let status = json!({
            "status": "Failure", "code": 409, "reason": "NotApproved", "message": "no change allows this"
        });
        assert_eq!(review["response"]["status"], status);
    }

    #[test]
    fn an_allowed_write_carries_warnings_and_what_enforce_would_have_said() {
        let denial = Denial { code: 403, reason: "NotApproved".into(), message: "no change".into() };
        let long = format!("first line\nsecond {}", "word ".repeat(100));
        let warnings = vec![long, String::new(), "柜".repeat(300)];
        let review = verdict_review("u1", &Verdict::Allow { warnings, audit: Some(denial) });
        let shown = review["response"]["warnings"].as_array().expect("warnings");
        assert_eq!(shown.len(), 2);
        for warning in shown {
            let text = warning.as_str().expect("text");
            assert!(text.chars().count() <= 256 && !text.contains('\n') && text.ends_with('…'), "{text}");
        }
        assert!(shown[0].as_str().expect("text").ends_with("word…"), "cut between words");
        assert_eq!(review["response"]["auditAnnotations"]["would-deny"], "NotApproved");
        let silent = verdict_review("u1", &Verdict::allow());
        assert_eq!(silent["response"], json!({"uid": "u1", "allowed": true}));
    }

    #[test]
    fn warnings_stay_within_what_the_api_server_shows_together() {
        let warnings = vec!["w".repeat(250); 40];
        assert_eq!(bounded(&warnings).len(), 16);
    }

    #[test]
    fn a_patch_is_base64_of_json_patch() {
        let operations = vec![json!({"op": "add", "path": "/spec/recorded", "value": {"user": "李娜"}})];
        let review = mutate_review("u2", &MutateAnswer::Patch(operations.clone()));
        assert_eq!(review["response"]["patchType"], "JSONPatch");
        let bytes = BASE64.decode(review["response"]["patch"].as_str().expect("patch")).expect("base64");
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&bytes).expect("json"), operations);
        let plain = json!({"uid": "u2", "allowed": true});
        assert_eq!(mutate_review("u2", &MutateAnswer::Nothing)["response"], plain);
        assert_eq!(mutate_review("u2", &MutateAnswer::Patch(vec![]))["response"], plain);
    }
}
