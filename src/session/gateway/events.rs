//! What the driver has to know of a session, and what it tells about the peer.

use std::time::Duration;

use crate::frame::ErrorCode;
use crate::message::{AuthRequest, BindLabeledRequest, BindRequest, CommandReply, PatchRequest, UnbindRequest};
use crate::mux::Key;

/// What the driver has to know.
#[derive(Debug)]
pub enum Event {
    /// The agent calls; answer with [`super::GatewaySession::reply`], or the two `auth` methods for [`Request::Auth`].
    Call {
        /// The call's stream.
        call: Key,
        /// What it asks for.
        request: Request,
    },
    /// The agent consumed the reply (`delivered`), or the call died before that. Only after a delivered reply to a
    /// Bind has the agent registered the endpoint.
    CallDone {
        /// The call's stream; the key is stale from now on.
        call: Key,
        /// Whether the agent read the reply to its end.
        delivered: bool,
    },
    /// A proxied stream has received bytes.
    Readable(Key),
    /// The agent sends no more on a proxied stream.
    Finished(Key),
    /// A proxied stream was aborted; the key is stale from now on.
    Reset(Key, ErrorCode),
    /// A command was answered, or not within [`super::COMMAND_DEADLINE`] (`None`).
    CommandDone {
        /// The command's stream; the key is stale from now on.
        command: Key,
        /// The agent's answer.
        reply: Option<CommandReply>,
    },
    /// The agent has sent back the beat of [`super::GatewaySession::probe`]; the key is stale from now on.
    ProbeAnswered(Key),
    /// The agent ends the session.
    GoAway(ErrorCode, String),
    /// Nothing arrived for the liveness period: the session is dead.
    Dead,
}

/// A call, with its message.
#[derive(Debug)]
pub enum Request {
    /// The agent logs in. Comes at most once.
    Auth(Box<AuthRequest>),
    /// The agent brings an endpoint online.
    Bind(Box<BindRequest>),
    /// The agent takes an endpoint offline.
    Unbind(UnbindRequest),
    /// The agent brings a tunnel with labels online.
    BindLabeled(BindLabeledRequest),
    /// Who is the gateway; also before logging in.
    SrvInfo,
    /// The agent changes what it said about an endpoint.
    Patch(PatchRequest),
}

/// What is known of the peer once it logged in.
#[derive(Clone, Debug)]
pub struct PeerFacts {
    /// `ClientType` of the Auth request: decides how aborts are written.
    pub client_type: String,
    /// `Extra.Adit.StreamsMax`; `None` for official peers, which get [`super::OFFICIAL_STREAMS_MAX`].
    pub streams_max: Option<usize>,
    /// `Extra.Adit.Window`; it holds when the reply has a window too. `None`: the protocol's in both directions.
    pub window: Option<u32>,
    /// The session is dead after this long without any byte.
    pub liveness: Duration,
}
