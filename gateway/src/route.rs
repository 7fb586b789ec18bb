//! From a public name to the endpoint that takes the traffic: look-ups and policies in turn, nothing else.

use std::fmt;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::StatusCode;

use crate::http::reach::{PublicEndpoint, Reach, Target, Unreachable, Visitor};
use crate::policy::{Connection, CustomResponse, Policy, Request, Verdict};

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
    /// HTTP: it gets this answer.
    Respond(Arc<CustomResponse>),
    /// The connection is closed without an answer.
    Close,
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

/// Decides where a `tls` or `tcp` connection goes.
///
/// # Errors
///
/// [`Refusal`]; the caller can only close the connection.
pub fn connection<R: Reach>(reach: &R, asked: &Asked<'_>) -> Result<Decision, Refusal> {
    let mut stop = Stop::public(reach, asked)?;
    for _ in 0..=HOPS_MAX {
        let verdict = match stop.policy() {
            Some(policy) => policy.on_tcp_connect(stop.connection(asked.visitor)),
            None => Verdict::Continue,
        };
        match verdict {
            Verdict::Continue => return stop.target(),
            Verdict::Forward(url) => stop = stop.forward(reach, &url)?,
            Verdict::Deny { .. } | Verdict::Respond(_) => return Ok(Decision::Close),
        }
    }
    Err(Refusal::TooManyHops)
}

/// Decides where an HTTP request goes. The policies may change its head.
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
) -> Result<Decision, Refusal> {
    let mut stop = Stop::public(reach, asked)?;
    let admission = match stop.policy() {
        Some(policy) => policy.on_tcp_connect(stop.connection(asked.visitor)),
        None => Verdict::Continue,
    };
    match admission {
        Verdict::Continue => {}
        Verdict::Deny { .. } | Verdict::Respond(_) => return Ok(Decision::Close),
        // Documents that say this are refused: raw bytes cannot be handed to an HTTP endpoint.
        Verdict::Forward(_) => return Err(Refusal::NotHandled),
    }
    for _ in 0..=HOPS_MAX {
        let verdict = match stop.policy() {
            Some(policy) => {
                let mut request = Request { connection: stop.connection(asked.visitor), head };
                policy.on_http_request(&mut request).await
            }
            None => Verdict::Continue,
        };
        match verdict {
            Verdict::Continue => return stop.target(),
            Verdict::Forward(url) => stop = stop.forward(reach, &url)?,
            Verdict::Deny { status } => return Ok(Decision::Deny { status }),
            Verdict::Respond(response) => return Ok(Decision::Respond(response)),
        }
    }
    Err(Refusal::TooManyHops)
}

/// One endpoint on the way.
struct Stop(PublicEndpoint);

impl Stop {
    /// Finds the public endpoint. A visitor may reach the gateway on another port than the endpoint's URL has (a port
    /// mapping, a test set-up), so the scheme's own port is tried when the named one has no endpoint.
    fn public<R: Reach>(reach: &R, asked: &Asked<'_>) -> Result<Self, Refusal> {
        if asked.host.ends_with(INTERNAL_SUFFIX) {
            return Err(Unreachable::Offline.into());
        }
        let found = reach.public(asked.scheme, asked.host, asked.port);
        match (found, asked.scheme.default_port()) {
            (Err(Unreachable::Offline), Some(port)) if port != asked.port => {
                Ok(Self(reach.public(asked.scheme, asked.host, port)?))
            }
            (found, _) => Ok(Self(found?)),
        }
    }

    fn forward<R: Reach>(&self, reach: &R, url: &EndpointUrl) -> Result<Self, Refusal> {
        let account = match &self.0 {
            PublicEndpoint::Cloud(endpoint) => &endpoint.account,
            PublicEndpoint::Agent(target) => &target.account,
        };
        Ok(Self(PublicEndpoint::Agent(reach.internal(account, url)?)))
    }

    fn policy(&self) -> Option<&Policy> {
        match &self.0 {
            PublicEndpoint::Cloud(endpoint) => Some(&endpoint.policy),
            PublicEndpoint::Agent(target) => target.policy.as_deref(),
        }
    }

    fn connection(&self, visitor: Visitor) -> Connection<'_> {
        let endpoint = match &self.0 {
            PublicEndpoint::Cloud(endpoint) => &endpoint.url,
            PublicEndpoint::Agent(target) => &target.url,
        };
        Connection { peer: visitor.peer, local: visitor.local, endpoint }
    }

    fn target(self) -> Result<Decision, Refusal> {
        match self.0 {
            PublicEndpoint::Cloud(_) => Err(Refusal::NotHandled),
            PublicEndpoint::Agent(target) => Ok(Decision::Target(Box::new(target))),
        }
    }
}

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

        async fn open(&self, _: &Target, _: &Visitor) -> Result<DuplexStream, OpenError> {
            Err(OpenError::Offline)
        }
    }

    fn asked(scheme: Scheme, host: &str, port: u16) -> Asked<'_> {
        let address = "192.0.2.1:1000".parse().unwrap();
        Asked { scheme, host, port, visitor: Visitor { peer: address, local: address } }
    }

    async fn ask(table: &Table, host: &str, port: u16) -> Result<Decision, Refusal> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        request(table, &asked(Scheme::Https, host, port), &mut head).await
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
        let ask = |host, port| connection(&table, &asked(Scheme::Tcp, host, port));
        assert_eq!(url(ask("db.example.com", 5432)), "tcp://db.internal:5432");
        assert_eq!(url(ask("own.example.com", 1)), "tcp://own.example.com:1");
        assert!(matches!(ask("shut.example.com", 1), Ok(Decision::Close)));
        assert_eq!(ask("none.example.com", 1).unwrap_err(), Unreachable::Offline.into());
    }
}
