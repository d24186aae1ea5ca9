//! What lets a peer see the private hosted zone that a gateway's name is in.

use std::time::Duration;

use super::{Members, eks::describe};
use crate::{
    hint::{Hint, word},
    name::ClusterName,
};

/// How long EKS is asked: the rest of the command can be pasted without it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands for the id of a zone that cannot be looked up.
const UNKNOWN: &str = "ZONE-ID";

/// Where a member is, as far as that is known.
#[derive(Debug, Default)]
struct Place {
    region: Option<String>,
    vpc: Option<String>,
    account: Option<String>,
    profile: Option<String>,
}

impl Members {
    /// The commands that let `peer` see the private hosted zone of a gateway of `home`. What AWS does not tell is left to
    /// be filled in; none where neither is on AWS.
    pub(crate) async fn associate(
        &self,
        host: &str,
        home: &ClusterName,
        peer: &ClusterName,
    ) -> Vec<Hint> {
        let (home, peer) = tokio::join!(self.place(home), self.place(peer));
        if home.region.is_none() && peer.region.is_none() {
            return vec![];
        }
        commands(host, &home, &peer)
    }

    async fn place(&self, name: &ClusterName) -> Place {
        let (Some(place), who) = self.of(name) else {
            return Place::default();
        };
        let asked = tokio::time::timeout(PATIENCE, describe(self.aws(), &who, &place));
        let facts = asked.await.ok().and_then(Result::ok);
        Place {
            region: Some(place.region),
            account: facts.as_ref().map(|f| f.account.clone()).or(place.account),
            vpc: facts.and_then(|f| f.vpc),
            profile: who.profile,
        }
    }
}

fn commands(host: &str, home: &Place, peer: &Place) -> Vec<Hint> {
    let known = |text: &Option<String>, or: &str| text.clone().unwrap_or_else(|| or.into());
    let zone = match (&home.vpc, &home.region) {
        (Some(vpc), Some(region)) if is_plain(host) => format!(
            "\"$(aws route53 list-hosted-zones-by-vpc --vpc-id {vpc} --vpc-region {region} --query \
             \"HostedZoneSummaries[?ends_with('{host}.', Name)].HostedZoneId | [0]\" --output text{})\"",
            profile(home)
        ),
        _ => UNKNOWN.into(),
    };
    let vpc = format!(
        "--vpc VPCRegion={},VPCId={}",
        known(&peer.region, "REGION"),
        known(&peer.vpc, "VPC-ID")
    );
    let is_known = peer.region.is_some() && peer.vpc.is_some();
    let command = |action: &str, zone: &str, who: &Place, remark: &str| {
        let profile = profile(who);
        let text = format!("aws route53 {action} --hosted-zone-id {zone} {vpc}{profile}{remark}");
        match is_known && zone != UNKNOWN {
            true => Hint::shell(text),
            false => Hint::to_fill_in(&text),
        }
    };
    let associate = "associate-vpc-with-hosted-zone";
    match (&home.account, &peer.account) {
        // Whoever owns the zone must allow it first, and whoever owns the VPC cannot look the zone up.
        (Some(owner), Some(other)) if owner != other => vec![
            command(
                "create-vpc-association-authorization",
                &zone,
                home,
                &format!("   # as account {owner}"),
            ),
            command(
                associate,
                UNKNOWN,
                peer,
                &format!("   # then, as account {other}"),
            ),
        ],
        _ => vec![command(associate, &zone, home, "")],
    }
}

fn profile(place: &Place) -> String {
    let profile = place.profile.as_ref();
    profile.map_or_else(String::new, |p| format!(" --profile {}", word(p)))
}

/// Nothing in it means anything to a shell.
fn is_plain(host: &str) -> bool {
    host.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(account: &str, vpc: Option<&str>) -> Place {
        Place {
            region: Some("eu-west-1".into()),
            vpc: vpc.map(str::to_owned),
            account: Some(account.into()),
            profile: None,
        }
    }

    #[test]
    fn what_is_known_is_filled_in() {
        let (home, peer) = (place("1", Some("vpc-1")), place("1", Some("vpc-2")));
        let want = "aws route53 associate-vpc-with-hosted-zone --hosted-zone-id \"$(aws route53 list-hosted-zones-by-vpc \
            --vpc-id vpc-1 --vpc-region eu-west-1 --query \"HostedZoneSummaries[?ends_with('gw.corp.', Name)].HostedZoneId | [0]\" \
            --output text)\" --vpc VPCRegion=eu-west-1,VPCId=vpc-2";
        assert_eq!(commands("gw.corp", &home, &peer), [Hint::shell(want)]);
        let unknown = commands("gw.corp", &Place::default(), &place("1", None));
        let want = "aws route53 associate-vpc-with-hosted-zone --hosted-zone-id ZONE-ID --vpc VPCRegion=eu-west-1,VPCId=VPC-ID";
        assert_eq!(unknown, [Hint::to_fill_in(want)]);
        let odd = commands("$(x)", &home, &peer)[0].to_string();
        assert!(odd.contains("--hosted-zone-id ZONE-ID "), "{odd}");
    }

    #[test]
    fn another_account_is_let_in_first() {
        let (home, mut peer) = (place("1", Some("vpc-1")), place("2", Some("vpc-2")));
        peer.profile = Some("two".into());
        let [first, then] = &commands("gw.corp", &home, &peer)[..] else {
            panic!("two commands");
        };
        let first = first.to_string();
        assert!(first.starts_with("aws route53 create-vpc-association-authorization "));
        assert!(first.ends_with("VPCId=vpc-2   # as account 1"), "{first}");
        let want = "aws route53 associate-vpc-with-hosted-zone --hosted-zone-id ZONE-ID \
            --vpc VPCRegion=eu-west-1,VPCId=vpc-2 --profile two   # then, as account 2";
        assert_eq!(*then, Hint::to_fill_in(want));
    }
}
