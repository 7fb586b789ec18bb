//! What a running agent says about itself: one JSON object over a Unix socket, for `adit status`.
//!
//! Durations are milliseconds (a round trip: microseconds) on the agent's monotonic clock: a box without a clock of its own still tells how long ago
//! something was. Members are only ever added; readers ignore those that they do not know.

pub mod client;
mod read;
mod text;

use serde::Serialize;

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of this schema: 1.
    pub schema: u32,
    /// The version of the agent that runs.
    pub version: String,
    /// How long it has been running.
    pub running_ms: u64,
    /// The link to the gateway.
    pub session: Session,
    /// The last beat that came back.
    pub heartbeat: Heartbeat,
    /// The endpoints, in the order of the file.
    pub endpoints: Vec<Endpoint>,
    /// How many endpoints are left out because the report was too long.
    pub endpoints_omitted: usize,
    /// Visitors' connections.
    pub streams: Streams,
    /// Payload since the agent began.
    pub bytes: Bytes,
    /// What the buffers hold.
    pub memory: Memory,
    /// Sessions after the first one.
    pub reconnects: u64,
    /// Why there was no session, the last time.
    pub last_error: Option<LastError>,
}

/// The link to the gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Session {
    /// Where it stands.
    pub state: SessionState,
    /// How long it has been so.
    pub since_ms: u64,
    /// Sessions and attempts since the agent began; the log calls it `session`.
    pub number: u64,
    /// The gateway as the file names it.
    pub gateway: String,
    /// The address that it was reached at.
    pub address: Option<String>,
    /// TLS version and cipher suite.
    pub tls: Option<String>,
    /// The account at the gateway.
    pub account: Option<String>,
    /// Where the gateway is, in its own words.
    pub region: Option<String>,
    /// The gateway's version.
    pub gateway_version: Option<String>,
}

/// Where the link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Between two attempts.
    #[default]
    Waiting,
    /// Looking up, dialling, TLS or logging in.
    Connecting,
    /// Logged in.
    Up,
    /// Told to end: open streams may finish.
    Draining,
    /// Stopped by the gateway until a signal.
    Stopped,
    /// A word that this program does not know yet.
    Unknown,
}

/// The last beat that came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heartbeat {
    /// There is a session, and it gave a sign of life within the deadline.
    pub answered: bool,
    /// How long the last beat took, in microseconds.
    pub round_trip_us: Option<u64>,
    /// How long ago it came back.
    pub since_ms: Option<u64>,
    /// After how long without an answer the session counts as dead.
    pub deadline_ms: u64,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endpoint {
    /// Its name in the file.
    pub name: String,
    /// Its address at the gateway: the one it has, or the one it is to have.
    pub url: String,
    /// Where it leads.
    pub upstream: String,
    /// Where it stands.
    pub state: EndpointState,
    /// How long it has been so.
    pub since_ms: u64,
    /// Why it is not online, if the gateway said so.
    pub reason: Option<String>,
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// The gateway has not been asked, or has not answered.
    #[default]
    Offline,
    /// Visitors can come.
    Online,
    /// The gateway refuses it; it is asked again within a minute.
    Refused,
    /// The gateway ended it for the rest of the session.
    Stopped,
    /// A word that this program does not know yet.
    Unknown,
}

/// Visitors' connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Streams {
    /// Now.
    pub open: u64,
    /// Since the agent began.
    pub total: u64,
    /// Those of them whose upstream could not be reached.
    pub unreachable: u64,
}

/// Payload since the agent began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bytes {
    /// From visitors.
    pub to_upstreams: u64,
    /// To visitors.
    pub from_upstreams: u64,
}

/// What the buffers hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// In use now.
    pub used: u64,
    /// `memory_max` of the session.
    pub max: u64,
}

/// Why there was no session, the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LastError {
    /// In the words of the log.
    pub text: String,
    /// How long ago.
    pub since_ms: u64,
}

/// What a watchdog wants to know of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a session, and its last beat came back in time.
    Up,
    /// The agent runs and has no session.
    NotConnected,
    /// There is a session whose gateway is silent.
    Silent,
}

impl Report {
    /// The version of the schema.
    pub const SCHEMA: u32 = 1;

    /// Whether the tunnel works.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.session.state {
            SessionState::Up | SessionState::Draining if self.heartbeat.answered => Verdict::Up,
            SessionState::Up | SessionState::Draining => Verdict::Silent,
            _ => Verdict::NotConnected,
        }
    }
}

/// Bytes of a report. A hundred endpoints take a fifth of it.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;
