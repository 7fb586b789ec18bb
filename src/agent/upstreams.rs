//! The static table: where each endpoint leads. Nothing outside it is ever dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::config::{Config, EndpointConfig, HostPort, Upstream};
use crate::net::resolve::{Lookup, Purpose, Resolver};
use crate::tls::{self, TlsError};

/// The upstreams, in the order of the configuration's endpoints.
pub(super) struct Upstreams {
    routes: Vec<Route>,
    tls: Option<Arc<ClientConfig>>,
}

/// Where one endpoint leads.
pub(super) struct Route {
    /// The endpoint's name, for the log.
    pub(super) name: String,
    /// Its address at the gateway, as the configuration asks for it.
    pub(super) url: String,
    pub(super) upstream: Upstream,
    /// For TLS upstreams: the name that the certificate must have.
    server_name: Option<ServerName<'static>>,
}

impl Upstreams {
    pub(super) fn new(config: &Config) -> Result<Self, TlsError> {
        let needs_tls = config.endpoints.iter().any(|endpoint| endpoint.upstream.is_tls());
        let tls = if needs_tls { Some(tls::upstream_config(&config.agent)?) } else { None };
        let routes = config.endpoints.iter().map(Route::new).collect::<Result<_, _>>()?;
        Ok(Self { routes, tls })
    }

    pub(super) fn route(&self, endpoint: usize) -> Option<&Route> {
        self.routes.get(endpoint)
    }

    /// What TLS to this route needs; `None` for plain ones.
    pub(super) fn tls(&self, route: &Route) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        Some((Arc::clone(self.tls.as_ref()?), route.server_name.clone()?))
    }
}

impl Route {
    fn new(endpoint: &EndpointConfig) -> Result<Self, TlsError> {
        let upstream = endpoint.upstream.clone();
        let server_name = upstream.is_tls().then(|| tls::server_name(upstream.address.host())).transpose()?;
        Ok(Self { name: endpoint.name.clone(), url: endpoint.url.to_string(), upstream, server_name })
    }
}

/// The addresses of `place`: at once for a literal, else through the resolver.
pub(super) fn look_up(resolver: &mut Resolver, place: &HostPort, purpose: Purpose, now: Instant) -> Lookup {
    match place.host().parse::<IpAddr>() {
        Ok(address) => Lookup::Ready(vec![SocketAddr::new(address, place.port())]),
        Err(_) => resolver.lookup(place.host(), place.port(), purpose, now),
    }
}
