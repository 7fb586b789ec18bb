//! An agent's session as the gateway knows it, and what it may say in the log.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tracing::warn;

use adit::frame::ErrorCode;
use adit::message::AditExtra;

use crate::admit::shown;
use crate::config::accounts::Credential;
use crate::credentials::usage::Usage;
use crate::events::Moment;
use crate::fleet::About;
use crate::http::reach::SessionId;
use crate::identity::{ClientId, Owner, Ticket};
use crate::session::link::Link;
use crate::token::TokenHash;

/// An agent's session, as long as it is logged in.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) session: SessionId,
    pub(crate) link: Arc<Link>,
    pub(crate) owner: Owner,
    pub(crate) client: ClientId,
    pub(crate) leg: u32,
    /// When it logged in.
    pub(crate) since: Moment,
    /// Where it connects from.
    pub(crate) address: SocketAddr,
    /// Which of its credential's agents it is, if it says so.
    pub(crate) instance: Option<Arc<str>>,
    /// Names this session in the Cookie that its agent got.
    pub(crate) ticket: Ticket,
    /// The program and the machine, in the agent's words.
    pub(crate) about: About,
    /// What the agent says of itself.
    pub(crate) metadata: Arc<str>,
    /// It knows `Extra.Adit`.
    pub(crate) is_adit: bool,
    pub(crate) client_type: Arc<str>,
    /// The credential as it was at the log-in.
    pub(crate) credential: Arc<Credential>,
    /// What all sessions of the credential use together.
    pub(crate) usage: Arc<Usage>,
    /// The hash of the token that the agent logged in with.
    pub(crate) token: TokenHash,
    /// Told whenever one of its endpoints becomes routable, and at its end.
    pub(crate) confirmed: Notify,
    /// Places for visitors who wait for that.
    pub(crate) waiting: Semaphore,
    /// Lines about its endpoints in the log.
    pub(crate) lines: Mutex<Lines>,
}

/// Lines that were written in a minute, and when it began.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    since: Option<Instant>,
    count: usize,
}

impl Lines {
    /// Counts one more, and gives how many there were in this minute.
    fn add(&mut self, now: Instant) -> usize {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= LINES_PERIOD) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

impl Agent {
    /// Tells whether a change of its endpoints gets its line: an agent that binds in a loop must not fill the log.
    pub(crate) fn has_line(&self, now: Instant) -> bool {
        let count = self.lines.lock().unwrap_or_else(PoisonError::into_inner).add(now);
        if count == LINES_MAX {
            warn!(session = %self.session, "the agent changes its endpoints all the time; not every change gets a line");
        }
        count < LINES_MAX
    }

    /// Where it is and what it says of itself, for another agent of its own credential.
    pub(crate) fn whereabouts(&self) -> String {
        let metadata = shown(&self.metadata);
        let metadata = if metadata.is_empty() { String::new() } else { format!(", metadata {metadata:?}") };
        match &self.instance {
            Some(instance) => format!("{} (instance {instance}{metadata})", self.address),
            None => format!("{} (no instance{metadata})", self.address),
        }
    }

    /// Ends the link and tells the agent for how long to stay away, if it can be told.
    pub(crate) fn send_away(&self, why: &str, retry_after: Duration) {
        if !self.is_adit {
            return self.end(why);
        }
        let adit = AditExtra { retry_after: Some(retry_after), ..AditExtra::default() };
        self.end(&adit.to_go_away(why));
    }

    /// Ends the link in an orderly way, at once.
    pub(crate) fn end(&self, why: &str) {
        self.link.end(ErrorCode::NO_ERROR, why);
    }
}

/// Lines of one session about its endpoints within [`LINES_PERIOD`]: a few for each endpoint that it may have by default.
const LINES_MAX: usize = 1000;
const LINES_PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_the_minute() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        assert_eq!((lines.add(start), lines.add(start)), (1, 2));
        assert_eq!(lines.add(start + LINES_PERIOD - Duration::from_nanos(1)), 3);
        assert_eq!(lines.add(start + LINES_PERIOD), 1);
    }
}
