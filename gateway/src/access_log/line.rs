//! A line of the access log, which is written while its request or connection lasts: what is known is written at once, so
//! that nothing has to be kept for it.

use std::net::SocketAddr;
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use time::OffsetDateTime;

use super::Site;
use super::object::Object;
use crate::policy::Decided;

/// The line of one request or connection. What is not there is left out. Its members are in this order:
/// who asked for what, the endpoint, where it was sent to, what a rule decided, and how it ended.
#[derive(Debug)]
pub(super) struct Line {
    object: Object,
    /// Where the members of each part end, for parts that come late or once more.
    asked: usize,
    arrived: usize,
    sent: usize,
}

/// What a visitor asked for.
#[derive(Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) version: &'static str,
}

/// What is known when it is over.
#[derive(Debug)]
pub(super) struct End {
    pub(super) status: Option<u16>,
    /// The number of an ERR_NGROK code.
    pub(super) error: Option<u32>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) times: Times,
    pub(super) end: &'static str,
}

/// What each leg took.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) policy: Option<Duration>,
    pub(super) open: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) total: Duration,
}

impl Line {
    /// Begins it in this buffer; `opening` is what [`opening`] gave for the connection.
    pub(super) fn begin(
        buffer: Vec<u8>,
        time: OffsetDateTime,
        opening: &[u8],
        request: Option<&RequestLine<'_>>,
    ) -> Self {
        let mut object = Object::begin(buffer, r#"{"time":""#, time);
        object.members(opening);
        if let Some(request) = request {
            object.text(r#","method":""#, Some(request.method));
            object.text(r#","host":""#, Some(request.host));
            object.text(r#","path":""#, Some(request.path));
            object.text(r#","query":""#, request.query);
            object.word(r#","version":""#, request.version);
        }
        let len = object.len();
        Self { object, asked: len, arrived: len, sent: len }
    }

    /// It came to this endpoint.
    pub(super) fn came_to(&mut self, account: &str, endpoint: &EndpointUrl) {
        let before = self.arrived;
        self.arrived = self.object.replace(self.asked, self.arrived, |object| {
            object.text(r#","account":""#, Some(account));
            object.url(r#","endpoint":""#, endpoint);
        });
        self.sent = self.sent - before + self.arrived;
    }

    /// It is sent to this endpoint of an agent.
    pub(super) fn sent_to(&mut self, to: &EndpointUrl, session: u64, site: Option<&Site>) {
        self.sent = self.object.replace(self.arrived, self.sent, |object| {
            object.url(r#","to":""#, to);
            object.number(r#","session":"#, Some(session));
            object.text(r#","credential":""#, site.map(|site| &*site.credential));
            object.text(r#","instance":""#, site.and_then(|site| site.instance.as_deref()));
        });
    }

    /// A rule of this endpoint's policy decided; the last one counts.
    pub(super) fn decided(&mut self, endpoint: &EndpointUrl, decided: &Decided) {
        self.object.replace(self.sent, self.object.len(), |object| {
            object.word(r#","verdict":""#, decided.verdict);
            object.url(r#","rule":{"endpoint":""#, endpoint);
            object.word(r#","phase":""#, decided.phase);
            match &decided.name {
                Some(_) => object.text(r#","rule":""#, Some(&decided.rule())),
                None => object.quoted_number(r#","rule":""#, decided.place as u64),
            }
            object.plain("}");
        });
    }

    /// The whole line, with its end.
    pub(super) fn end(&mut self, end: &End) -> &[u8] {
        let object = &mut self.object;
        if object.len() == self.sent {
            object.plain(r#","verdict":"continue""#);
        }
        object.number(r#","status":"#, end.status.map(u64::from));
        object.code(r#","error":""#, end.error);
        object.number(r#","received":"#, Some(end.received));
        object.number(r#","sent":"#, Some(end.sent));
        object.plain(r#","ms":{"#);
        object.milliseconds(r#""policy":"#, end.times.policy, ",");
        object.milliseconds(r#""open":"#, end.times.open, ",");
        object.milliseconds(r#""first_byte":"#, end.times.first_byte, ",");
        object.milliseconds(r#""total":"#, Some(end.times.total), "}");
        object.word(r#","end":""#, end.end);
        object.end()
    }

    /// The buffer for the next line, unless this one was unusually long.
    pub(super) fn into_buffer(self) -> Option<Vec<u8>> {
        Some(self.object.into_buffer()).filter(|buffer| buffer.capacity() <= USUAL_BYTES)
    }
}

/// What all lines of a connection have behind their time.
pub(super) fn opening(id: u64, kind: &'static str, scheme: &'static str, visitor: SocketAddr) -> Box<[u8]> {
    let mut object = Object::members_only();
    object.number(r#","id":"#, Some(id));
    object.word(r#","kind":""#, kind);
    object.word(r#","scheme":""#, scheme);
    object.address(r#","visitor":""#, visitor);
    object.into_buffer().into()
}

/// A buffer for a line.
pub(super) fn buffer() -> Vec<u8> {
    Vec::with_capacity(USUAL_BYTES)
}

/// More than most lines have.
const USUAL_BYTES: usize = 768;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn begin() -> Line {
        let opening = opening(u64::MAX, "request", "https", "[2001:db8::1]:443".parse().unwrap());
        let host = "a\"\\\n\u{1}\u{7f}ü";
        let request = RequestLine { method: "GET", host, path: "", query: None, version: "1.1" };
        // In a buffer that was used before.
        let buffer = b"old".to_vec();
        Line::begin(buffer, datetime!(2031-02-03 04:05:06.000_789_999 UTC), &opening, Some(&request))
    }

    fn end(mut line: Line) -> String {
        let times = Times {
            policy: Some(Duration::from_nanos(1_999)),
            open: None,
            first_byte: Some(Duration::from_secs(100)),
            total: Duration::from_millis(1),
        };
        let end = End { status: Some(404), error: Some(3200), received: 10, sent: 1_234_567_890, times, end: "done" };
        String::from_utf8(line.end(&end).to_vec()).unwrap()
    }

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    fn decided(name: &str, verdict: &'static str) -> Decided {
        Decided { phase: "on_http_request", place: 0, name: Some(name.into()), verdict }
    }

    #[test]
    fn rule_without_a_name_has_its_place() {
        let url = url("https://a.example.com");
        let mut line = begin();
        line.decided(&url, &Decided { name: None, place: 12, ..decided("", "deny") });
        let written = end(line);
        assert!(written.contains(r#","phase":"on_http_request","rule":"12"},"#), "{written}");
    }

    fn site(instance: Option<&str>) -> Site {
        Site { credential: "north".into(), instance: instance.map(Into::into) }
    }

    #[test]
    fn line_is_an_object_with_every_member_that_there_is() {
        let (public, internal) = (url("https://*.example.com:8443"), url("https://a.internal"));
        let mut line = begin();
        line.came_to("main", &public);
        line.decided(&public, &decided("first", "forward"));
        line.sent_to(&internal, 0, Some(&site(Some("box \"7\""))));
        line.decided(&internal, &decided("stop \"here\"", "deny"));
        let written = end(line);
        let read: Value = serde_json::from_str(&written).unwrap();
        let expected = json!({
            "time": "2031-02-03T04:05:06.000789Z", "id": u64::MAX, "kind": "request", "scheme": "https",
            "visitor": "[2001:db8::1]:443", "method": "GET", "host": "a\"\\\n\u{1}\u{7f}ü", "path": "", "version": "1.1",
            "account": "main", "endpoint": public.to_string(), "to": internal.to_string(), "session": 0,
            "credential": "north", "instance": "box \"7\"", "verdict": "deny",
            "rule": {"endpoint": internal.to_string(), "phase": "on_http_request", "rule": "stop \"here\""},
            "status": 404, "error": "ERR_NGROK_3200", "received": 10, "sent": 1_234_567_890,
            "ms": {"policy": 0.001, "first_byte": 100_000.0, "total": 1.0}, "end": "done",
        });
        assert_eq!(read, expected, "{written}");
        assert!(written.ends_with("}\n") && written.lines().count() == 1);
    }

    #[test]
    fn what_comes_once_more_takes_the_place_of_what_was_there() {
        let (one, two) = (url("https://one.example.com"), url("https://two.example.com:8443"));
        let mut line = begin();
        line.decided(&one, &decided("a", "forward"));
        line.sent_to(&one, 1, Some(&site(Some("old"))));
        line.came_to("first", &one);
        line.came_to("second account", &two);
        line.sent_to(&two, 22, Some(&site(None)));
        let written = end(line);
        let expected = "\"version\":\"1.1\",\"account\":\"second account\",\"endpoint\":\"https://two.example.com:8443\",\
            \"to\":\"https://two.example.com:8443\",\"session\":22,\"credential\":\"north\",\"verdict\":\"forward\",\
            \"rule\":{\"endpoint\":\"https://one.example.com\",\"phase\":\"on_http_request\",\"rule\":\"a\"},\"status\":404,";
        assert!(written.contains(expected), "{written}");
    }

    #[test]
    fn what_has_not_happened_is_left_out() {
        let opening = opening(1, "connection", "tcp", "192.0.2.1:1".parse().unwrap());
        let mut line = Line::begin(buffer(), datetime!(2031-02-03 04:05:06 UTC), &opening, None);
        let times = Times { policy: None, open: None, first_byte: None, total: Duration::ZERO };
        let over = End { status: None, error: None, received: 0, sent: 0, times, end: "aborted" };
        let written = String::from_utf8(line.end(&over).to_vec()).unwrap();
        let expected = "{\"time\":\"2031-02-03T04:05:06.000000Z\",\"id\":1,\"kind\":\"connection\",\"scheme\":\"tcp\",\
            \"visitor\":\"192.0.2.1:1\",\"verdict\":\"continue\",\"received\":0,\"sent\":0,\"ms\":{\"total\":0.000},\
            \"end\":\"aborted\"}\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn buffer_of_an_unusually_long_line_is_not_kept() {
        let mut line = Line::begin(buffer(), datetime!(2031-02-03 04:05:06 UTC), &[], None);
        assert!(line.object.len() < USUAL_BYTES);
        line.came_to(&"a".repeat(USUAL_BYTES), &url("https://a.example.com"));
        assert_eq!(line.into_buffer(), None);
        let line = Line::begin(buffer(), datetime!(2031-02-03 04:05:06 UTC), &[], None);
        assert!(line.into_buffer().is_some_and(|buffer| buffer.capacity() == USUAL_BYTES));
    }
}
