//! Text.

use super::{Args, Entry, LONGEST, MANY, as_list, as_text};
use crate::{
    json,
    template::{
        budget::Budget,
        eval::{Call, Outcome},
        value::{Map, Value},
    },
};

pub(super) const TABLE: &[Entry] = &[
    ("trim", 1, 1, |args, _| Ok(args.text(0)?.trim().into())),
    ("trimAll", 2, 2, trim_all),
    ("trimall", 2, 2, trim_all),
    ("trimPrefix", 2, 2, |args, _| {
        let text = args.text(1)?;
        Ok(text.strip_prefix(&*args.text(0)?).unwrap_or(&text).into())
    }),
    ("trimSuffix", 2, 2, |args, _| {
        let text = args.text(1)?;
        Ok(text.strip_suffix(&*args.text(0)?).unwrap_or(&text).into())
    }),
    ("upper", 1, 1, |args, _| {
        Ok(args.text(0)?.to_uppercase().into())
    }),
    ("lower", 1, 1, |args, _| {
        Ok(args.text(0)?.to_lowercase().into())
    }),
    ("contains", 2, 2, |args, _| {
        Ok(args.text(1)?.contains(&*args.text(0)?).into())
    }),
    ("hasPrefix", 2, 2, |args, _| {
        Ok(args.text(1)?.starts_with(&*args.text(0)?).into())
    }),
    ("hasSuffix", 2, 2, |args, _| {
        Ok(args.text(1)?.ends_with(&*args.text(0)?).into())
    }),
    ("repeat", 2, 2, |args, _| {
        let text = args.text(1)?;
        Ok(text.repeat(args.size(0, text.len())?).into())
    }),
    ("substr", 3, 3, substr),
    ("trunc", 2, 2, trunc),
    ("replace", 3, 3, replace),
    ("indent", 2, 2, |args, _| indent(args, "")),
    ("nindent", 2, 2, |args, _| indent(args, "\n")),
    ("quote", 0, MANY, |args, _| {
        let quoted = args
            .from(0)
            .filter(|value| !value.is_nil())
            .map(|value| Ok(quoted(&as_text(&value, args.budget)?)));
        Ok(quoted.collect::<Outcome<Vec<_>>>()?.join(" ").into())
    }),
    ("squote", 0, MANY, |args, _| {
        let quoted = args.from(0).filter(|value| !value.is_nil()).map(|value| {
            Ok(format!(
                "'{}'",
                crate::template::print::nested(&value, args.budget)?
            ))
        });
        Ok(quoted.collect::<Outcome<Vec<_>>>()?.join(" ").into())
    }),
    ("cat", 0, MANY, |args, _| {
        let parts = args
            .from(0)
            .filter(|value| !value.is_nil())
            .map(|value| Ok(crate::template::print::nested(&value, args.budget)?));
        Ok(parts.collect::<Outcome<Vec<_>>>()?.join(" ").into())
    }),
    ("plural", 3, 3, |args, _| {
        Ok(Value::Text(if args.int(2)? == 1 {
            args.text(0)?
        } else {
            args.text(1)?
        }))
    }),
    ("split", 2, 2, |args, _| {
        Ok(numbered(split(
            &args.text(0)?,
            &args.text(1)?,
            usize::MAX,
            args.budget,
        )?))
    }),
    ("splitn", 3, 3, |args, _| {
        let most = usize::try_from(args.int(1)?).unwrap_or(usize::MAX);
        let (separator, text) = (args.text(0)?, args.text(2)?);
        Ok(numbered(if most == 0 {
            Vec::new()
        } else {
            split(&separator, &text, most, args.budget)?
        }))
    }),
    ("splitList", 2, 2, |args, _| {
        Ok(Value::list(
            split(&args.text(0)?, &args.text(1)?, usize::MAX, args.budget)?
                .into_iter()
                .map(Value::from)
                .collect(),
        ))
    }),
    ("join", 2, 2, |args, _| {
        let (separator, parts) = (args.text(0)?, texts(&args.any(1), args.budget)?);
        args.budget
            .produce(separator.len().saturating_mul(parts.len()))?;
        Ok(parts
            .iter()
            .map(|part| &**part)
            .collect::<Vec<_>>()
            .join(&separator)
            .into())
    }),
    ("toString", 1, 1, |args, _| {
        Ok(Value::Text(as_text(&args.any(0), args.budget)?))
    }),
    ("toStrings", 1, 1, |args, _| {
        Ok(Value::list(
            texts(&args.any(0), args.budget)?
                .into_iter()
                .map(Value::Text)
                .collect(),
        ))
    }),
    ("sortAlpha", 1, 1, |args, _| {
        let mut parts = if as_list(&args.any(0), args.budget)?.is_some() {
            texts(&args.any(0), args.budget)?
        } else {
            vec![as_text(&args.any(0), args.budget)?]
        };
        parts.sort();
        Ok(Value::list(parts.into_iter().map(Value::Text).collect()))
    }),
    ("nospace", 1, 1, |args, _| {
        Ok(args
            .text(0)?
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .into())
    }),
    ("html", 0, MANY, |args, _| {
        let text = super::flow::printed(args)?;
        let escaped = text.chars().fold(String::new(), |mut out, c| {
            match c {
                '"' => out.push_str("&#34;"),
                '\'' => out.push_str("&#39;"),
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '\0' => out.push('\u{fffd}'),
                c => out.push(c),
            }
            out
        });
        Ok(escaped.into())
    }),
    ("js", 0, MANY, |args, _| {
        Ok(javascript(&super::flow::printed(args)?).into())
    }),
];

/// Text for between the quotes of a JavaScript string.
fn javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c < ' ' || !c.is_ascii() && !is_printable(c) => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

fn trim_all(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (cut, text) = (args.text(0)?, args.text(1)?);
    args.budget.scan(text.len().saturating_mul(cut.len()))?;
    Ok(text.trim_matches(|c| cut.contains(c)).into())
}

/// A byte range as text; half a character becomes a replacement character.
fn bytes(text: &str, from: usize, to: usize) -> Value {
    String::from_utf8_lossy(text.as_bytes().get(from..to).unwrap_or_default())
        .into_owned()
        .into()
}

fn substr(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (start, end, text) = (args.int(0)?, args.int(1)?, args.text(2)?);
    let length = text.len();
    let to = usize::try_from(end).ok().filter(|end| *end <= length);
    let Ok(from) = usize::try_from(start) else {
        return to
            .map(|to| bytes(&text, 0, to))
            .ok_or_else(|| "slice bounds out of range".into());
    };
    let to = to.unwrap_or(length);
    if from > to {
        Err("slice bounds out of range".into())
    } else {
        Ok(bytes(&text, from, to))
    }
}

fn trunc(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (size, text) = (args.int(0)?, args.text(1)?);
    let kept = usize::try_from(size.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(match text.len() {
        length if size < 0 && length > kept => bytes(&text, length - kept, length),
        length if size >= 0 && length > kept => bytes(&text, 0, kept),
        _ => Value::Text(text),
    })
}

fn replace(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let (old, new, text) = (args.text(0)?, args.text(1)?, args.text(2)?);
    if text.len().saturating_mul(new.len().max(1)) > LONGEST * 4
        && text.matches(&*old).count() * new.len() > LONGEST
    {
        return Err("the result is too long".into());
    }
    Ok(text.replace(&*old, &new).into())
}

fn indent(args: &Args<'_>, before: &str) -> Outcome {
    let text = args.text(1)?;
    let pad = " ".repeat(args.size(0, 1)?);
    if pad.len().saturating_mul(text.matches('\n').count() + 1) > LONGEST {
        return Err("the result is too long".into());
    }
    Ok(format!("{before}{pad}{}", text.replace('\n', &format!("\n{pad}"))).into())
}

/// Go's `%q`.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// What Go shows as it is: letters, marks, numbers, punctuation, symbols and the plain space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let escaped = c.escape_debug();
    // Rust escapes what is not printable, and combining marks, which Go shows.
    !c.is_whitespace() && (escaped.len() == 1 || !c.is_control() && is_mark(c))
}

fn is_mark(c: char) -> bool {
    matches!(c as u32, 0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20f0 | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f)
}

fn split<'t>(
    separator: &str,
    text: &'t str,
    most: usize,
    budget: &Budget,
) -> Outcome<Vec<&'t str>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    if !separator.is_empty() {
        let finder = memchr::memmem::Finder::new(separator);
        while parts.len() + 1 < most
            && let Some(at) = finder.find(rest.as_bytes())
        {
            budget.visit(at, 0)?;
            parts.push(&rest[..at]);
            rest = &rest[at + separator.len()..];
        }
        budget.visit(rest.len(), 0)?;
        parts.push(rest);
        return Ok(parts);
    }
    while let Some(first) = rest.chars().next() {
        let end = if parts.len() + 1 < most {
            first.len_utf8()
        } else {
            rest.len()
        };
        budget.visit(end, 0)?;
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    Ok(parts)
}

fn numbered(parts: Vec<&str>) -> Value {
    Value::Map(
        parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| (format!("_{at}"), part.into()))
            .collect::<Map>(),
    )
}

/// The texts of a list, without its nils; anything else is a list of one.
pub(super) fn texts(value: &Value, budget: &Budget) -> Outcome<Vec<std::rc::Rc<str>>> {
    let text = |value: &Value| {
        let text = as_text(value, budget)?;
        budget.visit(text.len(), 0)?;
        Ok(text)
    };
    match as_list(value, budget)? {
        Some(list) => list
            .items()
            .iter()
            .filter(|item| !item.is_nil())
            .map(text)
            .collect(),
        None if value.is_nil() => Ok(Vec::new()),
        None => Ok(vec![text(value)?]),
    }
}

/// JSON escapes, as `js` and friends need.
pub(super) fn json_text(args: &Args<'_>, style: json::Style) -> Outcome<String> {
    Ok(json::write(&args.any(0).to_json(args.budget)?, style))
}
