//! Who may take the place of a session: the agent that had it, and nobody while that one still answers.
//!
//! An agent that says which instance it is gets the same ClientId after every start, so its newcomer meets its own older
//! session, which may be dead without the gateway knowing. The rule:
//!
//! - Who comes with the Ticket of the older session is the process that had it. That process has one link at a time, so
//!   it replaces the session at once. The same holds for official agents with a valid Cookie.
//! - Anybody else (the agent after a crash, or a second box with the same file) replaces it unless it answers: a beat is
//!   sent down the older link, and only an echo of that beat, which nobody could have sent before, proves that another
//!   process is alive. No answer within [`ANSWER_MAX`], or an end of the link, means that it is dead.
//!
//! So of two boxes that claim to be one, the one that is online stays online, and the other is told where it is.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use adit::message::{WireError, codes};

use crate::gateway::{Agent, Gateway};
use crate::http::reach::SessionId;
use crate::identity::Ticket;
use crate::session::probe::Asked;

/// What there is to do before somebody gets the place.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nothing: the place is free, or the older session may be ended.
    Clear,
    /// The older session has been asked whether it is alive.
    Contested(Contest),
    /// The place is taken, or too many want it.
    Refused(WireError),
}

/// A question to an older session.
#[derive(Debug)]
pub(crate) struct Contest {
    /// Who was asked.
    pub(crate) older: SessionId,
    /// Completes with `Ok` when it has answered, with `Err` when its link has ended.
    pub(crate) answer: oneshot::Receiver<()>,
    /// When it counts as dead.
    pub(crate) until: Instant,
}

impl Gateway {
    /// Looks who has the place of an agent. `cleared` is an older session that was asked and did not answer.
    pub(crate) fn claim(
        &self,
        agent: &Agent,
        shown: Option<Ticket>,
        cleared: Option<SessionId>,
        now: Instant,
    ) -> Claim {
        let mut state = self.state();
        let beat = state.random.next().to_be_bytes();
        let Some(older) = state.session_of(&agent.client, agent.leg).and_then(|id| state.session(id)) else {
            return Claim::Clear;
        };
        if may_replace(agent, older, shown) || cleared == Some(older.session) {
            return Claim::Clear;
        }
        let [a, b, c, d, ..] = beat;
        match older.link.probe([a, b, c, d], now) {
            Asked::Gone => Claim::Clear,
            Asked::Since(since, answer) => {
                let until = since.checked_add(ANSWER_MAX).unwrap_or(now);
                Claim::Contested(Contest { older: older.session, answer, until })
            }
            Asked::Busy => Claim::Refused(WireError::new(
                codes::SESSIONS_TOO_FAST,
                "too many connections want to take over one session of this agent; try again",
            )),
        }
    }

    /// What the newcomer is told when the older session has answered.
    pub(crate) fn twin(&self, older: SessionId) -> WireError {
        let who = self.state().session(older).map_or_else(|| "another address".to_owned(), |agent| agent.whereabouts());
        let text = format!(
            "another box is online as this one and answers: {who}. Two boxes must not run the same file: give each its \
             own authtoken, or at least its own agent.instance_id. If that one is to be replaced, stop it first"
        );
        WireError::new(codes::SESSIONS_TOO_MANY, text)
    }
}

/// Whether an agent may end the older session without asking it.
pub(crate) fn may_replace(agent: &Agent, older: &Agent, shown: Option<Ticket>) -> bool {
    agent.instance.is_none() || shown == Some(older.ticket)
}

/// How long an older session may take to answer: several round trips on a bad line with a lost packet, and little enough
/// for the newcomer, whose whole attempt has 10 s.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(3);
