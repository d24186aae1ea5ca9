//! Regular expressions and version ranges.

use std::rc::Rc;

use regex_lite::Regex;

use super::{Args, Entry, LONGEST};
use crate::chart::template::{
    eval::{Call, Outcome},
    semver,
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("regexMatch", 2, 2, |args, call| {
        Ok(regex(args, 0, call)
            .map(|regex| args.text(1).map(|text| regex.is_match(&text)))
            .unwrap_or(Ok(false))?
            .into())
    }),
    ("mustRegexMatch", 2, 2, |args, call| {
        Ok(regex(args, 0, call)?.is_match(&args.text(1)?).into())
    }),
    ("regexFind", 2, 2, find),
    ("mustRegexFind", 2, 2, find),
    ("regexFindAll", 3, 3, find_all),
    ("mustRegexFindAll", 3, 3, find_all),
    ("regexReplaceAll", 3, 3, replace),
    ("mustRegexReplaceAll", 3, 3, replace),
    ("regexReplaceAllLiteral", 3, 3, replace_literal),
    ("mustRegexReplaceAllLiteral", 3, 3, replace_literal),
    ("regexSplit", 3, 3, split),
    ("mustRegexSplit", 3, 3, split),
    ("regexQuoteMeta", 1, 1, |args, _| {
        Ok(quoted(&args.text(0)?).into())
    }),
    ("semver", 1, 1, |args, _| {
        Ok(Value::Version(Rc::new(semver::parse(&args.text(0)?)?)))
    }),
    ("semverCompare", 2, 2, |args, _| {
        Ok(semver::Range::parse(&args.text(0)?)?
            .holds(&semver::parse(&args.text(1)?)?)
            .into())
    }),
];

/// Compiling and running cost about as much as pattern and text are long.
fn regex(args: &Args, at: usize, call: &Call<'_, '_>) -> Outcome<Regex> {
    let pattern = args.text(at)?;
    let text = args.text(at + 1)?;
    call.engine
        .step(pattern.len() + (pattern.len() * text.len()) / 2)?;
    Ok(Regex::new(&pattern)
        .map_err(|error| format!("error parsing regexp: {error}: `{pattern}`"))?)
}

fn find(args: &Args, call: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    Ok(regex(args, 0, call)?
        .find(&text)
        .map_or("", |found| found.as_str())
        .into())
}

fn find_all(args: &Args, call: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    let most = usize::try_from(args.int(2)?).unwrap_or(usize::MAX);
    Ok(Value::list(
        regex(args, 0, call)?
            .find_iter(&text)
            .take(most)
            .map(|found| found.as_str().into())
            .collect(),
    ))
}

fn replace(args: &Args, call: &Call<'_, '_>) -> Outcome {
    let (text, with) = (args.text(1)?, args.text(2)?);
    bounded(&text, &with)?;
    Ok(regex(args, 0, call)?
        .replace_all(&text, &*with)
        .into_owned()
        .into())
}

fn replace_literal(args: &Args, call: &Call<'_, '_>) -> Outcome {
    let (text, with) = (args.text(1)?, args.text(2)?);
    bounded(&text, &with)?;
    Ok(regex(args, 0, call)?
        .replace_all(&text, regex_lite::NoExpand(&with))
        .into_owned()
        .into())
}

fn bounded(text: &str, with: &str) -> Outcome<()> {
    let longest = text.len().saturating_add(1).saturating_mul(
        with.len()
            .saturating_mul(1 + with.matches('$').count() * text.len())
            .max(1),
    );
    if longest > LONGEST * 16 {
        Err("the result may be too long".into())
    } else {
        Ok(())
    }
}

fn split(args: &Args, call: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    let regex = regex(args, 0, call)?;
    let parts: Vec<Value> = match args.int(2)? {
        0 => Vec::new(),
        n if n < 0 => regex.split(&text).map(Value::from).collect(),
        n => regex
            .splitn(&text, usize::try_from(n).unwrap_or(usize::MAX))
            .map(Value::from)
            .collect(),
    };
    Ok(Value::list(parts))
}

fn quoted(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}
