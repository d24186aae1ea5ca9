//! What is looked at before anything is written: how the members are spoken to, and what time it is there.

use jiff::{SignedDuration, Timestamp};

use super::{Meshlink, failure::Failure, look::refused};
use crate::{
    cluster::{Cluster, connect::Insecure},
    hint::Hint,
    name::ClusterName,
    plan::{Note, Refusal},
};

/// Clocks may differ by this much without a word, and by this much at all: certificates are valid by the local clock.
const NOTED: SignedDuration = SignedDuration::from_mins(1);
const REFUSED: SignedDuration = SignedDuration::from_hours(1);

impl Meshlink {
    /// Members that are spoken to in a way that others can read or change, unless that was allowed by name.
    fn insecure(&self) -> impl Iterator<Item = (&ClusterName, &Cluster, Insecure)> {
        let told = &self.environment.connect.insecure;
        let members = self
            .clusters
            .iter()
            .filter(|(name, _)| !told.contains(*name));
        members.filter_map(|(name, cluster)| Some((name, cluster, cluster.insecure()?)))
    }

    /// Says once which members are spoken to insecurely: a command that only reads goes on.
    pub(super) fn warn_of_insecure(&self) {
        for (name, cluster, how) in self.insecure() {
            let server = cluster.server();
            let withheld = match how {
                Insecure::Cleartext { withheld: true } => "; no credentials are sent there",
                _ => "",
            };
            let text = format!("warning: cluster {name} at {server} {how}{withheld}");
            self.environment.say(&text);
        }
    }

    /// Refuses to send keys and tokens where others can read them. `writes` says that something will be written, not
    /// only read with credentials.
    pub(super) fn refuse_insecure(&self, writes: bool) -> Result<(), Failure> {
        let unreadable = |how| how == Insecure::Cleartext { withheld: true };
        let against = self
            .insecure()
            .filter(|(_, _, how)| writes || unreadable(*how));
        let against: Vec<_> = against
            .map(|(name, cluster, how)| {
                let server = cluster.server();
                let hint = format!("if nobody else can be on the way: --insecure-cluster {name}");
                Refusal {
                    cluster: Some(name.clone()),
                    reason: format!("{server} {how}, and keys and tokens would be sent there"),
                    hints: vec![Hint::note(hint)],
                }
            })
            .collect();
        match against.is_empty() {
            true => Ok(()),
            false => Err(refused(against)),
        }
    }

    /// What stands against making certificates by this machine's clock, and what to know of it.
    pub(super) fn clocks(&self) -> (Vec<Refusal>, Vec<Note>) {
        let now = (self.environment.clock)();
        let (mut against, mut notes) = (vec![], vec![]);
        for (name, cluster) in &self.clusters {
            let Some(ahead) = cluster.server_time().map(|there| ahead(now, there)) else {
                continue;
            };
            let size = ahead.abs();
            let which = if ahead.is_negative() {
                "behind"
            } else {
                "ahead of"
            };
            let text = format!("this machine's clock is {size:#} {which} that of {name}");
            if size > REFUSED {
                against.push(Refusal {
                    cluster: Some(name.clone()),
                    reason: format!("{text}: certificates would not be valid when they should be"),
                    hints: vec![Hint::command(["timedatectl", "status"])],
                });
            } else if size > NOTED {
                notes.push(text.into());
            }
        }
        (against, notes)
    }
}

/// How far one clock is ahead of another, in whole seconds.
fn ahead(here: Timestamp, there: Timestamp) -> SignedDuration {
    SignedDuration::from_secs(here.as_second() - there.as_second())
}
