//! The services behind the agent: each is connected to once, and for `tls://` and `https://` the handshake is done.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::network::Network;
use super::secure::{Secure, explain};
use super::{Class, Failure, ms_since, now};
use crate::config::{EndpointConfig, Upstream};
use crate::tls;

/// Every upstream once, with the names of the endpoints that lead to it.
pub(super) fn distinct(endpoints: &[EndpointConfig]) -> Vec<(&Upstream, String)> {
    let mut found: Vec<(&Upstream, String)> = Vec::new();
    for endpoint in endpoints {
        let same = |(upstream, _): &&mut (&Upstream, String)| {
            (upstream.scheme, &upstream.address) == (endpoint.upstream.scheme, &endpoint.upstream.address)
        };
        match found.iter_mut().find(same) {
            Some((_, names)) => {
                names.push_str(", ");
                names.push_str(&endpoint.name);
            }
            None => found.push((&endpoint.upstream, endpoint.name.clone())),
        }
    }
    found
}

/// Connects, and says how that went.
pub(super) fn reach(
    upstream: &Upstream,
    config: Option<&Arc<ClientConfig>>,
    network: &mut Network,
) -> Result<String, Failure> {
    let theirs = |failure: Failure| Failure { class: Class::Upstream, ..failure };
    let (began, deadline) = (now(), now() + UPSTREAM_TIMEOUT);
    let addresses = network.look_up(&upstream.address, deadline).map_err(theirs)?;
    let (socket, address) =
        network.dial(addresses, deadline).map_err(|failure| Failure { who: SERVICE, ..theirs(failure) })?;
    let Some(config) = config.filter(|_| upstream.is_tls()) else {
        return Ok(format!("{address} answered in {} ms", ms_since(began)));
    };
    let unusable = |error: tls::TlsError| Failure::new(Class::Upstream, error, "whoever wrote the agent's file");
    let name = tls::server_name(upstream.address.host()).map_err(unusable)?;
    let secure = Secure::open(socket, Arc::clone(config), name, deadline)
        .map_err(|error| Failure { who: CERTIFICATE, ..theirs(explain(&error, None)) })?;
    Ok(format!("{address}, {} in {} ms, {}", secure.facts(), ms_since(began), secure.peer()))
}

const SERVICE: &str = "whoever runs that service, or whoever wrote its address into the file";

const CERTIFICATE: &str = "whoever runs that service: its certificate must be valid, for that name, and from an authority \
                           that this machine's bundle knows";

/// As long as the agent gives it for a visitor.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
