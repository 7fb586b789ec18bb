//! What the gateway counts and measures, for Prometheus.
//!
//! Nothing in a label comes from visitors, and every set of labels is bounded: by an enumeration, or by a table that
//! counts what is beyond its limit as `other`. Counting is a few atomic additions, most of them in memory of the thread's own, and
//! waits for nobody.

mod cells;
mod durations;
mod labels;
mod names;
mod process;
mod verdicts;

use std::sync::{Mutex, PoisonError};

use prometheus::core::{AtomicF64, GenericCounter};
use prometheus::{Counter, Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use time::OffsetDateTime;

pub use cells::Tally;
pub use durations::Durations;
use labels::register;
pub use labels::{Bounded, Each, Label, OTHER};
pub use names::{Closed, Front, Handshake, OpenFailure, Queue, SessionEnd, Status, Untold};
use process::Usage;
pub use verdicts::{RULES_MAX, Verdicts};

/// Everything that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    /// Handshakes of TLS that have ended.
    pub handshakes: Each<Handshake>,
    /// Connections that were closed unserved.
    pub closed: Each<Closed>,
    /// Log-ins of agents that were accepted.
    pub log_ins: IntCounter,
    /// Log-ins of agents that were refused, by ERR_NGROK code.
    pub log_ins_refused: Bounded<1>,
    /// Binds that were accepted.
    pub binds: IntCounter,
    /// Binds that were refused, by ERR_NGROK code.
    pub binds_refused: Bounded<1>,
    /// Connections of agents that have ended.
    pub session_ends: Each<SessionEnd>,
    /// Streams to agents that were opened.
    pub streams_opened: IntCounter,
    /// Streams to agents that could not be opened.
    pub streams_refused: Each<OpenFailure>,
    /// Connections of visitors that were taken.
    pub visitors: Each<Front>,
    /// Bytes from visitors; behind TLS those inside.
    pub received: Each<Front>,
    /// Bytes to visitors; behind TLS those inside.
    pub sent: Each<Front>,
    /// HTTP requests that were answered, or not.
    pub requests: Each<Status>,
    /// Requests and connections that the gateway itself had to refuse or that failed in it or behind it, by ERR_NGROK code.
    pub failures: Bounded<1>,
    /// What rules of policies decided: whose policy it is (`file` or `agent`), endpoint, phase, rule, verdict.
    pub verdicts: Verdicts,
    /// From the head of a request to the end of its answer.
    pub request_time: Durations,
    /// What policies took of a request or connection, log-ins and requests of their own included.
    pub policy_time: Durations,
    /// What opening a stream to an agent took.
    pub open_time: Durations,
    /// From the request being handed to the stream to the first byte of the upstream's answer.
    pub first_byte_time: Durations,
    /// What did not fit into a queue.
    pub dropped: Each<Queue>,
    /// Events that somebody was not told of.
    pub events_lost: Each<Untold>,
    /// Lines of the access and audit log that the file or pipe took.
    pub written: Each<Queue>,
    present: Present,
    registry: Registry,
}

/// What is now, as far as others know it. Everything else is read when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Agents that are logged in.
    pub sessions: usize,
    /// The most that there can be.
    pub sessions_max: usize,
    /// Endpoints that agents have bound.
    pub endpoints: usize,
    /// Streams to agents.
    pub streams: usize,
    /// The most connections of visitors that there can be.
    pub visitors_max: usize,
    /// Takes no new traffic any more.
    pub is_draining: bool,
}

/// What is now rather than counted.
#[derive(Debug)]
struct Present {
    sessions: IntGauge,
    sessions_max: IntGauge,
    endpoints: IntGauge,
    streams: IntGauge,
    visitors: Vec<IntGauge>,
    visitors_max: IntGauge,
    draining: IntGauge,
    resident: IntGauge,
    /// Without a sample where it is not known; so is the next one.
    memory_limit: IntGaugeVec,
    descriptors: IntGauge,
    descriptors_max: IntGaugeVec,
    cpu: Mutex<Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counts from nothing.
    ///
    /// # Panics
    ///
    /// Never: it would for two metrics of the same name, or a name that is not allowed, which are all in this file.
    #[must_use]
    pub fn new() -> Self {
        Self::registered().expect("names are valid and unique")
    }

    fn registered() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            handshakes: Each::new(
                r,
                "adit_handshakes_total",
                "TLS handshakes that have ended, of agents and visitors.",
            )?,
            closed: Each::new(r, "adit_connections_closed_unserved_total", "Connections closed before being served.")?,
            log_ins: counter(r, "adit_log_ins_total", "Log-ins of agents that were accepted.")?,
            log_ins_refused: codes(r, "adit_log_ins_refused_total", "Log-ins of agents that were refused.")?,
            binds: counter(r, "adit_binds_total", "Binds of endpoints that were accepted.")?,
            binds_refused: codes(r, "adit_binds_refused_total", "Binds of endpoints that were refused.")?,
            session_ends: Each::new(r, "adit_session_ends_total", "Connections of agents that have ended.")?,
            streams_opened: counter(r, "adit_streams_opened_total", "Streams to agents that were opened.")?,
            streams_refused: Each::new(r, "adit_streams_refused_total", "Streams to agents that could not be opened.")?,
            visitors: Each::new(r, "adit_visitor_connections_total", "Connections of visitors that were taken.")?,
            received: Each::new(
                r,
                "adit_visitor_received_bytes_total",
                "Bytes from visitors; those inside their TLS.",
            )?,
            sent: Each::new(r, "adit_visitor_sent_bytes_total", "Bytes to visitors; those inside their TLS.")?,
            requests: Each::new(r, "adit_http_requests_total", "HTTP requests that have ended, by status.")?,
            failures: codes(r, "adit_failures_total", "Requests and connections that were refused or that failed.")?,
            verdicts: Verdicts::new(r)?,
            request_time: Durations::new(
                r,
                "adit_http_request_seconds",
                "From the head of a request to the answer's end.",
            )?,
            policy_time: Durations::new(r, "adit_policy_seconds", "What policies took of a request or connection.")?,
            open_time: Durations::new(r, "adit_stream_open_seconds", "What opening a stream to an agent took.")?,
            first_byte_time: Durations::new(
                r,
                "adit_upstream_first_byte_seconds",
                "From request to the upstream's answer.",
            )?,
            dropped: Each::new(r, "adit_dropped_total", "What did not fit into a queue, and was not kept.")?,
            events_lost: Each::new(r, "adit_events_lost_total", "Events that somebody was not told of.")?,
            written: Each::new(r, "adit_lines_written_total", "Lines that were written, by log.")?,
            present: Present::new(r)?,
            registry,
        };
        Ok(metrics)
    }

    /// A visitor's connection that counts as open until it is dropped.
    #[must_use]
    pub fn visitor(&self, front: Front) -> OpenVisitor {
        self.visitors.one(front);
        OpenVisitor::new(self.present.visitors.get(front.index()).cloned())
    }

    /// Everything in the text format of Prometheus, version 0.0.4. It reads some files below `/proc`.
    #[must_use]
    pub fn text(&self, moment: &Moment) -> String {
        self.present.set(moment, &Usage::read());
        let mut text = String::new();
        // It fails for families without samples, which are not gathered.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!("metrics cannot be written: {error}");
        }
        text
    }
}

impl Present {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        let about = Opts::new("adit_build_info", "The version of the gateway.");
        let build = IntGauge::with_opts(about.const_label("version", env!("CARGO_PKG_VERSION")))?;
        build.set(1);
        register(r, build)?;
        let started = Gauge::new("process_start_time_seconds", "When the process began, in seconds since 1970.")?;
        // Exact until long after anything here has ended.
        started.set(OffsetDateTime::now_utc().unix_timestamp() as f64);
        register(r, started)?;
        let family = Opts::new("adit_visitor_connections", "Connections of visitors that are open.");
        let family = IntGaugeVec::new(family, &[Front::NAME])?;
        let visitors: prometheus::Result<_> =
            Front::ALL.iter().map(|front| family.get_metric_with_label_values(&[front.as_str()])).collect();
        let visitors = visitors?;
        register(r, family)?;
        let cpu = Counter::new("process_cpu_seconds_total", "Time of the processor that the process has taken.")?;
        register(r, cpu.clone())?;
        Ok(Self {
            sessions: gauge(r, "adit_sessions", "Agents that are logged in.")?,
            sessions_max: gauge(r, "adit_sessions_max", "The most agents that can be logged in.")?,
            endpoints: gauge(r, "adit_endpoints", "Endpoints that agents have bound.")?,
            streams: gauge(r, "adit_streams", "Streams to agents that are open.")?,
            visitors,
            visitors_max: gauge(r, "adit_visitor_connections_max", "The most connections of visitors there can be.")?,
            draining: gauge(r, "adit_draining", "1 while the gateway takes no new traffic because it is to end.")?,
            resident: gauge(r, "process_resident_memory_bytes", "Memory of the process in RAM.")?,
            memory_limit: known(r, "adit_memory_limit_bytes", "The memory that the process can have at most.")?,
            descriptors: gauge(r, "process_open_fds", "Open descriptors of the process.")?,
            descriptors_max: known(r, "process_max_fds", "The most descriptors that the process can have.")?,
            cpu: Mutex::new(cpu),
        })
    }

    fn set(&self, moment: &Moment, usage: &Usage) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, moment.sessions as u64);
        set(&self.sessions_max, moment.sessions_max as u64);
        set(&self.endpoints, moment.endpoints as u64);
        set(&self.streams, moment.streams as u64);
        set(&self.visitors_max, moment.visitors_max as u64);
        set(&self.draining, u64::from(moment.is_draining));
        set(&self.resident, usage.resident_bytes);
        set(&self.descriptors, usage.descriptors);
        for (family, value) in
            [(&self.memory_limit, usage.memory_limit_bytes), (&self.descriptors_max, usage.descriptors_max)]
        {
            if let (Some(value), Ok(gauge)) = (value, family.get_metric_with_label_values::<&str>(&[])) {
                set(&gauge, value);
            }
        }
        advance(&self.cpu.lock().unwrap_or_else(PoisonError::into_inner), usage.cpu_seconds);
    }
}

/// Lets a counter have a total that is counted elsewhere.
fn advance(counter: &GenericCounter<AtomicF64>, total: f64) {
    let more = total - counter.get();
    if more > 0.0 {
        counter.inc_by(more);
    }
}

/// A visitor's connection counts as open while this exists.
#[derive(Debug)]
pub struct OpenVisitor(Option<IntGauge>);

impl OpenVisitor {
    fn new(gauge: Option<IntGauge>) -> Self {
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self(gauge)
    }
}

impl Drop for OpenVisitor {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    register(registry, counter.clone())?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    register(registry, gauge.clone())?;
    Ok(gauge)
}

/// A gauge that has no sample before it is set.
fn known(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    let family = IntGaugeVec::new(Opts::new(name, help), &[])?;
    register(registry, family.clone())?;
    Ok(family)
}

fn codes(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Bounded<1>> {
    Bounded::new(registry, (name, help), ["code"], CODES_MAX)
}

/// What a scrape is told that [`Metrics::text`] is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Codes are numbers of our own, of which there are fewer; the bound is for a mistake.
const CODES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_and_a_unit_that_its_name_says() {
        let metrics = Metrics::new();
        metrics.failures.one(["3200"]);
        let text = metrics.text(&Moment { sessions: 3, ..Moment::default() });
        assert!(text.contains("\nadit_sessions 3\n"), "{text}");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for (name, kind) in types.map(|line| line.split_once(' ').unwrap()) {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert_eq!(kind == "histogram", name.ends_with("_seconds") && !name.starts_with("process"), "{name}");
        }
    }

    #[test]
    fn visitor_counts_while_it_is_there() {
        let metrics = Metrics::new();
        let visitor = metrics.visitor(Front::Tcp);
        let open = || metrics.text(&Moment::default()).contains("adit_visitor_connections{scheme=\"tcp\"} 1\n");
        assert!(open());
        drop(visitor);
        assert!(!open());
        assert_eq!(metrics.visitors.count(Front::Tcp), 1);
    }
}
