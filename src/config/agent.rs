//! The section `agent`: where to connect, as whom, and how to behave meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use super::address::HostPort;
use super::authtoken;
use super::egress::{self, EgressConfig};
use super::file::TextFile;
use super::pin::PublicKeyPin;
use super::reader::Object;
use super::resources::Resources;
use crate::log_format::{LogFormat, LogLevel};
use crate::message::{Secret, is_instance};

/// The agent as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Who the agent is to the gateway.
    pub authtoken: Secret,
    /// What tells this box from others with the token; `None`: its lowest permanent MAC address does.
    pub instance_id: Option<String>,
    /// The gateway.
    pub connect: HostPort,
    /// The way there.
    pub egress: EgressConfig,
    /// Whose certificates the gateway may present.
    pub connect_cas: ConnectCas,
    /// The public keys of which the gateway's certificate has to have one, at most [`CONNECT_PINS_MAX`]. If there are
    /// any, the system's clock has no say in its validity. Invariant: empty unless `connect_cas` is a file.
    pub connect_pins: Vec<PublicKeyPin>,
    /// Which ciphers TLS offers first.
    pub tls_ciphers: TlsCiphers,
    /// The system's certificate bundle where the environment names it (`SSL_CERT_FILE`); otherwise the usual paths.
    pub ssl_cert_file: Option<PathBuf>,
    /// How long an attempt may take from the name look-up to the accepted log-in.
    pub connect_timeout: Duration,
    /// How often the agent asks the gateway for a sign of life.
    pub heartbeat_interval: Duration,
    /// How long the answer may take before the session counts as dead.
    pub heartbeat_tolerance: Duration,
    /// Free text that the gateway shows for the session, at most [`METADATA_BYTES_MAX`].
    pub metadata: String,
    /// What is logged and how it looks.
    pub log: LogConfig,
    /// Whether the gateway may stop and restart the agent's session.
    pub remote_management: bool,
    /// How long streams may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// What it may take of its box.
    pub resources: Resources,
    /// The Unix socket at which `adit status` asks, an absolute path; none unless set.
    pub status_socket: Option<PathBuf>,
}

impl AgentConfig {
    /// Whether a session under `other` has to end for this to be in force. What is not named here needs a new one.
    #[must_use]
    pub fn needs_other_session(&self, other: &Self) -> bool {
        let essence = |agent: &Self| Self {
            connect_timeout: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            log: LogConfig::default(),
            status_socket: None,
            ..agent.clone()
        };
        essence(self) != essence(other)
    }
}

/// What is logged and how it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// Whose certificates the gateway may present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConnectCas {
    /// The public authorities that are compiled in.
    #[default]
    Trusted,
    /// The system's bundle.
    Host,
    /// The certificates of this PEM file and no others.
    File(PathBuf),
}

/// Which ciphers TLS offers first. Servers, the gateway among them, follow the order of the client. All are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsCiphers {
    /// What costs this CPU least: AES-GCM where it has instructions for it, else ChaCha20-Poly1305.
    #[default]
    Auto,
    /// AES-GCM.
    Aes,
    /// ChaCha20-Poly1305.
    ChaCha20,
}

impl TlsCiphers {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("aes", Self::Aes), ("chacha20", Self::ChaCha20)];
}

/// Reads the section. `None` only after a problem was recorded.
pub(super) fn read(
    mut agent: Object<'_>,
    file: &TextFile,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<AgentConfig> {
    let authtoken = authtoken::read(&mut agent, file, env);
    let instance_id = agent.parsed("instance_id", parse_instance);
    let connect = read_connect_url(&mut agent);
    let egress = egress::read(&mut agent, file, connect.as_ref(), env);
    let connect_cas = agent.parsed("connect_cas", parse_cas);
    let connect_pins = read_pins(&mut agent, connect_cas.as_ref());
    let tls_ciphers = agent.word("tls_ciphers", &TlsCiphers::WORDS);
    let connect_timeout = agent.duration("connect_timeout", TIMEOUT_MIN..=TIMEOUT_MAX);
    let heartbeat_interval = agent.duration("heartbeat_interval", TIMEOUT_MIN..=TIMEOUT_MAX);
    let heartbeat_tolerance = agent.duration("heartbeat_tolerance", TIMEOUT_MIN..=TIMEOUT_MAX);
    let drain_timeout = agent.duration("drain_timeout", Duration::ZERO..=TIMEOUT_MAX);
    let status_socket = agent.parsed("status_socket", parse_status_socket);
    let metadata = agent.string_up_to("metadata", METADATA_BYTES_MAX);
    let level = agent.word("log_level", &LogLevel::WORDS);
    let format = agent.word("log_format", &LogFormat::WORDS);
    let remote_management = agent.boolean("remote_management");
    let resources = Resources::read(&mut agent);
    read_log(&mut agent);
    turn_away(&mut agent);
    agent.finish();
    Some(AgentConfig {
        authtoken: authtoken?,
        instance_id,
        connect: connect?,
        egress,
        connect_cas: connect_cas.unwrap_or_default(),
        connect_pins,
        tls_ciphers: tls_ciphers.unwrap_or_default(),
        ssl_cert_file: env("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
        heartbeat_interval: heartbeat_interval.unwrap_or(HEARTBEAT_INTERVAL_DEFAULT),
        heartbeat_tolerance: heartbeat_tolerance.unwrap_or(HEARTBEAT_TOLERANCE_DEFAULT),
        metadata: metadata.unwrap_or_default(),
        log: LogConfig { level: level.unwrap_or_default(), format: format.unwrap_or_default() },
        remote_management: remote_management.unwrap_or(false),
        drain_timeout: drain_timeout.unwrap_or(DRAIN_TIMEOUT_DEFAULT),
        resources,
        status_socket,
    })
}

fn read_connect_url(agent: &mut Object<'_>) -> Option<HostPort> {
    if !agent.has("connect_url") {
        agent.missing("connect_url", "the gateway's host or host:port; there is no default");
        return None;
    }
    agent.parsed("connect_url", HostPort::parse_connect_url)
}

fn parse_instance(text: &str) -> Result<String, &'static str> {
    if !is_instance(text) {
        return Err("must be 1 to 64 printable ASCII characters without spaces, different on every box");
    }
    Ok(text.to_owned())
}

fn parse_cas(text: &str) -> Result<ConnectCas, &'static str> {
    match text {
        "" => Err("must be \"trusted\", \"host\" or the path of a PEM file"),
        "trusted" => Ok(ConnectCas::Trusted),
        "host" => Ok(ConnectCas::Host),
        path => Ok(ConnectCas::File(PathBuf::from(path))),
    }
}

fn read_pins(agent: &mut Object<'_>, cas: Option<&ConnectCas>) -> Vec<PublicKeyPin> {
    let problems = agent.reader().problem_count();
    let pins = agent.parsed_list("connect_pin", CONNECT_PINS_MAX, PublicKeyPin::parse);
    if !agent.has("connect_pin") || agent.reader().problem_count() > problems {
        return pins;
    }
    if pins.is_empty() {
        agent.problem("connect_pin", "names no key: remove it to run without, or name one");
        return pins;
    }
    match cas {
        Some(ConnectCas::File(_)) => {}
        // What is wrong with it was said.
        None if agent.has("connect_cas") => {}
        Some(ConnectCas::Trusted | ConnectCas::Host) | None => agent.problem(
            "connect_pin",
            "needs connect_cas to be the PEM file of a private authority: the gateway's certificate still has to come \
             from there",
        ),
    }
    pins
}

/// An absolute path, so that every command finds it wherever it is started.
pub(super) fn parse_status_socket(text: &str) -> Result<PathBuf, &'static str> {
    if !text.starts_with('/') || text.ends_with('/') || text.len() > SOCKET_PATH_BYTES_MAX || text.contains('\0') {
        return Err("must be the absolute path of a file, at most 107 bytes long, such as \"/var/run/adit.sock\"");
    }
    Ok(PathBuf::from(text))
}

/// ngrok's `log` names a destination; here it is always standard error.
fn read_log(agent: &mut Object<'_>) {
    let Some(value) = agent.value("log") else {
        return;
    };
    match value.as_str() {
        Some("stderr") => {}
        Some(_) => agent.warn("log", "has no effect: the log goes to standard error"),
        None if value.is_boolean() => agent.warn("log", "has no effect: the log goes to standard error"),
        None => agent.problem("log", "must be \"stderr\""),
    }
}

/// Keys of ngrok's agent that have no counterpart: those whose silence does no harm are ignored with a warning, those
/// whose silence would change how safe or how reachable the agent is are refused.
fn turn_away(agent: &mut Object<'_>) {
    for (key, why) in IGNORED {
        agent.ignore(key, why);
    }
    for (key, why) in REFUSED {
        agent.refuse(key, why);
    }
}

const IGNORED: [(&str, &str); 10] = [
    ("api_key", "has no effect: there is no API to call; better remove it, it is a secret"),
    ("crl_noverify", "has no effect: revocation lists are not fetched"),
    ("update_check", "has no effect: the agent never looks for updates"),
    ("update_channel", "has no effect: the agent never updates itself"),
    ("console_ui", "has no effect: there is no console screen"),
    ("console_ui_color", "has no effect: there is no console screen"),
    ("inspect_db_size", "has no effect: traffic is never recorded"),
    ("local_storage", "has no effect: the agent writes nothing to disk"),
    ("web_addr", "has no effect: there is no local web interface"),
    ("web_allow_hosts", "has no effect: there is no local web interface"),
];

const REFUSED: [(&str, &str); 3] = [
    ("server_addr", "is the name of ngrok's version 2: use connect_url"),
    ("root_cas", "is the name of ngrok's version 2: use connect_cas"),
    ("crl_url", "is not supported: revocation lists are not fetched; remove it to run without them"),
];

/// ngrok's default.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// ngrok's default.
pub const HEARTBEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

/// ngrok's default.
pub const HEARTBEAT_TOLERANCE_DEFAULT: Duration = Duration::from_secs(15);

/// Most requests end within it, and init systems wait 20 s or more before they kill.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A key in use and some to follow it.
pub const CONNECT_PINS_MAX: usize = 8;

/// ngrok's limit; error 100 of its service.
pub const METADATA_BYTES_MAX: usize = 4096;

/// `sun_path` of Linux less the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Below a second a slow link would count as dead.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Middle boxes forget idle connections within minutes.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
