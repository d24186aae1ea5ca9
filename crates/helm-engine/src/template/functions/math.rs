//! Numbers.

use super::{Args, Entry, MANY, lists};
use crate::template::{
    eval::{Call, Outcome},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("int", 1, 1, |args, _| Ok(Value::Int(integer(&args.any(0))))),
    ("int64", 1, 1, |args, _| {
        Ok(Value::Int(integer(&args.any(0))))
    }),
    ("float64", 1, 1, |args, _| {
        Ok(Value::Float(real(&args.any(0))))
    }),
    ("atoi", 1, 1, |args, _| {
        Ok(Value::Int(args.text(0)?.parse().unwrap_or_default()))
    }),
    ("toDecimal", 1, 1, |args, _| {
        Ok(Value::Int(
            i64::from_str_radix(&super::as_text(&args.any(0), args.budget)?, 8).unwrap_or_default(),
        ))
    }),
    ("add", 0, MANY, |args, _| {
        Ok(Value::Int(
            args.from(0)
                .fold(0, |sum, value| sum.wrapping_add(integer(&value))),
        ))
    }),
    ("add1", 1, 1, |args, _| {
        Ok(Value::Int(integer(&args.any(0)).wrapping_add(1)))
    }),
    ("sub", 2, 2, |args, _| {
        Ok(Value::Int(
            integer(&args.any(0)).wrapping_sub(integer(&args.any(1))),
        ))
    }),
    ("mul", 1, MANY, |args, _| {
        Ok(Value::Int(
            args.from(1).fold(integer(&args.any(0)), |product, value| {
                product.wrapping_mul(integer(&value))
            }),
        ))
    }),
    ("div", 2, 2, |args, _| divided(args, i64::wrapping_div)),
    ("mod", 2, 2, |args, _| divided(args, i64::wrapping_rem)),
    ("max", 1, MANY, |args, _| {
        Ok(Value::Int(
            args.from(0)
                .map(|value| integer(&value))
                .max()
                .unwrap_or_default(),
        ))
    }),
    ("biggest", 1, MANY, |args, _| {
        Ok(Value::Int(
            args.from(0)
                .map(|value| integer(&value))
                .max()
                .unwrap_or_default(),
        ))
    }),
    ("min", 1, MANY, |args, _| {
        Ok(Value::Int(
            args.from(0)
                .map(|value| integer(&value))
                .min()
                .unwrap_or_default(),
        ))
    }),
    ("maxf", 1, MANY, |args, _| {
        Ok(Value::Float(
            args.from(0)
                .map(|value| real(&value))
                .fold(f64::NEG_INFINITY, f64::max),
        ))
    }),
    ("minf", 1, MANY, |args, _| {
        Ok(Value::Float(
            args.from(0)
                .map(|value| real(&value))
                .fold(f64::INFINITY, f64::min),
        ))
    }),
    ("addf", 0, MANY, |args, _| {
        decimal(args, 0, 0.0, |a, b| a + b)
    }),
    ("add1f", 1, 1, |args, _| decimal(args, 0, 1.0, |a, b| a + b)),
    ("subf", 1, MANY, |args, _| {
        decimal(args, 1, real(&args.any(0)), |a, b| a - b)
    }),
    ("mulf", 1, MANY, |args, _| {
        decimal(args, 1, real(&args.any(0)), |a, b| a * b)
    }),
    ("divf", 1, MANY, |args, _| {
        if args.from(1).any(|value| real(&value) == 0.0) {
            return Err("decimal division by 0".into());
        }
        decimal(args, 1, real(&args.any(0)), |a, b| a / b)
    }),
    ("ceil", 1, 1, |args, _| {
        Ok(Value::Float(real(&args.any(0)).ceil()))
    }),
    ("floor", 1, 1, |args, _| {
        Ok(Value::Float(real(&args.any(0)).floor()))
    }),
    ("round", 2, 3, round),
    ("seq", 0, MANY, seq),
];

/// Anything as an integer, 0 if it is none.
pub(super) fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(n) | Value::Duration(n) => *n,
        // Beyond its range Go's integer is the smallest one, on the processors that matter.
        Value::Float(n) if !(i64::MIN as f64..i64::MAX as f64).contains(n) => i64::MIN,
        Value::Float(n) => *n as i64,
        Value::Bool(flag) => i64::from(*flag),
        Value::Text(text) => integer_text(text),
        _ => 0,
    }
}

/// Text as an integer: a decimal point with zeros is dropped, and prefixes are read as in Go.
fn integer_text(text: &str) -> i64 {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|c| c == b'0') => {
            whole
        }
        _ => text,
    };
    // Leading zeros are dropped first, so `010` is ten.
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text), |digits| ("-", digits));
    let kept = digits.trim_start_matches('0');
    let plain = if digits.len() > 1
        && digits.starts_with('0')
        && kept.bytes().all(|c| c.is_ascii_digit())
    {
        format!("{sign}{}", if kept.is_empty() { "0" } else { kept })
    } else {
        text.to_owned()
    };
    crate::yaml::integer(&plain.replace('_', "")).unwrap_or_default()
}

/// Anything as a float, 0 if it is none.
pub(super) fn real(value: &Value) -> f64 {
    match value {
        Value::Float(n) => *n,
        Value::Int(n) | Value::Duration(n) => *n as f64,
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Text(text) => text.parse().unwrap_or_default(),
        _ => 0.0,
    }
}

fn divided(args: &Args<'_>, operation: fn(i64, i64) -> i64) -> Outcome {
    let (a, b) = (integer(&args.any(0)), integer(&args.any(1)));
    if b == 0 {
        Err("integer divide by zero".into())
    } else {
        Ok(Value::Int(operation(a, b)))
    }
}

/// Sums and products of decimals: what floats get wrong in the sixteenth digit is rounded away.
fn decimal(args: &Args<'_>, from: usize, start: f64, operation: fn(f64, f64) -> f64) -> Outcome {
    let result = args
        .from(from)
        .fold(start, |sum, value| operation(sum, real(&value)));
    let rounded = format!("{result:.14e}").parse::<f64>().unwrap_or(result);
    // Quotients keep their digits; sums of short decimals come out short.
    Ok(Value::Float(
        if format!("{rounded}").len() + 3 < format!("{result}").len() {
            rounded
        } else {
            result
        },
    ))
}

fn round(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let places = i32::try_from(args.int(1)?).map_err(|_| "too many places")?;
    let on = if args.len() > 2 {
        real(&args.any(2))
    } else {
        0.5
    };
    let power = 10f64.powi(places);
    let digit = power * real(&args.any(0));
    let rounded = if digit.fract() >= on {
        digit.ceil()
    } else {
        digit.floor()
    };
    Ok(Value::Float(rounded / power))
}

fn seq(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let numbers = (0..args.len())
        .map(|at| args.int(at))
        .collect::<Outcome<Vec<_>>>()?;
    let sign = |from: i64, to: i64| if to < from { -1 } else { 1 };
    let numbers = match numbers[..] {
        [end] => lists::numbers(1, end.saturating_add(sign(1, end)), sign(1, end))?,
        [start, end] => lists::numbers(
            start,
            end.saturating_add(sign(start, end)),
            sign(start, end),
        )?,
        [start, step, end] if end < start && step > 0 => lists::numbers(start, start, step)?,
        [start, step, end] => lists::numbers(start, end.saturating_add(sign(start, end)), step)?,
        _ => Vec::new(),
    };
    Ok(numbers
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(" ")
        .into())
}
