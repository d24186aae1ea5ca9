//! Why a request failed, and whether asking again may help.

use std::{error::Error as StdError, fmt, io, time::Duration};

use kube::client::AuthError;
use serde_json::Value;

use super::fence::Denied;
use crate::causes::chain;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recover {
    /// Try again after this long: the other side said so.
    After(Duration),
    /// Try again, a little later each time.
    Backoff,
    /// Trying again cannot help.
    Never,
}

/// Why a namespace that is being deleted takes no new objects.
const TERMINATING: &str = "NamespaceTerminating";

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server answered, and said no.
    #[error("{}", Said(*code, reason, message))]
    Status {
        /// The HTTP status.
        code: u16,
        /// The machine-readable reason, if the answer had one.
        reason: String,
        /// The text for people.
        message: String,
        /// The reasons of the single causes.
        causes: Vec<String>,
        /// How long to wait, where the answer said.
        retry_after: Option<Duration>,
    },
    /// The connection failed before there was an answer.
    #[error("{kind}")]
    Transport {
        /// What kind of failure it is.
        kind: Transport,
        /// The error below.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// It was not sent: the run may not write.
    #[error("{0}, so it was not sent")]
    Denied(#[from] Denied),
    /// An answer that could not be understood.
    #[error("the answer cannot be understood: {0}")]
    Answer(String),
}

/// The layer a connection failed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The name of the server is not known.
    Resolve,
    /// Nothing answers at the address.
    Dial,
    /// The two sides do not trust each other, or do not speak the same TLS.
    Tls,
    /// The connection broke.
    Broken,
    /// No credentials could be had.
    Credentials,
    /// Something else on the way.
    Other,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "the server's name does not resolve",
            Self::Dial => "nothing answers at the server's address",
            Self::Tls => "TLS failed",
            Self::Broken => "the connection broke",
            Self::Credentials => "no credentials",
            Self::Other => "the request could not be sent",
        })
    }
}

/// The token provider had none.
#[derive(Debug, thiserror::Error)]
#[error("no token")]
pub(crate) struct NoToken(#[source] pub(crate) super::connect::TokenError);

struct Said<'a>(u16, &'a str, &'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code, reason, message) = *self;
        match code {
            401 => f.write_str("the API server does not accept the credentials (401)"),
            _ if message.is_empty() && reason.is_empty() => {
                write!(f, "the API server answered {code}")
            }
            _ if message.is_empty() => write!(f, "{reason} ({code})"),
            _ => write!(f, "{message} ({code})"),
        }
    }
}

impl Failure {
    /// Reads a refusal: a `Status` object, or whatever a proxy on the way wrote.
    pub(crate) fn refused(code: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let details = &status["details"];
        let message = match status["message"].as_str() {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(body)
                .trim()
                .chars()
                .take(200)
                .collect(),
        };
        Self::Status {
            code,
            reason: text(&status["reason"]),
            message,
            causes: details["causes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|cause| text(&cause["reason"]))
                .collect(),
            retry_after: retry_after.or(details["retryAfterSeconds"]
                .as_u64()
                .map(Duration::from_secs)),
        }
    }

    /// Reads an error of the client below.
    pub(crate) fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status {
                code: status.code,
                reason: status.reason,
                message: status.message,
                causes: Vec::new(),
                retry_after: None,
            },
            kube::Error::SerdeError(error) => Self::Answer(error.to_string()),
            error => {
                let kind = transport(&error);
                Self::Transport {
                    kind,
                    source: plain(&error),
                }
            }
        }
    }

    /// The HTTP status, if there was an answer.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether it is refused for as long as its namespace is being deleted.
    pub(crate) fn is_of_a_going_namespace(&self) -> bool {
        matches!(self, Self::Status { causes, .. } if causes.iter().any(|c| c == TERMINATING))
    }

    /// Is it worth asking again?
    pub(crate) fn recover(&self) -> Recover {
        match self {
            Self::Status {
                code,
                reason,
                message,
                causes,
                retry_after,
            } => status(*code, reason, message, causes, *retry_after),
            Self::Transport {
                kind: Transport::Tls | Transport::Credentials,
                ..
            } => Recover::Never,
            Self::Transport { .. } | Self::Timeout(_) | Self::Denied(Denied::Stale) => {
                Recover::Backoff
            }
            Self::Answer(_) | Self::Denied(Denied::Closed) => Recover::Never,
        }
    }
}

fn status(
    code: u16,
    reason: &str,
    message: &str,
    causes: &[String],
    retry_after: Option<Duration>,
) -> Recover {
    let caused_by = |what: &str| causes.iter().any(|cause| cause == what);
    let again = retry_after.map_or(Recover::Backoff, Recover::After);
    match code {
        // Another manager owns the field, or the object is already there: neither passes with time.
        409 if reason == "AlreadyExists" || caused_by("FieldManagerConflict") => Recover::Never,
        // A namespace that is being deleted refuses new objects until it is gone.
        403 if caused_by(TERMINATING) => Recover::Backoff,
        // The path itself is unknown: a CRD that was only just created.
        404 if reason.is_empty() || message.contains("could not find the requested resource") => {
            Recover::Backoff
        }
        409 | 410 => Recover::Backoff,
        // 500 includes webhooks that do not serve yet (no endpoints, or a caBundle not yet written).
        408 | 429 | 500 | 502..=504 => again,
        _ => Recover::Never,
    }
}

/// Which layer an error comes from, by looking down its chain.
fn transport(error: &(dyn StdError + 'static)) -> Transport {
    let mut found = Transport::Other;
    for cause in chain(error) {
        if cause.is::<AuthError>() || cause.is::<NoToken>() {
            return Transport::Credentials;
        }
        if cause.is::<rustls::Error>() {
            return Transport::Tls;
        }
        // The resolver's error is private to the connector; its text is all there is.
        if cause
            .to_string()
            .contains("failed to lookup address information")
        {
            return Transport::Resolve;
        }
        // Proxies on the way have errors of their own, which only this one tells of.
        let dialling = cause.downcast_ref::<hyper_util::client::legacy::Error>();
        if dialling.is_some_and(hyper_util::client::legacy::Error::is_connect) {
            found = Transport::Dial;
        }
        let broken = cause.downcast_ref::<hyper::Error>();
        if broken.is_some_and(|e| e.is_incomplete_message() || e.is_closed() || e.is_canceled()) {
            found = Transport::Broken;
        }
        let io = cause.downcast_ref::<io::Error>();
        found = io.and_then(|io| socket(io.kind())).unwrap_or(found);
    }
    found
}

fn socket(kind: io::ErrorKind) -> Option<Transport> {
    use io::ErrorKind as K;
    match kind {
        K::ConnectionRefused
        | K::HostUnreachable
        | K::NetworkUnreachable
        | K::TimedOut
        | K::AddrNotAvailable => Some(Transport::Dial),
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => {
            Some(Transport::Broken)
        }
        _ => None,
    }
}

/// The deepest cause as one line: what lies above it is wrapping that says nothing more. What a
/// credential plugin printed is left out, since that may be the token.
fn plain(error: &kube::Error) -> Box<dyn StdError + Send + Sync> {
    let causes: Vec<_> = chain(error).collect();
    for cause in &causes {
        if let Some(AuthError::AuthExecRun { out, .. }) = cause.downcast_ref() {
            return format!("the credential plugin failed ({})", out.status).into();
        }
    }
    causes
        .last()
        .map_or_else(String::new, ToString::to_string)
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> Failure {
        let body = json!({"kind": "Status", "reason": reason, "message": message}).to_string();
        Failure::refused(code, body.as_bytes(), None)
    }

    #[test]
    fn what_passes_with_time() {
        use Recover::{Backoff, Never};
        let webhook = "Internal error occurred: failed calling webhook \"x\": failed to call webhook: Post \"https://istiod\": ";
        for (code, reason, message, want) in [
            (400, "BadRequest", "", Never),
            (401, "Unauthorized", "Unauthorized", Never),
            (403, "Forbidden", "secrets is forbidden", Never),
            (404, "NotFound", "secrets \"cacerts\" not found", Never),
            (
                404,
                "NotFound",
                "the server could not find the requested resource",
                Backoff,
            ),
            (404, "", "404 page not found", Backoff),
            (409, "Conflict", "the object has been modified", Backoff),
            (
                409,
                "AlreadyExists",
                "secrets \"cacerts\" already exists",
                Never,
            ),
            (410, "Expired", "too old resource version", Backoff),
            (422, "Invalid", "spec.selector: field is immutable", Never),
            (429, "TooManyRequests", "", Backoff),
            (
                500,
                "InternalError",
                &format!("{webhook}no endpoints available for service \"istiod\""),
                Backoff,
            ),
            (
                500,
                "InternalError",
                &format!("{webhook}x509: certificate signed by unknown authority"),
                Backoff,
            ),
            (502, "", "<html>bad gateway</html>", Backoff),
            (503, "ServiceUnavailable", "", Backoff),
            (504, "Timeout", "", Backoff),
        ] {
            assert_eq!(
                refused(code, reason, message).recover(),
                want,
                "{code} {reason} {message}"
            );
        }
    }

    #[test]
    fn causes_decide_where_the_code_does_not() {
        let with = |code: u16, cause: &str| {
            let body = json!({"reason": "Conflict", "details": {"causes": [{"reason": cause}]}})
                .to_string();
            Failure::refused(code, body.as_bytes(), None).recover()
        };
        assert_eq!(with(409, "FieldManagerConflict"), Recover::Never);
        assert_eq!(with(409, "Other"), Recover::Backoff);
        assert_eq!(with(403, "NamespaceTerminating"), Recover::Backoff);
    }

    #[test]
    fn the_server_may_say_when() {
        let header = Failure::refused(429, b"", Some(Duration::from_secs(7)));
        assert_eq!(header.recover(), Recover::After(Duration::from_secs(7)));
        let body = json!({"details": {"retryAfterSeconds": 3}}).to_string();
        assert_eq!(
            Failure::refused(503, body.as_bytes(), None).recover(),
            Recover::After(Duration::from_secs(3))
        );
    }

    #[test]
    fn connections() {
        let of =
            |kind: io::ErrorKind| Failure::of(kube::Error::Service(io::Error::from(kind).into()));
        for (kind, want) in [
            (io::ErrorKind::ConnectionRefused, Transport::Dial),
            (io::ErrorKind::TimedOut, Transport::Dial),
            (io::ErrorKind::ConnectionReset, Transport::Broken),
            (io::ErrorKind::UnexpectedEof, Transport::Broken),
            (io::ErrorKind::PermissionDenied, Transport::Other),
        ] {
            let failure = of(kind);
            assert!(
                matches!(&failure, Failure::Transport { kind, .. } if *kind == want),
                "{failure:?}"
            );
            assert_eq!(failure.recover(), Recover::Backoff);
        }
        let unknown = rustls::CertificateError::UnknownIssuer;
        let tls = io::Error::other(rustls::Error::InvalidCertificate(unknown));
        // As the connector does it: one I/O error within another.
        let tls = io::Error::other(tls);
        let failure = Failure::of(kube::Error::Service(tls.into()));
        assert!(
            matches!(
                failure,
                Failure::Transport {
                    kind: Transport::Tls,
                    ..
                }
            ),
            "{failure:?}"
        );
        assert_eq!(failure.recover(), Recover::Never);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_plugin_printed_is_not_told() {
        use std::os::unix::process::ExitStatusExt;
        let out = std::process::Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: b"canary".into(),
            stderr: Vec::new(),
        };
        let error = AuthError::AuthExecRun {
            cmd: "aws".into(),
            out: Box::new(out),
        };
        // A renewal in the middle of a run fails inside the client's stack.
        let failure = Failure::of(kube::Error::Service(error.into()));
        let shown = format!("{failure} {failure:?}");
        assert!(
            shown.contains("Credentials") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
