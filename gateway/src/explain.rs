//! `adit-gateway policy explain`: from the command line to a made-up request, and what a policy does with it.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::config;
use adit_gateway::policy::explain::{Explanation, Question, explain};
use adit_gateway::policy::{Course, PAYLOAD_BYTES_MAX};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::cli::Explain;
use crate::policy_file;

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
    let policy = policy_file::read(&arguments.document, &question.endpoint).map_err(Failure::Document)?;
    Ok(explain(&policy, question).await)
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
    let body = match &arguments.body {
        Some(file) => read(file, PAYLOAD_BYTES_MAX)?,
        None => Vec::new(),
    };
    if arguments.body.is_some() {
        request.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(body.len()));
    }
    let client_certificates = arguments.client_cert.as_deref().map(certificates).transpose()?;
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
    Ok(Question {
        endpoint,
        peer,
        local,
        course: Course::begin(),
        request,
        body: body.into(),
        client_certificates,
        response,
        is_online,
        is_offline,
    })
}

/// A file of at most so many bytes.
fn read(file: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let name = file.display();
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes));
    opened.map_err(|error| Failure::Document(format!("{name}: {error}")))?;
    if bytes.len() > bytes_max {
        return Err(Failure::Document(format!("{name}: has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(file, HEADERS_BYTES_MAX)?;
    // The parser's own words are left out: they may quote a key that is there by mistake.
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap_or_default();
    if chain.is_empty() {
        return Err(Failure::Document(format!("{}: has no certificate in it that is one in PEM", file.display())));
    }
    Ok(chain)
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
/// Of a file of headers, and of one of certificates.
const HEADERS_BYTES_MAX: usize = 1024 * 1024;
