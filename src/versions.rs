//! Istio versions: what is known to be wrong with them, and which one a mesh is given. Data in `versions.toml`.

use std::{collections::BTreeSet, sync::LazyLock};

use semver::Version;
use serde::{Deserialize, Serialize};

/// What is wrong with a table of versions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("is no table of Istio versions")]
    Form(#[source] toml::de::Error),
    /// A version in it is none.
    #[error("{text:?} is no version")]
    Version {
        /// What stands there.
        text: String,
        /// Why.
        source: semver::Error,
    },
    /// Its first version is not before its second.
    #[error("the range from {from} to {before} holds no version")]
    Range {
        /// The first.
        from: Version,
        /// The one after the last.
        before: Version,
    },
    /// A fault without a source cannot be checked by anybody.
    #[error("a fault has no text, or no reference: {text:?}")]
    Unfounded {
        /// What it says.
        text: String,
    },
    /// Every version in it has a fault.
    #[error("no version in `newest` is without a fault")]
    NoneSound,
}

/// What is changed, where a fault shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum About {
    /// A remote secret, in place.
    #[default]
    RemoteSecrets,
    /// What istiod signs with, or the roots beside it.
    Cacerts,
}

/// What a fault means for such a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effect {
    /// The peer's endpoints are away for a moment.
    Gap,
    /// istiod must be restarted afterwards.
    Restart,
    /// It can only be said.
    Say,
}

/// Something that is known to be wrong with some versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    ranges: Vec<(Version, Version)>,
    /// Only while the members run different minor versions.
    mixed: bool,
    about: About,
    /// What it means.
    pub(crate) effect: Effect,
    text: String,
    references: Vec<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.references.join(", "))
    }
}

impl Fault {
    fn holds(&self, version: &Version) -> bool {
        let within = |(from, before): &(Version, Version)| version >= from && version < before;
        self.ranges.iter().any(within)
    }
}

/// All that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    faults: Vec<Fault>,
    newest: BTreeSet<Version>,
    default: Version,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    newest: Vec<String>,
    #[serde(default)]
    fault: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    ranges: Vec<(String, String)>,
    #[serde(default)]
    mixed: bool,
    #[serde(default)]
    about: About,
    effect: Effect,
    text: String,
    references: Vec<String>,
}

/// The table that comes with meshlink.
#[expect(
    clippy::expect_used,
    reason = "a test reads it; it is part of the program"
)]
static KNOWN: LazyLock<Versions> =
    LazyLock::new(|| Versions::read(include_str!("versions.toml")).expect("versions.toml"));

impl Versions {
    /// The table that comes with meshlink.
    pub(crate) fn known() -> &'static Self {
        &KNOWN
    }

    /// Reads a table.
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let document: Document = toml::from_str(text).map_err(Error::Form)?;
        let faults = document.fault.into_iter().map(Entry::checked);
        let faults = faults.collect::<Result<Vec<_>, _>>()?;
        let newest = document.newest.iter().map(|text| version(text));
        let newest = newest.collect::<Result<BTreeSet<_>, _>>()?;
        let sound = |v: &&Version| v.patch > 0 && v.pre.is_empty() && !grave(&faults, v);
        let default = newest.iter().rev().find(sound).ok_or(Error::NoneSound)?;
        Ok(Self {
            default: default.clone(),
            newest,
            faults,
        })
    }

    /// What a mesh is given that names no version: the newest patch release without a known fault.
    pub(crate) fn default(&self) -> &Version {
        &self.default
    }

    /// The newest patch release that is known of a minor version.
    pub(crate) fn newest_of(&self, major: u64, minor: u64) -> Option<&Version> {
        let mut newest = self.newest.iter().rev();
        newest.find(|v| (v.major, v.minor) == (major, minor))
    }

    /// What is wrong with a version, whatever the other members run.
    pub(crate) fn faults(&self, version: &Version) -> impl Iterator<Item = &Fault> {
        let holds = move |f: &&Fault| !f.mixed && f.holds(version);
        self.faults.iter().filter(holds)
    }

    /// What is wrong with running these versions side by side.
    pub(crate) fn mixed<'v>(
        &self,
        versions: impl IntoIterator<Item = &'v Version> + Clone,
    ) -> impl Iterator<Item = &Fault> {
        let minor = |v: &Version| (v.major, v.minor);
        let minors: BTreeSet<_> = versions.clone().into_iter().map(minor).collect();
        let several = minors.len() > 1;
        let holds = move |f: &&Fault| {
            several && f.mixed && versions.clone().into_iter().any(|v| f.holds(v))
        };
        self.faults.iter().filter(holds)
    }

    /// Why an istiod of a version must be restarted when a remote secret was changed; none if it need not be.
    pub(crate) fn restarts(&self, version: &Version) -> Option<&Fault> {
        self.losses(version, About::RemoteSecrets)
            .find(|f| f.effect == Effect::Restart)
    }

    /// What loses requests when something is changed under an istiod of a version.
    pub(crate) fn losses(&self, version: &Version, about: About) -> impl Iterator<Item = &Fault> {
        self.faults(version)
            .filter(move |f| f.about == about && f.effect != Effect::Say)
    }

    /// Whether an istiod of this version must be able to read the Secrets of the clusters it knows. Its credentials
    /// controller for remote clusters can be switched off (`PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER`, istio#59874), but no
    /// version is known that does not panic then as soon as there is a remote secret.
    pub(crate) fn reads_secrets(_version: &Version) -> bool {
        true
    }
}

/// A gap alone does not keep a version from being chosen: there is nothing newer in its line that has none.
fn grave(faults: &[Fault], version: &Version) -> bool {
    let grave = |f: &Fault| !f.mixed && f.effect != Effect::Gap && f.holds(version);
    faults.iter().any(grave)
}

impl Entry {
    fn checked(self) -> Result<Fault, Error> {
        let range = |(from, before): (String, String)| {
            let (from, before) = (version(&from)?, version(&before)?);
            match from < before {
                true => Ok((from, before)),
                false => Err(Error::Range { from, before }),
            }
        };
        let ranges = self.ranges.into_iter().map(range);
        let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        if self.text.is_empty() || self.references.is_empty() || ranges.is_empty() {
            return Err(Error::Unfounded { text: self.text });
        }
        Ok(Fault {
            ranges,
            mixed: self.mixed,
            about: self.about,
            effect: self.effect,
            text: self.text,
            references: self.references,
        })
    }
}

fn version(text: &str) -> Result<Version, Error> {
    let fail = |source| Error::Version {
        text: text.into(),
        source,
    };
    Version::parse(text).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_changed_remote_secret_does_to_a_version() {
        for (version, want) in [
            ("1.28.6", "Gap"),
            ("1.29.7", "Gap"),
            ("1.30.0-rc.1", "60612"),
            ("1.30.2", "60612"),
            ("1.30.3", "61043"),
            ("1.30.4", ""),
            ("1.31.0-alpha.1", "61043"),
            ("1.31.0-alpha.2", ""),
            ("1.31.0", "60033"),
            ("1.31.1", ""),
            ("1.32.1", ""),
        ] {
            let (version, known) = (at(version), Versions::known());
            let all: Vec<_> = known.faults(&version).collect();
            let said = all.iter().map(|f| format!("{:?} {f}; ", f.effect));
            let said: String = said.collect();
            match want {
                "" => assert_eq!(said, "", "{version}"),
                want => assert!(said.contains(want), "{version}: {said}"),
            }
            let restarts = matches!(want, "60612" | "61043");
            assert_eq!(known.restarts(&version).is_some(), restarts, "{version}");
        }
    }

    #[test]
    fn the_default_is_the_newest_patch_release_without_a_known_fault() {
        assert_eq!(Versions::known().default(), &at("1.31.4"));
        let table = |newest: &str, from: &str, before: &str| {
            Versions::read(&format!(
                "newest = [{newest}]\n[[fault]]\nranges = [[\"{from}\", \"{before}\"]]\neffect = \"say\"\n\
                 text = \"x\"\nreferences = [\"istio#1\"]\n"
            ))
        };
        let chosen = |newest: &str, from: &str, before: &str| {
            table(newest, from, before).map(|t| t.default().to_string())
        };
        let both = r#""1.31.4", "1.32.0", "1.30.8""#;
        assert_eq!(chosen(both, "1.0.0", "1.1.0").unwrap(), "1.31.4");
        assert_eq!(chosen(both, "1.31.0", "1.31.5").unwrap(), "1.30.8");
        let none = chosen(both, "1.0.0", "2.0.0").unwrap_err();
        assert!(matches!(none, Error::NoneSound), "{none}");
        let turned = chosen(both, "1.31.5", "1.31.0").unwrap_err();
        assert!(matches!(turned, Error::Range { .. }), "{turned}");
        assert!(chosen("\"1.31\"", "1.0.0", "1.1.0").is_err());
    }

    #[test]
    fn a_mixture_of_minor_versions_is_a_fault_of_its_own() {
        let known = Versions::known();
        let said = |versions: &[&str]| {
            let versions: Vec<_> = versions.iter().map(|v| at(v)).collect();
            known
                .mixed(&versions)
                .map(ToString::to_string)
                .collect::<String>()
        };
        assert!(said(&["1.29.1", "1.27.0"]).contains("59875"));
        assert!(said(&["1.29.1", "1.31.4"]).contains("59875"));
        assert_eq!(said(&["1.29.1", "1.29.7"]), "");
        assert_eq!(said(&["1.30.8", "1.31.4"]), "");
    }

    #[test]
    fn what_loses_requests_is_told_apart_by_what_is_changed() {
        let known = Versions::known();
        let losses =
            |version: &str, about| known.losses(&at(version), about).next().map(|f| f.effect);
        for (version, want) in [
            ("1.29.7", Some(Effect::Gap)),
            ("1.30.2", Some(Effect::Restart)),
            ("1.30.4", None),
            ("1.31.0", None),
        ] {
            assert_eq!(losses(version, About::RemoteSecrets), want, "{version}");
            assert_eq!(losses(version, About::Cacerts), None, "{version}");
        }
        let table = "newest = [\"1.31.4\"]\n[[fault]]\nranges = [[\"1.30.0\", \"1.31.0\"]]\nabout = \"cacerts\"\n\
             effect = \"gap\"\ntext = \"x\"\nreferences = [\"istio#1\"]\n";
        let table = Versions::read(table).unwrap();
        let found = |about| table.losses(&at("1.30.4"), about).count();
        assert_eq!((found(About::Cacerts), found(About::RemoteSecrets)), (1, 0));
        assert_eq!(table.restarts(&at("1.30.4")), None);
    }

    #[test]
    fn a_fault_needs_a_text_and_a_reference() {
        let table =
            |rest: &str| Versions::read(&format!("newest = [\"1.31.4\"]\n[[fault]]\n{rest}"));
        let whole = "ranges = [[\"1.0.0\", \"1.1.0\"]]\neffect = \"gap\"\n";
        for rest in [
            "text = \"\"\nreferences = [\"x\"]",
            "text = \"x\"\nreferences = []",
        ] {
            let error = table(&format!("{whole}{rest}")).unwrap_err();
            assert!(matches!(error, Error::Unfounded { .. }), "{error}");
        }
        let error = table(&format!(
            "{whole}text = \"x\"\nreferences = [\"x\"]\nmore = 1"
        ))
        .unwrap_err();
        assert!(matches!(error, Error::Form(_)), "{error}");
    }
}
