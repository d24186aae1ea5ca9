//! Lengths of time as people write them: `10y`, `90d`, `24h`.

use std::time::Duration;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// A year of certificates: 365 days.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Nothing lives longer than this.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const UNITS: [(char, Duration); 4] = [
    ('y', YEAR),
    ('d', DAY),
    ('h', HOUR),
    ('m', Duration::from_secs(60)),
];

pub(crate) fn read(text: &str) -> Result<Duration, String> {
    let units = || {
        UNITS
            .iter()
            .find_map(|(unit, one)| Some((text.strip_suffix(*unit)?, *one)))
    };
    let length = units().and_then(|(count, one)| one.checked_mul(count.parse().ok()?));
    match length {
        None => Err(format!(
            "{text:?} is not a duration: write \"10y\", \"90d\" or \"24h\""
        )),
        Some(length) if length.is_zero() || length > LONGEST => {
            Err(format!("{text} is not between one minute and 100y"))
        }
        Some(length) => Ok(length),
    }
}

/// In the longest unit that says it exactly.
pub(crate) fn write(length: Duration) -> String {
    let seconds = length.as_secs();
    let exact = |(_, one): &&(char, Duration)| seconds.is_multiple_of(one.as_secs());
    match UNITS.iter().find(exact) {
        Some((unit, one)) => format!("{}{unit}", seconds / one.as_secs()),
        None => format!("{}m", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(minutes in 1u64..50_000_000) {
            let length = Duration::from_secs(minutes * 60);
            prop_assert_eq!(read(&write(length)), Ok(length));
        }

        #[test]
        fn nothing_panics(text in ".{0,30}|[0-9]{0,25}[ydhm]") {
            let _ = read(&text);
        }
    }

    #[test]
    fn lengths_are_read_and_nonsense_is_not() {
        assert_eq!(read("10y"), Ok(10 * YEAR));
        assert_eq!(read("90d"), Ok(90 * DAY));
        assert_eq!(read("24h"), Ok(DAY));
        assert_eq!(write(DAY * 365), "1y");
        assert_eq!(write(HOUR * 36), "36h");
        for text in [
            "",
            "y",
            "10",
            "10 y",
            "-1d",
            "0d",
            "101y",
            "1.5d",
            "99999999999999999999y",
            "1w",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
