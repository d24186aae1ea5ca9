//! Whether a certificate that somebody else has signed is the one that was asked for. Pure.

use jiff::Timestamp;
use rcgen::PublicKeyData;

use super::Request;
use crate::{
    digest::sha256_hex,
    pki::{
        Cert, CertFacts, Severity, chain, check_cacerts,
        read::{bundle, short},
    },
};

/// Who signs may be so far ahead of this machine's clock, and take so long.
const AHEAD: i64 = 600;
/// One that ends sooner is of no use: what it signs lives for a day.
const LEAST_LEFT: i64 = 2 * 24 * 3600;

/// What somebody else has given, as certificates; the reason why not is the rest of a sentence that begins with "it".
pub(crate) fn read(pem: &[u8]) -> Result<Vec<Cert>, String> {
    Cert::from_pem(pem).map_err(|error| match error {
        crate::pki::Error::ReadCertificate { reason } => reason,
        other => other.to_string(),
    })
}

/// The certificate and those between it and the root, in this order, or why they are refused: the rest of a sentence that
/// begins with "it".
pub(crate) fn accept(
    given: &[Cert],
    request: &Request<'_>,
    root: &Cert,
) -> Result<Vec<Cert>, String> {
    let asked = sha256_hex(&request.public.subject_public_key_info());
    let is_asked = |cert: &Cert| cert.facts().spki_sha256 == asked;
    let Some(own) = given.first().filter(|first| is_asked(first)) else {
        return Err(match given.iter().any(is_asked) {
            true => "is not the first of what was given: it is to stand first, then its issuer, and so on".into(),
            false => "is for another key than that of the request".into(),
        });
    };
    let now = request.new.now;
    // By the signer's clock it may begin in a moment.
    let ahead = own.facts().not_before.as_second() - now.as_second();
    let at = match (0..AHEAD).contains(&ahead) {
        true => own.facts().not_before,
        false => now,
    };
    let way = chain::lead(own, given, std::slice::from_ref(root), at).map_err(|broken| {
        let root = short(&root.facts().spki_sha256);
        format!("does not lead to root {root}, which is expected: {broken}")
    })?;
    let facts: Vec<_> = way.iter().map(Cert::facts).collect();
    path_length(&facts)?;
    names(&facts, request)?;
    lifetime(&facts, request, at)?;
    let above = &way[..way.len() - 1];
    istiod_takes(above, root, at)?;
    Ok(above.to_vec())
}

/// A member's istiod signs leaves, and no further authorities.
fn path_length(way: &[&CertFacts]) -> Result<(), String> {
    let room = way.iter().enumerate().filter_map(|(below, cert)| {
        let allowed = usize::try_from(cert.path_length?).ok()?;
        Some(allowed.saturating_sub(below))
    });
    match room.min() {
        Some(0) => Ok(()),
        Some(more) => Err(format!(
            "allows {more} further authorities below it, and is to allow none (path length 0)"
        )),
        None => {
            Err("has no path length, and is to allow no further authorities (path length 0)".into())
        }
    }
}

/// Its DNS names are limited to those that were asked for, and nothing that workloads need is shut out.
fn names(way: &[&CertFacts], request: &Request<'_>) -> Result<(), String> {
    let trust_domain = request.new.trust_domain;
    let wanted: Vec<_> = request.new.permitted();
    let own = way.first().and_then(|own| own.name_constraints.as_ref());
    let permitted = own.iter().flat_map(|n| &n.permitted);
    let mut dns: Vec<_> = permitted.filter_map(|n| n.strip_prefix("DNS:")).collect();
    let mut asked: Vec<_> = wanted.iter().map(String::as_str).collect();
    dns.sort_unstable();
    asked.sort_unstable();
    if dns != asked {
        let shown = |names: &[&str]| match names {
            [] => "any".to_owned(),
            names => names.join(", "),
        };
        return Err(format!(
            "permits the DNS names {}, and {} were asked for (name constraints)",
            shown(&dns),
            shown(&asked)
        ));
    }
    for cert in way {
        let Some(constraints) = &cert.name_constraints else {
            continue;
        };
        let needed = asked.iter().map(|name| format!("DNS:{name}"));
        let needed = needed.chain([format!("URI:{trust_domain}")]);
        for name in needed {
            let (kind, _) = name.split_once(':').unwrap_or_default();
            let mut of_kind = constraints
                .permitted
                .iter()
                .filter(|n| is_of(n, kind))
                .peekable();
            let is_out = of_kind.peek().is_some() && !of_kind.any(|tree| holds(tree, &name));
            if is_out || constraints.excluded.iter().any(|tree| holds(tree, &name)) {
                return Err(format!(
                    "is under {:?}, whose name constraints shut out {name}",
                    cert.subject
                ));
            }
        }
    }
    Ok(())
}

fn is_of(tree: &str, kind: &str) -> bool {
    tree.split_once(':').is_some_and(|(of, _)| of == kind)
}

/// Whether a subtree holds a name of its kind.
fn holds(tree: &str, name: &str) -> bool {
    let (Some((kind, tree)), Some((of, name))) = (tree.split_once(':'), name.split_once(':'))
    else {
        return false;
    };
    let below = name.strip_suffix(tree.trim_start_matches('.'));
    kind == of
        && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || tree.is_empty())
}

/// It lives no longer than was asked for, nor than who signed it, and long enough to be of use.
fn lifetime(way: &[&CertFacts], request: &Request<'_>, at: Timestamp) -> Result<(), String> {
    let Some((own, above)) = way.split_first() else {
        return Ok(());
    };
    let date = crate::pki::renewal::date;
    if let Some(issuer) = above.iter().find(|issuer| issuer.not_after < own.not_after) {
        return Err(format!(
            "is valid until {}, longer than {:?} above it, which ends on {}",
            date(own.not_after),
            issuer.subject,
            date(issuer.not_after)
        ));
    }
    let left = own.not_after.as_second() - at.as_second();
    let length = own.not_after.as_second() - own.not_before.as_second();
    if length > request.new.longest() {
        return Err(format!(
            "is valid for {}, and trust.intermediateLifetime asks for {}",
            in_words(length),
            in_words(i64::try_from(request.new.lifetime.as_secs()).unwrap_or(i64::MAX))
        ));
    }
    if left < LEAST_LEFT {
        return Err(format!(
            "ends on {}, in less than two days",
            date(own.not_after)
        ));
    }
    Ok(())
}

fn in_words(seconds: i64) -> String {
    match (seconds / 3600, seconds / (24 * 3600)) {
        (hours, 0..3) => format!("{hours} hours"),
        (_, days) => format!("{days} days"),
    }
}

/// The rest is what istiod itself would refuse.
fn istiod_takes(way: &[Cert], root: &Cert, at: Timestamp) -> Result<(), String> {
    let (chain, roots) = (bundle(way), bundle([root]));
    let own = way.first().map(Cert::to_pem).unwrap_or_default();
    let files = [
        ("ca-cert.pem", own),
        ("cert-chain.pem", chain),
        ("root-cert.pem", roots),
        // The key is not here; it was compared with the request's.
        ("ca-key.pem", String::new()),
    ];
    let problems = check_cacerts(files, at);
    let mut grave = problems
        .into_iter()
        .filter(|p| p.severity == Severity::Refused && p.code != "key-unreadable");
    match grave.next() {
        Some(problem) => Err(format!("would be refused by istiod: {}", problem.text)),
        None => Ok(()),
    }
}
