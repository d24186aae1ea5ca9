//! Signature Version 4, seen from the side that checks it. Written from its description, not with the signer's code,
//! so that one cannot share the other's mistake.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest as _, Sha256};

/// How far a client's clock may be off.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// A request as it came, for signing.
#[derive(Debug, Clone)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Path, percent-encoded as it was sent.
    pub(super) path: &'a str,
    /// Query, percent-encoded as it was sent; without the signature, if that is in it.
    pub(super) query: &'a str,
    /// Lower-case names.
    pub(super) headers: &'a BTreeMap<String, String>,
    pub(super) body: &'a [u8],
}

/// Where a signature is valid, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) key: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: String,
}

impl Scope {
    /// Read `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    pub(super) fn from_header(value: &str) -> Option<Self> {
        let parts: BTreeMap<&str, &str> = value
            .strip_prefix("AWS4-HMAC-SHA256 ")?
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
            .collect();
        Self::new(
            parts.get("Credential")?,
            parts.get("SignedHeaders")?,
            parts.get("Signature")?,
        )
    }

    /// From the three parts, wherever they stood.
    pub(super) fn new(credential: &str, signed_headers: &str, signature: &str) -> Option<Self> {
        let mut parts = credential.rsplitn(5, '/');
        (parts.next()? == "aws4_request").then_some(())?;
        let (service, region, date, key) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            key: key.into(),
            date: date.into(),
            region: region.into(),
            service: service.into(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: signature.into(),
        })
    }

    /// Whether the signature is the one the secret gives for this request at this time.
    pub(super) fn fits(&self, request: &Signed<'_>, stamp: &str, secret: &str) -> bool {
        let Some(time) = time(stamp).filter(|_| stamp.starts_with(&self.date)) else {
            return false;
        };
        let scope = format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        );
        let canonical = hash(self.canonical(request).as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{canonical}");
        let key = generate_signing_key(secret, time, &self.region, &self.service);
        calculate_signature(key, text.as_bytes()) == self.signature
    }

    fn canonical(&self, request: &Signed<'_>) -> String {
        let header = |name: &String| {
            let value = request.headers.get(name).map_or("", String::as_str);
            format!(
                "{name}:{}\n",
                value.split_whitespace().collect::<Vec<_>>().join(" ")
            )
        };
        let headers: String = self.signed_headers.iter().map(header).collect();
        let path: String = request
            .path
            .split('/')
            .map(encode)
            .collect::<Vec<_>>()
            .join("/");
        let (method, query, body) = (
            request.method,
            canonical_query(request.query),
            hash(request.body),
        );
        let names = self.signed_headers.join(";");
        format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{body}")
    }
}

/// Read `20261120T140000Z`.
pub(super) fn time(stamp: &str) -> Option<SystemTime> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    Some(
        civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .into(),
    )
}

/// Whether a stamp is near enough to now.
pub(super) fn is_near(stamp: &str, now: SystemTime) -> bool {
    let near = |time: SystemTime| {
        now.duration_since(time)
            .or_else(|_| time.duration_since(now))
            .is_ok_and(|apart| apart <= SKEW)
    };
    time(stamp).is_some_and(near)
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name)), encode(&decode(value)))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Undo percent-encoding; a plus stays a plus.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Percent-encode all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of AWS's own page on signing, by its published values.
    #[test]
    fn the_published_example_fits() {
        let headers = BTreeMap::from([
            ("host".to_owned(), "example.amazonaws.com".to_owned()),
            ("x-amz-date".to_owned(), "20150830T123600Z".to_owned()),
        ]);
        let request = Signed {
            method: "GET",
            path: "/",
            query: "",
            headers: &headers,
            body: b"",
        };
        let scope = Scope::from_header(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        )
        .unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert!(scope.fits(&request, "20150830T123600Z", secret));
        assert!(!scope.fits(&request, "20150830T123601Z", secret));
        assert!(!scope.fits(&request, "20150830T123600Z", "other"));
        let other = Signed {
            query: "a=b",
            ..request
        };
        assert!(!scope.fits(&other, "20150830T123600Z", secret));
    }

    #[test]
    fn encoding_goes_there_and_back() {
        assert_eq!(encode("a b/ü~"), "a%20b%2F%C3%BC~");
        assert_eq!(decode("a%20b%2F%C3%BC~%zz%"), "a b/ü~%zz%");
        assert_eq!(canonical_query("b=2&a=%7e&a"), "a=&a=~&b=2");
    }
}
