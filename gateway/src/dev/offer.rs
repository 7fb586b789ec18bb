//! What the command line asks to make reachable, and the names it gets.

use std::collections::HashSet;
use std::fmt;

use adit::config::{Binding, EndpointConfig, Upstream, UpstreamError};
use adit::endpoint_url::{EndpointUrl, EndpointUrlError, RequestedUrl, Scheme};
use serde_json::{Value, json};

use super::authority::CONNECT_NAME;

/// One upstream, with the internal endpoint that its agent binds and the public ones that lead there.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) name: String,
    pub(super) upstream: Upstream,
    pub(super) internal: EndpointUrl,
    pub(super) public: Vec<EndpointUrl>,
    /// The upstream as people know it.
    pub(super) forwards_to: String,
}

/// Why an upstream of the command line cannot be offered.
#[derive(Debug)]
pub struct OfferError {
    text: String,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Upstream(UpstreamError),
    Name(EndpointUrlError),
    Taken,
}

/// An upstream before it has its public addresses.
struct Parsed<'a> {
    text: &'a str,
    name: Option<&'a str>,
    scheme: Scheme,
    upstream: Upstream,
    forwards_to: String,
}

impl Offer {
    /// Reads `[NAME=]URL`s. Each `tcp` upstream takes one of `tcp_ports`, which has to have enough of them.
    pub(super) fn read_all(
        texts: &[String],
        mut tcp_ports: impl Iterator<Item = u16>,
    ) -> Result<Vec<Self>, OfferError> {
        let parsed = texts.iter().map(|text| Parsed::read(text)).collect::<Result<Vec<_>, _>>()?;
        let mut names: HashSet<String> = HashSet::new();
        for named in &parsed {
            if let Some(name) = named.name
                && !names.insert(name.to_ascii_lowercase())
            {
                return Err(named.refuse(Reason::Taken));
            }
        }
        parsed.iter().map(|one| one.offer(&mut names, &mut tcp_ports)).collect()
    }

    /// How many of them need a port of their own.
    pub(super) fn count_tcp(texts: &[String]) -> usize {
        texts.iter().filter(|text| Parsed::read(text).is_ok_and(|one| one.scheme == Scheme::Tcp)).count()
    }

    /// The entry of the agent's configuration.
    pub(super) fn endpoint(&self) -> EndpointConfig {
        EndpointConfig {
            name: self.name.clone(),
            url: RequestedUrl::Exact(self.internal.clone()),
            binding: Binding::Internal,
            upstream: self.upstream.clone(),
            termination: None,
            pooling_enabled: false,
            metadata: String::new(),
            description: String::new(),
            traffic_policy: None,
        }
    }

    /// The entries of the gateway's configuration.
    pub(super) fn cloud_endpoints(&self) -> impl Iterator<Item = Value> {
        self.public.iter().map(|url| {
            let phase = if url.scheme().is_http() { "on_http_request" } else { "on_tcp_connect" };
            let action = json!({"type": "forward-internal", "config": {"url": self.internal.to_string()}});
            json!({"url": url.to_string(), "traffic_policy": {phase: [{"actions": [action]}]}})
        })
    }
}

impl<'a> Parsed<'a> {
    fn read(text: &'a str) -> Result<Self, OfferError> {
        // A name has neither colon nor slash, and no form of an upstream has an equals sign.
        let (name, url) = match text.split_once('=') {
            Some((name, url)) => (Some(name), url),
            None => (None, text),
        };
        let refuse = |reason| OfferError { text: text.to_owned(), reason };
        let scheme = match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("tcp") => Scheme::Tcp,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("tls") => Scheme::Tls,
            _ => Scheme::Https,
        };
        let mut upstream = Upstream::parse(url, scheme).map_err(|error| refuse(Reason::Upstream(error)))?;
        let forwards_to = upstream.to_string();
        if scheme == Scheme::Tls {
            // The visitor speaks TLS with the upstream itself; the agent passes the bytes.
            upstream.scheme = Scheme::Tcp;
        }
        Ok(Self { text, name, scheme, upstream, forwards_to })
    }

    fn offer(
        &self,
        names: &mut HashSet<String>,
        tcp_ports: &mut impl Iterator<Item = u16>,
    ) -> Result<Offer, OfferError> {
        let name = match self.name {
            Some(name) => name.to_ascii_lowercase(),
            None => free_name(names, self.scheme),
        };
        let parse = |url: String| EndpointUrl::parse(&url).map_err(|error| self.refuse(Reason::Name(error)));
        let named = |scheme: Scheme| parse(format!("{scheme}://{name}.{CONNECT_NAME}"));
        let (internal, public) = match self.scheme {
            Scheme::Http | Scheme::Https => {
                (format!("https://{name}.internal"), vec![named(Scheme::Https)?, named(Scheme::Http)?])
            }
            Scheme::Tls => (format!("tls://{name}.internal"), vec![named(Scheme::Tls)?]),
            Scheme::Tcp => {
                let port = tcp_ports.next().unwrap_or_default();
                let internal = format!("tcp://{name}.internal:{}", self.upstream.address.port());
                (internal, vec![parse(format!("tcp://127.0.0.1:{port}"))?])
            }
        };
        let (upstream, forwards_to) = (self.upstream.clone(), self.forwards_to.clone());
        Ok(Offer { internal: parse(internal)?, name, upstream, public, forwards_to })
    }

    fn refuse(&self, reason: Reason) -> OfferError {
        OfferError { text: self.text.to_owned(), reason }
    }
}

/// `web`, `web2`, …
fn free_name(names: &mut HashSet<String>, scheme: Scheme) -> String {
    let stem = match scheme {
        Scheme::Http | Scheme::Https => "web",
        Scheme::Tls => "tls",
        Scheme::Tcp => "tcp",
    };
    let mut name = stem.to_owned();
    let mut number = 1_usize;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{stem}{number}");
    }
    name
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither a URL with a password nor one with a path is understood, so there is no secret in it to repeat, as
        // long as it has no '@'.
        let text = if self.text.contains('@') { "URL" } else { &self.text };
        write!(f, "--upstream {text}: ")?;
        match &self.reason {
            Reason::Upstream(error) => error.fmt(f),
            Reason::Name(error) => write!(f, "the name before '=' must be like a host name: {error}"),
            Reason::Taken => f.write_str("another upstream has this name: give each one of its own"),
        }
    }
}

impl std::error::Error for OfferError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<Offer>, String> {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        Offer::read_all(&texts, 7001..).map_err(|error| error.to_string())
    }

    fn urls(offer: &Offer) -> Vec<String> {
        std::iter::once(&offer.internal).chain(&offer.public).map(ToString::to_string).collect()
    }

    #[test]
    fn upstreams_get_endpoints_by_their_scheme() {
        let offers =
            read(&["8080", "tcp://127.0.0.1:5432", "tls://db.example:8443", "api=https://10.0.0.1", "h:1"]).unwrap();
        let expected: [&[&str]; 5] = [
            &["https://web.internal", "https://web.localhost", "http://web.localhost"],
            &["tcp://tcp.internal:5432", "tcp://127.0.0.1:7001"],
            &["tls://tls.internal", "tls://tls.localhost"],
            &["https://api.internal", "https://api.localhost", "http://api.localhost"],
            &["https://web2.internal", "https://web2.localhost", "http://web2.localhost"],
        ];
        for (offer, expected) in offers.iter().zip(expected) {
            assert_eq!(urls(offer), expected);
        }
        let forwards_to: Vec<_> = offers.iter().map(|offer| &*offer.forwards_to).collect();
        assert_eq!(
            forwards_to,
            [
                "http://localhost:8080",
                "tcp://127.0.0.1:5432",
                "tls://db.example:8443",
                "https://10.0.0.1:443",
                "http://h:1"
            ]
        );
        assert_eq!(offers[2].upstream.scheme, Scheme::Tcp, "the agent does not open what passes through");
    }

    #[test]
    fn names_that_are_given_are_left_free() {
        let offers = read(&["1", "web=2", "WEB2=3", "4"]).unwrap();
        let names: Vec<_> = offers.iter().map(|offer| &*offer.name).collect();
        assert_eq!(names, ["web3", "web", "web2", "web4"]);
    }

    #[test]
    fn mistakes_name_the_upstream_and_what_would_be_right() {
        for (texts, says) in [
            (&["ftp://x:1"][..], "--upstream ftp://x:1: the scheme must be"),
            (&["tcp://x"][..], "--upstream tcp://x: tcp and tls upstreams need a port"),
            (&["a=1", "A=2"][..], "--upstream A=2: another upstream has this name"),
            (&["a b=1"][..], "--upstream a b=1: the name before '='"),
            (&[""][..], "--upstream : must be"),
            (&["http://u:secret@h:1"][..], "--upstream URL: "),
        ] {
            let error = read(texts).unwrap_err();
            assert!(error.starts_with(says) && !error.contains("secret"), "{error}");
        }
    }
}
