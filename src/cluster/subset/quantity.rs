//! Kubernetes quantities: `500m`, `2Gi`, `1e3`.

/// Do two texts say the same amount? False where either is no quantity.
pub(super) fn equal(a: &str, b: &str) -> bool {
    nanos(a).zip(nanos(b)).is_some_and(|(a, b)| a == b)
}

/// The amount in billionths, the finest step Kubernetes keeps; `None` for what is no quantity.
fn nanos(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches(['+', '-']);
    if digits.is_empty() && fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The number as digits × 10^-len(fraction), then scaled by the suffix in whole arithmetic.
    let digits: i128 = format!("{digits}{fraction}").parse().ok()?;
    let tens = |power: u32| 10_i128.checked_pow(power);
    let scaled = match binary(suffix) {
        Some(factor) => digits.checked_mul(factor)?.checked_mul(tens(9)?)?,
        None => {
            let power = decimal(suffix)? + 9;
            match u32::try_from(power) {
                Ok(power) => digits.checked_mul(tens(power)?)?,
                Err(_) => digits / tens(power.unsigned_abs())?,
            }
        }
    };
    let amount = scaled / tens(fraction.len().try_into().ok()?)?;
    Some(if negative { -amount } else { amount })
}

fn binary(suffix: &str) -> Option<i128> {
    let power = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|known| *known == suffix)?;
    1024_i128.checked_pow(u32::try_from(power).ok()? + 1)
}

/// The power of ten a suffix stands for.
fn decimal(suffix: &str) -> Option<i32> {
    Some(match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        exponent => exponent.strip_prefix(['e', 'E'])?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_in_other_words() {
        for (a, b) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("2Gi", "2048Mi"),
            ("1k", "1000"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("1.5Gi", "1536Mi"),
            ("100n", "0.1u"),
            ("-1", "-1000m"),
            ("1E", "1000P"),
        ] {
            assert!(equal(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "2"),
            ("1Gi", "1G"),
            ("", "0"),
            ("a", "a"),
            ("1x", "1x"),
            ("1-2", "1-2"),
            ("-", "0"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
    }
}
