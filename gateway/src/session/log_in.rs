//! A session's way in: the log-in is judged, waits for its turn, and for the older session of the same agent if there is
//! one that has to be asked first.

use std::time::{Duration, Instant};

use adit::message::{AditExtra, AuthReply, AuthRequest, WireError, codes};
use adit::mux::Key;

use super::{Phase, Session, limits, now};
use crate::admit::{Admission, Applicant, Obstacle};
use crate::http::reach::SessionId;
use crate::metrics::OTHER;
use crate::pace::Turn;
use crate::succession::{Claim, Contest};

/// A good log-in that is not in yet.
#[derive(Debug)]
pub(super) struct Waiting {
    call: Key,
    applicant: Applicant,
    /// When it may get in.
    turn: Instant,
    /// What an older session was asked.
    contest: Option<Contest>,
    /// Whether that one has answered, once it is known.
    is_alive: Option<bool>,
    /// The older session that is known to be dead.
    cleared: Option<SessionId>,
    /// Older sessions that were asked so far.
    contests: usize,
}

impl Phase {
    /// Completes when an older session has answered or ended; never for a session that waits for none.
    pub(super) async fn heard(&mut self) {
        match self {
            Self::Waiting(waiting) => waiting.heard().await,
            Self::Anonymous { .. } | Self::Refused { .. } | Self::Up(_) => std::future::pending().await,
        }
    }
}

impl Waiting {
    /// When there is something to do about it, if nothing is heard before.
    pub(super) fn deadline(&self) -> Instant {
        match (&self.contest, self.is_alive) {
            (Some(contest), None) => contest.until,
            _ => self.turn,
        }
    }

    async fn heard(&mut self) {
        match (&mut self.contest, self.is_alive) {
            (Some(contest), None) => self.is_alive = Some((&mut contest.answer).await.is_ok()),
            _ => std::future::pending().await,
        }
    }
}

impl Session {
    pub(super) fn on_auth(&mut self, call: Key, request: Box<AuthRequest>) {
        let now = now();
        let applicant = match self.gateway.judge(self.id, &self.link, request, self.peer, now) {
            Ok(applicant) => applicant,
            Err(error) => return self.refuse(call, error, None),
        };
        match self.gateway.turn(&applicant, now) {
            Turn::At(turn) => {
                let waiting =
                    Waiting { call, applicant, turn, contest: None, is_alive: None, cleared: None, contests: 0 };
                self.claim(Box::new(waiting));
            }
            Turn::Later(away) => {
                let text = format!("many agents come back at once; come back in {} s", away.as_secs() + 1);
                let error = WireError::new(codes::SESSIONS_TOO_FAST, text);
                self.gateway.tell_refusal(self.id, &applicant.request, self.peer, &error);
                self.refuse(call, error, Some(away));
            }
        }
    }

    /// Goes on with a log-in that waits, if it is time.
    pub(super) fn proceed(&mut self) {
        let is_due = |waiting: &Waiting| match (&waiting.contest, waiting.is_alive) {
            (Some(contest), None) => contest.until <= now(),
            (Some(_), Some(_)) => true,
            (None, _) => waiting.turn <= now(),
        };
        match std::mem::replace(&mut self.phase, Phase::Refused { until: None }) {
            Phase::Waiting(waiting) if is_due(&waiting) => self.settle(waiting),
            phase => self.phase = phase,
        }
    }

    /// The older session has answered, or will not; or there is none and it is time to get in.
    fn settle(&mut self, mut waiting: Box<Waiting>) {
        let Some(contest) = waiting.contest.take() else { return self.enter(waiting) };
        if waiting.is_alive.take() == Some(true) {
            let error = self.gateway.twin(contest.older);
            self.gateway.tell_refusal(self.id, &waiting.applicant.request, self.peer, &error);
            return self.refuse(waiting.call, error, None);
        }
        waiting.cleared = Some(contest.older);
        self.claim(waiting);
    }

    /// Sees whether the place is free, and asks who has it.
    fn claim(&mut self, mut waiting: Box<Waiting>) {
        if waiting.contests >= CONTESTS_MAX {
            let text = "other connections take over the session of this agent all the time; try again";
            return self.refuse(waiting.call, WireError::new(codes::SESSIONS_TOO_FAST, text), None);
        }
        let applicant = &waiting.applicant;
        match self.gateway.claim(&applicant.agent, applicant.shown, waiting.cleared, now()) {
            Claim::Clear if waiting.turn <= now() => self.enter(waiting),
            Claim::Clear => self.phase = Phase::Waiting(waiting),
            Claim::Contested(contest) => {
                waiting.contests += 1;
                waiting.contest = Some(contest);
                self.phase = Phase::Waiting(waiting);
            }
            Claim::Refused(error) => {
                self.gateway.tell_refusal(self.id, &applicant.request, self.peer, &error);
                self.refuse(waiting.call, error, None);
            }
        }
    }

    fn enter(&mut self, waiting: Box<Waiting>) {
        match self.gateway.admit(&waiting.applicant, waiting.cleared, now()) {
            Ok(Admission { agent, reply, facts }) => {
                self.gateway.metrics().log_ins.inc();
                self.phase = Phase::Up(agent);
                self.link.set_liveness(facts.liveness);
                let limits = limits(&self.gateway.config());
                self.link.with_session(|session| session.accept_auth(waiting.call, &reply, &facts, limits));
            }
            Err(Obstacle::Refused(error)) => self.refuse(waiting.call, error, None),
            // Somebody has got in meanwhile.
            Err(Obstacle::Occupied) => self.claim(waiting),
        }
    }

    fn refuse(&mut self, call: Key, error: WireError, retry_after: Option<Duration>) {
        let code = error.code.map(|code| code.to_string());
        self.gateway.metrics().log_ins_refused.one([code.as_deref().unwrap_or(OTHER)]);
        self.phase = Phase::Refused { until: now().checked_add(REFUSED_LINGER) };
        let mut reply = AuthReply::refused(error);
        reply.extra.adit = retry_after.map(|_| AditExtra { retry_after, ..AditExtra::default() });
        self.link.with_session(|session| session.refuse_auth(call, &reply));
    }
}

/// Older sessions that one log-in asks: the one that was there, and some that were as fast as it.
const CONTESTS_MAX: usize = 3;
/// How long a refused agent has to read why (wire document 4.2).
const REFUSED_LINGER: Duration = Duration::from_secs(1);
