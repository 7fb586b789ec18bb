//! The configuration with the certificate files that it names: read as a whole, or refused with every error.

use std::env;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::{AgentConfig, Config, ConfigErrors, ConnectCas, Problem, Warning};
use crate::tls::{self, TlsError};

/// A configuration that can be put in force.
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// What an operator should know about it.
    pub warnings: Vec<Warning>,
    /// TLS to the gateway.
    pub(super) connect_tls: Arc<ClientConfig>,
    /// TLS to upstreams, if there are such.
    pub(crate) upstream_tls: Option<Arc<ClientConfig>>,
}

impl Loaded {
    /// Reads the file, the environment and the certificate files. It may block, as file systems do.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or with the certificates that it names.
    pub fn from_file(path: &Path) -> Result<Self, ConfigErrors> {
        let (config, warnings) = Config::load(path, &|name| env::var(name).ok())?;
        let problem = |key: &str, value: Option<String>, error: &TlsError| Problem {
            file: path.display().to_string(),
            path: key.to_owned(),
            value,
            expected: error.to_string(),
        };
        let connect_tls = connect_tls(&config.agent)
            .map_err(|error| problem("agent.connect_cas", Some(shown(&config.agent.connect_cas)), &error))?;
        let upstream_tls = upstream_tls(&config).map_err(|error| problem("endpoints", None, &error))?;
        Ok(Self { config, warnings, connect_tls, upstream_tls })
    }

    /// Takes a configuration from elsewhere and reads the certificate files.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(config: Config) -> Result<Self, TlsError> {
        let (connect_tls, upstream_tls) = (connect_tls(&config.agent)?, upstream_tls(&config)?);
        Ok(Self { config, warnings: Vec::new(), connect_tls, upstream_tls })
    }
}

fn connect_tls(agent: &AgentConfig) -> Result<Arc<ClientConfig>, TlsError> {
    tls::connect_config(agent)
}

fn upstream_tls(config: &Config) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    if !config.endpoints.iter().any(|endpoint| endpoint.upstream.is_tls()) {
        return Ok(None);
    }
    tls::upstream_config(&config.agent).map(Some)
}

fn shown(cas: &ConnectCas) -> String {
    match cas {
        ConnectCas::Trusted => "\"trusted\"".to_owned(),
        ConnectCas::Host => "\"host\"".to_owned(),
        ConnectCas::File(path) => format!("{path:?}"),
    }
}
