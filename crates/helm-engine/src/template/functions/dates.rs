//! Dates and durations. The only clock is the one a rendering is given.

use std::rc::Rc;

use super::{Args, Entry};
use crate::template::{
    eval::{Call, Outcome},
    time::{Time, duration_text, parse_duration},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("now", 0, 0, |_, call| Ok(Value::Time(Rc::new(now(call)?)))),
    ("date", 2, 2, |args, call| {
        formatted(&args.text(0)?, &args.any(1), "UTC", call)
    }),
    ("dateInZone", 3, 3, |args, call| {
        formatted(&args.text(0)?, &args.any(1), &args.text(2)?, call)
    }),
    ("date_in_zone", 3, 3, |args, call| {
        formatted(&args.text(0)?, &args.any(1), &args.text(2)?, call)
    }),
    ("htmlDate", 1, 1, |args, call| {
        formatted("2006-01-02", &args.any(0), "UTC", call)
    }),
    ("htmlDateInZone", 2, 2, |args, call| {
        formatted("2006-01-02", &args.any(0), &args.text(1)?, call)
    }),
    ("dateModify", 2, 2, |args, _| modified(args, false)),
    ("date_modify", 2, 2, |args, _| modified(args, false)),
    ("mustDateModify", 2, 2, |args, _| modified(args, true)),
    ("must_date_modify", 2, 2, |args, _| modified(args, true)),
    ("toDate", 2, 2, |args, _| {
        Ok(Value::Time(Rc::new(
            Time::parse(&args.text(0)?, &args.text(1)?)
                .or_else(|| Time::from_unix(-62_135_596_800))
                .ok_or("out of range")?,
        )))
    }),
    ("mustToDate", 2, 2, |args, _| {
        let (layout, text) = (args.text(0)?, args.text(1)?);
        Ok(Value::Time(Rc::new(
            Time::parse(&layout, &text)
                .ok_or_else(|| format!("parsing time {text:?} as {layout:?}: cannot parse"))?,
        )))
    }),
    ("unixEpoch", 1, 1, |args, _| {
        Ok(time(args, 0)?.unix().to_string().into())
    }),
    ("ago", 1, 1, |args, call| {
        let then = instant(&args.any(0), call)?;
        let seconds =
            (now(call)?.nanoseconds() - then.nanoseconds() + 500_000_000).div_euclid(1_000_000_000);
        Ok(duration_text(
            i64::try_from(seconds)
                .unwrap_or_default()
                .saturating_mul(1_000_000_000),
        )
        .into())
    }),
    ("duration", 1, 1, |args, _| {
        let seconds = match args.any(0) {
            Value::Text(text) => text.parse().unwrap_or_default(),
            Value::Int(n) => n,
            _ => 0i64,
        };
        Ok(duration_text(seconds.saturating_mul(1_000_000_000)).into())
    }),
    ("durationRound", 1, 1, duration_round),
    ("mustToDuration", 1, 1, |args, _| {
        Ok(Value::Duration(span(&args.any(0))?))
    }),
    ("durationSeconds", 1, 1, |args, _| {
        Ok(Value::Float(
            span(&args.any(0)).unwrap_or_default() as f64 / 1e9,
        ))
    }),
    ("durationMilliseconds", 1, 1, |args, _| {
        Ok(Value::Int(
            span(&args.any(0)).unwrap_or_default() / 1_000_000,
        ))
    }),
    ("durationMicroseconds", 1, 1, |args, _| {
        Ok(Value::Int(span(&args.any(0)).unwrap_or_default() / 1_000))
    }),
    ("durationNanoseconds", 1, 1, |args, _| {
        Ok(Value::Int(span(&args.any(0)).unwrap_or_default()))
    }),
    ("durationMinutes", 1, 1, |args, _| {
        Ok(Value::Float(
            span(&args.any(0)).unwrap_or_default() as f64 / 6e10,
        ))
    }),
    ("durationHours", 1, 1, |args, _| {
        Ok(Value::Float(
            span(&args.any(0)).unwrap_or_default() as f64 / 3.6e12,
        ))
    }),
    ("durationDays", 1, 1, |args, _| {
        Ok(Value::Float(
            span(&args.any(0)).unwrap_or_default() as f64 / 3.6e12 / 24.0,
        ))
    }),
    ("durationWeeks", 1, 1, |args, _| {
        Ok(Value::Float(
            span(&args.any(0)).unwrap_or_default() as f64 / 3.6e12 / 168.0,
        ))
    }),
    ("durationRoundTo", 2, 2, |args, _| {
        Ok(Value::Duration(to_multiple(args, true)))
    }),
    ("durationTruncateTo", 2, 2, |args, _| {
        Ok(Value::Duration(to_multiple(args, false)))
    }),
];

fn now(call: &Call<'_, '_>) -> Outcome<Time> {
    let seconds = call
        .engine
        .outside
        .now
        .ok_or("no time was given, and the current time would differ on every rendering")?;
    Ok(Time::from_unix(seconds).ok_or("the time is out of range")?)
}

/// A time, a number of seconds, or else now: as Sprig takes dates.
fn instant(value: &Value, call: &Call<'_, '_>) -> Outcome<Time> {
    match value {
        Value::Time(time) => Ok((**time).clone()),
        Value::Int(seconds) => Ok(Time::from_unix(*seconds).ok_or("the time is out of range")?),
        _ => now(call),
    }
}

fn time(args: &Args<'_>, at: usize) -> Outcome<Rc<Time>> {
    match args.any(at) {
        Value::Time(time) => Ok(time),
        other => Err(format!(
            "wrong type for value; expected time.Time; got {}",
            other.type_name()
        )
        .into()),
    }
}

fn formatted(layout: &str, value: &Value, zone: &str, call: &Call<'_, '_>) -> Outcome {
    Ok(instant(value, call)?.in_zone(zone).format(layout).into())
}

fn modified(args: &Args<'_>, strict: bool) -> Outcome {
    let (text, time) = (args.text(0)?, time(args, 1)?);
    match parse_duration(&text) {
        Some(by) => Ok(Value::Time(Rc::new(
            time.plus(by).ok_or("the time is out of range")?,
        ))),
        None if strict => Err(format!("time: invalid duration {text:?}").into()),
        None => Ok(Value::Time(time)),
    }
}

fn duration_round(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let nanoseconds = match args.any(0) {
        Value::Text(text) => parse_duration(&text).unwrap_or_default(),
        Value::Int(n) | Value::Duration(n) => n,
        Value::Time(then) => {
            i64::try_from(now(call)?.nanoseconds() - then.nanoseconds()).unwrap_or_default()
        }
        _ => 0,
    };
    let seconds = nanoseconds.unsigned_abs() as f64 / 1e9;
    let units = [
        ("y", 31_536_000.0),
        ("mo", 2_592_000.0),
        ("d", 86_400.0),
        ("h", 3_600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let found = units.into_iter().find(|(_, size)| seconds > *size);
    Ok(found
        .map_or_else(
            || "0s".to_owned(),
            |(unit, size)| format!("{}{unit}", (seconds / size) as u64),
        )
        .into())
}

/// A duration from text (`1h30m`, or seconds) or from a number of seconds.
fn span(value: &Value) -> Outcome<i64> {
    let seconds = |n: f64| {
        if n.is_finite() && n.abs() < 9.2e9 {
            Ok((n * 1e9) as i64)
        } else {
            Err(format!("duration seconds overflow: {n}").into())
        }
    };
    match value {
        Value::Duration(n) => Ok(*n),
        Value::Int(n) => n
            .checked_mul(1_000_000_000)
            .ok_or_else(|| format!("duration seconds overflow: {n}").into()),
        Value::Float(n) => seconds(*n),
        Value::Text(text) if text.trim().is_empty() => Err("empty duration".into()),
        Value::Text(text) => match (parse_duration(text.trim()), text.trim().parse()) {
            (Some(n), _) => Ok(n),
            (None, Ok(n)) => seconds(n),
            (None, Err(_)) => Err(format!("could not parse duration {text:?}").into()),
        },
        Value::Nil | Value::Null => Err("invalid duration".into()),
        other => Err(format!("unsupported duration type {}", other.type_name()).into()),
    }
}

fn to_multiple(args: &Args<'_>, round: bool) -> i64 {
    let Ok(value) = span(&args.any(0)) else {
        return 0;
    };
    let Some(multiple) = span(&args.any(1)).ok().filter(|multiple| *multiple > 0) else {
        return value;
    };
    let rest = value % multiple;
    let down = value - rest;
    if round && rest.unsigned_abs() >= multiple.unsigned_abs().div_ceil(2) {
        down.saturating_add(multiple * value.signum())
    } else {
        down
    }
}
