//! Endpoint URLs: `scheme://host[:port]`, the name under which an endpoint is reached, and nothing more than that.
//!
//! A URL is parsed once, where it enters the program. Afterwards host and port are known to be well formed, the host is
//! in lower case and the port is filled in, so that two URLs mean the same endpoint exactly when they are equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// How visitors speak to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS that the gateway terminates.
    Https,
    /// TLS, routed by the server name of its ClientHello and not opened by the gateway.
    Tls,
    /// Any bytes, routed by the port alone.
    Tcp,
}

impl Scheme {
    /// The scheme as it is written in a URL and in a bind request's `Proto`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }

    /// The port that a URL of this scheme means when it names none; TCP endpoints always have to name theirs.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https | Self::Tls => Some(443),
            Self::Tcp => None,
        }
    }

    /// True when the gateway parses the traffic as HTTP.
    pub const fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Https => true,
            Self::Tls | Self::Tcp => false,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = EndpointUrlError;

    /// Reads one of `http`, `https`, `tls`, `tcp`, in lower case as the wire has it.
    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "tls" => Ok(Self::Tls),
            "tcp" => Ok(Self::Tcp),
            _ => Err(EndpointUrlError::Scheme),
        }
    }
}

/// The address of one endpoint.
///
/// Invariant: the host is a valid DNS name in lower case, such a name below a leading `*.`, an IPv4 address, or an IPv6
/// address in brackets; the port is not 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointUrl {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl EndpointUrl {
    /// Reads `scheme://host[:port]`; a bare `host[:port]` means `https`.
    ///
    /// # Errors
    ///
    /// Anything else that a URL can hold (user, path, a trailing `/`, query, fragment) is refused rather than dropped, so
    /// that nobody relies on a part that has no effect.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        let (scheme, rest) = split_scheme(text)?;
        Self::from_authority(scheme, rest)
    }

    /// Reads the part behind `://`, that is `host[:port]`, for an endpoint of the given scheme.
    ///
    /// # Errors
    ///
    /// As [`EndpointUrl::parse`].
    pub fn from_authority(scheme: Scheme, authority: &str) -> Result<Self, EndpointUrlError> {
        refuse_other_parts(authority)?;
        let (host, port) = split_port(authority)?;
        let host = normalize_host(host)?;
        let port = port.or(scheme.default_port());
        let port = port.ok_or(EndpointUrlError::PortMissing)?;
        let url = Self { scheme, host, port };
        if url.is_internal() && url.host.split('.').count() > INTERNAL_LABELS_MAX {
            return Err(EndpointUrlError::TooManyLabels);
        }
        Ok(url)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case: a name, a name below `*.`, or an IP address (IPv6 in brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's default when the text named none; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as an IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse().ok().map(IpAddr::V6),
            None => self.host.parse().ok().map(IpAddr::V4),
        }
    }

    /// True for names below `.internal`: only `forward-internal` reaches them, never a visitor.
    pub fn is_internal(&self) -> bool {
        self.host.ends_with(INTERNAL_SUFFIX)
    }

    /// True when the host begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.host.starts_with(WILDCARD_PREFIX)
    }

    /// True when `host` is this URL's host, or lies at any depth below its wildcard. Case does not matter.
    pub fn covers(&self, host: &str) -> bool {
        if host.eq_ignore_ascii_case(&self.host) {
            return true;
        }
        let Some(parent) = self.host.strip_prefix(WILDCARD_PREFIX) else {
            return false;
        };
        // The rest must be at least one character and the dot in front of the parent.
        let Some((below, tail)) = host.len().checked_sub(parent.len()).and_then(|at| host.split_at_checked(at)) else {
            return false;
        };
        tail.eq_ignore_ascii_case(parent) && below.len() > 1 && below.ends_with('.')
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.scheme.default_port() == Some(self.port) {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        Self::parse(text)
    }
}

/// What an agent asks for: one address, or any that the gateway likes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestedUrl {
    /// This address.
    Exact(EndpointUrl),
    /// Any address of this scheme; the gateway chooses one.
    Assign {
        /// The scheme wanted.
        scheme: Scheme,
    },
}

impl RequestedUrl {
    /// Reads a URL that may be empty (any `https` address) or only a scheme such as `tcp://` (any address of it).
    ///
    /// # Errors
    ///
    /// As [`EndpointUrl::parse`] when there is a host.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        let (scheme, rest) = split_scheme(text)?;
        if rest.is_empty() {
            return Ok(Self::Assign { scheme });
        }
        EndpointUrl::from_authority(scheme, rest).map(Self::Exact)
    }

    /// The scheme asked for.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Exact(url) => url.scheme(),
            Self::Assign { scheme } => *scheme,
        }
    }
}

impl fmt::Display for RequestedUrl {
    /// Writes what [`RequestedUrl::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(url) => url.fmt(f),
            Self::Assign { scheme } => write!(f, "{scheme}://"),
        }
    }
}

/// Why a text is not the URL of an endpoint.
///
/// The messages never repeat the text: where a user name is refused, a password may stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointUrlError {
    /// The scheme is none of the four.
    Scheme,
    /// The scheme is not that of the endpoint which the URL is for.
    SchemeMismatch,
    /// A subdomain was asked for where there is no domain to put it under.
    BaseDomainMissing,
    /// There is no host.
    HostMissing,
    /// The host has a character that no DNS name has.
    Character(char),
    /// The host has an underscore.
    Underscore,
    /// Two dots follow each other, or a dot is first or last.
    EmptyLabel,
    /// A part of the host begins with a hyphen.
    LabelStart,
    /// A part of the host ends with a hyphen.
    LabelEnd,
    /// A part of the host has hyphens in places 3 and 4 but is not punycode.
    Hyphens,
    /// A part of the host is longer than 63 characters.
    LabelTooLong,
    /// The host is longer than 253 characters.
    HostTooLong,
    /// A `*` stands elsewhere than alone in the first part of the host, or there is nothing behind it.
    Wildcard,
    /// The host looks like an IP address but is none.
    Address,
    /// The port is not a number.
    PortNotNumeric,
    /// The port is not within 1 to 65535.
    PortRange,
    /// A TCP endpoint without a port.
    PortMissing,
    /// An internal name of more than five parts.
    TooManyLabels,
    /// There is a user name or a password.
    UserInfo,
    /// There is a path.
    Path,
    /// There is a query.
    Query,
    /// There is a fragment.
    Fragment,
    /// There is a `/` at the end.
    TrailingSlash,
}

impl EndpointUrlError {
    /// The number of the `ERR_NGROK_` code that ngrok's service has for this mistake.
    pub const fn code(self) -> u32 {
        match self {
            Self::Scheme | Self::SchemeMismatch => 9036,
            Self::BaseDomainMissing => 313,
            Self::HostMissing => 9028,
            Self::Character(_) => 326,
            Self::Underscore => 355,
            Self::EmptyLabel => 327,
            Self::LabelStart => 328,
            Self::LabelEnd => 329,
            Self::Hyphens => 330,
            Self::LabelTooLong => 396,
            Self::HostTooLong => 397,
            Self::Wildcard => 402,
            Self::Address => 9032,
            Self::PortNotNumeric => 9033,
            Self::PortRange | Self::PortMissing => 9030,
            Self::TooManyLabels => 9031,
            Self::UserInfo | Self::Path | Self::Query | Self::Fragment => 9037,
            Self::TrailingSlash => 9038,
        }
    }
}

impl fmt::Display for EndpointUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Scheme => "the scheme must be http, https, tls or tcp",
            Self::SchemeMismatch => "the scheme must be that of the endpoint's protocol",
            Self::BaseDomainMissing => "a full host name is needed: no base domain is set for subdomains",
            Self::HostMissing => "the host is missing: write scheme://host or scheme://host:port",
            Self::Character(character) => {
                return write!(
                    f,
                    "invalid character {character:?} in the host: only a-z, 0-9, '-', '.' and a leading '*.' are allowed"
                );
            }
            Self::Underscore => "the host must not contain '_'",
            Self::EmptyLabel => "the host must not begin or end with a dot or have two in a row",
            Self::LabelStart => "every part of the host must begin with a letter or a digit",
            Self::LabelEnd => "every part of the host must end with a letter or a digit",
            Self::Hyphens => "'--' as third and fourth character of a part of the host is reserved for 'xn--'",
            Self::LabelTooLong => "a part of the host must not be longer than 63 characters",
            Self::HostTooLong => "the host must not be longer than 253 characters",
            Self::Wildcard => "a '*' may only stand alone in front of a name, as in *.example.com",
            Self::Address => {
                "the host must be a name, an IPv4 address such as 192.0.2.1 or an IPv6 address such as [2001:db8::1]"
            }
            Self::PortNotNumeric => "the port must be a number",
            Self::PortRange => "the port must be between 1 and 65535",
            Self::PortMissing => "a tcp endpoint needs a port, as in tcp://db.internal:5432",
            Self::TooManyLabels => "an internal name must not have more than 5 parts, as in a.b.c.d.internal",
            Self::UserInfo => "a user name or password is not allowed",
            Self::Path => "a path is not allowed",
            Self::Query => "a query is not allowed",
            Self::Fragment => "a fragment is not allowed",
            Self::TrailingSlash => "a trailing '/' is not allowed",
        };
        f.write_str(text)
    }
}

impl std::error::Error for EndpointUrlError {}

fn split_scheme(text: &str) -> Result<(Scheme, &str), EndpointUrlError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok((Scheme::Https, text));
    };
    let known = SCHEMES.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_str()));
    known.map(|scheme| (scheme, rest)).ok_or(EndpointUrlError::Scheme)
}

fn refuse_other_parts(text: &str) -> Result<(), EndpointUrlError> {
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, other) = text.split_at(end);
    if authority.contains('@') {
        return Err(EndpointUrlError::UserInfo);
    }
    match other.as_bytes() {
        [] => Ok(()),
        b"/" => Err(EndpointUrlError::TrailingSlash),
        [b'?', ..] => Err(EndpointUrlError::Query),
        [b'#', ..] => Err(EndpointUrlError::Fragment),
        [..] => Err(EndpointUrlError::Path),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), EndpointUrlError> {
    // The colons inside the brackets of an IPv6 address are not the one in front of the port.
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (bracketed, rest) = authority.split_at(after_bracket);
    if bracketed.is_empty() {
        return match rest.split_once(':') {
            None => Ok((rest, None)),
            Some((_, port)) if port.contains(':') => Err(EndpointUrlError::Address),
            Some((host, port)) => Ok((host, Some(parse_port(port)?))),
        };
    }
    if rest.is_empty() {
        return Ok((bracketed, None));
    }
    let port = rest.strip_prefix(':').ok_or(EndpointUrlError::Address)?;
    Ok((bracketed, Some(parse_port(port)?)))
}

fn parse_port(text: &str) -> Result<u16, EndpointUrlError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointUrlError::PortNotNumeric);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(EndpointUrlError::PortRange),
        Ok(port) => Ok(port),
    }
}

fn normalize_host(host: &str) -> Result<String, EndpointUrlError> {
    if host.is_empty() {
        return Err(EndpointUrlError::HostMissing);
    }
    if host.starts_with('[') {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return address.map(|address| format!("[{address}]")).ok_or(EndpointUrlError::Address);
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    check_name(host)?;
    Ok(host.to_ascii_lowercase())
}

fn check_name(host: &str) -> Result<(), EndpointUrlError> {
    if host.len() > HOST_BYTES_MAX {
        return Err(EndpointUrlError::HostTooLong);
    }
    let name = host.strip_prefix(WILDCARD_PREFIX).unwrap_or(host);
    if name.contains('*') {
        return Err(EndpointUrlError::Wildcard);
    }
    for label in name.split('.') {
        check_label(label)?;
    }
    // "8080" or "1.2.3" would be a name to us and an address to the next program.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointUrlError::Address);
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), EndpointUrlError> {
    let odd = label.chars().find(|character| !(character.is_ascii_alphanumeric() || *character == '-'));
    match odd {
        Some('_') => return Err(EndpointUrlError::Underscore),
        Some(character) => return Err(EndpointUrlError::Character(character)),
        None => {}
    }
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(EndpointUrlError::EmptyLabel);
    };
    if *first == b'-' {
        return Err(EndpointUrlError::LabelStart);
    }
    if *last == b'-' {
        return Err(EndpointUrlError::LabelEnd);
    }
    if bytes.len() > LABEL_BYTES_MAX {
        return Err(EndpointUrlError::LabelTooLong);
    }
    if bytes.get(2..4) == Some(b"--") && !bytes[..2].eq_ignore_ascii_case(b"xn") {
        return Err(EndpointUrlError::Hyphens);
    }
    Ok(())
}

const SCHEMES: [Scheme; 4] = [Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp];

/// The top-level domain of endpoints that only `forward-internal` reaches; ICANN reserved it for private use.
const INTERNAL_SUFFIX: &str = ".internal";

const WILDCARD_PREFIX: &str = "*.";

/// ngrok's limit for internal names (ERR_NGROK_9031), `internal` itself included.
const INTERNAL_LABELS_MAX: usize = 5;

/// The longest name that DNS can carry, written with dots (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The longest part of a name between two dots (RFC 1035, 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    #[test]
    fn url_is_read_and_written_in_its_shortest_form() {
        let cases = [
            ("app.internal", "https://app.internal", 443),
            ("https://app.internal", "https://app.internal", 443),
            ("HTTPS://App.Internal:443", "https://app.internal", 443),
            ("app.internal:8443", "https://app.internal:8443", 8443),
            ("http://app.internal:80", "http://app.internal", 80),
            ("http://app.internal:443", "http://app.internal:443", 443),
            ("tls://*.db.example.com", "tls://*.db.example.com", 443),
            ("tcp://db.internal:5432", "tcp://db.internal:5432", 5432),
            ("tcp://db.internal:443", "tcp://db.internal:443", 443),
            ("tcp://192.0.2.1:65535", "tcp://192.0.2.1:65535", 65535),
            ("tcp://[2001:DB8:0::1]:22", "tcp://[2001:db8::1]:22", 22),
            ("https://[::1]", "https://[::1]", 443),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", 443),
            ("https://app.localhost", "https://app.localhost", 443),
            ("https://localhost", "https://localhost", 443),
            ("https://1.example2", "https://1.example2", 443),
        ];
        for (text, shortest, port) in cases {
            let parsed = url(text);
            assert_eq!((parsed.to_string().as_str(), parsed.port()), (shortest, port), "{text}");
            assert_eq!(url(shortest), parsed, "{text}");
        }
    }

    #[test]
    fn bad_url_is_refused_with_the_code_for_its_mistake() {
        use EndpointUrlError as E;
        let long_label = format!("https://{}.internal", "a".repeat(64));
        let long_host = format!("https://{}internal", "abcdefghi.".repeat(25));
        let cases = [
            ("", E::HostMissing, 9028),
            ("https://", E::HostMissing, 9028),
            ("tcp://:5432", E::HostMissing, 9028),
            ("ssh://app.internal", E::Scheme, 9036),
            ("://app.internal", E::Scheme, 9036),
            ("https://1.21 gigawatts", E::Character(' '), 326),
            ("https://bücher.example", E::Character('ü'), 326),
            ("https://app.internal%00", E::Character('%'), 326),
            ("https://app\\x.internal", E::Character('\\'), 326),
            ("https://my_app.internal", E::Underscore, 355),
            ("https://a..internal", E::EmptyLabel, 327),
            ("https://.internal", E::EmptyLabel, 327),
            ("https://app.internal.", E::EmptyLabel, 327),
            ("https://-a.internal", E::LabelStart, 328),
            ("https://a-.internal", E::LabelEnd, 329),
            ("https://ab--c.internal", E::Hyphens, 330),
            (&long_label, E::LabelTooLong, 396),
            (&long_host, E::HostTooLong, 397),
            ("https://a.*.internal", E::Wildcard, 402),
            ("https://a*.internal", E::Wildcard, 402),
            ("https://*", E::Wildcard, 402),
            ("https://*.*.internal", E::Wildcard, 402),
            ("https://*.", E::EmptyLabel, 327),
            ("8080", E::Address, 9032),
            ("https://1.2.3.4.5", E::Address, 9032),
            ("https://256.1.1.1", E::Address, 9032),
            ("https://::1", E::Address, 9032),
            ("https://[::1]x", E::Address, 9032),
            ("https://[fe80::1%eth0]", E::Address, 9032),
            ("https://[app.internal]", E::Address, 9032),
            ("https://app.internal:", E::PortNotNumeric, 9033),
            ("https://app.internal:+443", E::PortNotNumeric, 9033),
            ("https://app.internal:http", E::PortNotNumeric, 9033),
            ("https://app.internal:0", E::PortRange, 9030),
            ("https://app.internal:65536", E::PortRange, 9030),
            ("tcp://app.internal:99999999999999999999", E::PortRange, 9030),
            ("tcp://db.internal", E::PortMissing, 9030),
            ("https://a.b.c.d.e.internal", E::TooManyLabels, 9031),
            ("https://invalid@domain.com", E::UserInfo, 9037),
            ("https://user:password@domain.com/", E::UserInfo, 9037),
            ("https://domain.com/path", E::Path, 9037),
            ("https://domain.com//", E::Path, 9037),
            ("https://domain.com?q", E::Query, 9037),
            ("https://domain.com#f", E::Fragment, 9037),
            ("https://domain.com/", E::TrailingSlash, 9038),
        ];
        for (text, error, code) in cases {
            assert_eq!(EndpointUrl::parse(text), Err(error), "{text}");
            assert_eq!(error.code(), code, "{text}");
        }
    }

    #[test]
    fn limits_hold_exactly_at_their_bound() {
        assert!(EndpointUrl::parse("https://a.b.c.d.internal").is_ok());
        assert!(EndpointUrl::parse("https://a.b.c.d.e.f.example.com").is_ok());
        assert!(EndpointUrl::parse(&format!("https://{}.internal", "a".repeat(63))).is_ok());
        let host = format!("{}{}", "abcdefghi.".repeat(25), "com");
        assert_eq!(host.len(), HOST_BYTES_MAX);
        assert!(EndpointUrl::parse(&host).is_ok());
        assert_eq!(EndpointUrl::parse(&format!("{host}m")), Err(EndpointUrlError::HostTooLong));
    }

    #[test]
    fn wildcard_covers_every_depth_below_and_not_the_parent() {
        let wildcard = url("https://*.example.com");
        assert!(wildcard.is_wildcard());
        for host in ["a.example.com", "FOO.bar.baz.Example.Com", "*.example.com"] {
            assert!(wildcard.covers(host), "{host}");
        }
        for host in ["example.com", ".example.com", "aexample.com", "a.example.org", "", "ü.xample.com"] {
            assert!(!wildcard.covers(host), "{host}");
        }
        let exact = url("https://a.example.com");
        assert!(exact.covers("A.example.com"));
        assert!(!exact.covers("b.a.example.com"));
    }

    #[test]
    fn internal_is_decided_by_the_last_label() {
        assert!(url("app.internal").is_internal());
        assert!(url("*.internal").is_internal());
        assert!(!url("internal").is_internal());
        assert!(!url("app.internal.example.com").is_internal());
        assert!(!url("notinternal").is_internal());
    }

    #[test]
    fn ip_is_only_that_of_a_literal() {
        assert_eq!(url("tcp://[::1]:1").ip(), Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!(url("tcp://10.0.0.1:1").ip(), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(url("localhost").ip(), None);
    }

    #[test]
    fn requested_url_without_host_leaves_the_choice() {
        for (text, scheme) in [("", Scheme::Https), ("https://", Scheme::Https), ("tcp://", Scheme::Tcp)] {
            assert_eq!(RequestedUrl::parse(text), Ok(RequestedUrl::Assign { scheme }), "{text}");
        }
        assert_eq!(RequestedUrl::parse("tcp://a.b:1"), Ok(RequestedUrl::Exact(url("tcp://a.b:1"))));
        assert_eq!(RequestedUrl::parse("tcp://a.b"), Err(EndpointUrlError::PortMissing));
    }

    #[test]
    fn error_never_repeats_a_password() {
        let error = EndpointUrl::parse("https://user:hunter2@domain.com").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_a_round_trip(text in ".{0,80}") {
            if let Ok(parsed) = EndpointUrl::parse(&text) {
                prop_assert_eq!(EndpointUrl::parse(&parsed.to_string()), Ok(parsed));
            }
        }

        #[test]
        fn likely_text_is_refused_or_survives_a_round_trip(text in "(http|https|tls|tcp|)(://)?[a-zA-Z0-9.*:@/\\[\\]-]{0,24}") {
            if let Ok(parsed) = EndpointUrl::parse(&text) {
                prop_assert!(parsed.covers(parsed.host()));
                prop_assert_eq!(EndpointUrl::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
