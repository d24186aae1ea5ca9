//! Text made of words.

use super::{Entry, LONGEST, random};
use crate::template::eval::Outcome;

pub(super) const TABLE: &[Entry] = &[
    ("title", 1, 1, |args, _| {
        Ok(each_first(&args.text(0)?, |c| c.to_uppercase().collect()).into())
    }),
    ("untitle", 1, 1, |args, _| {
        Ok(each_first(&args.text(0)?, |c| c.to_lowercase().collect()).into())
    }),
    ("swapcase", 1, 1, |args, _| Ok(swap(&args.text(0)?).into())),
    ("initials", 1, 1, |args, _| {
        Ok(args
            .text(0)?
            .split_whitespace()
            .filter_map(|word| word.chars().next())
            .collect::<String>()
            .into())
    }),
    ("camelcase", 1, 1, |args, _| {
        Ok(pascal(&args.text(0)?).into())
    }),
    ("snakecase", 1, 1, |args, _| {
        Ok(joined(&args.text(0)?, '_').into())
    }),
    ("kebabcase", 1, 1, |args, _| {
        Ok(joined(&args.text(0)?, '-').into())
    }),
    ("abbrev", 2, 2, |args, _| {
        let (width, text) = (args.int(0)?, args.text(1)?);
        Ok(abbreviated(&text, 0, width).into())
    }),
    ("abbrevboth", 3, 3, |args, _| {
        let (left, right, text) = (args.int(0)?, args.int(1)?, args.text(2)?);
        Ok(if left > 0 && right < 7 {
            text.to_string()
        } else {
            abbreviated(&text, left, right)
        }
        .into())
    }),
    ("wrap", 2, 2, |args, _| {
        wrapped(&args.text(1)?, args.int(0)?, "\n", false)
    }),
    ("wrapWith", 3, 3, |args, _| {
        wrapped(&args.text(2)?, args.int(0)?, &args.text(1)?, true)
    }),
    ("shuffle", 1, 1, |args, call| {
        let mut chars: Vec<char> = args.text(0)?.chars().collect();
        args.budget.step(chars.len())?;
        for at in (1..chars.len()).rev() {
            let other = u64::from_le_bytes(random::bytes(call)?) % (at as u64 + 1);
            chars.swap(at, usize::try_from(other).unwrap_or_default());
        }
        Ok(chars.into_iter().collect::<String>().into())
    }),
];

/// Changes the first letter of each word, where words end at anything but letters, digits and `_`.
fn each_first(text: &str, change: fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        if is_boundary(before) {
            out.push_str(&change(c))
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

fn is_boundary(c: char) -> bool {
    if c.is_ascii() {
        !(c.is_ascii_alphanumeric() || c == '_')
    } else {
        !c.is_alphanumeric() && c.is_whitespace()
    }
}

fn swap(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
    }
    out
}

fn pascal(text: &str) -> String {
    let mut out = String::new();
    let mut start = true;
    for c in text.chars() {
        match c {
            '_' | '-' | ' ' => start = true,
            c if start => {
                out.extend(c.to_uppercase());
                start = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// `HTTPServer 2Go` becomes `http_server_2_go`.
fn joined(text: &str, separator: char) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1);
        match c {
            '_' | '-' | ' ' => {
                if !out.is_empty() && !out.ends_with(separator) {
                    out.push(separator);
                }
                continue;
            }
            c if c.is_uppercase() => {
                let new_word = before.is_some_and(|b| {
                    b.is_lowercase()
                        || b.is_numeric()
                        || b.is_uppercase() && after.is_some_and(|a| a.is_lowercase())
                });
                if new_word && !out.ends_with(separator) {
                    out.push(separator);
                }
            }
            c if c.is_numeric() != before.is_some_and(char::is_numeric)
                && before.is_some_and(char::is_alphanumeric)
                && !out.ends_with(separator)
                && c.is_numeric() =>
            {
                out.push(separator);
            }
            _ => {}
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn abbreviated(text: &str, offset: i64, width: i64) -> String {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if width < 4 || length <= width {
        return text.to_owned();
    }
    let cut = |from: i64, to: i64| {
        let range = usize::try_from(from).unwrap_or_default()
            ..usize::try_from(to.clamp(from, length)).unwrap_or_default();
        String::from_utf8_lossy(&text.as_bytes()[range]).into_owned()
    };
    let offset = offset.clamp(0, length);
    let offset = if length - offset < width - 3 {
        length - (width - 3)
    } else {
        offset
    };
    if offset <= 4 {
        return cut(0, width - 3) + "...";
    }
    if width < 7 {
        return text.to_owned();
    }
    if offset + width - 3 < length {
        "...".to_owned() + &abbreviated(&cut(offset, length), 0, width - 3)
    } else {
        "...".to_owned() + &cut(length - (width - 3), length)
    }
}

/// Breaks lines at spaces; words that are too long are broken only if asked.
fn wrapped(text: &str, width: i64, newline: &str, break_words: bool) -> Outcome {
    let width = usize::try_from(width.max(1)).unwrap_or(1);
    if text.len().saturating_mul(newline.len() + 1) > LONGEST {
        return Err("the result is too long".into());
    }
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while chars.len() - at > width {
        if chars[at] == ' ' {
            at += 1;
            continue;
        }
        let end = at + width;
        let space = chars[at..=end]
            .iter()
            .rposition(|c| *c == ' ')
            .map(|found| at + found);
        let (stop, next) = match space {
            Some(space) => (space, space + 1),
            None if break_words => (end, end),
            None => match chars[end..].iter().position(|c| *c == ' ') {
                Some(found) => (end + found, end + found + 1),
                None => (chars.len(), chars.len()),
            },
        };
        out.extend(&chars[at..stop]);
        if next < chars.len() || stop < chars.len() {
            out.push_str(newline);
        }
        at = next;
        if at >= chars.len() {
            return Ok(out.into());
        }
    }
    out.extend(&chars[at..]);
    Ok(out.into())
}
