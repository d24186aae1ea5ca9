//! Single values, checked; each error says what to write instead.

use std::{
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use crate::name::{NetworkName, TrustDomain};

pub(super) fn present(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("is empty: leave the key out".into()),
        false => Ok(text.into()),
    }
}

/// A name Kubernetes lets a namespace or a Service have.
pub(super) fn label(text: &str) -> Result<String, String> {
    text.parse::<NetworkName>()
        .map(|_| text.into())
        .map_err(|error| format!("{text:?} {}", error.reason))
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let fail = |reason| format!("{text:?} is not a DNS name: it {reason}");
    text.parse::<TrustDomain>()
        .map(|_| text.into())
        .map_err(|error| fail(error.reason))
}

/// What a Gateway lets through: a name, or `*.` and a name.
pub(super) fn host(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err(
            "\"*\" also matches names outside the mesh: write \"*.local\", or names".into(),
        );
    }
    domain(text.strip_prefix("*.").unwrap_or(text))
        .map(|_| text.into())
        .map_err(|error| format!("{error}; write a name, or \"*.\" and a name"))
}

pub(super) fn cidr(text: &str) -> Result<String, String> {
    let parse = || {
        let (address, bits) = text.split_once('/')?;
        let longest = match address.parse().ok()? {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        bits.parse::<u8>()
            .ok()
            .filter(|&bits| bits <= longest && !text.contains("/+"))
    };
    match parse() {
        None => Err(format!(
            "{text:?} is not an address range: write \"203.0.113.7/32\""
        )),
        Some(0) => Err(format!(
            "{text} is the whole internet: write the addresses that the peers' requests come from"
        )),
        Some(_) => Ok(text.into()),
    }
}

/// An address of an API server, for others to use.
pub(super) fn https(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default();
    if host.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!(
            "{text:?} is not the URL of an API server: write \"https://…\""
        ));
    }
    Ok(text.into())
}

/// Where charts come from: an address, or a folder or archive, joined to the mesh file's folder.
pub(super) fn charts(text: &str, folder: &Path) -> Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        if !["https", "http", "oci"].contains(&scheme) || rest.is_empty() {
            return Err(format!(
                "{text:?} is not a chart source: write \"https://…\", \"oci://…\" or a folder"
            ));
        }
        return Ok(text.into());
    }
    if text.is_empty() {
        return Err("is empty: leave the key out for the official charts".into());
    }
    let joined = folder.join(text.strip_prefix("./").unwrap_or(text));
    // A folder must not look like a name: it keeps a slash.
    let plain = joined.components().count() == 1
        && !matches!(joined.components().next(), Some(Component::RootDir));
    Ok(if plain {
        format!("./{}", joined.display())
    } else {
        joined.display().to_string()
    })
}

/// A file, relative to the mesh file.
pub(super) fn file(text: &str, folder: &Path) -> Result<PathBuf, &'static str> {
    match text.is_empty() {
        true => Err("is empty: write the path of a file"),
        false => Ok(folder.join(text)),
    }
}

pub(super) fn eks_name(text: &str) -> Result<String, String> {
    let first = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !first || !rest || text.len() > 100 {
        return Err(format!(
            "{text:?} is not the name of an EKS cluster: write letters, digits, '-' and '_', at most 100, a letter or digit first"
        ));
    }
    Ok(text.into())
}

pub(super) fn region(text: &str) -> Result<String, String> {
    let mut parts = text.rsplit('-');
    let number = parts
        .next()
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let words: Vec<_> = parts.collect();
    let lower = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    if !number || words.len() < 2 || !words.iter().all(lower) {
        return Err(format!(
            "{text:?} is not an AWS region: write one like \"eu-west-1\""
        ));
    }
    Ok(text.into())
}

/// The ARN of an EKS cluster, in its parts.
pub(super) struct ClusterArn {
    pub(super) arn: String,
    pub(super) region: String,
    pub(super) name: String,
}

pub(super) fn cluster_arn(text: &str) -> Result<ClusterArn, String> {
    let parse = || {
        let [_, _, region, _, resource] = arn(text, "eks")?;
        let name = eks_name(resource.strip_prefix("cluster/")?).ok()?;
        Some(ClusterArn {
            arn: text.into(),
            region: self::region(region).ok()?,
            name,
        })
    };
    parse().ok_or_else(|| {
        format!("{text:?} is not the ARN of an EKS cluster: write \"arn:aws:eks:REGION:ACCOUNT:cluster/NAME\"")
    })
}

pub(super) fn role_arn(text: &str) -> Result<String, String> {
    let role = || {
        let [_, _, region, _, resource] = arn(text, "iam")?;
        (region.is_empty()
            && resource
                .strip_prefix("role/")
                .is_some_and(|name| !name.is_empty()))
        .then_some(())
    };
    match role() {
        Some(()) => Ok(text.into()),
        None => Err(format!(
            "{text:?} is not the ARN of a role: write \"arn:aws:iam::ACCOUNT:role/NAME\""
        )),
    }
}

/// Partition, service, region, account and resource of an ARN of this service.
fn arn<'a>(text: &'a str, service: &str) -> Option<[&'a str; 5]> {
    let parts: Vec<_> = text.strip_prefix("arn:")?.splitn(5, ':').collect();
    let parts: [&str; 5] = parts.try_into().ok()?;
    let account = parts[3].len() == 12 && parts[3].bytes().all(|b| b.is_ascii_digit());
    (parts[0].starts_with("aws") && parts[1] == service && account).then_some(parts)
}
