//! The members of a mesh file, and what must be true of all of them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::{
    Eks, Member, Peers, Reach, check,
    fields::{At, Fields},
    named, tree,
};
use crate::name::{ClusterName, NetworkName};

const OTHER_NETWORK: &str = "members must be on different networks; write another network, \
    or leave the key out to name it like the cluster";

/// The most members: more than any mesh has, and few enough that every pair can be looked at.
pub(super) const MOST: usize = 1000;

/// All members, each name, network and cluster once.
pub(super) fn list(at: &At<'_>) -> Vec<Member> {
    let list = at.list();
    if at.is_empty_list() {
        at.wrong("is empty: write one \"- name: …\" for each cluster");
    }
    if list.len() > MOST {
        at.wrong(format!("has {} clusters: write at most {MOST}", list.len()));
        return vec![];
    }
    let mut seen = Seen::default();
    list.iter()
        .filter_map(|at| at.fields(|f| member(f, &mut seen)).flatten())
        .collect()
}

/// Who is whose peer: members, each of which has one at least.
pub(super) fn peers(f: &mut Fields<'_>, members: Option<&[Member]>) -> Peers {
    let members = members.unwrap_or_default();
    let names = |at: &At<'_>| {
        let mut seen = BTreeSet::new();
        let mut names = vec![];
        for at in at.list() {
            let Some(name) = at.read(str::parse::<ClusterName>) else {
                continue;
            };
            let is_member = members.iter().any(|m| m.name == name);
            match (is_member || members.is_empty(), seen.insert(name.clone())) {
                (false, _) => at.wrong(format!("{name} is none of the clusters below")),
                (_, false) => at.wrong(format!("{name} is named twice")),
                (true, true) => names.push(name),
            }
        }
        names
    };
    let all = f.get("all").and_then(|at| at.is_true());
    let hubs = f.get("hubs").map(|at| names(&at));
    let groups = f.get("groups").map(|at| {
        let group = |at: &At<'_>| {
            let group = names(at);
            if at.list().len() < 2 {
                at.wrong("is a group of fewer than two: name two clusters at least");
            }
            group
        };
        at.list().iter().map(group).collect()
    });
    let peers = Peers {
        all: all.unwrap_or_default(),
        hubs: hubs.unwrap_or_default(),
        groups: groups.unwrap_or_default(),
    };
    if peers.all && (!peers.hubs.is_empty() || !peers.groups.is_empty()) {
        f.at.wrong("says all and names hubs or groups too: write one of them");
    }
    let alone = members.iter().filter(|m| !peers.have(&m.name));
    let alone: Vec<_> = alone.map(|m| m.name.as_str()).collect();
    if !alone.is_empty() {
        f.at.wrong(format!(
            "leaves {} without a peer: name them in a group, or name a hub",
            alone.join(", ")
        ));
    }
    peers
}

/// What may be there only once, and where it was.
#[derive(Default)]
struct Seen {
    names: BTreeMap<String, tree::Place>,
    networks: BTreeMap<String, tree::Place>,
    reaches: BTreeMap<String, tree::Place>,
}

fn once(
    seen: &mut BTreeMap<String, tree::Place>,
    at: &At<'_>,
    what: &str,
    value: impl Display,
    hint: &str,
) {
    let before = *seen.entry(value.to_string()).or_insert(at.place());
    if before != at.place() {
        at.wrong(format!(
            "{what} {value} is already used in line {}: {hint}",
            before.line
        ));
    }
}

fn member(f: &mut Fields<'_>, seen: &mut Seen) -> Option<Member> {
    let (name_at, network_at) = (f.get("name"), f.get("network"));
    let reach = reach(f, seen);
    let peer_server = f.get("peerServer").and_then(|at| at.read(check::https));
    let network = network_at
        .as_ref()
        .map(|at| at.read(str::parse::<NetworkName>));

    let name = name(f, name_at.as_ref(), reach.as_ref())?;
    let here = name_at.as_ref().unwrap_or(&f.at);
    once(
        &mut seen.names,
        here,
        "the cluster",
        &name,
        "write another name",
    );
    let network = match network {
        Some(written) => written?,
        None => name.as_str().parse().ok()?,
    };
    let where_network = network_at.as_ref().unwrap_or(here);
    once(
        &mut seen.networks,
        where_network,
        "the network",
        &network,
        OTHER_NETWORK,
    );
    let reach = reach.unwrap_or_else(|| {
        once(
            &mut seen.reaches,
            here,
            "the cluster found by",
            &name,
            "write which one is meant",
        );
        Reach::Auto(name.to_string())
    });
    Some(Member {
        name,
        network,
        reach,
        peer_server,
    })
}

/// The name as it is written, or as it follows from how the cluster is found.
fn name(f: &Fields<'_>, written: Option<&At<'_>>, reach: Option<&Reach>) -> Option<ClusterName> {
    let found = match written {
        Some(at) => return at.read(str::parse),
        None => reach.and_then(derived_name),
    };
    if found.is_none() {
        f.at.wrong("has no name: write \"name: …\"");
    }
    found
}

fn derived_name(reach: &Reach) -> Option<ClusterName> {
    match reach {
        Reach::Auto(text) | Reach::Context(text) => named::derive(text).ok(),
        Reach::Eks(eks) => named::derive(&eks.name).ok(),
    }
}

/// How to find the cluster: at most one of three keys says so.
fn reach(f: &mut Fields<'_>, seen: &mut Seen) -> Option<Reach> {
    let ways = [f.get("find"), f.get("context"), f.get("eks")];
    if ways.iter().flatten().count() > 1 {
        f.at.wrong("has more than one of find, context and eks: write one of them");
    }
    let [find, context, eks] = ways;
    let text = |text: &str| match text.trim().is_empty() {
        true => Err("is empty: leave the key out, or write the name of the cluster"),
        false => Ok(text.to_owned()),
    };
    let (at, found) = if let Some(at) = find {
        (at.clone(), at.read(text).map(Reach::Auto))
    } else if let Some(at) = context {
        (at.clone(), at.read(text).map(Reach::Context))
    } else if let Some(at) = eks {
        (at.clone(), at.fields(self::eks).flatten().map(Reach::Eks))
    } else {
        return None;
    };
    let found = found?;
    let what = match &found {
        Reach::Auto(text) => text.clone(),
        Reach::Context(text) => format!("context {text}"),
        Reach::Eks(eks) => eks_cluster(eks),
    };
    once(
        &mut seen.reaches,
        &at,
        "the cluster found by",
        what,
        "one cluster cannot be two members",
    );
    Some(found)
}

/// What tells EKS clusters apart; as seen by a profile, where no ARN says whose account it is.
fn eks_cluster(eks: &Eks) -> String {
    let Eks {
        name,
        region,
        arn,
        profile,
        role_arn,
        ..
    } = eks;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    arn.clone().unwrap_or_else(|| {
        let whose = [profile, role_arn].map(text).join(" ");
        format!("eks {}/{name} {whose}", text(region))
            .trim_end()
            .to_owned()
    })
}

fn eks(f: &mut Fields<'_>) -> Option<Eks> {
    let mut eks = Eks::default();
    let arn = f.get("arn");
    let (name, region) = (f.get("name"), f.get("region"));
    let read = |at: &Option<At<'_>>, check: fn(&str) -> Result<String, String>| {
        at.as_ref().and_then(|at| at.read(check))
    };
    eks.name = read(&name, check::eks_name).unwrap_or_default();
    eks.region = read(&region, check::region);
    if let Some(found) = arn.as_ref().and_then(|at| at.read(check::cluster_arn)) {
        for (at, written, said) in [
            (&name, Some(&eks.name), &found.name),
            (&region, eks.region.as_ref(), &found.region),
        ] {
            if let (Some(at), Some(written)) = (at, written)
                && written != said
            {
                at.wrong(format!(
                    "{written:?} is not what the arn says, {said:?}: leave the key out"
                ));
            }
        }
        eks = Eks {
            name: found.name,
            region: Some(found.region),
            arn: Some(found.arn),
            ..eks
        };
    }
    if arn.is_none() && name.is_none() {
        f.at.wrong("has neither arn nor name: write one of them");
    }
    eks.profile = f.get("profile").and_then(|at| at.read(check::present));
    let role = f.get("roleArn");
    eks.role_arn = read(&role, check::role_arn);
    let external = f.get("externalId");
    eks.external_id = read(&external, check::present);
    if let (Some(at), None) = (&external, &role) {
        at.wrong("is only for a role to assume: write roleArn too");
    }
    (!eks.name.is_empty()).then_some(eks)
}
