//! Every limit of the gateway: its key, its default, the range it may be set to, and why.

use std::ops::RangeInclusive;
use std::time::Duration;

use adit::config::reader::Object;

/// The bounds that the gateway keeps. Counts are for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of agents at once.
    pub sessions_max: usize,
    /// Sessions of one account at once (ERR_NGROK_108).
    pub sessions_per_account_max: usize,
    /// Connections that have not said yet where they want to go: before the end of the TLS handshake. Agents between that
    /// and the log-in count with those that are logged in: of both together there are at most so many more than
    /// `sessions_max`. Whoever says nothing there keeps no visitor out.
    pub pending_max: usize,
    /// Connections of visitors at once.
    pub connections_max: usize,
    /// Endpoints of one session (ERR_NGROK_324).
    pub endpoints_per_session_max: usize,
    /// Proxy streams of one session at once. Agents that do not announce more get at most 500 whatever this says.
    pub streams_per_session_max: usize,
    /// Time from the TCP connect to a complete log-in.
    pub auth_timeout: Duration,
    /// Time from the TCP connect, or the PROXY header after it, to a complete ClientHello.
    pub client_hello_timeout: Duration,
    /// Time from the ClientHello to the end of the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Time for the head of an HTTP request, from its first byte (and for the first one from the connect).
    pub http_header_timeout: Duration,
    /// Longest head of an HTTP request, in bytes.
    pub http_header_bytes_max: usize,
    /// How long an HTTP connection may stand without a byte in either direction, also within a request.
    pub http_idle_timeout: Duration,
    /// How long a `tls` or `tcp` connection may stand without a byte in either direction. Zero: for ever.
    pub tcp_idle_timeout: Duration,
    /// How long connections may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// How long after a start on inherited sockets HTTP requests for internal endpoints that are offline wait for them.
    pub arrival_wait: Duration,
    /// How long the addresses of a lost session are kept for its agent.
    pub address_hold: Duration,
    /// Sessions of agents that begin in a second when many come at once; the others wait for their turn.
    pub logins_per_second_max: usize,
    /// Failed log-ins of one source address (IPv6: of one /64) in a minute; further attempts are refused unread.
    pub login_failures_per_minute_max: usize,
    /// Sources whose failed log-ins are counted at once.
    pub login_sources_max: usize,
}

/// A limit that is a count.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Its key below `limits`.
    pub key: &'static str,
    /// What holds when the key is absent.
    pub default: usize,
    /// The least it may be set to.
    pub least: usize,
    /// The most it may be set to.
    pub most: usize,
}

/// A limit that is a time.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its key below `limits`.
    pub key: &'static str,
    /// What holds when the key is absent.
    pub default: Duration,
    /// The least it may be set to.
    pub least: Duration,
    /// The most it may be set to.
    pub most: Duration,
}

impl Limits {
    pub(super) fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let limits = Self {
            sessions_max: SESSIONS.read(&mut section),
            sessions_per_account_max: SESSIONS_PER_ACCOUNT.read(&mut section),
            pending_max: PENDING.read(&mut section),
            connections_max: CONNECTIONS.read(&mut section),
            endpoints_per_session_max: ENDPOINTS_PER_SESSION.read(&mut section),
            streams_per_session_max: STREAMS_PER_SESSION.read(&mut section),
            auth_timeout: AUTH.read(&mut section),
            client_hello_timeout: CLIENT_HELLO.read(&mut section),
            tls_handshake_timeout: TLS_HANDSHAKE.read(&mut section),
            http_header_timeout: HTTP_HEADER.read(&mut section),
            http_header_bytes_max: HTTP_HEADER_BYTES.read(&mut section),
            http_idle_timeout: HTTP_IDLE.read(&mut section),
            tcp_idle_timeout: TCP_IDLE.read(&mut section),
            drain_timeout: DRAIN.read(&mut section),
            arrival_wait: ARRIVAL.read(&mut section),
            address_hold: ADDRESS_HOLD.read(&mut section),
            logins_per_second_max: LOGINS.read(&mut section),
            login_failures_per_minute_max: LOGIN_FAILURES.read(&mut section),
            login_sources_max: LOGIN_SOURCES.read(&mut section),
        };
        section.finish();
        limits
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: SESSIONS.default,
            sessions_per_account_max: SESSIONS_PER_ACCOUNT.default,
            pending_max: PENDING.default,
            connections_max: CONNECTIONS.default,
            endpoints_per_session_max: ENDPOINTS_PER_SESSION.default,
            streams_per_session_max: STREAMS_PER_SESSION.default,
            auth_timeout: AUTH.default,
            client_hello_timeout: CLIENT_HELLO.default,
            tls_handshake_timeout: TLS_HANDSHAKE.default,
            http_header_timeout: HTTP_HEADER.default,
            http_header_bytes_max: HTTP_HEADER_BYTES.default,
            http_idle_timeout: HTTP_IDLE.default,
            tcp_idle_timeout: TCP_IDLE.default,
            drain_timeout: DRAIN.default,
            arrival_wait: ARRIVAL.default,
            address_hold: ADDRESS_HOLD.default,
            logins_per_second_max: LOGINS.default,
            login_failures_per_minute_max: LOGIN_FAILURES.default,
            login_sources_max: LOGIN_SOURCES.default,
        }
    }
}

impl Count {
    fn read(&self, section: &mut Object<'_>) -> usize {
        let range: RangeInclusive<u64> = self.least as u64..=self.most as u64;
        let number = section.integer(self.key, range).and_then(|number| usize::try_from(number).ok());
        number.unwrap_or(self.default)
    }
}

impl Span {
    fn read(&self, section: &mut Object<'_>) -> Duration {
        section.duration(self.key, self.least..=self.most).unwrap_or(self.default)
    }
}

const fn count(key: &'static str, default: usize, range: RangeInclusive<usize>) -> Count {
    Count { key, default, least: *range.start(), most: *range.end() }
}

const fn span(key: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Span {
    Span { key, default, least: *range.start(), most: *range.end() }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// An idle session costs some 50 KiB: the default is half a gigabyte, twenty times the fleet this is built for.
const SESSIONS: Count = count("sessions_max", 10_000, 1..=100_000);
/// One account may have them all unless it is told otherwise: most gateways serve one.
const SESSIONS_PER_ACCOUNT: Count = count("sessions_per_account_max", 10_000, 1..=100_000);
/// When a gateway restarts, all its agents and visitors come at once; the listen queue holds those beyond it.
const PENDING: Count = count("pending_max", 2_000, 16..=100_000);
/// Each takes two descriptors at most and some 40 KiB while it moves data.
const CONNECTIONS: Count = count("connections_max", 20_000, 1..=1_000_000);
/// Far beyond what one network has to offer, and a Bind keeps a policy of up to 1 MiB.
const ENDPOINTS_PER_SESSION: Count = count("endpoints_per_session_max", 200, 1..=10_000);
/// The official SDKs end the session at 512 streams, their own among them.
const STREAMS_PER_SESSION: Count = count("streams_per_session_max", 500, 1..=10_000);
/// A slow line with a lost packet needs three seconds; whoever needs more than ten holds a place for nothing.
const AUTH: Span = span("auth_timeout", seconds(10), seconds(1)..=minutes(1));
/// The limit of ngrok's edge.
const CLIENT_HELLO: Span = span("client_hello_timeout", seconds(3), seconds(1)..=seconds(30));
/// Two round trips and a signature, on the worst of lines.
const TLS_HANDSHAKE: Span = span("tls_handshake_timeout", seconds(10), seconds(1)..=minutes(1));
/// A request head fits a few packets; slower ones are the slow-loris kind.
const HTTP_HEADER: Span = span("http_header_timeout", seconds(30), seconds(1)..=minutes(10));
/// Browsers stop at some 64 KiB of cookies; ngrok's edge takes 1 MiB, which each idle connection could then hold.
const HTTP_HEADER_BYTES: Count = count("http_header_bytes_max", 64 << 10, 8 << 10..=1 << 20);
/// The limit of ngrok's edge.
const HTTP_IDLE: Span = span("http_idle_timeout", minutes(5), seconds(1)..=hours(24));
/// Idle database connections stay open for hours. TCP keepalive finds the ones whose visitor is gone.
const TCP_IDLE: Span = span("tcp_idle_timeout", Duration::ZERO, Duration::ZERO..=hours(24 * 30));
/// Longer than most requests, shorter than the 90 s after which systemd kills.
const DRAIN: Span = span("drain_timeout", seconds(30), Duration::ZERO..=hours(1));
/// At the default of `logins_per_second_max`, 500 sites are back within it; visitors wait as long for a page anyway.
const ARRIVAL: Span = span("arrival_wait", seconds(20), Duration::ZERO..=minutes(5));
/// An agent of the Rust SDK family is back after 2.5 s or after 127 s (its third and fourth attempt), so its address
/// has to be kept for a little longer.
const ADDRESS_HOLD: Span = span("address_hold", seconds(150), seconds(60)..=seconds(300));
/// 500 sites are back within 20 s of the gateway's return; at 50 the first second is a peak that some stragglers' long
/// waits make look steep, below 25 the stragglers wait for the others.
const LOGINS: Count = count("logins_per_second_max", 40, 1..=10_000);
/// Several agents behind one address with one wrong token each retry every few seconds at first.
const LOGIN_FAILURES: Count = count("login_failures_per_minute_max", 30, 1..=10_000);
/// Some 6 MiB of table; when it is full the oldest entry goes.
const LOGIN_SOURCES: Count = count("login_sources_max", 65_536, 256..=1_048_576);

/// Every count, in the order of [`Limits`].
pub const COUNTS: [Count; 10] = [
    SESSIONS,
    SESSIONS_PER_ACCOUNT,
    PENDING,
    CONNECTIONS,
    ENDPOINTS_PER_SESSION,
    STREAMS_PER_SESSION,
    HTTP_HEADER_BYTES,
    LOGINS,
    LOGIN_FAILURES,
    LOGIN_SOURCES,
];
/// Every time, in the order of [`Limits`].
pub const SPANS: [Span; 9] =
    [AUTH, CLIENT_HELLO, TLS_HANDSHAKE, HTTP_HEADER, HTTP_IDLE, TCP_IDLE, DRAIN, ARRIVAL, ADDRESS_HOLD];

#[cfg(test)]
mod tests {
    use adit::config::duration::format_duration;
    use adit::config::reader::Reader;
    use serde_json::{Value, json};

    use super::*;

    fn read(section: &Value) -> Result<Limits, String> {
        let reader = Reader::new("gateway.yml");
        let limits = Limits::read(reader.object(section, "limits"));
        reader.finish().map(|_| limits).map_err(|errors| errors.to_string())
    }

    #[test]
    fn absent_section_and_empty_section_give_the_defaults() {
        assert_eq!(Limits::read(None), Limits::default());
        assert_eq!(read(&json!({})), Ok(Limits::default()));
    }

    #[test]
    fn every_count_holds_at_its_bounds_and_not_beyond() {
        for count in COUNTS {
            assert!((count.least..=count.most).contains(&count.default), "{}", count.key);
            for (number, fine) in
                [(count.least, true), (count.most, true), (count.least - 1, false), (count.most + 1, false)]
            {
                let result = read(&json!({ count.key: number }));
                assert_eq!(result.is_ok(), fine, "{}: {number}", count.key);
            }
        }
    }

    #[test]
    fn every_time_holds_at_its_bounds_and_not_beyond() {
        for span in SPANS {
            assert!((span.least..=span.most).contains(&span.default), "{}", span.key);
            let mut cases = vec![(span.least, true), (span.most, true), (span.most + seconds(1), false)];
            cases.extend(span.least.checked_sub(Duration::from_millis(1)).map(|below| (below, false)));
            for (time, fine) in cases {
                let result = read(&json!({ span.key: format_duration(time) }));
                assert_eq!(result.is_ok(), fine, "{}: {time:?}", span.key);
            }
        }
    }

    #[test]
    fn each_key_sets_its_own_limit() {
        let counts: serde_json::Map<String, Value> =
            COUNTS.iter().enumerate().map(|(i, count)| (count.key.to_owned(), json!(count.least + i))).collect();
        let limits = read(&Value::Object(counts)).unwrap();
        let read_counts = [
            limits.sessions_max,
            limits.sessions_per_account_max,
            limits.pending_max,
            limits.connections_max,
            limits.endpoints_per_session_max,
            limits.streams_per_session_max,
            limits.http_header_bytes_max,
            limits.logins_per_second_max,
            limits.login_failures_per_minute_max,
            limits.login_sources_max,
        ];
        for (i, (count, number)) in COUNTS.iter().zip(read_counts).enumerate() {
            assert_eq!(number, count.least + i, "{}", count.key);
        }

        let after = |i: usize| Duration::from_millis(i as u64 + 1);
        let spans: serde_json::Map<String, Value> = SPANS
            .iter()
            .enumerate()
            .map(|(i, span)| (span.key.to_owned(), json!(format_duration(span.least + after(i)))))
            .collect();
        let limits = read(&Value::Object(spans)).unwrap();
        let read_spans = [
            limits.auth_timeout,
            limits.client_hello_timeout,
            limits.tls_handshake_timeout,
            limits.http_header_timeout,
            limits.http_idle_timeout,
            limits.tcp_idle_timeout,
            limits.drain_timeout,
            limits.arrival_wait,
            limits.address_hold,
        ];
        for (i, (span, time)) in SPANS.iter().zip(read_spans).enumerate() {
            assert_eq!(time, span.least + after(i), "{}", span.key);
        }
    }

    #[test]
    fn unknown_limit_is_reported_with_the_nearest() {
        let error = read(&json!({"session_max": 5})).unwrap_err();
        assert!(error.contains("limits.session_max") && error.contains("sessions_max"), "{error}");
    }
}
