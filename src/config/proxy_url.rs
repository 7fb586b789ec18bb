//! The proxy through which the gateway is reached, as files and environments write it.

use std::fmt;

use super::address::{AddressError, HostPort, without_trailing_slash};
use crate::message::Secret;

/// A proxy. It prints as its URL without the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyUrl {
    /// How it is spoken to.
    pub kind: ProxyKind,
    /// Where it is.
    pub address: HostPort,
    /// Who the agent is to it.
    pub credentials: Option<ProxyCredentials>,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP's method CONNECT.
    HttpConnect,
    /// SOCKS version 5; the proxy looks the gateway's name up.
    Socks5,
}

/// A user name and a password, both decoded. SOCKS5 bears 255 bytes of each; so much holds for both protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyCredentials {
    /// The user name, not empty.
    pub user: Secret,
    /// The password, possibly empty.
    pub password: Secret,
}

impl ProxyUrl {
    /// Reads `http://[user[:password]@]host[:port]` or the same with `socks5` or `socks5h`; without a scheme, `http` is
    /// meant.
    ///
    /// # Errors
    /// The part that is wrong.
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::HttpConnect, HTTP_PORT_DEFAULT),
            "socks5" | "socks5h" => (ProxyKind::Socks5, SOCKS_PORT_DEFAULT),
            "https" => return Err(ProxyUrlError::TlsToProxy),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let (userinfo, place) = match rest.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, rest),
        };
        let address = HostPort::parse(without_trailing_slash(place), Some(port)).map_err(ProxyUrlError::Address)?;
        let credentials = userinfo.map(ProxyCredentials::parse).transpose()?;
        Ok(Self { kind, address, credentials })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::HttpConnect => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl ProxyCredentials {
    fn parse(userinfo: &str) -> Result<Self, ProxyUrlError> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (user, password) = (decoded(user)?, decoded(password)?);
        if user.is_empty() {
            return Err(ProxyUrlError::UserMissing);
        }
        // HTTP's Basic scheme ends the name at the first colon.
        if user.contains(':') {
            return Err(ProxyUrlError::UserCharacter);
        }
        Ok(Self { user: Secret::new(user), password: Secret::new(password) })
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, ProxyUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit));
        let (Some(high), Some(low)) = (high, low) else { return Err(ProxyUrlError::Percent) };
        bytes.push(high << 4 | low);
    }
    if bytes.len() > CREDENTIAL_BYTES_MAX {
        return Err(ProxyUrlError::CredentialTooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| ProxyUrlError::Percent)?;
    if text.chars().any(char::is_control) {
        return Err(ProxyUrlError::UserCharacter);
    }
    Ok(text)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Why a text is no proxy. The messages never repeat the text: a password may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyUrlError {
    /// A scheme that no proxy here has.
    Scheme,
    /// TLS to the proxy itself.
    TlsToProxy,
    /// The host or the port.
    Address(AddressError),
    /// A password without a user name.
    UserMissing,
    /// The user name or the password has a control character, or the name a colon.
    UserCharacter,
    /// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
    Percent,
    /// The user name or the password is too long.
    CredentialTooLong,
}

impl fmt::Display for ProxyUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "must be http://host:port or socks5://host:port, with user:password@ before the host",
            Self::TlsToProxy => {
                "TLS to the proxy itself is not supported: use http://host:port; what passes through is TLS anyway"
            }
            Self::Address(error) => return error.fmt(f),
            Self::UserMissing => "the user name before the password is missing",
            Self::UserCharacter => {
                "the user name must have no colon, and neither it nor the password a control character"
            }
            Self::Percent => {
                "a % before the host must be followed by two hexadecimal digits: write %25 for the sign itself"
            }
            Self::CredentialTooLong => "the user name and the password must have at most 255 bytes each",
        })
    }
}

impl std::error::Error for ProxyUrlError {}

/// RFC 9110, section 4.2.1.
const HTTP_PORT_DEFAULT: u16 = 80;

/// RFC 1928, section 3.
const SOCKS_PORT_DEFAULT: u16 = 1080;

/// RFC 1929, section 2.
const CREDENTIAL_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_in_every_form_is_read_and_shown_without_credentials() {
        for (text, shown, user, password) in [
            ("http://proxy.lan:3128", "http://proxy.lan:3128", None, ""),
            ("proxy.lan:3128", "http://proxy.lan:3128", None, ""),
            ("HTTP://Proxy.lan/", "http://proxy.lan:80", None, ""),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080", None, ""),
            ("socks5h://192.0.2.1:1081", "socks5://192.0.2.1:1081", None, ""),
            ("http://me@proxy.lan", "http://proxy.lan:80", Some("me"), ""),
            ("http://me:s%40cr%3At@proxy.lan", "http://proxy.lan:80", Some("me"), "s@cr:t"),
            ("http://b%c3%bccher:a@b@proxy.lan", "http://proxy.lan:80", Some("bücher"), "a@b"),
        ] {
            let proxy = ProxyUrl::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            let credentials = proxy.credentials.as_ref();
            assert_eq!(credentials.map(|it| it.user.expose()), user, "{text}");
            assert_eq!(credentials.map_or("", |it| it.password.expose()), password, "{text}");
            assert!(password.is_empty() || !format!("{proxy:?}").contains(password), "{proxy:?}");
        }
    }

    #[test]
    fn wrong_proxy_names_its_fault() {
        let long = format!("http://{}@proxy", "a".repeat(CREDENTIAL_BYTES_MAX + 1));
        for (text, expected) in [
            ("https://proxy.lan:3128", ProxyUrlError::TlsToProxy),
            ("socks4://proxy.lan", ProxyUrlError::Scheme),
            ("", ProxyUrlError::Address(AddressError::HostMissing)),
            ("http://proxy.lan:0", ProxyUrlError::Address(AddressError::Port)),
            ("http://proxy.lan/path", ProxyUrlError::Address(AddressError::Path)),
            ("http://:pw@proxy.lan", ProxyUrlError::UserMissing),
            ("http://a%3ab:pw@proxy.lan", ProxyUrlError::UserCharacter),
            ("http://a:%0d%0a@proxy.lan", ProxyUrlError::UserCharacter),
            ("http://a:50%@proxy.lan", ProxyUrlError::Percent),
            ("http://a:%ff@proxy.lan", ProxyUrlError::Percent),
            (&long, ProxyUrlError::CredentialTooLong),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(expected), "{text}");
        }
        assert!(ProxyUrl::parse(&format!("http://{}@proxy", "a".repeat(CREDENTIAL_BYTES_MAX))).is_ok());
    }
}
