//! What a plain scalar means in YAML 1.1, as Helm's YAML library takes it.

/// A resolved plain scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A date: read as text, but never written plain.
    Date,
    Text,
}

/// What `text` means without quotes.
pub(crate) fn resolve(text: &str) -> Scalar {
    let Some(first) = text.bytes().next() else {
        return Scalar::Null;
    };
    if let Some(known) = word(text) {
        return known;
    }
    match first {
        b'.' => go_float(text).map_or(Scalar::Text, Scalar::Float),
        b'0'..=b'9' | b'+' | b'-' => numeric(text),
        _ => Scalar::Text,
    }
}

fn word(text: &str) -> Option<Scalar> {
    if text.len() > "false".len() {
        return None;
    }
    Some(match text {
        "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

fn numeric(text: &str) -> Scalar {
    if is_date(text) {
        return Scalar::Date;
    }
    let plain = text.replace('_', "");
    if let Some(number) = integer(&plain) {
        return number;
    }
    if is_float(&plain)
        && let Ok(number) = plain.parse::<f64>()
        && number.is_finite()
    {
        return Scalar::Float(number);
    }
    Scalar::Text
}

/// An integer with Go's prefixes: `0x`, `0o`, `0b` and a bare leading `0` for octal.
pub(crate) fn integer(plain: &str) -> Option<Scalar> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = radix(digits);
    if digits.is_empty() || !digits.bytes().all(|c| (c as char).is_digit(radix)) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        return 0i64.checked_sub_unsigned(size).map(Scalar::Int);
    }
    Some(i64::try_from(size).map_or_else(
        |_| {
            if plain.starts_with('+') {
                Scalar::Float(size as f64)
            } else {
                Scalar::Uint(size)
            }
        },
        Scalar::Int,
    ))
}

fn radix(digits: &str) -> (u32, &str) {
    let bytes = digits.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(b'0'), Some(b'x' | b'X')) => (16, &digits[2..]),
        (Some(b'0'), Some(b'o' | b'O')) => (8, &digits[2..]),
        (Some(b'0'), Some(b'b' | b'B')) => (2, &digits[2..]),
        (Some(b'0'), Some(_)) => (8, &digits[1..]),
        _ => (10, digits),
    }
}

/// `[-+]? (.digits | digits[.digits*]) ([eE][-+]?digits)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let mantissa = match number.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => !number.is_empty() && digits(number),
    };
    mantissa
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['-', '+']).unwrap_or(e);
            !e.is_empty() && digits(e)
        })
}

/// What Go's `ParseFloat` takes, for text that begins with a dot.
fn go_float(text: &str) -> Option<f64> {
    is_float(text)
        .then(|| text.parse().ok())
        .flatten()
        .filter(|n: &f64| n.is_finite())
}

/// `2001-12-14`, `2001-12-14T21:59:43.1Z`, `2001-12-14 21:59:43`: the forms that are taken for dates.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return false;
    }
    let Ok(year) = text[..4].parse::<i16>() else {
        return false;
    };
    let Some((month, rest)) = short_number(&text[5..], 2).filter(|(_, rest)| rest.starts_with('-'))
    else {
        return false;
    };
    let Some((day, rest)) = short_number(&rest[1..], 2) else {
        return false;
    };
    let valid = i8::try_from(month)
        .ok()
        .zip(i8::try_from(day).ok())
        .is_some_and(|(month, day)| jiff::civil::Date::new(year, month, day).is_ok());
    valid
        && match rest.as_bytes().first() {
            None => true,
            Some(b'T' | b't') => clock(&rest[1..]).is_some_and(zone),
            Some(b' ') => clock(&rest[1..]).is_some_and(str::is_empty),
            Some(_) => false,
        }
}

fn short_number(text: &str, most: usize) -> Option<(u32, &str)> {
    let end = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    Some((text.get(..end)?.parse().ok()?, &text[end..]))
}

fn clock(text: &str) -> Option<&str> {
    let (hour, rest) = short_number(text, 2)?;
    let (minute, rest) = short_number(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = short_number(rest.strip_prefix(':')?, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    match rest.strip_prefix(['.', ',']) {
        Some(fraction) => {
            let end = fraction.bytes().take_while(u8::is_ascii_digit).count();
            (end > 0).then(|| &fraction[end..])
        }
        None => Some(rest),
    }
}

fn zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    text == "Z"
        || bytes.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && text
                .get(1..3)
                .and_then(|h| h.parse::<u8>().ok())
                .is_some_and(|h| h <= 24)
            && text
                .get(4..6)
                .and_then(|m| m.parse::<u8>().ok())
                .is_some_and(|m| m < 60)
}

/// Sexagesimal numbers (`1:30`) of YAML 1.1: text to us, but quoted so that others do not misread them.
pub(crate) fn is_sexagesimal(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = body.split(':');
    let head = parts.next().unwrap_or_default();
    if !head.starts_with(|c: char| c.is_ascii_digit())
        || !head.bytes().all(|c| c.is_ascii_digit() || c == b'_')
    {
        return false;
    }
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let last = match last.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|c| c.is_ascii_digit() || c == b'_') => {
            whole
        }
        Some(_) => return false,
        None => last,
    };
    rest.into_iter()
        .chain([last])
        .all(|part| match part.as_bytes() {
            [a] => a.is_ascii_digit(),
            [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_1_1_says() {
        for (text, expected) in [
            ("", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("yEs", Scalar::Text),
            ("12", Scalar::Int(12)),
            ("-0x1F", Scalar::Int(-31)),
            ("010", Scalar::Int(8)),
            ("0o17", Scalar::Int(15)),
            ("09", Scalar::Float(9.0)),
            ("1_000", Scalar::Int(1000)),
            ("18446744073709551615", Scalar::Uint(u64::MAX)),
            ("1e3", Scalar::Float(1000.0)),
            ("1.", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            ("1.2.3", Scalar::Text),
            ("2001-12-14", Scalar::Date),
            ("2001-2-3T1:2:3Z", Scalar::Date),
            ("2001-13-01", Scalar::Text),
            ("-", Scalar::Text),
            ("<<", Scalar::Text),
            ("nan", Scalar::Text),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn sexagesimal_numbers_are_recognised() {
        for text in ["1:30", "-190:20:30.15", "1:5", "0:0", "1_0:05"] {
            assert!(is_sexagesimal(text), "{text}");
        }
        for text in ["1:60", "a:1", "1", ":1", "1:", "1:2:x", "10.0.0.1:80"] {
            assert!(!is_sexagesimal(text), "{text}");
        }
    }
}
