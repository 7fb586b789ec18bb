//! Where a request goes.

use std::fmt;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::Uri;

/// An absolute address of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) server: Server,
}

/// Whose address it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// An endpoint of the account.
    Internal(EndpointUrl),
    /// Some server of the internet.
    Outside,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is not a URL such as https://api.internal/check")?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err("must begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("must name a server, as https://api.internal/check does")?;
        if authority.as_str().contains('@') {
            return Err("must not have a name or a password in it: use a header");
        }
        let host = authority.host().to_ascii_lowercase();
        if !host.trim_end_matches('.').ends_with(".internal") {
            return Ok(Self { uri, server: Server::Outside });
        }
        let endpoint = EndpointUrl::from_authority(scheme, &authority.as_str().to_ascii_lowercase());
        let endpoint = endpoint.map_err(|_| "does not name an endpoint that there can be")?;
        if !endpoint.is_internal() || endpoint.is_wildcard() {
            return Err("must name one internal endpoint");
        }
        Ok(Self { uri, server: Server::Internal(endpoint) })
    }

    /// The target that a `Location` leads to from here (RFC 3986, 5.2, for what servers send).
    pub(super) fn follow(&self, location: &str) -> Result<Self, &'static str> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let authority = self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let path = self.uri.path();
        let absolute = if has_scheme(location) {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else if location.starts_with('?') {
            format!("{scheme}://{authority}{path}{location}")
        } else if location.is_empty() {
            self.uri.to_string()
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        };
        Self::parse(&absolute)
    }

    /// Whether the same server has the other one.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.server == other.server
            && self.uri.scheme() == other.uri.scheme()
            && self.uri.authority() == other.uri.authority()
    }

    /// Path and query, as they stand in a request.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn has_scheme(location: &str) -> bool {
    let before_path = location.split(['/', '?']).next().unwrap_or_default();
    before_path.contains(':')
}

/// The server that a URL names whatever follows its literal beginning, as `https://api.internal/` in
/// `https://api.internal/users/${…}`.
pub(super) fn fixed_server(beginning: &str) -> Option<&str> {
    let (_, rest) = beginning.split_once("://")?;
    let end = rest.find(['/', '?', '#'])?;
    beginning.get(..beginning.len() - rest.len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_found_in_the_url() {
        for (url, endpoint) in [
            ("https://api.internal", "https://api.internal"),
            ("https://API.internal/x?y=1", "https://api.internal"),
            ("http://api.internal:8080/x", "http://api.internal:8080"),
        ] {
            let Server::Internal(found) = Target::parse(url).unwrap().server else { panic!("{url}") };
            assert_eq!(found.to_string(), endpoint);
        }
        for url in ["https://example.com/", "http://internal/", "https://api.internal.example.com/", "http://[::1]/"] {
            assert_eq!(Target::parse(url).unwrap().server, Server::Outside, "{url}");
        }
        for url in [
            "",
            "/x",
            "api.internal",
            "ftp://api.internal/",
            "https://a:b@api.internal/",
            "https://*.internal/",
            "https:///x",
            "https://a b/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn location_is_resolved_from_where_it_came() {
        let from = Target::parse("https://api.internal/a/b?x=1").unwrap();
        for (location, to) in [
            ("/c", "https://api.internal/c"),
            ("c?d=/e", "https://api.internal/a/c?d=/e"),
            ("?y=2", "https://api.internal/a/b?y=2"),
            ("//other.internal/c", "https://other.internal/c"),
            ("http://example.com/#top", "http://example.com/"),
            ("", "https://api.internal/a/b?x=1"),
            ("#top", "https://api.internal/a/b?x=1"),
        ] {
            assert_eq!(from.follow(location).unwrap().to_string(), to, "{location}");
        }
        for location in ["javascript:alert(1)", "file:///etc/passwd", "https://a@api.internal/"] {
            assert!(from.follow(location).is_err(), "{location}");
        }
    }

    #[test]
    fn server_is_fixed_when_nothing_can_change_it() {
        assert_eq!(fixed_server("https://api.internal/users/"), Some("https://api.internal"));
        assert_eq!(fixed_server("https://api.internal?x="), Some("https://api.internal"));
        for beginning in ["", "https://", "https://api.inter", "https://api.internal", "https://api.internal:8"] {
            assert_eq!(fixed_server(beginning), None, "{beginning}");
        }
    }
}
