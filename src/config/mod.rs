//! The agent's configuration: one JSON file with the key names of ngrok's agent configuration, version 3.
//!
//! [`Config::load`] gives a configuration that is parsed and checked as a whole, or every error at once. Nothing is
//! "validated later": a type of this module that exists is usable.

mod address;
mod agent;
mod authtoken;
pub mod document;
pub mod duration;
mod egress;
mod endpoint;
mod endpoint_tls;
mod file;
mod nearest;
mod ngrok_keys;
mod no_proxy;
mod pem;
mod pin;
pub mod problem;
mod proxy_url;
pub mod reader;
mod resources;
pub mod size;
mod upstream;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::file::TextFile;
use self::reader::Reader;

pub use self::address::{AddressError, HostPort};
pub use self::agent::{
    AgentConfig, CONNECT_PINS_MAX, CONNECT_TIMEOUT_DEFAULT, ConnectCas, DRAIN_TIMEOUT_DEFAULT,
    HEARTBEAT_INTERVAL_DEFAULT, HEARTBEAT_TOLERANCE_DEFAULT, LogConfig, METADATA_BYTES_MAX, TlsCiphers,
};
pub use self::egress::{DNS_RESOLVERS_MAX, EgressConfig, NO_PROXY_VARIABLES, PROXY_VARIABLES};
pub use self::endpoint::{Binding, DESCRIPTION_BYTES_MAX, ENDPOINTS_MAX, EndpointConfig, TRAFFIC_POLICY_BYTES_MAX};
pub use self::endpoint_tls::{ALPN_MAX, CLIENT_CAS_MAX, ClientIdentity, TerminationConfig, UpstreamTlsConfig};
pub use self::pem::PemSource;
pub use self::pin::PublicKeyPin;
pub use self::problem::{ConfigErrors, Problem, Warning};
pub use self::proxy_url::{ProxyCredentials, ProxyKind, ProxyUrl, ProxyUrlError};
pub use self::resources::{MEMORY_DEFAULT, Resources, STREAMS_MAX};
pub use self::upstream::{Upstream, UpstreamError};

/// What the agent was told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent as a whole: where to connect, as whom, how to log.
    pub agent: AgentConfig,
    /// What it offers, at most [`ENDPOINTS_MAX`]; names are unique.
    pub endpoints: Vec<EndpointConfig>,
}

impl Config {
    /// Reads and checks the file at `path`. `env` looks up environment variables ([`AUTHTOKEN_VARIABLES`],
    /// [`PROXY_VARIABLES`], [`NO_PROXY_VARIABLES`] and `SSL_CERT_FILE`).
    ///
    /// # Errors
    /// Everything that is wrong with the file, not only the first thing.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let (file, value, reader) = read_tree(path)?;
        let config = read_config(&reader, &value, &file, env);
        let warnings = reader.finish()?;
        // Sections are absent only after a problem was recorded, and then finish() has returned.
        match config {
            Some(config) => Ok((config, warnings)),
            None => Err(Problem {
                file: path.display().to_string(),
                path: String::new(),
                value: None,
                expected: "is incomplete".to_owned(),
            }
            .into()),
        }
    }

    /// The status socket that the file at `path` names, if any; all else may be missing or wrong, as the token is where
    /// it comes from the environment of the agent alone.
    ///
    /// # Errors
    /// The file cannot be read or is no JSON, or this key is wrong.
    pub fn status_socket(path: &Path) -> Result<Option<PathBuf>, ConfigErrors> {
        let (_, value, reader) = read_tree(path)?;
        let section = reader.object(&value, "").and_then(|mut root| {
            let agent = root.value("agent");
            reader.object(agent?, "agent")
        });
        let socket = section.and_then(|mut agent| agent.parsed("status_socket", agent::parse_status_socket));
        reader.finish()?;
        Ok(socket)
    }

    /// Names every key of the file that ngrok's agent (configuration version 3) would not accept.
    ///
    /// # Errors
    /// The file cannot be read or is no JSON.
    pub fn foreign_to_ngrok(path: &Path) -> Result<Vec<Problem>, ConfigErrors> {
        let (_, value, reader) = read_tree(path)?;
        drop(reader);
        let file = path.display().to_string();
        let foreign = ngrok_keys::foreign_keys(&value).into_iter().map(|key| Problem {
            file: file.clone(),
            path: key,
            value: None,
            expected: "ngrok's agent would not accept this key".to_owned(),
        });
        Ok(foreign.collect())
    }
}

/// The environment variables that win over the file's token, the first that is set and not empty.
pub const AUTHTOKEN_VARIABLES: [&str; 2] = ["ADIT_AUTHTOKEN", "NGROK_AUTHTOKEN"];

/// Reads the file into a tree. Problems with single keys are in the reader; without a tree there is nothing to walk.
fn read_tree(path: &Path) -> Result<(TextFile, Value, Reader), ConfigErrors> {
    let name = path.display().to_string();
    let reader = Reader::new(name.clone());
    let file = match TextFile::read(path, CONFIG_BYTES_MAX) {
        Ok(file) => file,
        Err(error) => {
            return Err(Problem { file: name, path: String::new(), value: None, expected: error.to_string() }.into());
        }
    };
    let Some(value) = reader.parse_json(file.text()) else {
        if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            reader.problem("", None, "is YAML by its name: write it as JSON, with the same keys");
        }
        let errors = reader.finish().err();
        let fallback = Problem { file: name, path: String::new(), value: None, expected: "is not JSON".to_owned() };
        return Err(errors.unwrap_or_else(|| fallback.into()));
    };
    Ok((file, value, reader))
}

fn read_config(
    reader: &Reader,
    value: &Value,
    file: &TextFile,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<Config> {
    let mut root = reader.object(value, "")?;
    read_version(&mut root);
    let agent = match root.required_object("agent") {
        Some(section) => agent::read(section, file, env),
        None => None,
    };
    let sections = root.objects("endpoints", ENDPOINTS_MAX);
    let endpoints = endpoint::read_all(sections);
    if let Some(agent) = &agent {
        agent.resources.check(reader, &endpoints);
    }
    root.refuse("tunnels", "is deprecated by ngrok and not supported: write each of them as an entry of endpoints");
    if !root.has("endpoints") {
        root.warn("endpoints", "there are none: the agent connects and offers nothing");
    }
    root.finish();
    Some(Config { agent: agent?, endpoints })
}

/// `version: 3`, as a number or, since YAML files have both, as a string.
fn read_version(root: &mut reader::Object<'_>) {
    let Some(version) = root.value("version") else {
        root.missing("version", "must be 3");
        return;
    };
    if version.as_u64() != Some(3) && version.as_str() != Some("3") {
        root.problem("version", "must be 3");
    }
}

/// A hand-written file has a few KiB; a thousand endpoints with policies still fit.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Where `adit run` looks without `--config`.
#[must_use]
pub fn default_path() -> PathBuf {
    PathBuf::from("/etc/adit.json")
}
