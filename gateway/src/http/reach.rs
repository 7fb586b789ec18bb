//! What the HTTP side asks of the rest of the gateway: which endpoint answers for a name, and a stream to an agent.
//!
//! Everything here is plain data or one narrow trait, so that the HTTP side can be tested without agents.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::access_log::Site;
use crate::ledger::Ledger;
use crate::login::LogIns;
use crate::policy::Policy;

/// The way from a public name to bytes that an agent answers.
///
/// All look-ups are local, quick and never block; only [`Reach::open`] and [`Reach::draining`] wait.
pub trait Reach: Send + Sync + 'static {
    /// One proxy stream. Reading `Ok(0)` means the agent ended it cleanly; an abort is an error
    /// (`ConnectionReset`, or `ConnectionRefused` when the agent could not reach its upstream). Dropping it before both
    /// ends were seen aborts it.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Finds the endpoint that answers for a public name; the most specific one wins, and of a pool one member is drawn.
    ///
    /// `host` is in lower case, without port and without a trailing dot.
    ///
    /// # Errors
    /// [`Unreachable`] when nothing answers for the name now.
    fn public(&self, scheme: Scheme, host: &str, port: u16) -> Result<PublicEndpoint, Unreachable>;

    /// Finds the internal endpoint of an account; of a pool one member is drawn.
    ///
    /// # Errors
    /// [`Unreachable`] when this account has no such endpoint online.
    fn internal(&self, account: &str, url: &EndpointUrl) -> Result<Target, Unreachable>;

    /// Waits for an internal endpoint that is offline and may be on its way, such as after a restart of the gateway;
    /// at once wherever that is not so.
    fn arrival(&self, account: &str, url: &EndpointUrl) -> impl Future<Output = ()> + Send {
        let _ = (account, url);
        std::future::ready(())
    }

    /// Tells whether the gateway itself listens on this port for this scheme. A visitor that came in elsewhere cannot name
    /// it: what is served there only, on a private address for instance, is not for it.
    fn listens_on(&self, scheme: Scheme, port: u16) -> bool {
        let _ = (scheme, port);
        false
    }

    /// The answer to an authority that asks, without TLS, whether this name is the gateway's (RFC 8555, 8.3); `None` for
    /// all other requests.
    fn proof(&self, host: &str, path: &str) -> Option<String> {
        let _ = (host, path);
        None
    }

    /// Opens a proxy stream to the agent of `target`, its header already sent. With `is_opened` its bytes are what was
    /// inside a visitor's TLS that has ended here, also where the endpoint is one for TLS.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the request has left the gateway then, so it may be tried elsewhere.
    fn open(
        &self,
        target: &Target,
        visitor: &Visitor,
        is_opened: bool,
    ) -> impl Future<Output = Result<Self::Stream, OpenError>> + Send;

    /// Sessions of people who log in, if that is possible here.
    fn log_ins(&self) -> Option<Arc<LogIns>> {
        None
    }

    /// Where it is noted what happens; `None`: nowhere.
    fn ledger(&self) -> Option<Arc<Ledger>> {
        None
    }

    /// Whose a session is, as long as it is there.
    fn site(&self, session: SessionId) -> Option<Site> {
        let _ = session;
        None
    }

    /// Whether policies may send requests to the public internet now.
    fn may_go_outside(&self) -> bool {
        false
    }

    /// Completes once the gateway takes no new requests: connections then finish what they have begun and close.
    ///
    /// It may be asked any number of times, also after it has completed.
    fn draining(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Who came, and where to: both addresses of the public connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The visitor's own address, as the socket (or a trusted PROXY header) gave it.
    pub peer: SocketAddr,
    /// The address of ours that the visitor connected to.
    pub local: SocketAddr,
    /// The number of its connection, which the logs of the gateway and of the agent have.
    pub number: u64,
}

/// An endpoint that is open to the public.
#[derive(Clone, Debug)]
pub enum PublicEndpoint {
    /// It lives in the gateway's configuration and does nothing but run its policy.
    Cloud(Arc<CloudEndpoint>),
    /// It lives as long as the agent that bound it.
    Agent(Target),
}

impl PublicEndpoint {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> &EndpointUrl {
        match self {
            Self::Cloud(endpoint) => &endpoint.url,
            Self::Agent(target) => &target.url,
        }
    }

    /// The account that it belongs to.
    #[must_use]
    pub fn account(&self) -> &Arc<str> {
        match self {
            Self::Cloud(endpoint) => &endpoint.account,
            Self::Agent(target) => &target.account,
        }
    }
}

/// An endpoint of the gateway's configuration, its policy compiled.
#[derive(Debug)]
pub struct CloudEndpoint {
    /// Its address.
    pub url: EndpointUrl,
    /// The account whose internal endpoints it may reach.
    pub account: Arc<str>,
    /// Its policy, which surely ends in a terminating action.
    pub policy: Arc<Policy>,
}

/// One online endpoint of one agent: everything that is needed to open a stream to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub location: Location,
    /// Its address as bound.
    pub url: EndpointUrl,
    /// The account that it belongs to.
    pub account: Arc<str>,
    /// What the agent says it forwards to; for humans.
    pub forwards_to: Arc<str>,
    /// The application protocol the agent asked for (`http1`, `http2` or empty).
    pub forwards_proto: Arc<str>,
    /// The kind of client that the agent is (`ngrok-go`, `ngrok-rust`, `adit`, …).
    pub client_type: Arc<str>,
    /// The policy that came with its Bind; none means all traffic passes.
    pub policy: Option<Arc<Policy>>,
}

/// Where an endpoint is served: plain data, never a pointer to a session, because that session may be on another gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The gateway that holds the session.
    pub gateway: GatewayId,
    /// The session on that gateway.
    pub session: SessionId,
    /// The Id of the Bind within that session.
    pub bind: Arc<str>,
}

/// Names a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayId {
    /// This process.
    Local,
}

/// Names one session of this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why no endpoint answers for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody has this endpoint online (ERR_NGROK_3200).
    Offline,
    /// It is bound, but held back because its protection cannot be honoured.
    Held {
        /// The ERR_NGROK code of the reason.
        code: u32,
        /// The reason in words, for the one who runs the gateway.
        reason: String,
    },
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("no agent has this endpoint online"),
            Self::Held { code, reason } => {
                write!(f, "the endpoint is held back: {reason} (ERR_NGROK_{code})")
            }
        }
    }
}

impl std::error::Error for Unreachable {}

/// Why no stream to an agent could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The session has ended since the look-up.
    Offline,
    /// All streams that the session may have are taken.
    Busy,
    /// The agents of this credential have as many streams as it may have, or as many have begun.
    Limited,
    /// The session ended while the stream was being opened.
    Lost,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "the agent's session has ended",
            Self::Busy => "all streams of the agent's session are taken",
            Self::Limited => "a limit of the agent's credential is reached",
            Self::Lost => "the agent's session ended while a stream was being opened",
        })
    }
}

impl std::error::Error for OpenError {}
