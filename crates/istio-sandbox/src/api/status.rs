//! Failures as a Kubernetes API server words them: a `Status` object with a code, a reason and details.

use serde_json::{Map, Value, json};

use super::kind::Kind;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
    vague: bool,
}

impl Failure {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
            vague: false,
        }
    }

    /// Names the object in the details, as clients look for it there.
    pub(crate) fn about(mut self, kind: &Kind, name: &str) -> Self {
        if !name.is_empty() {
            self.details.insert("name".into(), name.into());
        }
        if !kind.group.is_empty() {
            self.details
                .insert("group".into(), kind.group.as_str().into());
        }
        self.details
            .insert("kind".into(), kind.plural.as_str().into());
        self
    }

    pub(crate) fn causes(mut self, causes: Vec<Value>) -> Self {
        self.details.insert("causes".into(), Value::Array(causes));
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.details
            .insert("retryAfterSeconds".into(), seconds.into());
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} \"{name}\" not found", kind.resource()),
        )
        .about(kind, name)
    }

    /// What the server says of a path it does not serve.
    pub(crate) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .vague()
    }

    pub(crate) fn exists(kind: &Kind, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} \"{name}\" already exists", kind.resource()),
        )
        .about(kind, name)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            kind.resource()
        );
        Self::new(409, "Conflict", message).about(kind, name)
    }

    pub(crate) fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        Self::new(403, "Forbidden", message).about(kind, name)
    }

    /// A 422 with one cause: `(field, reason, message)`, the message as the field validator words it.
    pub(crate) fn invalid(
        kind: &Kind,
        name: &str,
        field: &str,
        reason: &str,
        message: &str,
    ) -> Self {
        let text = format!(
            "{} \"{name}\" is invalid: {field}: {message}",
            kind.qualified()
        );
        let cause = json!({"reason": reason, "message": message, "field": field});
        let mut failure = Self::new(422, "Invalid", text)
            .about(kind, name)
            .causes(vec![cause]);
        failure
            .details
            .insert("kind".into(), kind.kind.as_str().into());
        failure
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn method() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .vague()
    }

    /// What the server says of a path outside of any group it knows.
    pub(crate) fn no_page() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    /// Some failures carry details that say nothing.
    pub(crate) fn vague(mut self) -> Self {
        self.vague = true;
        self
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {}", message.into()),
        )
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if self.vague || !self.details.is_empty() {
            body["details"] = Value::Object(self.details.clone());
        }
        body["code"] = self.code.into();
        body
    }
}
