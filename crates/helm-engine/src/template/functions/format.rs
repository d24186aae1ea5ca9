//! `printf` and its kin.

use super::{Args, Entry, LONGEST, MANY, flow::sprint, strings};
use crate::{
    json::{DEPTH, general},
    template::{
        budget::Budget,
        eval::{Call, Outcome},
        print,
        value::Value,
    },
};

pub(super) const TABLE: &[Entry] = &[
    ("print", 0, MANY, |args, _| {
        Ok(sprint(args.from(0), args.budget)?.into())
    }),
    ("println", 0, MANY, |args, _| {
        let parts = args
            .from(0)
            .map(|value| print::nested(&value, args.budget))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{}\n", parts.join(" ")).into())
    }),
    ("printf", 1, MANY, printf),
];

/// One `%…` of a format.
#[derive(Default)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

fn printf(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let format = args.text(0)?;
    let values: Vec<Value> = args.from(1).collect();
    let mut out = String::new();
    let mut next = 0;
    let mut reordered = false;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "+-# 0".contains(*c)) {
            match flag {
                '-' => verb.minus = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                ' ' => verb.space = true,
                _ => verb.zero = true,
            }
        }
        reordered |= index(&mut chars, &mut next);
        verb.width = number(&mut chars, &values, &mut next)?;
        if chars.next_if_eq(&'.').is_some() {
            reordered |= index(&mut chars, &mut next);
            verb.precision = Some(number(&mut chars, &values, &mut next)?.unwrap_or(0));
        }
        reordered |= index(&mut chars, &mut next);
        let Some(letter) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if letter == '%' {
            out.push('%');
            continue;
        }
        match values.get(next) {
            None => out.push_str(&format!("%!{letter}(MISSING)")),
            Some(value) => {
                out.push_str(&verb.pad(verb.text(letter, value, args.budget, 0)?, letter))
            }
        }
        next += 1;
        if out.len() > LONGEST {
            return Err("the result is too long".into());
        }
    }
    if next < values.len() && !reordered {
        let extra = values[next..].iter().map(|value| {
            Ok(if value.is_nil() {
                "<nil>".to_owned()
            } else {
                format!(
                    "{}={}",
                    value.type_name(),
                    print::nested(value, args.budget)?
                )
            })
        });
        out.push_str(&format!(
            "%!(EXTRA {})",
            extra.collect::<Result<Vec<_>, String>>()?.join(", ")
        ));
    }
    Ok(out.into())
}

type Chars<'f> = std::iter::Peekable<std::str::Chars<'f>>;

/// `[2]`: which argument is next.
fn index(chars: &mut Chars<'_>, next: &mut usize) -> bool {
    let mut ahead = chars.clone();
    if ahead.next() != Some('[') {
        return false;
    }
    let digits: String = ahead.by_ref().take_while(|c| *c != ']').collect();
    match digits.parse::<usize>() {
        Ok(at) if at > 0 => {
            *next = at - 1;
            *chars = ahead;
            true
        }
        _ => false,
    }
}

fn number(chars: &mut Chars<'_>, values: &[Value], next: &mut usize) -> Outcome<Option<usize>> {
    let size = if chars.next_if_eq(&'*').is_some() {
        let Some(Value::Int(n)) = values.get(*next) else {
            return Err("bad width or precision".into());
        };
        *next += 1;
        Some(usize::try_from(*n).map_err(|_| "negative width or precision")?)
    } else {
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.is_empty() {
            None
        } else {
            Some(digits.parse().unwrap_or(usize::MAX))
        }
    };
    if size.is_some_and(|size| size > 1 << 20) {
        Err("width or precision is too large".into())
    } else {
        Ok(size)
    }
}

impl Verb {
    fn text(&self, letter: char, value: &Value, budget: &Budget, depth: usize) -> Outcome<String> {
        if depth > DEPTH {
            return Err(
                format!("a value is nested deeper than {DEPTH} levels, or holds itself").into(),
            );
        }
        // What is inside is copied on every level above it.
        let digits = self.precision.unwrap_or_default();
        budget.visit(value.size().saturating_add(digits), depth)?;
        Ok(match (letter, value) {
            ('v', Value::Text(text)) if self.sharp => strings::quoted(text),
            ('v', value) => print::nested(value, budget)?,
            ('T', value) => value.type_name().to_owned(),
            ('t', Value::Bool(flag)) => flag.to_string(),
            ('d', Value::Int(n) | Value::Duration(n)) => self.signed(*n),
            ('b' | 'o' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Int(n)) => self.radix(letter, *n),
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(n)) => self.float(letter, *n),
            (
                's',
                Value::Text(_)
                | Value::Bytes(_)
                | Value::Time(_)
                | Value::Duration(_)
                | Value::Version(_)
                | Value::KubeVersion(_),
            ) => self.cut(&super::as_text(value, budget)?),
            ('q', Value::Text(_) | Value::Bytes(_) | Value::Version(_) | Value::Time(_)) => {
                strings::quoted(&self.cut(&super::as_text(value, budget)?))
            }
            ('x' | 'X', Value::Text(text)) => {
                let hex = crate::archive::hex(text.as_bytes());
                if letter == 'X' {
                    hex.to_uppercase()
                } else {
                    hex
                }
            }
            (letter, Value::List(list)) => {
                let items = list
                    .items()
                    .iter()
                    .map(|item| self.text(letter, item, budget, depth + 1));
                format!("[{}]", items.collect::<Outcome<Vec<_>>>()?.join(" "))
            }
            (letter, Value::Map(map)) => {
                let fields = map.pairs().into_iter().map(|(key, value)| {
                    Ok(format!(
                        "{}:{}",
                        self.text(letter, &Value::Text(key), budget, depth + 1)?,
                        self.text(letter, &value, budget, depth + 1)?
                    ))
                });
                format!("map[{}]", fields.collect::<Outcome<Vec<_>>>()?.join(" "))
            }
            (letter, value) if value.is_nil() => format!("%!{letter}(<nil>)"),
            (letter, value) => format!(
                "%!{letter}({}={})",
                value.type_name(),
                print::nested(value, budget)?
            ),
        })
    }

    fn signed(&self, n: i64) -> String {
        let digits = n.unsigned_abs().to_string();
        let digits = format!(
            "{}{digits}",
            "0".repeat(self.precision.unwrap_or(0).saturating_sub(digits.len()))
        );
        format!("{}{digits}", self.sign(n < 0))
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn radix(&self, letter: char, n: i64) -> String {
        let size = n.unsigned_abs();
        let (mark, digits) = match letter {
            'b' => ("0b", format!("{size:b}")),
            'o' => ("0", format!("{size:o}")),
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'U' => return format!("U+{size:04X}"),
            letter => {
                let c = u32::try_from(n)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}');
                return if letter == 'c' {
                    c.to_string()
                } else {
                    format!("'{c}'")
                };
            }
        };
        format!(
            "{}{}{digits}",
            self.sign(n < 0),
            if self.sharp { mark } else { "" }
        )
    }

    fn float(&self, letter: char, n: f64) -> String {
        let sign = self.sign(n.is_sign_negative());
        let size = n.abs();
        let text = match letter {
            _ if !n.is_finite() => general(size).trim_start_matches('+').to_owned(),
            'f' | 'F' => format!("{size:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => exponent(&format!("{size:.*e}", self.precision.unwrap_or(6))),
            _ => match self.precision {
                None => general(size),
                Some(precision) => significant(size, precision.max(1)),
            },
        };
        format!(
            "{sign}{}",
            if letter.is_uppercase() {
                text.to_uppercase()
            } else {
                text
            }
        )
    }

    fn cut(&self, text: &str) -> String {
        self.precision
            .map_or_else(|| text.to_owned(), |most| text.chars().take(most).collect())
    }

    fn pad(&self, text: String, letter: char) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if self.zero && !(letter == 'd' && self.precision.is_some()) {
            let sign = text.find(|c| !matches!(c, '+' | '-')).unwrap_or(0).min(1);
            return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
        }
        " ".repeat(missing) + &text
    }
}

/// Go's exponents have a sign and two digits.
fn exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, power)) => {
            let power: i32 = power.parse().unwrap_or_default();
            format!(
                "{mantissa}e{}{:02}",
                if power < 0 { '-' } else { '+' },
                power.abs()
            )
        }
        None => text.to_owned(),
    }
}

fn significant(n: f64, digits: usize) -> String {
    let text = format!("{n:.*e}", digits - 1);
    let power: i32 = text
        .split_once('e')
        .and_then(|(_, power)| power.parse().ok())
        .unwrap_or_default();
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if power < -4 || power >= i32::try_from(digits).unwrap_or(i32::MAX) {
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        return exponent(&format!("{}e{power}", trim(mantissa)));
    }
    let places =
        usize::try_from(i32::try_from(digits).unwrap_or(1) - 1 - power).unwrap_or_default();
    trim(&format!("{n:.places$}"))
}
