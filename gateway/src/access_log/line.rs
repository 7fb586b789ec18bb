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

/// What is known when it begins.
#[derive(Debug)]
pub(super) struct Beginning<'a> {
    /// In UTC.
    pub(super) time: OffsetDateTime,
    pub(super) id: u64,
    pub(super) kind: &'static str,
    pub(super) scheme: &'static str,
    pub(super) visitor: SocketAddr,
    /// `None` for a connection.
    pub(super) request: Option<RequestLine<'a>>,
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
    pub(super) fn begin(beginning: &Beginning<'_>) -> Self {
        let mut object = Object::begin(USUAL_BYTES, "time", beginning.time);
        object.number("id", Some(beginning.id));
        object.word("kind", Some(beginning.kind));
        object.word("scheme", Some(beginning.scheme));
        object.address("visitor", beginning.visitor);
        if let Some(request) = &beginning.request {
            object.text("method", Some(request.method));
            object.text("host", Some(request.host));
            object.text("path", Some(request.path));
            object.text("query", request.query);
            object.word("version", Some(request.version));
        }
        let len = object.len();
        Self { object, asked: len, arrived: len, sent: len }
    }

    /// It came to this endpoint.
    pub(super) fn came_to(&mut self, account: &str, endpoint: &EndpointUrl) {
        let before = self.arrived;
        self.arrived = self.object.replace(self.asked, self.arrived, |object| {
            object.text("account", Some(account));
            object.url("endpoint", endpoint);
        });
        self.sent = self.sent - before + self.arrived;
    }

    /// It is sent to this endpoint of an agent.
    pub(super) fn sent_to(&mut self, to: &EndpointUrl, session: u64, site: Option<&Site>) {
        self.sent = self.object.replace(self.arrived, self.sent, |object| {
            object.url("to", to);
            object.number("session", Some(session));
            object.text("credential", site.map(|site| &*site.credential));
            object.text("instance", site.and_then(|site| site.instance.as_deref()));
        });
    }

    /// A rule of this endpoint's policy decided; the last one counts.
    pub(super) fn decided(&mut self, endpoint: &EndpointUrl, decided: &Decided) {
        self.object.replace(self.sent, self.object.len(), |object| {
            object.word("verdict", Some(decided.verdict));
            object.object("rule", |object| {
                object.url("endpoint", endpoint);
                object.word("phase", Some(decided.phase));
                object.text("rule", Some(&decided.rule()));
            });
        });
    }

    /// The whole line, with its end.
    pub(super) fn end(&mut self, end: &End) -> &[u8] {
        let object = &mut self.object;
        if object.len() == self.sent {
            object.word("verdict", Some("continue"));
        }
        object.number("status", end.status.map(u64::from));
        object.code("error", end.error);
        object.number("received", Some(end.received));
        object.number("sent", Some(end.sent));
        object.object("ms", |object| {
            object.milliseconds("policy", end.times.policy);
            object.milliseconds("open", end.times.open);
            object.milliseconds("first_byte", end.times.first_byte);
            object.milliseconds("total", Some(end.times.total));
        });
        object.word("end", Some(end.end));
        object.end()
    }
}

/// More than most lines have.
const USUAL_BYTES: usize = 768;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn begin() -> Line {
        Line::begin(&Beginning {
            time: datetime!(2031-02-03 04:05:06.000_789_999 UTC),
            id: u64::MAX,
            kind: "request",
            scheme: "https",
            visitor: "[2001:db8::1]:443".parse().unwrap(),
            request: Some(RequestLine {
                method: "GET",
                host: "a\"\\\n\u{1}\u{7f}ü",
                path: "",
                query: None,
                version: "1.1",
            }),
        })
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
        let beginning = Beginning {
            time: datetime!(2031-02-03 04:05:06 UTC),
            id: 1,
            kind: "connection",
            scheme: "tcp",
            visitor: "192.0.2.1:1".parse().unwrap(),
            request: None,
        };
        let times = Times { policy: None, open: None, first_byte: None, total: Duration::ZERO };
        let over = End { status: None, error: None, received: 0, sent: 0, times, end: "aborted" };
        let written = String::from_utf8(Line::begin(&beginning).end(&over).to_vec()).unwrap();
        let expected = "{\"time\":\"2031-02-03T04:05:06.000000Z\",\"id\":1,\"kind\":\"connection\",\"scheme\":\"tcp\",\
            \"visitor\":\"192.0.2.1:1\",\"verdict\":\"continue\",\"received\":0,\"sent\":0,\"ms\":{\"total\":0.000},\
            \"end\":\"aborted\"}\n";
        assert_eq!(written, expected);
    }
}
