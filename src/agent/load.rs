//! The configuration with the certificate files that it names: read as a whole, or refused with every error.

use std::env;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::{AgentConfig, Config, ConfigErrors, ConnectCas, Problem, Warning};
use crate::tls::{self, EndpointTls, TlsError};

/// A configuration that can be put in force.
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// What an operator should know about it.
    pub warnings: Vec<Warning>,
    /// TLS to the gateway.
    pub(super) connect_tls: Arc<ClientConfig>,
    /// TLS of the endpoints, in their order.
    pub(crate) endpoints_tls: Vec<EndpointTls>,
}

impl Loaded {
    /// Reads the file, the environment and the certificate files. It may block, as file systems do.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or with the certificates that it names.
    pub fn from_file(path: &Path) -> Result<Self, ConfigErrors> {
        let (config, mut warnings) = Config::load(path, &|name| env::var(name).ok())?;
        let problem = |key: &str, value: Option<String>, error: &TlsError| Problem {
            file: path.display().to_string(),
            path: key.to_owned(),
            value,
            expected: error.to_string(),
        };
        let connect_tls = connect_tls(&config.agent)
            .map_err(|error| problem("agent.connect_cas", Some(shown(&config.agent.connect_cas)), &error))?;
        let endpoints_tls = tls::endpoints_tls(&config.agent, &config.endpoints).map_err(|refused| {
            let key = format!("endpoints[{}].{}", refused.endpoint, refused.key);
            problem(&key, None, &refused.error)
        })?;
        for (number, _) in endpoints_tls.iter().enumerate().filter(|(_, tls)| has_rsa_key(tls)) {
            warnings.push(Warning {
                file: path.display().to_string(),
                path: format!("endpoints[{number}].agent_tls_termination.server_private_key"),
                text: RSA_WARNING.to_owned(),
            });
        }
        Ok(Self { config, warnings, connect_tls, endpoints_tls })
    }

    /// Takes a configuration from elsewhere and reads the certificate files.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(config: Config) -> Result<Self, TlsError> {
        let connect_tls = connect_tls(&config.agent)?;
        let endpoints_tls = tls::endpoints_tls(&config.agent, &config.endpoints).map_err(|refused| refused.error)?;
        Ok(Self { config, warnings: Vec::new(), connect_tls, endpoints_tls })
    }
}

fn connect_tls(agent: &AgentConfig) -> Result<Arc<ClientConfig>, TlsError> {
    tls::connect_config(agent)
}

fn has_rsa_key(tls: &EndpointTls) -> bool {
    tls.termination.as_ref().is_some_and(|termination| termination.has_rsa_key)
}

const RSA_WARNING: &str = "is an RSA key: each handshake costs a small CPU many times what an ECDSA key (P-256) does";

fn shown(cas: &ConnectCas) -> String {
    match cas {
        ConnectCas::Trusted => "\"trusted\"".to_owned(),
        ConnectCas::Host => "\"host\"".to_owned(),
        ConnectCas::File(path) => format!("{path:?}"),
    }
}
