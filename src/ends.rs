//! One table of everything in a mesh that ends: what it is, until when, how far it is, and who puts a new one in its
//! place by which command. Pure.
//!
//! Plans, verdicts, `ca status`, the metrics and Terraform's answer read this table and no other, so all of them turn to
//! warning and to failure on the same day. When that is, [`State`] says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{AuthoritySeen, Observed, ReaderSeen, RemoteSecretSeen, Seen, SuccessorSeen},
    pki::{self, CertFacts, Life, is_throw_away},
};

pub(crate) mod metrics;
#[cfg(test)]
mod tests;

pub(crate) use crate::pki::life::State;

/// What ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// A root that members trust.
    Root,
    /// A root that signs nothing, left from a renewal.
    ThrowAwayRoot,
    /// The intermediate in a member's Secret `cacerts`.
    Intermediate,
    /// What a member's istiod signs with, as it says itself.
    Signing,
    /// The token in a remote secret.
    Token,
    /// The CA of an API server, in a remote secret.
    ApiCa,
}

impl What {
    /// The name of a row of it, and of the claim that is made of it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::ThrowAwayRoot => "throw-away-root",
            Self::Intermediate => "intermediate",
            Self::Signing => "signing",
            Self::Token => "token",
            Self::ApiCa => "api-ca",
        }
    }
}

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Row {
    /// A name for it that stays: `intermediate/eks-1`, `token/eks-1/eks-2`.
    pub id: String,
    /// What it is.
    pub what: What,
    /// The members that hold it.
    pub members: Vec<String>,
    /// The member whose API server it opens or speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The first digits of its public key's SHA-256, where it is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Since when it is valid, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// Until when it is valid.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// Whole days that are left; negative once it has ended.
    pub days_left: i64,
    /// How far it is.
    pub state: State,
    /// Who puts a new one in its place, and how.
    pub renewal: String,
    /// What to know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The command, with what is known of this mesh.
    #[serde(skip)]
    pub hints: Vec<Hint>,
}

/// Everything that ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ends {
    /// When they were read.
    #[schemars(with = "String")]
    pub now: Timestamp,
    /// The rows, what matters to most first.
    pub rows: Vec<Row>,
}

/// Until when what each replica of a member's istiod signs with is valid, by the replica.
pub(crate) type Signing = BTreeMap<ClusterName, BTreeMap<String, Timestamp>>;

impl Ends {
    /// The table of what was read. What istiods say of themselves is asked for where somebody wants to know.
    pub(crate) fn of(observed: &Observed, signing: &Signing) -> Self {
        let now = observed.now;
        let mut rows = roots(observed);
        for (name, seen) in &observed.clusters {
            rows.extend(intermediate(name, seen, now));
            let said = signing.get(name).into_iter().flatten();
            rows.extend(said.filter_map(|(pod, until)| signs(name, seen, pod, *until, now)));
        }
        for (name, seen) in &observed.clusters {
            for (peer, secret) in &seen.remote_secrets {
                let there = peer.parse::<ClusterName>().ok();
                let there = there.and_then(|peer| observed.clusters.get(&peer));
                let account = there.and_then(|there| there.readers.get(name.as_str()));
                rows.extend(token(name, peer, secret, account, now));
                let successor = there.and_then(|there| there.successor.as_ref());
                rows.extend(api_ca(name, peer, secret, successor, now));
            }
        }
        rows.sort_by(|a, b| (a.what, &a.id).cmp(&(b.what, &b.id)));
        Self { now, rows }
    }

    /// Whether nothing has ended or is about to.
    pub(crate) fn is_well(&self) -> bool {
        self.rows.iter().all(|row| row.state < State::Failing)
    }

    /// The rows about which somebody has to know.
    pub(crate) fn pressing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.state >= State::Warning)
    }
}

impl Row {
    fn new(what: What, parts: &[&str], life: Life, now: Timestamp) -> Self {
        let (renewal, hint) = renewal(what);
        Self {
            id: parts
                .iter()
                .fold(what.as_str().to_owned(), |id, part| format!("{id}/{part}")),
            what,
            members: vec![],
            peer: None,
            fingerprint: None,
            since: life.since,
            until: life.until,
            days_left: life.left(now).as_secs().div_euclid(24 * 3600),
            state: life.state(now),
            renewal,
            note: None,
            hints: vec![hint],
        }
    }

    fn of(self, member: &ClusterName) -> Self {
        Self {
            members: vec![member.to_string()],
            ..self
        }
    }

    fn with(self, certificate: &CertFacts) -> Self {
        Self {
            fingerprint: Some(pki::short(&certificate.spki_sha256).to_owned()),
            ..self
        }
    }

    /// It, and what it is in, in words: the subject of a sentence.
    pub(crate) fn subject(&self) -> String {
        let (members, peer) = (self.members.join(", "), self.peer.as_deref().unwrap_or(""));
        let key = self.fingerprint.as_deref().unwrap_or("");
        match self.what {
            What::Root => format!("root {key}"),
            What::ThrowAwayRoot => format!("throw-away root {key} in {members}"),
            What::Intermediate => format!("{members}'s intermediate {key}"),
            What::Signing => format!("what {members}'s istiod signs with"),
            What::Token => format!("the token by which {members} reads {peer}"),
            What::ApiCa => format!("the CA of {peer}'s API server that {members} holds"),
        }
    }

    /// The same as a sentence.
    pub(crate) fn sentence(&self) -> String {
        let until = self.until.strftime("%Y-%m-%d %H:%M UTC");
        let verb = match self.state {
            State::Ended => "ended on",
            _ => "ends on",
        };
        let text = match self.what {
            What::Token if self.note.is_some() => format!("{} is old", self.subject()),
            _ => format!("{} {verb} {until}", self.subject()),
        };
        match &self.note {
            Some(note) => format!("{text}: {note}"),
            None => text,
        }
    }
}

/// Who renews what, and the command for it.
fn renewal(what: What) -> (String, Hint) {
    let renew = |of: &'static str| {
        let words = match of {
            "" => vec!["renew"],
            of => vec!["renew", "--what", of],
        };
        (
            format!("meshlink {}", words.join(" ")),
            Hint::meshlink(words),
        )
    };
    match what {
        What::Root => (
            "meshlink rotate root".into(),
            Hint::meshlink(["rotate", "root"]),
        ),
        What::ThrowAwayRoot | What::Intermediate | What::Signing => renew("intermediates"),
        What::Token => renew("tokens"),
        What::ApiCa => {
            let (text, hint) = renew("api-cas");
            (format!("who runs the API server, then {text}"), hint)
        }
    }
}

/// Every root that a member or the vault knows, once, with those who trust it.
fn roots(observed: &Observed) -> Vec<Row> {
    let mut all: BTreeMap<&str, (&CertFacts, BTreeSet<&ClusterName>)> = BTreeMap::new();
    if let Some(root) = &observed.vault.certificate {
        all.entry(&root.spki_sha256)
            .or_insert_with(|| (root, BTreeSet::new()));
    }
    for (name, seen) in &observed.clusters {
        for root in seen.cacerts.iter().flat_map(|c| &c.bundle) {
            let entry = all.entry(&root.spki_sha256);
            let (_, members) = entry.or_insert_with(|| (root, BTreeSet::new()));
            members.insert(name);
        }
    }
    let row = |(_, (root, members)): (&str, (&CertFacts, BTreeSet<&ClusterName>))| {
        let (what, key) = (of_root(root), pki::short(&root.spki_sha256));
        let mut row = Row::new(what, &[key], root.life(), observed.now).with(root);
        row.members = members.iter().map(ToString::to_string).collect();
        if what == What::ThrowAwayRoot {
            // It harms nobody by ending, and should not be there at all.
            row.state = State::Warning;
            row.note = Some("a renewal is under way, or was interrupted".into());
        }
        row
    };
    all.into_iter().map(row).collect()
}

fn of_root(root: &CertFacts) -> What {
    match is_throw_away(root) {
        true => What::ThrowAwayRoot,
        false => What::Root,
    }
}

fn intermediate(name: &ClusterName, seen: &Seen, now: Timestamp) -> Option<Row> {
    let signer = seen.cacerts.as_ref()?.signer.as_ref()?;
    let row = Row::new(What::Intermediate, &[name.as_str()], signer.life(), now);
    let mut row = row.with(signer).of(name);
    let roots = seen.cacerts.iter().flat_map(|c| &c.bundle);
    let ends = roots
        .filter(|r| !is_throw_away(r))
        .map(|r| r.not_after)
        .max();
    if ends.is_some_and(|end| signer.not_after >= end) {
        row.note = Some("it ends with its root, which is to be rotated first".into());
        let (renewal, hint) = renewal(What::Root);
        (row.renewal, row.hints) = (renewal, vec![hint]);
    }
    Some(row)
}

/// What a replica of istiod says it signs with. As long as that is what stands in `cacerts`, the row of that is enough.
fn signs(
    name: &ClusterName,
    seen: &Seen,
    pod: &str,
    until: Timestamp,
    now: Timestamp,
) -> Option<Row> {
    let signer = seen.cacerts.as_ref().and_then(|c| c.signer.as_ref());
    // A gauge in the notation of Prometheus may be short of some seconds.
    let near = |other: Timestamp| (until.as_second() - other.as_second()).abs() <= ROUNDED;
    if signer.is_some_and(|signer| near(signer.not_after)) {
        return None;
    }
    let life = Life { since: None, until };
    let mut row = Row::new(What::Signing, &[name.as_str(), pod], life, now).of(name);
    row.state = row.state.max(State::Warning);
    row.note = Some(format!("{pod} has not loaded what is in Secret cacerts"));
    Some(row)
}

/// How much a time may differ that was written as `1.8e+09` with ten digits.
const ROUNDED: i64 = 1;

fn token(
    name: &ClusterName,
    peer: &str,
    secret: &RemoteSecretSeen,
    account: Option<&ReaderSeen>,
    now: Timestamp,
) -> Option<Row> {
    secret.token.as_ref()?;
    let parts = [name.as_str(), peer];
    let mut row = match secret.expires {
        Some(until) => {
            let life = Life {
                since: secret.issued,
                until,
            };
            Row::new(What::Token, &parts, life, now)
        }
        None => {
            let held = account?.holding(secret.token.as_ref())?;
            let (since, until) = (held.made?, held.until?);
            let mut row = Row::new(What::Token, &parts, Life::new(since, until), now);
            // Past its limit it opens as much as before: that is for somebody to know, and no failure.
            row.state = match until <= now {
                true => State::Warning,
                false => State::Fine,
            };
            let days = (now.as_second() - since.as_second()).div_euclid(24 * 3600);
            row.note = Some(format!("it is {days} days old and never ends by itself"));
            row
        }
    };
    row.peer = Some(peer.to_owned());
    Some(row.of(name))
}

/// The certificates by which a peer's API server is known: as long as one of them is valid, another may follow it.
fn api_ca(
    name: &ClusterName,
    peer: &str,
    secret: &RemoteSecretSeen,
    successor: Option<&SuccessorSeen>,
    now: Timestamp,
) -> Option<Row> {
    let known = secret.authorities.iter();
    let known = known.filter_map(|a| a.certificate.as_ref());
    let last = known.max_by_key(|c| c.not_after)?;
    let mut row = Row::new(What::ApiCa, &[name.as_str(), peer], last.life(), now);
    if let Some((successor, first)) = successor.and_then(|s| Some((s, s.first?))) {
        let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
        let latest = successor.last.map_or_else(|| day(first), day);
        let when = format!("between {} and {latest}", day(first));
        let holds = |a: &AuthoritySeen| secret.authorities.iter().any(|b| a.sha256 == b.sha256);
        row.note = Some(match successor.authorities.iter().all(holds) {
            true => format!("EKS switches to its successor {when}, which is held already"),
            false => {
                // What comes after that day is no longer trusted with what is held.
                let life = Life {
                    since: None,
                    until: first.min(last.not_after),
                };
                row = Row::new(What::ApiCa, &[name.as_str(), peer], life, now);
                format!("EKS switches to its successor {when}, and it is not held")
            }
        });
    }
    row.peer = Some(peer.to_owned());
    Some(row.with(last).of(name))
}
