//! An object of JSON, written member by member. By hand: there is one for every request, and most of what a general serialiser
//! takes for it is avoidable.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use time::OffsetDateTime;

/// An object that is being written. A value that is not there leaves no member. The first member is there from the start, so that
/// each of the others begins with a comma, wherever it is put.
#[derive(Debug)]
pub(super) struct Object {
    out: Vec<u8>,
}

impl Object {
    /// Begins one with a time, with room for so many bytes.
    pub(super) fn begin(room: usize, name: &'static str, time: OffsetDateTime) -> Self {
        let mut object = Self { out: Vec::with_capacity(room) };
        object.out.push(b'{');
        object.name(name);
        object.time(time);
        object
    }

    /// What has been written so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes members in the place of what is from `from` to `to`, and tells where they end. Both are ends of members.
    pub(super) fn replace(&mut self, from: usize, to: usize, write: impl FnOnce(&mut Self)) -> usize {
        let end = self.out.len();
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
        self.out.extend_from_slice(b"}\n");
        &self.out
    }

    /// A member with members of its own, the first of which `first` writes.
    pub(super) fn object(&mut self, name: &'static str, members: impl FnOnce(&mut Self)) {
        self.member(name);
        let begin = self.out.len();
        members(self);
        // In the place of the first member's comma.
        match self.out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }

    /// Whatever somebody has said.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.member(name);
        if value.bytes().all(is_plain) {
            return self.quoted(|out| out.extend_from_slice(value.as_bytes()));
        }
        // Writing a string into memory does not fail.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// A word of the gateway's own, in which nothing has to be escaped.
    pub(super) fn word(&mut self, name: &'static str, value: Option<&'static str>) {
        let Some(value) = value else { return };
        self.member(name);
        self.quoted(|out| out.extend_from_slice(value.as_bytes()));
    }

    /// An address of an endpoint, in which nothing has to be escaped either.
    pub(super) fn url(&mut self, name: &'static str, url: &EndpointUrl) {
        self.member(name);
        self.quoted(|out| {
            out.extend_from_slice(url.scheme().as_str().as_bytes());
            out.extend_from_slice(b"://");
            out.extend_from_slice(url.host().as_bytes());
            if url.scheme().default_port() != Some(url.port()) {
                out.push(b':');
                push_number(out, u64::from(url.port()));
            }
        });
    }

    /// An address of a socket.
    pub(super) fn address(&mut self, name: &'static str, address: SocketAddr) {
        self.member(name);
        self.quoted(|out| match address.ip() {
            IpAddr::V4(ip) => {
                for (octet, after) in ip.octets().into_iter().zip(*b"...:") {
                    push_number(out, u64::from(octet));
                    out.push(after);
                }
                push_number(out, u64::from(address.port()));
            }
            // Nor does writing an address.
            IpAddr::V6(_) => drop(write!(out, "{address}")),
        });
    }

    /// An ERR_NGROK code.
    pub(super) fn code(&mut self, name: &'static str, code: Option<u32>) {
        let Some(code) = code else { return };
        self.member(name);
        self.quoted(|out| {
            out.extend_from_slice(b"ERR_NGROK_");
            push_number(out, u64::from(code));
        });
    }

    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.member(name);
        push_number(&mut self.out, value);
    }

    /// Milliseconds with three digits behind the point.
    pub(super) fn milliseconds(&mut self, name: &'static str, time: Option<Duration>) {
        let Some(time) = time else { return };
        self.member(name);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        push_number(&mut self.out, micros / 1000);
        self.out.push(b'.');
        push_digits::<3>(&mut self.out, micros % 1000);
    }

    fn member(&mut self, name: &'static str) {
        self.out.push(b',');
        self.name(name);
    }

    fn name(&mut self, name: &'static str) {
        self.quoted(|out| out.extend_from_slice(name.as_bytes()));
        self.out.push(b':');
    }

    /// As RFC 3339 has it, with microseconds.
    fn time(&mut self, time: OffsetDateTime) {
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second, micros) = time.to_hms_micro();
        self.quoted(|out| {
            push_digits::<4>(out, u64::try_from(year).unwrap_or_default());
            for (before, value) in [(b'-', month.into()), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
                out.push(before);
                push_digits::<2>(out, u64::from(value));
            }
            out.push(b'.');
            push_digits::<6>(out, u64::from(micros));
            out.push(b'Z');
        });
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        write(&mut self.out);
        self.out.push(b'"');
    }
}

/// What stands for itself within quotation marks; others may have to be escaped.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

/// The last `N` digits of a number, with zeros in front.
fn push_digits<const N: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = digit_of(value);
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut len = 0;
    for digit in digits.iter_mut().rev() {
        *digit = digit_of(value);
        (value, len) = (value / 10, len + 1);
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(DIGITS_MAX - len..).unwrap_or_default());
}

/// The last digit of a number.
fn digit_of(value: u64) -> u8 {
    // Less than ten.
    b'0' + u8::try_from(value % 10).unwrap_or_default()
}

/// Of the largest number.
const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn object() -> Object {
        Object::begin(0, "t", datetime!(2031-02-03 04:05:06.000_789_999 UTC))
    }

    fn read(mut object: Object) -> Value {
        let mut read: Value = serde_json::from_slice(object.end()).unwrap();
        assert_eq!(read.as_object_mut().unwrap().remove("t"), Some(json!("2031-02-03T04:05:06.000789Z")));
        read
    }

    #[test]
    fn address_of_an_endpoint_is_written_as_it_is_shown() {
        for url in
            ["https://a.example.com", "http://a.example.com:8080", "tcp://db.internal:5432", "tls://[2001:db8::1]:9"]
        {
            let url = EndpointUrl::parse(url).unwrap();
            let mut object = object();
            object.url("url", &url);
            assert_eq!(read(object), json!({"url": url.to_string()}));
        }
    }

    #[test]
    fn address_of_a_socket_is_written_as_it_is_shown() {
        for address in ["10.0.200.255:9", "127.0.0.1:65535", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:80"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut object = object();
            object.address("address", address);
            assert_eq!(read(object), json!({"address": address.to_string()}));
        }
    }

    #[test]
    fn text_is_escaped_where_it_has_to_be() {
        for text in ["", "plain", "a\"b", "a\\b", "\u{1}", "\u{7f}", "ü", "~ !", "\n"] {
            let mut object = object();
            object.text("text", Some(text));
            object.text("none", None);
            assert_eq!(read(object), json!({"text": text}));
        }
    }

    #[test]
    fn numbers_are_whole() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn members_are_replaced_where_they_are() {
        let mut object = object();
        let begin = object.len();
        let first = object.replace(begin, begin, |object| object.number("a", Some(1)));
        object.number("c", Some(3));
        let second = object.replace(first, first, |object| object.number("b", Some(22)));
        assert_eq!(object.replace(first, second, |object| object.number("b", Some(2))), second - 1);
        object.object("d", |object| {
            object.word("e", Some("f"));
            object.number("g", None);
            object.milliseconds("h", Some(Duration::from_micros(1_002_003)));
        });
        object.object("i", |_| {});
        let written = String::from_utf8(object.end().to_vec()).unwrap();
        assert!(
            written.ends_with("Z\",\"a\":1,\"b\":2,\"c\":3,\"d\":{\"e\":\"f\",\"h\":1002.003},\"i\":{}}\n"),
            "{written}"
        );
    }
}
