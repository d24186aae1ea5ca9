//! Text that others wrote, without what may open anything. Pure.
//!
//! A log has no form that could say what in it is harmless, so what is kept is told by its look: words, names, numbers,
//! addresses. A run of characters that looks like a key, a token or a password is replaced by how long it was.

use std::fmt::Write as _;

/// Names that are followed by a secret.
const NAMES: [&str; 14] = [
    "password",
    "passwd",
    "pwd",
    "token",
    "authorization",
    "bearer",
    "basic",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "secret_key",
    "secretkey",
    "client_secret",
];

/// A text of somebody else's.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Whole blocks first: the last line of a key may look like a word.
    while let Some(at) = rest.find("-----BEGIN ") {
        words(&rest[..at], &mut out);
        let block = &rest[at..];
        let end = block.find("-----END ");
        let after = end.and_then(|end| {
            let tail = &block[end + 9..];
            Some(end + 9 + tail.find("-----")? + 5)
        });
        let (block, next) = block.split_at(after.unwrap_or(block.len()));
        match block.starts_with("-----BEGIN CERTIFICATE-----") && after.is_some() {
            true => out.push_str("[certificate]"),
            false => removed(block.len(), &mut out),
        }
        rest = next;
    }
    words(rest, &mut out);
    out
}

/// Text that we wrote, in which hashes stand and no key should: what can be nothing else than a key goes.
pub(super) fn ours(text: &str) -> String {
    String::from_utf8_lossy(&keys(text.as_bytes().to_vec())).into_owned()
}

/// Private keys and tokens in whatever it is, as long as they look like nothing else.
pub(super) fn keys(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return bytes;
    };
    let has_key = text.contains("PRIVATE KEY");
    if !has_key && !text.contains("eyJ") {
        return bytes;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_start) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = length(from);
        match length {
            0 => out.extend(from.chars().next()),
            n => removed(n, &mut out),
        }
        let first = from.chars().next().map_or(1, char::len_utf8);
        rest = &from[length.max(first)..];
    }
    out.push_str(rest);
    out.into_bytes()
}

fn is_start(c: char) -> bool {
    c == '-' || c == 'e'
}

/// How long the key or the token is that a text begins with.
fn length(text: &str) -> usize {
    if let Some(begun) = text.strip_prefix("-----BEGIN ") {
        let head = begun.split("-----").next().unwrap_or_default();
        if head.ends_with("PRIVATE KEY") {
            let end = text.find("-----END ").and_then(|end| {
                let tail = &text[end + 9..];
                Some(end + 9 + tail.find("-----")? + 5)
            });
            return end.unwrap_or(text.len());
        }
    }
    if text.starts_with("eyJ") {
        let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let end = text.find(|c| !is_of_token(c)).unwrap_or(text.len());
        if end >= 40 && text[..end].matches('.').count() == 2 {
            return end;
        }
    }
    0
}

fn removed(length: usize, out: &mut String) {
    let _ = write!(out, "[redacted: {length} bytes]");
}

/// Whether a character can be part of a key or a token.
fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/_-=.~%".contains(c)
}

/// Run by run of such characters.
fn words(text: &str, out: &mut String) {
    // What the next run belongs to: a name that is followed by a secret.
    let mut named = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let same = |c: char| is_of_key(c) == is_of_key(first);
        let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
        let (run, next) = rest.split_at(end);
        if !is_of_key(first) {
            // Whoever is named in an address, with a password behind the name.
            named = named && run.chars().all(|c| " :\"'\\\t".contains(c));
            out.push_str(run);
        } else if next.starts_with('@') || (next.starts_with(':') && userinfo(next)) {
            removed(run.len(), out);
        } else {
            named = run_of(run, named, out);
        }
        rest = next;
    }
}

/// Whether what follows a user's name is a password and a host.
fn userinfo(text: &str) -> bool {
    let until = text.find(|c: char| c.is_whitespace() || "/\"'<>".contains(c));
    text[..until.unwrap_or(text.len())].contains('@')
}

/// One run; true if a secret follows it.
fn run_of(run: &str, named: bool, out: &mut String) -> bool {
    let lower = run.to_ascii_lowercase();
    // `password=x` is one run.
    if let Some((name, value)) = run
        .split_once('=')
        .filter(|(_, v)| !v.trim_matches('=').is_empty())
    {
        out.push_str(name);
        out.push('=');
        let is_named = is_name(&name.to_ascii_lowercase());
        return run_of(value, is_named, out);
    }
    let is_name = is_name(lower.trim_end_matches('='));
    if (named && !is_name && run.len() > 3) || is_secret(run) {
        removed(run.len(), out);
        return false;
    }
    out.push_str(run);
    is_name
}

fn is_name(lower: &str) -> bool {
    let last = lower.rsplit(['.', '/']).next().unwrap_or(lower);
    NAMES.iter().any(|name| last.ends_with(name))
}

/// Whether a run looks like something that nobody reads.
fn is_secret(run: &str) -> bool {
    // Names and paths are made of short parts; a token in three parts has long ones.
    run.split(['.', '/']).any(is_dense) || (run.len() >= 40 && is_dense(run))
}

fn is_dense(part: &str) -> bool {
    let has = |is: fn(&char) -> bool| part.chars().any(|c| is(&c));
    let (upper, lower) = (has(char::is_ascii_uppercase), has(char::is_ascii_lowercase));
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let of_hex = |c: char| c.is_ascii_hexdigit();
    let hex = part
        .split('-')
        .any(|p| p.len() >= 32 && p.chars().all(of_hex));
    let mixed = part.len() >= 20 && upper && lower && digits > 0;
    // An id of a key of AWS, and whatever else shouts.
    let loud = part.len() >= 16 && upper && !lower && digits > 0 && !part.contains(['-', '_']);
    let long = part.len() >= 64 && !part.contains(['-', '_']);
    hex || mixed || loud || long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_stays() {
        for line in [
            "2026-11-30T18:41:28.123456Z\tinfo\tads\tPush debounce stable[17] 3 for config ServiceEntry/shop/orders.shop.svc.cluster.local: 100.2ms since last change",
            "2026-11-30T18:41:28Z warn error syncing remote cluster eks-2: Get \"https://10.0.0.1:6443/api/v1/pods?limit=500\": dial tcp 10.0.0.1:6443: i/o timeout",
            "k8s-istioing-istioeas-b6950d1d10-1588e64cf6ccdd5e.elb.us-west-2.amazonaws.com resolved to 3 addresses",
            "Secret istio-system/istio-remote-secret-eks-2 with label istio/multiCluster=true",
            "uid d9428888-122b-11e1-b85c-61cd3cbb3210, ReplicaSet istiod-757118f66a, image docker.io/istio/pilot:1.31.4",
            "[Envoy (Epoch 0)] [2026-11-30 18:41:28.123][17][warning][config] gRPC config stream closed: 14, connection error: desc = transport",
        ] {
            assert_eq!(text(line), line);
        }
    }

    #[test]
    fn what_opens_something_goes() {
        let key = format!(
            "-----BEGIN {} KEY-----\nMIGHAgEAMBMGByqGSM49\nabc=\n-----END {} KEY-----",
            "PRIVATE", "PRIVATE"
        );
        let jwt = format!(
            "eyJhbGciOi{}.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4x",
            "JSUzI1NiIs1"
        );
        for (secret, line) in [
            ("MIGHAgEAMBMGByqGSM49", format!("loaded {key} at once")),
            (
                "abc=",
                format!("loaded {} at once", key.replace('\n', "\\n")),
            ),
            ("MIGHAgEAMBMGByqGSM49", format!("cut {}", &key[..60])),
            (
                "eyJpc3MiOiJrdWJlcm5ldGVzIn0",
                format!("Authorization: Bearer {jwt}"),
            ),
            ("c2lnbmF0dXJl", format!("{{\"token\":\"{jwt}\"}}")),
            ("hunter2", "login with password=hunter2 failed".into()),
            ("hunter2", "login with \"password\": \"hunter2\"".into()),
            (
                "hunter2",
                "GET https://admin:hunter2@registry.example.com/v2/".into(),
            ),
            (
                "AKIAIOSFODNN7EXAMPLE",
                "key AKIAIOSFODNN7EXAMPLE is used".into(),
            ),
            (
                "wJalrXUtnFEMI",
                "with wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1 signed".into(),
            ),
            (
                "0123456789abcdef0123456789abcdef",
                "session 0123456789abcdef0123456789abcdef begun".into(),
            ),
        ] {
            let out = text(&line);
            assert!(!out.contains(secret), "{line}: {out}");
            assert!(out.contains("[redacted: "), "{out}");
        }
    }
}
