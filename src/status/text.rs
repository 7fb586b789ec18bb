//! The report for people.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::log_format::round_trip;

use super::{Endpoint, EndpointState, Report, SessionState};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let session = &self.session;
        writeln!(f, "agent      adit {}, running for {}", self.version, Ago(self.running_ms))?;
        write!(f, "session    {} for {}, gateway {}", word(session.state), Ago(session.since_ms), session.gateway)?;
        if let Some(address) = &session.address {
            write!(f, " at {address}")?;
        }
        writeln!(f)?;
        if let Some(tls) = &session.tls {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let (account, region) = (or_none(&session.account), or_none(&session.region));
            let version = or_none(&session.gateway_version);
            writeln!(f, "           {tls}, account {account}, region {region}, version {version}")?;
        }
        self.fmt_heartbeat(f)?;
        match &self.last_error {
            Some(error) => {
                writeln!(f, "reconnects {}; last error {} ago: {}", self.reconnects, Ago(error.since_ms), error.text)?;
            }
            None => writeln!(f, "reconnects {}; no error yet", self.reconnects)?,
        }
        let streams = &self.streams;
        writeln!(
            f,
            "streams    {} open, {} in all, {} with an unreachable upstream",
            streams.open, streams.total, streams.unreachable
        )?;
        let bytes = &self.bytes;
        writeln!(f, "bytes      {} to upstreams, {} from upstreams", bytes.to_upstreams, bytes.from_upstreams)?;
        write!(f, "memory     {} of {} bytes of buffers in use", self.memory.used, self.memory.max)?;
        for endpoint in &self.endpoints {
            write!(f, "\n{endpoint}")?;
        }
        if self.endpoints_omitted > 0 {
            write!(f, "\n... and {} endpoints more", self.endpoints_omitted)?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_heartbeat(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let beat = &self.heartbeat;
        match (beat.since_ms, beat.round_trip_us) {
            (Some(since), Some(took)) => {
                let verdict = if beat.answered { "" } else { ", overdue" };
                let took = round_trip(Duration::from_micros(took));
                writeln!(f, "heartbeat  came back {} ago in {took} ms{verdict}", Ago(since))
            }
            _ => writeln!(f, "heartbeat  none yet"),
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            EndpointState::Offline => "offline",
            EndpointState::Online => "online",
            EndpointState::Refused => "refused",
            EndpointState::Stopped => "stopped",
            EndpointState::Unknown => "unknown",
        };
        let (name, url, upstream) = (&self.name, &self.url, &self.upstream);
        write!(f, "endpoint   {name} {state} for {}, {url} -> {upstream}", Ago(self.since_ms))?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

fn word(state: SessionState) -> &'static str {
    match state {
        SessionState::Waiting => "waiting for the next attempt",
        SessionState::Connecting => "connecting",
        SessionState::Up => "up",
        SessionState::Draining => "draining",
        SessionState::Stopped => "stopped by the gateway",
        SessionState::Unknown => "unknown",
    }
}

/// Milliseconds as a person reads them, in the two largest units.
struct Ago(u64);

impl Display for Ago {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes, seconds % 60) {
            (0, 0, 0, 0) => write!(f, "{}ms", self.0),
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, s) => write!(f, "{m}m{s}s"),
            (0, h, m, _) => write!(f, "{h}h{m}m"),
            (d, h, _, _) => write!(f, "{d}d{h}h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Heartbeat, LastError, Session, Verdict};
    use super::*;

    fn up() -> Report {
        Report {
            schema: 1,
            version: "0.1.0".into(),
            running_ms: 90_061_000,
            session: Session {
                state: SessionState::Up,
                since_ms: 61_000,
                gateway: "gw.example.com:443".into(),
                address: Some("192.0.2.1:443".into()),
                tls: Some("TLSv1_3 X".into()),
                account: Some("main".into()),
                ..Session::default()
            },
            heartbeat: Heartbeat {
                answered: true,
                round_trip_us: Some(12_340),
                since_ms: Some(4_000),
                deadline_ms: 25_000,
            },
            endpoints: vec![Endpoint {
                name: "db".into(),
                url: "tcp://db.internal:1".into(),
                upstream: "tcp://127.0.0.1:1".into(),
                state: EndpointState::Refused,
                since_ms: 500,
                reason: Some("no".into()),
            }],
            endpoints_omitted: 2,
            last_error: Some(LastError { text: "gone".into(), since_ms: 7_200_000 }),
            ..Report::default()
        }
    }

    #[test]
    fn text_says_the_same_as_the_report() {
        let text = up().to_string();
        let expected = "\
agent      adit 0.1.0, running for 1d1h
session    up for 1m1s, gateway gw.example.com:443 at 192.0.2.1:443
           TLSv1_3 X, account main, region -, version -
heartbeat  came back 4s ago in 12.3 ms
reconnects 0; last error 2h0m ago: gone
streams    0 open, 0 in all, 0 with an unreachable upstream
bytes      0 to upstreams, 0 from upstreams
memory     0 of 0 bytes of buffers in use
endpoint   db refused for 500ms, tcp://db.internal:1 -> tcp://127.0.0.1:1: no
... and 2 endpoints more";
        assert_eq!(text, expected);
    }

    #[test]
    fn verdict_needs_a_session_and_a_beat_in_time() {
        let mut report = up();
        assert_eq!(report.verdict(), Verdict::Up);
        report.heartbeat.answered = false;
        assert_eq!(report.verdict(), Verdict::Silent);
        // A goodbye has no address any more.
        (report.session.state, report.session.address) = (SessionState::Draining, None);
        assert_eq!(report.verdict(), Verdict::Silent);
        for state in [SessionState::Waiting, SessionState::Connecting, SessionState::Stopped, SessionState::Unknown] {
            report.session.state = state;
            report.heartbeat.answered = true;
            assert_eq!(report.verdict(), Verdict::NotConnected);
        }
        assert_eq!(Report::default().verdict(), Verdict::NotConnected);
    }

    #[test]
    fn report_of_another_version_is_read_as_far_as_it_is_known() {
        let report = up();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(Report::read(json.as_bytes()).unwrap(), report);
        let other = r#"{"schema":9,"session":{"state":"hibernating","new":1},"more":[]}"#;
        let report = Report::read(other.as_bytes()).unwrap();
        assert_eq!((report.schema, report.session.state), (9, SessionState::Unknown));
    }
}
