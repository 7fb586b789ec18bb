//! The log-in, as nobody in particular, and the goodbye.

use std::io;
use std::time::Instant;

use super::secure::Secure;
use super::{Class, Failure, now};
use crate::agent::settings_without_endpoints;
use crate::config::Config;
use crate::frame::ErrorCode;
use crate::message::{AuthReply, WireError, codes};
use crate::session::agent::{Event, Settings};
use crate::session::{AgentSession, Resumption};

/// Logs in without endpoints and without the identity of any session, and leaves again.
pub(super) fn log_in(secure: &mut Secure, config: &Config, deadline: Instant) -> Result<Box<AuthReply>, Failure> {
    let settings = Settings { metadata: METADATA.to_owned(), ..settings_without_endpoints(config) };
    let mut session = AgentSession::new(settings, Resumption::default(), 0, now());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        send(secure, &mut session).map_err(|error| lost(&error))?;
        while let Some(event) = session.poll_event() {
            match event {
                Event::Up(reply) => {
                    session.go_away(ErrorCode::NO_ERROR, "diagnosed");
                    // Who is gone already needs no goodbye.
                    let _ = send(secure, &mut session);
                    return Ok(reply);
                }
                Event::AuthRefused { error, .. } => return Err(refused(&error)),
                Event::Ended(end) => return Err(no_gateway(end.to_string())),
                _ => {}
            }
        }
        if now() >= deadline {
            return Err(lost(&io::ErrorKind::TimedOut.into()));
        }
        let len = secure.read(&mut buffer).map_err(|error| lost(&error))?;
        if len == 0 {
            return Err(lost(&io::ErrorKind::UnexpectedEof.into()));
        }
        let bytes = buffer.get(..len).unwrap_or_default();
        session.recv(bytes, &mut (), now()).map_err(|error| no_gateway(error.to_string()))?;
    }
}

fn send(secure: &mut Secure, session: &mut AgentSession) -> io::Result<()> {
    let mut out = Vec::new();
    session.poll_transmit(&mut out, READ_BYTES);
    secure.write(&out)
}

fn refused(error: &WireError) -> Failure {
    let who = match error.code {
        Some(codes::AUTHTOKEN_MALFORMED | codes::AUTHTOKEN_UNKNOWN | codes::CREDENTIAL_REVOKED) => {
            "whoever gave this agent its token: it has to be one that the gateway knows"
        }
        Some(codes::SOURCE_REFUSED_BY_ACCOUNT | codes::SOURCE_REFUSED_BY_CREDENTIAL) => {
            "whoever runs the gateway: it does not let agents in from this network's address"
        }
        _ => "whoever runs the gateway",
    };
    Failure::new(Class::LogIn, format_args!("the gateway refuses the log-in: {error}"), who)
}

fn no_gateway(what: String) -> Failure {
    let what = format!("what answers there speaks TLS, but not as a gateway does: {what}");
    Failure::new(Class::Protocol, what, "whoever wrote agent.connect_url: is this the gateway's port for agents?")
}

fn lost(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::new(
            Class::Protocol,
            "TLS is up, and the log-in got no answer in time",
            "whoever runs the gateway; or whoever wrote agent.connect_url, if another kind of server answers there",
        );
    }
    no_gateway(format!("the connection ended before the log-in was answered ({error})"))
}

const METADATA: &str = "adit diagnose";

/// One TLS record.
const READ_BYTES: usize = 16 * 1024;
