//! URLs and paths.

use super::{Args, Entry, MANY};
use crate::template::{
    eval::{Call, Outcome},
    value::{Map, Value},
};

pub(super) const TABLE: &[Entry] = &[
    ("urlParse", 1, 1, |args, _| parse(&args.text(0)?)),
    ("urlJoin", 1, 1, join),
    ("urlquery", 0, MANY, |args, _| {
        Ok(query(&super::flow::printed(args)?).into())
    }),
    ("base", 1, 1, |args, _| Ok(base(&args.text(0)?).into())),
    ("osBase", 1, 1, |args, _| Ok(base(&args.text(0)?).into())),
    ("dir", 1, 1, |args, _| Ok(dir(&args.text(0)?).into())),
    ("osDir", 1, 1, |args, _| Ok(dir(&args.text(0)?).into())),
    ("clean", 1, 1, |args, _| Ok(clean(&args.text(0)?).into())),
    ("osClean", 1, 1, |args, _| Ok(clean(&args.text(0)?).into())),
    ("ext", 1, 1, |args, _| Ok(ext(&args.text(0)?).into())),
    ("osExt", 1, 1, |args, _| Ok(ext(&args.text(0)?).into())),
    ("isAbs", 1, 1, |args, _| {
        Ok(args.text(0)?.starts_with('/').into())
    }),
    ("osIsAbs", 1, 1, |args, _| {
        Ok(args.text(0)?.starts_with('/').into())
    }),
];

fn parse(text: &str) -> Outcome {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let scheme_end = rest.find(':').filter(|at| {
        rest[..*at].bytes().enumerate().all(|(i, c)| {
            c.is_ascii_alphabetic() || i > 0 && (c.is_ascii_digit() || b"+-.".contains(&c))
        }) && *at > 0
    });
    let (scheme, rest) = scheme_end.map_or(("", rest), |at| (&rest[..at], &rest[at + 1..]));
    if rest.contains(|c: char| c.is_control()) {
        return Err("unable to parse url: invalid control character in URL".into());
    }
    let (authority, path, opaque) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (&rest[..end], &rest[end..], "")
        }
        None if !scheme.is_empty() && !rest.starts_with('/') => ("", "", rest),
        None => ("", rest, ""),
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let fields = [
        ("scheme", scheme.to_lowercase().into()),
        ("host", host.into()),
        ("hostname", name.into()),
        ("path", path.into()),
        ("query", query.into()),
        ("opaque", opaque.into()),
        ("fragment", fragment.into()),
        ("userinfo", user.into()),
    ];
    Ok(Value::Map(Map::from(fields)))
}

fn join(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let map = args.map(0)?;
    let field = |name: &str| match map.find(name) {
        None => Ok(String::new()),
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(other) => Err(format!(
            "unable to parse {name} key, must be of type string, but {} found",
            other.kind_name()
        )),
    };
    let mut url = field("scheme")?;
    if !url.is_empty() {
        url.push(':');
    }
    let (opaque, host, user, path) = (
        field("opaque")?,
        field("host")?,
        field("userinfo")?,
        field("path")?,
    );
    if !opaque.is_empty() {
        url.push_str(&opaque);
    } else {
        if !host.is_empty() || !user.is_empty() {
            url.push_str("//");
            if !user.is_empty() {
                url.push_str(&user);
                url.push('@');
            }
            url.push_str(&host);
            if !path.is_empty() && !path.starts_with('/') {
                url.push('/');
            }
        }
        url.push_str(&path);
    }
    for (mark, part) in [('?', field("query")?), ('#', field("fragment")?)] {
        if !part.is_empty() {
            url.push(mark);
            url.push_str(&part);
        }
    }
    Ok(url.into())
}

fn query(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        "/".to_owned()
    } else {
        trimmed.rsplit('/').next().unwrap_or(trimmed).to_owned()
    }
}

fn dir(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

fn ext(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.')
        .map_or(String::new(), |at| name[at..].to_owned())
}
