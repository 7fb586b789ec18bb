//! The variables of expressions: which there are, where, and what they are for one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit::endpoint_url::Scheme;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderName, StatusCode, Version};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;

use super::super::Connection;
use super::super::phase::Phase;
use super::compile::Mistake;
use super::evaluate::Fault;
use super::tls::{self, TlsVariable};
use super::value::{Value, shown_time};

/// What expressions can see.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Facts<'a> {
    pub(in crate::policy) connection: Connection<'a>,
    pub(in crate::policy) request: Option<RequestFacts<'a>>,
    /// Status and headers of the response.
    pub(in crate::policy) response: Option<(StatusCode, &'a HeaderMap)>,
    pub(in crate::policy) now: OffsetDateTime,
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
    "conn.client_ip" => ClientIp in Everywhere,
    "conn.client_port" => ClientPort in Everywhere,
    "conn.server_ip" => ServerIp in Everywhere,
    "conn.server_port" => ServerPort in Everywhere,
    "endpoint.addr" => EndpointAddr in Everywhere,
    "endpoint.host" => EndpointHost in Everywhere,
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
    "req.user_agent" => UserAgent in Request,
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
    /// True when members of any name may be asked of it.
    pub(super) fn is_map(self) -> bool {
        matches!(
            self,
            Self::Vars
                | Self::Results
                | Self::Headers
                | Self::Cookies
                | Self::QueryParams
                | Self::MediaParameters
                | Self::ResponseHeaders
                | Self::ResponseCookies
                | Self::ResponseMediaParameters
        )
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

/// Finds a variable by its whole name.
pub(super) fn find(name: &str) -> Option<Variable> {
    let found = TABLE.iter().find(|(known, ..)| *known == name).map(|(_, variable, _)| *variable);
    found.or_else(|| tls::find(name).map(Variable::Tls))
}

/// True for the names under which actions leave results.
pub(super) fn has_results(name: &str) -> bool {
    RESULTS.contains(&name)
}

/// What to say of a name that is no variable.
pub(super) fn unknown(name: &str) -> Mistake {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    if ELSEWHERE.iter().any(|prefix| name == *prefix || name.starts_with(&format!("{prefix}."))) {
        return format!("names {name}, which this gateway does not know about its traffic");
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

fn of_request(variable: Variable, request: RequestFacts<'_>, scheme: Scheme) -> Result<Value, Fault> {
    let RequestFacts { method, uri, version, headers } = request;
    let authority = || authority(headers).unwrap_or_default();
    let url =
        |authority: String| format!("{scheme}://{authority}{}", uri.path_and_query().map_or("/", |path| path.as_str()));
    match variable {
        Variable::Method => Ok(Value::text(method.as_str())),
        Variable::Host | Variable::UrlAuthority => Ok(Value::text(&authority())),
        Variable::HttpVersion => Ok(Value::text(version_text(version))),
        Variable::Headers => Ok(header_map(headers)),
        Variable::Cookies => Ok(grouped(request_cookies(headers))),
        Variable::ContentLength => content_length(headers),
        Variable::ContentEncoding => Ok(list_header(headers, &CONTENT_ENCODING)),
        Variable::MediaType => Ok(media_type(headers)),
        Variable::ContentType => single(headers, &CONTENT_TYPE),
        Variable::MediaParameters => Ok(media_parameters(headers)),
        Variable::RequestLocation => single(headers, &LOCATION),
        Variable::UserAgent => single(headers, &USER_AGENT),
        Variable::Url => Ok(Value::text(&url(authority()))),
        Variable::RawUrl => Ok(Value::text(&url(header(headers, &HOST).unwrap_or_default()))),
        Variable::UrlScheme => Ok(Value::text(scheme.as_str())),
        Variable::UrlHost => Ok(Value::text(split_port(&authority()).0)),
        Variable::UrlPort => {
            let port = split_port(&authority()).1.and_then(|port| port.parse().ok());
            port.map(Value::Int).ok_or_else(|| Fault::Missing("port in the URL".into()))
        }
        Variable::UrlPath => Ok(Value::text(&percent_decode_str(uri.path()).decode_utf8_lossy())),
        Variable::UrlRawPath => Ok(Value::text(uri.path())),
        Variable::UrlUri => Ok(Value::text(uri.path_and_query().map_or("/", |path| path.as_str()))),
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

/// The cookies of a request in their order.
pub(super) fn request_cookies(headers: &HeaderMap) -> Vec<(String, Value)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .map(|(name, value)| {
            let cookie = Value::map([("name", Value::text(name)), ("value", Value::text(value.trim_matches('"')))]);
            (name.to_owned(), cookie)
        })
        .collect()
}

/// The cookies that a response sets, with their attributes, in their order.
pub(super) fn response_cookies(headers: &HeaderMap) -> Vec<(String, Value)> {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.filter_map(response_cookie).collect()
}

fn response_cookie(line: &str) -> Option<(String, Value)> {
    let mut parts = line.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let (mut secure, mut http_only) = (false, false);
    let mut members = vec![("name", Value::text(name)), ("value", Value::text(value.trim_matches('"')))];
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let member = match key.to_ascii_lowercase().as_str() {
            "secure" => {
                secure = true;
                continue;
            }
            "httponly" => {
                http_only = true;
                continue;
            }
            "domain" => "domain",
            "path" => "path",
            "expires" => "expires",
            "max-age" => "max_age",
            "samesite" => "same_site",
            _ => continue,
        };
        members.push((member, Value::text(value)));
    }
    members.extend([("secure", Value::Bool(secure)), ("http_only", Value::Bool(http_only))]);
    Some((name.to_owned(), Value::map(members)))
}

/// From a name to all cookies of that name.
fn grouped(cookies: Vec<(String, Value)>) -> Value {
    let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, cookie) in cookies {
        groups.entry(name.into()).or_default().push(cookie);
    }
    Value::Map(Arc::new(groups.into_iter().map(|(name, group)| (name, Value::list(group))).collect()))
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

/// Variables of ngrok's that need what a gateway of one's own does not have, or that it does not keep.
const ELSEWHERE: [&str; 11] = [
    "conn.geo",
    "conn.k8s",
    "conn.client_ip",
    "conn.tls.ja4_fingerprint",
    "conn.ts",
    "conn.bytes_in",
    "conn.bytes_out",
    "conn.server_region",
    "req.user_agent",
    "req.ts",
    "req.trailers",
];

/// The actions that leave results behind.
pub(in crate::policy) const RESULTS: &[&str] = &[
    "forward_internal",
    "restrict_ips",
    "jwt_validation",
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
