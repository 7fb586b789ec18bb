//! `adit-gateway policy explain`: from the command line to a made-up request, and what a policy does with it.

use std::net::{IpAddr, SocketAddr};

use adit::endpoint_url::EndpointUrl;
use adit_gateway::config::{self, Config};
use adit_gateway::policy::explain::{Explanation, Question, explain};
use adit_gateway::policy::{Course, DOCUMENT_BYTES_MAX, Place, Policy};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::cli::Explain;

/// Why nothing can be explained.
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// A file is unusable, or the document in it has mistakes; a line for each.
    Document(String),
}

/// Explains what a policy does with the traffic that the arguments make up.
pub(crate) async fn run(arguments: &Explain) -> Result<Explanation, Failure> {
    let question = question(arguments)?;
    let policy = read(arguments, &question.endpoint)?;
    Ok(explain(&policy, question).await)
}

fn read(arguments: &Explain, endpoint: &EndpointUrl) -> Result<Policy, Failure> {
    let name = arguments.file.display();
    let place = if arguments.agent { Place::agent(endpoint) } else { Place::cloud(endpoint) };
    let text = config::bounded_text(&arguments.file, DOCUMENT_BYTES_MAX)
        .map_err(|expected| Failure::Document(format!("{name}: {expected}")))?;
    let own = match &arguments.config {
        Some(file) => Some(Config::load(file).map_err(|errors| Failure::Document(errors.to_string()))?.0.own),
        None => None,
    };
    let directory = arguments.file.parent().filter(|_| !arguments.agent);
    let parsed = match (&own, directory) {
        (Some(own), Some(directory)) => Policy::parse_with(&text, place, own, directory),
        _ => Policy::parse_in(&text, place, directory),
    };
    parsed.map_err(|errors| {
        let lines: Vec<String> = errors.to_string().lines().map(|line| format!("{name}: {line}")).collect();
        Failure::Document(lines.join("\n"))
    })
}

fn question(arguments: &Explain) -> Result<Question, Failure> {
    let url = &arguments.url;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(Failure::Usage("--url must be a whole URL such as https://api.example.com/path".into()));
    };
    let endpoint = match &arguments.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let text = format!("{scheme}://{authority}");
            EndpointUrl::parse(&text).map_err(|error| Failure::Usage(format!("--url: {error}")))?
        }
    };
    if endpoint.scheme().as_str() != scheme {
        let message = format!("--url has the scheme {scheme}, and the endpoint is {endpoint}");
        return Err(Failure::Usage(message));
    }
    let (mut request, ()) = http::Request::new(()).into_parts();
    request.method = arguments.method.clone();
    request.uri = Uri::from(url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    request.headers = headers("--header", &arguments.headers)?;
    if !request.headers.contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::Usage("--url has no host".into()))?;
        request.headers.insert(HOST, host);
    }
    let response = match (arguments.status, arguments.response_headers.is_empty()) {
        (None, true) => None,
        (status, _) => {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.status = status.unwrap_or_default();
            head.headers = headers("--response-header", &arguments.response_headers)?;
            Some(head)
        }
    };
    let local = SocketAddr::new(LOCAL, endpoint.port());
    let peer = SocketAddr::new(arguments.peer, PEER_PORT);
    let (is_online, is_offline) = (arguments.online, arguments.offline);
    Ok(Question { endpoint, peer, local, course: Course::begin(), request, response, is_online, is_offline })
}

/// `Name: value`, or `@FILE` with such lines in it, so that what is secret need not stand on a command line.
fn headers(option: &str, lines: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for argument in lines {
        let file = argument.strip_prefix('@').map(|file| {
            config::bounded_text(file.as_ref(), HEADERS_BYTES_MAX)
                .map_err(|expected| Failure::Document(format!("{file}: {expected}")))
        });
        let text = file.transpose()?;
        for line in text.as_deref().unwrap_or(argument).lines().filter(|line| !line.trim().is_empty()) {
            let pair = line.split_once(':').and_then(|(name, value)| {
                Some((name.trim().parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?))
            });
            let Some((name, value)) = pair else {
                // Its value may be a secret.
                return Err(Failure::Usage(format!("{option} takes 'Name: value', or @FILE with such lines")));
            };
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// The address of the gateway that the made-up traffic comes to (TEST-NET-1, RFC 5737).
const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// The first of those that clients get (RFC 6335).
const PEER_PORT: u16 = 49_152;
const HEADERS_BYTES_MAX: usize = 1024 * 1024;
