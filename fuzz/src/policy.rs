//! Traffic Policy documents, as operators write them and as agents send them, on every kind of endpoint.

use adit::endpoint_url::EndpointUrl;
use adit_gateway::policy::{Place, Policy};

/// Compiles the input for endpoints of every scheme, from the operator's file and from an agent.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for url in ["https://app.example.test", "http://app.example.test", "tls://app.example.test", "tcp://example.test:7"]
    {
        let Ok(url) = EndpointUrl::parse(url) else { panic!("the target's own {url} is refused") };
        for place in [Place::cloud(&url), Place::agent(&url)] {
            if let Err(errors) = Policy::parse(text, place) {
                assert!(!errors.errors().is_empty(), "a document is refused without a reason");
            }
        }
    }
}
