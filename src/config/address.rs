//! A host and a port to connect to, as files write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where to connect: a name or an IP address, and a port.
///
/// Invariant: the host is a name in lower case or an IP literal without brackets; the port is not 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// Reads `host:port`, or `host` when there is a default port. IPv6 addresses stand in brackets; a bare one is
    /// understood only without a port.
    ///
    /// # Errors
    /// The part that is missing or wrong.
    pub fn parse(text: &str, port_default: Option<u16>) -> Result<Self, AddressError> {
        let (host, port) = split(text)?;
        let host = parse_host(host)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => port_default.ok_or(AddressError::PortMissing)?,
        };
        Ok(Self { host, port })
    }

    /// Reads ngrok's `connect_url`: `host`, `host:port`, or a URL of scheme `https` or `tls`; port 443 by default.
    ///
    /// # Errors
    /// Another scheme, a path, a user name, or what [`HostPort::parse`] refuses.
    pub fn parse_connect_url(text: &str) -> Result<Self, AddressError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("tls") => rest,
            Some(_) => return Err(AddressError::ConnectScheme),
            None => text,
        };
        Self::parse(without_trailing_slash(rest), Some(CONNECT_PORT_DEFAULT))
    }

    /// The name in lower case, or the IP address; IPv6 without brackets, possibly with a zone (`fe80::1%eth0`).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    /// `host:port`, IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a text is not an address to connect to. The messages never repeat the text: a password may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// There is no host.
    HostMissing,
    /// There is no port and no default.
    PortMissing,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The host has a character that no name has.
    Character(char),
    /// A part of the name is empty, too long, or begins or ends with a hyphen.
    Label,
    /// The name is too long.
    HostTooLong,
    /// Only digits and dots, but no IPv4 address.
    Ipv4,
    /// What stands in the brackets is no IPv6 address.
    Ipv6,
    /// An IPv6 address with a port but without brackets, or brackets that do not close.
    Brackets,
    /// A path, a query or a fragment.
    Path,
    /// A user name or password.
    UserInfo,
    /// The connect URL has a scheme that is not TLS.
    ConnectScheme,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::HostMissing => "the host is missing: write host or host:port",
            Self::PortMissing => "the port is missing: write host:port",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Character(character) => {
                return write!(
                    f,
                    "invalid character {character:?} in the host: a name has a-z, 0-9, '-', '_' and '.' (others as punycode, xn--...)"
                );
            }
            Self::Label => "every part of the host must have 1 to 63 characters and no '-' at its ends",
            Self::HostTooLong => "the host must not be longer than 253 characters",
            Self::Ipv4 => "the host is only digits and dots but no IPv4 address such as 192.0.2.1",
            Self::Ipv6 => "what stands in brackets must be an IPv6 address such as [2001:db8::1]",
            Self::Brackets => "an IPv6 address must stand in brackets, as in [2001:db8::1]:443",
            Self::Path => "a path, query or fragment is not allowed",
            Self::UserInfo => "a user name or password is not allowed",
            Self::ConnectScheme => {
                "must be host, host:port, https://host:port or tls://host:port: the connection is always TLS"
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for AddressError {}

/// Drops a lone `/` at the end, which people copy from a browser.
pub(crate) fn without_trailing_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

/// The host, IPv6 still in brackets, and the port's text.
fn split(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if text.contains('@') {
        return Err(AddressError::UserInfo);
    }
    if text.contains(['/', '?', '#']) {
        return Err(AddressError::Path);
    }
    if text.starts_with('[') {
        let end = text.find(']').ok_or(AddressError::Brackets)?;
        let (host, tail) = text.split_at_checked(end.saturating_add(1)).ok_or(AddressError::Brackets)?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err(AddressError::Brackets),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(AddressError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(AddressError::Port),
        Ok(port) => Ok(port),
    }
}

fn parse_host(host: &str) -> Result<String, AddressError> {
    if host.is_empty() {
        return Err(AddressError::HostMissing);
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        return parse_ipv6(inner);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(host.parse::<Ipv4Addr>().map_or(AddressError::Ipv4, |_| AddressError::Label));
    }
    let odd = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    if let Some(odd) = odd {
        return Err(AddressError::Character(odd));
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(AddressError::HostTooLong);
    }
    for label in host.split('.') {
        let fits = (1..=LABEL_BYTES_MAX).contains(&label.len());
        if !fits || label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Label);
        }
    }
    Ok(host.to_ascii_lowercase())
}

/// An IPv6 address, with the zone that link-local addresses need.
fn parse_ipv6(text: &str) -> Result<String, AddressError> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address = address.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6)?;
    let Some(zone) = zone else {
        return Ok(address.to_string());
    };
    let plain = !zone.is_empty()
        && zone.len() <= ZONE_BYTES_MAX
        && zone.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
    if !plain {
        return Err(AddressError::Ipv6);
    }
    Ok(format!("{address}%{zone}"))
}

/// The official connect port, which firewalls let out.
pub(crate) const CONNECT_PORT_DEFAULT: u16 = 443;

/// RFC 1035, section 2.3.4, in text form.
const HOST_BYTES_MAX: usize = 253;

/// RFC 1035, section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// IFNAMSIZ of Linux less the closing zero.
const ZONE_BYTES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_url_in_every_form_is_read() {
        let table = [
            ("connect.example.com", "connect.example.com:443"),
            ("Connect.Example.com:8443", "connect.example.com:8443"),
            ("https://connect.example.com", "connect.example.com:443"),
            ("https://connect.example.com/", "connect.example.com:443"),
            ("tls://connect.example.com:444", "connect.example.com:444"),
            ("192.0.2.7", "192.0.2.7:443"),
            ("[2001:DB8::1]", "[2001:db8::1]:443"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("[fe80::1%eth0]:443", "[fe80::1%eth0]:443"),
            ("box_1", "box_1:443"),
        ];
        for (text, expected) in table {
            assert_eq!(
                HostPort::parse_connect_url(text).map(|address| address.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn wrong_connect_url_names_its_fault() {
        let long = "a".repeat(64);
        let table = [
            ("", AddressError::HostMissing),
            (":443", AddressError::HostMissing),
            ("http://connect.example.com", AddressError::ConnectScheme),
            ("tcp://connect.example.com", AddressError::ConnectScheme),
            ("connect.example.com:0", AddressError::Port),
            ("connect.example.com:65536", AddressError::Port),
            ("connect.example.com:+443", AddressError::Port),
            ("connect.example.com:", AddressError::Port),
            ("https://user:pw@connect.example.com", AddressError::UserInfo),
            ("connect.example.com/path", AddressError::Path),
            ("connect.example.com?x", AddressError::Path),
            ("connect example.com", AddressError::Character(' ')),
            ("bücher.example", AddressError::Character('ü')),
            ("connect..example.com", AddressError::Label),
            ("connect.example.com.", AddressError::Label),
            ("-a.example.com", AddressError::Label),
            (&long, AddressError::Label),
            ("443", AddressError::Ipv4),
            ("1.2.3", AddressError::Ipv4),
            ("[nonsense]:1", AddressError::Ipv6),
            ("[fe80::1%]:1", AddressError::Ipv6),
            ("[::1", AddressError::Brackets),
            ("[::1]443", AddressError::Brackets),
            ("::1:2:443x", AddressError::Brackets),
        ];
        for (text, expected) in table {
            assert_eq!(HostPort::parse_connect_url(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn port_without_default_is_required() {
        assert_eq!(HostPort::parse("db", None), Err(AddressError::PortMissing));
        assert_eq!(HostPort::parse("db:5432", None).map(|address| address.port()), Ok(5432));
    }

    #[test]
    fn host_is_accepted_at_its_limit_and_refused_beyond() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(HostPort::parse(&name, Some(1)).is_ok());
        assert_eq!(HostPort::parse(&format!("{name}a"), Some(1)), Err(AddressError::HostTooLong));
    }
}
