//! The static table: where each endpoint leads. Nothing outside it is ever dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::by_number::ByNumber;
use crate::config::{EndpointConfig, HostPort, Upstream};
use crate::endpoint_url::RequestedUrl;
use crate::net::resolve::{Lookup, Purpose, Resolver};
use crate::proxy_protocol::ProxyProtocol;
use crate::session::EndpointSpec;
use crate::tls::EndpointTls;

/// The upstreams of the endpoints. Each endpoint has a number that no other one ever gets, so that what was meant for
/// one that is gone cannot reach another.
pub(super) struct Upstreams {
    /// By number.
    routes: ByNumber<Arc<Route>>,
    /// In the order of the configuration.
    numbers: Vec<usize>,
    numbers_used: usize,
}

/// Where one endpoint leads. Streams keep theirs, also when the table has another one by now.
pub(super) struct Route {
    endpoint: EndpointConfig,
    /// The address at the gateway, as the configuration asks for it.
    pub(super) url: String,
    tls: EndpointTls,
}

/// What another table has changed.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Numbers of the endpoints that are gone.
    pub(super) removed: Vec<usize>,
    /// Names, for the log.
    pub(super) removed_names: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) changed: Vec<String>,
}

impl Upstreams {
    pub(super) fn new(endpoints: &[EndpointConfig], tls: Vec<EndpointTls>) -> Self {
        let mut upstreams = Self { routes: ByNumber::new(), numbers: Vec::new(), numbers_used: 0 };
        upstreams.change(endpoints, tls);
        upstreams
    }

    /// Puts another table in the place of this one. An endpoint is the same one as before by its name, or else by its
    /// address.
    pub(super) fn change(&mut self, endpoints: &[EndpointConfig], tls: Vec<EndpointTls>) -> Difference {
        let fresh: Vec<Route> = endpoints.iter().zip(tls).map(|(endpoint, tls)| Route::new(endpoint, tls)).collect();
        let mut old = std::mem::take(&mut self.routes);
        let mut numbers = vec![None; fresh.len()];
        // An address that the gateway is to choose is nobody's in particular.
        let same: [fn(&EndpointConfig, &EndpointConfig) -> bool; 2] =
            [|a, b| a.name == b.name, |a, b| matches!(a.url, RequestedUrl::Exact(_)) && a.url == b.url];
        let mut difference = Difference::default();
        for is_same in same {
            for (place, route) in numbers.iter_mut().zip(&fresh).filter(|(place, _)| place.is_none()) {
                let found = old.iter().find(|(_, other)| is_same(&other.endpoint, &route.endpoint));
                let Some((number, other)) = found.map(|(number, other)| (number, Arc::clone(other))) else { continue };
                old.remove(number);
                *place = Some(number);
                if other.endpoint != route.endpoint {
                    difference.changed.push(route.name().to_owned());
                }
            }
        }
        self.numbers.clear();
        for (place, route) in numbers.into_iter().zip(fresh) {
            let number = place.unwrap_or_else(|| {
                difference.added.push(route.name().to_owned());
                self.numbers_used += 1;
                self.numbers_used - 1
            });
            self.numbers.push(number);
            self.routes.insert(number, Arc::new(route));
        }
        for (number, route) in old {
            difference.removed.push(number);
            difference.removed_names.push(route.name().to_owned());
        }
        difference
    }

    pub(super) fn route(&self, number: usize) -> Option<&Arc<Route>> {
        self.routes.get(number)
    }

    /// All endpoints, in the order of the configuration.
    pub(super) fn routes(&self) -> impl Iterator<Item = (usize, &Route)> {
        self.numbers.iter().filter_map(|&number| Some((number, self.routes.get(number)?.as_ref())))
    }

    /// What the gateway has to know of the endpoints.
    pub(super) fn specs(&self) -> Vec<EndpointSpec> {
        let spec = |(number, route): (usize, &Route)| {
            let endpoint = &route.endpoint;
            EndpointSpec {
                number,
                name: endpoint.name.clone(),
                url: endpoint.url.clone(),
                forwards_to: endpoint.upstream.to_string(),
                proxy_protocol: endpoint.upstream.proxy_protocol,
                bindings: vec![endpoint.binding.as_str().to_owned()],
                pooling_enabled: endpoint.pooling_enabled,
                metadata: endpoint.metadata.clone(),
                description: endpoint.description.clone(),
                traffic_policy: endpoint.traffic_policy.clone().unwrap_or_default(),
            }
        };
        self.routes().map(spec).collect()
    }
}

impl Route {
    fn new(endpoint: &EndpointConfig, tls: EndpointTls) -> Self {
        Self { endpoint: endpoint.clone(), url: endpoint.url.to_string(), tls }
    }

    /// The endpoint's name, for the log.
    pub(super) fn name(&self) -> &str {
        &self.endpoint.name
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.endpoint.upstream
    }

    /// What TLS to the upstream needs; `None` for plain ones.
    pub(super) fn tls(&self) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        self.tls.upstream.clone()
    }

    /// Set when the agent ends the visitors' TLS.
    pub(super) fn termination(&self) -> Option<&Arc<ServerConfig>> {
        // Never in a build without; only thus does the compiler know, and leave out what follows from it.
        if !cfg!(feature = "own-certificates") {
            return None;
        }
        Some(&self.tls.termination.as_ref()?.config)
    }

    /// The PROXY header that has to be taken off the stream, because the upstream's socket gets it before any TLS.
    pub(super) fn header_to_lift(&self) -> ProxyProtocol {
        if self.tls.upstream.is_some() || self.tls.termination.is_some() {
            self.upstream().proxy_protocol
        } else {
            ProxyProtocol::None
        }
    }
}

/// The addresses of `place`: at once for a literal, else through the resolver.
pub(super) fn look_up(resolver: &mut Resolver, place: &HostPort, purpose: Purpose, now: Instant) -> Lookup {
    match place.host().parse::<IpAddr>() {
        Ok(address) => Lookup::Ready(vec![SocketAddr::new(address, place.port())]),
        Err(_) => resolver.lookup(place.host(), place.port(), purpose, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Binding;
    use crate::endpoint_url::RequestedUrl;

    fn endpoint(name: &str, url: &str, upstream: &str) -> EndpointConfig {
        let url = RequestedUrl::parse(url).unwrap();
        EndpointConfig {
            name: name.to_owned(),
            binding: Binding::Internal,
            upstream: Upstream::parse(upstream, url.scheme()).unwrap(),
            url,
            pooling_enabled: false,
            metadata: String::new(),
            description: String::new(),
            termination: None,
            traffic_policy: None,
        }
    }

    fn plain(count: usize) -> Vec<EndpointTls> {
        vec![EndpointTls::default(); count]
    }

    fn numbers(upstreams: &Upstreams) -> Vec<(usize, &str)> {
        upstreams.routes().map(|(number, route)| (number, route.name())).collect()
    }

    #[test]
    fn number_goes_with_the_name_then_with_the_address_and_is_never_given_twice() {
        let (a, b) = (endpoint("a", "https://a.internal", "1"), endpoint("b", "https://b.internal", "2"));
        let mut upstreams = Upstreams::new(&[a.clone(), b.clone()], plain(2));
        assert_eq!(numbers(&upstreams), [(0, "a"), (1, "b")]);

        let moved = endpoint("a", "https://a.internal", "3");
        let difference = upstreams.change(&[b.clone(), moved], plain(2));
        assert_eq!(numbers(&upstreams), [(1, "b"), (0, "a")]);
        assert_eq!((difference.changed.as_slice(), difference.added.len()), (&["a".to_owned()][..], 0));
        assert_eq!(upstreams.route(0).unwrap().upstream().to_string(), "http://localhost:3");

        let renamed = endpoint("c", "https://b.internal", "2");
        upstreams.change(&[renamed], plain(1));
        assert_eq!(numbers(&upstreams), [(1, "c")]);

        let difference = upstreams.change(&[a, b], plain(2));
        assert_eq!(numbers(&upstreams), [(2, "a"), (1, "b")]);
        assert_eq!((difference.removed.len(), difference.added), (0, vec!["a".to_owned()]));
        let (old, new) = (endpoint("old", "https://", "1"), endpoint("new", "https://", "2"));
        let mut chosen = Upstreams::new(&[old], plain(1));
        chosen.change(&[new], plain(1));
        assert_eq!(numbers(&chosen), [(1, "new")], "addresses that the gateway chooses are no sign of being the same");
        let difference = upstreams.change(&[], plain(0));
        assert_eq!(difference.removed, [1, 2]);
        assert!(upstreams.route(1).is_none());
    }
}
