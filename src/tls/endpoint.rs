//! TLS on the two sides of an endpoint: towards its visitors and towards its upstream.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{PemError, Termination, TlsError, server_name, termination, upstream_config};
use crate::config::{AgentConfig, EndpointConfig, UpstreamTlsConfig};

/// What one endpoint needs.
#[derive(Clone, Debug, Default)]
pub struct EndpointTls {
    /// For `tls://` and `https://` upstreams, with the name that the certificate must have.
    pub upstream: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Set when the agent ends the visitors' TLS.
    pub termination: Option<Termination>,
}

/// Which key of which endpoint cannot be used.
#[derive(Debug)]
pub struct EndpointTlsError {
    /// Its place in the file, counted from 0.
    pub endpoint: usize,
    /// The key, below the endpoint.
    pub key: &'static str,
    /// Why not.
    pub error: TlsError,
}

impl fmt::Display for EndpointTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoints[{}].{}: {}", self.endpoint, self.key, self.error)
    }
}

impl std::error::Error for EndpointTlsError {}

/// TLS of all endpoints, in their order. Upstreams that say nothing of their own share one configuration.
///
/// Reads files; call it before the event loop or rarely.
///
/// # Errors
/// The first certificate or key that cannot be used.
pub fn endpoints_tls(agent: &AgentConfig, endpoints: &[EndpointConfig]) -> Result<Vec<EndpointTls>, EndpointTlsError> {
    let mut shared: Option<(&UpstreamTlsConfig, Arc<ClientConfig>)> = None;
    let mut found = Vec::with_capacity(endpoints.len());
    for (number, endpoint) in endpoints.iter().enumerate() {
        let problem = |key, error| EndpointTlsError { endpoint: number, key, error };
        let mut tls = EndpointTls::default();
        if let Some(ending) = &endpoint.termination {
            let made = termination(ending, agent.tls_ciphers);
            tls.termination = Some(made.map_err(|error| problem(termination_key(&error), TlsError::Pem(error)))?);
        }
        let upstream = &endpoint.upstream;
        if upstream.is_tls() {
            let config = match &shared {
                Some((same, config)) if **same == upstream.tls => Arc::clone(config),
                _ => upstream_config(agent, &upstream.tls).map_err(|error| problem(upstream_key(&error), error))?,
            };
            shared = Some((&upstream.tls, Arc::clone(&config)));
            let host = upstream.tls.server_name.as_deref().unwrap_or(upstream.address.host());
            let name = server_name(host).map_err(|error| problem("upstream.url", error))?;
            tls.upstream = Some((config, name));
        }
        found.push(tls);
    }
    Ok(found)
}

fn termination_key(error: &PemError) -> &'static str {
    match error {
        PemError::Certificate(_) => "agent_tls_termination.server_certificate",
        PemError::PrivateKey(_) => "agent_tls_termination.server_private_key",
        PemError::Authority(_) => "agent_tls_termination.mutual_tls_certificate_authorities",
    }
}

fn upstream_key(error: &TlsError) -> &'static str {
    match error {
        TlsError::Pem(PemError::Certificate(_)) => "upstream.tls.client_certificate",
        TlsError::Pem(PemError::PrivateKey(_)) => "upstream.tls.client_key",
        TlsError::Pem(PemError::Authority(_)) => "upstream.tls.ca_file",
        _ => "upstream.tls",
    }
}
