//! Amounts of memory as the configuration writes them.

use std::fmt;

/// Reads `8MiB`, `512KiB`, `1GiB` or plain bytes.
///
/// # Errors
/// Anything else; also units of 1000, which mean another amount than most people who write them think.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| SizeError)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, bytes) = UNITS.iter().rev().find(|(name, _)| *name == unit).ok_or(SizeError)?;
    number.checked_mul(*bytes).ok_or(SizeError)
}

/// Writes a size the way [`parse_size`] reads it, in the largest unit that fits exactly.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let (unit, size) =
        UNITS.iter().rev().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)).unwrap_or(&UNITS[0]);
    format!("{}{unit}", bytes / size)
}

/// A text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeError;

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a size such as \"8MiB\" or \"512KiB\", or a number of bytes")
    }
}

impl std::error::Error for SizeError {}

/// Smallest first.
const UNITS: [(&str, u64); 4] = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_in_every_documented_form_is_read() {
        let table = [("0", 0), ("4096", 4096), ("512KiB", 512 << 10), ("8MiB", 8 << 20), ("1 GiB", 1 << 30)];
        for (text, expected) in table {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "MiB",
            "8MB",
            "8M",
            "8 mib",
            "-1",
            "1.5MiB",
            "8MiB ",
            "8  MiB",
            "18446744073709551616",
            "17179869184GiB",
        ] {
            assert_eq!(parse_size(text), Err(SizeError), "{text}");
        }
    }

    #[test]
    fn formatted_size_reads_back_as_itself() {
        for bytes in [0, 1, 1023, 1024, 1025, 8 << 20, (8 << 20) + 1024, 3 << 30] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        assert_eq!((format_size(8 << 20), format_size(1536)), ("8MiB".to_owned(), "1536".to_owned()));
    }
}
