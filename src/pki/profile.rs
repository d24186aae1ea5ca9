//! What a certificate says, as people can read and change it: `certs/*.toml`.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints,
};
use serde::Deserialize;

use super::Error;

/// The unit in the subject of everything that belongs to embedded clusters.
pub(crate) const EMBEDDED: &str = "embedded";

/// A certificate profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    subject: Subject,
    validity: Validity,
    constraints: Constraints,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Subject {
    common_name: String,
    organization: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Validity {
    backdate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Constraints {
    path_length: u8,
    key_usage: Vec<KeyUse>,
    permitted_dns: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum KeyUse {
    KeyCertSign,
    #[serde(rename = "cRLSign")]
    CrlSign,
}

/// What goes where the profile has braces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fill<'a> {
    pub(crate) mesh: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) tag: &'a str,
}

impl Fill<'_> {
    fn in_text(&self, text: &str) -> String {
        text.replace("{mesh}", self.mesh)
            .replace("{cluster}", self.cluster)
            .replace("{namespace}", self.namespace)
            .replace("{tag}", self.tag)
    }
}

impl Profile {
    /// The profile of roots that comes with meshlink.
    pub(crate) fn root() -> Result<Self, Error> {
        Self::read("certs/root.toml", include_str!("../../certs/root.toml"))
    }

    /// The profile of intermediates that comes with meshlink.
    pub(crate) fn intermediate() -> Result<Self, Error> {
        Self::read(
            "certs/intermediate.toml",
            include_str!("../../certs/intermediate.toml"),
        )
    }

    /// The profile of roots that sign nothing.
    pub(crate) fn throw_away() -> Result<Self, Error> {
        Self::read(
            "certs/throw-away.toml",
            include_str!("../../certs/throw-away.toml"),
        )
    }

    /// Reads a profile; `file` is what errors call it.
    pub(crate) fn read(file: &str, text: &str) -> Result<Self, Error> {
        let profile: Self = toml::from_str(text).map_err(|source| Error::Profile {
            file: file.into(),
            source: Box::new(source),
        })?;
        profile.backdate_seconds().ok_or_else(|| Error::Backdate {
            file: file.into(),
            text: profile.validity.backdate.clone(),
        })?;
        Ok(profile)
    }

    /// How far before now certificates of this profile become valid.
    pub(crate) fn backdate_seconds(&self) -> Option<i64> {
        let span: jiff::Span = self.validity.backdate.parse().ok()?;
        let day = jiff::SpanRelativeTo::days_are_24_hours();
        let length = span.to_duration(day).ok()?;
        (!length.is_negative()).then(|| length.as_secs())
    }

    /// The parameters for rcgen, all but serial and dates. `names` are further permitted DNS names.
    pub(crate) fn params(
        &self,
        fill: Fill<'_>,
        names: &[String],
        embedded: bool,
    ) -> CertificateParams {
        let mut subject = DistinguishedName::new();
        subject.push(
            DnType::OrganizationName,
            fill.in_text(&self.subject.organization),
        );
        if embedded {
            subject.push(DnType::OrganizationalUnitName, EMBEDDED);
        }
        // X.509 allows a common name 64 characters (RFC 5280, ub-common-name); the tag goes last and may be lost.
        let name: String = fill
            .in_text(&self.subject.common_name)
            .chars()
            .take(64)
            .collect();
        subject.push(DnType::CommonName, name.trim_end());

        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(self.constraints.path_length));
        params.key_usages = self
            .constraints
            .key_usage
            .iter()
            .map(KeyUse::purpose)
            .collect();
        params.use_authority_key_identifier_extension = true;
        let permitted: Vec<_> = self
            .permitted(fill, names)
            .map(GeneralSubtree::DnsName)
            .collect();
        params.name_constraints = (!permitted.is_empty()).then(|| NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: vec![],
        });
        params
    }

    /// The DNS names below which certificates may be named, the profile's and then further ones.
    pub(crate) fn permitted(
        &self,
        fill: Fill<'_>,
        names: &[String],
    ) -> impl Iterator<Item = String> {
        let own = self
            .constraints
            .permitted_dns
            .iter()
            .map(move |name| fill.in_text(name));
        // A profile that names no constraint wants none: further names only widen one that is there.
        let further = if self.constraints.permitted_dns.is_empty() {
            &[]
        } else {
            names
        };
        own.chain(further.iter().cloned())
    }
}

impl KeyUse {
    fn purpose(&self) -> KeyUsagePurpose {
        match self {
            Self::KeyCertSign => KeyUsagePurpose::KeyCertSign,
            Self::CrlSign => KeyUsagePurpose::CrlSign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_that_come_with_meshlink_read() {
        assert_eq!(Profile::root().unwrap().constraints.path_length, 1);
        assert_eq!(Profile::root().unwrap().backdate_seconds(), Some(24 * 3600));
        assert_eq!(Profile::intermediate().unwrap().constraints.path_length, 0);
        assert_eq!(Profile::throw_away().unwrap().constraints.path_length, 0);
    }

    #[test]
    fn a_typing_slip_in_a_profile_is_an_error() {
        let text = include_str!("../../certs/root.toml");
        for (from, to) in [
            ("path-length", "pathlen"),
            ("\"cRLSign\"", "\"crlSign\""),
            ("\"24h\"", "\"a while\""),
            ("\"24h\"", "\"-24h\""),
        ] {
            let error = Profile::read("x.toml", &text.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains("x.toml"), "{error}");
        }
    }
}
