//! Cloud endpoints: public URLs that exist without any agent and do nothing but run their policy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use adit::config::reader::Object;
use adit::endpoint_url::{EndpointUrl, Scheme};
use serde_json::Value;

use super::accounts::Accounts;
use super::acme::AcmeConfig;
use super::certificate::Certificate;
use super::listeners::{AgentPorts, Listeners};
use super::{Base, PoliciesConfig, bounded_text};
use crate::http::reach::CloudEndpoint;
use crate::policy::{DOCUMENT_BYTES_MAX, Own, Place, Policy, PolicyErrors};

/// The sections of the file that cloud endpoints have to agree with.
pub(super) struct Surroundings<'a> {
    pub(super) base: &'a Base,
    pub(super) policies: PoliciesConfig,
    pub(super) own: &'a Own,
    pub(super) accounts: &'a Accounts,
    /// `None` when the section has mistakes: what it lacks may be what could not be read.
    pub(super) listeners: Option<&'a Listeners>,
    pub(super) connect_names: &'a [String],
    /// `None` when the section has mistakes.
    pub(super) certificates: Option<&'a [Certificate]>,
    /// The authority that issues others.
    pub(super) acme: Option<&'a AcmeConfig>,
}

impl Surroundings<'_> {
    pub(super) fn read(&self, file: &mut Object<'_>) -> Vec<Arc<CloudEndpoint>> {
        let mut endpoints: Vec<Arc<CloudEndpoint>> = Vec::new();
        let mut slots = HashMap::new();
        for mut entry in file.objects("cloud_endpoints", CLOUD_ENDPOINTS_MAX) {
            let url = entry.required_parsed("url", parse_url);
            if let (Some(url), Some(listeners)) = (&url, self.listeners) {
                self.check(&entry, url, listeners);
                let (scheme, host, port) = listeners.slot(url);
                if let Some(other) = slots.insert((scheme, host.to_owned(), port), url.clone()) {
                    entry.problem("url", clash(url, &other));
                }
            }
            endpoints.extend(self.read_rest(entry, url).map(Arc::new));
        }
        endpoints
    }

    fn read_rest(&self, mut entry: Object<'_>, url: Option<EndpointUrl>) -> Option<CloudEndpoint> {
        let account = self.accounts.read_account_of(&mut entry);
        // Both keys are known also where, for want of a URL, the policy cannot be read.
        let (_, _) = (entry.has("traffic_policy"), entry.has("traffic_policy_file"));
        let policy = url.as_ref().and_then(|url| read_policy(&mut entry, url, self.base, self.policies, self.own));
        entry.finish();
        Some(CloudEndpoint { url: url?, account: account?, policy: Arc::new(policy?) })
    }

    fn check(&self, entry: &Object<'_>, url: &EndpointUrl, listeners: &Listeners) {
        let scheme = url.scheme();
        if !listeners.has(scheme) {
            entry.problem("url", format_args!("can never be reached: there is no listeners.{scheme}"));
        }
        if scheme == Scheme::Tcp {
            check_tcp(entry, url.port(), listeners);
            return;
        }
        let over_tls = matches!(scheme, Scheme::Https | Scheme::Tls);
        if over_tls && listeners.agents_share() && self.connect_names.iter().any(|name| name == url.host()) {
            entry
                .problem("url", "is the name that agents connect to on the same socket: give one of them another name");
        }
        let is_uncovered = self.certificates.is_some_and(|list| !list.iter().any(|one| one.covers(url.host())))
            && !self.acme.is_some_and(|acme| acme.will_cover(url.host()));
        if scheme == Scheme::Https && is_uncovered {
            entry.warn("url", format_args!("no certificate is valid for {}: visitors will be warned", url.host()));
        }
    }
}

fn check_tcp(entry: &Object<'_>, port: u16, listeners: &Listeners) {
    if let Some((key, address)) = listeners.holder_of_tcp_port(port) {
        entry.problem("url", format_args!("needs a port of its own: {address} is in listeners.{key}"));
    }
    if matches!(&listeners.tcp.agent_ports, AgentPorts::Between(ports) if ports.contains(&port)) {
        let ports = &listeners.tcp.agent_ports;
        entry.problem("url", format_args!("has a port that is for agents (listeners.tcp.agent_ports: {ports})"));
    }
}

fn clash(url: &EndpointUrl, other: &EndpointUrl) -> String {
    if url == other {
        return "is there twice: keep one of them".to_owned();
    }
    format!("cannot be told from {other}: give it another name or port, or its scheme a listener of its own")
}

fn parse_url(text: &str) -> Result<EndpointUrl, String> {
    let url = EndpointUrl::parse(text).map_err(|error| error.to_string())?;
    if url.is_internal() {
        return Err("must be a public name: only agents have endpoints below .internal".to_owned());
    }
    Ok(url)
}

fn read_policy(
    entry: &mut Object<'_>,
    url: &EndpointUrl,
    base: &Base,
    policies: PoliciesConfig,
    own: &Own,
) -> Option<Policy> {
    let place = Place::cloud(url).going_outside(policies.outside_requests);
    match (entry.value("traffic_policy"), entry.string("traffic_policy_file")) {
        (Some(_), Some(_)) => {
            entry.problem("traffic_policy_file", "stands beside traffic_policy: keep one of the two");
            None
        }
        (Some(Value::String(text)), None) => {
            let path = entry.path_of("traffic_policy");
            Policy::parse_with(text, place, own, &base.0).map_err(|errors| note(entry, &path, &errors)).ok()
        }
        (Some(document), None) => {
            let path = entry.path_of("traffic_policy");
            Policy::from_value_with(document, place, own, &base.0).map_err(|errors| note(entry, &path, &errors)).ok()
        }
        (None, Some(file)) => read_policy_file(entry, &base.resolve(&file), place, own),
        (None, None) => {
            if !entry.has("traffic_policy_file") {
                entry.missing("traffic_policy", "what to do with the traffic, such as a forward-internal action");
            }
            None
        }
    }
}

fn read_policy_file(entry: &Object<'_>, file: &Path, place: Place, own: &Own) -> Option<Policy> {
    let text = match bounded_text(file, DOCUMENT_BYTES_MAX) {
        Ok(text) => text,
        Err(expected) => {
            entry.problem("traffic_policy_file", expected);
            return None;
        }
    };
    let errors = match Policy::parse_with(&text, place, own, &Base::of(file).0) {
        Ok(policy) => return Some(policy),
        Err(errors) => errors,
    };
    let file = file.display().to_string();
    for error in errors.errors() {
        let value = (!error.value.is_empty()).then(|| error.value.clone());
        let expected = format!("{} (ERR_NGROK_{})", error.message, error.code);
        entry.reader().problem_in(&file, &error.path, value, expected);
    }
    None
}

/// The mistakes of an inline policy, each at its path in the whole file.
fn note(entry: &Object<'_>, path: &str, errors: &PolicyErrors) {
    for error in errors.errors() {
        let path = match error.path.as_str() {
            "" => path.to_owned(),
            inner if inner.starts_with('[') => format!("{path}{inner}"),
            inner => format!("{path}.{inner}"),
        };
        let value = (!error.value.is_empty()).then(|| error.value.clone());
        let expected = format!("{} (ERR_NGROK_{})", error.message, error.code);
        entry.reader().problem(&path, value, expected);
    }
}

/// One or two per agent; each has its own policy.
pub(super) const CLOUD_ENDPOINTS_MAX: usize = 10_000;
