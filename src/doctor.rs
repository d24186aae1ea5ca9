//! Named causes of what goes wrong in a mesh, and before there is one, each with its evidence and one command against it.
//!
//! A [`Check`] is a row of a table ([`table::GROUPS`]): what it is called, what it looks at, and a pure function over one
//! [`Reading`]. The reading takes each member by itself, with a deadline; what could not be read is named with every check that
//! would have looked at it ([`Unlooked`]), and never counts as well. A check that finds something does not keep the
//! others from looking: two causes at once are both named.
//!
//! | part | what it is |
//! | --- | --- |
//! | `table` | every check |
//! | `reading` | what is read of the members for them |
//! | `allow` | how much of each object is kept |
//! | `record` | the reading as it is written down |
//! | `peers` | what each remote secret opens, and how far |
//! | `view` | the reading as a check sees it |
//! | `checks` | the checks, by what they look at |
//! | `page` | the catalogue in `docs/` |

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{hint::Hint, name::ClusterName};

mod allow;
mod checks;
#[cfg(test)]
mod page;
mod peers;
mod reading;
mod record;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use allow::kept;
pub(crate) use peers::Tried;
pub(crate) use reading::{Looking, Member, Reading, Source, look};
pub(crate) use record::Record;
use view::View;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Nothing fails because of it; who looks for something strange should know it.
    Note,
    /// Something fails, or will, for some.
    Warning,
    /// The mesh does not work between some members, or is about to stop.
    Error,
}

impl Level {
    /// The name as it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// When a check is worth looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum When {
    /// In a mesh that stands.
    Joined,
    /// Before anything is installed.
    BeforeJoin,
    /// At any time.
    Always,
}

/// One cause, and how it is told.
pub(crate) struct Check {
    /// Its name: stable, documented, the same everywhere.
    pub(crate) id: &'static str,
    /// How bad it is; what was found may be less.
    pub(crate) level: Level,
    /// When it is worth looking.
    pub(crate) when: When,
    /// What it looks at.
    pub(crate) looks: &'static str,
    /// What is wrong where it finds something, and what comes of that.
    pub(crate) cause: &'static str,
    /// What to do, in words; what it prints is one command.
    pub(crate) mend: &'static str,
    /// What must have been read of a member.
    pub(crate) needs: &'static [Source],
    /// The checks that explain what it finds: where one of them finds something in the same members, it says nothing.
    pub(crate) echoes: &'static [&'static str],
    look: fn(&View<'_>) -> Vec<Found>,
}

/// What a check found, before it is known as that check's.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    cluster: String,
    peer: Option<String>,
    evidence: String,
    fix: Hint,
    level: Option<Level>,
    cause: Option<String>,
}

impl Found {
    fn of(cluster: &ClusterName, evidence: impl Into<String>, fix: Hint) -> Self {
        Self {
            cluster: cluster.to_string(),
            peer: None,
            evidence: evidence.into(),
            fix,
            level: None,
            cause: None,
        }
    }

    fn with(self, peer: &ClusterName) -> Self {
        Self {
            peer: Some(peer.to_string()),
            ..self
        }
    }

    fn at(self, level: Level) -> Self {
        Self {
            level: Some(level),
            ..self
        }
    }

    fn because(self, cause: impl Into<String>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }
}

/// A cause that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// The check that found it.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// The member it is in, or that looks.
    pub cluster: String,
    /// The other member, where it is about two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was looked at, and what it said.
    pub evidence: String,
    /// What is wrong, and what comes of it.
    pub cause: String,
    /// What to do about it.
    pub fix: Hint,
}

impl Finding {
    /// `no-common-root/eks-1/eks-2`.
    pub(crate) fn path(&self) -> String {
        let peer = self.peer.as_ref();
        let peer = peer.map(|p| format!("/{p}")).unwrap_or_default();
        format!("{}/{}{peer}", self.check, self.cluster)
    }
}

/// What could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Unlooked {
    /// The member.
    pub cluster: String,
    /// What of it.
    pub what: String,
    /// Why not.
    pub why: String,
    /// The checks that would have looked at it.
    pub checks: Vec<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Result {
    /// It looked at every member and found nothing.
    Clean,
    /// It found something.
    Found,
    /// It found nothing where it could look, and there is a member where it could not.
    NotLooked,
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Made {
    /// Which.
    pub check: String,
    /// What came of it.
    pub result: Result,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Diagnosis {
    /// The members that were looked at.
    pub clusters: Vec<String>,
    /// The checks that were made.
    pub checks: Vec<Made>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub not_looked_at: Vec<Unlooked>,
}

/// A row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Entry {
    /// The check's name.
    pub id: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How bad what it finds is.
    pub level: Level,
    /// When it is made.
    pub when: When,
    /// What it looks at.
    pub looks_at: &'static str,
    /// What is wrong where it finds something.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// Every check there is.
pub(crate) fn entries() -> Vec<Entry> {
    let entry = |(about, check): (&'static str, &Check)| Entry {
        id: check.id,
        about,
        level: check.level,
        when: check.when,
        looks_at: check.looks,
        cause: check.cause,
        fix: check.mend,
    };
    let all = table::GROUPS.iter();
    let all = all.flat_map(|(about, checks)| checks.iter().map(move |check| (*about, check)));
    all.map(entry).collect()
}

/// The names of all checks.
pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    table::all().map(|check| check.id)
}

/// Which checks are to be made, and of whom something is to be said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Only these checks; all where none is named.
    pub only: Vec<String>,
    /// Before anything is installed.
    pub before_join: bool,
    /// Only what has to do with these members; all where none is named.
    pub about: Vec<ClusterName>,
}

impl Scope {
    fn makes(&self, check: &Check) -> bool {
        let is_time = match check.when {
            When::Joined => !self.before_join,
            When::BeforeJoin => self.before_join,
            When::Always => true,
        };
        match self.only.as_slice() {
            [] => is_time,
            only => only.iter().any(|id| id == check.id),
        }
    }

    fn concerns(&self, cluster: &str, peer: Option<&str>) -> bool {
        let is = |name: &ClusterName| name.as_str() == cluster || Some(name.as_str()) == peer;
        self.about.is_empty() || self.about.iter().any(is)
    }

    /// What must be read for it.
    pub(crate) fn sources(&self) -> BTreeSet<Source> {
        let made = table::all().filter(|check| self.makes(check));
        made.flat_map(|check| check.needs).copied().collect()
    }
}

/// Makes the checks over what was read. Pure.
pub(crate) fn diagnose(reading: &Reading, scope: &Scope) -> Diagnosis {
    let (mut made, mut findings) = (vec![], vec![]);
    let mut unlooked: BTreeMap<(String, Source), Vec<String>> = BTreeMap::new();
    for check in table::all().filter(|check| scope.makes(check)) {
        let view = View::of(reading, check.needs);
        let found = (check.look)(&view).into_iter();
        let found = found.filter(|f| scope.concerns(&f.cluster, f.peer.as_deref()));
        let found: Vec<_> = found.map(|f| told(check, f)).collect();
        let mut missing = view.missing().peekable();
        made.push(Made {
            check: check.id.into(),
            result: match (found.is_empty(), missing.peek().is_some()) {
                (false, _) => Result::Found,
                (true, true) => Result::NotLooked,
                (true, false) => Result::Clean,
            },
        });
        for (name, source) in missing {
            let key = (name.to_string(), source);
            unlooked.entry(key).or_default().push(check.id.into());
        }
        findings.push((check, found));
    }
    let not_looked_at = unlooked.into_iter();
    let not_looked_at = not_looked_at.map(|((cluster, source), checks)| Unlooked {
        what: source.what().into(),
        why: reading.why_not(&cluster, source),
        cluster,
        checks,
    });
    let mut findings = without_echoes(findings);
    findings.sort_by_key(|f| std::cmp::Reverse(f.level));
    Diagnosis {
        clusters: reading.mesh.members().into_iter().map(Into::into).collect(),
        checks: made,
        findings,
        not_looked_at: not_looked_at.collect(),
    }
}

fn told(check: &Check, found: Found) -> Finding {
    Finding {
        check: check.id.into(),
        level: found.level.unwrap_or(check.level),
        cluster: found.cluster,
        peer: found.peer,
        evidence: found.evidence,
        cause: found.cause.unwrap_or_else(|| check.cause.into()),
        fix: found.fix,
    }
}

/// Without what another finding explains.
fn without_echoes(found: Vec<(&Check, Vec<Finding>)>) -> Vec<Finding> {
    let all: Vec<&Finding> = found.iter().flat_map(|(_, all)| all).collect();
    let explains = |cause: &Finding, f: &Finding| match &cause.peer {
        Some(_) => (&cause.cluster, &cause.peer) == (&f.cluster, &f.peer),
        None => cause.cluster == f.cluster || f.peer.as_ref() == Some(&cause.cluster),
    };
    let kept = found.iter().flat_map(|(check, mine)| {
        let named = |cause: &&&Finding| check.echoes.contains(&cause.check.as_str());
        let is_echo = |f: &&Finding| all.iter().filter(named).any(|cause| explains(cause, f));
        mine.iter()
            .filter(|f| !is_echo(f))
            .cloned()
            .collect::<Vec<_>>()
    });
    kept.collect()
}

impl Diagnosis {
    /// How many findings there are of a level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|f| f.level == level).count()
    }
}
