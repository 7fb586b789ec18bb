//! The services behind the agent: each is connected to once, and for `tls://` and `https://` the handshake is done.

use std::sync::Arc;
use std::time::Duration;

use super::network::Network;
use super::secure::{Secure, explain};
use super::{Class, Failure, ms_since, now};
use crate::config::{EndpointConfig, Upstream};
use crate::net::resolve::Purpose;
use crate::tls::EndpointTls;

/// Every upstream once, with the number of the first endpoint that leads to it and the names of all.
pub(super) fn distinct(endpoints: &[EndpointConfig]) -> Vec<(usize, &Upstream, String)> {
    let mut found: Vec<(usize, &Upstream, String)> = Vec::new();
    for (number, endpoint) in endpoints.iter().enumerate() {
        let place = |upstream: &Upstream| (upstream.scheme, upstream.address.clone(), upstream.tls.clone());
        let same = |(_, upstream, _): &&mut (usize, &Upstream, String)| place(upstream) == place(&endpoint.upstream);
        match found.iter_mut().find(same) {
            Some((_, _, names)) => {
                names.push_str(", ");
                names.push_str(&endpoint.name);
            }
            None => found.push((number, &endpoint.upstream, endpoint.name.clone())),
        }
    }
    found
}

/// Connects, and says how that went.
pub(super) fn reach(upstream: &Upstream, tls: Option<&EndpointTls>, network: &mut Network) -> Result<String, Failure> {
    let theirs = |failure: Failure| Failure { class: Class::Upstream, ..failure };
    let (began, deadline) = (now(), now() + UPSTREAM_TIMEOUT);
    let addresses = network.look_up(&upstream.address, Purpose::Upstream, deadline).map_err(theirs)?;
    let (socket, address) = network
        .dial(addresses, Purpose::Upstream, deadline)
        .map_err(|failure| Failure { who: SERVICE, ..theirs(failure) })?;
    let Some((config, name)) = tls.and_then(|tls| tls.upstream.as_ref()) else {
        return Ok(format!("{address} answered in {} ms", ms_since(began)));
    };
    let secure = Secure::open(socket, Arc::clone(config), name.clone(), deadline)
        .map_err(|error| Failure { who: CERTIFICATE, ..theirs(explain(&error, None)) })?;
    Ok(format!("{address}, {} in {} ms, {}", secure.facts(), ms_since(began), secure.peer()))
}

const SERVICE: &str = "whoever runs that service, or whoever wrote its address into the file";

const CERTIFICATE: &str = "whoever runs that service: its certificate must be valid, for that name, and from an authority \
                           that this machine's bundle knows";

/// As long as the agent gives it for a visitor.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
