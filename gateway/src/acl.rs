//! Access rules of a credential: which endpoint URLs its agents may bind.
//!
//! The grammar is ngrok's `bind:` rule, and what a rule leaves out it does not restrict:
//!
//! | rule | allows |
//! | --- | --- |
//! | `bind:*` or `*` | everything, addresses chosen by the gateway included |
//! | `bind:db.site1.internal` | this name, with every scheme and port |
//! | `bind:*.site1.internal` | every name below, at any depth, and the literal `*.site1.internal`; not `site1.internal` |
//! | `bind:db.site1.internal:5432`, `bind:*:5432` | this port only |
//! | `bind:https://*.site1.internal` | this scheme only |
//! | `bind:tcp://*` | every TCP address, chosen by the gateway or not |
//! | `bind:tcp://` | TCP addresses that the gateway chooses, and no other |
//!
//! A name that the gateway chooses is checked like one that was asked for: `bind:*.apps.example.com` allows the names
//! that it gives below `apps.example.com`.

use std::fmt;
use std::str::FromStr;

use adit::endpoint_url::{EndpointUrl, EndpointUrlError, Scheme};

/// The access rules of one credential: what any of them allows is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    rules: Vec<Rule>,
}

/// One access rule. Displays as it is best written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Grant);

/// Host names that a configuration allows: one name, or all names below a leading `*.`, at any depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(EndpointUrl);

/// What a credential may not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclRefusal {
    /// An endpoint of this name.
    Name,
    /// A public TCP address.
    TcpAddress,
    /// A TCP address of the gateway's choice.
    AssignedTcp,
}

/// Why a text is not an access rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// It does not begin with `bind:`.
    Action,
    /// It is a rule about labels, which only ngrok's retired labelled tunnels have.
    Label,
    /// What follows `bind:` names no endpoint.
    Endpoint(EndpointUrlError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Grant {
    Everything,
    AssignedTcp,
    Endpoints { scheme: Option<Scheme>, host: Hosts, port: Option<u16> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Any,
    Like(HostPattern),
}

impl Acl {
    /// Allows everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { rules: vec![Rule(Grant::Everything)] }
    }

    /// Allows what any of the rules allows; without rules, nothing. Each check looks at all of them.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Tells whether `url` may be bound, be it asked for or a name that the gateway has chosen.
    #[must_use]
    pub fn allows(&self, url: &EndpointUrl) -> bool {
        self.rules.iter().any(|rule| rule.allows(url))
    }

    /// Tells whether the gateway may choose a TCP address for this credential.
    #[must_use]
    pub fn allows_assigned_tcp(&self) -> bool {
        self.rules.iter().any(Rule::allows_assigned_tcp)
    }

    /// Tells whether it allows all that `other` allows, as far as single rules show it: a rule of `other` that only
    /// several rules of this one cover together counts as narrowed.
    #[must_use]
    pub fn is_at_least(&self, other: &Self) -> bool {
        other.rules.iter().all(|narrow| self.rules.iter().any(|wide| wide.is_at_least(narrow)))
    }

    /// Checks `url` like [`Acl::allows`].
    ///
    /// # Errors
    ///
    /// The refusal with the code that agents know for it.
    pub fn check(&self, url: &EndpointUrl) -> Result<(), AclRefusal> {
        if self.allows(url) {
            return Ok(());
        }
        match url.scheme() {
            Scheme::Tcp if !url.is_internal() => Err(AclRefusal::TcpAddress),
            Scheme::Tcp | Scheme::Http | Scheme::Https | Scheme::Tls => Err(AclRefusal::Name),
        }
    }

    /// Checks like [`Acl::allows_assigned_tcp`].
    ///
    /// # Errors
    ///
    /// [`AclRefusal::AssignedTcp`].
    pub fn check_assigned_tcp(&self) -> Result<(), AclRefusal> {
        if self.allows_assigned_tcp() { Ok(()) } else { Err(AclRefusal::AssignedTcp) }
    }
}

impl Rule {
    fn allows(&self, url: &EndpointUrl) -> bool {
        match &self.0 {
            Grant::Everything => true,
            Grant::AssignedTcp => false,
            Grant::Endpoints { scheme, host, port } => {
                scheme.is_none_or(|scheme| scheme == url.scheme())
                    && port.is_none_or(|port| port == url.port())
                    && host.covers(url.host())
            }
        }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        let Grant::Endpoints { scheme, host, port } = &self.0 else {
            return self.0 == Grant::Everything || self == other;
        };
        match &other.0 {
            Grant::Everything => false,
            Grant::AssignedTcp => self.allows_assigned_tcp(),
            Grant::Endpoints { scheme: other_scheme, host: other_host, port: other_port } => {
                (scheme.is_none() || scheme == other_scheme)
                    && (port.is_none() || port == other_port)
                    && host.is_at_least(other_host)
            }
        }
    }

    fn allows_assigned_tcp(&self) -> bool {
        match &self.0 {
            Grant::Everything | Grant::AssignedTcp => true,
            Grant::Endpoints { scheme, host, port } => {
                *scheme == Some(Scheme::Tcp) && *host == Hosts::Any && port.is_none()
            }
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self(Grant::Everything));
        }
        let endpoints = text.strip_prefix(BIND).ok_or(RuleError::Action)?;
        match endpoints {
            "*" => Ok(Self(Grant::Everything)),
            "tcp://" => Ok(Self(Grant::AssignedTcp)),
            labels if labels.contains('=') => Err(RuleError::Label),
            endpoints => parse_endpoints(endpoints).map(Self).map_err(RuleError::Endpoint),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BIND)?;
        match &self.0 {
            Grant::Everything => f.write_str("*"),
            Grant::AssignedTcp => f.write_str("tcp://"),
            Grant::Endpoints { scheme, host, port } => {
                if let Some(scheme) = scheme {
                    write!(f, "{scheme}://")?;
                }
                match host {
                    Hosts::Any => f.write_str("*")?,
                    Hosts::Like(pattern) => write!(f, "{pattern}")?,
                }
                port.iter().try_for_each(|port| write!(f, ":{port}"))
            }
        }
    }
}

impl HostPattern {
    /// Tells whether `host` is this name or lies below it. Case does not matter. A wildcard covers its own literal too.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.0.covers(host)
    }
}

impl FromStr for HostPattern {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        if has_port(text) {
            return Err(EndpointUrlError::Character(':'));
        }
        // The scheme does not matter, only the host is looked at.
        EndpointUrl::from_authority(Scheme::Https, text).map(Self)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host())
    }
}

impl Hosts {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Like(pattern) => pattern.covers(host),
        }
    }

    fn is_at_least(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Like(_), Self::Any) => false,
            // A wildcard covers its own literal and those of the wildcards below it.
            (Self::Like(wide), Self::Like(narrow)) => wide.covers(narrow.0.host()),
        }
    }
}

impl AclRefusal {
    /// The number of its `ERR_NGROK_` code.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Name => 316,
            Self::TcpAddress => 308,
            Self::AssignedTcp => 356,
        }
    }
}

impl fmt::Display for AclRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the access rules of this authtoken do not allow an endpoint of this URL",
            Self::TcpAddress => "the access rules of this authtoken do not allow this TCP address",
            Self::AssignedTcp => {
                "the access rules of this authtoken do not allow a TCP address of the gateway's choice"
            }
        })
    }
}

impl std::error::Error for AclRefusal {}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action => f.write_str("a rule begins with bind:, as in bind:*.site1.internal"),
            Self::Label => {
                f.write_str("labelled tunnels are not supported; a rule names endpoints, as in bind:*.site1.internal")
            }
            Self::Endpoint(error) => {
                write!(f, "{error}, as in bind:*.site1.internal or bind:tcp://db.site1.internal:5432")
            }
        }
    }
}

impl std::error::Error for RuleError {}

fn parse_endpoints(text: &str) -> Result<Grant, EndpointUrlError> {
    let (scheme, authority) = match text.split_once("://") {
        Some((scheme, authority)) => (Some(scheme.parse()?), authority),
        None => (None, text),
    };
    // `*` alone is no host of a URL: any host stands in for it while the port is read.
    let (host, url) = match authority.strip_prefix('*') {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => {
            (Hosts::Any, EndpointUrl::from_authority(Scheme::Https, &format!("any{rest}"))?)
        }
        Some(_) | None => {
            let url = EndpointUrl::from_authority(Scheme::Https, authority)?;
            (Hosts::Like(url.host().parse()?), url)
        }
    };
    let port = has_port(authority).then(|| url.port());
    Ok(Grant::Endpoints { scheme, host, port })
}

/// The colons within the brackets of an IPv6 address are not the one in front of a port.
fn has_port(authority: &str) -> bool {
    authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

/// The only action there is.
const BIND: &str = "bind:";

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(rules: &[&str]) -> Acl {
        Acl::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn allows(rule: &str, url: &str) -> bool {
        acl(&[rule]).allows(&url.parse().unwrap())
    }

    #[test]
    fn rule_allows_what_it_does_not_restrict() {
        let table = [
            ("*", &["https://a.b", "tcp://a.b:1", "tls://*.x.internal"][..], &[][..]),
            ("bind:*", &["https://a.b", "tcp://a.b:1", "tls://*.x.internal"], &[]),
            (
                "bind:db.site1.internal",
                &["https://db.site1.internal", "tcp://db.site1.internal:5432", "tls://DB.site1.internal:8443"],
                &["https://x.db.site1.internal", "https://site1.internal", "https://*.site1.internal"],
            ),
            (
                "bind:*.site1.internal",
                &[
                    "https://a.site1.internal",
                    "http://a.b.site1.internal:81",
                    "tcp://db.site1.internal:5432",
                    "https://*.site1.internal",
                    "https://*.a.site1.internal",
                ],
                &[
                    "https://site1.internal",
                    "https://asite1.internal",
                    "https://a.site2.internal",
                    "https://*.internal",
                ],
            ),
            (
                "bind:db.site1.internal:5432",
                &["tcp://db.site1.internal:5432", "tls://db.site1.internal:5432"],
                &["tcp://db.site1.internal:5433", "https://db.site1.internal"],
            ),
            ("bind:*:5432", &["tcp://db.a.internal:5432"], &["tcp://db.a.internal:5433"]),
            (
                "bind:https://*.site1.internal",
                &["https://a.site1.internal", "https://a.site1.internal:8443"],
                &["http://a.site1.internal", "tls://a.site1.internal", "tcp://a.site1.internal:443"],
            ),
            ("bind:tcp://*", &["tcp://a.b:1"], &["tls://a.b"]),
            ("bind:tcp://*:1", &["tcp://a.b:1"], &["tcp://a.b:2"]),
            ("bind:tcp://gw.example.com:20001", &["tcp://gw.example.com:20001"], &["tcp://gw.example.com:20002"]),
            ("bind:[2001:db8::1]", &["tcp://[2001:db8::1]:22"], &["tcp://[2001:db8::2]:22"]),
            ("bind:[2001:db8::1]:22", &["tcp://[2001:db8::1]:22"], &["tcp://[2001:db8::1]:23"]),
            ("bind:tcp://", &[], &["tcp://a.b:1", "https://a.b"]),
        ];
        for (rule, allowed, refused) in table {
            for url in allowed {
                assert!(allows(rule, url), "{rule} should allow {url}");
            }
            for url in refused {
                assert!(!allows(rule, url), "{rule} should refuse {url}");
            }
        }
    }

    #[test]
    fn assigned_tcp_needs_a_rule_for_it() {
        for rule in ["*", "bind:*", "bind:tcp://", "bind:tcp://*"] {
            assert!(acl(&[rule]).allows_assigned_tcp(), "{rule}");
        }
        for rule in ["bind:*.internal", "bind:tcp://*:20001", "bind:https://*", "bind:*:20001", "bind:tcp://*.internal"]
        {
            assert_eq!(acl(&[rule]).check_assigned_tcp(), Err(AclRefusal::AssignedTcp), "{rule}");
        }
    }

    #[test]
    fn any_rule_suffices_and_none_allows_nothing() {
        let url = "https://b.internal".parse().unwrap();
        assert!(acl(&["bind:a.internal", "bind:b.internal"]).allows(&url));
        assert!(!acl(&[]).allows(&url));
        assert!(Acl::everything().allows(&url));
    }

    #[test]
    fn rules_are_at_least_what_they_cover_one_by_one() {
        let widest_first = [
            &["bind:*"][..],
            &["bind:*.internal", "bind:tcp://*"],
            &["bind:*.internal", "bind:tcp://"],
            &["bind:*.site1.internal", "bind:tcp://"],
            &["bind:https://*.site1.internal", "bind:tcp://"],
            &["bind:https://*.site1.internal:443", "bind:tcp://"],
            &["bind:https://*.a.site1.internal:443", "bind:tcp://"],
            &["bind:https://b.a.site1.internal:443", "bind:tcp://"],
            &["bind:tcp://"],
            &[],
        ];
        for (wide, rules) in widest_first.iter().enumerate() {
            for (narrow, narrower) in widest_first.iter().enumerate() {
                assert_eq!(acl(rules).is_at_least(&acl(narrower)), wide <= narrow, "{rules:?} {narrower:?}");
            }
        }
        for (wide, narrow) in [
            ("bind:a.internal", "bind:b.internal"),
            ("bind:a.internal", "bind:*.internal"),
            ("bind:*.a.internal", "bind:a.internal"),
            ("bind:*:1", "bind:*:2"),
            ("bind:tcp://", "bind:tcp://*"),
            ("bind:tcp://*.internal", "bind:tcp://"),
            ("bind:https://*", "bind:*"),
        ] {
            assert!(!acl(&[wide]).is_at_least(&acl(&[narrow])), "{wide} {narrow}");
        }
        assert!(
            acl(&["bind:b.internal", "bind:a.internal"]).is_at_least(&acl(&["bind:a.internal", "bind:b.internal"]))
        );
    }

    #[test]
    fn refusal_has_the_code_of_its_kind() {
        let nothing = acl(&["bind:other.internal"]);
        for (url, code) in [
            ("https://a.example.com", 316),
            ("tls://a.internal", 316),
            ("tcp://a.internal:5432", 316),
            ("tcp://gw.example.com:20001", 308),
        ] {
            assert_eq!(nothing.check(&url.parse().unwrap()).map_err(AclRefusal::code), Err(code), "{url}");
        }
        assert_eq!(nothing.check_assigned_tcp().map_err(AclRefusal::code), Err(356));
    }

    #[test]
    fn bad_rule_is_refused_with_what_would_be_right() {
        let table = [
            ("", "begins with bind:"),
            ("a.internal", "begins with bind:"),
            ("allow:a.internal", "begins with bind:"),
            ("Bind:a.internal", "begins with bind:"),
            ("bind:app=web", "labelled"),
            ("bind:app=*", "labelled"),
            ("bind:", "host is missing"),
            ("bind:https://", "host is missing"),
            ("bind:a.*.internal", "'*' may only stand alone"),
            ("bind:*a.internal", "'*' may only stand alone"),
            ("bind:**", "'*' may only stand alone"),
            ("bind:a.internal/", "trailing '/'"),
            ("bind:a.internal:0", "between 1 and 65535"),
            ("bind:*:x", "must be a number"),
            ("bind:ssh://a.internal", "the scheme must be"),
            ("bind:a b", "invalid character"),
        ];
        for (rule, says) in table {
            let error = rule.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(says), "{rule}: {error}");
        }
    }

    #[test]
    fn rule_is_written_as_it_is_read() {
        for rule in [
            "bind:*",
            "bind:tcp://",
            "bind:tcp://*",
            "bind:*:5432",
            "bind:*.site1.internal",
            "bind:https://db.site1.internal:8443",
            "bind:tls://[2001:db8::1]:22",
        ] {
            let parsed: Rule = rule.parse().unwrap();
            assert_eq!(parsed.to_string(), rule);
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        assert_eq!("*".parse::<Rule>().unwrap().to_string(), "bind:*");
    }

    #[test]
    fn host_pattern_takes_no_port() {
        assert!("apps.example.com:443".parse::<HostPattern>().is_err());
        assert!("[::1]:443".parse::<HostPattern>().is_err());
        assert!("[::1]".parse::<HostPattern>().unwrap().covers("[::1]"));
        assert!("*.apps.example.com".parse::<HostPattern>().unwrap().covers("x.y.apps.example.com"));
    }
}
