//! Everything that is counted and written down of what the gateway does, and the numbers of visitors' connections.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit::endpoint_url::Scheme;
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

use crate::access_log::{Act, AuditLine, Counts, LineLog, Place};
use crate::metrics::{Front, Metrics, Queue};
use crate::policy::Course;

/// What is counted, and the logs of traffic and of administrative acts.
#[derive(Debug, Default)]
pub struct Ledger {
    metrics: Metrics,
    access: OnceLock<AccessLog>,
    audit: OnceLock<LineLog>,
    numbers: Numbers,
}

/// The access log, and what its lines have.
#[derive(Debug)]
pub struct AccessLog {
    /// Where the lines go.
    pub lines: LineLog,
    /// Whether they have query strings.
    pub has_query: bool,
}

/// Which logs there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerConfig {
    /// One line for each request or connection of a visitor.
    pub access: Option<AccessLogConfig>,
    /// One line for each administrative act.
    pub audit: Option<Place>,
}

/// What the access log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where it goes.
    pub place: Place,
    /// Whether it has query strings, in which people's secrets can be.
    pub has_query: bool,
}

/// A log cannot be started.
#[derive(Debug)]
pub struct LedgerError {
    /// The key of the configuration that asks for it.
    pub key: &'static str,
    /// Where it is to go.
    pub place: Place,
    /// Why it cannot be.
    pub error: io::Error,
}

impl Ledger {
    /// What is counted and measured.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The access log, if there is one.
    #[must_use]
    pub fn access(&self) -> Option<&AccessLog> {
        self.access.get()
    }

    /// Starts the logs of a configuration. Those that run already stay.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub fn start_logs(&self, config: &LedgerConfig) -> Result<(), LedgerError> {
        if let Some(AccessLogConfig { place, has_query }) = &config.access {
            let lines = self.start("access_log", place, Queue::AccessLog)?;
            let _ = self.access.set(AccessLog { lines, has_query: *has_query });
        }
        if let Some(place) = &config.audit {
            let _ = self.audit.set(self.start("audit_log", place, Queue::AuditLog)?);
        }
        Ok(())
    }

    fn start(&self, key: &'static str, place: &Place, queue: Queue) -> Result<LineLog, LedgerError> {
        let (written, dropped) = (self.metrics.written.counter(queue), self.metrics.dropped.counter(queue));
        let counts = Counts { written, dropped };
        LineLog::start(key, place.clone(), counts).map_err(|error| LedgerError { key, place: place.clone(), error })
    }

    /// Writes down an administrative act: in the program's own log, and in the audit log if there is one. It never waits.
    /// `by` is the signal or whoever asked for it, `subject` what it was done to; `outcome` says `done`, or what went wrong.
    /// None of them has secrets.
    pub fn audit(&self, act: Act, by: &dyn fmt::Display, subject: &str, outcome: &str) {
        tracing::info!(act = act.as_str(), %by, subject, outcome, "administrative act");
        let Some(log) = self.audit.get() else { return };
        // It has no maps with odd keys, the only thing that JSON cannot have.
        if let Ok(mut line) = serde_json::to_vec(&AuditLine::new(act, by, subject, outcome)) {
            line.push(b'\n');
            log.push(&line);
        }
    }

    /// A connection's course whose bytes count in the metrics.
    #[must_use]
    pub fn course(&self, scheme: Scheme) -> Course {
        let front = Front::from(scheme);
        Course::counted(self.metrics.received.counter(front), self.metrics.sent.counter(front))
    }

    /// A number for a visitor's connection, see [`Numbers`].
    pub fn next_number(&self) -> u64 {
        self.numbers.next()
    }

    /// Opens the files anew, because they were renamed.
    pub fn reopen(&self) {
        self.logs().for_each(LineLog::reopen);
    }

    /// Waits until the logs are written, for so long at most. What is counted or told afterwards is in no log.
    pub fn finish(&self, limit: Duration) {
        self.logs().for_each(|log| log.finish(limit));
    }

    fn logs(&self) -> impl Iterator<Item = &LineLog> {
        self.access.get().map(|access| &access.lines).into_iter().chain(self.audit.get())
    }
}

/// Numbers of visitors' connections: each has one that no other has, also after a restart, and that the agent's log has
/// as well. The number is below 2^53, so that every reader of JSON keeps all of its digits: the seconds at which the
/// program began times 2^21, a random number below 2^20 for a clock that went back and for two that begin in the same second, and
/// one more for each connection. More than 2^20 in a second there are not.
#[derive(Debug)]
pub struct Numbers(AtomicU64);

impl Numbers {
    fn since(seconds: u64, random: u64) -> Self {
        Self(AtomicU64::new(((seconds & SECONDS_MASK) << COUNT_BITS) | (random & RANDOM_MASK)))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Numbers {
    fn default() -> Self {
        let mut random = [0; 8];
        // Without it the numbers are still good, but for a clock that goes back.
        let _ = SystemRandom::new().fill(&mut random);
        let seconds = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
        Self::since(seconds, u64::from_ne_bytes(random))
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, place, error } = self;
        match place {
            Place::Stdout => write!(f, "{key}: cannot be started: {error}"),
            Place::File(path) => write!(f, "{key}: {} cannot be opened: {error}", path.display()),
        }
    }
}

impl std::error::Error for LedgerError {}

/// Where a process begins to count within its first second.
const RANDOM_MASK: u64 = (1 << 20) - 1;
/// Connections in a second.
const COUNT_BITS: u32 = 21;
/// Seconds until 2106.
const SECONDS_MASK: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_a_restart_and_stay_exact_in_json() {
        let first = Numbers::since(1_800_000_000, u64::MAX);
        let (one, two) = (first.next(), first.next());
        assert_eq!(two, one + 1);
        assert!(Numbers::since(1_800_000_001, 0).next() > one + 1_000_000);
        assert!(Numbers::since(SECONDS_MASK, u64::MAX).next() < 1 << 53);
    }

    #[test]
    fn act_is_one_line_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let ledger = Ledger::default();
        ledger.start_logs(&LedgerConfig { audit: Some(Place::File(path.clone())), access: None }).unwrap();
        ledger.audit(Act::Kick, &"uid 1000", "session \"12\"\n", "done");
        ledger.finish(Duration::from_secs(60));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["act"], &line["by"]), (&"kick".into(), &"uid 1000".into()));
        assert_eq!((&line["subject"], &line["outcome"]), (&"session \"12\"\n".into(), &"done".into()));
        assert_eq!(ledger.metrics().written.count(Queue::AuditLog), 1);
    }

    #[test]
    fn file_that_cannot_be_opened_is_told_with_its_key() {
        let audit = Some(Place::File("/nowhere/audit.log".into()));
        let error = Ledger::default().start_logs(&LedgerConfig { audit, access: None }).unwrap_err();
        assert!(error.to_string().starts_with("audit_log: /nowhere/audit.log cannot be opened: "), "{error}");
    }
}
