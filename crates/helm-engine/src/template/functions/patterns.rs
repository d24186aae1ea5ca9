//! Regular expressions and version ranges.

use std::rc::Rc;

use regex_lite::{Regex, RegexBuilder};

use super::{Args, Entry, LONGEST};
use crate::template::{
    budget::Budget,
    eval::{Call, Outcome},
    semver,
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("regexMatch", 2, 2, |args, _| {
        let text = args.text(1)?;
        let pattern = pattern(args);
        Ok(pattern
            .is_ok_and(|pattern| pattern.regex.is_match(&text))
            .into())
    }),
    ("mustRegexMatch", 2, 2, |args, _| {
        let text = args.text(1)?;
        Ok(pattern(args)?.regex.is_match(&text).into())
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

/// The sizes a compiled pattern may have, in bytes. The smallest that suffices says what running it may cost.
const SIZES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// A pattern, and what it costs.
struct Pattern<'b> {
    regex: Regex,
    size: usize,
    /// Whether a match may be as long as the text.
    endless: bool,
    budget: &'b Budget,
}

/// Compiling costs about as much as the pattern is long, running it once as much as its size times the text's.
fn pattern<'b>(args: &Args<'b>) -> Outcome<Pattern<'b>> {
    let (pattern, text) = (args.text(0)?, args.text(1)?);
    let budget = args.budget;
    budget.step(pattern.len())?;
    let mut problem = String::new();
    for size in SIZES {
        match RegexBuilder::new(&pattern).size_limit(size).build() {
            Ok(regex) => {
                budget.step((size / 512).saturating_mul(text.len()))?;
                return Ok(Pattern {
                    regex,
                    size,
                    endless: pattern.contains(['*', '+']) || pattern.contains(",}"),
                    budget,
                });
            }
            Err(error) => problem = error.to_string(),
        }
        budget.step(size / 64)?;
    }
    Err(format!("error parsing regexp: {problem}: `{pattern}`").into())
}

impl Pattern<'_> {
    /// Every match, as where it begins and ends, not more than `most`. Each may look at all that follows it.
    fn all(&self, text: &str, most: usize) -> Outcome<Vec<(usize, usize)>> {
        let mut found = Vec::new();
        for place in self.regex.find_iter(text).take(most) {
            let left = text.len() - place.start();
            let reach = if self.endless {
                left
            } else {
                left.min(self.size)
            };
            self.budget.step(reach / 8 * (self.size / 1024))?;
            self.budget.make(1)?;
            found.push((place.start(), place.end()));
        }
        Ok(found)
    }
}

fn find(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    Ok(pattern(args)?
        .regex
        .find(&text)
        .map_or("", |found| found.as_str())
        .into())
}

fn find_all(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    let most = usize::try_from(args.int(2)?).unwrap_or(usize::MAX);
    let found = pattern(args)?.all(&text, most)?.into_iter();
    Ok(Value::list(
        found.map(|(from, to)| text[from..to].into()).collect(),
    ))
}

fn replace(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (text, with) = (args.text(1)?, args.text(2)?);
    let pattern = pattern(args)?;
    bounded(&pattern, &text, &with)?;
    let replaced = pattern.regex.replace_all(&text, &*with);
    Ok(replaced.into_owned().into())
}

fn replace_literal(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (text, with) = (args.text(1)?, args.text(2)?);
    let pattern = pattern(args)?;
    bounded(&pattern, &text, &with)?;
    let with = regex_lite::NoExpand(&with);
    Ok(pattern.regex.replace_all(&text, with).into_owned().into())
}

/// Refuses what would become too long. A `$` in the replacement stands for as much as a match at most.
fn bounded(pattern: &Pattern<'_>, text: &str, with: &str) -> Outcome<()> {
    let groups = with.matches('$').count();
    if groups > 0 {
        let each = pattern.size / 512 * pattern.regex.captures_len();
        pattern.budget.step(each.saturating_mul(text.len()))?;
    }
    let mut longest = text.len();
    for (from, to) in pattern.all(text, usize::MAX)? {
        let each = with.len().saturating_add(groups.saturating_mul(to - from));
        longest = longest.saturating_add(each);
    }
    if longest > LONGEST {
        Err("the result may be too long".into())
    } else {
        Ok(())
    }
}

fn split(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let text = args.text(1)?;
    let pattern = pattern(args)?;
    let most = match args.int(2)? {
        0 => return Ok(Value::list(Vec::new())),
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let mut parts = Vec::new();
    let mut begin = 0;
    for (from, to) in pattern.all(&text, most - 1)? {
        parts.push(text[begin..from].into());
        begin = to;
    }
    parts.push(text[begin..].into());
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
