//! One line of the log: fields, text, escaping, time.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use log::Level;

use super::LogFormat;

/// A message taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Leading fields, in the order of [`FIELDS`].
    fields: Vec<(&'static str, &'a str)>,
    text: &'a str,
    repeated: u64,
}

impl<'a> Line<'a> {
    /// Takes the leading fields off a message. Each counts once and only in its order, so that text from a peer which
    /// follows them cannot add to them unless it comes in place of one.
    pub(super) fn parse(message: &'a str) -> Self {
        let mut fields = Vec::new();
        let mut rest = message;
        for name in FIELDS {
            let Some((value, tail)) = take_field(rest, name) else {
                continue;
            };
            fields.push((name, value));
            rest = tail;
        }
        Self { fields, text: rest, repeated: 0 }
    }

    /// The same line with the number of times that it was not written.
    pub(super) fn repeated(self, count: u64) -> Self {
        Self { repeated: count, ..self }
    }

    /// What two messages have in common that count as the same.
    pub(super) fn folding_key(&self) -> String {
        let mut key = String::new();
        for (name, value) in self.fields.iter().filter(|(name, _)| *name == FIELD_SESSION) {
            key.push_str(name);
            key.push('=');
            key.push_str(value);
            key.push(' ');
        }
        key.push_str(shortened(self.text));
        key
    }

    /// The line without its end.
    pub(super) fn render(&self, format: LogFormat, level: Level, time: SystemTime) -> String {
        match format {
            LogFormat::Logfmt => self.render_logfmt(level, time),
            LogFormat::Json => self.render_json(level, time),
            LogFormat::Term => self.render_term(level, time),
        }
    }

    fn render_logfmt(&self, level: Level, time: SystemTime) -> String {
        let mut line = format!("t={} lvl={}", timestamp(time), level_word(level));
        self.push_fields(&mut line);
        line.push_str(" msg=\"");
        for c in shortened(self.text).chars() {
            match c {
                '"' => line.push_str("\\\""),
                '\\' => line.push_str("\\\\"),
                c => push_visible(&mut line, c),
            }
        }
        self.push_end(&mut line);
        line.push('"');
        if self.repeated > 0 {
            // Writing to a String cannot fail.
            let _ = write!(line, " repeated={}", self.repeated);
        }
        line
    }

    fn render_json(&self, level: Level, time: SystemTime) -> String {
        let mut line = format!("{{\"t\":\"{}\",\"lvl\":\"{}\"", timestamp(time), level_word(level));
        for (name, value) in &self.fields {
            let _ = write!(line, ",\"{name}\":\"{value}\"");
        }
        line.push_str(",\"msg\":\"");
        for c in shortened(self.text).chars() {
            match c {
                '"' => line.push_str("\\\""),
                '\\' => line.push_str("\\\\"),
                c if is_hidden(c) => {
                    let _ = write!(line, "\\u{:04x}", u32::from(c));
                }
                c => line.push(c),
            }
        }
        self.push_end(&mut line);
        line.push('"');
        if self.repeated > 0 {
            let _ = write!(line, ",\"repeated\":{}", self.repeated);
        }
        line.push('}');
        line
    }

    fn render_term(&self, level: Level, time: SystemTime) -> String {
        let mut line = format!("{} {:<5}", timestamp(time), level_word(level));
        self.push_fields(&mut line);
        line.push(' ');
        for c in shortened(self.text).chars() {
            push_visible(&mut line, c);
        }
        self.push_end(&mut line);
        if self.repeated > 0 {
            let _ = write!(line, " repeated={}", self.repeated);
        }
        line
    }

    fn push_fields(&self, line: &mut String) {
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}={value}");
        }
    }

    /// Marks that text is missing.
    fn push_end(&self, line: &mut String) {
        if self.text.len() > TEXT_BYTES_MAX {
            line.push('…');
        }
    }
}

/// `name=value ` at the start, the value being one short plain word.
fn take_field<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(name)?.strip_prefix('=')?;
    let (value, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let plain = !value.is_empty()
        && value.len() <= FIELD_VALUE_BYTES_MAX
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    plain.then_some((value, tail))
}

fn shortened(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let mut end = TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.split_at_checked(end).map_or("", |(head, _)| head)
}

fn push_visible(line: &mut String, c: char) {
    if !is_hidden(c) {
        line.push(c);
        return;
    }
    for escaped in c.escape_default() {
        line.push(escaped);
    }
}

/// Characters that move the cursor, end a line for some reader, or turn the direction of what follows.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// UTC with milliseconds; a clock before 1970 shows as 1970.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / DAY_SECONDS);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of a number of days since 1970-01-01, by counting in eras of 400 years that begin on March 1st
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

const FIELD_SESSION: &str = "session";

/// The fields that a message may begin with, in their order.
const FIELDS: [&str; 3] = [FIELD_SESSION, "stream", "took"];

/// Ids and durations are short; longer is text.
const FIELD_VALUE_BYTES_MAX: usize = 32;

/// Longer texts are cut: syslog daemons cut lines at 1 KiB to 8 KiB, and nothing of use is that long.
const TEXT_BYTES_MAX: usize = 1024;

const DAY_SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: LogFormat, message: &str) -> String {
        Line::parse(message).render(format, Level::Info, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn line_has_its_documented_form() {
        let message = "session=3 stream=17 took=12ms upstream \"db\": refused";
        assert_eq!(
            rendered(LogFormat::Logfmt, message),
            "t=1970-01-01T00:00:00.000Z lvl=info session=3 stream=17 took=12ms msg=\"upstream \\\"db\\\": refused\""
        );
        assert_eq!(
            rendered(LogFormat::Term, message),
            "1970-01-01T00:00:00.000Z info  session=3 stream=17 took=12ms upstream \"db\": refused"
        );
        let json: serde_json::Value = serde_json::from_str(&rendered(LogFormat::Json, message)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"t": "1970-01-01T00:00:00.000Z", "lvl": "info", "session": "3", "stream": "17",
                "took": "12ms", "msg": "upstream \"db\": refused"})
        );
    }

    #[test]
    fn field_counts_once_in_order_and_only_as_a_plain_word() {
        for message in ["x session=3", "session=\"3\" x", "session= x", "sessions=3 x"] {
            assert!(Line::parse(message).fields.is_empty(), "{message}");
        }
        let line = Line::parse("session=3 session=4 stream=5 x");
        assert_eq!(line.fields, [("session", "3")]);
        assert_eq!(line.text, "session=4 stream=5 x");
        assert_eq!(Line::parse("stream=5").fields, [("stream", "5")]);
    }

    #[test]
    fn json_of_any_text_reads_back_as_that_text() {
        let text = "a\"\\\n\u{0}\u{1b}\u{7f}\u{85}\u{2028}\u{202e}é🦀";
        let json: serde_json::Value = serde_json::from_str(&rendered(LogFormat::Json, text)).unwrap();
        assert_eq!(json["msg"], text);
    }

    #[test]
    fn text_is_whole_at_its_limit_and_cut_beyond() {
        let whole = "é".repeat(TEXT_BYTES_MAX / 2);
        assert!(rendered(LogFormat::Term, &whole).ends_with("éé"));
        let long = format!("a{whole}");
        assert!(rendered(LogFormat::Term, &long).ends_with("é…"));
        assert!(rendered(LogFormat::Logfmt, &long).len() < TEXT_BYTES_MAX + 100);
    }

    #[test]
    fn timestamp_is_right_around_leap_days_and_centuries() {
        let table = [
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_795_478_400, "2026-11-24T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (seconds, expected) in table {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }
}
