//! One call to AWS: what went wrong, told from the many shapes the SDK gives it.

use std::{collections::HashSet, error::Error as StdError, fmt, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_eks::error::{ProvideErrorMetadata, SdkError};

use super::env::Service;
use crate::{causes::chain, cluster::Recover, hint::Hint};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}:{action} in {region}: {cause}", service.prefix())]
pub(crate) struct Error {
    /// The service asked.
    pub service: Service,
    /// The action, as IAM spells it.
    pub action: &'static str,
    /// The region asked.
    pub region: String,
    /// Why it failed.
    pub cause: Cause,
}

/// The most pages of one answer.
const PAGES: usize = 1000;

/// The way through the pages of an answer: it ends, whatever the other side says.
#[derive(Debug, Default)]
pub(crate) struct Walk(HashSet<String>);

impl Walk {
    /// To the page of this token.
    pub(crate) fn on(&mut self, token: &str) -> Result<(), Cause> {
        match () {
            () if !self.0.insert(token.to_owned()) => {
                Err(Cause::Garbled("its pages go round in a circle".into()))
            }
            () if self.0.len() >= PAGES => Err(Cause::Garbled(format!("more than {PAGES} pages"))),
            () => Ok(()),
        }
    }
}

/// Why a call failed, as far as a caller can act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too many calls; to be asked again later.
    Throttled,
    /// No credentials found anywhere; what the chain said.
    NoCredentials(String),
    /// Credentials or SSO session past their time.
    Expired(String),
    /// The keys are not known, or the signature does not fit them.
    BadCredentials(String),
    /// Known, but not allowed.
    Denied(String),
    /// The thing asked about is not there.
    NotFound(String),
    /// The service has a bad moment.
    Unavailable(String),
    /// No connection.
    Unreachable(String),
    /// No whole answer in time.
    Slow,
    /// An answer that cannot be read.
    Garbled(String),
    /// The service refused, with this code and message.
    Refused(String, String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throttled => write!(f, "throttled"),
            Self::NoCredentials(why) => write!(f, "no AWS credentials ({why})"),
            Self::Expired(why) => write!(f, "the credentials have expired ({why})"),
            Self::BadCredentials(why) => write!(f, "the credentials are not accepted ({why})"),
            Self::Denied(why) => write!(f, "not allowed ({why})"),
            Self::NotFound(why) => write!(f, "not found ({why})"),
            Self::Unavailable(why) => write!(f, "the service is unavailable ({why})"),
            Self::Unreachable(why) => write!(f, "no connection ({why})"),
            Self::Slow => write!(f, "no complete answer in time"),
            Self::Garbled(why) => write!(f, "the answer cannot be read ({why})"),
            Self::Refused(code, why) => write!(f, "{code} ({why})"),
        }
    }
}

impl Error {
    /// Whether asking again can help.
    pub(crate) fn recover(&self) -> Recover {
        match self.cause {
            Cause::Throttled => Recover::After(Duration::from_secs(5)),
            Cause::Unavailable(_) | Cause::Unreachable(_) | Cause::Slow | Cause::Garbled(_) => {
                Recover::Backoff
            }
            _ => Recover::Never,
        }
    }

    /// What shows or mends the cause.
    pub(crate) fn hint(&self, profile: Option<&str>) -> Option<Hint> {
        let with_profile = |words: &[&'static str]| {
            let profile = profile.into_iter().flat_map(|p| ["--profile", p]);
            Hint::command(words.iter().copied().chain(profile))
        };
        match &self.cause {
            Cause::Expired(_) => Some(with_profile(&["aws", "sso", "login"])),
            Cause::NoCredentials(_) => Some(Hint::note(
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or: aws configure sso",
            )),
            Cause::BadCredentials(_) => Some(with_profile(&["aws", "sts", "get-caller-identity"])),
            Cause::Denied(_) => Some(Hint::note(format!(
                "allow {}:{} (meshlink aws policy prints the whole policy)",
                self.service.prefix(),
                self.action
            ))),
            Cause::Unreachable(_) => {
                let url = format!(
                    "https://{}.{}.{}/",
                    self.service.prefix(),
                    self.region,
                    super::arn::Partition::of_region(&self.region).suffix
                );
                Some(Hint::command(["curl", "-sv", &url]))
            }
            _ => None,
        }
    }

    /// Whether the cause is a missing thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::NotFound(_))
    }
}

/// Sort a service's error code.
pub(crate) fn by_code(code: &str, message: &str, status: u16) -> Cause {
    let text = message.to_owned();
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Cause::Throttled,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Cause::Expired(text),
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "AuthFailure"
        | "InvalidSignatureException"
        | "InvalidAccessKeyId"
        | "IncompleteSignature"
        | "MissingAuthenticationToken" => Cause::BadCredentials(text),
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "UnauthorizedException" => Cause::Denied(text),
        "ResourceNotFoundException"
        | "LoadBalancerNotFound"
        | "TargetGroupNotFound"
        | "ListenerNotFound" => Cause::NotFound(text),
        code if code.starts_with("Invalid") && code.ends_with(".NotFound") => Cause::NotFound(text),
        "HealthUnavailable"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServerException"
        | "ServiceUnavailableException" => Cause::Unavailable(text),
        _ if status == 429 => Cause::Throttled,
        _ if status >= 500 => {
            Cause::Unavailable(format!("HTTP {status} {code} {message}").trim_end().into())
        }
        _ => Cause::Refused(code.into(), text),
    }
}

/// Sort an SDK's error.
pub(crate) fn by_sdk<E>(error: &SdkError<E>) -> Cause
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let Some(credentials) = find::<CredentialsError>(error) {
        return by_credentials(credentials);
    }
    match error {
        SdkError::TimeoutError(_) => Cause::Slow,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Cause::Slow,
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            Cause::Unreachable(deepest(error))
        }
        SdkError::ResponseError(_) => Cause::Garbled(deepest(error)),
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            match service.err().code() {
                Some(code) => by_code(code, service.err().message().unwrap_or_default(), status),
                None if status < 300 => Cause::Garbled(deepest(error)),
                None => by_code("", &deepest(error), status),
            }
        }
        _ => Cause::Garbled(deepest(error)),
    }
}

/// Sort a failure of the credentials chain.
pub(crate) fn by_credentials(error: &CredentialsError) -> Cause {
    let text = deepest(error);
    let lower = text.to_lowercase();
    match error {
        CredentialsError::ProviderTimedOut(_) => Cause::Slow,
        _ if lower.contains("expired") || lower.contains("sso login") => Cause::Expired(text),
        _ if lower.contains("accessdenied") || lower.contains("not authorized") => {
            Cause::Denied(text)
        }
        _ => Cause::NoCredentials(text),
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref::<T>())
}

/// The text nearest to the cause; the outer layers say only "dispatch failure".
pub(crate) fn deepest(error: &(dyn StdError + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(cause: Cause) -> Error {
        Error {
            service: Service::Elb,
            action: "DescribeTargetHealth",
            region: "eu-west-1".into(),
            cause,
        }
    }

    #[test]
    fn codes_are_sorted_by_what_to_do() {
        for (code, status, recover) in [
            ("Throttling", 400, Recover::After(Duration::from_secs(5))),
            (
                "RequestLimitExceeded",
                503,
                Recover::After(Duration::from_secs(5)),
            ),
            ("", 429, Recover::After(Duration::from_secs(5))),
            ("InternalFailure", 500, Recover::Backoff),
            ("HealthUnavailable", 500, Recover::Backoff),
            ("", 502, Recover::Backoff),
            ("AccessDenied", 403, Recover::Never),
            ("ExpiredToken", 403, Recover::Never),
            ("LoadBalancerNotFound", 400, Recover::Never),
            ("ValidationError", 400, Recover::Never),
        ] {
            assert_eq!(
                error(by_code(code, "m", status)).recover(),
                recover,
                "{code} {status}"
            );
        }
    }

    #[test]
    fn hints_can_be_pasted() {
        let hint = |cause| error(cause).hint(Some("work")).unwrap().to_string();
        assert_eq!(
            hint(Cause::Expired(String::new())),
            "aws sso login --profile work"
        );
        assert!(
            hint(Cause::Denied(String::new()))
                .contains("elasticloadbalancing:DescribeTargetHealth")
        );
        assert_eq!(error(Cause::Throttled).hint(None), None);
        assert_eq!(
            error(Cause::Denied("no identity-based policy".into())).to_string(),
            "elasticloadbalancing:DescribeTargetHealth in eu-west-1: not allowed (no identity-based policy)"
        );
    }
}
