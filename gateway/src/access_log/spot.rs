//! Which endpoint something was about, for comparing it with the next one.

use std::sync::{Arc, Weak};

use adit::endpoint_url::EndpointUrl;

use crate::http::reach::{CloudEndpoint, PublicEndpoint, SessionId, Target};

/// One endpoint, and not another one that is configured or bound alike. It keeps no configuration or policy in memory.
#[derive(Debug)]
pub(super) enum Spot {
    Cloud(Weak<CloudEndpoint>),
    /// An agent may bind an Id anew with another address.
    Agent(SessionId, Arc<str>, EndpointUrl),
}

impl Spot {
    pub(super) fn of(endpoint: &PublicEndpoint) -> Self {
        match endpoint {
            PublicEndpoint::Cloud(endpoint) => Self::Cloud(Arc::downgrade(endpoint)),
            PublicEndpoint::Agent(target) => Self::of_target(target),
        }
    }

    pub(super) fn of_target(target: &Target) -> Self {
        Self::Agent(target.location.session, Arc::clone(&target.location.bind), target.url.clone())
    }

    pub(super) fn is(&self, endpoint: &PublicEndpoint) -> bool {
        match (self, endpoint) {
            // While there is a weak reference, the place in memory is no other endpoint's.
            (Self::Cloud(known), PublicEndpoint::Cloud(endpoint)) => {
                std::ptr::eq(known.as_ptr(), Arc::as_ptr(endpoint))
            }
            (Self::Agent(..), PublicEndpoint::Agent(target)) => self.is_target(target),
            (Self::Cloud(_), PublicEndpoint::Agent(_)) | (Self::Agent(..), PublicEndpoint::Cloud(_)) => false,
        }
    }

    pub(super) fn is_target(&self, target: &Target) -> bool {
        let Self::Agent(session, bind, url) = self else { return false };
        *session == target.location.session && *bind == target.location.bind && *url == target.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reach::{GatewayId, Location};
    use crate::policy::{Place, Policy};

    fn cloud() -> PublicEndpoint {
        let url = EndpointUrl::parse("https://a.example.com").unwrap();
        let policy = r#"{"on_http_request": [{"actions": [{"type": "deny"}]}]}"#;
        let policy = Policy::parse(policy, Place::cloud(&url)).unwrap().into();
        PublicEndpoint::Cloud(CloudEndpoint { url, account: "main".into(), policy }.into())
    }

    fn agent(session: u64, bind: &Arc<str>, url: &str) -> PublicEndpoint {
        PublicEndpoint::Agent(Target {
            location: Location { gateway: GatewayId::Local, session: SessionId(session), bind: Arc::clone(bind) },
            url: EndpointUrl::parse(url).unwrap(),
            account: "main".into(),
            forwards_to: "".into(),
            forwards_proto: "".into(),
            client_type: "".into(),
            policy: None,
        })
    }

    #[test]
    fn endpoint_is_the_same_only_as_itself() {
        let (bind, other) = (Arc::from("ep_1"), Arc::from("ep_2"));
        let (a, b) = ("https://a.example.com", "https://b.example.com");
        let agents = [agent(1, &bind, a), agent(2, &bind, a), agent(1, &other, a), agent(1, &bind, b)];
        let endpoints: Vec<_> = [cloud(), cloud()].into_iter().chain(agents).collect();
        for (n, one) in endpoints.iter().enumerate() {
            for (m, two) in endpoints.iter().enumerate() {
                assert_eq!(Spot::of(one).is(two), n == m, "{n} {m}");
            }
        }
    }

    #[test]
    fn endpoint_of_the_past_is_not_kept_in_memory_and_no_other_one_takes_its_place() {
        let PublicEndpoint::Cloud(endpoint) = cloud() else { unreachable!() };
        let (spot, weak) = (Spot::of(&PublicEndpoint::Cloud(Arc::clone(&endpoint))), Arc::downgrade(&endpoint));
        drop(endpoint);
        assert!(weak.upgrade().is_none());
        assert!((0..100).all(|_| !spot.is(&cloud())));
    }
}
