//! What an agent says of itself, and what the driver has to know of its session.

use std::fmt;
use std::time::Duration;

use crate::frame::ErrorCode;
use crate::message::{AuthReply, ProxyHeader, Secret, WireError};
use crate::mux::{self, Key};
use crate::session::binds::EndpointSpec;

/// What an agent says of itself and wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The credential.
    pub authtoken: Secret,
    /// Tells this box from others with the credential: see [`crate::message::AditExtra::instance`].
    pub instance: Option<String>,
    /// Free text shown with the session.
    pub metadata: String,
    /// This program's version.
    pub version: String,
    /// Operating system, as Rust names it.
    pub os: String,
    /// Architecture, as Rust names it.
    pub arch: String,
    /// How often a beat is sent.
    pub heartbeat_interval: Duration,
    /// How long beyond the interval a beat may stay unanswered.
    pub heartbeat_tolerance: Duration,
    /// Whether the gateway may stop and restart us.
    pub remote_management: bool,
    /// The endpoints; events name them by their numbers.
    pub endpoints: Vec<EndpointSpec>,
    /// Bounds of the multiplexer.
    pub limits: mux::Limits,
}

/// What a session holds now, for logs and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Streams that live, those of the session itself among them.
    pub streams: usize,
    /// Bytes of the memory budget in use.
    pub memory: usize,
    /// The budget in bytes.
    pub memory_max: usize,
    /// What all receive windows together have grown by, in bytes.
    pub windows_grown: usize,
    /// What the budget has cost in this session.
    pub shortage: mux::Shortage,
}

/// What the driver has to know.
#[derive(Debug)]
pub enum Event {
    /// Logged in.
    Up(Box<AuthReply>),
    /// The gateway refuses to log us in. Close the connection.
    AuthRefused {
        /// Why.
        error: WireError,
        /// How long to stay away, if it says so.
        retry_after: Option<Duration>,
    },
    /// An endpoint is online.
    Bound {
        /// Its number.
        endpoint: usize,
        /// Its address.
        url: String,
    },
    /// The gateway refuses an endpoint; it is tried again alone.
    BindRefused {
        /// Its number.
        endpoint: usize,
        /// Why.
        error: WireError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The gateway ended one endpoint for the rest of the session.
    EndpointStopped {
        /// Its number.
        endpoint: usize,
        /// Why.
        error: WireError,
    },
    /// The gateway took over what was changed of an endpoint that stayed online.
    Changed {
        /// Its number.
        endpoint: usize,
    },
    /// The gateway refuses a change: the endpoint goes offline and is asked for anew, as it is now.
    ChangeRefused {
        /// Its number.
        endpoint: usize,
        /// Why.
        error: WireError,
    },
    /// A visitor's connection: connect it to the endpoint's upstream.
    Proxy {
        /// The stream; bytes may be waiting on it already.
        stream: Key,
        /// The endpoint's number.
        endpoint: usize,
        /// What the gateway says about the visitor.
        header: Box<ProxyHeader>,
    },
    /// A proxied stream was turned away: it named no endpoint of ours, or its header was broken.
    ProxyRefused(&'static str),
    /// A proxied stream has received bytes.
    Readable(Key),
    /// The gateway sends no more on a proxied stream.
    Finished(Key),
    /// A proxied stream was aborted; the key is stale from now on.
    Reset(Key, ErrorCode),
    /// A beat came back after this time.
    Beat(Duration),
    /// A command; `allowed` says whether it may be obeyed. It was answered already.
    Command {
        /// Which.
        command: Command,
        /// Whether `remote_management` allows it.
        allowed: bool,
    },
    /// After [`super::AgentSession::drain`]: the gateway knows that all endpoints are gone.
    Unbound,
    /// The session is over: close the connection.
    Ended(End),
}

/// What the gateway asks of the whole agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Disconnect until a signal or a new start.
    Stop,
    /// Reconnect.
    Restart,
    /// Update: always refused.
    Update,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The gateway said so, and how long to stay away if it knows `Extra.Adit`.
    GoAway(ErrorCode, String, Option<Duration>),
    /// No beat came back within interval and tolerance.
    Silence,
    /// A call was not answered within [`super::CALL_DEADLINE`].
    CallTimeout(&'static str),
    /// An answer that is none.
    BadReply(&'static str, String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoAway(code, text, _) if text.is_empty() => write!(f, "the gateway ended the session: {code}"),
            Self::GoAway(code, text, _) => write!(f, "the gateway ended the session: {code}: {text}"),
            Self::Silence => f.write_str("no heartbeat came back: the path or the gateway is dead"),
            Self::CallTimeout(call) => write!(f, "the gateway did not answer {call} in time"),
            Self::BadReply(call, error) => write!(f, "the gateway's answer to {call} makes no sense: {error}"),
        }
    }
}
