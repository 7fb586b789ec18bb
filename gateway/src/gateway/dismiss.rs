//! Sessions that end because whoever runs the gateway wants it.

use std::sync::Arc;
use std::time::Duration;

use super::{Agent, Gateway};
use crate::fleet::report::Filter;
use crate::http::reach::SessionId;

impl Gateway {
    /// The sessions that are meant, oldest first.
    #[must_use]
    pub fn matching(&self, filter: &Filter) -> Vec<SessionId> {
        let state = self.state();
        let meant = state.all_sessions().filter(|agent| is_meant(agent, filter));
        let mut sessions: Vec<_> = meant.map(|agent| agent.session).collect();
        sessions.sort_unstable();
        sessions
    }

    /// Ends sessions at once, and gives their numbers. Their agents come back when they like, or after `away` if they
    /// understand that; their addresses are kept for them as for any agent that was lost.
    pub fn kick(&self, filter: &Filter, away: Option<Duration>) -> Vec<u64> {
        let sessions = self.matching(filter);
        sessions.into_iter().filter(|session| self.dismiss(*session, KICKED, away)).map(|session| session.0).collect()
    }

    /// Ends each of the sessions as soon as no visitor uses it, and when `limits.drain_timeout` is over. Visitors go on coming
    /// meanwhile. Completes when all have ended.
    pub async fn drain_sessions(&self, mut sessions: Vec<SessionId>) {
        let deadline = tokio::time::Instant::now() + self.config().limits.drain_timeout;
        loop {
            let is_late = tokio::time::Instant::now() >= deadline;
            sessions.retain(|session| {
                let agent = self.state().session(*session).cloned();
                let Some(agent) = agent else { return false };
                if !is_late && agent.link.stream_count() > 0 {
                    return true;
                }
                self.dismiss(*session, DRAINED, None);
                false
            });
            if sessions.is_empty() {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Tells whether there was such a session.
    fn dismiss(&self, session: SessionId, why: &str, away: Option<Duration>) -> bool {
        let now = tokio::time::Instant::now().into_std();
        let hold = self.config().limits.address_hold;
        let left: Option<Arc<Agent>> = self.state().leave(session, why, now, hold);
        let Some(agent) = left else { return false };
        match away {
            Some(away) => agent.send_away(why, away),
            None => agent.end(why),
        }
        true
    }
}

fn is_meant(agent: &Agent, filter: &Filter) -> bool {
    filter.fits_session(agent.session) && filter.fits(&agent.site())
}

/// What agents are told.
const KICKED: &str = "the operator of the gateway has ended this session";
const DRAINED: &str = "the operator of the gateway has drained this session";
/// How often a drain looks which sessions have become idle.
const STEP: Duration = Duration::from_millis(50);
