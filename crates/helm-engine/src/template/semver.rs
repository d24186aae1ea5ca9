//! Versions and version ranges as charts write them: `v1.2`, `>=1.2-0 <2 || ^3`.

use std::{cmp::Ordering, fmt};

/// A version; missing parts are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pub(crate) pre: String,
    pub(crate) meta: String,
    pub(crate) original: String,
}

impl Version {
    /// The canonical text.
    pub(crate) fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.meta.is_empty() {
            write!(f, "+{}", self.meta)?;
        }
        Ok(())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.order(other))
    }
}

impl Version {
    /// Precedence of semantic versions; build metadata does not count.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => order_pre(&self.pre, &other.pre),
            })
    }
}

fn order_pre(a: &str, b: &str) -> Ordering {
    let mut left = a.split('.');
    let mut right = b.split('.');
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A version, with or without a leading `v`, with one to three parts.
pub(crate) fn parse(text: &str) -> Result<Version, String> {
    let refused = || "invalid semantic version".to_owned();
    let body = text.strip_prefix('v').unwrap_or(text);
    let (body, meta) = body
        .split_once('+')
        .map_or((body, ""), |(body, meta)| (body, meta));
    let (core, pre) = body
        .split_once('-')
        .map_or((body, ""), |(core, pre)| (core, pre));
    let labels_ok = |labels: &str| {
        labels.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
    };
    if (text.contains('+') && !labels_ok(meta)) || (body.contains('-') && !labels_ok(pre)) {
        return Err(refused());
    }
    let mut parts = Vec::new();
    for part in core.split('.') {
        if part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
            return Err(refused());
        }
        parts.push(part.parse().map_err(|_| refused())?);
    }
    let [major, minor, patch] = match parts[..] {
        [major] => [major, 0, 0],
        [major, minor] => [major, minor, 0],
        [major, minor, patch] => [major, minor, patch],
        _ => return Err(refused()),
    };
    Ok(Version {
        major,
        minor,
        patch,
        pre: pre.to_owned(),
        meta: meta.to_owned(),
        original: text.to_owned(),
    })
}

/// A range: any of several groups, all of each.
#[derive(Debug)]
pub(crate) struct Range(Vec<Vec<Bound>>);

#[derive(Debug)]
struct Bound {
    operator: &'static str,
    version: Version,
    /// How many parts were given; the rest is wild.
    given: usize,
}

const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

impl Range {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split("||")
            .map(|group| parse_group(group, text))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn holds(&self, version: &Version) -> bool {
        self.0.iter().any(|group| {
            // A release range says nothing about pre-releases, unless one of its bounds is one.
            let pre_allowed = group.iter().any(|bound| !bound.version.pre.is_empty());
            (version.pre.is_empty() || pre_allowed)
                && group.iter().all(|bound| bound.holds(version))
        })
    }
}

fn parse_group(group: &str, whole: &str) -> Result<Vec<Bound>, String> {
    let words: Vec<&str> = group
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return Ok(vec![parse_bound("", "*", whole)?]);
    }
    let mut bounds = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words.get(at + 1) == Some(&"-") && at + 2 < words.len() {
            bounds.push(parse_bound(">=", words[at], whole)?);
            bounds.push(parse_bound("<=", words[at + 2], whole)?);
            at += 3;
            continue;
        }
        let operator = OPERATORS
            .into_iter()
            .find(|operator| words[at].starts_with(operator))
            .unwrap_or("");
        let mut rest = &words[at][operator.len()..];
        if rest.is_empty() {
            at += 1;
            rest = words
                .get(at)
                .copied()
                .ok_or_else(|| format!("improper constraint: {whole}"))?;
        }
        bounds.push(parse_bound(operator, rest, whole)?);
        at += 1;
    }
    Ok(bounds)
}

fn parse_bound(operator: &'static str, text: &str, whole: &str) -> Result<Bound, String> {
    let refused = || format!("improper constraint: {whole}");
    let body = text.strip_prefix('v').unwrap_or(text);
    let end = body.find(['-', '+']).unwrap_or(body.len());
    let (core, rest) = body.split_at(end);
    let parts: Vec<&str> = core.split('.').collect();
    let wild = |part: &&str| matches!(*part, "x" | "X" | "*");
    if parts.len() > 3
        || parts
            .iter()
            .any(|part| part.is_empty() || !wild(part) && !part.bytes().all(|c| c.is_ascii_digit()))
    {
        return Err(refused());
    }
    let given = parts.iter().position(wild).unwrap_or(parts.len());
    let numbers = (0..3)
        .map(|at| if at < given { parts[at] } else { "0" })
        .collect::<Vec<_>>()
        .join(".");
    Ok(Bound {
        operator,
        version: parse(&format!("{numbers}{rest}")).map_err(|_| refused())?,
        given,
    })
}

impl Bound {
    fn holds(&self, v: &Version) -> bool {
        let order = v.order(&self.version);
        match self.operator {
            "!=" => !self.same(v),
            ">" => self.above(v),
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" => self.at_most(v),
            "~" | "~>" => self.tilde(v),
            "^" => self.caret(v),
            _ if self.given < 3 => self.tilde(v),
            _ => order == Ordering::Equal,
        }
    }

    /// Equal in the parts that were given.
    fn same(&self, v: &Version) -> bool {
        let c = &self.version;
        match self.given {
            0 => c.major == v.major,
            1 => c.major == v.major,
            2 => c.major == v.major && c.minor == v.minor && (v.pre == c.pre),
            _ => v.order(c) == Ordering::Equal,
        }
    }

    fn above(&self, v: &Version) -> bool {
        let c = &self.version;
        match self.given {
            3 => v.order(c) == Ordering::Greater,
            _ if v.major != c.major => v.major > c.major,
            2 => v.minor > c.minor,
            1 => false,
            _ => v.order(c) == Ordering::Greater,
        }
    }

    fn at_most(&self, v: &Version) -> bool {
        let c = &self.version;
        match self.given {
            3 => v.order(c) != Ordering::Greater,
            1 => v.major <= c.major,
            _ => v.major < c.major || v.major == c.major && v.minor <= c.minor,
        }
    }

    fn tilde(&self, v: &Version) -> bool {
        let c = &self.version;
        if v.order(c) == Ordering::Less {
            return false;
        }
        let any = (c.major, c.minor, c.patch) == (0, 0, 0) && !matches!(self.given, 1 | 2);
        any || v.major == c.major && (self.given == 1 || v.minor == c.minor)
    }

    fn caret(&self, v: &Version) -> bool {
        let c = &self.version;
        if v.order(c) == Ordering::Less {
            return false;
        }
        if c.major > 0 || self.given == 1 {
            return v.major == c.major;
        }
        if v.major > 0 {
            return self.given == 0;
        }
        if c.minor > 0 || self.given == 2 {
            return v.minor == c.minor;
        }
        self.given == 0 || v.minor == 0 && v.patch == c.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_as_charts_expect() {
        for (range, version, expected) in [
            (">=1.20-0", "v1.31.3-eks-1", true),
            (">=1.20", "1.31.3-eks-1", false),
            (">= 1.20.0, < 2", "1.31.0", true),
            (">=1.2 <1.3 || ^2", "2.9.0", true),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("^1.2", "1.9.0", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("1.x", "1.5.0", true),
            ("*", "0.0.1", true),
            ("1.2 - 1.4", "1.4.9", true),
            ("!=1.2.x", "1.2.5", false),
            ("!=1.2.3", "1.2.4", true),
            (">1", "1.5.0", false),
            (">1.1", "1.2.0", true),
            ("<=1.2", "1.2.9", true),
            ("=1.2.3", "1.2.3", true),
            ("", "1.0.0", true),
        ] {
            assert_eq!(
                Range::parse(range).unwrap().holds(&parse(version).unwrap()),
                expected,
                "{version} in {range}"
            );
        }
        for range in [">>1", "a", "1.2.3.4", ">="] {
            assert!(Range::parse(range).is_err(), "{range}");
        }
    }

    #[test]
    fn versions_are_ordered() {
        let sorted = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(
                parse(pair[0]).unwrap().order(&parse(pair[1]).unwrap()),
                Ordering::Less,
                "{pair:?}"
            );
        }
        assert!(parse("1.2.3.4").is_err() && parse("x").is_err() && parse("1.0-").is_err());
        assert_eq!(parse("v1.2").unwrap().text(), "1.2.0");
    }
}
