//! A line of the access log. It is written by hand: there is one for every request, and most of what a general serialiser
//! takes for it is avoidable.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use time::OffsetDateTime;

/// One request or connection. What is not there is left out.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// In UTC.
    pub(super) time: OffsetDateTime,
    pub(super) id: u64,
    pub(super) kind: &'static str,
    pub(super) scheme: &'static str,
    pub(super) visitor: SocketAddr,
    pub(super) method: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    pub(super) path: Option<&'a str>,
    pub(super) query: Option<&'a str>,
    pub(super) version: Option<&'static str>,
    pub(super) account: Option<&'a str>,
    pub(super) endpoint: Option<&'a EndpointUrl>,
    pub(super) to: Option<&'a EndpointUrl>,
    pub(super) session: Option<u64>,
    pub(super) credential: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
    pub(super) verdict: &'static str,
    pub(super) rule: Option<Rule<'a>>,
    pub(super) status: Option<u16>,
    /// The number of an ERR_NGROK code.
    pub(super) error: Option<u32>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) times: Times,
    pub(super) end: &'static str,
}

/// The rule that decided last.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// Whose policy it is in.
    pub(super) endpoint: &'a EndpointUrl,
    pub(super) phase: &'static str,
    /// Its name, or its place in the phase.
    pub(super) rule: String,
}

/// What each leg took.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) policy: Option<Duration>,
    pub(super) open: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) total: Duration,
}

impl Line<'_> {
    /// As an object of JSON.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut object = Object::new(Vec::with_capacity(USUAL_BYTES));
        object.time("time", self.time);
        object.number("id", Some(self.id));
        object.word("kind", Some(self.kind));
        object.word("scheme", Some(self.scheme));
        object.address("visitor", self.visitor);
        object.text("method", self.method);
        object.text("host", self.host);
        object.text("path", self.path);
        object.text("query", self.query);
        object.word("version", self.version);
        object.text("account", self.account);
        object.url("endpoint", self.endpoint);
        object.url("to", self.to);
        object.number("session", self.session);
        object.text("credential", self.credential);
        object.text("instance", self.instance);
        object.word("verdict", Some(self.verdict));
        if let Some(rule) = &self.rule {
            object.object("rule", |object| {
                object.url("endpoint", Some(rule.endpoint));
                object.word("phase", Some(rule.phase));
                object.text("rule", Some(&rule.rule));
            });
        }
        object.number("status", self.status.map(u64::from));
        object.code("error", self.error);
        object.number("received", Some(self.received));
        object.number("sent", Some(self.sent));
        object.object("ms", |object| {
            object.milliseconds("policy", self.times.policy);
            object.milliseconds("open", self.times.open);
            object.milliseconds("first_byte", self.times.first_byte);
            object.milliseconds("total", Some(self.times.total));
        });
        object.word("end", Some(self.end));
        object.end()
    }
}

/// An object that is being written, member by member; a value that is not there leaves no member.
struct Object {
    out: Vec<u8>,
    is_empty: bool,
}

impl Object {
    fn new(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    fn name(&mut self, name: &'static str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Whatever somebody has said.
    fn text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        // Writing a string into memory does not fail.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// A word of the gateway's own, in which nothing has to be escaped.
    fn word(&mut self, name: &'static str, value: Option<&'static str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.quoted(|out| out.extend_from_slice(value.as_bytes()));
    }

    /// An address of an endpoint, in which nothing has to be escaped either.
    fn url(&mut self, name: &'static str, url: Option<&EndpointUrl>) {
        let Some(url) = url else { return };
        self.name(name);
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

    fn address(&mut self, name: &'static str, address: SocketAddr) {
        self.name(name);
        self.quoted(|out| {
            // Nor does writing an address.
            let _ = write!(out, "{address}");
        });
    }

    fn code(&mut self, name: &'static str, code: Option<u32>) {
        let Some(code) = code else { return };
        self.name(name);
        self.quoted(|out| {
            out.extend_from_slice(b"ERR_NGROK_");
            push_number(out, u64::from(code));
        });
    }

    fn number(&mut self, name: &'static str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.name(name);
        push_number(&mut self.out, value);
    }

    /// Milliseconds with three digits behind the point.
    fn milliseconds(&mut self, name: &'static str, time: Option<Duration>) {
        let Some(time) = time else { return };
        self.name(name);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        push_number(&mut self.out, micros / 1000);
        self.out.push(b'.');
        push_digits::<3>(&mut self.out, micros % 1000);
    }

    /// As RFC 3339 has it, with microseconds.
    fn time(&mut self, name: &'static str, time: OffsetDateTime) {
        self.name(name);
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

    fn object(&mut self, name: &'static str, members: impl FnOnce(&mut Self)) {
        self.name(name);
        self.out.push(b'{');
        self.is_empty = true;
        members(self);
        self.is_empty = false;
        self.out.push(b'}');
    }

    fn quoted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b'"');
        write(&mut self.out);
        self.out.push(b'"');
    }
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

/// More than most lines have.
const USUAL_BYTES: usize = 768;
/// Of the largest number.
const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn line<'a>(endpoint: &'a EndpointUrl, rule: &str) -> Line<'a> {
        Line {
            time: datetime!(2031-02-03 04:05:06.000_789_999 UTC),
            id: u64::MAX,
            kind: "request",
            scheme: "https",
            visitor: "[2001:db8::1]:443".parse().unwrap(),
            method: None,
            host: Some("a\"\\\n\u{1}\u{7f}ü"),
            path: Some(""),
            query: None,
            version: Some("1.1"),
            account: Some("main"),
            endpoint: Some(endpoint),
            to: None,
            session: Some(0),
            credential: None,
            instance: None,
            verdict: "deny",
            rule: Some(Rule { endpoint, phase: "on_http_request", rule: rule.to_owned() }),
            status: Some(404),
            error: Some(3200),
            received: 10,
            sent: 1_234_567_890,
            times: Times {
                policy: Some(Duration::from_nanos(1_999)),
                open: None,
                first_byte: Some(Duration::from_secs(100)),
                total: Duration::from_millis(1),
            },
            end: "done",
        }
    }

    #[test]
    fn line_is_an_object_with_every_member_that_there_is() {
        let endpoint = EndpointUrl::parse("https://*.example.com:8443").unwrap();
        let written = line(&endpoint, "stop \"here\"").to_json();
        let read: Value = serde_json::from_slice(&written).unwrap();
        let expected = json!({
            "time": "2031-02-03T04:05:06.000789Z", "id": u64::MAX, "kind": "request", "scheme": "https",
            "visitor": "[2001:db8::1]:443", "host": "a\"\\\n\u{1}\u{7f}ü", "path": "", "version": "1.1",
            "account": "main", "endpoint": endpoint.to_string(), "session": 0, "verdict": "deny",
            "rule": {"endpoint": endpoint.to_string(), "phase": "on_http_request", "rule": "stop \"here\""},
            "status": 404, "error": "ERR_NGROK_3200", "received": 10, "sent": 1_234_567_890,
            "ms": {"policy": 0.001, "first_byte": 100_000.0, "total": 1.0}, "end": "done",
        });
        assert_eq!(read, expected, "{}", String::from_utf8_lossy(&written));
    }

    #[test]
    fn address_of_an_endpoint_is_written_as_it_is_shown() {
        for url in
            ["https://a.example.com", "http://a.example.com:8080", "tcp://db.internal:5432", "tls://[2001:db8::1]:9"]
        {
            let url = EndpointUrl::parse(url).unwrap();
            let mut object = Object::new(Vec::new());
            object.url("url", Some(&url));
            let written = String::from_utf8(object.end()).unwrap();
            assert_eq!(written, format!("{{\"url\":\"{url}\"}}"));
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
}
