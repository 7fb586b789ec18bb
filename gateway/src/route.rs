//! From a public name to the endpoint that takes the traffic: look-ups and policies in turn, nothing else.

use std::fmt;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::StatusCode;
use tokio::time::Instant;

use crate::access_log::Visit;
use crate::http::reach::{PublicEndpoint, Reach, Target, Unreachable, Visitor};
use crate::login::term::Passage;
use crate::policy::{
    BeforeTls, Connection, Course, CustomResponse, Policy, Position, Refused, Request, Response, State, Tls, Tools,
    Verdict, Withheld,
};
use crate::tls::Termination;

/// What a visitor asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How it speaks.
    pub scheme: Scheme,
    /// The host in lower case, without a trailing dot.
    pub host: &'a str,
    /// The port that the visitor named, or else the one that it came to.
    pub port: u16,
    /// Who it is.
    pub visitor: Visitor,
    /// Its TLS, as far as the gateway sees it.
    pub tls: Tls<'a>,
    /// How its connection has gone so far.
    pub course: &'a Course,
    /// Where it is noted what happens to it.
    pub visit: Option<&'a Visit>,
}

impl Asked<'_> {
    fn came_to(&self, stop: &Stop) {
        if let Some(visit) = self.visit {
            visit.came_to(&stop.endpoint);
        }
    }

    fn decided(&self, stop: &mut Stop) {
        if let (Some(decided), Some(visit)) = (stop.state.take_decided(), self.visit) {
            visit.decided(&stop.endpoint, &decided);
        }
    }

    fn judged(&self, begin: Instant) {
        if let Some(visit) = self.visit {
            visit.judged(begin.elapsed());
        }
    }
}

/// What is to be done with a visitor's traffic.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It goes to this endpoint's agent.
    Target(Box<Target>),
    /// HTTP: it is answered with this status and no body. Others: the connection is closed.
    Deny {
        /// The status for HTTP.
        status: StatusCode,
    },
    /// HTTP: it is answered with a page that says why. Others: the connection is closed.
    Refuse(Box<Refused>),
    /// HTTP: it gets this answer.
    Respond(Arc<CustomResponse>),
    /// The connection is closed without an answer.
    Close,
    /// The visitor's TLS has to end here before more can be decided; never for HTTP.
    TerminateTls(Arc<Termination>),
}

/// Why traffic has no place to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing answers for the name, or for the internal endpoint that a policy names.
    Unreachable(Unreachable),
    /// The policies send it around too long (ERR_NGROK_3501).
    TooManyHops,
    /// The policy of a cloud endpoint let it through, but there is nothing behind a cloud endpoint (ERR_NGROK_6029).
    NotHandled,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => reason.fmt(f),
            Self::TooManyHops => write!(f, "policies forward it through more than {HOPS_MAX} internal endpoints"),
            Self::NotHandled => f.write_str("the policy of the cloud endpoint does not handle it"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Unreachable> for Refusal {
    fn from(reason: Unreachable) -> Self {
        Self::Unreachable(reason)
    }
}

/// The way of a `tls` or `tcp` connection through the policies, which can pause while the visitor's TLS ends.
#[derive(Debug)]
pub struct Journey {
    stop: Stop,
    from: Position,
    hops: usize,
}

impl Journey {
    /// Finds the public endpoint.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; the caller can only close the connection.
    pub fn begin<R: Reach>(reach: &R, asked: &Asked<'_>) -> Result<Self, Refusal> {
        let stop = Stop::public(reach, asked, &Tools::default())?;
        asked.came_to(&stop);
        Ok(Self { stop, from: Position::default(), hops: 0 })
    }

    /// Decides where the connection goes. After [`Decision::TerminateTls`] it is asked again, once TLS has ended.
    ///
    /// # Errors
    ///
    /// As [`Journey::begin`].
    pub fn decide<R: Reach>(&mut self, reach: &R, asked: &Asked<'_>) -> Result<Decision, Refusal> {
        loop {
            let verdict = match self.stop.policy().cloned() {
                Some(policy) => {
                    let connection = Connection::of(&self.stop.endpoint, asked);
                    policy.on_tcp_connect(connection, &mut self.stop.state, self.from)
                }
                None => Verdict::Continue,
            };
            asked.decided(&mut self.stop);
            match verdict {
                Verdict::Continue => return Ok(Decision::Target(Box::new(self.stop.target()?))),
                Verdict::Forward { url, on_error } => {
                    match self.stop.forward(reach, &url, on_error, &Tools::default())? {
                        Way::Next(_) if self.hops == HOPS_MAX => return Err(Refusal::TooManyHops),
                        Way::Next(next) => {
                            *self = Self { stop: *next, from: Position::default(), hops: self.hops + 1 };
                        }
                        // Each turn begins behind an action whose endpoint cannot be reached.
                        Way::Back(position) => self.from = position,
                    }
                }
                Verdict::TerminateTls { termination, then } => {
                    self.from = then;
                    return Ok(Decision::TerminateTls(termination));
                }
                Verdict::Deny { .. } | Verdict::Refuse(_) | Verdict::Respond(_) | Verdict::Close => {
                    return Ok(Decision::Close);
                }
            }
        }
    }
}

/// Finds out how the TLS of a visitor has to end that asks for an `https` endpoint by its name, before there is any request.
pub fn before_tls<R: Reach>(reach: &R, asked: &Asked<'_>) -> BeforeTls {
    // Those who ask for what is not there are told so by HTTP.
    let Ok(stop) = Stop::public(reach, asked, &Tools::default()) else { return BeforeTls::Default };
    stop.policy().map_or(BeforeTls::Default, |policy| policy.before_tls(Connection::of(&stop.endpoint, asked)))
}

/// Decides where an HTTP request goes. The policies may change its head. Those that want to see the response are kept in
/// the trail.
///
/// The public endpoint's `on_tcp_connect` runs for each request, not for each connection: on one connection a visitor
/// may ask for several endpoints, and none of them may miss its rules.
///
/// # Errors
///
/// [`Refusal`]; the caller answers with the page for it.
pub async fn request<R: Reach>(
    reach: &R,
    asked: &Asked<'_>,
    head: &mut http::request::Parts,
    trail: &mut Trail,
) -> Result<Decision, Refusal> {
    let begin = Instant::now();
    let decision = admit(reach, asked, head, trail).await;
    asked.judged(begin);
    decision
}

/// Lets a request through the first phase of its public endpoint's policy, and follows it from there.
async fn admit<R: Reach>(
    reach: &R,
    asked: &Asked<'_>,
    head: &mut http::request::Parts,
    trail: &mut Trail,
) -> Result<Decision, Refusal> {
    let mut stop = Stop::public(reach, asked, &trail.tools)?;
    asked.came_to(&stop);
    if let Some(refused) = stop.policy().and_then(|policy| policy.misdirected(asked.tls, asked.host)) {
        return Ok(Decision::Refuse(Box::new(refused)));
    }
    let admission = match stop.policy().cloned() {
        Some(policy) => {
            let connection = Connection::of(&stop.endpoint, asked);
            policy.on_tcp_connect(connection, &mut stop.state, Position::default())
        }
        None => Verdict::Continue,
    };
    asked.decided(&mut stop);
    match admission {
        Verdict::Continue => {}
        // On another connection it may be let through.
        Verdict::Refuse(refused) if refused.status == StatusCode::MISDIRECTED_REQUEST => {
            return Ok(Decision::Refuse(refused));
        }
        Verdict::Deny { .. } | Verdict::Refuse(_) | Verdict::Respond(_) | Verdict::Close => return Ok(Decision::Close),
        // Documents that say this are refused: raw bytes cannot be handed to an HTTP endpoint, and one without TLS has none
        // to end.
        Verdict::Forward { .. } | Verdict::TerminateTls { .. } => return Err(Refusal::NotHandled),
    }
    walk(reach, asked, head, trail, stop).await
}

/// Decides where a request of a policy's own goes, that is for an internal endpoint of the account.
///
/// # Errors
///
/// As [`request`].
pub async fn internal<R: Reach>(
    reach: &R,
    account: &str,
    url: &EndpointUrl,
    asked: &Asked<'_>,
    head: &mut http::request::Parts,
    trail: &mut Trail,
) -> Result<Decision, Refusal> {
    let stop = Stop::new(PublicEndpoint::Agent(reach.internal(account, url)?), &trail.tools);
    walk(reach, asked, head, trail, stop).await
}

/// Follows a request from its first endpoint to the one that takes it.
async fn walk<R: Reach>(
    reach: &R,
    asked: &Asked<'_>,
    head: &mut http::request::Parts,
    trail: &mut Trail,
    mut stop: Stop,
) -> Result<Decision, Refusal> {
    for _ in 0..=HOPS_MAX {
        let mut from = Position::default();
        let next = loop {
            let verdict = match stop.policy().cloned() {
                Some(policy) => {
                    let mut request = Request { connection: Connection::of(&stop.endpoint, asked), head };
                    policy.on_http_request(&mut request, &mut stop.state, from).await
                }
                None => Verdict::Continue,
            };
            asked.decided(&mut stop);
            match verdict {
                Verdict::Continue => {
                    let target = stop.target()?;
                    trail.stops.push(stop);
                    return Ok(Decision::Target(Box::new(target)));
                }
                Verdict::Forward { url, on_error } => match stop.arrive(reach, &url, on_error, &trail.tools).await {
                    Ok(Way::Next(next)) => break *next,
                    Ok(Way::Back(position)) => from = position,
                    Err(refusal) => {
                        trail.stops.push(stop);
                        return Err(refusal);
                    }
                },
                Verdict::Deny { status } => return Ok(Decision::Deny { status }),
                Verdict::Refuse(refused) => return Ok(Decision::Refuse(refused)),
                Verdict::Respond(response) => {
                    trail.stops.push(stop);
                    return Ok(Decision::Respond(response));
                }
                Verdict::Close => return Ok(Decision::Close),
                Verdict::TerminateTls { .. } => return Err(Refusal::NotHandled),
            }
        };
        trail.stops.push(std::mem::replace(&mut stop, next));
    }
    Err(Refusal::TooManyHops)
}

/// The endpoints that a request went through, in this order.
#[derive(Debug, Default)]
pub struct Trail {
    stops: Vec<Stop>,
    tools: Tools,
}

impl Trail {
    /// A trail on which actions have these tools.
    #[must_use]
    pub fn with(tools: Tools) -> Self {
        Self { stops: Vec::new(), tools }
    }

    /// Notes the host that the visitor asked for, before any policy can change it.
    pub fn came_to(&mut self, host: &http::HeaderValue) {
        self.tools.host = Some(host.clone());
    }

    /// The headers that the policies on the way do not take from a visitor.
    #[must_use]
    pub fn withheld(&self) -> Withheld {
        let mut all = Withheld::default();
        for policy in self.stops.iter().filter_map(Stop::policy) {
            all.extend(policy.withheld());
        }
        all
    }

    /// What a log-in on the way has decided.
    #[must_use]
    pub fn passage(&self) -> Arc<Passage> {
        Arc::clone(&self.tools.passage)
    }

    /// True when a policy on the way wants to see the response.
    #[must_use]
    pub fn wants_response(&self) -> bool {
        self.stops.iter().any(|stop| stop.policy().is_some_and(|policy| policy.has_response_rules()))
    }

    /// Tells the policies on the way whether the service failed to answer as it should.
    pub fn settle(&mut self, has_failed: bool) {
        self.stops.iter_mut().for_each(|stop| stop.state.settle(has_failed));
    }

    /// Runs the policies over a response, that of the last endpoint first. [`Verdict::Continue`] lets it through; whatever
    /// else comes first is what the visitor gets.
    pub async fn respond(
        &mut self,
        asked: &Asked<'_>,
        request: &http::request::Parts,
        head: &mut http::response::Parts,
    ) -> Verdict {
        for stop in self.stops.iter_mut().rev() {
            let Some(policy) = stop.policy().cloned() else { continue };
            let connection = Connection::of(&stop.endpoint, asked);
            let mut response = Response { connection, request, head };
            let begin = Instant::now();
            let verdict = policy.on_http_response(&mut response, &mut stop.state).await;
            asked.judged(begin);
            asked.decided(stop);
            if verdict != Verdict::Continue {
                return verdict;
            }
        }
        Verdict::Continue
    }

    /// Adds what the policies have for the response, whoever makes it.
    pub fn complete(&mut self, headers: &mut http::HeaderMap) {
        self.stops.iter_mut().for_each(|stop| stop.state.complete(headers));
    }
}

/// One endpoint on the way, and what its policy remembers.
#[derive(Debug)]
struct Stop {
    endpoint: PublicEndpoint,
    state: State,
}

/// Where an action that forwards leads to.
enum Way {
    Next(Box<Stop>),
    /// The endpoint cannot be reached, and the policy goes on here.
    Back(Position),
}

impl Stop {
    fn new(endpoint: PublicEndpoint, tools: &Tools) -> Self {
        let state = State::new(Arc::clone(endpoint.account()), tools.clone());
        Self { endpoint, state }
    }

    /// Finds the public endpoint. A visitor may reach the gateway on another port than the endpoint's URL has (a port
    /// mapping, a test set-up), so the scheme's own port is tried when the named one has no endpoint.
    fn public<R: Reach>(reach: &R, asked: &Asked<'_>, tools: &Tools) -> Result<Self, Refusal> {
        if asked.host.ends_with(INTERNAL_SUFFIX) {
            return Err(Unreachable::Offline.into());
        }
        let found = reach.public(asked.scheme, asked.host, asked.port);
        match (found, asked.scheme.default_port()) {
            (Err(Unreachable::Offline), Some(port)) if port != asked.port => {
                Ok(Self::new(reach.public(asked.scheme, asked.host, port)?, tools))
            }
            (found, _) => Ok(Self::new(found?, tools)),
        }
    }

    /// As [`Stop::forward`], after a wait for an endpoint that may be on its way.
    async fn arrive<R: Reach>(
        &mut self,
        reach: &R,
        url: &EndpointUrl,
        on_error: Option<Position>,
        tools: &Tools,
    ) -> Result<Way, Refusal> {
        let account = Arc::from(self.endpoint.account());
        let account: &str = &account;
        reach.arrival(account, url).await;
        self.forward(reach, url, on_error, tools)
    }

    fn forward<R: Reach>(
        &mut self,
        reach: &R,
        url: &EndpointUrl,
        on_error: Option<Position>,
        tools: &Tools,
    ) -> Result<Way, Refusal> {
        let account = self.endpoint.account();
        match (reach.internal(account, url), on_error) {
            (Ok(target), _) => Ok(Way::Next(Box::new(Self::new(PublicEndpoint::Agent(target), tools)))),
            (Err(reason), Some(position)) => {
                let code = match &reason {
                    Unreachable::Offline => ENDPOINT_OFFLINE,
                    Unreachable::Held { code, .. } => *code,
                };
                self.state.forward_failed(&url.to_string(), code, &reason.to_string());
                Ok(Way::Back(position))
            }
            (Err(reason), None) => Err(reason.into()),
        }
    }

    fn policy(&self) -> Option<&Arc<Policy>> {
        match &self.endpoint {
            PublicEndpoint::Cloud(endpoint) => Some(&endpoint.policy),
            PublicEndpoint::Agent(target) => target.policy.as_ref(),
        }
    }

    fn target(&self) -> Result<Target, Refusal> {
        match &self.endpoint {
            PublicEndpoint::Cloud(_) => Err(Refusal::NotHandled),
            PublicEndpoint::Agent(target) => Ok(target.clone()),
        }
    }
}

impl<'a> Connection<'a> {
    fn of(endpoint: &'a PublicEndpoint, asked: &Asked<'a>) -> Self {
        let (endpoint, bind) = match endpoint {
            PublicEndpoint::Cloud(endpoint) => (&endpoint.url, None),
            PublicEndpoint::Agent(target) => (&target.url, Some(&*target.location.bind)),
        };
        let Visitor { peer, local, .. } = asked.visitor;
        Connection { peer, local, scheme: asked.scheme, endpoint, bind, course: Some(asked.course), tls: asked.tls }
    }
}

/// ERR_NGROK_3200: nobody has the endpoint online.
const ENDPOINT_OFFLINE: u32 = 3200;

/// Forwards in a row. One is the rule and two are a clear design; beyond this it is a circle.
pub const HOPS_MAX: usize = 5;

/// Internal endpoints are reached through `forward-internal` only, whatever a visitor writes into `Host`.
const INTERNAL_SUFFIX: &str = ".internal";

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::io::DuplexStream;

    use super::*;
    use crate::http::reach::{CloudEndpoint, GatewayId, Location, OpenError, SessionId};
    use crate::policy::Place;

    /// Endpoints by URL; none of them can be opened.
    #[derive(Default)]
    struct Table {
        public: HashMap<String, PublicEndpoint>,
        internal: HashMap<(String, String), Target>,
    }

    impl Table {
        fn cloud(mut self, url: &str, account: &str, policy: &str) -> Self {
            let url = EndpointUrl::parse(url).unwrap();
            let policy = Policy::parse(policy, Place::cloud(&url)).unwrap();
            let endpoint = CloudEndpoint { url: url.clone(), account: account.into(), policy: policy.into() };
            self.public.insert(url.to_string(), PublicEndpoint::Cloud(endpoint.into()));
            self
        }

        fn public_agent(mut self, url: &str, policy: &str) -> Self {
            self.public.insert(url.into(), PublicEndpoint::Agent(target(url, "main", policy)));
            self
        }

        fn internal(mut self, url: &str, account: &str, policy: &str) -> Self {
            self.internal.insert((account.into(), url.into()), target(url, account, policy));
            self
        }
    }

    fn target(url: &str, account: &str, policy: &str) -> Target {
        let url = EndpointUrl::parse(url).unwrap();
        Target {
            location: Location { gateway: GatewayId::Local, session: SessionId(1), bind: "b".into() },
            account: account.into(),
            forwards_to: "".into(),
            forwards_proto: "".into(),
            client_type: "".into(),
            policy: Some(Policy::parse(policy, Place::agent(&url)).unwrap().into()),
            url,
        }
    }

    impl Reach for Table {
        type Stream = DuplexStream;

        fn public(&self, scheme: Scheme, host: &str, port: u16) -> Result<PublicEndpoint, Unreachable> {
            let url = EndpointUrl::from_authority(scheme, &format!("{host}:{port}")).unwrap();
            self.public.get(&url.to_string()).cloned().ok_or(Unreachable::Offline)
        }

        fn internal(&self, account: &str, url: &EndpointUrl) -> Result<Target, Unreachable> {
            self.internal.get(&(account.into(), url.to_string())).cloned().ok_or(Unreachable::Offline)
        }

        async fn open(&self, _: &Target, _: &Visitor, _: bool) -> Result<DuplexStream, OpenError> {
            Err(OpenError::Offline)
        }
    }

    fn asked(scheme: Scheme, host: &str, port: u16) -> Asked<'_> {
        let address = "192.0.2.1:1000".parse().unwrap();
        static COURSE: std::sync::LazyLock<Course> = std::sync::LazyLock::new(Course::begin);
        Asked {
            scheme,
            host,
            port,
            visitor: Visitor { peer: address, local: address, number: 0 },
            course: &COURSE,
            tls: Tls::Unknown,
            visit: None,
        }
    }

    async fn ask(table: &Table, host: &str, port: u16) -> Result<Decision, Refusal> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        request(table, &asked(Scheme::Https, host, port), &mut head, &mut Trail::default()).await
    }

    fn url(decision: Result<Decision, Refusal>) -> String {
        match decision {
            Ok(Decision::Target(target)) => target.url.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn forward(url: &str) -> String {
        format!("on_http_request: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]")
    }

    #[tokio::test]
    async fn cloud_endpoint_forwards_to_the_internal_endpoint_of_its_own_account() {
        let table = Table::default()
            .cloud("https://a.example.com", "one", &forward("https://api.internal"))
            .cloud("https://b.example.com", "two", &forward("https://api.internal"))
            .internal("https://api.internal", "one", "");
        assert_eq!(url(ask(&table, "a.example.com", 443).await), "https://api.internal");
        assert_eq!(ask(&table, "b.example.com", 443).await.unwrap_err(), Unreachable::Offline.into());
    }

    #[tokio::test]
    async fn internal_endpoint_runs_its_own_policy() {
        let table = Table::default().cloud("https://a.example.com", "main", &forward("https://api.internal")).internal(
            "https://api.internal",
            "main",
            "on_http_request: [{actions: [{type: deny}]}]",
        );
        let decision = ask(&table, "a.example.com", 443).await.unwrap();
        assert!(matches!(decision, Decision::Deny { status: StatusCode::FORBIDDEN }), "{decision:?}");
    }

    #[tokio::test]
    async fn chain_at_the_bound_arrives_and_one_more_hop_is_refused() {
        let mut table = Table::default().cloud("https://a.example.com", "main", &forward("https://h1.internal"));
        for hop in 1..HOPS_MAX {
            let next = forward(&format!("https://h{}.internal", hop + 1));
            table = table.internal(&format!("https://h{hop}.internal"), "main", &next);
        }
        let last = format!("https://h{HOPS_MAX}.internal");
        let table = table.internal(&last, "main", "");
        assert_eq!(url(ask(&table, "a.example.com", 443).await), last);

        let beyond = forward("https://beyond.internal");
        let table = table.internal(&last, "main", &beyond).internal("https://beyond.internal", "main", "");
        assert_eq!(ask(&table, "a.example.com", 443).await.unwrap_err(), Refusal::TooManyHops);
    }

    #[tokio::test]
    async fn circle_of_forwards_is_refused() {
        let table = Table::default().cloud("https://a.example.com", "main", &forward("https://b.internal")).internal(
            "https://b.internal",
            "main",
            &forward("https://b.internal"),
        );
        assert_eq!(ask(&table, "a.example.com", 443).await.unwrap_err(), Refusal::TooManyHops);
    }

    #[tokio::test]
    async fn internal_name_is_never_reached_from_outside() {
        let table = Table::default().public_agent("https://api.internal", "");
        assert_eq!(ask(&table, "api.internal", 443).await.unwrap_err(), Unreachable::Offline.into());
    }

    #[tokio::test]
    async fn named_port_comes_before_the_default_port() {
        let table =
            Table::default().public_agent("https://a.example.com", "").public_agent("https://a.example.com:8443", "");
        assert_eq!(url(ask(&table, "a.example.com", 8443).await), "https://a.example.com:8443");
        assert_eq!(url(ask(&table, "a.example.com", 9999).await), "https://a.example.com");
    }

    #[tokio::test]
    async fn connection_rules_hold_for_each_request() {
        let table =
            Table::default().public_agent("https://a.example.com", "on_tcp_connect: [{actions: [{type: deny}]}]");
        let decision = ask(&table, "a.example.com", 443).await.unwrap();
        assert!(matches!(decision, Decision::Close), "{decision:?}");
    }

    #[test]
    fn tcp_connection_is_forwarded_denied_or_kept() {
        let rule = "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tcp://db.internal:5432'}}]}]";
        let deny = "on_tcp_connect: [{actions: [{type: deny}]}]";
        let table = Table::default()
            .cloud("tcp://db.example.com:5432", "main", rule)
            .internal("tcp://db.internal:5432", "main", "")
            .public_agent("tcp://own.example.com:1", "")
            .public_agent("tcp://shut.example.com:1", deny);
        let ask = |host, port| {
            let asked = asked(Scheme::Tcp, host, port);
            Journey::begin(&table, &asked).and_then(|mut journey| journey.decide(&table, &asked))
        };
        assert_eq!(url(ask("db.example.com", 5432)), "tcp://db.internal:5432");
        assert_eq!(url(ask("own.example.com", 1)), "tcp://own.example.com:1");
        assert!(matches!(ask("shut.example.com", 1), Ok(Decision::Close)));
        assert_eq!(ask("none.example.com", 1).unwrap_err(), Unreachable::Offline.into());
    }
}
