//! Who may come in: an agent's log-in, judged before anything is set up for it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use tracing::info;

use adit::message::{AditExtra, AuthReply, AuthReplyExtra, AuthRequest, Secret, WireError, codes};
use adit::mux::limits::{WINDOW, is_usable_window};
use adit::session::gateway::{OFFICIAL_STREAMS_MAX, PeerFacts};

use crate::bounded::Bounded;
use crate::config::Config;
use crate::config::accounts::{Credential, LogInRefusal};
use crate::deceptive::is_deceptive;
use crate::events::{Hit, Moment};
use crate::fleet::About;
use crate::gateway::{Agent, Gateway, REVOKED, State, WAITING_MAX};
use crate::http::reach::SessionId;
use crate::identity::{ClientId, NoRandomness, Owner, Ticket};
use crate::pace::{Patience, Turn};
use crate::session::link::Link;
use crate::succession::may_replace;
use crate::token::TokenHash;

/// A log-in that is good, and not in yet.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub(crate) agent: Arc<Agent>,
    /// What it has shown of an earlier session.
    pub(crate) shown: Option<Ticket>,
    pub(crate) request: Box<AuthRequest>,
}

/// An accepted log-in.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) agent: Arc<Agent>,
    pub(crate) reply: AuthReply,
    pub(crate) facts: PeerFacts,
}

/// Why an applicant does not get in now.
#[derive(Debug)]
pub(crate) enum Obstacle {
    Refused(WireError),
    /// A session that nobody has asked yet has the place: see [`Gateway::claim`].
    Occupied,
}

/// Counts the failed log-ins of each source address.
#[derive(Debug)]
pub(crate) struct Failures {
    sources: Bounded<IpAddr, Count>,
}

#[derive(Debug, Default)]
struct Count {
    failures: usize,
    since: Option<Instant>,
}

impl Gateway {
    /// Judges a log-in. Nothing has changed yet when it is good.
    ///
    /// # Errors
    ///
    /// What the agent is told.
    pub(crate) fn judge(
        &self,
        session: SessionId,
        link: &Arc<Link>,
        request: Box<AuthRequest>,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<Applicant, WireError> {
        let result = self.judge_request(&self.config(), &request, peer.ip(), now);
        let Identified { owner, credential, client, shown } =
            result.inspect_err(|refusal| self.tell_refusal(session, &request, peer, refusal))?;
        let no_randomness = |error: NoRandomness| WireError::new(codes::SESSIONS_TOO_FAST, error.to_string());
        let agent = Arc::new(Agent {
            session,
            link: Arc::clone(link),
            owner,
            client,
            leg: request.extra.leg_number,
            address: peer,
            instance: instance(&request).map(Arc::from),
            since: Moment::now(),
            about: About::of(&request),
            ticket: self.identity().new_ticket().map_err(no_randomness)?,
            metadata: request.extra.metadata.as_str().into(),
            is_adit: request.extra.adit.is_some(),
            client_type: request.extra.client_type.as_str().into(),
            usage: self.usages().of(&credential),
            credential,
            token: TokenHash::of(request.extra.authtoken.expose()),
            confirmed: Notify::new(),
            waiting: Semaphore::new(WAITING_MAX),
            lines: Mutex::default(),
        });
        Ok(Applicant { agent, shown, request })
    }

    /// When the applicant gets in.
    pub(crate) fn turn(&self, applicant: &Applicant, now: Instant) -> Turn {
        let per_second = self.config().limits.logins_per_second_max;
        let patience = if applicant.agent.is_adit { Patience::ComesBack } else { Patience::Waits };
        self.state().pace.turn(&applicant.agent.credential.id, per_second, patience, now)
    }

    /// Registers the session. An older one of the same agent has been told to end; `cleared` names one that did not
    /// answer any more.
    ///
    /// # Errors
    ///
    /// See [`Obstacle`].
    pub(crate) fn admit(
        &self,
        applicant: &Applicant,
        cleared: Option<SessionId>,
        now: Instant,
    ) -> Result<Admission, Obstacle> {
        let (agent, request) = (&applicant.agent, &applicant.request);
        let config = self.config();
        self.enter(&config, applicant, cleared, now).inspect_err(|obstacle| {
            if let Obstacle::Refused(refusal) = obstacle {
                self.tell_refusal(agent.session, request, agent.address, refusal);
            }
        })?;
        info!(
            session = %agent.session, account = %agent.owner.account, credential = %agent.owner.credential,
            address = %agent.address, leg = agent.leg, instance = agent.instance.as_deref(),
            agent = %shown(&request.extra.user_agent), version = %shown(&request.extra.version),
            resumed = applicant.shown.is_some(), "session up"
        );
        let streams_max = streams_max(config.limits.streams_per_session_max, request);
        Ok(Admission {
            reply: self.welcome(agent, request, streams_max),
            facts: PeerFacts {
                client_type: request.extra.client_type.clone(),
                streams_max: Some(streams_max),
                window: request.extra.adit.as_ref().and_then(|adit| adit.window),
                liveness: liveness(request),
            },
            agent: Arc::clone(agent),
        })
    }

    fn judge_request(
        &self,
        config: &Config,
        request: &AuthRequest,
        source: IpAddr,
        now: Instant,
    ) -> Result<Identified, WireError> {
        let limit = config.limits.login_failures_per_minute_max;
        let is_suspect = self.state().failures.is_over(source, limit, now);
        let accepted = config.accounts.log_in(request.extra.authtoken.expose(), source, OffsetDateTime::now_utc());
        let resumed = accepted.as_ref().ok().and_then(|credential| {
            self.identity().resume(&owner(credential), &request.client_id, request.extra.cookie.expose())
        });
        // Whoever proves an earlier session is not the one who tries tokens behind the same address.
        if is_suspect && resumed.is_none() {
            let text = "too many log-ins have failed from this address; try again in a minute";
            return Err(WireError::new(codes::SESSIONS_TOO_FAST, text));
        }
        let credential = accepted.map_err(|refusal| {
            if matches!(refusal, LogInRefusal::Malformed | LogInRefusal::Unknown) {
                self.state().failures.add(source, now);
            }
            WireError::new(refusal.code(), refusal.to_string())
        })?;
        check_request(request)?;
        if self.is_draining() {
            return Err(draining());
        }
        let owner = owner(&credential);
        let (client, shown) = match (instance(request), resumed) {
            (Some(instance), resumed) => {
                let client = self.identity().client_of(&owner, instance);
                // A session of another instance proves nothing about this one.
                let shown = resumed.filter(|(resumed, _)| *resumed == client).map(|(_, ticket)| ticket);
                (client, shown)
            }
            (None, Some((client, ticket))) => (client, Some(ticket)),
            (None, None) => {
                let client = self.identity().new_client();
                (client.map_err(|error| WireError::new(codes::SESSIONS_TOO_FAST, error.to_string()))?, None)
            }
        };
        Ok(Identified { owner, credential, client, shown })
    }

    /// Registers the session in place of an older one of the same agent and leg.
    fn enter(
        &self,
        config: &Config,
        applicant: &Applicant,
        cleared: Option<SessionId>,
        now: Instant,
    ) -> Result<(), Obstacle> {
        let agent = &applicant.agent;
        let older = {
            let mut state = self.state();
            if self.is_draining() {
                return Err(Obstacle::Refused(draining()));
            }
            // A reload since the log-in was judged has looked only at the sessions that were there.
            let in_force = self.config();
            if !agent.is_allowed(&in_force, OffsetDateTime::now_utc()) {
                return Err(Obstacle::Refused(WireError::new(codes::CREDENTIAL_REVOKED, REVOKED)));
            }
            // Nor at the limits of a credential of which nobody had a session.
            if let Some(credential) = in_force.accounts.credential(&agent.owner.credential) {
                agent.usage.set_limits(credential.limits);
            }
            let older = state.session_of(&agent.client, agent.leg).and_then(|older| state.session(older));
            let is_cleared = |older: &Agent| {
                cleared == Some(older.session) || may_replace(agent, older, applicant.shown) || older.link.is_over()
            };
            let older = match older {
                Some(older) if is_cleared(older) => Some(older.session),
                Some(_) => return Err(Obstacle::Occupied),
                None => None,
            };
            if older.is_none() {
                check_counts(&state, config, &agent.owner.account).map_err(|(limit, refusal)| {
                    self.events().limit_hit(limit, &Hit::Account(agent.site()));
                    Obstacle::Refused(refusal)
                })?;
            }
            // In this order, so that the site has not been offline for anybody who is told.
            state.enter(Arc::clone(agent));
            older.and_then(|older| state.leave(older, CONNECTED_AGAIN, now, config.limits.address_hold))
        };
        if let Some(older) = older {
            older.end(CONNECTED_AGAIN);
        }
        Ok(())
    }

    fn welcome(&self, agent: &Agent, request: &AuthRequest, streams_max: usize) -> AuthReply {
        let theirs = request.extra.adit.as_ref().and_then(|adit| adit.window);
        let window = theirs.filter(|window| is_usable_window(*window)).map(|_| WINDOW);
        let adit = AditExtra { streams_max: u32::try_from(streams_max).ok(), window, ..AditExtra::default() };
        AuthReply {
            version: PROTOCOL_VERSION.to_owned(),
            client_id: agent.client.as_str().to_owned(),
            error: None,
            extra: AuthReplyExtra {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                region: REGION.to_owned(),
                cookie: Secret::new(self.identity().cookie(&agent.owner, &agent.client, agent.ticket)),
                account_name: agent.owner.account.to_string(),
                agent_session_id: agent.session.to_string(),
                // Only those who know it get it: the official readers ignore what they do not know, but need not.
                adit: agent.is_adit.then_some(adit),
                ..AuthReplyExtra::default()
            },
        }
    }
}

/// Who an agent is.
struct Identified {
    owner: Owner,
    credential: Arc<Credential>,
    client: ClientId,
    shown: Option<Ticket>,
}

fn owner(credential: &Credential) -> Owner {
    Owner { account: credential.account.clone(), credential: credential.id.clone() }
}

fn instance(request: &AuthRequest) -> Option<&str> {
    request.extra.adit.as_ref().and_then(|adit| adit.instance.as_deref())
}

fn draining() -> WireError {
    WireError::new(codes::DRAINING, "the gateway is shutting down; connect again")
}

impl Failures {
    /// Counts for at most `sources_max` addresses; the one that failed first is forgotten for a new one.
    pub(crate) fn new(sources_max: usize) -> Self {
        Self { sources: Bounded::new(sources_max) }
    }

    fn is_over(&self, source: IpAddr, limit: usize, now: Instant) -> bool {
        self.sources.find(&network(source)).is_some_and(|count| count.is_fresh(now) && count.failures >= limit)
    }

    fn add(&mut self, source: IpAddr, now: Instant) {
        let count = self.sources.entry(network(source));
        if !count.is_fresh(now) {
            *count = Count { failures: 0, since: Some(now) };
        }
        count.failures = count.failures.saturating_add(1);
    }
}

impl Count {
    fn is_fresh(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) < FAILURES_PERIOD)
    }
}

/// What is wrong with a log-in whoever sends it.
fn check_request(request: &AuthRequest) -> Result<(), WireError> {
    let extra = &request.extra;
    if !request.versions.iter().any(|version| version == PROTOCOL_VERSION) {
        let text =
            format!("this gateway speaks version {PROTOCOL_VERSION} of the protocol, the agent does not offer it");
        return Err(WireError::new(codes::VERSION_NEGOTIATION, text));
    }
    if extra.metadata.len() > METADATA_LEN_MAX {
        let text = format!("the session's metadata must not be longer than {METADATA_LEN_MAX} bytes");
        return Err(WireError::new(codes::METADATA_TOO_LONG, text));
    }
    for (time, name, code) in [
        (extra.heartbeat_interval, "interval", codes::HEARTBEAT_INTERVAL),
        (extra.heartbeat_tolerance, "tolerance", codes::HEARTBEAT_TOLERANCE),
    ] {
        if !time.is_zero() && time < HEARTBEAT_MIN {
            let text = format!("the heartbeat {name} must be at least {} s", HEARTBEAT_MIN.as_secs());
            return Err(WireError::new(code, text));
        }
    }
    Ok(())
}

/// Which limit stands against one more session, and what its agent is told.
fn check_counts(state: &State, config: &Config, account: &str) -> Result<(), (&'static str, WireError)> {
    let limits = &config.limits;
    let (all, own) = state.session_counts(account);
    if own >= limits.sessions_per_account_max {
        let text = format!("account '{account}' has {own} sessions of agents already, which is its limit");
        return Err(("limits.sessions_per_account_max", WireError::new(codes::SESSIONS_TOO_MANY, text)));
    }
    if all >= limits.sessions_max {
        let text = "the gateway has as many sessions as it takes";
        return Err(("limits.sessions_max", WireError::new(codes::SESSIONS_TOO_MANY, text)));
    }
    Ok(())
}

/// How long the agent may be silent.
fn liveness(request: &AuthRequest) -> Duration {
    let (interval, tolerance) = (request.extra.heartbeat_interval, request.extra.heartbeat_tolerance);
    if interval.is_zero() || tolerance.is_zero() {
        return LIVENESS_DEFAULT;
    }
    interval.saturating_add(tolerance).clamp(LIVENESS_MIN, LIVENESS_MAX)
}

/// How many proxy streams the agent may have at once.
fn streams_max(limit: usize, request: &AuthRequest) -> usize {
    let announced = request.extra.adit.as_ref().and_then(|adit| adit.streams_max);
    let bearable = announced.map_or(OFFICIAL_STREAMS_MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    limit.min(bearable)
}

/// The part of an address that one customer can be told by: with IPv6, everybody has 2^64 addresses.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// What an agent says of itself, fit for a log line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if is_deceptive(c) { '?' } else { c }).collect()
}

/// The only version of the protocol here; every agent offers it first.
/// What the older session of an agent is told.
const CONNECTED_AGAIN: &str = "the agent has connected again";
const PROTOCOL_VERSION: &str = "3";
/// What the gateway calls the place where it is.
pub(crate) const REGION: &str = "local";
/// The limit of ngrok's service.
const METADATA_LEN_MAX: usize = 4096;
/// Beats that come faster than once a second, or have less to come back, tell nothing about a link.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// For agents that do not say how often they beat: the defaults of all families together, 10 s and 15 s.
const LIVENESS_DEFAULT: Duration = Duration::from_secs(25);
/// Below this, a lost packet and its retransmissions look like death (wire document 3.3).
const LIVENESS_MIN: Duration = Duration::from_secs(5);
/// Above this, a dead agent keeps its addresses for too long (wire document 3.3).
const LIVENESS_MAX: Duration = Duration::from_secs(300);
/// The period that the configured limit counts in.
const FAILURES_PERIOD: Duration = Duration::from_secs(60);
/// Enough for two products with their versions.
const SHOWN_CHARS_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use adit::mux::Limits;
    use adit::session::gateway::GatewaySession;

    use super::*;
    use crate::identity_key::IdentityKey;
    use crate::token::Token;

    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test]
    async fn limits_of_a_reload_hold_for_whoever_logs_in_during_it() {
        let home = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        std::fs::write(home.path().join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(home.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let token = Token::generate(&"site1".parse().unwrap()).unwrap();
        let config = |streams_max: usize| {
            let text = format!(
                "listeners: {{agents: '127.0.0.1:0'}}\n\
                 certificates: [{{certificate_file: certificate.pem, private_key_file: key.pem}}]\n\
                 credentials: [{{id: site1, hashes: ['{}'], allow_any: true, limits: {{streams_max: {streams_max}}}}}]\n",
                token.hash()
            );
            Config::parse(&home.path().join("gateway.yml"), &text).unwrap().0
        };
        let gateway = Gateway::new(config(5), &IdentityKey::generate().unwrap()).unwrap();
        let link = Arc::new(Link::new(GatewaySession::new(Limits::default(), now()), now()));
        let mut request = AuthRequest { versions: vec![PROTOCOL_VERSION.into()], ..AuthRequest::default() };
        request.extra.authtoken = Secret::new(token.expose().to_owned());
        let peer = "192.0.2.1:1".parse().unwrap();
        let applicant = gateway.judge(SessionId(1), &link, Box::new(request), peer, now()).unwrap();
        gateway.reload(config(1));
        // As when the log-in was judged by the configuration of before, and its use begun just now.
        applicant.agent.usage.set_limits(applicant.agent.credential.limits);
        gateway.admit(&applicant, None, now()).unwrap();
        let _place = applicant.agent.usage.enter(now()).unwrap();
        assert!(applicant.agent.usage.enter(now()).is_err());
    }

    #[test]
    fn failures_are_counted_per_minute_and_network() {
        let (mut failures, start) = (Failures::new(10), now());
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert!(!failures.is_over(source, 3, start));
            failures.add(source, start);
        }
        assert!(failures.is_over(source, 3, start));
        assert!(failures.is_over("::ffff:192.0.2.1".parse().unwrap(), 3, start));
        assert!(!failures.is_over("192.0.2.2".parse().unwrap(), 3, start));
        assert!(failures.is_over(source, 3, start + FAILURES_PERIOD - Duration::from_millis(1)));
        assert!(!failures.is_over(source, 3, start + FAILURES_PERIOD));
        failures.add(source, start + FAILURES_PERIOD);
        assert!(!failures.is_over(source, 2, start + FAILURES_PERIOD));
    }

    #[test]
    fn ipv6_sources_count_by_their_64() {
        let (mut failures, start) = (Failures::new(10), now());
        failures.add("2001:db8::1".parse().unwrap(), start);
        assert!(failures.is_over("2001:db8::ffff".parse().unwrap(), 1, start));
        assert!(!failures.is_over("2001:db8:0:1::1".parse().unwrap(), 1, start));
    }

    #[test]
    fn counted_sources_are_bounded() {
        let (mut failures, start) = (Failures::new(2), now());
        for last in 1..=3 {
            failures.add(IpAddr::from([192, 0, 2, last]), start);
        }
        let is_over = |last| failures.is_over(IpAddr::from([192, 0, 2, last]), 1, start);
        assert_eq!([is_over(1), is_over(2), is_over(3)], [false, true, true]);
    }

    #[test]
    fn liveness_is_the_sum_within_bounds() {
        let request = |interval, tolerance| {
            let mut request = AuthRequest::default();
            request.extra.heartbeat_interval = Duration::from_secs(interval);
            request.extra.heartbeat_tolerance = Duration::from_secs(tolerance);
            liveness(&request).as_secs()
        };
        for (interval, tolerance, expected) in [(10, 15, 25), (0, 0, 25), (0, 15, 25), (2, 2, 5), (3600, 3600, 300)] {
            assert_eq!(request(interval, tolerance), expected, "{interval} {tolerance}");
        }
    }

    #[test]
    fn odd_requests_are_refused_with_their_code() {
        let fine = AuthRequest { versions: vec!["3".into(), "2".into()], ..AuthRequest::default() };
        assert_eq!(check_request(&fine), Ok(()));
        let code = |change: &dyn Fn(&mut AuthRequest)| {
            let mut request = fine.clone();
            change(&mut request);
            check_request(&request).unwrap_err().code.unwrap()
        };
        assert_eq!(code(&|request| request.versions = vec!["2".into()]), 811);
        assert_eq!(code(&|request| request.extra.metadata = "x".repeat(METADATA_LEN_MAX + 1)), 100);
        assert_eq!(code(&|request| request.extra.heartbeat_interval = Duration::from_millis(999)), 111);
        assert_eq!(code(&|request| request.extra.heartbeat_tolerance = Duration::from_millis(999)), 112);
    }

    #[test]
    fn streams_are_what_both_sides_bear() {
        let mut request = AuthRequest::default();
        assert_eq!(streams_max(2000, &request), 500);
        assert_eq!(streams_max(8, &request), 8);
        request.extra.adit = Some(AditExtra { streams_max: Some(64), ..AditExtra::default() });
        assert_eq!(streams_max(2000, &request), 64);
        request.extra.adit = Some(AditExtra { streams_max: Some(u32::MAX), ..AditExtra::default() });
        assert_eq!(streams_max(2000, &request), 2000);
    }

    #[test]
    fn what_an_agent_says_of_itself_cannot_forge_log_lines() {
        assert_eq!(shown("a\nb\u{1b}[1m"), "a?b?[1m");
        assert_eq!(shown("a\u{202e}b\u{2069}c\u{2028}d"), "a?b?c?d");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN_CHARS_MAX);
    }
}
