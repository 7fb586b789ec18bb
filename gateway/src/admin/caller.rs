//! Who asks at the admin listener, and what they may.

use std::fmt;
use std::net::SocketAddr;

use http::{HeaderMap, header};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this machine that may open the Unix socket.
    Local {
        /// The user that it runs as.
        uid: u32,
        /// The process, where the system says it.
        pid: Option<i32>,
    },
    /// Somebody with a certificate of the authorities for it; the SHA-256 of the certificate in hexadecimal.
    Certified { address: SocketAddr, fingerprint: String },
    /// Anybody on this machine.
    Loopback(SocketAddr),
}

/// Why somebody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Only those who can open the Unix socket or have a certificate may change anything.
    ReadOnly,
    /// A page of another origin has made a browser ask.
    Browser,
    /// The name in the request is none of this machine's: a page may have made up a name that leads here.
    Host,
}

impl Caller {
    /// Who it is whenever they ask: the user, the certificate, or the address.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Local { uid, .. } => format!("uid {uid}"),
            Self::Certified { fingerprint, .. } => format!("certificate {fingerprint}"),
            Self::Loopback(address) => address.ip().to_string(),
        }
    }

    /// Judges a request by who sends it. `changes`: it would change something.
    pub(crate) fn check(&self, headers: &HeaderMap, changes: bool) -> Result<(), Refusal> {
        if changes && headers.contains_key(header::ORIGIN) {
            return Err(Refusal::Browser);
        }
        match self {
            Self::Local { .. } | Self::Certified { .. } => Ok(()),
            Self::Loopback(_) if changes => Err(Refusal::ReadOnly),
            Self::Loopback(_) if !has_local_host(headers) => Err(Refusal::Host),
            Self::Loopback(_) => Ok(()),
        }
    }
}

/// Tells whether the request names this machine by an address or as `localhost`. Who was led here by a name of its own
/// making would name that.
fn has_local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return false };
    let Some(authority) = host.to_str().ok().and_then(|text| text.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Local { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Certified { address, fingerprint } => write!(f, "certificate {fingerprint} from {address}"),
            Self::Loopback(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "this address only shows; what changes something goes through admin.socket or admin.tls",
            Self::Browser => "no web page may change anything here",
            Self::Host => "ask for localhost or an address of this machine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_socket_and_certificates_change_anything() {
        let address = "127.0.0.1:5".parse().unwrap();
        let local = Caller::Local { uid: 0, pid: Some(7) };
        let certified = Caller::Certified { address, fingerprint: "ab".into() };
        let anybody = Caller::Loopback(address);
        let plain = headers(&[(header::HOST, "localhost:4041")]);
        for (caller, changes, expected) in [
            (&local, true, Ok(())),
            (&certified, true, Ok(())),
            (&anybody, false, Ok(())),
            (&anybody, true, Err(Refusal::ReadOnly)),
        ] {
            assert_eq!(caller.check(&plain, changes), expected, "{caller}");
        }
        let from_a_page = headers(&[(header::ORIGIN, "https://example.com")]);
        assert_eq!(local.check(&from_a_page, true), Err(Refusal::Browser));
        assert_eq!(certified.check(&from_a_page, true), Err(Refusal::Browser));
        assert_eq!(local.check(&from_a_page, false), Ok(()));
    }

    #[test]
    fn names_that_lead_here_are_refused_at_the_address() {
        let anybody = Caller::Loopback("[::1]:5".parse().unwrap());
        assert_eq!(anybody.check(&HeaderMap::new(), false), Err(Refusal::Host), "it names nothing");
        for (host, is_fine) in [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("127.0.0.1:4041", true),
            ("[::1]:4041", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example:4041", false),
            ("a b", false),
        ] {
            assert_eq!(anybody.check(&headers(&[(header::HOST, host)]), false).is_ok(), is_fine, "{host}");
        }
    }
}
