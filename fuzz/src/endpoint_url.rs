//! Addresses as users write them: what is accepted reads back as itself.

use adit::config::{HostPort, Upstream};
use adit::endpoint_url::{EndpointUrl, RequestedUrl, Scheme};

/// Reads the input as every kind of address.
pub fn endpoint_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(url) = EndpointUrl::parse(text) {
        assert_eq!(EndpointUrl::parse(&url.to_string()).as_ref(), Ok(&url), "{text:?} changes when it is read again");
        assert_eq!(url.host(), url.host().to_ascii_lowercase(), "the host of {text:?} is not in lower case");
        assert!(url.port() > 0, "{text:?} has port 0");
    }
    if let Ok(url) = RequestedUrl::parse(text) {
        assert_eq!(RequestedUrl::parse(&url.to_string()).as_ref(), Ok(&url), "{text:?} changes when it is read again");
    }
    for scheme in [Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp] {
        if let Ok(upstream) = Upstream::parse(text, scheme) {
            let again = Upstream::parse(&upstream.to_string(), scheme);
            assert_eq!(again.as_ref(), Ok(&upstream), "{text:?} changes when it is read again");
        }
    }
    if let Ok(address) = HostPort::parse(text, None) {
        assert_eq!(HostPort::parse(&address.to_string(), None).as_ref(), Ok(&address));
    }
    let _ = HostPort::parse_connect_url(text);
}
