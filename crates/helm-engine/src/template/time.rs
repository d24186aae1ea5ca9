//! Instants and Go's way of writing them.

use std::fmt::Write as _;

use jiff::{Timestamp, Zoned, civil::DateTime, tz::TimeZone};

/// An instant in a time zone.
#[derive(Debug, Clone)]
pub(crate) struct Time(Zoned);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The pieces of Go's reference time, longest first where one begins another.
const PIECES: [&str; 33] = [
    "January",
    "Monday",
    "Jan",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "01",
    "02",
    "002",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "_2006",
    "__2",
    "_2",
    "1",
    "2",
    "3",
    "4",
];

impl Time {
    pub(crate) fn from_unix(seconds: i64) -> Option<Self> {
        Some(Self(
            Timestamp::from_second(seconds)
                .ok()?
                .to_zoned(TimeZone::UTC),
        ))
    }

    pub(crate) fn unix(&self) -> i64 {
        self.0.timestamp().as_second()
    }

    pub(crate) fn nanoseconds(&self) -> i128 {
        self.0.timestamp().as_nanosecond()
    }

    pub(crate) fn same_instant(&self, other: &Self) -> bool {
        self.0.timestamp() == other.0.timestamp()
    }

    /// The same instant elsewhere; unknown zones are UTC, and so is the local one: output may not depend on a machine.
    pub(crate) fn in_zone(&self, zone: &str) -> Self {
        let zone = if zone.is_empty() || zone == "Local" {
            TimeZone::UTC
        } else {
            TimeZone::get(zone).unwrap_or(TimeZone::UTC)
        };
        Self(self.0.with_time_zone(zone))
    }

    pub(crate) fn plus(&self, nanoseconds: i64) -> Option<Self> {
        Some(Self(
            self.0
                .checked_add(jiff::SignedDuration::from_nanos(nanoseconds))
                .ok()?,
        ))
    }

    pub(crate) fn year(&self) -> i64 {
        i64::from(self.0.year())
    }

    pub(crate) fn rfc3339(&self) -> String {
        let nanoseconds = self.0.subsec_nanosecond();
        let fraction = if nanoseconds == 0 {
            String::new()
        } else {
            format!(".{nanoseconds:09}")
                .trim_end_matches('0')
                .to_owned()
        };
        format!(
            "{}{fraction}{}",
            self.format("2006-01-02T15:04:05"),
            self.format("Z07:00")
        )
    }

    /// What Go prints for a time.
    pub(crate) fn go_text(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    /// Go's `Format`.
    pub(crate) fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        while let Some(c) = rest.chars().next() {
            if let Some(length) = self.fraction(&mut out, rest) {
                rest = &rest[length..];
            } else if let Some(piece) = piece(rest) {
                self.piece(&mut out, piece);
                rest = &rest[piece.len()..];
            } else {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        out
    }

    /// `.000` keeps zeros at the end, `.999` drops them.
    fn fraction(&self, out: &mut String, layout: &str) -> Option<usize> {
        let digit = *layout
            .as_bytes()
            .get(1)
            .filter(|_| layout.starts_with(['.', ',']))?;
        if digit != b'0' && digit != b'9' {
            return None;
        }
        let width = layout.bytes().skip(1).take_while(|c| *c == digit).count();
        if layout
            .as_bytes()
            .get(1 + width)
            .is_some_and(u8::is_ascii_digit)
            || width > 9
        {
            return None;
        }
        let text = format!("{:09}", self.0.subsec_nanosecond());
        let text = &text[..width];
        let text = if digit == b'9' {
            text.trim_end_matches('0')
        } else {
            text
        };
        if !text.is_empty() {
            out.push_str(&layout[..1]);
            out.push_str(text);
        }
        Some(width + 1)
    }

    fn piece(&self, out: &mut String, piece: &str) {
        let t = &self.0;
        let month = MONTHS[usize::try_from(t.month() - 1).unwrap_or_default() % 12];
        let day =
            DAYS[usize::try_from(t.weekday().to_sunday_zero_offset()).unwrap_or_default() % 7];
        let hour12 = if t.hour() % 12 == 0 {
            12
        } else {
            t.hour() % 12
        };
        let _ = match piece {
            "January" => write!(out, "{month}"),
            "Jan" => write!(out, "{}", &month[..3]),
            "Monday" => write!(out, "{day}"),
            "Mon" => write!(out, "{}", &day[..3]),
            "MST" => write!(out, "{}", t.strftime("%Z")),
            "2006" => write!(out, "{:04}", t.year()),
            "06" => write!(out, "{:02}", t.year() % 100),
            "01" => write!(out, "{:02}", t.month()),
            "1" => write!(out, "{}", t.month()),
            "02" => write!(out, "{:02}", t.day()),
            "_2" => write!(out, "{:2}", t.day()),
            "_2006" => write!(out, "_{:04}", t.year()),
            "2" => write!(out, "{}", t.day()),
            "002" => write!(out, "{:03}", t.day_of_year()),
            "__2" => write!(out, "{:3}", t.day_of_year()),
            "15" => write!(out, "{:02}", t.hour()),
            "03" => write!(out, "{hour12:02}"),
            "3" => write!(out, "{hour12}"),
            "04" => write!(out, "{:02}", t.minute()),
            "4" => write!(out, "{}", t.minute()),
            "05" => write!(out, "{:02}", t.second()),
            "PM" => write!(out, "{}", if t.hour() >= 12 { "PM" } else { "AM" }),
            "pm" => write!(out, "{}", if t.hour() >= 12 { "pm" } else { "am" }),
            zone => write!(out, "{}", self.zone(zone)),
        };
    }

    fn zone(&self, piece: &str) -> String {
        let seconds = self.0.offset().seconds();
        if piece.starts_with('Z') && seconds == 0 {
            return "Z".to_owned();
        }
        let sign = if seconds < 0 { '-' } else { '+' };
        let (hours, minutes, rest) = (
            seconds.abs() / 3600,
            seconds.abs() / 60 % 60,
            seconds.abs() % 60,
        );
        match &piece[1..] {
            "07" => format!("{sign}{hours:02}"),
            "0700" => format!("{sign}{hours:02}{minutes:02}"),
            "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
            "070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
        }
    }

    /// Go's `Parse` in UTC, for layouts of numbers and names.
    pub(crate) fn parse(layout: &str, text: &str) -> Option<Self> {
        let mut fields = Fields {
            year: 0,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            nanosecond: 0,
            offset: 0,
            afternoon: None,
        };
        let mut text = text;
        let mut rest = layout;
        while let Some(c) = rest.chars().next() {
            if let Some(piece) = piece(rest) {
                text = fields.take(piece, text)?;
                rest = &rest[piece.len()..];
                // A fraction of a second is taken wherever the seconds are.
                if matches!(piece, "05") && !rest.starts_with(['.', ',']) && text.starts_with('.') {
                    text = fields.take_fraction(text)?;
                }
            } else if let Some(digit) = rest
                .as_bytes()
                .get(1)
                .filter(|c| rest.starts_with('.') && matches!(c, b'0' | b'9'))
            {
                let width = rest.bytes().skip(1).take_while(|c| c == digit).count();
                text = if *digit == b'9' && !text.starts_with('.') {
                    text
                } else {
                    fields.take_fraction(text)?
                };
                rest = &rest[1 + width..];
            } else {
                text = text.strip_prefix(c)?;
                rest = &rest[c.len_utf8()..];
            }
        }
        if text.is_empty() {
            fields.build()
        } else {
            None
        }
    }
}

fn piece(layout: &str) -> Option<&'static str> {
    PIECES.into_iter().find(|piece| {
        layout.starts_with(piece)
            && !(*piece == "Jan" && layout.starts_with("Janu") && layout.starts_with("January"))
    })
}

struct Fields {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    offset: i32,
    afternoon: Option<bool>,
}

impl Fields {
    fn take<'t>(&mut self, piece: &str, text: &'t str) -> Option<&'t str> {
        let number = |most: usize| -> Option<(i16, &'t str)> {
            let end = text
                .bytes()
                .take(most)
                .take_while(u8::is_ascii_digit)
                .count();
            Some((text.get(..end)?.parse().ok()?, &text[end..]))
        };
        let small = |most: usize| number(most).map(|(n, rest)| (n as i8, rest));
        let rest;
        match piece {
            "2006" => (self.year, rest) = number(4)?,
            "06" => {
                let (year, after) = number(2)?;
                self.year = if year >= 69 { 1900 + year } else { 2000 + year };
                rest = after;
            }
            "01" | "1" => (self.month, rest) = small(2)?,
            "02" | "2" => (self.day, rest) = small(2)?,
            "_2" => {
                let trimmed = text.trim_start_matches(' ');
                return self.take("2", trimmed);
            }
            "15" | "03" | "3" => (self.hour, rest) = small(2)?,
            "04" | "4" => (self.minute, rest) = small(2)?,
            "05" => (self.second, rest) = small(2)?,
            "PM" | "pm" => {
                let (mark, after) = (text.get(..2)?, text.get(2..)?);
                self.afternoon = Some(mark.eq_ignore_ascii_case("pm"));
                rest = after;
            }
            "January" | "Jan" => {
                let index = MONTHS.iter().position(|month| {
                    text.starts_with(if piece == "Jan" { &month[..3] } else { month })
                })?;
                self.month = i8::try_from(index).ok()? + 1;
                rest = &text[if piece == "Jan" {
                    3
                } else {
                    MONTHS[index].len()
                }..];
            }
            "Monday" | "Mon" => {
                let day = DAYS
                    .iter()
                    .find(|day| text.starts_with(if piece == "Mon" { &day[..3] } else { day }))?;
                rest = &text[if piece == "Mon" { 3 } else { day.len() }..];
            }
            "MST" => {
                rest = text
                    .strip_prefix("UTC")
                    .or_else(|| text.strip_prefix("GMT"))?
            }
            zone if zone.starts_with('Z') && text.starts_with('Z') => rest = &text[1..],
            zone if zone.starts_with(['Z', '-']) => rest = self.take_offset(zone, text)?,
            _ => return None,
        }
        Some(rest)
    }

    fn take_offset<'t>(&mut self, piece: &str, text: &'t str) -> Option<&'t str> {
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let hours: i32 = text.get(1..3)?.parse().ok()?;
        let (minutes, length) = match &piece[1..] {
            "07" => (0, 3),
            "0700" => (text.get(3..5)?.parse().ok()?, 5),
            "07:00" if text.as_bytes().get(3) == Some(&b':') => {
                (text.get(4..6)?.parse::<i32>().ok()?, 6)
            }
            _ => return None,
        };
        self.offset = sign * (hours * 3600 + minutes * 60);
        text.get(length..)
    }

    fn take_fraction<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let digits = text.strip_prefix('.')?;
        let end = digits.bytes().take_while(u8::is_ascii_digit).count();
        self.nanosecond = format!("{:0<9}", &digits[..end.min(9)]).parse().ok()?;
        if end == 0 { None } else { Some(&digits[end..]) }
    }

    fn build(self) -> Option<Time> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let when = DateTime::new(
            self.year,
            self.month,
            self.day,
            hour,
            self.minute,
            self.second,
            self.nanosecond,
        )
        .ok()?;
        let zone = if self.offset == 0 {
            TimeZone::UTC
        } else {
            TimeZone::fixed(jiff::tz::Offset::from_seconds(self.offset).ok()?)
        };
        Some(Time(when.to_zoned(zone).ok()?))
    }
}

/// A duration as Go writes it: `1h2m3.5s`.
pub(crate) fn duration_text(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let decimal = |value: u64, unit: u64| {
        let fraction = format!(
            "{:0width$}",
            value % unit,
            width = unit.to_string().len() - 1
        );
        let fraction = fraction.trim_end_matches('0');
        if value.is_multiple_of(unit) {
            format!("{}", value / unit)
        } else {
            format!("{}.{fraction}", value / unit)
        }
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(size, 1_000_000)),
        _ => {
            let (minutes, rest) = (size / 60_000_000_000, size % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000);
            match minutes {
                0 => format!("{sign}{seconds}s"),
                1..60 => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// Go's `ParseDuration`: `1h30m`, `-1.5s`, `100ms`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("h", 3.6e12),
            ("m", 6e10),
            ("s", 1e9),
        ];
        let (unit, size) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * size;
        rest = &rest[unit.len()..];
    }
    let total = sign * total;
    (!text.is_empty() && total.abs() < i64::MAX as f64).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_gos() {
        let time = Time::from_unix(1_136_239_445).unwrap();
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2006-01-02T22:04:05Z"),
            ("Mon Jan _2 3:04PM 2006", "Mon Jan  2 10:04PM 2006"),
            ("Monday, 02-Jan-06 MST", "Monday, 02-Jan-06 UTC"),
            ("20060102.000 002", "20060102.000 002"),
            ("January 1 -0700", "January 1 +0000"),
        ] {
            assert_eq!(time.format(layout), expected, "{layout}");
        }
        assert_eq!(
            time.in_zone("Europe/Berlin").format("15:04 -07:00"),
            "23:04 +01:00"
        );
        assert_eq!(time.go_text(), "2006-01-02 22:04:05 +0000 UTC");
    }

    #[test]
    fn what_is_printed_is_parsed_back() {
        for (layout, text) in [
            ("2006-01-02", "2024-02-29"),
            ("2006-01-02T15:04:05Z07:00", "2024-02-29T23:59:59+02:00"),
            ("Jan 2 2006 3:04pm", "Mar 4 2024 1:05pm"),
            ("2006-01-02 15:04:05.000", "2024-01-01 00:00:00.125"),
        ] {
            assert_eq!(Time::parse(layout, text).unwrap().format(layout), text);
        }
        assert!(
            Time::parse("2006-01-02", "2024-02-30").is_none()
                && Time::parse("2006-01-02", "x").is_none()
        );
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in [
            ("1h30m0s", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("-2m3s", -123_000_000_000),
            ("100ms", 100_000_000),
            ("0s", 0),
            ("1.5µs", 1_500),
        ] {
            assert_eq!(duration_text(nanoseconds), text);
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
        }
        assert!(
            parse_duration("1").is_none()
                && parse_duration("x").is_none()
                && parse_duration("").is_none()
        );
    }
}
