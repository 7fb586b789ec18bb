//! One line of the log: fields, text, escaping, time.

use std::fmt::Write;

use log::Level;

use super::LogFormat;
use crate::wall_time::WallTime;

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

    /// The message without its fields.
    pub(super) fn text(&self) -> &'a str {
        self.text
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
    pub(super) fn render(&self, format: LogFormat, level: Level, time: WallTime) -> String {
        match format {
            LogFormat::Logfmt => self.render_logfmt(level, time),
            LogFormat::Json => self.render_json(level, time),
            LogFormat::Term => self.render_term(level, time),
        }
    }

    fn render_logfmt(&self, level: Level, time: WallTime) -> String {
        let mut line = format!("t={time:#} lvl={}", level_word(level));
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

    fn render_json(&self, level: Level, time: WallTime) -> String {
        let mut line = format!("{{\"t\":\"{time:#}\",\"lvl\":\"{}\"", level_word(level));
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

    fn render_term(&self, level: Level, time: WallTime) -> String {
        let mut line = format!("{time:#} {:<5}", level_word(level));
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

const FIELD_SESSION: &str = "session";

/// The fields that a message may begin with, in their order.
const FIELDS: [&str; 4] = [FIELD_SESSION, "stream", "connection", "took"];

/// Ids and durations are short; longer is text.
const FIELD_VALUE_BYTES_MAX: usize = 32;

/// Longer texts are cut: syslog daemons cut lines at 1 KiB to 8 KiB, and nothing of use is that long.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: LogFormat, message: &str) -> String {
        Line::parse(message).render(format, Level::Info, WallTime::from_unix(0))
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
}
