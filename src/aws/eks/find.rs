//! From a name to a context or a place in AWS; pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::aws::arn::{Arn, is_region};

/// A kubeconfig context, as far as names go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// Its name.
    pub name: String,
    /// The name of its cluster entry.
    pub cluster: String,
    /// The name of its user entry.
    pub user: String,
    /// The profile its program signs tokens with, where that is one of AWS's.
    pub profile: Option<String>,
}

/// Where an EKS cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name within the region.
    pub name: String,
    /// Region.
    pub region: String,
    /// Account, if the name said it.
    pub account: Option<String>,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A kubeconfig context, by its exact name.
    Context(String),
    /// An EKS cluster that EKS must be asked about.
    Eks(Place),
}

/// Look a name up, in the order of the page above.
pub(crate) fn find(
    text: &str,
    aliases: &BTreeMap<String, String>,
    contexts: &[Context],
    default_region: Option<&str>,
) -> Result<Found, Error> {
    let text = aliases.get(text).map_or(text, String::as_str);
    if let Some(context) = by_context(text, contexts)? {
        return Ok(Found::Context(context));
    }
    if text.starts_with("arn:") {
        return place_of_arn(text)
            .map(Found::Eks)
            .ok_or_else(|| Error::NotACluster { text: text.into() });
    }
    let (region, name) = match text.split_once('/') {
        Some((region, name)) if is_region(region) => (Some(region), name),
        _ => (default_region, text),
    };
    if !is_eks_name(name) {
        let contexts = contexts.iter().map(|c| c.name.clone()).collect();
        return Err(Error::NotAName {
            text: text.into(),
            contexts,
        });
    }
    let region = region.ok_or_else(|| Error::NoRegion { text: text.into() })?;
    Ok(Found::Eks(Place {
        name: name.into(),
        region: region.into(),
        account: None,
    }))
}

/// Whether only a default region can settle the name: finding one may cost a look at the instance's metadata.
pub(super) fn needs_region(
    text: &str,
    aliases: &BTreeMap<String, String>,
    contexts: &[Context],
) -> bool {
    matches!(
        find(text, aliases, contexts, None),
        Err(Error::NoRegion { .. })
    )
}

fn by_context(text: &str, contexts: &[Context]) -> Result<Option<String>, Error> {
    if contexts.iter().any(|c| c.name == text) {
        return Ok(Some(text.into()));
    }
    let hits: Vec<&Context> = contexts
        .iter()
        .filter(|c| place_of(c).is_some_and(|p| p.name == text))
        .collect();
    let distinct: BTreeSet<(&str, &str)> = hits
        .iter()
        .map(|c| (c.cluster.as_str(), c.user.as_str()))
        .collect();
    if distinct.len() > 1 {
        let candidates = hits.iter().map(|c| c.name.clone()).collect();
        return Err(Error::Ambiguous {
            text: text.into(),
            candidates,
        });
    }
    Ok(hits.first().map(|c| c.name.clone()))
}

/// Where the EKS cluster behind a context is, as the AWS CLI or eksctl wrote it.
pub(crate) fn place_of(context: &Context) -> Option<Place> {
    if let Some(place) = place_of_arn(&context.cluster) {
        return Some(place);
    }
    let (name, region) = context
        .cluster
        .strip_suffix(".eksctl.io")?
        .rsplit_once('.')?;
    is_region(region).then(|| Place {
        name: name.into(),
        region: region.into(),
        account: None,
    })
}

fn place_of_arn(text: &str) -> Option<Place> {
    let arn: Arn = text.parse().ok()?;
    let name = arn.eks_cluster()?.to_owned();
    Some(Place {
        name,
        region: arn.region,
        account: Some(arn.account),
    })
}

/// EKS names: a letter or digit, then letters, digits, `-` and `_`, at most 100.
fn is_eks_name(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN1: &str = "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1";
    const ARN2: &str = "arn:aws:eks:us-east-1:111122223333:cluster/eks-1";

    fn context(name: &str, cluster: &str) -> Context {
        Context {
            name: name.into(),
            cluster: cluster.into(),
            user: cluster.into(),
            profile: None,
        }
    }

    fn look(text: &str, contexts: &[Context]) -> Result<Found, Error> {
        find(text, &BTreeMap::new(), contexts, Some("eu-west-1"))
    }

    fn eks(name: &str, region: &str, account: Option<&str>) -> Found {
        Found::Eks(Place {
            name: name.into(),
            region: region.into(),
            account: account.map(str::to_owned),
        })
    }

    #[test]
    fn the_first_rank_that_hits_wins() {
        let contexts = [context("eks-1", "kind"), context(ARN2, ARN2)];
        assert_eq!(
            look("eks-1", &contexts).unwrap(),
            Found::Context("eks-1".into())
        );
        let aliases = BTreeMap::from([("eks-1".to_owned(), "us-east-1/other".to_owned())]);
        assert_eq!(
            find("eks-1", &aliases, &contexts, None).unwrap(),
            eks("other", "us-east-1", None)
        );
        assert_eq!(
            look("eks-1", &contexts[1..]).unwrap(),
            Found::Context(ARN2.into())
        );
        assert_eq!(
            look(ARN1, &contexts).unwrap(),
            eks("eks-1", "eu-west-1", Some("111122223333"))
        );
        assert_eq!(
            look("us-east-2/eks-1", &contexts).unwrap(),
            eks("eks-1", "us-east-2", None)
        );
        assert_eq!(
            look("eks-9", &contexts).unwrap(),
            eks("eks-9", "eu-west-1", None)
        );
    }

    #[test]
    fn eksctl_names_its_contexts_its_own_way() {
        let contexts = [Context {
            name: "me@eks-1.eu-north-1.eksctl.io".into(),
            cluster: "eks-1.eu-north-1.eksctl.io".into(),
            user: "me@eks-1.eu-north-1.eksctl.io".into(),
            profile: None,
        }];
        assert_eq!(
            look("eks-1", &contexts).unwrap(),
            Found::Context(contexts[0].name.clone())
        );
        assert_eq!(
            look("me@eks-1.eu-north-1.eksctl.io", &contexts).unwrap(),
            Found::Context(contexts[0].name.clone())
        );
    }

    #[test]
    fn one_name_in_two_regions_lists_both_and_how_to_say_which() {
        let error = look("eks-1", &[context("prod", ARN1), context("test", ARN2)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"eks-1\" matches several contexts: prod, test"
        );
        assert_eq!(
            error.hint().unwrap().to_string(),
            "name one of them: eks-1=prod"
        );
        let twice = [context("prod", ARN1), context("again", ARN1)];
        assert_eq!(
            look("eks-1", &twice).unwrap(),
            Found::Context("prod".into()),
            "one cluster, one user"
        );
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_a_way_on() {
        let contexts = [context("prod", ARN1)];
        for bad in [
            "",
            "-x",
            "a b",
            "some/where",
            "eu-west-1/",
            &"a".repeat(101),
        ] {
            let error = look(bad, &contexts).unwrap_err();
            assert!(matches!(error, Error::NotAName { .. }), "{bad}: {error}");
            assert_eq!(
                error.hint().unwrap().to_string(),
                "the kubeconfig has the contexts prod"
            );
        }
        assert!(matches!(
            look("arn:aws:eks:eu-west-1:1:nodegroup/x", &[]),
            Err(Error::NotACluster { .. })
        ));
        let error = find("eks-1", &BTreeMap::new(), &[], None).unwrap_err();
        assert_eq!(
            error.hint().unwrap().to_string(),
            "write the region: eks-1=eu-west-1/eks-1, or set AWS_REGION"
        );
    }
}
