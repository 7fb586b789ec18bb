//! One agent's connection, from its first byte to its last.

mod batch;
mod failure;
pub(crate) mod link;
mod log_in;
mod outlet;
pub(crate) mod probe;
mod spares;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, info, warn};

use adit::frame::ErrorCode;
use adit::message::{
    AditExtra, BindLabeledReply, BindReply, BindRequest, EmptyReply, PatchRequest, SrvInfoReply, WireError, codes,
};
use adit::mux::{Key, Limits};
use adit::session::gateway::{GatewaySession, Request};

use crate::admit::REGION;
use crate::config::Config;
use crate::fleet::{Cause, Ending};
use crate::gateway::{Agent, Gateway};
use crate::http::reach::SessionId;
use crate::identity::BindId;
use crate::metrics::{OTHER, SessionEnd};
use link::{Link, Notice};
use log_in::Waiting;
use wire::{Rest, Wire};

/// Serves the connection of one agent, TLS being done, until it ends. Everything that the agent has bound ends with it.
pub async fn serve_agent<IO>(gateway: Arc<Gateway>, io: IO, peer: SocketAddr)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let id = gateway.new_session();
    let started = now();
    let config = gateway.config();
    let link = Arc::new(Link::new(GatewaySession::new(limits(&config), started), started));
    let deadline = started.checked_add(config.limits.auth_timeout);
    let mut wire = Wire::new(io, Arc::clone(&link));
    let mut session = Session {
        gateway,
        id,
        link,
        peer,
        phase: Phase::Anonymous { deadline },
        binds: HashMap::new(),
        refusals: 0,
        why: None,
    };
    debug!(session = %id, address = %peer, "connection of an agent");
    let end = session.run(&mut wire).await;
    session.leave(&end, started);
    session.why = Some(end.to_string());
    drop(session);
    if !matches!(end, End::Broken(_)) {
        wire.close().await;
    }
}

/// The session's own state; what is shared with its streams is in the link.
struct Session {
    gateway: Arc<Gateway>,
    id: SessionId,
    link: Arc<Link>,
    peer: SocketAddr,
    phase: Phase,
    /// Replies to a Bind that the agent has not confirmed yet. One per live call, of which there are few.
    binds: HashMap<Key, BindId>,
    /// Binds that were refused.
    refusals: usize,
    /// Why it has ended, once that is known.
    why: Option<String>,
}

enum Phase {
    /// Has to log in.
    Anonymous { deadline: Option<Instant> },
    /// Its log-in is good; it waits for its turn, or for what an older session has to say.
    Waiting(Box<Waiting>),
    /// Was refused, and has until then to read why.
    Refused { until: Option<Instant> },
    /// Has logged in.
    Up(Arc<Agent>),
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// The gateway ended it.
    Told(Arc<str>),
    /// It did not log in in time.
    NoLogIn,
    /// Its log-in was refused.
    Refused,
    /// The agent took its leave.
    GoAway(ErrorCode, String),
    /// The agent has been silent for too long.
    Silent,
    /// The agent closed the connection.
    Closed,
    /// The connection broke.
    Broken(std::io::Error),
    /// The agent broke the protocol.
    Protocol(adit::mux::LinkError),
}

impl Session {
    async fn run<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&mut self, wire: &mut Wire<IO>) -> End {
        let mut notices = Vec::new();
        loop {
            let deadline = match &self.phase {
                Phase::Anonymous { deadline: until } | Phase::Refused { until } => *until,
                Phase::Waiting(waiting) => Some(waiting.deadline()),
                Phase::Up(_) => None,
            };
            let rest = tokio::select! {
                biased;
                () = self.phase.heard() => Rest::Notices,
                rest = wire.run(deadline, &mut notices) => rest,
            };
            for notice in notices.drain(..) {
                if let Some(end) = self.handle(notice) {
                    return end;
                }
            }
            match rest {
                Rest::Notices => {}
                Rest::Ending => return End::Told(self.link.ending().unwrap_or_else(|| "".into())),
                Rest::Closed => return End::Closed,
                Rest::Broken(error) => return End::Broken(error),
                Rest::Protocol(error) => return End::Protocol(error),
            }
            match &self.phase {
                Phase::Anonymous { deadline: Some(at) } if *at <= now() => return End::NoLogIn,
                Phase::Refused { until: Some(at) } if *at <= now() => return End::Refused,
                Phase::Waiting(_) => self.proceed(),
                Phase::Anonymous { .. } | Phase::Refused { .. } | Phase::Up(_) => {}
            }
        }
    }

    fn handle(&mut self, notice: Notice) -> Option<End> {
        match notice {
            Notice::Call(call, request) => self.on_call(call, request),
            Notice::CallDone(call, delivered) => {
                if let (Some(bind), true, Phase::Up(agent)) = (self.binds.remove(&call), delivered, &self.phase) {
                    self.gateway.confirm(agent, &bind, now());
                }
            }
            Notice::GoAway(code, text) => return Some(End::GoAway(code, text)),
            Notice::Dead => return Some(End::Silent),
        }
        None
    }

    fn on_call(&mut self, call: Key, request: Request) {
        let (agent, request) = match (&self.phase, request) {
            (_, Request::SrvInfo) => return self.reply(call, &SrvInfoReply { region: REGION.to_owned() }.to_json()),
            (Phase::Anonymous { .. }, Request::Auth(request)) => return self.on_auth(call, request),
            (Phase::Up(agent), request) => (Arc::clone(agent), request),
            // The protocol's own state machine lets nothing else through; it costs nothing to be sure.
            (Phase::Anonymous { .. } | Phase::Waiting(_) | Phase::Refused { .. }, _) => {
                let error = WireError::new(codes::AUTH_MALFORMED, "log in first");
                return self.reply(call, &EmptyReply { error: Some(error) }.to_json());
            }
        };
        match request {
            Request::Bind(request) => self.on_bind(&agent, call, &request),
            Request::Unbind(request) => {
                self.gateway.unbind(&agent, &request, now());
                self.reply(call, &EmptyReply::default().to_json());
            }
            Request::Patch(request) => self.on_patch(&agent, call, &request),
            Request::BindLabeled(_) => {
                let text = "this gateway has no labelled tunnels; use an endpoint, such as https://app.internal";
                let error = Some(WireError::new(codes::PROTOCOL_UNSUPPORTED, text));
                self.reply(call, &BindLabeledReply { error, ..BindLabeledReply::default() }.to_json());
            }
            Request::Auth(_) | Request::SrvInfo => {
                let error = WireError::new(codes::AUTH_MALFORMED, "this session has logged in already");
                self.reply(call, &EmptyReply { error: Some(error) }.to_json());
            }
        }
    }

    fn on_bind(&mut self, agent: &Agent, call: Key, request: &BindRequest) {
        match self.gateway.bind(agent, request, now()) {
            Ok(bound) => {
                self.gateway.metrics().binds.inc();
                if let Some(bind) = bound.bind {
                    self.binds.insert(call, bind);
                }
                self.reply(call, &bound.reply.to_json());
            }
            Err(error) => {
                let code = error.code.map(|code| code.to_string());
                self.gateway.metrics().binds_refused.one([code.as_deref().unwrap_or(OTHER)]);
                let Agent { owner, .. } = agent;
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals <= REFUSALS_LOGGED_MAX {
                    warn!(
                        session = %self.id, account = %owner.account, credential = %owner.credential, code = error.code,
                        "bind refused: {}", error.message
                    );
                }
                self.reply(call, &BindReply::refused(error).to_json());
            }
        }
    }

    fn on_patch(&mut self, agent: &Agent, call: Key, request: &PatchRequest) {
        let error = self.gateway.patch(agent, request, now()).err();
        self.reply(call, &EmptyReply { error }.to_json());
    }

    fn reply(&mut self, call: Key, json: &[u8]) {
        self.link.with_session(|session| session.reply(call, json));
    }

    /// Ends what hangs on the session, and writes the line that says why.
    fn leave(&self, end: &End, started: Instant) {
        self.gateway.metrics().session_ends.one(end.kind());
        match end {
            End::NoLogIn => self.link.end(ErrorCode::NO_ERROR, "no log-in within the time for it"),
            End::Silent => self.link.end(ErrorCode::NO_ERROR, "nothing was heard of the agent for too long"),
            End::Refused | End::Told(_) | End::GoAway(..) | End::Closed | End::Broken(_) | End::Protocol(_) => {}
        }
        if let Phase::Up(agent) = &self.phase {
            self.gateway.state().fleet.explain(&agent.site(), self.id, end.explained());
        }
        let after = now().saturating_duration_since(started).as_secs();
        match (&self.phase, end) {
            (Phase::Up(agent), End::Protocol(error)) => warn!(
                session = %self.id, account = %agent.owner.account, credential = %agent.owner.credential,
                address = %self.peer, after, "session down: the agent broke the protocol: {error}"
            ),
            (Phase::Up(agent), end) => info!(
                session = %self.id, account = %agent.owner.account, credential = %agent.owner.credential,
                address = %self.peer, after, "session down: {end}"
            ),
            (Phase::Anonymous { .. } | Phase::Waiting(_) | Phase::Refused { .. }, end) => {
                debug!(session = %self.id, address = %self.peer, after, "connection of an agent closed: {end}");
            }
        }
    }
}

impl Drop for Session {
    /// Also when the task is cancelled: nothing of a session outlives its connection.
    fn drop(&mut self) {
        self.link.close();
        if let Phase::Up(_) = self.phase {
            self.gateway.leave(self.id, self.why.as_deref().unwrap_or("the connection was given up"), now());
        }
    }
}

impl End {
    fn kind(&self) -> SessionEnd {
        match self {
            Self::Told(_) => SessionEnd::Told,
            Self::NoLogIn => SessionEnd::NoLogIn,
            Self::Refused => SessionEnd::Refused,
            Self::GoAway(..) => SessionEnd::GoAway,
            Self::Silent => SessionEnd::Silent,
            Self::Closed => SessionEnd::Hung,
            Self::Broken(_) => SessionEnd::Broken,
            Self::Protocol(_) => SessionEnd::Protocol,
        }
    }

    fn explained(&self) -> Ending {
        let cause = match self {
            Self::Told(_) | Self::NoLogIn | Self::Refused => Cause::Gateway,
            Self::GoAway(..) => Cause::Agent,
            Self::Silent => Cause::Silent,
            Self::Closed => Cause::Closed,
            Self::Broken(_) => Cause::Broken,
            Self::Protocol(_) => Cause::Protocol,
        };
        Ending::new(cause, &self.to_string())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(why) => f.write_str(AditExtra::from_go_away(why).0),
            Self::NoLogIn => f.write_str("no log-in in time"),
            Self::Refused => f.write_str("the log-in was refused"),
            Self::GoAway(code, text) => write!(f, "the agent left: {code}, {text:?}"),
            Self::Silent => f.write_str("nothing was heard of the agent for too long"),
            Self::Closed => f.write_str("the agent closed the connection"),
            // As when a box loses its power or a process is killed. TLS has more to say of it, to programmers.
            Self::Broken(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                f.write_str("the connection broke: it ended without a word")
            }
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn limits(config: &Config) -> Limits {
    let open_max = config.limits.streams_per_session_max;
    Limits { open_max, memory_max: RECEIVED_MAX, ..Limits::default() }
}

/// Refused Binds of one session that are worth a line each: more are an agent that asks in a loop.
const REFUSALS_LOGGED_MAX: usize = 20;
/// Bytes of one session that visitors have not taken yet: 192 of them can stand still, each with the window it began with,
/// before the others get less credit. Windows grow by at most half of it.
const RECEIVED_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_that_ended_without_a_word_is_told_in_words_for_people() {
        let unannounced = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest";
        let end = End::Broken(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, unannounced));
        assert_eq!(end.to_string(), "the connection broke: it ended without a word");
        let end = End::Broken(std::io::Error::other("reset"));
        assert_eq!(end.to_string(), "the connection broke: reset");
    }
}
