//! An object of JSON, written member by member. By hand: there is one for every request, and most of what a general serialiser
//! takes for it is avoidable.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use adit::endpoint_url::EndpointUrl;
use time::OffsetDateTime;

/// An object that is being written. A value that is not there leaves no member. The first member is there from the start, so that
/// each of the others begins with a comma, wherever it is put.
///
/// What stands before a value comes as it is written, `,"name":` for instance, with the quotation mark that opens a text: one
/// copy of a known length.
#[derive(Debug)]
pub(super) struct Object {
    out: Vec<u8>,
}

impl Object {
    /// A place for one.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    /// Begins with a time, in place of whatever there was.
    pub(super) fn begin(&mut self, name: &'static str, time: &[u8; STAMP_LEN]) {
        self.out.clear();
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(time);
    }

    /// What has been written behind `from`, which is an end of members.
    pub(super) fn since(&self, from: usize) -> &[u8] {
        self.out.get(from..).unwrap_or_default()
    }

    /// How much there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.out.capacity()
    }

    /// What has been written so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes members in the place of what is from `from` to `to`, and tells where they end. Both are ends of members.
    pub(super) fn replace(&mut self, from: usize, to: usize, write: impl FnOnce(&mut Self)) -> usize {
        let end = self.out.len();
        if from == end {
            write(self);
            return self.out.len();
        }
        write(self);
        let len = self.out.len() - end;
        if let Some(rest) = self.out.get_mut(to..) {
            rest.rotate_left(end - to);
        }
        self.out.drain(from..to);
        from + len
    }

    /// The whole object as a line.
    pub(super) fn end(&mut self) -> &[u8] {
        self.plain("}\n");
        &self.out
    }

    /// What is known to be right as it is.
    // Inlined, a copy of a known length is a move or two.
    #[inline(always)]
    pub(super) fn plain(&mut self, text: &'static str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Members that were written elsewhere.
    pub(super) fn members(&mut self, members: &[u8]) {
        self.out.extend_from_slice(members);
    }

    /// Whatever somebody has said.
    #[inline(always)]
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.plain(name);
            self.escaped(value);
        }
    }

    fn escaped(&mut self, value: &str) {
        let mut bytes = value.bytes();
        let is_as_it_is = if value.len() < LONG {
            bytes.all(|byte| PLAIN.get(usize::from(byte)).copied().unwrap_or_default())
        } else {
            // Without a way out in the middle, many bytes are looked at together.
            bytes.fold(true, |all, byte| all & is_plain(byte))
        };
        if is_as_it_is {
            self.out.extend_from_slice(value.as_bytes());
            return self.plain("\"");
        }
        // It brings the mark that opens the text, and does not fail: this is memory.
        self.out.pop();
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// A word of the gateway's own, in which nothing has to be escaped.
    #[inline(always)]
    pub(super) fn word(&mut self, name: &'static str, value: &'static str) {
        self.plain(name);
        self.plain(value);
        self.plain("\"");
    }

    /// An address of an endpoint, in which nothing has to be escaped either.
    pub(super) fn url(&mut self, name: &'static str, url: &EndpointUrl) {
        self.plain(name);
        self.plain(url.scheme().as_str());
        self.plain("://");
        self.out.extend_from_slice(url.host().as_bytes());
        if url.scheme().default_port() != Some(url.port()) {
            self.plain(":");
            self.digits(u64::from(url.port()));
        }
        self.plain("\"");
    }

    /// An address of a socket.
    pub(super) fn address(&mut self, name: &'static str, address: SocketAddr) {
        self.plain(name);
        // Writing into memory does not fail.
        let _ = write!(self.out, "{address}\"");
    }

    /// An ERR_NGROK code.
    pub(super) fn code(&mut self, name: &'static str, code: Option<u32>) {
        let Some(code) = code else { return };
        self.plain(name);
        self.plain("ERR_NGROK_");
        self.digits(u64::from(code));
        self.plain("\"");
    }

    #[inline(always)]
    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.plain(name);
            self.digits(value);
        }
    }

    /// A number that is a text.
    pub(super) fn quoted_number(&mut self, name: &'static str, value: u64) {
        self.plain(name);
        self.digits(value);
        self.plain("\"");
    }

    /// Milliseconds with three digits behind the point, and what comes behind them.
    #[inline(always)]
    pub(super) fn milliseconds(&mut self, name: &'static str, time: Option<Duration>, then: &'static str) {
        if let Some(time) = time {
            self.plain(name);
            self.thousandths(time);
            self.plain(then);
        }
    }

    #[inline(always)]
    fn thousandths(&mut self, time: Duration) {
        let micros = time.subsec_micros();
        let (millis, rest) = (micros / 1000, micros % 1000);
        let ([_, hundreds], [tens, ones]) = (pair(rest / 100), pair(rest % 100));
        if time.as_secs() == 0 && millis < 10 {
            // As most are.
            return self.out.extend_from_slice(&[pair(millis)[1], b'.', hundreds, tens, ones]);
        }
        self.digits(time.as_secs().saturating_mul(1000).saturating_add(u64::from(millis)));
        self.out.extend_from_slice(&[b'.', hundreds, tens, ones]);
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [0; DIGITS_MAX];
        let mut unused = DIGITS_MAX;
        // Two at a time: what takes the time is the division.
        for place in digits.rchunks_exact_mut(2) {
            place.copy_from_slice(&pair(low(value)));
            (value, unused) = (value / 100, unused - 2);
            if value == 0 {
                break;
            }
        }
        if digits.get(unused) == Some(&b'0') {
            unused += 1;
        }
        self.out.extend_from_slice(digits.get(unused..).unwrap_or_default());
    }
}

/// A time with microseconds, and the quotation mark behind it, as it was written last: within a second only the end changes.
#[derive(Debug)]
pub(super) struct Stamp {
    second: u64,
    text: [u8; STAMP_LEN],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000000Z\"" }
    }
}

impl Stamp {
    /// This time. A clock that was never set may be before 1970, and counts as at its beginning.
    pub(super) fn at(&mut self, time: SystemTime) -> &[u8; STAMP_LEN] {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            let seconds = i64::try_from(self.second).ok().map(time::Duration::seconds);
            let whole = seconds.and_then(|seconds| OffsetDateTime::UNIX_EPOCH.checked_add(seconds));
            self.text = rfc_3339(whole.unwrap_or(OffsetDateTime::UNIX_EPOCH));
        }
        let micros = since.subsec_micros();
        if let Some(digits) = self.text.get_mut(SECONDS_LEN..SECONDS_LEN + 6) {
            digits
                .copy_from_slice([pair(micros / 10_000), pair(micros / 100 % 100), pair(micros % 100)].as_flattened());
        }
        &self.text
    }
}

/// A time in whole seconds, with room for the rest.
fn rfc_3339(time: OffsetDateTime) -> [u8; STAMP_LEN] {
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let year = u32::try_from(year).unwrap_or_default();
    let [[y1, y2], [y3, y4]] = [pair(year / 100 % 100), pair(year % 100)];
    let [[o1, o2], [d1, d2]] = [pair(u32::from(u8::from(month))), pair(day.into())];
    let [[h1, h2], [m1, m2], [s1, s2]] = [pair(hour.into()), pair(minute.into()), pair(second.into())];
    [
        y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', b'0', b'0', b'0',
        b'0', b'0', b'0', b'Z', b'"',
    ]
}

/// What stands for itself within quotation marks; others may have to be escaped.
const fn is_plain(byte: u8) -> bool {
    (byte >= b' ') & (byte <= b'~') & (byte != b'"') & (byte != b'\\')
}

/// The last two digits of a number.
fn low(value: u64) -> u32 {
    // Less than a hundred.
    u32::try_from(value % 100).unwrap_or_default()
}

/// The digits of a number below a hundred.
fn pair(value: u32) -> [u8; 2] {
    let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or_default();
    [digit(value / 10), digit(value)]
}

/// [`is_plain`] of every byte.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = is_plain(byte);
        byte += 1;
    }
    plain
};

/// Texts of so many bytes are looked at in another way.
const LONG: usize = 64;
/// Of the largest number; an even one.
const DIGITS_MAX: usize = 20;
/// Of a time with microseconds, and a quotation mark.
const STAMP_LEN: usize = 28;
/// Of a time up to the point behind its seconds.
const SECONDS_LEN: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn object() -> Object {
        let mut object = Object::with_capacity(0);
        object.begin("{\"t\":\"", Stamp::default().at(datetime!(2031-02-03 04:05:06.000_789_999 UTC).into()));
        object
    }

    fn read(mut object: Object) -> Value {
        let mut read: Value = serde_json::from_slice(object.end()).unwrap();
        assert_eq!(read.as_object_mut().unwrap().remove("t"), Some(json!("2031-02-03T04:05:06.000789Z")));
        read
    }

    #[test]
    fn time_is_written_anew_with_every_second() {
        let mut stamp = Stamp::default();
        let mut at = |time: OffsetDateTime| String::from_utf8(stamp.at(time.into()).to_vec()).unwrap();
        assert_eq!(at(datetime!(1970-01-01 00:00:00.5 UTC)), "1970-01-01T00:00:00.500000Z\"");
        assert_eq!(at(datetime!(2031-12-31 23:59:59.999_999_999 UTC)), "2031-12-31T23:59:59.999999Z\"");
        assert_eq!(at(datetime!(2031-12-31 23:59:59.000_001 UTC)), "2031-12-31T23:59:59.000001Z\"");
        assert_eq!(at(datetime!(2032-01-01 0:00 UTC)), "2032-01-01T00:00:00.000000Z\"");
        assert_eq!(at(datetime!(2031-12-31 23:59:59.12 UTC)), "2031-12-31T23:59:59.120000Z\"");
        assert_eq!(at(datetime!(1969-12-31 23:59:59 UTC)), "1970-01-01T00:00:00.000000Z\"");
    }

    #[test]
    fn address_of_an_endpoint_is_written_as_it_is_shown() {
        for url in
            ["https://a.example.com", "http://a.example.com:8080", "tcp://db.internal:5432", "tls://[2001:db8::1]:9"]
        {
            let url = EndpointUrl::parse(url).unwrap();
            let mut object = object();
            object.url(",\"url\":\"", &url);
            assert_eq!(read(object), json!({"url": url.to_string()}));
        }
    }

    #[test]
    fn address_of_a_socket_is_written_as_it_is_shown() {
        for address in ["10.0.200.255:9", "127.0.0.1:65535", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut object = object();
            object.address(",\"address\":\"", address);
            assert_eq!(read(object), json!({"address": address.to_string()}));
        }
    }

    #[test]
    fn text_is_escaped_where_it_has_to_be() {
        for text in ["", "plain", "a\"b", "a\\b", "\u{1}", "\u{7f}", "ü", "~ !", "\n"] {
            for text in [text.to_owned(), format!("{text}{}", "-".repeat(LONG))] {
                let mut object = object();
                object.text(",\"text\":\"", Some(&text));
                object.text(",\"none\":\"", None);
                assert_eq!(read(object), json!({"text": text}));
            }
        }
    }

    #[test]
    fn numbers_are_whole() {
        for number in [0, 7, 10, 99, 100, 101, 999, 1000, 12_345, 123_456, u64::MAX / 10, u64::MAX] {
            let mut object = object();
            object.number(",\"number\":", Some(number));
            assert_eq!(read(object), json!({"number": number}));
        }
    }

    #[test]
    fn members_are_replaced_where_they_are() {
        let mut object = object();
        let begin = object.len();
        let first = object.replace(begin, begin, |object| object.number(",\"a\":", Some(1)));
        object.number(",\"c\":", Some(3));
        let second = object.replace(first, first, |object| object.number(",\"b\":", Some(22)));
        assert_eq!(object.replace(first, second, |object| object.number(",\"b\":", Some(2))), second - 1);
        object.word(",\"d\":{\"e\":\"", "f");
        object.number(",\"g\":", None);
        object.milliseconds(",\"h\":", Some(Duration::from_micros(1_002_003)), ",");
        object.milliseconds("\"none\":", None, ",");
        object.milliseconds("\"i\":", Some(Duration::from_nanos(99_999)), "}");
        let written = String::from_utf8(object.end().to_vec()).unwrap();
        assert!(
            written.ends_with("Z\",\"a\":1,\"b\":2,\"c\":3,\"d\":{\"e\":\"f\",\"h\":1002.003,\"i\":0.099}}\n"),
            "{written}"
        );
    }
}
