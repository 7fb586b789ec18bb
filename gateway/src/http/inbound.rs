//! What a visitor's request asks for: the checks that come before any look-up.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Uri, Version};

use super::failure::Failure;

/// The public name that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inbound {
    /// Host and port as the visitor wrote them: what `Host` stays.
    pub(super) host_line: HeaderValue,
    /// The same as text, which identifies the name for reuse.
    pub(super) name: Arc<str>,
    /// The host in lower case, without port and trailing dot; an IPv6 address stays in its brackets.
    pub(super) host: String,
    /// The port, if the visitor named one.
    pub(super) port: Option<u16>,
}

impl Inbound {
    /// Reads the name out of a request, and makes its URI what an origin server expects: the path alone.
    ///
    /// # Errors
    ///
    /// What the visitor is to be told when the request is not one to pass on.
    pub(super) fn take(head: &mut Parts) -> Result<Self, Failure> {
        // CONNECT asks for a forward proxy. TRACE echoes the headers that proxies add, credentials among them.
        if head.method == Method::CONNECT || head.method == Method::TRACE {
            return Err(Failure::Method);
        }
        let inbound = Self::read(head)?;
        head.uri = origin_form(&head.uri).ok_or(Failure::RequestInvalid("The path of the request is not valid."))?;
        Ok(inbound)
    }

    fn read(head: &Parts) -> Result<Self, Failure> {
        let mut lines = head.headers.get_all(HOST).iter();
        let line = lines.next();
        if lines.next().is_some() {
            return Err(Failure::RequestInvalid("The request has more than one Host header."));
        }
        let authority = match (head.uri.authority(), line) {
            // HTTP/2 has both only from careless clients and from attackers; they have to agree.
            (Some(authority), Some(line)) if head.version == Version::HTTP_2 => {
                if !line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) {
                    return Err(Failure::RequestInvalid("The request has two different host names."));
                }
                authority.clone()
            }
            // In HTTP/1.1 a full URI counts and Host does not (RFC 9112, 3.2.2).
            (Some(authority), _) => authority.clone(),
            (None, Some(line)) => parse(line)?,
            (None, None) => return Err(Failure::RequestInvalid("The request does not say which host it is for.")),
        };
        Self::from_authority(&authority)
    }

    fn from_authority(authority: &Authority) -> Result<Self, Failure> {
        let invalid = || Failure::RequestInvalid("The host name of the request is not valid.");
        let text = authority.as_str();
        let port = match text.strip_prefix(authority.host()) {
            Some("") => None,
            Some(port) => Some(port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(invalid)?),
            // There is a user name in front.
            None => return Err(invalid()),
        };
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        if host.is_empty() {
            return Err(invalid());
        }
        let host_line = HeaderValue::from_str(text).map_err(|_| invalid())?;
        Ok(Self { host_line, name: text.into(), host, port })
    }
}

fn parse(line: &HeaderValue) -> Result<Authority, Failure> {
    Authority::try_from(line.as_bytes())
        .map_err(|_| Failure::RequestInvalid("The Host header of the request is not valid."))
}

fn origin_form(uri: &Uri) -> Option<Uri> {
    match uri.path_and_query() {
        Some(path) => Some(Uri::from(path.clone())),
        None => Some(Uri::from_static("/")),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, uri: &str, version: Version, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn take(
        method: &str,
        uri: &str,
        version: Version,
        hosts: &[&str],
    ) -> Result<(String, Option<u16>, String), Failure> {
        let mut head = head(method, uri, version, hosts);
        let inbound = Inbound::take(&mut head)?;
        Ok((inbound.host, inbound.port, head.uri.to_string()))
    }

    #[test]
    fn name_comes_from_host_or_from_the_uri() {
        let table = [
            ("/x?y", Version::HTTP_11, vec!["A.Example.com"], ("a.example.com", None, "/x?y")),
            ("/", Version::HTTP_11, vec!["a.example.com.:8443"], ("a.example.com", Some(8443), "/")),
            ("/", Version::HTTP_11, vec!["[::1]:80"], ("[::1]", Some(80), "/")),
            ("http://b.example.com/x", Version::HTTP_11, vec!["a.example.com"], ("b.example.com", None, "/x")),
            ("http://b.example.com?q", Version::HTTP_11, vec![], ("b.example.com", None, "/?q")),
            ("https://b.example.com/x", Version::HTTP_2, vec![], ("b.example.com", None, "/x")),
            ("https://b.example.com/x", Version::HTTP_2, vec!["B.example.com"], ("b.example.com", None, "/x")),
            ("*", Version::HTTP_11, vec!["a.example.com"], ("a.example.com", None, "*")),
        ];
        for (uri, version, hosts, (host, port, path)) in table {
            let method = if uri == "*" { "OPTIONS" } else { "GET" };
            assert_eq!(
                take(method, uri, version, &hosts).unwrap(),
                (host.into(), port, path.into()),
                "{uri} {hosts:?}"
            );
        }
    }

    #[test]
    fn request_without_one_clear_name_is_refused() {
        let table: &[(&str, Version, &[&str])] = &[
            ("/", Version::HTTP_11, &[]),
            ("/", Version::HTTP_11, &["a", "a"]),
            ("/", Version::HTTP_11, &["a", "b"]),
            ("/", Version::HTTP_11, &[""]),
            ("/", Version::HTTP_11, &["a b"]),
            ("/", Version::HTTP_11, &["a/b"]),
            ("/", Version::HTTP_11, &["a:99999"]),
            ("/", Version::HTTP_11, &["a:"]),
            ("/", Version::HTTP_11, &["user@a"]),
            ("/", Version::HTTP_11, &["."]),
            ("https://a/", Version::HTTP_2, &["b"]),
        ];
        for (uri, version, hosts) in table {
            let refused = take("GET", uri, *version, hosts);
            assert!(matches!(refused, Err(Failure::RequestInvalid(_))), "{uri} {hosts:?}: {refused:?}");
        }
    }

    #[test]
    fn trace_and_connect_are_refused() {
        for method in ["TRACE", "CONNECT"] {
            assert_eq!(take(method, "/", Version::HTTP_11, &["a"]), Err(Failure::Method));
        }
    }
}
