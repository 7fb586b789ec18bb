//! The `Opts` of a bind: what the endpoint's address is and what the gateway is to do with its traffic.
//!
//! They stay one JSON object from request to reply, because agents rebind with the object that the reply contained:
//! whatever were lost on the way would silently be missing after the next reconnect.

use serde_json::{Map, Value};

use super::error::MessageError;
use super::lookup::{self, member};
use crate::endpoint_url::{EndpointUrl, EndpointUrlError, RequestedUrl, Scheme};
use crate::proxy_protocol::ProxyProtocol;

/// The `Opts` with which an agent of ours asks for an endpoint: those that ngrok's Go agents send, and no modules.
///
/// `traffic_policy` is YAML or JSON text, empty for none.
pub fn bind_options(url: &RequestedUrl, proxy_protocol: ProxyProtocol, traffic_policy: &str) -> Map<String, Value> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Value| options.insert(name.to_owned(), value);
    set(URL, url.to_string().into());
    set(PROXY_PROTO, proxy_protocol.as_number().into());
    set(TRAFFIC_POLICY, traffic_policy.into());
    match url.scheme() {
        Scheme::Tcp => {
            set(ADDR, "".into());
        }
        scheme @ (Scheme::Http | Scheme::Https | Scheme::Tls) => {
            for name in [DOMAIN, HOSTNAME, SUBDOMAIN] {
                set(name, "".into());
            }
            if scheme.is_http() {
                set("Auth", "".into());
                set("HostHeaderRewrite", false.into());
            } else {
                set("MutualTLSAtAgent", false.into());
            }
        }
    }
    options
}

/// Replaces the Traffic Policy of the `Opts` that a reply contained.
pub(crate) fn set_traffic_policy(options: &mut Map<String, Value>, traffic_policy: &str) {
    options.insert(TRAFFIC_POLICY.to_owned(), traffic_policy.into());
}

/// Refuses members of the wrong type among those that are read later.
pub(super) fn check(options: &Map<String, Value>) -> Result<(), MessageError> {
    for field in ["Opts.URL", "Opts.Domain", "Opts.Hostname", "Opts.Subdomain", "Opts.Addr", "Opts.TrafficPolicy"] {
        lookup::optional_text(options, field)?;
    }
    proxy_protocol(options).map(|_| ())
}

/// The address asked for: the first of the members for addresses that is not empty.
pub(super) fn requested(
    options: &Map<String, Value>,
    proto: Scheme,
    base_domain: Option<&str>,
) -> Result<RequestedUrl, EndpointUrlError> {
    if let Some(url) = non_empty(options, URL) {
        return requested_by_url(url, proto);
    }
    let names: &[&str] = if proto == Scheme::Tcp { &[ADDR] } else { &[DOMAIN, HOSTNAME] };
    if let Some(authority) = names.iter().find_map(|name| non_empty(options, name)) {
        return EndpointUrl::from_authority(proto, authority).map(RequestedUrl::Exact);
    }
    match non_empty(options, SUBDOMAIN) {
        Some(subdomain) if proto != Scheme::Tcp => {
            let base_domain = base_domain.ok_or(EndpointUrlError::BaseDomainMissing)?;
            EndpointUrl::from_authority(proto, &format!("{subdomain}.{base_domain}")).map(RequestedUrl::Exact)
        }
        Some(_) | None => Ok(RequestedUrl::Assign { scheme: proto }),
    }
}

/// The object for the reply: the request's, with an address that the gateway chose in each member that asked for one.
pub(super) fn echoed(options: &Map<String, Value>, proto: Scheme, url: &EndpointUrl) -> Map<String, Value> {
    let mut echo = options.clone();
    if !matches!(requested(options, proto, None), Ok(RequestedUrl::Assign { .. })) {
        return echo;
    }
    let authority = match (url.scheme().default_port(), url.port()) {
        (Some(default), port) if default == port => url.host().to_owned(),
        (_, port) => format!("{}:{port}", url.host()),
    };
    for (name, value) in &mut echo {
        if name.eq_ignore_ascii_case(URL) {
            *value = url.to_string().into();
        } else if [DOMAIN, HOSTNAME, ADDR].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            *value = authority.as_str().into();
        }
    }
    echo
}

/// Which header the gateway is to put in front of each connection.
pub(super) fn proxy_protocol(options: &Map<String, Value>) -> Result<ProxyProtocol, MessageError> {
    let field = "Opts.ProxyProto";
    let number = lookup::optional_integer(options, field)?.unwrap_or_default();
    ProxyProtocol::from_number(number).ok_or(MessageError::Value { field, expected: "0, 1 or 2" })
}

/// The Traffic Policy's text, if there is any.
pub(super) fn traffic_policy(options: &Map<String, Value>) -> Option<String> {
    non_empty(options, TRAFFIC_POLICY).map(str::to_owned)
}

/// The names of the modules that are set. Names that differ in case from the official ones count too: a gateway that took
/// them for unknown would publish the endpoint without what was to protect it.
pub(super) fn modules(options: &Map<String, Value>) -> Vec<String> {
    let is_set = |name: &str| {
        let mut values = options.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.any(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some(""))
    };
    MODULES.into_iter().filter(|name| is_set(name)).map(str::to_owned).collect()
}

fn requested_by_url(url: &str, proto: Scheme) -> Result<RequestedUrl, EndpointUrlError> {
    if !url.contains("://") {
        return EndpointUrl::from_authority(proto, url).map(RequestedUrl::Exact);
    }
    let requested = RequestedUrl::parse(url)?;
    if requested.scheme() != proto {
        return Err(EndpointUrlError::SchemeMismatch);
    }
    Ok(requested)
}

fn non_empty<'a>(options: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member(options, name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

const URL: &str = "URL";
const DOMAIN: &str = "Domain";
const HOSTNAME: &str = "Hostname";
const SUBDOMAIN: &str = "Subdomain";
const ADDR: &str = "Addr";
const PROXY_PROTO: &str = "ProxyProto";
const TRAFFIC_POLICY: &str = "TrafficPolicy";

/// Everything in `Opts` that asks for treatment of the traffic other than by Traffic Policy or PROXY header.
const MODULES: [&str; 18] = [
    "Auth",
    "HostHeaderRewrite",
    "Compression",
    "CircuitBreaker",
    "IPRestriction",
    "BasicAuth",
    "OAuth",
    "OIDC",
    "WebhookVerification",
    "MutualTLSCA",
    "RequestHeaders",
    "ResponseHeaders",
    "WebsocketTCPConverter",
    "UserAgentFilter",
    "Policy",
    "MutualTLSAtAgent",
    "MutualTLSAtEdge",
    "TLSTermination",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn ask(proto: Scheme, options: Value) -> Result<String, EndpointUrlError> {
        requested(&map(options), proto, Some("example.com")).map(|url| url.to_string())
    }

    #[test]
    fn three_spellings_ask_for_the_same_address() {
        let https = "https://app.internal";
        for options in [
            json!({"URL": https, "Domain": "", "Hostname": "", "Subdomain": ""}),
            json!({"Domain": "app.internal", "Hostname": "", "Subdomain": ""}),
            json!({"Hostname": "app.internal", "Subdomain": ""}),
            json!({"url": "APP.internal", "Domain": null}),
        ] {
            assert_eq!(ask(Scheme::Https, options.clone()).as_deref(), Ok(https), "{options}");
        }
        let tcp = "tcp://db.internal:5432";
        for options in [json!({"URL": tcp, "Addr": ""}), json!({"Addr": "db.internal:5432"})] {
            assert_eq!(ask(Scheme::Tcp, options.clone()).as_deref(), Ok(tcp), "{options}");
        }
    }

    #[test]
    fn first_member_that_is_not_empty_wins() {
        let all = json!({"URL": "tls://a.b", "Domain": "c.d", "Hostname": "e.f", "Subdomain": "g"});
        let mut all = map(all);
        for expected in ["tls://a.b", "tls://c.d", "tls://e.f", "tls://g.example.com", "tls://"] {
            assert_eq!(requested(&all, Scheme::Tls, Some("example.com")).unwrap().to_string(), expected);
            for name in ["URL", "Domain", "Hostname", "Subdomain"] {
                if all.get(name) != Some(&Value::from("")) {
                    all.insert(name.to_owned(), "".into());
                    break;
                }
            }
        }
    }

    #[test]
    fn nothing_but_a_scheme_leaves_the_choice() {
        assert_eq!(ask(Scheme::Https, json!({"URL": "https://", "Domain": ""})).as_deref(), Ok("https://"));
        assert_eq!(ask(Scheme::Tcp, json!({"Addr": "", "Subdomain": "x"})).as_deref(), Ok("tcp://"));
        assert_eq!(ask(Scheme::Http, json!({})).as_deref(), Ok("http://"));
    }

    #[test]
    fn bad_addresses_are_refused() {
        assert_eq!(ask(Scheme::Tls, json!({"URL": "https://a.b"})), Err(EndpointUrlError::SchemeMismatch));
        assert_eq!(ask(Scheme::Https, json!({"Domain": "1.21 gigawatts"})), Err(EndpointUrlError::Character(' ')));
        assert_eq!(ask(Scheme::Https, json!({"URL": "https://invalid@domain.com"})).map_err(|e| e.code()), Err(9037));
        assert_eq!(ask(Scheme::Tcp, json!({"Addr": "db.internal"})), Err(EndpointUrlError::PortMissing));
        let subdomain = map(json!({"Subdomain": "g"}));
        assert_eq!(requested(&subdomain, Scheme::Https, None), Err(EndpointUrlError::BaseDomainMissing));
    }

    #[test]
    fn assigned_address_is_written_where_the_request_asked() {
        let https = EndpointUrl::parse("https://x7.example.com").unwrap();
        let cases = [
            (
                json!({"Domain": "", "Hostname": "", "X": 1}),
                json!({"Domain": "x7.example.com", "Hostname": "x7.example.com", "X": 1}),
            ),
            (json!({"Hostname": null}), json!({"Hostname": "x7.example.com"})),
            (json!({"URL": "https://"}), json!({"URL": "https://x7.example.com"})),
            (
                json!({"Domain": "mine.example.com", "Hostname": ""}),
                json!({"Domain": "mine.example.com", "Hostname": ""}),
            ),
            (json!({"Domain": "", "Subdomain": "x7"}), json!({"Domain": "", "Subdomain": "x7"})),
        ];
        for (options, expected) in cases {
            assert_eq!(Value::from(echoed(&map(options), Scheme::Https, &https)), expected);
        }
        let tcp = EndpointUrl::parse("tcp://example.com:20001").unwrap();
        let echo = echoed(&map(json!({"Addr": ""})), Scheme::Tcp, &tcp);
        assert_eq!(Value::from(echo), json!({"Addr": "example.com:20001"}));
    }

    #[test]
    fn echo_asks_for_the_assigned_address_again() {
        for scheme in [Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp] {
            let url = EndpointUrl::from_authority(scheme, "x7.example.com:20001").unwrap();
            let options = bind_options(&RequestedUrl::Assign { scheme }, ProxyProtocol::None, "");
            let echo = echoed(&options, scheme, &url);
            assert_eq!(requested(&echo, scheme, None), Ok(RequestedUrl::Exact(url)));
        }
    }

    #[test]
    fn every_module_that_is_set_is_named() {
        let all: Map<String, Value> = MODULES.iter().map(|name| (name.to_string(), json!({}))).collect();
        assert_eq!(modules(&all), MODULES);
        let none: Map<String, Value> = MODULES.iter().map(|name| (name.to_string(), Value::Null)).collect();
        assert!(modules(&none).is_empty());
        assert!(
            modules(&map(json!({"Auth": "", "HostHeaderRewrite": false, "MutualTLSAtAgent": false, "ProxyProto": 2})))
                .is_empty()
        );
        let hidden = json!({"BasicAuth": null, "basicauth": {"credentials": []}, "MutualTLSAtAgent": true});
        assert_eq!(modules(&map(hidden)), ["BasicAuth", "MutualTLSAtAgent"]);
    }

    #[test]
    fn options_of_our_agent_have_what_the_rust_family_needs_to_read_them() {
        let options = |url: &str| bind_options(&RequestedUrl::parse(url).unwrap(), ProxyProtocol::V2, "p");
        for url in ["https://a.b", "http://a.b", "tls://a.b", "tcp://a.b:1", "https://", "tcp://"] {
            let options = options(url);
            assert_eq!(check(&options), Ok(()));
            assert_eq!(proxy_protocol(&options), Ok(ProxyProtocol::V2));
            assert_eq!(traffic_policy(&options).as_deref(), Some("p"));
            assert!(modules(&options).is_empty());
            let proto = RequestedUrl::parse(url).unwrap().scheme();
            assert_eq!(requested(&options, proto, None).unwrap().to_string(), url);
        }
        for name in ["Hostname", "Auth", "Subdomain", "HostHeaderRewrite", "ProxyProto"] {
            assert!(options("https://a.b").contains_key(name), "{name}");
        }
        for name in ["Hostname", "Subdomain", "ProxyProto", "MutualTLSAtAgent"] {
            assert!(options("tls://a.b").contains_key(name), "{name}");
        }
        assert!(options("tcp://a.b:1").contains_key("Addr"));
    }
}
