//! A line of the access log, which is written while its request or connection lasts: what is known is written at once, so
//! that nothing has to be kept for it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::Site;
use super::object::{Object, Stamp};
use super::spot::Spot;
use crate::http::reach::{PublicEndpoint, Target};
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
    known: Known,
}

/// What the last line of the connection said: as a rule, the next one says the same again.
#[derive(Debug, Default)]
struct Known {
    stamp: Stamp,
    arrived: Part<Spot>,
    sent: Part<Spot>,
    decided: Part<(Spot, Decided)>,
}

/// Members, and what they tell of.
#[derive(Debug)]
struct Part<T> {
    of: Option<T>,
    members: Box<[u8]>,
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
    /// Begins it in place of an earlier line of the connection, if there is one; `opening` is what [`opening`] gave for the
    /// connection.
    pub(super) fn begin(
        earlier: Option<Box<Self>>,
        time: SystemTime,
        opening: &[u8],
        request: Option<&RequestLine<'_>>,
    ) -> Box<Self> {
        let mut line = earlier.unwrap_or_else(Self::new);
        let object = &mut line.object;
        object.begin(r#"{"time":""#, line.known.stamp.at(time));
        object.members(opening);
        if let Some(request) = request {
            object.text(r#","method":""#, Some(request.method));
            object.text(r#","host":""#, Some(request.host));
            object.text(r#","path":""#, Some(request.path));
            object.text(r#","query":""#, request.query);
            object.word(r#","version":""#, request.version);
        }
        let len = object.len();
        (line.asked, line.arrived, line.sent) = (len, len, len);
        line
    }

    fn new() -> Box<Self> {
        let object = Object::with_capacity(USUAL_BYTES);
        Box::new(Self { object, asked: 0, arrived: 0, sent: 0, known: Known::default() })
    }

    /// It came to this endpoint.
    pub(super) fn came_to(&mut self, endpoint: &PublicEndpoint) {
        let (before, part) = (self.arrived, &mut self.known.arrived);
        self.arrived = self.object.replace(self.asked, self.arrived, |object| {
            if part.of.as_ref().is_some_and(|spot| spot.is(endpoint)) {
                return object.members(&part.members);
            }
            *part = Part::write(Spot::of(endpoint), object, |object| {
                object.text(r#","account":""#, Some(endpoint.account()));
                object.url(r#","endpoint":""#, endpoint.url());
            });
        });
        self.sent = self.sent - before + self.arrived;
    }

    /// It is sent to the same endpoint of an agent as the last one. False if it is not: [`Line::sent_to`] has to say where to.
    pub(super) fn sent_again(&mut self, target: &Target) -> bool {
        let part = &self.known.sent;
        if !part.of.as_ref().is_some_and(|spot| spot.is_target(target)) {
            return false;
        }
        self.sent = self.object.replace(self.arrived, self.sent, |object| object.members(&part.members));
        true
    }

    /// It is sent to this endpoint of an agent.
    pub(super) fn sent_to(&mut self, target: &Target, site: Option<&Site>) {
        let part = &mut self.known.sent;
        self.sent = self.object.replace(self.arrived, self.sent, |object| {
            *part = Part::write(Spot::of_target(target), object, |object| {
                object.url(r#","to":""#, &target.url);
                object.number(r#","session":"#, Some(target.location.session.0));
                object.text(r#","credential":""#, site.map(|site| &*site.credential));
                object.text(r#","instance":""#, site.and_then(|site| site.instance.as_deref()));
            });
            if site.is_none() {
                // The session has ended meanwhile, and whose it was is not known.
                part.of = None;
            }
        });
    }

    /// A rule of this endpoint's policy decided; the last one counts.
    pub(super) fn decided(&mut self, endpoint: &PublicEndpoint, decided: &Decided) {
        let part = &mut self.known.decided;
        self.object.replace(self.sent, self.object.len(), |object| {
            if part.of.as_ref().is_some_and(|(spot, last)| spot.is(endpoint) && last == decided) {
                return object.members(&part.members);
            }
            *part = Part::write((Spot::of(endpoint), decided.clone()), object, |object| {
                object.word(r#","verdict":""#, decided.verdict);
                object.url(r#","rule":{"endpoint":""#, endpoint.url());
                object.word(r#","phase":""#, decided.phase);
                match &decided.name {
                    Some(_) => object.text(r#","rule":""#, Some(&decided.rule())),
                    None => object.quoted_number(r#","rule":""#, decided.place as u64),
                }
                object.plain("}");
            });
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

    /// It is over, and the next one may come in its place. What an unusually long one had room for is given back.
    pub(super) fn rest(&mut self) {
        if self.object.capacity() > USUAL_BYTES {
            self.object = Object::with_capacity(USUAL_BYTES);
        }
    }
}

impl<T> Part<T> {
    /// Writes members and keeps them.
    fn write(of: T, object: &mut Object, write: impl FnOnce(&mut Object)) -> Self {
        let from = object.len();
        write(object);
        Self { of: Some(of), members: object.since(from).into() }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { of: None, members: Box::default() }
    }
}

/// What all lines of a connection have behind their time.
pub(super) fn opening(id: u64, kind: &'static str, scheme: &'static str, visitor: SocketAddr) -> Box<[u8]> {
    let mut object = Object::with_capacity(0);
    object.number(r#","id":"#, Some(id));
    object.word(r#","kind":""#, kind);
    object.word(r#","scheme":""#, scheme);
    object.address(r#","visitor":""#, visitor);
    object.since(0).into()
}

/// More than most lines have.
const USUAL_BYTES: usize = 768;

#[cfg(test)]
mod tests {
    use adit::endpoint_url::EndpointUrl;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;
    use crate::http::reach::{CloudEndpoint, GatewayId, Location, SessionId};
    use crate::policy::{Place, Policy};

    fn request() -> RequestLine<'static> {
        RequestLine { method: "GET", host: "a\"\\\n\u{1}\u{7f}ü", path: "", query: None, version: "1.1" }
    }

    /// One behind the last one of its connection, or the first one.
    fn behind(earlier: Option<Box<Line>>) -> Box<Line> {
        let opening = opening(u64::MAX, "request", "https", "[2001:db8::1]:443".parse().unwrap());
        let time = datetime!(2031-02-03 04:05:06.000_789_999 UTC);
        Line::begin(earlier, time.into(), &opening, Some(&request()))
    }

    fn begin() -> Box<Line> {
        behind(None)
    }

    fn end(line: &mut Line) -> String {
        let times = Times {
            policy: Some(Duration::from_nanos(1_999)),
            open: None,
            first_byte: Some(Duration::from_secs(100)),
            total: Duration::from_millis(1),
        };
        let end = End { status: Some(404), error: Some(3200), received: 10, sent: 1_234_567_890, times, end: "done" };
        String::from_utf8(line.end(&end).to_vec()).unwrap()
    }

    fn target(account: &str, url: &str, session: u64) -> Target {
        Target {
            location: Location {
                gateway: GatewayId::Local,
                session: SessionId(session),
                bind: format!("ep_{url}").into(),
            },
            url: EndpointUrl::parse(url).unwrap(),
            account: account.into(),
            forwards_to: "".into(),
            forwards_proto: "".into(),
            client_type: "".into(),
            policy: None,
        }
    }

    fn agent(account: &str, url: &str) -> PublicEndpoint {
        PublicEndpoint::Agent(target(account, url, 7))
    }

    fn cloud(account: &str, url: &str) -> PublicEndpoint {
        let url = EndpointUrl::parse(url).unwrap();
        let policy = r#"{"on_http_request": [{"actions": [{"type": "deny"}]}]}"#;
        let policy = Policy::parse(policy, Place::cloud(&url)).unwrap().into();
        PublicEndpoint::Cloud(CloudEndpoint { url, account: account.into(), policy }.into())
    }

    fn decided(name: &str, verdict: &'static str) -> Decided {
        Decided { phase: "on_http_request", place: 0, name: Some(name.into()), verdict }
    }

    fn site(instance: Option<&str>) -> Site {
        Site { credential: "north".into(), instance: instance.map(Into::into) }
    }

    #[test]
    fn rule_without_a_name_has_its_place() {
        let mut line = begin();
        line.decided(
            &agent("main", "https://a.example.com"),
            &Decided { name: None, place: 12, ..decided("", "deny") },
        );
        let written = end(&mut line);
        assert!(written.contains(r#","phase":"on_http_request","rule":"12"},"#), "{written}");
    }

    #[test]
    fn line_is_an_object_with_every_member_that_there_is() {
        let public = cloud("main", "https://*.example.com:8443");
        let internal = target("main", "https://a.internal", 0);
        let mut line = begin();
        line.came_to(&public);
        line.decided(&public, &decided("first", "forward"));
        line.sent_to(&internal, Some(&site(Some("box \"7\""))));
        line.decided(&PublicEndpoint::Agent(internal.clone()), &decided("stop \"here\"", "deny"));
        let written = end(&mut line);
        let read: Value = serde_json::from_str(&written).unwrap();
        let expected = json!({
            "time": "2031-02-03T04:05:06.000789Z", "id": u64::MAX, "kind": "request", "scheme": "https",
            "visitor": "[2001:db8::1]:443", "method": "GET", "host": "a\"\\\n\u{1}\u{7f}ü", "path": "", "version": "1.1",
            "account": "main", "endpoint": public.url().to_string(), "to": internal.url.to_string(), "session": 0,
            "credential": "north", "instance": "box \"7\"", "verdict": "deny",
            "rule": {"endpoint": internal.url.to_string(), "phase": "on_http_request", "rule": "stop \"here\""},
            "status": 404, "error": "ERR_NGROK_3200", "received": 10, "sent": 1_234_567_890,
            "ms": {"policy": 0.001, "first_byte": 100_000.0, "total": 1.0}, "end": "done",
        });
        assert_eq!(read, expected, "{written}");
        assert!(written.ends_with("}\n") && written.lines().count() == 1);
    }

    #[test]
    fn what_comes_once_more_takes_the_place_of_what_was_there() {
        let (one, two) = ("https://one.example.com", "https://two.example.com:8443");
        let mut line = begin();
        line.decided(&agent("first", one), &decided("a", "forward"));
        line.sent_to(&target("first", one, 1), Some(&site(Some("old"))));
        line.came_to(&agent("first", one));
        line.came_to(&agent("second account", two));
        line.sent_to(&target("second account", two, 22), Some(&site(None)));
        let written = end(&mut line);
        let expected = "\"version\":\"1.1\",\"account\":\"second account\",\"endpoint\":\"https://two.example.com:8443\",\
            \"to\":\"https://two.example.com:8443\",\"session\":22,\"credential\":\"north\",\"verdict\":\"forward\",\
            \"rule\":{\"endpoint\":\"https://one.example.com\",\"phase\":\"on_http_request\",\"rule\":\"a\"},\"status\":404,";
        assert!(written.contains(expected), "{written}");
    }

    /// What happens to one request, as its visit notes it.
    #[derive(Clone)]
    struct Way {
        public: PublicEndpoint,
        decided: Decided,
        target: Target,
        site: Option<Site>,
    }

    impl Way {
        fn note(&self, line: &mut Line) {
            line.came_to(&self.public);
            line.decided(&self.public, &self.decided);
            if !line.sent_again(&self.target) {
                line.sent_to(&self.target, self.site.as_ref());
            }
        }
    }

    #[test]
    fn line_behind_any_other_is_as_if_it_were_the_first_one() {
        let first = Way {
            public: cloud("main", "https://a.example.com"),
            decided: decided("rule", "forward"),
            target: target("main", "https://a.internal", 3),
            site: Some(site(Some("box"))),
        };
        let other = |change: &dyn Fn(&mut Way)| {
            let mut way = first.clone();
            change(&mut way);
            way
        };
        let ways = [
            first.clone(),
            // Configured anew: alike, and yet another one.
            other(&|way| way.public = cloud("changed", "https://a.example.com")),
            other(&|way| way.public = agent("main", "https://b.example.com")),
            other(&|way| way.public = PublicEndpoint::Agent(target("main", "https://a.example.com", 8))),
            other(&|way| way.decided.verdict = "deny"),
            other(&|way| way.decided.phase = "on_http_response"),
            other(&|way| way.decided.name = Some("another".into())),
            other(&|way| way.decided = Decided { name: None, place: 1, ..way.decided }),
            other(&|way| way.decided = Decided { name: None, place: 2, ..way.decided }),
            other(&|way| way.target.location.session = SessionId(4)),
            // The same session binds more than one endpoint, and an Id anew with another address.
            other(&|way| way.target.url = EndpointUrl::parse("https://d.internal").unwrap()),
            other(&|way| way.target = target("main", "https://b.internal", 3)),
            other(&|way| (way.target, way.site) = (target("main", "https://c.internal", 5), None)),
            other(&|way| (way.target, way.site) = (target("main", "https://c.internal", 6), Some(site(None)))),
        ];
        let alone = |way: &Way| {
            let mut line = begin();
            way.note(&mut line);
            end(&mut line)
        };
        for one in &ways {
            for two in &ways {
                let mut line = begin();
                one.note(&mut line);
                end(&mut line);
                line.rest();
                for _ in 0..2 {
                    line = behind(Some(line));
                    two.note(&mut line);
                    assert_eq!(end(&mut line), alone(two), "behind {}", alone(one));
                    line.rest();
                }
            }
        }
    }

    #[test]
    fn site_that_was_not_found_is_looked_for_again() {
        let target = target("main", "https://a.internal", 1);
        let mut line = begin();
        line.sent_to(&target, None);
        assert!(!line.sent_again(&target));
        line.sent_to(&target, Some(&site(None)));
        assert!(line.sent_again(&target));
        let written = end(&mut line);
        assert_eq!(written.matches("\"credential\":\"north\"").count(), 1, "{written}");
    }

    #[test]
    fn what_has_not_happened_is_left_out() {
        let opening = opening(1, "connection", "tcp", "192.0.2.1:1".parse().unwrap());
        let mut line = Line::begin(None, datetime!(2031-02-03 04:05:06 UTC).into(), &opening, None);
        let times = Times { policy: None, open: None, first_byte: None, total: Duration::ZERO };
        let over = End { status: None, error: None, received: 0, sent: 0, times, end: "aborted" };
        let written = String::from_utf8(line.end(&over).to_vec()).unwrap();
        let expected = "{\"time\":\"2031-02-03T04:05:06.000000Z\",\"id\":1,\"kind\":\"connection\",\"scheme\":\"tcp\",\
            \"visitor\":\"192.0.2.1:1\",\"verdict\":\"continue\",\"received\":0,\"sent\":0,\"ms\":{\"total\":0.000},\
            \"end\":\"aborted\"}\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn room_of_an_unusually_long_line_is_not_kept() {
        let mut line = begin();
        assert!(line.object.len() < USUAL_BYTES);
        line.came_to(&agent(&"a".repeat(USUAL_BYTES), "https://a.example.com"));
        end(&mut line);
        line.rest();
        assert_eq!(line.object.capacity(), USUAL_BYTES);
    }
}
