//! `adit diagnose`: walks the way that a session takes, one step after the other, and says at the first one that fails
//! what is wrong and who can mend it.
//!
//! A command of its own: it blocks, within a deadline for each step, and leaves a running agent alone. It logs in as
//! nobody in particular (without the identity of an earlier session, without endpoints), so that no session ends for it.

pub mod certificate;
mod log_in;
mod network;
mod secure;
mod upstreams;

use std::fmt::{self, Display};
use std::io;
use std::time::Instant;

use self::network::Network;
use crate::agent::Loaded;
use crate::log_format::milliseconds;
use crate::net::resolve::Purpose;

/// Where the walk ended, by who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The system refuses what the walk itself needs.
    System,
    /// The name has no address: DNS, or `connect_url`.
    Names,
    /// No TCP connection: a firewall, the route, the gateway's listener, or an egress proxy.
    Network,
    /// A certificate is not valid now: this machine's clock, or who renews the certificate.
    Time,
    /// The certificate is not the gateway's: an inspecting proxy, a captive portal, or `connect_cas`.
    Certificate,
    /// What answers is no gateway.
    Protocol,
    /// The gateway refuses the log-in.
    LogIn,
    /// A service behind the agent.
    Upstream,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    what: String,
    who: &'static str,
}

impl Failure {
    fn new(class: Class, what: impl Display, who: &'static str) -> Self {
        Self { class, what: what.to_string(), who }
    }
}

/// Walks, and tells `tell` about each step as it is done. `None` when all of it is well.
#[must_use]
pub fn walk(loaded: &Loaded, tell: &mut dyn FnMut(fmt::Arguments<'_>)) -> Option<Class> {
    let mut network = match Network::new(&loaded.config.agent.egress) {
        Ok(network) => network,
        Err(error) => return Some(failed(tell, "system", &no_loop(&error))),
    };
    // What takes longer fails for the agent, too.
    let deadline = now() + loaded.config.agent.connect_timeout;
    if let Err((step, failure)) = to_gateway(loaded, &mut network, deadline, tell) {
        return Some(failed(tell, step, &failure));
    }
    let mut worst = None;
    for (number, upstream, names) in upstreams::distinct(&loaded.config.endpoints) {
        let step = format!("upstream {upstream}");
        match upstreams::reach(upstream, loaded.endpoints_tls.get(number), &mut network) {
            Ok(how) => tell(format_args!("ok    {step} of {names}: {how}")),
            Err(failure) => worst = Some(failed(tell, &format!("{step} of {names}"), &failure)),
        }
    }
    worst
}

/// Everything up to the log-in.
fn to_gateway(
    loaded: &Loaded,
    network: &mut Network,
    deadline: Instant,
    tell: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), (&'static str, Failure)> {
    let agent = &loaded.config.agent;
    let proxy = agent.egress.proxy.as_ref();
    let place = proxy.map_or(&agent.connect, |proxy| &proxy.address);
    let addresses = network.look_up(place, Purpose::Connect, deadline).map_err(|failure| ("names", failure))?;
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tell(format_args!("ok    names: {place} is {}", listed.join(", ")));

    let began = now();
    let (socket, address) = network.dial(addresses, Purpose::Connect, deadline).map_err(|failure| ("TCP", failure))?;
    tell(format_args!("ok    TCP: {address} answered in {} ms", ms_since(began)));
    if let Some(proxy) = proxy {
        let began = now();
        network::pass(&socket, proxy, &agent.connect, deadline).map_err(|failure| ("proxy", failure))?;
        tell(format_args!("ok    proxy: {proxy} connects to {} in {} ms", agent.connect, ms_since(began)));
    }

    let began = now();
    let mut secure = secure::shake_hands(socket, agent, deadline).map_err(|failure| ("TLS", failure))?;
    tell(format_args!("ok    TLS: {} in {} ms, {}", secure.facts(), ms_since(began), secure.peer()));

    let began = now();
    let reply = log_in::log_in(&mut secure, &loaded.config, deadline).map_err(|failure| ("log-in", failure))?;
    let extra = &reply.extra;
    let (account, version) = (&extra.account_name, &extra.version);
    tell(format_args!("ok    log-in: account {account:?}, gateway version {version:?}, in {} ms", ms_since(began)));
    Ok(())
}

fn failed(tell: &mut dyn FnMut(fmt::Arguments<'_>), step: &str, failure: &Failure) -> Class {
    tell(format_args!("FAIL  {step}: {}\n      who can mend it: {}", failure.what, failure.who));
    failure.class
}

fn no_loop(error: &io::Error) -> Failure {
    let what = format!("the system refuses what looking up and dialling need: {error}");
    Failure::new(Class::System, what, "whoever runs this machine: descriptors or memory are used up")
}

/// A walk reads the clock where it waits.
fn now() -> Instant {
    Instant::now()
}

fn ms_since(began: Instant) -> u64 {
    milliseconds(now().saturating_duration_since(began))
}
