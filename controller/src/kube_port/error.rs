//! The API server's answers as [`PortError`]s: its own words, once.

use interlock_core::port::PortError;
use kube::core::Status;

/// `kube::Error` repeats its source in its text, and its `Status` repeats the reason: only the message is kept.
pub(super) fn port_error(error: kube::Error) -> PortError {
    match error {
        kube::Error::Api(status) => of_status(&status),
        other => PortError::Unavailable(first_cause(&other)),
    }
}

fn of_status(status: &Status) -> PortError {
    let message = if status.message.is_empty() {
        format!("the API server answered {} {}", status.code, status.reason).trim_end().to_owned()
    } else {
        status.message.clone()
    };
    match (status.reason.as_str(), status.code) {
        // An apply that requires another uid than the live object has: the server calls that field immutable.
        ("Invalid", _) if about_uid(status) => PortError::Conflict(message),
        // An apply of a field that the schema does not have: the server answers 500, but it will never pass.
        (_, 500) if message.starts_with("failed to create typed patch object") => PortError::Invalid(message),
        ("NotFound", _) => PortError::NotFound(message),
        ("AlreadyExists", _) => PortError::AlreadyExists(message),
        ("Conflict", _) => PortError::Conflict(message),
        // A quota is a fact about the object's size, not about the identity's rights.
        ("Forbidden", _) if message.contains("exceeded quota") => PortError::Invalid(message),
        ("Forbidden", _) => PortError::Forbidden(message),
        ("Invalid" | "BadRequest" | "MethodNotAllowed" | "RequestEntityTooLarge", _) => PortError::Invalid(message),
        // An apply that carries a resourceVersion found nothing to apply to.
        (_, 500) if message.contains("resourceVersion should not be set on objects to be created") => {
            PortError::Conflict(message)
        }
        // Tokens are renewed, and an API server that has just started may not know them yet.
        (
            "Unauthorized" | "TooManyRequests" | "ServerTimeout" | "Timeout" | "InternalError" | "ServiceUnavailable",
            _,
        ) => PortError::Unavailable(message),
        (_, 401 | 408 | 410 | 429 | 500..) => PortError::Unavailable(message),
        // A webhook may deny with a code and a reason of its own.
        (_, 409) => PortError::Conflict(message),
        (_, 400 | 405 | 406 | 413 | 415 | 422) => PortError::Invalid(message),
        (_, 404) => PortError::NotFound(message),
        (_, 402..500) => PortError::Forbidden(message),
        _ => PortError::Unavailable(message),
    }
}

fn about_uid(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

/// The innermost error says what happened; the layers around it repeat it.
fn first_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("the API server could not be reached or its answer not be read: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> PortError {
        port_error(kube::Error::Api(Status::failure(message, reason).with_code(code).boxed()))
    }

    #[test]
    fn each_answer_has_its_meaning_and_its_own_words_once() {
        let message = "deployments.apps \"teller\" not found";
        assert_eq!(api(404, "NotFound", message), PortError::NotFound(message.into()));
        assert_eq!(api(404, "NotFound", message).to_string(), message);
        assert!(matches!(api(409, "AlreadyExists", "x"), PortError::AlreadyExists(_)));
        assert!(matches!(api(409, "Conflict", "x"), PortError::Conflict(_)));
        assert!(matches!(api(422, "Invalid", "x"), PortError::Invalid(_)));
        assert!(matches!(api(400, "BadRequest", "x"), PortError::Invalid(_)));
        assert!(matches!(api(403, "Forbidden", "x"), PortError::Forbidden(_)));
        let quota = "pods \"a\" is forbidden: exceeded quota: small, requested: pods=1";
        assert!(matches!(api(403, "Forbidden", quota), PortError::Invalid(_)));
        for (code, reason) in
            [(401, "Unauthorized"), (429, "TooManyRequests"), (500, "InternalError"), (504, "Timeout")]
        {
            assert!(matches!(api(code, reason, "x"), PortError::Unavailable(_)), "{code}");
        }
        assert!(matches!(api(403, "FrozenByPolicy", "x"), PortError::Forbidden(_)), "a webhook's own reason");
        assert!(matches!(api(503, "", "x"), PortError::Unavailable(_)));
        let created = "resourceVersion should not be set on objects to be created";
        assert!(matches!(api(500, "", created), PortError::Conflict(_)));
        assert_eq!(api(503, "", "").to_string(), "the API server answered 503");
    }

    #[test]
    fn answers_that_mislead_are_understood() {
        // As a 1.37 server words them.
        let typo =
            "failed to create typed patch object (infra/b; /v1, Kind=ConfigMap): .specc: field not declared in schema";
        assert_eq!(api(500, "InternalError", typo), PortError::Invalid(typo.into()));
        let answer = serde_json::json!({
            "status": "Failure", "code": 422, "reason": "Invalid", "message": "metadata.uid: field is immutable",
            "details": {"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid", "message": "immutable"}]}
        });
        let status: Status = serde_json::from_value(answer).expect("status");
        assert!(matches!(port_error(kube::Error::Api(status.boxed())), PortError::Conflict(_)));
    }

    #[test]
    fn an_error_on_the_way_is_said_once() {
        let broken = serde_json::from_str::<u8>("x").expect_err("no number");
        let text = port_error(kube::Error::SerdeError(broken)).to_string();
        assert_eq!(text.matches("expected value").count(), 1, "{text}");
    }
}
