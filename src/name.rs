//! Names that travel through the whole program, checked once where they enter.
//!
//! Each is a newtype that can only hold a valid value: parse with [`FromStr`], print with
//! [`Display`](fmt::Display). What istiod, Kubernetes and X.509 would refuse later is refused here.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {reason}")]
pub struct Error {
    /// What was being read, as a user would call it.
    pub kind: &'static str,
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub reason: &'static str,
}

/// A DNS-1123 label: what Kubernetes lets an object be called in the strictest places.
fn label(kind: &'static str, text: &str) -> Result<(), Error> {
    let fail = |reason| {
        Err(Error {
            kind,
            text: text.into(),
            reason,
        })
    };
    if text.is_empty() {
        return fail("is empty: write lower-case letters, digits and '-'");
    }
    if text.len() > 63 {
        return fail("is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return fail("may hold only lower-case letters, digits and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return fail("must start and end with a letter or digit");
    }
    Ok(())
}

/// A DNS-1123 subdomain: labels joined by dots.
fn domain(kind: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > 253 {
        return Err(Error {
            kind,
            text: text.into(),
            reason: "is longer than 253 characters",
        });
    }
    text.split('.').try_for_each(|part| {
        label(kind, part).map_err(|e| Error {
            text: text.into(),
            ..e
        })
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                $check($kind, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().into()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The mesh as a whole: `meshID` in Istio, the folder name in the vault.
    MeshId, "mesh id", label
);
name!(
    /// One member: istiod's `clusterName`, the key in remote secrets. Istio wants a DNS-1123 label.
    ClusterName, "cluster name", label
);
name!(
    /// A network in Istio's sense: pods in it reach each other directly.
    NetworkName, "network name", label
);
name!(
    /// The SPIFFE trust domain all members share.
    TrustDomain, "trust domain", domain
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?") {
            let name: ClusterName = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (text, want) in [
            ("", "is empty"),
            ("EKS-1", "lower-case"),
            ("-a", "start and end"),
            ("a_b", "lower-case"),
            (&"a".repeat(64), "longer than 63"),
        ] {
            let error = text.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!("a..b".parse::<TrustDomain>().is_err());
        assert!("cluster.local".parse::<TrustDomain>().is_ok());
    }
}
