//! What changes while the gateway runs: its configuration, single endpoints, and at last its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::{info, warn};

use adit::endpoint_url::EndpointUrl;
use adit::message::{StopTunnel, StreamType, codes};

use super::{Agent, Gateway, Served, State};
use crate::config::Config;
use crate::identity::Owner;
use crate::pace;
use crate::registry::{Endpoint, EndpointKey};

impl Gateway {
    /// Puts a new configuration in force. Sessions whose credential is gone, has lost the token they logged in with or
    /// some of what it allowed, or may not be used from where they are, end at once, and their streams with them. Public
    /// endpoints that agents may have no more are stopped. The others notice nothing. What a reload cannot change is named by [`Config::changes_needing_restart`].
    pub fn reload(&self, config: Config) {
        let served = Arc::new(Served::new(config));
        let config = Arc::clone(&served.config);
        let before = Arc::clone(&self.served.swap(served).config);
        self.events.configure(&config.events);
        let now = tokio::time::Instant::now().into_std();
        let wall = OffsetDateTime::now_utc();
        let mut state = self.state();
        // Only now, so that nobody gets in by the limits of before after that.
        self.usages().follow(&config.accounts);
        // Also when it was wider only since the log-in: what the agent has bound by that would stay.
        let keeps = |agent: &Agent| agent.is_allowed(&config, wall) && !is_narrowed(&agent.owner, &before, &config);
        let revoked = take_out(&mut state, keeps, now);
        state.registry.forget(|owner| is_narrowed(owner, &before, &config));
        let public: Vec<_> = state.registry.public_endpoints().cloned().collect();
        drop(state);
        for endpoint in public {
            let Endpoint { owner, url, .. } = &*endpoint;
            if let Err(refusal) = config.check_public_for(&owner.account, url) {
                self.stop_endpoint(owner, url, &refusal.to_string(), refusal.code());
            }
        }
        revoked.iter().for_each(|agent| agent.revoke());
        self.close_free_ports(now);
    }

    /// Ends the sessions whose credential or token has come to its end, and their streams with them.
    pub fn end_sessions_not_allowed(&self) {
        let now = tokio::time::Instant::now().into_std();
        let (config, wall) = (self.config(), OffsetDateTime::now_utc());
        let revoked = take_out(&mut self.state(), |agent| agent.is_allowed(&config, wall), now);
        revoked.iter().for_each(|agent| agent.revoke());
        self.close_free_ports(now);
    }

    /// Stops an endpoint: its agent is told so with `message`, and nothing is routed to it any more until the agent
    /// gives it up by itself. Streams in flight go on. Gives the number of connections that had it.
    pub fn stop_endpoint(&self, owner: &Owner, url: &EndpointUrl, message: &str, code: u32) -> usize {
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.state();
        let stopped = state.registry.stop(owner, url);
        state.tell_endpoints(&[EndpointKey { account: owner.account.clone(), url: url.clone() }]);
        let told: Vec<_> = stopped.iter().filter_map(|(id, bind)| Some((state.session(*id)?.clone(), bind))).collect();
        drop(state);
        for (agent, bind) in &told {
            let error_code = Some(format!("ERR_NGROK_{code}"));
            let command = StopTunnel { id: bind.to_string(), message: message.to_owned(), error_code };
            // An agent that cannot be told finds out by having no visitors.
            let told = agent.link.with_session(|s| s.command(StreamType::StopTunnel, &command.to_json(), now).is_ok());
            info!(session = %agent.session, endpoint = %url, told, "endpoint stopped");
        }
        self.close_free_ports(now);
        stopped.len()
    }

    /// Ends in an orderly way: no agent is let in any more, [`Reach::draining`](crate::http::reach::Reach::draining)
    /// completes, sessions end as soon as they have no visitors, and after `timeout` whatever remains. Completes when
    /// all have been told; their links close by themselves within a second.
    pub async fn drain(&self, timeout: Duration) {
        self.draining.send_replace(true);
        self.events.end();
        let deadline = tokio::time::Instant::now() + timeout;
        let per_second = self.config().limits.logins_per_second_max;
        let mut sent_away = 0;
        loop {
            let agents: Vec<_> = self.state().all_sessions().cloned().collect();
            if agents.is_empty() {
                return;
            }
            let now = tokio::time::Instant::now();
            for agent in agents.iter().filter(|agent| now >= deadline || !agent.link.has_streams()) {
                // Whoever takes over gets them back one after the other.
                agent.send_away(DRAINING, pace::slot(sent_away, per_second));
                sent_away += 1;
                self.state().leave(agent.session, DRAINING, now.into_std(), Duration::ZERO);
            }
            if now >= deadline {
                return;
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }
}

/// Takes the sessions out that may not stay.
fn take_out(state: &mut State, keeps: impl Fn(&Agent) -> bool, now: Instant) -> Vec<Arc<Agent>> {
    let revoked: Vec<_> = state.all_sessions().filter(|agent| !keeps(agent)).cloned().collect();
    for agent in &revoked {
        // Nothing is kept for those who may not come back.
        state.leave(agent.session, REVOKED, now, Duration::ZERO);
    }
    revoked
}

impl Agent {
    fn revoke(&self) {
        let Owner { account, credential } = &self.owner;
        warn!(session = %self.session, %account, %credential, address = %self.address, "session revoked");
        self.end(&format!("{REVOKED}\n\nERR_NGROK_{}\n", codes::CREDENTIAL_REVOKED));
    }

    /// Whether a session that logged in under an earlier configuration may go on under this one.
    pub(crate) fn is_allowed(&self, config: &Config, now: OffsetDateTime) -> bool {
        let Some(credential) = config.accounts.credential(&self.owner.credential) else { return false };
        credential.account == self.owner.account
            && credential.check(&self.token, now).is_ok()
            && config.accounts.check_source(credential, self.address.ip()).is_ok()
            && (credential.acl == self.credential.acl || credential.acl.is_at_least(&self.credential.acl))
    }
}

/// Whether a credential is gone, or allows less than it did.
fn is_narrowed(owner: &Owner, before: &Config, after: &Config) -> bool {
    let of = |config: &Config| {
        config.accounts.credential(&owner.credential).filter(|credential| credential.account == owner.account).cloned()
    };
    let Some(after) = of(after) else { return true };
    // As a rule nothing has changed, and then there is no need to compare each rule with each.
    of(before).is_some_and(|before| after.acl != before.acl && !after.acl.is_at_least(&before.acl))
}

/// What a revoked session is told.
pub(crate) const REVOKED: &str = "the authtoken was revoked or has expired, or what it allows was reduced";
/// What agents are told at the end of a drain.
const DRAINING: &str = "the gateway is shutting down";
/// How often a drain looks which sessions have become idle.
const DRAIN_STEP: Duration = Duration::from_millis(50);
