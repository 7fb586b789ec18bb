//! The calls of a logged-in agent: endpoints come, change and go.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use adit::endpoint_url::{EndpointUrl, RequestedUrl, Scheme};
use adit::message::{BindReply, BindReplyExtra, BindRequest, PatchRequest, Secret, UnbindRequest, WireError, codes};

use crate::config::accounts::Credential;
use crate::config::listeners::AgentPorts;
use crate::config::{Config, PoliciesConfig};
use crate::events::Hit;
use crate::gateway::{Agent, Gateway, REVOKED, State};
use crate::identity::{BindId, NoRandomness, Origin};
use crate::policy::{Place, Policy, legacy};
use crate::registry::{Bound, Conflict, Endpoint, Patch};

/// A Bind that succeeded.
#[derive(Debug)]
pub(crate) struct BoundReply {
    pub(crate) reply: BindReply,
    /// What is to be confirmed in the registry once the agent has read the reply. `None`: it gets no traffic.
    pub(crate) bind: Option<BindId>,
}

impl Gateway {
    /// Brings an endpoint online for an agent; it gets traffic once [`Gateway::confirm`] is called.
    ///
    /// # Errors
    ///
    /// What the agent is told.
    pub(crate) fn bind(&self, agent: &Agent, request: &BindRequest, now: Instant) -> Result<BoundReply, WireError> {
        let config = self.config();
        let credential = credential_of(agent, &config)?;
        check_request(request)?;
        let asked = request.requested(config.public_names.base_domain());
        let asked = asked.map_err(|error| WireError::new(error.code(), error.to_string()))?;
        check_bindings(request, &asked)?;
        let wish = Wish { gateway: self, config: &config, credential, agent, request, now };
        let taken = match asked {
            RequestedUrl::Exact(url) => wish.take(url)?,
            RequestedUrl::Assign { scheme: Scheme::Tcp } => wish.assign_tcp()?,
            RequestedUrl::Assign { scheme } => wish.assign_name(scheme)?,
        };
        let Taken { url, bind, origin, stopped } = taken;
        if agent.has_line(now) {
            info!(
                session = %agent.session, account = %agent.owner.account, credential = %agent.owner.credential,
                endpoint = %url, bind = %bind, again = !request.id.is_empty(), stopped, "endpoint bound"
            );
        }
        let token = self.identity().token(&agent.owner, &agent.client, &bind, &url, origin);
        let reply = BindReply {
            id: bind.as_str().to_owned(),
            url: url.to_string(),
            proto: request.proto,
            opts: request.echoed_opts(&url),
            error: None,
            extra: BindReplyExtra { token: Secret::new(token), tunnel_id: bind.as_str().to_owned() },
        };
        Ok(BoundReply { reply, bind: (!stopped).then_some(bind) })
    }

    /// The agent has read the reply to its Bind.
    pub(crate) fn confirm(&self, agent: &Agent, bind: &BindId, now: Instant) {
        let at = now.checked_add(ROUTABLE_GRACE).unwrap_or(now);
        let key = {
            let mut state = self.state();
            state.registry.confirm(agent.session, bind, at);
            state.registry.endpoint(agent.session, bind).map(|endpoint| endpoint.key())
        };
        agent.confirmed.notify_waiters();
        if let Some(key) = key {
            self.tell_arrival(&key);
        }
    }

    /// Takes an endpoint offline on all legs of its agent. Streams in flight go on.
    pub(crate) fn unbind(&self, agent: &Agent, request: &UnbindRequest, now: Instant) {
        let Some(bind) = BindId::parse(&request.id) else { return };
        let mut state = self.state();
        let key = state.registry.endpoint(agent.session, &bind).map(|endpoint| endpoint.key());
        let was_bound = state.registry.unbind(&agent.owner, &agent.client, agent.session, &bind);
        state.tell_endpoints(key.as_slice());
        drop(state);
        if was_bound {
            if agent.has_line(now) {
                info!(session = %agent.session, bind = %bind, "endpoint unbound");
            }
            self.close_free_ports(now);
        }
    }

    /// Changes what an agent said of an endpoint.
    ///
    /// # Errors
    ///
    /// What the agent is told.
    pub(crate) fn patch(&self, agent: &Agent, request: &PatchRequest, now: Instant) -> Result<(), WireError> {
        let unknown = || WireError::new(codes::ENDPOINT_UNKNOWN, "this session has no endpoint with this TunnelId");
        let bind = BindId::parse(&request.tunnel_id).ok_or_else(unknown)?;
        let (url, holds_more) = {
            let state = self.state();
            let endpoint = state.registry.endpoint(agent.session, &bind).ok_or_else(unknown)?;
            (endpoint.url.clone(), endpoint.policy.as_ref().is_some_and(|policy| policy.holds_more()))
        };
        if holds_more && request.traffic_policy.is_some() {
            let text = "the endpoint has modules beside its policy, or is held back: bind it anew to change its policy";
            return Err(WireError::new(codes::BIND_MALFORMED, text));
        }
        for text in [&request.name, &request.description, &request.metadata].into_iter().flatten() {
            check_len("a changed text", text)?;
        }
        let config = self.config();
        let credential = credential_of(agent, &config)?;
        let place = Place::agent(&url).going_outside(config.policies.outside_requests);
        let policy = request.traffic_policy.as_deref().map(|text| parse_policy(text, place, credential)).transpose()?;
        let policy = policy.map(|policy| policy.map(Arc::new));
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        let patch = Patch {
            name: shared(&request.name),
            description: shared(&request.description),
            metadata: shared(&request.metadata),
            pooled: request.pooling_enabled,
            policy,
        };
        if !self.state().registry.patch(agent.session, &bind, &patch) {
            return Err(unknown());
        }
        if agent.has_line(now) {
            info!(session = %agent.session, endpoint = %url, "endpoint changed");
        }
        Ok(())
    }
}

/// A Bind on its way.
struct Wish<'a> {
    gateway: &'a Gateway,
    config: &'a Config,
    credential: &'a Credential,
    agent: &'a Agent,
    request: &'a BindRequest,
    now: Instant,
}

/// An endpoint that has its address.
struct Taken {
    url: EndpointUrl,
    bind: BindId,
    origin: Origin,
    stopped: bool,
}

impl Wish<'_> {
    /// Takes the URL that the agent named, or that the gateway named for it.
    fn take(&self, url: EndpointUrl) -> Result<Taken, WireError> {
        let Agent { owner, client, .. } = self.agent;
        let bind = self.requested_id()?;
        let token = self.request.extra.token.expose();
        let had = bind.as_ref().and_then(|bind| self.gateway.identity().origin(owner, client, bind, &url, token));
        let origin = had.unwrap_or(Origin::Asked);
        // A port that the gateway chose may be named by the agent that it was chosen for.
        if origin == Origin::Asked || !self.credential.acl.allows_assigned_tcp() {
            let checked = self.credential.acl.check(&url);
            checked.map_err(|refusal| WireError::new(refusal.code(), format!("{refusal}: {url}")))?;
        }
        if !url.is_internal() {
            let checked = self.config.check_public_for(&owner.account, &url);
            checked.map_err(|refusal| WireError::new(refusal.code(), refusal.to_string()))?;
        }
        // An Id that does not prove itself is no more than a name for the endpoint towards the agent, which insists on
        // it: it gives no right to anything that is kept under it for somebody else.
        let bind = bind.map_or_else(|| self.new_id_for(&url), Ok)?;
        self.enter(url, bind, origin)
    }

    /// Chooses a name below the base domain.
    fn assign_name(&self, scheme: Scheme) -> Result<Taken, WireError> {
        let Some(base) = self.config.public_names.base_domain() else {
            let text = "this gateway gives no names of its own choice; ask for one, such as https://app.internal";
            return Err(WireError::new(codes::INTERNAL_NAME_MISSING, text));
        };
        let label: [u8; LABEL_LEN] = self.gateway.identity().random().map_err(no_randomness)?;
        let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map(char::from);
        let label: String = label.iter().filter_map(letter).collect();
        let url = EndpointUrl::from_authority(scheme, &format!("{label}.{base}"));
        self.take(url.map_err(|error| WireError::new(error.code(), error.to_string()))?)
    }

    /// Chooses a TCP port.
    fn assign_tcp(&self) -> Result<Taken, WireError> {
        let checked = self.credential.acl.check_assigned_tcp();
        checked.map_err(|refusal| WireError::new(refusal.code(), refusal.to_string()))?;
        let bind = self.requested_id()?.map_or_else(|| self.new_id(), Ok)?;
        let result = self.take_any_port(&bind);
        if result.is_err() {
            self.gateway.close_free_ports(self.now);
        }
        result
    }

    fn take_any_port(&self, bind: &BindId) -> Result<Taken, WireError> {
        let ports = self.config.listeners.tcp.agent_ports.clone();
        let random = self.gateway.state().random.next();
        for at in 0..PORT_TRIES_MAX {
            let opened = match ports {
                AgentPorts::None => None,
                AgentPorts::Between(ref ports) => nth_port(ports, random.wrapping_add(at)),
                AgentPorts::Any => self.gateway.open_any_port(),
            };
            let Some(port) = opened else { break };
            let Some(url) = self.tcp_url(port).filter(|url| self.config.check_public(url).is_ok()) else { continue };
            if self.gateway.state().registry.is_taken(&url) {
                continue;
            }
            match self.enter(url, bind.clone(), Origin::Assigned) {
                // Somebody was faster, or another program has the port.
                Err(WireError { code: Some(codes::ENDPOINT_ONLINE | codes::ACL_REFUSES_ADDRESS), .. }) => {}
                result => return result,
            }
        }
        Err(WireError::new(codes::ACL_REFUSES_ADDRESS, "this gateway has no free port for a tcp endpoint"))
    }

    fn tcp_url(&self, port: u16) -> Option<EndpointUrl> {
        let host = self.config.tcp_host().unwrap_or("localhost");
        EndpointUrl::from_authority(Scheme::Tcp, &format!("{host}:{port}")).ok()
    }

    /// Enters the endpoint in the registry, and opens its port if it needs one.
    fn enter(&self, url: EndpointUrl, bind: BindId, origin: Origin) -> Result<Taken, WireError> {
        let policy = self.policy(&url)?;
        let proxy_protocol = self.request.proxy_protocol();
        let proxy_protocol =
            proxy_protocol.map_err(|error| WireError::new(codes::BIND_MALFORMED, error.to_string()))?;
        let (agent, extra) = (self.agent, &self.request.extra);
        let endpoint = Endpoint {
            url: url.clone(),
            owner: agent.owner.clone(),
            client: agent.client.clone(),
            leg: agent.leg,
            session: agent.session,
            bind: bind.clone(),
            pooled: extra.pooling_enabled,
            forwards_to: self.request.forwards_to.as_str().into(),
            forwards_proto: self.request.forwards_proto.as_str().into(),
            client_type: agent.client_type.clone(),
            proxy_protocol,
            policy,
            name: extra.name.as_str().into(),
            description: extra.description.as_str().into(),
            metadata: extra.metadata.as_str().into(),
        };
        let Bound { evicted, stopped } = self.register(endpoint)?;
        self.gateway.evict(&evicted, self.now);
        let needs_port = url.scheme() == Scheme::Tcp && !url.is_internal() && !stopped;
        if needs_port && let Err(error) = self.gateway.open_port(url.port()) {
            self.gateway.state().registry.unbind(&agent.owner, &agent.client, agent.session, &bind);
            let text = format!("the gateway cannot listen on port {}: {error}", url.port());
            return Err(WireError::new(codes::ACL_REFUSES_ADDRESS, text));
        }
        Ok(Taken { url, bind, origin, stopped })
    }

    /// The policy that the endpoint asks for. When an endpoint that was online before asks for what cannot be honoured any
    /// more, it is held back: a refusal would end all that an official agent has.
    fn policy(&self, url: &EndpointUrl) -> Result<Option<Arc<Policy>>, WireError> {
        let error = match requested_policy(self.request, url, self.credential, self.config.policies) {
            Ok(policy) => return Ok(policy),
            Err(error) if self.request.id.is_empty() => return Err(error),
            Err(error) => error,
        };
        let code = error.code.unwrap_or(codes::BIND_MALFORMED);
        if self.agent.has_line(self.now) {
            warn!(session = %self.agent.session, endpoint = %url, code, "endpoint held back: {}", error.message);
        }
        Ok(Some(Arc::new(Policy::held(Place::agent(url), code, error.message))))
    }

    fn register(&self, endpoint: Endpoint) -> Result<Bound, WireError> {
        let online = |text: String| WireError::new(codes::ENDPOINT_ONLINE, text);
        let endpoints_max = self.config.limits.endpoints_per_session_max;
        let mut state = self.gateway.state();
        if state.session(endpoint.session).is_none() {
            return Err(WireError::new(codes::CREDENTIAL_REVOKED, "this session has ended"));
        }
        // A reload since this was judged has looked only at the endpoints that were there.
        let current = self.gateway.config();
        if !endpoint.url.is_internal() && !std::ptr::eq(self.config, &*current) {
            let checked = current.check_public_for(&endpoint.owner.account, &endpoint.url);
            checked.map_err(|refusal| WireError::new(refusal.code(), refusal.to_string()))?;
        }
        let registry = &state.registry;
        let is_new = registry.endpoint(endpoint.session, &endpoint.bind).is_none();
        if is_new && registry.count(endpoint.session) >= endpoints_max {
            let text = format!("this session has {endpoints_max} endpoints already, which is its limit");
            self.gateway.events().limit_hit("limits.endpoints_per_session_max", &Hit::Site(self.agent.site()));
            return Err(WireError::new(codes::ENDPOINTS_TOO_MANY, text));
        }
        if let Some(twin) = twin(self.config, &endpoint.url).filter(|twin| registry.is_taken(twin)) {
            return Err(online(format!("{twin} is online, and cannot be told from {} on this gateway", endpoint.url)));
        }
        // Official agents rebind with the values of before their patches. Ours says what holds now, and so does whoever asks
        // for the first time: a patch that outlives its process must not take the place of what a newer file says.
        if self.request.id.is_empty() || self.agent.is_adit {
            state.registry.forget_patch(&endpoint.owner, &endpoint.client, &endpoint.bind);
        }
        // An Id may come with another address than before.
        let before = state.registry.endpoint(endpoint.session, &endpoint.bind).map(|before| before.key());
        let changed: Vec<_> = before.into_iter().chain([endpoint.key()]).collect();
        let bound = {
            let (registry, is_dead) = state.registry_with_deaths(self.now);
            registry.bind(endpoint, self.now, &is_dead)
        };
        state.tell_endpoints(&changed);
        bound.map_err(|conflict| online(self.tell(&state, &conflict)))
    }

    /// What stands in the way of the endpoint; where it is only to agents of the same credential.
    fn tell(&self, state: &State, conflict: &Conflict) -> String {
        let Conflict::Taken { session, .. } = conflict else { return conflict.to_string() };
        match state.session(*session).filter(|holder| holder.owner == self.agent.owner) {
            Some(holder) => format!("{conflict}; it is served from {}", holder.whereabouts()),
            None => conflict.to_string(),
        }
    }

    fn requested_id(&self) -> Result<Option<BindId>, WireError> {
        if self.request.id.is_empty() {
            return Ok(None);
        }
        let text = "the Id is none of this gateway's: it must be 1 to 64 printable ASCII characters";
        let bind = BindId::parse(&self.request.id);
        bind.map(Some).ok_or_else(|| WireError::new(codes::BIND_TOKEN_MALFORMED, text))
    }

    /// The Id that this instance has for the address always, unless it has bound it already.
    fn new_id_for(&self, url: &EndpointUrl) -> Result<BindId, WireError> {
        let Agent { owner, client, session, instance, .. } = self.agent;
        if instance.is_none() {
            return self.new_id();
        }
        let bind = self.gateway.identity().bind_of(owner, client, url);
        let is_in_use = self.gateway.state().registry.endpoint(*session, &bind).is_some();
        if is_in_use { self.new_id() } else { Ok(bind) }
    }

    fn new_id(&self) -> Result<BindId, WireError> {
        self.gateway.identity().new_bind().map_err(no_randomness)
    }
}

/// What is wrong with a Bind wherever it is to be online.
fn check_request(request: &BindRequest) -> Result<(), WireError> {
    let modules = request.unsupported_modules();
    let untranslatable = legacy::untranslatable(&modules);
    if !untranslatable.is_empty() && request.id.is_empty() {
        return Err(WireError::new(codes::BIND_MALFORMED, legacy::unsupported(&untranslatable)));
    }
    let extra = &request.extra;
    for (name, text) in [
        ("Name", &extra.name),
        ("Description", &extra.description),
        ("Metadata", &extra.metadata),
        ("ForwardsTo", &request.forwards_to),
        ("ForwardsProto", &request.forwards_proto),
    ] {
        check_len(name, text)?;
    }
    Ok(())
}

fn check_len(name: &str, text: &str) -> Result<(), WireError> {
    if text.len() <= TEXT_LEN_MAX {
        return Ok(());
    }
    Err(WireError::new(codes::BIND_MALFORMED, format!("{name} must not be longer than {TEXT_LEN_MAX} bytes")))
}

/// An endpoint is internal when its name says so; what the agent says besides must agree.
fn check_bindings(request: &BindRequest, asked: &RequestedUrl) -> Result<(), WireError> {
    let is_internal = match asked {
        RequestedUrl::Exact(url) => Some(url.is_internal()),
        RequestedUrl::Assign { .. } => None,
    };
    let refuse = |code, text: &str| Err(WireError::new(code, text));
    match (request.extra.bindings.as_slice(), is_internal) {
        ([], _) => Ok(()),
        ([binding], None) if binding == "internal" => {
            refuse(codes::INTERNAL_NAME_MISSING, "an internal endpoint must be given a name that ends in .internal")
        }
        ([binding], Some(false)) if binding == "internal" => {
            refuse(codes::INTERNAL_SUFFIX, "the name of an internal endpoint must end in .internal")
        }
        ([binding], Some(true)) if binding == "public" => {
            refuse(codes::INTERNAL_SUFFIX, "a name that ends in .internal is never public: use the binding internal")
        }
        ([binding], _) if binding == "internal" || binding == "public" => Ok(()),
        ([_], _) => refuse(codes::BIND_MALFORMED, "the binding must be public or internal: this gateway has no other"),
        ([..], _) => refuse(codes::BIND_MALFORMED, "an endpoint has one binding: public or internal"),
    }
}

/// The URL of the other scheme that visitors could not tell from this one, where `https` and `tls` share a socket.
fn twin(config: &Config, url: &EndpointUrl) -> Option<EndpointUrl> {
    let other = match url.scheme() {
        Scheme::Https => Scheme::Tls,
        Scheme::Tls => Scheme::Https,
        Scheme::Http | Scheme::Tcp => return None,
    };
    let twin = EndpointUrl::from_authority(other, &format!("{}:{}", url.host(), url.port())).ok()?;
    (!url.is_internal() && config.collide(url, &twin)).then_some(twin)
}

fn credential_of<'a>(agent: &Agent, config: &'a Config) -> Result<&'a Credential, WireError> {
    let credential = config.accounts.credential(&agent.owner.credential);
    let credential = credential.filter(|credential| credential.account == agent.owner.account);
    credential.map(|credential| &**credential).ok_or_else(|| WireError::new(codes::CREDENTIAL_REVOKED, REVOKED))
}

/// The modules and the policy of a Bind as one policy, the modules first.
fn requested_policy(
    request: &BindRequest,
    url: &EndpointUrl,
    credential: &Credential,
    policies: PoliciesConfig,
) -> Result<Option<Arc<Policy>>, WireError> {
    let place = Place::agent(url).going_outside(policies.outside_requests);
    let policy = parse_policy(&request.traffic_policy().unwrap_or_default(), place, credential)?;
    let modules = request.unsupported_modules();
    if modules.is_empty() {
        return Ok(policy.map(Arc::new));
    }
    let first = legacy::translate(&request.opts, &modules, Place::agent(url));
    let first = first.map_err(|reason| WireError::new(codes::BIND_MALFORMED, reason))?;
    let policy = policy.unwrap_or_default();
    if first.logs_in() && policy.logs_in() {
        let message = "the module and the traffic policy both log people in: one of them is possible";
        return Err(WireError::new(codes::BIND_MALFORMED, message));
    }
    Ok(Some(Arc::new(first.followed_by(policy))))
}

/// Compiles a policy of an agent. It forwards to nothing that its credential could not bind: the agent of one site would
/// otherwise lead its own visitors past the rules in front of another site of the account.
fn parse_policy(text: &str, place: Place, credential: &Credential) -> Result<Option<Policy>, WireError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let policy = Policy::parse(text, place);
    let policy = policy.map_err(|errors| WireError::new(errors.code(), errors.to_string()))?;
    for target in policy.forwards_to() {
        let checked = credential.acl.check(target);
        let refused = |refusal| format!("{refusal}: the traffic policy forwards to {target}");
        checked.map_err(|refusal| WireError::new(refusal.code(), refused(refusal)))?;
    }
    Ok(Some(policy))
}

/// The ports of a range one after the other, beginning anywhere.
fn nth_port(ports: &RangeInclusive<u16>, at: u64) -> Option<u16> {
    let count = u64::from(ports.end().checked_sub(*ports.start())?) + 1;
    ports.start().checked_add(u16::try_from(at % count).ok()?)
}

fn no_randomness(error: NoRandomness) -> WireError {
    WireError::new(codes::BIND_MALFORMED, error.to_string())
}

/// Wait between the agent's confirmation of a Bind and the first visitor: its thread that accepts streams may be another
/// one than the thread that confirmed (wire document 4.6).
const ROUTABLE_GRACE: Duration = Duration::from_millis(5);
/// Longest text that is kept of what an agent says of an endpoint: the limit of ngrok's service for metadata.
const TEXT_LEN_MAX: usize = 4096;
/// Ports that are tried for an endpoint that may have any: with nine of ten taken, one in 800 searches fails.
const PORT_TRIES_MAX: u64 = 64;
/// Characters of an assigned name: 80 bits, so that nobody finds one by trying.
const LABEL_LEN: usize = 16;
/// Lower case without letters and digits that look alike; 32 of them, so that all are equally likely.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_range_come_in_turn_from_anywhere() {
        let ports: Vec<_> = (u64::MAX - 1..=u64::MAX).chain(0..3).map(|at| nth_port(&(20000..=20002), at)).collect();
        assert!(ports.iter().all(|port| port.is_some_and(|port| (20000..=20002).contains(&port))));
        assert_eq!(ports[2..], [Some(20000), Some(20001), Some(20002)]);
        assert_eq!(nth_port(&(65535..=65535), 7), Some(65535));
        assert_eq!(nth_port(&(0..=65535), 65535), Some(65535));
    }
}
