//! How a proxy is asked for a connection to the gateway, as bytes: HTTP's CONNECT and SOCKS5. What is read is bounded,
//! and nothing behind the proxy's answer is taken: those bytes are the gateway's.

mod http_connect;
mod socks5;

use std::fmt;

use self::http_connect::HttpConnect;
use self::socks5::Socks5;
use crate::config::{HostPort, ProxyKind, ProxyUrl};

/// One request for a connection. Write what [`Handshake::poll_transmit`] gives, and give what arrives to
/// [`Handshake::recv`], until that says that the connection is there.
pub struct Handshake {
    protocol: Protocol,
    out: Vec<u8>,
}

enum Protocol {
    Http(HttpConnect),
    Socks5(Socks5),
}

/// Why a proxy gives no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The proxy wants a user name and a password, or does not accept these.
    Credentials {
        /// Whether some were offered.
        offered: bool,
    },
    /// An HTTP status other than 2xx, with what stands beside it in the first line, made printable.
    Status(u16, String),
    /// A redirection: so do captive portals answer.
    Portal(u16),
    /// The proxy said that the connection is there, and went on speaking itself.
    Page,
    /// A SOCKS reply code other than success.
    Reply(u8),
    /// The SOCKS server takes none of the ways to log in that are offered.
    NoMethod,
    /// What answers does not speak the proxy's protocol.
    NotAProxy,
    /// The answer is longer than [`ANSWER_MAX`].
    TooLong,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials { offered: false } => {
                f.write_str("the proxy wants a user name and a password: write them into agent.proxy_url")
            }
            Self::Credentials { offered: true } => {
                f.write_str("the proxy does not accept the user name and password of agent.proxy_url")
            }
            Self::Status(403, text) => {
                write!(f, "the proxy forbids the connection (403 {text}): its operator has to allow the gateway's name and port")
            }
            Self::Status(code @ 500..=599, text) => {
                write!(f, "the proxy cannot reach the gateway ({code} {text})")
            }
            Self::Status(code, text) => write!(f, "the proxy refuses the connection ({code} {text})"),
            Self::Portal(code) => {
                write!(f, "the proxy redirects elsewhere ({code}): this is what a captive portal does whose page waits for a log-in")
            }
            Self::Page => f.write_str(
                "the proxy accepted the connection and then sent a page of its own: a captive portal, or no proxy at all",
            ),
            Self::Reply(code) => write!(f, "the proxy gives no connection: {}", socks5::reply_text(*code)),
            Self::NoMethod => f.write_str("the proxy accepts neither anonymous clients nor a user name and password"),
            Self::NotAProxy => f.write_str("what answers there does not speak the proxy's protocol"),
            Self::TooLong => write!(f, "the proxy's answer is longer than {ANSWER_MAX} bytes"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl Handshake {
    /// Begins to ask `proxy` for a connection to `target`, whose name the proxy looks up.
    #[must_use]
    pub fn new(proxy: &ProxyUrl, target: &HostPort) -> Self {
        let mut out = Vec::new();
        let protocol = match proxy.kind {
            ProxyKind::HttpConnect => Protocol::Http(HttpConnect::new(target, proxy.credentials.as_ref(), &mut out)),
            ProxyKind::Socks5 => Protocol::Socks5(Socks5::new(target, proxy.credentials.clone(), &mut out)),
        };
        Self { protocol, out }
    }

    /// Takes the bytes that are to be written now.
    pub fn poll_transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Takes bytes from the proxy; true when the connection is there. What lies behind the answer in `bytes` is an
    /// error: the gateway does not speak first.
    ///
    /// # Errors
    /// [`ProxyError`]; the handshake is over then.
    pub fn recv(&mut self, bytes: &[u8]) -> Result<bool, ProxyError> {
        match &mut self.protocol {
            Protocol::Http(http) => http.recv(bytes),
            Protocol::Socks5(socks) => socks.recv(bytes, &mut self.out),
        }
    }
}

impl fmt::Debug for Handshake {
    /// Without the bytes: a password is among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

/// Bytes of an answer: a status line and the header fields of a talkative proxy.
pub const ANSWER_MAX: usize = 8 * 1024;
