//! The variables of expressions: which there are, where, and what they are for one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit::endpoint_url::Scheme;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, StatusCode, Version};
use percent_encoding::percent_decode_str;
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::super::Connection;
use super::super::course::Course;
use super::super::phase::Phase;
use super::compile::Mistake;
use super::cookies::{grouped, request_cookies, response_cookies};
use super::evaluate::Fault;
use super::tls::{self, TlsVariable};
use super::url_path;
use super::user_agent::{Agent, Kind};
use super::value::{Value, shown_time};

/// What expressions can see.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Facts<'a> {
    pub(in crate::policy) connection: Connection<'a>,
    pub(in crate::policy) request: Option<RequestFacts<'a>>,
    /// Status and headers of the response.
    pub(in crate::policy) response: Option<(StatusCode, &'a HeaderMap)>,
    pub(in crate::policy) now: OffsetDateTime,
    /// When the head of the request was there.
    pub(in crate::policy) received: OffsetDateTime,
    pub(in crate::policy) vars: &'a BTreeMap<Arc<str>, Value>,
    /// What the actions left behind, by their names.
    pub(in crate::policy) results: &'a BTreeMap<Arc<str>, Value>,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct RequestFacts<'a> {
    pub(in crate::policy) method: &'a http::Method,
    /// Path and query.
    pub(in crate::policy) uri: &'a http::Uri,
    pub(in crate::policy) version: Version,
    pub(in crate::policy) headers: &'a HeaderMap,
    /// It is known that nothing follows it.
    pub(in crate::policy) has_no_body: bool,
}

macro_rules! variables {
    ($($name:literal => $variable:ident in $place:ident,)*) => {
        /// A variable that expressions may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Variable {
            /// One below `conn.tls`.
            Tls(TlsVariable),
            $($variable,)*
        }

        const TABLE: &[(&str, Variable, Place)] = &[$(($name, Variable::$variable, Place::$place),)*];
    };
}

/// The phases that have a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Everywhere,
    Request,
    Response,
}

variables! {
    "conn.bytes_in" => BytesIn in Everywhere,
    "conn.bytes_out" => BytesOut in Everywhere,
    "conn.client_ip" => ClientIp in Everywhere,
    "conn.client_port" => ClientPort in Everywhere,
    "conn.server_ip" => ServerIp in Everywhere,
    "conn.server_port" => ServerPort in Everywhere,
    "conn.ts.start" => Began in Everywhere,
    "endpoint.addr" => EndpointAddr in Everywhere,
    "endpoint.host" => EndpointHost in Everywhere,
    "endpoint.id" => EndpointId in Everywhere,
    "endpoint.port" => EndpointPort in Everywhere,
    "endpoint.protocol" => EndpointProtocol in Everywhere,
    "endpoint.url" => EndpointUrl in Everywhere,
    "time.now" => Now in Everywhere,
    "vars" => Vars in Everywhere,
    "actions.ngrok" => Results in Everywhere,
    "req.method" => Method in Request,
    "req.host" => Host in Request,
    "req.version" => HttpVersion in Request,
    "req.headers" => Headers in Request,
    "req.cookies" => Cookies in Request,
    "req.content_length" => ContentLength in Request,
    "req.content_encoding" => ContentEncoding in Request,
    "req.content_type" => MediaType in Request,
    "req.content_type.raw" => ContentType in Request,
    "req.content_type.parameters" => MediaParameters in Request,
    "req.location" => RequestLocation in Request,
    "req.ts.header_received" => HeaderReceived in Request,
    "req.user_agent" => UserAgent in Request,
    "req.user_agent.name" => AgentName in Request,
    "req.user_agent.version" => AgentVersion in Request,
    "req.user_agent.os" => AgentOs in Request,
    "req.user_agent.os_version" => AgentOsVersion in Request,
    "req.user_agent.device" => AgentDevice in Request,
    "req.user_agent.url" => AgentUrl in Request,
    "req.user_agent.is_mobile" => AgentIsMobile in Request,
    "req.user_agent.is_tablet" => AgentIsTablet in Request,
    "req.user_agent.is_desktop" => AgentIsDesktop in Request,
    "req.user_agent.is_bot" => AgentIsBot in Request,
    "req.url" => Url in Request,
    "req.url.raw" => RawUrl in Request,
    "req.url.scheme" => UrlScheme in Request,
    "req.url.authority" => UrlAuthority in Request,
    "req.url.host" => UrlHost in Request,
    "req.url.port" => UrlPort in Request,
    "req.url.path" => UrlPath in Request,
    "req.url.raw_path" => UrlRawPath in Request,
    "req.url.uri" => UrlUri in Request,
    "req.url.query" => UrlQuery in Request,
    "req.url.user_password" => UserPassword in Request,
    "req.url.query_params" => QueryParams in Request,
    "res.status_code" => Status in Response,
    "res.headers" => ResponseHeaders in Response,
    "res.cookies" => ResponseCookies in Response,
    "res.content_length" => ResponseContentLength in Response,
    "res.content_encoding" => ResponseContentEncoding in Response,
    "res.content_type" => ResponseMediaType in Response,
    "res.content_type.raw" => ResponseContentType in Response,
    "res.content_type.parameters" => ResponseMediaParameters in Response,
    "res.location" => ResponseLocation in Response,
}

impl Variable {
    /// Its name in expressions.
    pub(super) fn name(self) -> String {
        if let Self::Tls(variable) = self {
            return tls::name(variable);
        }
        TABLE.iter().find(|(_, variable, _)| *variable == self).map_or("", |(name, ..)| name).to_owned()
    }

    /// Refuses a variable that is not known yet when the phase runs.
    pub(super) fn check(self, name: &str, phase: Phase) -> Result<(), Mistake> {
        let place = TABLE.iter().find(|(_, variable, _)| *variable == self).map(|(_, _, place)| *place);
        let is_known = match (place, phase) {
            (Some(Place::Request), Phase::TcpConnect) => false,
            (Some(Place::Response), Phase::TcpConnect | Phase::HttpRequest) => false,
            (Some(Place::Everywhere | Place::Request | Place::Response) | None, _) => true,
        };
        if is_known { Ok(()) } else { Err(format!("names {name}, which is not known yet in {phase}")) }
    }
}

/// The names of all variables, each with the phases that have it.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().map(|(name, _, place)| match place {
        Place::Everywhere => (*name, "C Q S"),
        Place::Request => (*name, "Q S"),
        Place::Response => (*name, "S"),
    })
}

/// Finds a variable by its whole name.
pub(super) fn find(name: &str) -> Option<Variable> {
    let found = TABLE.iter().find(|(known, ..)| *known == name).map(|(_, variable, _)| *variable);
    found.or_else(|| tls::find(name).map(Variable::Tls))
}

/// True for the names under which actions leave results.
pub(super) fn has_results(name: &str) -> bool {
    RESULTS.contains(&name)
}

/// Those names, for an error message.
pub(super) fn results() -> String {
    format!("there are {}", RESULTS.join(", "))
}

/// What to say of a name that is no variable.
pub(super) fn unknown(name: &str) -> Mistake {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let is_below =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if let Some((_, reason)) = ELSEWHERE.iter().find(|(prefix, _)| is_below(prefix)) {
        return format!("names {name}, which this gateway does not know about its traffic: {reason}");
    }
    if let Some(beside) = tls::beside(&name) {
        return format!("names {name}, which is not a variable: there are {}", beside.join(", "));
    }
    let parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
    let beside: Vec<&str> = TABLE
        .iter()
        .map(|(known, ..)| *known)
        .filter(|known| known.rsplit_once('.').map_or("", |(parent, _)| parent) == parent)
        .collect();
    if beside.is_empty() || parent.is_empty() {
        return format!("names {name}, which is not a variable: there are {}", NAMESPACES.join(", "));
    }
    format!("names {name}, which is not a variable: there are {}", beside.join(", "))
}

/// The value of a variable.
pub(super) fn resolve(variable: Variable, facts: &Facts<'_>) -> Result<Value, Fault> {
    match variable {
        Variable::Tls(variable) => tls::resolve(variable, facts.connection.tls),
        Variable::ClientIp => Ok(Value::text(&facts.connection.peer.ip().to_canonical().to_string())),
        Variable::ClientPort => Ok(Value::Int(facts.connection.peer.port().into())),
        Variable::ServerIp => Ok(Value::text(&facts.connection.local.ip().to_canonical().to_string())),
        Variable::ServerPort => Ok(Value::Int(facts.connection.local.port().into())),
        Variable::BytesIn => bytes(course(facts)?.bytes_in()),
        Variable::BytesOut => bytes(course(facts)?.bytes_out()),
        Variable::Began => Ok(Value::Time(course(facts)?.began())),
        Variable::HeaderReceived => Ok(Value::Time(facts.received)),
        Variable::EndpointId => Ok(Value::text(&endpoint_id(&facts.connection))),
        Variable::EndpointAddr => {
            let endpoint = facts.connection.endpoint;
            Ok(Value::text(&format!("{}:{}", endpoint.host(), endpoint.port())))
        }
        Variable::EndpointHost => Ok(Value::text(facts.connection.endpoint.host())),
        Variable::EndpointPort => Ok(Value::Int(facts.connection.endpoint.port().into())),
        Variable::EndpointProtocol => Ok(Value::text(facts.connection.endpoint.scheme().as_str())),
        Variable::EndpointUrl => Ok(Value::text(&facts.connection.endpoint.to_string())),
        Variable::Now => Ok(Value::Text(shown_time(facts.now).into())),
        Variable::Vars => Ok(Value::Map(Arc::new(facts.vars.clone()))),
        Variable::Results => Ok(Value::Map(Arc::new(facts.results.clone()))),
        Variable::Status
        | Variable::ResponseHeaders
        | Variable::ResponseCookies
        | Variable::ResponseContentLength
        | Variable::ResponseContentEncoding
        | Variable::ResponseMediaType
        | Variable::ResponseContentType
        | Variable::ResponseMediaParameters
        | Variable::ResponseLocation => {
            let (status, headers) = facts.response.ok_or_else(|| Fault::Missing("response".into()))?;
            of_response(variable, status, headers)
        }
        other => {
            let request = facts.request.ok_or_else(|| Fault::Missing("request".into()))?;
            of_request(other, request, facts.connection.scheme)
        }
    }
}

fn course<'f>(facts: &Facts<'f>) -> Result<&'f Course, Fault> {
    facts.connection.course.ok_or_else(|| Fault::Missing("course of the connection".into()))
}

fn bytes(count: u64) -> Result<Value, Fault> {
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// The id under which an agent has it, or for an endpoint of the gateway's own one that its URL makes.
fn endpoint_id(connection: &Connection<'_>) -> String {
    if let Some(bind) = connection.bind {
        return bind.to_owned();
    }
    let digest = digest(&SHA256, connection.endpoint.to_string().as_bytes());
    let hex = digest.as_ref().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}"));
    format!("ep_{}", hex.collect::<String>())
}

fn of_user_agent(variable: Variable, line: &str) -> Value {
    let agent = Agent::parse(line);
    match variable {
        Variable::AgentName => Value::text(agent.name),
        Variable::AgentVersion => Value::text(agent.version),
        Variable::AgentOs => Value::text(agent.os),
        Variable::AgentOsVersion => Value::text(&agent.os_version),
        Variable::AgentDevice => Value::text(agent.device),
        Variable::AgentUrl => Value::text(agent.url),
        Variable::AgentIsMobile => Value::Bool(agent.kind == Kind::Mobile),
        Variable::AgentIsTablet => Value::Bool(agent.kind == Kind::Tablet),
        Variable::AgentIsDesktop => Value::Bool(agent.kind == Kind::Desktop),
        _ => Value::Bool(agent.kind == Kind::Bot),
    }
}

fn of_request(variable: Variable, request: RequestFacts<'_>, scheme: Scheme) -> Result<Value, Fault> {
    let RequestFacts { method, uri, version, headers, has_no_body } = request;
    let authority = || authority(headers).unwrap_or_default();
    let raw = uri.path_and_query().map_or("/", |path| path.as_str());
    match variable {
        Variable::Method => Ok(Value::text(method.as_str())),
        Variable::Host | Variable::UrlAuthority => Ok(Value::text(&authority())),
        Variable::HttpVersion => Ok(Value::text(version_text(version))),
        Variable::Headers => Ok(header_map(headers)),
        Variable::Cookies => Ok(grouped(request_cookies(headers))),
        Variable::ContentLength => match content_length(headers) {
            Err(_) if has_no_body => Ok(Value::Int(0)),
            length => length,
        },
        Variable::ContentEncoding => Ok(list_header(headers, &CONTENT_ENCODING)),
        Variable::MediaType => Ok(media_type(headers)),
        Variable::ContentType => single(headers, &CONTENT_TYPE),
        Variable::MediaParameters => Ok(media_parameters(headers)),
        Variable::RequestLocation => single(headers, &LOCATION),
        Variable::UserAgent => single(headers, &USER_AGENT),
        Variable::AgentName
        | Variable::AgentVersion
        | Variable::AgentOs
        | Variable::AgentOsVersion
        | Variable::AgentDevice
        | Variable::AgentUrl
        | Variable::AgentIsMobile
        | Variable::AgentIsTablet
        | Variable::AgentIsDesktop
        | Variable::AgentIsBot => Ok(of_user_agent(variable, &header(headers, &USER_AGENT).unwrap_or_default())),
        // A request that has one in its target is refused before any policy runs.
        Variable::UserPassword => Ok(Value::text("")),
        Variable::Url => Ok(Value::text(&format!("{scheme}://{}{}", authority(), url_path::normalised_target(uri)))),
        Variable::RawUrl => {
            let host = header(headers, &HOST).unwrap_or_default();
            Ok(Value::text(&format!("{scheme}://{host}{raw}")))
        }
        Variable::UrlScheme => Ok(Value::text(scheme.as_str())),
        Variable::UrlHost => Ok(Value::text(split_port(&authority()).0)),
        Variable::UrlPort => {
            let port = split_port(&authority()).1.and_then(|port| port.parse().ok());
            port.map(Value::Int).ok_or_else(|| Fault::Missing("port in the URL".into()))
        }
        Variable::UrlPath => {
            let decoded = percent_decode_str(uri.path()).decode_utf8_lossy();
            Ok(Value::text(&url_path::normalised(&decoded)))
        }
        Variable::UrlRawPath => Ok(Value::text(uri.path())),
        Variable::UrlUri => Ok(Value::text(raw)),
        Variable::UrlQuery => Ok(Value::text(uri.query().unwrap_or_default())),
        Variable::QueryParams => Ok(query_params(uri.query().unwrap_or_default())),
        other => Err(Fault::Missing(format!("{other:?}"))),
    }
}

fn of_response(variable: Variable, status: StatusCode, headers: &HeaderMap) -> Result<Value, Fault> {
    match variable {
        Variable::Status => Ok(Value::Int(status.as_u16().into())),
        Variable::ResponseHeaders => Ok(header_map(headers)),
        Variable::ResponseCookies => Ok(grouped(response_cookies(headers))),
        Variable::ResponseContentLength => content_length(headers),
        Variable::ResponseContentEncoding => Ok(list_header(headers, &CONTENT_ENCODING)),
        Variable::ResponseMediaType => Ok(media_type(headers)),
        Variable::ResponseContentType => single(headers, &CONTENT_TYPE),
        Variable::ResponseMediaParameters => Ok(media_parameters(headers)),
        Variable::ResponseLocation => single(headers, &LOCATION),
        other => Err(Fault::Missing(format!("{other:?}"))),
    }
}

/// The `host` of a request as it is routed by: in lower case, and without a dot at the end of the name, so that no rule is
/// got around by another spelling. A port stays if the visitor named one.
pub(in crate::policy) fn authority(headers: &HeaderMap) -> Option<String> {
    let line = header(headers, &HOST)?.to_ascii_lowercase();
    let (host, port) = split_port(&line);
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Host and port of an authority; the brackets of an IPv6 address stay.
pub(in crate::policy) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        Version::HTTP_3 => "3.0",
        _ => "1.1",
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// A header that comes once; an empty text when it is not there.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Value, Fault> {
    Ok(Value::text(&header(headers, name).unwrap_or_default()))
}

/// The values of a header, one for each line.
pub(super) fn header_values(headers: &HeaderMap, name: &str) -> Value {
    let values = headers.get_all(name).iter();
    Value::list(values.map(|value| Value::text(&String::from_utf8_lossy(value.as_bytes()))))
}

fn header_map(headers: &HeaderMap) -> Value {
    Value::map(headers.keys().map(|name| (name.as_str(), header_values(headers, name.as_str()))))
}

fn list_header(headers: &HeaderMap, name: &HeaderName) -> Value {
    let line = header(headers, name).unwrap_or_default();
    Value::list(line.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Value::text))
}

fn content_length(headers: &HeaderMap) -> Result<Value, Fault> {
    let length = header(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    length.map(Value::Int).ok_or_else(|| Fault::Missing("content-length".into()))
}

fn media_type(headers: &HeaderMap) -> Value {
    let line = header(headers, &CONTENT_TYPE).unwrap_or_default();
    Value::text(line.split(';').next().unwrap_or_default().trim())
}

fn media_parameters(headers: &HeaderMap) -> Value {
    let line = header(headers, &CONTENT_TYPE).unwrap_or_default();
    let parameters = line.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let parameters = parameters.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')));
    let parameters: Vec<_> = parameters.collect();
    Value::map(parameters.iter().map(|(name, value)| (name.as_str(), Value::text(value))))
}

/// From a name to all values of that name, decoded.
pub(super) fn query_params(query: &str) -> Value {
    let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, value) in query_pairs(query) {
        groups.entry(name.into()).or_default().push(Value::text(&value));
    }
    Value::Map(Arc::new(groups.into_iter().map(|(name, group)| (name, Value::list(group))).collect()))
}

/// The pairs of a query in their order, decoded.
pub(in crate::policy) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decoded(name), form_decoded(value))
    })
}

fn form_decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

const NAMESPACES: [&str; 8] = ["conn", "req", "res", "endpoint", "time.now", "vars", "actions.ngrok", "loop variables"];

/// Variables of ngrok's that there are not here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("conn.geo", "it has no database of places; use inCidrRanges(conn.client_ip, […])"),
    ("conn.client_ip", "it has no database of addresses; use inCidrRanges(conn.client_ip, […])"),
    ("conn.k8s", "it runs in no cluster"),
    ("conn.server_region", "it is in one place; use conn.server_ip"),
    ("conn.tls.ja4_fingerprint", "it takes no fingerprints"),
    ("req.ts.body_received", "bodies pass while they come; there is req.ts.header_received"),
    ("req.trailers", "they come behind the body, when the policy has decided"),
    ("res.trailers", "they come behind the body, when the policy has decided"),
];

/// The actions that leave results behind.
pub(in crate::policy) const RESULTS: &[&str] = &[
    "add_headers",
    "remove_headers",
    "forward_internal",
    "restrict_ips",
    "jwt_validation",
    "oauth",
    "oidc",
    "openid_connect",
    "saml",
    "basic_auth",
    "rate_limit",
    "circuit_breaker",
    "compress",
    "compress_response",
    "http_request",
    "verify_webhook",
    "redirect",
    "url_rewrite",
    "log",
];

const NAME_CHARS_MAX: usize = 64;
/// Enough of a digest to tell endpoints apart.
const ID_BYTES: usize = 12;
