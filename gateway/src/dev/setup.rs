//! Everything that is decided before anything runs: ports, certificates, the token and both configurations.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use adit::config::{
    AgentConfig, CONNECT_TIMEOUT_DEFAULT, Config as AgentFile, ConnectCas, EgressConfig, HEARTBEAT_INTERVAL_DEFAULT,
    HEARTBEAT_TOLERANCE_DEFAULT, HostPort, LogConfig, Resources, TlsCiphers,
};
use adit::message::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::authority::{Authority, CONNECT_NAME};
use super::offer::Offer;
use super::{DevError, Options, service};
use crate::config::Config;
use crate::token::{CredentialId, Token};

/// What one run is made of. Dropping it removes the temporary directory.
pub(super) struct Setup {
    pub(super) authority: Arc<Authority>,
    pub(super) config: Config,
    pub(super) offers: Vec<Offer>,
    pub(super) ports: Ports,
    pub(super) ca_file: PathBuf,
    token: Token,
    connect: HostPort,
    service: Option<JoinHandle<()>>,
    _directory: TempDir,
}

/// Ports that were free when they were chosen.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) agents: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) tls: SocketAddr,
}

impl Setup {
    pub(super) async fn new(options: &Options) -> Result<Self, DevError> {
        let (upstreams, service) = match &*options.upstreams {
            [] => {
                let (listener, address) = service::bind().await.map_err(no_port)?;
                (vec![format!("{BUILT_IN}=http://{address}")], Some(tokio::spawn(service::serve(listener))))
            }
            given => (given.to_vec(), None),
        };
        let (ports, tcp_ports) = free_ports(Offer::count_tcp(&upstreams)).map_err(no_port)?;
        let offers = Offer::read_all(&upstreams, tcp_ports.into_iter()).map_err(DevError::Offer)?;
        let authority = Authority::new().map_err(DevError::Authority)?;
        let directory = private_directory().map_err(unwritable)?;
        let ca_file = directory.path().join("ca.crt");
        fs::write(&ca_file, authority.pem()).map_err(unwritable)?;
        let credential: CredentialId = CREDENTIAL.parse().map_err(|_| DevError::NoRandomness)?;
        let token = Token::generate(&credential).map_err(|_| DevError::NoRandomness)?;
        let document = document(&ports, &token, &offers);
        let config = configure(directory.path(), &authority, &document)?;
        let connect = HostPort::parse_connect_url(&ports.agents.to_string());
        let connect = connect.map_err(|error| no_port(io::Error::other(error.to_string())))?;
        Ok(Self {
            authority: Arc::new(authority),
            config,
            offers,
            ports,
            ca_file,
            token,
            connect,
            service,
            _directory: directory,
        })
    }

    /// What agents and SDKs connect to.
    pub(super) fn connect_url(&self) -> String {
        format!("{CONNECT_NAME}:{}", self.ports.agents.port())
    }

    /// The token that they log in with.
    pub(super) fn authtoken(&self) -> &str {
        self.token.expose()
    }

    /// The configuration of the agent in this process.
    pub(super) fn agent_config(&self) -> AgentFile {
        let agent = AgentConfig {
            instance_id: Some("dev".to_owned()),
            authtoken: Secret::new(self.token.expose()),
            connect: self.connect.clone(),
            egress: EgressConfig::default(),
            connect_cas: ConnectCas::File(self.ca_file.clone()),
            connect_pins: Vec::new(),
            tls_ciphers: TlsCiphers::default(),
            ssl_cert_file: std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            heartbeat_interval: HEARTBEAT_INTERVAL_DEFAULT,
            heartbeat_tolerance: HEARTBEAT_TOLERANCE_DEFAULT,
            metadata: String::new(),
            log: LogConfig::default(),
            remote_management: false,
            drain_timeout: DRAIN_TIMEOUT,
            resources: Resources::default(),
            status_socket: None,
        };
        AgentFile { agent, endpoints: self.offers.iter().map(Offer::endpoint).collect() }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(service) = &self.service {
            service.abort();
        }
    }
}

/// Chooses ports, all different because they are open at the same time until the last one is known.
fn free_ports(tcp_count: usize) -> io::Result<(Ports, Vec<u16>)> {
    let mut open = Vec::new();
    let mut next = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        open.push(listener);
        Ok::<_, io::Error>(address)
    };
    let ports = Ports { agents: next()?, http: next()?, https: next()?, tls: next()? };
    let tcp = (0..tcp_count).map(|_| Ok(next()?.port())).collect::<io::Result<_>>()?;
    Ok((ports, tcp))
}

/// Only its owner can look into it, whatever the umask.
fn private_directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("adit-dev-").permissions(Permissions::from_mode(0o700)).tempdir()
}

/// The gateway's configuration, as a file would have it.
fn document(ports: &Ports, token: &Token, offers: &[Offer]) -> Value {
    json!({
        "connect": {"names": [CONNECT_NAME]},
        "listeners": {
            "agents": [ports.agents],
            "http": [ports.http],
            "https": [ports.https],
            "tls": [ports.tls],
            "tcp": {"addresses": ["127.0.0.1"], "agent_ports": "any"},
        },
        "certificates": [{"certificate_file": CERTIFICATE_FILE, "private_key_file": PRIVATE_KEY_FILE}],
        "base_domain": CONNECT_NAME,
        "credentials": [{"id": CREDENTIAL, "hashes": [token.hash().to_string()], "allow_any": true}],
        "cloud_endpoints": offers.iter().flat_map(Offer::cloud_endpoints).collect::<Vec<_>>(),
    })
}

/// Takes the same way as a file, so that nothing that works here is refused there.
fn configure(directory: &Path, authority: &Authority, document: &Value) -> Result<Config, DevError> {
    let pem = authority.connect_pem().map_err(DevError::Authority)?;
    write_private(&directory.join(CERTIFICATE_FILE), &pem.certificate).map_err(unwritable)?;
    write_private(&directory.join(PRIVATE_KEY_FILE), &pem.private_key).map_err(unwritable)?;
    let (config, warnings) =
        Config::parse(&directory.join("dev.json"), &document.to_string()).map_err(DevError::Config)?;
    for warning in warnings {
        // They speak of a file that nobody has written, and of wildcards that certificates on demand make good for.
        tracing::debug!("{warning}");
    }
    Ok(config)
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}

fn no_port(error: io::Error) -> DevError {
    DevError::System("there is no free port on the loopback interface", error)
}

fn unwritable(error: io::Error) -> DevError {
    DevError::System("the temporary directory cannot be written", error)
}

/// The name of the built-in service.
const BUILT_IN: &str = "web";
/// The id of the only credential.
const CREDENTIAL: &str = "dev";
const CERTIFICATE_FILE: &str = "localhost.crt";
const PRIVATE_KEY_FILE: &str = "localhost.key";
/// As long as the gateway's own.
const DRAIN_TIMEOUT: Duration = super::DRAIN_TIMEOUT;
