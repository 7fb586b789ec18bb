//! Durations as the configuration writes them: the text form of Go's `time.ParseDuration`, which ngrok's files use.

use std::fmt;
use std::time::Duration;

/// Reads `10s`, `1m30s`, `500ms`, `1.5h` or `0`. Units: `h`, `m`, `s`, `ms`, `us` (also `µs`), `ns`.
///
/// # Errors
/// A sign, a missing or unknown unit, and anything above [`SECONDS_MAX`] are refused.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(DurationError::Form);
    }
    let mut rest = text;
    // Saturated, it is far above the limit.
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (part, tail) = parse_part(rest)?;
        nanos = nanos.saturating_add(part);
        rest = tail;
    }
    let duration = Duration::from_nanos(nanos);
    if duration > Duration::from_secs(SECONDS_MAX) {
        return Err(DurationError::TooLong);
    }
    Ok(duration)
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest units that fit exactly.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let mut text = String::new();
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    for (unit, nanos) in UNITS_LONGEST_FIRST {
        let count = rest / nanos;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            rest %= nanos;
        }
    }
    text
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Not a sequence of numbers with units.
    Form,
    /// A number is followed by no unit or an unknown one.
    Unit,
    /// More than [`SECONDS_MAX`].
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("must be a duration such as \"10s\", \"1m30s\" or \"500ms\""),
            Self::Unit => f.write_str("every number of a duration needs a unit: h, m, s, ms, us or ns"),
            Self::TooLong => f.write_str("is longer than any duration may be here (one year)"),
        }
    }
}

impl std::error::Error for DurationError {}

/// One number with its unit, in nanoseconds, and what follows it.
fn parse_part(text: &str) -> Result<(u64, &str), DurationError> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError::Unit)?;
    let (number, rest) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Form);
    }
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let unit = if unit == "µs" || unit == "μs" { "us" } else { unit };
    let Some((_, unit_nanos)) = UNITS_LONGEST_FIRST.iter().find(|(name, _)| *name == unit) else {
        return Err(DurationError::Unit);
    };
    let mut nanos = digits(whole).saturating_mul(*unit_nanos);
    let mut scale = *unit_nanos;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.saturating_add(u64::from(digit.saturating_sub(b'0')).saturating_mul(scale));
    }
    Ok((nanos, tail))
}

/// The value of ASCII digits, saturating.
fn digits(text: &str) -> u64 {
    text.bytes().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))))
}

const UNITS_LONGEST_FIRST: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// One year: far above every range of the configuration, far below what `Instant` can add.
pub const SECONDS_MAX: u64 = 365 * 24 * 3600;

/// Longer texts are no durations that a person wrote.
const TEXT_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_in_every_documented_form_is_read() {
        let table = [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("10s", Duration::from_secs(10)),
            ("1m30s", Duration::from_secs(90)),
            ("500ms", Duration::from_millis(500)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("2h45m", Duration::from_secs(9900)),
            ("100us", Duration::from_micros(100)),
            ("100µs", Duration::from_micros(100)),
            ("7ns", Duration::from_nanos(7)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn duration_without_unit_or_form_is_refused() {
        let table = [
            ("", DurationError::Form),
            ("10", DurationError::Unit),
            ("10 s", DurationError::Unit),
            ("10x", DurationError::Unit),
            ("s", DurationError::Form),
            ("-5s", DurationError::Form),
            ("1.2.3s", DurationError::Form),
            ("9000h", DurationError::TooLong),
            ("99999999999999999999999999999999999999999h", DurationError::TooLong),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn formatted_duration_reads_back_as_itself() {
        for millis in [0, 1, 999, 1_000, 90_000, 3_600_000, 5_432_109] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
